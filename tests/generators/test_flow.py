"""Flow matching with backbones whose answers are known: time, loss, sampler, guidance."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from scipy import stats
from torch import Tensor, nn

from vislm_tutorial._drawing import stochastic_scheduler
from vislm_tutorial.generators import Autoencoder, FlowGenerator
from vislm_tutorial.generators.flow import SIGMA_LOGIT_MEAN, sample_sigma
from vislm_tutorial.types import Condition, TextStates, TimedCondition

SIDE, CHANNELS = 4, 3
MULTISTEP = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


class Backbone(nn.Module):
    """Answers with `velocity(sample, sigma (B, 1, 1, 1), condition)` and notes how it was asked."""

    def __init__(self, velocity, channels: int = CHANNELS):
        super().__init__()
        self.velocity = velocity
        self.config = SimpleNamespace(sample_size=SIDE, in_channels=channels)
        self.calls: list[tuple[Tensor, Tensor, Condition]] = []

    def forward(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        assert timestep.shape == (len(sample),) and len(condition) == len(sample)
        self.calls.append((sample, timestep, condition))
        return self.velocity(sample, timestep.view(-1, 1, 1, 1) / 1000, condition)


class Unchanged(nn.Module):
    """An autoencoder that leaves pixels as they are, and does not clamp them."""

    def encode(self, images: Tensor) -> Tensor:
        return images

    decode = encode


def towards(x0: Tensor) -> Backbone:
    """The exact velocity when x_0 is known: eps - x_0 = (x_sigma - x_0) / sigma."""
    return Backbone(lambda x, sigma, _: (x - x0) / sigma)


def by_condition() -> Backbone:
    """A velocity that is the condition's pooled vector, everywhere and at all times."""
    return Backbone(lambda x, _, c: c.pooled_projections[:, :, None, None].expand_as(x))


class Clock:
    """A fusion whose condition is the mean of the states times sigma; notes when it was asked."""

    def __init__(self) -> None:
        self.asked: list[Tensor] = []

    def __call__(self, states: TextStates) -> TimedCondition:
        return TimedCondition(states, self.fuse)

    def fuse(self, states: TextStates, timestep: Tensor) -> Condition:
        self.asked.append(timestep)
        hidden = states.encoder_hidden_states * timestep[:, None, None] / 1000
        return Condition(hidden, states.encoder_attention_mask, hidden.mean(dim=1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return 2 * torch.rand(6, CHANNELS, SIDE, SIDE) - 1


@pytest.fixture
def conditions() -> tuple[Condition, Condition]:
    """Of six captions (two tokens each) and of the empty one (one token)."""
    caption = Condition(torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool), torch.randn(6, 3))
    return caption, Condition(
        torch.randn(1, 1, 3), torch.ones(1, 1, dtype=torch.bool), torch.randn(1, 3)
    )


# --- noise levels -------------------------------------------------------------------------------


def logit_normal(sigma: Tensor) -> Tensor:
    """The distribution function of a logit-normal (mean, 1): Phi(logit(sigma) - mean)."""
    return torch.special.ndtr(torch.logit(sigma.double()) - SIGMA_LOGIT_MEAN)


def test_noise_levels_are_logit_normal():
    levels = torch.cat([sample_sigma(1, generator(seed)) for seed in range(2000)])
    logits = stats.logistic.ppf(levels.numpy())
    assert stats.kstest(logits, stats.norm(SIGMA_LOGIT_MEAN, 1).cdf).pvalue > 0.01
    assert 0 < levels.min() and levels.max() < 1


@pytest.mark.parametrize("n", [1, 7, 256])
def test_noise_levels_take_one_draw_from_each_nth_part(n):
    quantiles = logit_normal(sample_sigma(n, generator()))
    assert torch.equal((quantiles * n).floor(), torch.arange(n, dtype=torch.float64))
    again = sample_sigma(n, generator())
    assert torch.equal(sample_sigma(n, generator()), again)
    assert not torch.equal(sample_sigma(n, generator(1)), again)


# --- the loss -----------------------------------------------------------------------------------


def test_exact_velocity_has_no_loss(images, conditions):
    assert FlowGenerator(towards(images)).loss(images, conditions[0]).item() < 1e-9


def test_loss_is_the_velocitys_mean_squared_error(images, conditions):
    """A velocity of zero is wrong by eps - x_0: 1 + E[x_0^2] on average, whatever sigma is."""
    backbone = Backbone(lambda x, *_: torch.zeros_like(x))
    losses = torch.stack(
        [FlowGenerator(backbone).loss(images, conditions[0], generator(i)) for i in range(200)]
    )
    expected = 1 + images.square().mean()
    error = losses.std() / math.sqrt(len(losses))
    assert (losses.mean() - expected).abs() < 4 * error < 0.05


def test_backbone_is_asked_with_noise_and_time_that_belong_together(conditions):
    """From x_0 = 1 and -1 with the same noise one reads sigma: the gap is 2 (1 - sigma)."""
    backbone = Backbone(lambda x, *_: torch.zeros_like(x))
    ones = torch.ones(6, CHANNELS, SIDE, SIDE)
    for x0 in (ones, -ones):
        FlowGenerator(backbone).loss(x0, conditions[0], generator())
    (high, timestep, condition), (low, again, _) = backbone.calls
    assert torch.equal(timestep, again) and condition is conditions[0]
    sigma = timestep.view(-1, 1, 1, 1) / 1000
    torch.testing.assert_close(high - low, (2 * (1 - sigma)).expand_as(high))
    noise = (high + low) / (2 * sigma)
    assert abs(noise.mean()) < 0.25 and 0.8 < noise.std() < 1.2


def test_in_latent_space_the_autoencoder_stays_as_it_is(conditions):
    autoencoder = Autoencoder(patch_size=2, channels=(8,), latent_channels=4)
    weight = nn.Parameter(torch.tensor(0.5))
    backbone = Backbone(lambda x, *_: weight * x, channels=4)
    backbone.weight = weight
    flow = FlowGenerator(backbone, autoencoder)
    images = torch.rand(6, 3, 2 * SIDE, 2 * SIDE)
    loss = flow.loss(images, conditions[0], generator())
    assert loss == flow.prepared_loss(autoencoder.encode(images), conditions[0], generator())
    loss.backward()
    assert [n for n, p in flow.named_parameters() if p.grad is not None] == ["backbone.weight"]
    assert [n for n, p in flow.named_parameters() if p.requires_grad] == ["backbone.weight"]
    drawn = flow.sample(conditions[0], num_inference_steps=2, generator=generator())
    assert drawn.shape == images.shape and drawn.abs().max() <= 1


# --- the sampler --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "tolerance"),
    [
        (None, 1e-5),
        (FlowMatchEulerDiscreteScheduler(shift=3.0), 1e-5),
        (FlowMatchHeunDiscreteScheduler(), 1e-5),
        (stochastic_scheduler(), 1e-2),  # these three round the timestep
        (UniPCMultistepScheduler(**MULTISTEP), 1e-2),
        (DPMSolverMultistepScheduler(**MULTISTEP), 1e-2),
    ],
    ids=["euler", "shifted", "heun", "stochastic", "unipc", "dpm"],
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the library
@pytest.mark.parametrize("steps", [2, 20])
def test_exact_velocity_leads_to_the_data(scheduler, tolerance, steps, images, conditions):
    flow = FlowGenerator(towards(images))
    drawn = flow.sample(
        conditions[0], num_inference_steps=steps, scheduler=scheduler, generator=generator()
    )
    torch.testing.assert_close(drawn, images, rtol=0, atol=tolerance)


def test_time_runs_from_noise_to_data(images, conditions):
    backbone = towards(images)
    FlowGenerator(backbone).sample(conditions[0], num_inference_steps=7, generator=generator())
    times = torch.stack([timestep for _, timestep, _ in backbone.calls])
    assert times.shape == (7, 6) and (times[0] == 1000).all()
    assert (times.diff(dim=0) < 0).all() and (times > 0).all()
    first, noise = backbone.calls[0][0], torch.randn(images.shape, generator=generator())
    assert torch.equal(first, noise)


@pytest.mark.parametrize("scheduler", [None, stochastic_scheduler()], ids=["euler", "stochastic"])
def test_the_same_generator_draws_the_same_images(scheduler, images, conditions):
    flow = FlowGenerator(Backbone(lambda x, sigma, _: x - 0.1 * sigma))
    first, again, other = (
        flow.sample(
            conditions[0], num_inference_steps=3, scheduler=scheduler, generator=generator(seed)
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert first.abs().max() <= 1


def test_a_stochastic_step_draws_as_much_noise_afresh_as_ancestral_sampling(conditions):
    flow = FlowGenerator(Backbone(lambda x, *_: 0.3 * x), Unchanged())
    scheduler = stochastic_scheduler(flow_shift=1.0)
    drawn = flow.sample(
        conditions[0], num_inference_steps=3, scheduler=scheduler, generator=generator()
    )
    source = generator()
    x, *fresh = (torch.randn(6, CHANNELS, SIDE, SIDE, generator=source) for _ in range(4))
    levels = scheduler.sigmas.tolist()
    assert levels == pytest.approx([1, 2 / 3, 1 / 3, 0], abs=2e-3)
    for s, lower, noise in zip(levels, levels[1:], fresh, strict=False):
        data, guess = x - s * 0.3 * x, x + (1 - s) * 0.3 * x
        kept = lower * (1 - s) / (s * (1 - lower))
        x = (1 - lower) * data + lower * (kept * guess + (1 - kept**2) ** 0.5 * noise)
    torch.testing.assert_close(drawn, x, rtol=0, atol=1e-5)


def test_sampling_records_no_gradient(conditions):
    backbone = by_condition()
    conditions[0].pooled_projections.requires_grad_()
    assert not FlowGenerator(backbone).sample(conditions[0]).requires_grad


# --- guidance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("empties", [1, 6])
def test_guidance_extrapolates_from_the_empty_caption(scale, empties, conditions):
    """The velocity is constant, so one unit of time moves the noise by exactly v."""
    caption, empty = conditions
    empty = empty[torch.zeros(empties, dtype=torch.long)]
    flow = FlowGenerator(by_condition(), Unchanged())
    drawn = flow.sample(caption, empty, guidance_scale=scale, generator=generator())
    v = empty.pooled_projections + scale * (caption.pooled_projections - empty.pooled_projections)
    noise = torch.randn(6, CHANNELS, SIDE, SIDE, generator=generator())
    torch.testing.assert_close(drawn, noise - v[:, :, None, None], rtol=1e-4, atol=1e-4)


def test_each_row_is_guided_by_its_own_empty_caption(conditions):
    caption = conditions[0]
    flow = FlowGenerator(by_condition(), Unchanged())
    reverse = caption[torch.arange(5, -1, -1)]
    drawn = flow.sample(caption, reverse, guidance_scale=0.0, generator=generator())
    alone = flow.sample(reverse, generator=generator())
    torch.testing.assert_close(drawn, alone)


def test_guidance_of_one_asks_the_caption_alone(conditions):
    caption, empty = conditions
    backbone = by_condition()
    flow = FlowGenerator(backbone)
    plain = flow.sample(caption, generator=generator())
    assert torch.equal(
        flow.sample(caption, empty, guidance_scale=1.0, generator=generator()), plain
    )
    assert {len(sample) for sample, _, _ in backbone.calls} == {6}


def test_guidance_without_the_empty_caption_is_refused(conditions):
    with pytest.raises(ValueError, match="guidance_scale is 3.0.*pass unconditional="):
        FlowGenerator(by_condition()).sample(conditions[0], guidance_scale=3.0)


# --- conditions that depend on the time ---------------------------------------------------------


@pytest.fixture
def words() -> tuple[TextStates, TextStates]:
    """States of six captions (two tokens each) and of the empty one (one token)."""
    return tuple(
        TextStates(torch.randn(n, tokens, 3), torch.ones(n, tokens, dtype=torch.bool))
        for n, tokens in ((6, 2), (1, 1))
    )


def test_the_loss_reads_the_caption_at_the_time_of_each_pictures_noise(images, words):
    clock, backbone = Clock(), by_condition()
    FlowGenerator(backbone).loss(images, clock(words[0]), generator())
    (_, timestep, condition), (asked,) = backbone.calls[0], clock.asked
    assert torch.equal(asked, timestep) and asked.unique().numel() == 6
    expected = words[0].encoder_hidden_states.mean(dim=1) * timestep[:, None] / 1000
    torch.testing.assert_close(condition.pooled_projections, expected)


def test_the_sampler_reads_the_caption_anew_at_every_step(words):
    """The velocity is sigma c: four steps move the noise by (1 + 0.75 + 0.5 + 0.25) c / 4."""
    clock = Clock()
    flow = FlowGenerator(by_condition(), Unchanged())
    drawn = flow.sample(clock(words[0]), num_inference_steps=4, generator=generator())
    expected = torch.tensor([1000.0, 750.0, 500.0, 250.0])[:, None].expand(4, 6)
    torch.testing.assert_close(torch.stack(clock.asked), expected)
    noise = torch.randn(6, CHANNELS, SIDE, SIDE, generator=generator())
    c = words[0].encoder_hidden_states.mean(dim=1)[:, :, None, None]
    torch.testing.assert_close(drawn, noise - 0.625 * c, rtol=1e-4, atol=1e-4)


def test_heuns_calls_between_the_steps_read_it_too(words):
    clock, backbone = Clock(), by_condition()
    scheduler = FlowMatchHeunDiscreteScheduler()
    FlowGenerator(backbone).sample(clock(words[0]), num_inference_steps=3, scheduler=scheduler)
    assert len(clock.asked) == len(backbone.calls) == 5
    for asked, (_, timestep, _) in zip(clock.asked, backbone.calls, strict=True):
        assert torch.equal(asked, timestep)


def test_guidance_reads_the_empty_caption_at_the_same_time(words):
    clock = Clock()
    flow = FlowGenerator(by_condition(), Unchanged())
    drawn = flow.sample(
        clock(words[0]), clock(words[1]), 3.0, num_inference_steps=2, generator=generator()
    )
    assert [asked.tolist() for asked in clock.asked] == [[1000.0] * 12, [500.0] * 12]
    # the empty caption's one token is padded to two: `Clock` takes the mean over both
    caption = words[0].encoder_hidden_states.mean(dim=1)
    empty = words[1].encoder_hidden_states.sum(dim=1) / 2
    v = 0.75 * (empty + 3 * (caption - empty))
    noise = torch.randn(6, CHANNELS, SIDE, SIDE, generator=generator())
    torch.testing.assert_close(drawn, noise - v[:, :, None, None], rtol=1e-4, atol=1e-4)


def test_noise_has_the_dtype_of_the_states(words):
    backbone, half = by_condition(), Clock()(words[0]).to(dtype=torch.bfloat16)
    FlowGenerator(backbone).sample(half, num_inference_steps=1, generator=generator())
    assert backbone.calls[0][0].dtype == torch.bfloat16
