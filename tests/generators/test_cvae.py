"""The ladder of latents: an exact ELBO where quadrature can tell, and pictures it must learn."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from vislm_tutorial.generators import CVAE, Autoencoder, CGANConfig, CVAEConfig, build_generator
from vislm_tutorial.generators.cvae import LEAST_STD, LOG_SCALE_LIMIT
from vislm_tutorial.losses import gaussian_nll
from vislm_tutorial.types import Condition

WIDTH = 12  # of the conditions that conftest makes
SIDE = 16


def small(nudge: float = 0.3, **sizes) -> CVAE:
    """Grids of 4 and 8 cells, layers on both and one above; its last weights are zero no more."""
    defaults = {
        "sample_size": SIDE,
        "in_channels": 3,
        "condition_width": WIDTH,
        "patch_size": 2,
        "widths": (16, 8),
        "layers": (1, 2, 1),
        "latent_channels": (3, 2, 2),
        "heads": 2,
    }
    torch.manual_seed(0)
    model = CVAE(**(defaults | sizes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_head.3" in name:
                parameter.add_(nudge * torch.randn_like(parameter))
    return model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorder:
    """Draws, or answers with the latents it was given; notes what it was shown and answered."""

    def __init__(self, latents: list[Tensor] | None = None):
        self.given = latents
        self.shown: list[Normal] = []
        self.latents: list[Tensor] = []

    def __call__(self, distribution: Normal) -> Tensor:
        given = self.given[len(self.shown)] if self.given else distribution.sample()
        self.shown.append(distribution)
        self.latents.append(given)
        return given


@pytest.fixture
def images() -> Tensor:
    return 2 * torch.rand(6, 3, SIDE, SIDE) - 1


# --- the ELBO -----------------------------------------------------------------------------------


def test_loss_is_the_evidence_and_what_the_posterior_misses():
    """Two latents of one dimension, the second's prior depending on the first: a plane of z.

    -ELBO = -log p(x) + KL(q(z | x) || p(z | x)), where all terms on the right are sums over z.
    """
    model = small(0.15, sample_size=2, widths=(64,), layers=(1, 1), latent_channels=(1, 1), std=0.4)
    x = torch.tensor([0.8, -0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    condition = Condition(
        torch.randn(1, 2, WIDTH), torch.ones(1, 2, dtype=torch.bool), torch.randn(1, WIDTH)
    )
    axis = torch.linspace(-9, 9, 121)
    area = (axis[1] - axis[0]).item() ** 2
    plane = [z.reshape(-1, 1, 1, 1) for z in torch.meshgrid(axis, axis, indexing="ij")]
    everywhere = condition[torch.zeros(len(plane[0]), dtype=torch.long)]

    def log_density(features) -> tuple[Tensor, Tensor]:
        recorder = Recorder(plane)
        with torch.no_grad():
            mean, _ = model.decode(everywhere, recorder, features)
        logs = [d.log_prob(z).view(-1) for d, z in zip(recorder.shown, plane, strict=True)]
        return sum(logs).double(), mean

    with torch.no_grad():
        features = [f.expand(len(plane[0]), -1, -1, -1) for f in model.encode(x, condition)]
    log_prior, mean = log_density(None)
    log_q, _ = log_density(features)
    log_joint = log_prior + Normal(mean, 0.4).log_prob(x).flatten(1).sum(dim=1)
    q = log_q.exp() * area
    assert abs(q.sum() - 1) < 1e-3 and abs(log_prior.exp().sum() * area - 1) < 1e-3
    log_evidence = torch.logsumexp(log_joint + math.log(area), dim=0)
    missed = (q * (log_q - log_joint + log_evidence)).sum()
    assert missed > 0.1  # this posterior has learned nothing

    copies = torch.zeros(1000, dtype=torch.long)
    with torch.no_grad():
        losses = torch.stack(
            [model.loss(x[copies], condition[copies], generator(seed)) for seed in range(10)]
        )
    nats = 12 * losses.double()  # a pixel value -> an image of 2 x 2 pixels
    error = nats.std() / math.sqrt(len(nats))
    assert error < 0.02 * missed
    assert abs(nats.mean() - (missed - log_evidence)) < 4 * error


def test_rate_is_the_kl_of_each_layers_posterior_to_its_prior(images, make_condition):
    model, condition = small(), make_condition(6)
    down = Recorder()
    _, rates = model.decode(condition, down, model.encode(images, condition))
    again = Recorder(down.latents)
    assert model.decode(condition, again)[1] == []
    assert [d.loc.shape[2] for d in again.shown] == model.latent_sides == [1, 4, 4, 8]
    for rate, q, p in zip(rates, down.shown, again.shown, strict=True):
        ratio, shift = q.scale / p.scale, (q.loc - p.loc) / p.scale
        nats = (ratio.square() + shift.square() - 1) / 2 - ratio.log()
        torch.testing.assert_close(rate, nats.flatten(1).sum(dim=1), rtol=1e-4, atol=1e-4)
        assert (rate > 0.01).all()


def test_parts_are_the_loss_and_layers_are_the_rate(images, make_condition):
    model, condition = small(), make_condition(6)
    distortion, rate, layers = model.elbo_parts(images, condition, generator())
    assert torch.equal(model.loss(images, condition, generator()), distortion + rate)
    assert layers.shape == (4,) and (layers > 0).all()
    torch.testing.assert_close(layers.sum(), rate)
    nats = model.decode(condition, Recorder(), model.encode(images, condition))[1]
    first = nats[0].mean() / (3 * SIDE**2)  # the first layer's rate knows no noise
    torch.testing.assert_close(layers[0], first)


def test_free_nats_count_in_training_and_nowhere_else(images, make_condition):
    """A layer below them counts for as much as they do, one above for its own rate."""
    condition = make_condition(6)
    rates = small().elbo_parts(images, condition, generator())[2]
    middle = (rates.min() + rates.max()) / 2  # between the layers, in nats a value
    model = small(free_nats=middle.item() * images[0].numel(), free_passes=(1, 3))
    distortion, rate, layers = model.elbo_parts(images, condition, generator())
    raised = torch.where(layers > middle, layers, middle)
    assert (layers < middle).any() and raised.sum() > rate + 1e-3
    loss = model.prepared_loss(images, condition, generator())
    torch.testing.assert_close(loss, distortion + raised.sum())
    torch.testing.assert_close(model.free_nats_now, torch.tensor(model.config.free_nats))
    assert model.passes == 1
    model.prepared_loss(images, condition, generator())
    torch.testing.assert_close(model.free_nats_now, torch.tensor(model.config.free_nats / 2))
    model.prepared_loss(images, condition, generator())
    loss = model.prepared_loss(images, condition, generator())
    assert model.free_nats_now == 0 and torch.equal(loss, distortion + rate)
    model.eval()
    assert torch.equal(model.prepared_loss(images, condition, generator()), distortion + rate)


def test_a_free_rung_stays_silent_no_longer(make_condition):
    """Noise that no rung can foretell: without free nats training tells the posterior nothing."""

    def learned(free_nats: float) -> Tensor:
        torch.manual_seed(0)
        passes = (40, 41) if free_nats else (0, 0)
        model = small(0.01, std=20.0, free_nats=free_nats, free_passes=passes)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        condition, noise = make_condition(6), torch.Generator().manual_seed(0)
        for _ in range(40):
            images = torch.rand(6, 3, SIDE, SIDE, generator=noise) * 2 - 1
            optimizer.zero_grad()
            model.prepared_loss(images, condition, noise).backward()
            optimizer.step()
        return model.elbo_parts(images, condition, noise)[2] * images[0].numel()

    assert (learned(0.0) < 0.5).all()
    assert (learned(4.0) > 2 * learned(0.0)).all()


@pytest.mark.parametrize("std", [0.05, 0.7])
def test_a_fixed_std_makes_the_distortion_a_squared_error(std, images, make_condition):
    model, condition = small(std=std), make_condition(6)
    distortion = model.elbo_parts(images, condition, generator())[0]
    source = generator()

    def draw(distribution: Normal) -> Tensor:
        noise = torch.randn(distribution.loc.shape, generator=source)
        return distribution.loc + distribution.scale * noise

    mean, _ = model.decode(condition, draw, model.encode(images, condition))
    error = (mean - images).square().mean()
    constant = math.log(std * math.sqrt(2 * math.pi))
    torch.testing.assert_close(distortion, error / (2 * std**2) + constant)
    assert not any("std" in name for name, _ in model.named_parameters())


def test_a_learned_std_is_best_where_it_is_the_error(images, make_condition):
    model, condition = small(), make_condition(6)
    mean, _ = model.decode(condition, lambda d: d.loc, model.encode(images, condition))
    error = (mean - images).square().mean().sqrt().item()

    def slope(std: float) -> float:
        with torch.no_grad():
            model.log_std.fill_(math.log(std - LEAST_STD))
        torch.testing.assert_close(model.std.item(), std, rtol=1e-5, atol=0)
        loss = gaussian_nll(mean.detach(), images, model.std)
        return torch.autograd.grad(loss, model.log_std)[0].item()

    assert abs(slope(error)) < 1e-4
    assert slope(0.9 * error) < -0.1 and slope(1.1 * error) > 0.1
    with torch.no_grad():
        model.log_std.fill_(-50.0)
    assert model.std >= LEAST_STD and model.loss(images, condition).isfinite()


def test_there_is_no_rate_before_anything_is_learned(images, make_condition):
    model, condition = small(nudge=0.0), make_condition(6)
    assert not model.elbo_parts(images, condition)[2].any()
    down = Recorder()
    model.decode(condition, down)
    for distribution in down.shown:
        assert not distribution.loc.any() and (distribution.scale == 1).all()


def test_scales_stay_bounded_whatever_the_heads_say(images, make_condition):
    model, condition = small(nudge=1e4), make_condition(6)
    down = Recorder()
    model.decode(condition, down)
    logs = torch.cat([d.scale.log().flatten() for d in down.shown])
    assert logs.abs().max() <= LOG_SCALE_LIMIT + 1e-4 and logs.abs().max() > 4


# --- what the networks see ----------------------------------------------------------------------


def test_gradients_reach_every_parameter(images, make_condition):
    model = small()
    model.loss(images, make_condition(6), generator()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_padding_changes_nothing(images, make_condition):
    model, condition = small(), make_condition(6)
    states, mask = condition.encoder_hidden_states, condition.encoder_attention_mask
    assert not mask.all()
    noisy = replace(condition, encoder_hidden_states=states.masked_fill(~mask[..., None], 9.0))
    twice = replace(
        condition,
        encoder_hidden_states=states.repeat(1, 2, 1),
        encoder_attention_mask=mask.repeat(1, 2),
    )
    longer = Condition.cat([condition, twice])[:6]  # padded to the other's length
    assert longer.encoder_hidden_states.shape[1] == 2 * states.shape[1]
    for other in (noisy, longer):
        torch.testing.assert_close(
            model.sample(other, generator=generator()),
            model.sample(condition, generator=generator()),
        )
        torch.testing.assert_close(
            model.loss(images, other, generator()), model.loss(images, condition, generator())
        )


@pytest.mark.parametrize("field", ["encoder_hidden_states", "pooled_projections"])
def test_both_halves_of_the_condition_change_the_drawing(field, make_condition):
    model, condition = small(), make_condition(1)
    other = replace(condition, **{field: torch.randn_like(getattr(condition, field))})
    drawn, changed = (model.sample(c, generator=generator()) for c in (condition, other))
    assert (drawn - changed).abs().mean() > 1e-3


# --- drawing ------------------------------------------------------------------------------------


def test_the_same_generator_draws_the_same_images(make_condition):
    model, condition = small(), make_condition(4)
    first, again, other = (model.sample(condition, generator=generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (4, 3, SIDE, SIDE) and first.abs().max() <= 1
    assert not first.requires_grad


def test_an_image_does_not_depend_on_the_others_beside_it(make_condition):
    model, condition = small(), make_condition(4)
    together = model.sample(condition, generator=[generator(s) for s in range(4)])
    for row in range(4):
        alone = model.sample(condition[row : row + 1], generator=[generator(row)])
        torch.testing.assert_close(alone[0], together[row])


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_temperature_multiplies_the_priors_deviations(temperature, make_condition):
    model, condition = small(), make_condition(3)
    source = generator()

    def draw(distribution: Normal) -> Tensor:
        noise = torch.randn(distribution.loc.shape, generator=source)
        return distribution.loc + temperature * distribution.scale * noise

    expected = model.decode(condition, draw)[0].clamp(-1, 1)
    drawn = model.sample(condition, generator=generator(), temperature=temperature)
    torch.testing.assert_close(drawn, expected)
    other = model.sample(condition, generator=generator(1), temperature=temperature)
    assert torch.equal(drawn, other) == (temperature == 0)


def test_saved_and_loaded_it_draws_the_same(images, make_condition, tmp_path):
    model, condition = small(), make_condition(6)
    model.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = CVAE.from_pretrained(tmp_path)
    assert loaded.config.widths == [16, 8] and loaded.std == model.std
    theirs = loaded.state_dict()
    assert all(torch.equal(theirs.pop(name), value) for name, value in model.state_dict().items())
    assert not theirs
    for draw in (
        lambda cvae: cvae.sample(condition, generator=generator()),
        lambda cvae: cvae.reconstruct(images, condition),
    ):  # equal up to rounding, which depends on where in memory the weights lie
        torch.testing.assert_close(draw(loaded), draw(model), rtol=0, atol=1e-5)


# --- sizes --------------------------------------------------------------------------------------


def test_config_holds_the_constructors_defaults():
    sizes = asdict(CVAEConfig())
    sizes.pop("kind")
    own = CVAE().config
    assert {name: own[name] for name in sizes} == sizes


def test_default_sizes_fit_the_files_that_ship_them(make_condition):
    model = CVAE(condition_width=WIDTH)
    assert sum(p.numel() for p in model.parameters()) * 2 < 6e6  # bytes in float16
    assert model.sample(make_condition(1)).shape == (1, 8, 8, 8)
    assert model.latent_sides == [1] * 2 + [4] * 4 + [8] * 3


def test_pixels_are_bounded_and_latents_are_not(make_condition):
    condition = make_condition(4)
    for channels, bounded in ((3, True), (4, False)):
        model = small(in_channels=channels)
        with torch.no_grad():
            model.conv_out.bias.fill_(5.0)
        assert (model.sample(condition).max() <= 1) == bounded


@pytest.mark.parametrize("config", [CVAEConfig(), CGANConfig()])
def test_three_latent_channels_are_refused_because_they_would_be_taken_for_pixels(config):
    autoencoder = Autoencoder(2, (8,), latent_channels=3, norm_groups=4)
    with pytest.raises(ValueError, match=r"3 latent channels.*another number of `latent_channels`"):
        build_generator(config, 16, autoencoder, WIDTH)


def test_behind_an_autoencoder_it_draws_and_learns_latents(make_condition):
    model, condition = small(sample_size=8, in_channels=4), make_condition(2)
    torch.manual_seed(0)
    autoencoder = Autoencoder(2, (8,), latent_channels=4, norm_groups=4)
    whole = model.behind(autoencoder)
    images = 2 * torch.rand(2, 3, 16, 16) - 1
    latents = whole.prepare(images)
    torch.testing.assert_close(latents, autoencoder.encode(images))
    loss = whole.loss(images, condition, generator(1))
    assert loss == model.prepared_loss(latents, condition, generator(1))
    drawn = whole.sample(condition, generator=generator(2), temperature=0.5)
    expected = autoencoder.decode(model.sample(condition, generator=generator(2), temperature=0.5))
    assert torch.equal(drawn, expected.clamp(-1, 1)) and drawn.shape == images.shape
    assert whole.network is model and whole.behind(None) is model
    assert not any(p.requires_grad for p in autoencoder.parameters())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"sample_size": 18}, "sample_size is 18; expected a multiple of 4"),
        ({"widths": (16, 12)}, r"widths is \(16, 12\); expected multiples of 8"),
        ({"layers": (1, 1)}, r"layers is \(1, 1\); expected 3 numbers"),
        ({"layers": (0, 0, 0)}, "layers is .* not all 0"),
        ({"latent_channels": (4,)}, "latent_channels is .* expected 3 numbers"),
        ({"std": 0.0}, "std is 0.0; expected a number above 0, or None"),
        ({"free_nats": -1.0}, "free_nats is -1.0; expected 0 or more"),
        ({"free_nats": 1.0}, r"free_passes \(0, 0\); expected two growing"),
        ({"free_passes": (0, 9)}, r"and \(0, 0\) without"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        small(**sizes)


def test_images_of_another_size_are_refused(make_condition):
    model = small()
    for method in (model.loss, model.reconstruct):
        with pytest.raises(ValueError, match=r"images are \(1, 3, 8, 8\).*sample_size="):
            method(torch.zeros(1, 3, 8, 8), make_condition(1))


# --- learning -----------------------------------------------------------------------------------


def test_it_learns_which_pictures_a_caption_allows():
    """The first caption allows two pictures, the second one; a mean of the two is neither."""
    torch.manual_seed(0)
    pictures = -torch.ones(3, 3, SIDE, SIDE)
    pictures[0, 0, 2:8, 2:8] = 1  # a red square
    pictures[1, 2, 8:14, 8:14] = 1  # a blue one elsewhere
    pictures[2, 1, 2:8, 8:14] = 1  # a green one
    blend = (pictures[:2].mean(dim=0) - pictures[0]).square().mean()
    assert blend > 0.09
    captions = torch.eye(2, WIDTH)[[0, 0, 1]]
    condition = Condition(captions[:, None], torch.ones(3, 1, dtype=torch.bool), captions)
    rows = torch.arange(3).repeat(2)
    model = small(nudge=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(200):
        optimizer.zero_grad()
        loss = model.loss(pictures[rows], condition[rows], generator(step))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1  # nats a pixel value
    assert (model.reconstruct(pictures, condition) - pictures).square().mean() < 0.01

    drawn = model.sample(condition[torch.arange(3).repeat(16)], generator=generator())
    errors = (drawn[:, None] - pictures).square().mean(dim=(2, 3, 4))  # (48, 3)
    nearest = errors.argmin(dim=1).view(16, 3)
    assert (nearest[:, 2] == 2).all() and set(nearest[:, :2].flatten().tolist()) == {0, 1}
    assert errors.min(dim=1).values.mean() < blend / 2
