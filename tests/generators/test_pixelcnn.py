"""The PixelCNN: who sees whom, probabilities that sum to one, draws that follow them."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vislm_tutorial.generators import PixelCNN, PixelCNNConfig
from vislm_tutorial.generators.pixel_heads import CategoricalHead, LogisticHead, round_to_levels
from vislm_tutorial.losses import discretised_logistic_nll
from vislm_tutorial.types import Condition

SIDE = 7
HEADS = {
    "categorical": {"likelihood": "categorical", "levels": 5},
    "logistic": {"likelihood": "logistic", "components": 3},
}


def tiny(likelihood: str, **sizes) -> PixelCNN:
    """Two layers of dilations 1 and 2: a pixel sees 2 + 1 + 2 = 5 rows up and 5 pixels left."""
    defaults = {
        "sample_size": SIDE,
        "width": 8,
        "dilations": (1, 2),
        "attention_layers": (0,),
        "heads": 2,
        "condition_width": 12,
    }
    model = PixelCNN(**(defaults | HEADS[likelihood] | sizes)).eval()
    if likelihood == "categorical":  # its last layer starts at zero
        nn.init.normal_(model.head.to_logits.weight, std=0.5)
    return model


@pytest.fixture(params=list(HEADS))
def model(request) -> PixelCNN:
    return tiny(request.param)


def pictures(model: PixelCNN, n: int) -> Tensor:
    side = model.config.sample_size
    return model.prepare(2 * torch.rand(n, 3, side, side) - 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- who sees whom ------------------------------------------------------------------------------


def spoken(model: PixelCNN, x: Tensor, condition: Condition) -> Tensor:
    """One number for each value (B, 3, h, w): a random sum of what its distribution is made of."""
    if model.config.likelihood == "categorical":
        logits = model(x, condition)  # (B, 3, K, h, w)
        return (logits * torch.randn(logits.shape[2])[:, None, None]).sum(dim=2)
    logits, means, log_scales = model(x, condition)
    weights = torch.randn(3, logits.shape[1], 1, 1)
    each = weights[0] * means + weights[1] * log_scales  # (B, 3, J, h, w)
    return each.sum(dim=2) + (weights[2] * logits).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("row", "column"), [(3, 3), (0, 0), (0, 6), (5, 1), (6, 6), (6, 0)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_value_depends_on_all_earlier_ones_within_reach_and_on_no_other(
    model, row, column, channel, make_condition
):
    x = pictures(model, 2).requires_grad_()
    spoken(model, x, make_condition(2))[0, channel, row, column].backward()
    assert not x.grad[1].any()  # another picture
    felt = x.grad[0] != 0
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    assert model.reach == 5
    # To the sides: one column for the first convolution and one dilation for each layer.
    above = (rows < row) & (rows >= row - 5) & ((columns - column).abs() <= 4)
    left = (rows == row) & (columns < column) & (columns >= column - 5)
    # What is above a pixel to the left is heard of through it.
    through_left = (rows < row) & (rows >= row - 5) & (columns < column)
    allowed = (rows < row) | left
    must = above | left
    own = torch.zeros(3, dtype=torch.bool)
    own[:channel] = True
    for other in range(3):
        seen = felt[other]
        assert seen[must].all()
        assert not seen[~(allowed | ((rows == row) & (columns == column)))].any()
        assert not seen[~(must | through_left) & (rows < row)].any()
        assert seen[row, column] == own[other]


def test_pixels_to_the_right_above_are_no_blind_spot():
    """Masked 3 x 3 convolutions reach (i - 1, j + 2) not at all: each goes right one row up."""
    model, condition = tiny("logistic", dilations=(1, 1, 1)), None
    condition = Condition(torch.randn(1, 2, 12), torch.ones(1, 2).bool(), torch.randn(1, 12))
    x = pictures(model, 1).requires_grad_()
    spoken(model, x, condition)[0, 0, 4, 2].backward()
    assert x.grad[0, :, 3, 4].all() and x.grad[0, :, 3, 5].all()

    plain = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))
    for number, convolution in enumerate(plain):
        with torch.no_grad():
            convolution.weight[:, :, 2] = 0
            convolution.weight[:, :, 1, 2 if number else 1 :] = 0
    x = x.detach().requires_grad_()
    plain(x)[0, 0, 4, 2].backward()
    assert x.grad[0, :, 3, 3].any() and not x.grad[0, :, 3, 4].any()


def test_positions_tell_it_where_a_pixel_is(make_condition):
    model = tiny("logistic", sample_size=16)
    even, condition = torch.zeros(1, 3, 16, 16), make_condition(1)
    centre = (..., slice(6, 12), slice(6, 11))  # no padding is seen from here
    assert model.features(even, condition)[centre].std(dim=(2, 3)).min() > 1e-3
    model.positions.zero_()
    assert model.features(even, condition)[centre].std(dim=(2, 3)).max() < 1e-5


# --- probabilities ------------------------------------------------------------------------------


def test_probabilities_of_all_pictures_sum_to_one(make_condition):
    """Two levels, 2 x 2 pixels, 3 channels: 2 ** 12 pictures."""
    model = tiny("categorical", sample_size=2, levels=2)
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=12))).view(-1, 3, 2, 2)
    one = make_condition(3)[torch.tensor([2])]
    with torch.no_grad():
        p = model.log_likelihood(every, one[torch.zeros(4096, dtype=torch.long)]).double().exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert p.max() > 4 * p.min()  # it does not merely count


def test_the_mixtures_probabilities_sum_to_one():
    """Over all greens and blues they sum to the probability of the red, a plain mixture's."""
    head = LogisticHead(4, components=3)
    nn.init.normal_(head.to_parameters.weight, std=0.5)
    features = torch.randn(1, 4, 1, 1)
    values = torch.linspace(-1, 1, 256)
    green, blue = torch.meshgrid(values, values, indexing="ij")
    for red in values[[0, 100, 255]]:
        x = torch.stack([red.expand(256, 256), green, blue])[None]
        with torch.no_grad():
            p = head.log_likelihood(features.expand(1, 4, 256, 256), x).double().exp()
            logits, means, log_scales = head(features, x[..., :1, :1])
        mixture = [t.flatten() for t in (logits, means[:, 0], log_scales[:, 0])]
        alone = (-discretised_logistic_nll(*mixture, red)).exp().item()
        assert p.sum().item() == pytest.approx(alone, rel=1e-3) and alone > 1e-4


def test_a_components_channels_follow_the_linear_rule():
    """One component, with numbers by hand: green's mean is m + tanh(a) red, and so on."""
    head = LogisticHead(1, components=1)
    nn.init.zeros_(head.to_parameters.weight)
    with torch.no_grad():
        head.to_parameters.bias.copy_(
            torch.tensor([0.3, 0.1, 0.2, -0.3, -1.0, -2.0, -9.0, 0.5, 1.0, -2.0])
        )
    x = torch.tensor([0.6, -0.2, 0.8]).view(1, 3, 1, 1)
    _, means, log_scales = head(torch.zeros(1, 1, 1, 1), x)
    a, b, c = (math.tanh(v) for v in (0.5, 1.0, -2.0))
    expected = [0.1, 0.2 + a * 0.6, -0.3 + b * 0.6 + c * -0.2]
    assert means.flatten().tolist() == pytest.approx(expected)
    assert log_scales.flatten().tolist() == [-1, -2, -7]


@pytest.mark.parametrize("levels", [5, 256])
def test_an_untrained_categorical_finds_all_values_as_likely(levels, make_condition):
    sizes = {"sample_size": 4, "width": 8, "dilations": (1,), "attention_layers": ()}
    model = PixelCNN(**sizes, condition_width=12, likelihood="categorical", levels=levels)
    loss = model.prepared_loss(pictures(model, 3), make_condition(3))
    assert loss.item() == pytest.approx(math.log(levels))


def test_pictures_kept_as_bytes_are_as_likely(make_condition):
    model, condition = tiny("categorical"), make_condition(3)
    x = pictures(model, 3)
    kept = x.add(1).mul(127.5).round().byte().float().div(127.5).sub(1)  # as data sets do
    assert not torch.equal(kept, x)
    assert model.prepared_loss(kept, condition) == model.prepared_loss(x, condition)


def test_loss_is_the_likelihood_a_value(model, make_condition):
    images, condition = 2 * torch.rand(3, 3, SIDE, SIDE) - 1, make_condition(3)
    x = model.prepare(images)
    log_p = model.log_likelihood(x, condition)
    loss = model.loss(images, condition)
    assert log_p.shape == (3,) and loss.shape == ()
    torch.testing.assert_close(loss, -log_p.sum() / (3 * 3 * SIDE * SIDE))
    alone = [model.log_likelihood(x[i : i + 1], condition[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(log_p, torch.cat(alone), rtol=1e-4, atol=1e-3)


# --- draws --------------------------------------------------------------------------------------


def test_drawing_meets_the_features_that_the_likelihood_reads(model, make_condition):
    """... although it looks at the rows and columns within reach alone (5 of 7)."""
    heard, draw = [], model.head.draw

    def noted(features, *rest):
        heard.append(features)
        return draw(features, *rest)

    model.head.draw = noted
    condition = make_condition(2)
    x = model.sample(condition, generator=seeded())
    assert len(heard) == SIDE * SIDE
    met = torch.cat(heard, dim=-1).unflatten(-1, (SIDE, SIDE))[:, :, 0]  # (B, C, 1, 49) -> 7 x 7
    with torch.no_grad():
        torch.testing.assert_close(met, model.features(x, condition), rtol=1e-4, atol=1e-5)
    assert torch.equal(model.prepare(x), x)  # values that the model knows
    model.reach = 100
    torch.testing.assert_close(model.sample(condition, generator=seeded()), x)


@pytest.mark.parametrize("likelihood", list(HEADS))
def test_a_pixel_is_drawn_as_often_as_it_is_likely(likelihood):
    """The likeliest pixels of a head among 40,000, and how often each of them came."""
    n = 40_000
    if likelihood == "categorical":
        head = CategoricalHead(4, levels=3, hidden=8)
        nn.init.normal_(head.to_logits.weight)
    else:
        head = LogisticHead(4, components=2)  # of two pixels' width: few values are likely
        with torch.no_grad():
            head.to_parameters.bias[8:14] = -5
            head.to_parameters.bias[0] += 1
    features = torch.randn(1, 4, 1, 1).expand(1, 4, 1, n)
    with torch.no_grad():
        x = head.draw(features, torch.rand(1, head.draws, 1, n, generator=seeded()), 1.0)
        pixels, counts = x[0, :, 0].T.unique(dim=0, return_counts=True)  # (n, 3)
        order = counts.argsort(descending=True)[:20]
        chosen = pixels[order].T[None, :, None]  # -> (1, 3, 1, 20)
        p = head.log_likelihood(features[..., : chosen.shape[-1]], chosen).exp().flatten()
    expected = torch.cat([p, 1 - p.sum(dim=0, keepdim=True)]).double() * n
    observed = torch.cat([counts[order], (n - counts[order].sum())[None]]).double()
    assert p.sum() > 0.3 and expected[:-1].min() > 20
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_temperature_of_zero_leaves_no_choice(model, make_condition):
    assert model.settings == {"temperature": 1.0}
    condition = make_condition(2)
    cold = [model.sample(condition, generator=seeded(s), temperature=0) for s in (0, 1)]
    warm = [model.sample(condition, generator=seeded(s)) for s in (0, 1)]
    assert torch.equal(*cold) and (warm[0] != warm[1]).float().mean() > 0.3


def test_seeds_and_one_generator_an_image(model, make_condition):
    condition = make_condition(3)
    first, again, other = (model.sample(condition, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (3, 3, SIDE, SIDE) and first.abs().max() <= 1
    together = model.sample(condition, generator=[seeded(s) for s in range(3)])
    alone = model.sample(condition[1:2], generator=[seeded(1)])
    assert (together[1:2] != alone).float().mean() < 0.01  # but for rounding at a bin's edge


# --- the caption --------------------------------------------------------------------------------


def test_padding_is_never_read_and_both_parts_of_the_condition_are(model, make_condition):
    x, condition = pictures(model, 3), make_condition(3)
    before = model.log_likelihood(x, condition)
    mask, states = condition.encoder_attention_mask, condition.encoder_hidden_states
    spoiled = torch.where(mask[..., None], states, 100 * torch.randn_like(states))
    same = model.log_likelihood(x, replace(condition, encoder_hidden_states=spoiled))
    assert torch.equal(same, before)
    padded = Condition.cat([condition, Condition(torch.randn(1, 9, 12), *_rest(9))])[:3]
    torch.testing.assert_close(model.log_likelihood(x, padded), before, rtol=1e-5, atol=1e-3)
    states, pooled = states.clone(), condition.pooled_projections.clone()
    states[1, 0] += 1
    pooled[1] += 1
    for changed in ({"encoder_hidden_states": states}, {"pooled_projections": pooled}):
        moved = (model.log_likelihood(x, replace(condition, **changed)) - before).abs() > 1e-3
        assert moved.tolist() == [False, True, False]


def _rest(tokens: int) -> tuple[Tensor, Tensor]:
    return torch.ones(1, tokens, dtype=torch.bool), torch.randn(1, 12)


# --- learning, storing, refusing ----------------------------------------------------------------


def test_gradient_reaches_every_parameter(model, make_condition):
    model.prepared_loss(pictures(model, 2), make_condition(2)).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("likelihood", list(HEADS))
def test_two_pictures_are_learned_and_drawn_again(likelihood, make_condition):
    model = tiny(likelihood, width=16, sample_size=5)
    x, condition = pictures(model, 1), make_condition(2)
    x = torch.cat([x, x.flip(3)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(160):
        optimizer.zero_grad()
        loss = model.prepared_loss(x, condition)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1.5
    drawn = model.sample(condition, generator=seeded(), temperature=0)
    error, confusion = ((drawn - other).square().mean() for other in (x, x.flip(0)))
    assert error < confusion / 10


def test_saved_and_loaded_it_gives_the_same(model, make_condition, tmp_path):
    model.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded, x, condition = PixelCNN.from_pretrained(tmp_path), pictures(model, 2), make_condition(2)
    assert torch.equal(loaded.log_likelihood(x, condition), model.log_likelihood(x, condition))
    drawn = [m.sample(condition, generator=seeded()) for m in (model, loaded)]
    assert torch.equal(*drawn)


def test_in_half_precision_it_gives_nearly_the_same(model, make_condition):
    x, condition = pictures(model, 2), make_condition(2)
    exact = model.log_likelihood(x, condition)
    half, condition = model.to(torch.bfloat16), condition.to(dtype=torch.bfloat16)
    log_p = half.log_likelihood(x.bfloat16(), condition)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p, exact, rtol=0.03, atol=0)
    assert half.sample(condition).isfinite().all()


def test_config_holds_the_constructors_defaults():
    own, config = PixelCNN().config, asdict(PixelCNNConfig())
    assert config.pop("kind") == "pixelcnn"
    assert {name: own[name] for name in config} == config


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_values_are_rounded_to_the_levels(levels):
    grid = torch.linspace(-1, 1, levels)
    near = grid + (torch.rand(levels) - 0.5) * 0.98 * 2 / (levels - 1)
    torch.testing.assert_close(round_to_levels(near, levels), grid)
    assert round_to_levels(torch.tensor([-3.0, 3.0]), levels).tolist() == [-1, 1]


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 7, 7), (3, 7, 7), (2, 3, 7, 6)])
def test_pictures_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"built for \(B, 3, 7, 7\)"):
        tiny("logistic").prepare(torch.zeros(shape))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"likelihood": "gaussian"}, "likelihood is 'gaussian'; expected 'categorical'"),
        ({"likelihood": "logistic", "levels": 16}, "levels is 16; the logistic likelihood has"),
        ({"likelihood": "categorical", "levels": 1}, "levels is 1; expected 2 to 256"),
        ({"likelihood": "categorical", "levels": 257}, "levels is 257; expected 2 to 256"),
        ({"dilations": (1, 2), "attention_layers": (2,)}, r"attention_layers is \(2,\).* to 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        PixelCNN(**sizes)


@pytest.mark.parametrize("temperature", [-1.0, float("nan")])
def test_a_negative_temperature_is_refused(temperature, make_condition):
    with pytest.raises(ValueError, match="temperature is .*; expected 0 or more"):
        tiny("logistic").sample(make_condition(1), temperature=temperature)
