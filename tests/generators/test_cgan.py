"""The GAN: two players under one loss, of whom none trains the other; captions that must fit."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vislm_tutorial.generators import CGAN, CGANConfig
from vislm_tutorial.types import Condition

SIDE = 8


def tiny(**sizes) -> CGAN:
    """One doubling, 4 -> 8 cells of one pixel."""
    defaults = {"sample_size": SIDE, "in_channels": 3, "widths": (16, 8), "latent_width": 4}
    return CGAN(**(defaults | {"condition_width": 12} | sizes))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in module.named_parameters()}


@pytest.fixture
def images() -> Tensor:
    return 2 * torch.rand(4, 3, SIDE, SIDE) - 1


# --- who is trained by what ---------------------------------------------------------------------


def test_each_player_learns_from_its_own_loss_alone(images, make_condition):
    """One backward pass of the sum against one of each loss, written out without tricks."""
    model, condition = tiny(r1_weight=3.0), make_condition(4)
    pooled = condition.pooled_projections.requires_grad_()
    model.prepared_loss(images, condition, seeded()).backward()
    drawer, judge = gradients(model.drawer), gradients(model.discriminator)
    fusion, pooled.grad = pooled.grad, None
    # The bias of the score alone has none: while no hinge is closed, -1 + 1/2 + 1/2.
    learned = {**drawer, **judge, "fusion": fusion}
    assert [n for n, g in learned.items() if g is None or not g.any()] == ["realism.bias"]

    model.zero_grad()
    fixed = pooled.detach().clone()
    z = torch.randn(4, 4, generator=seeded())
    score = model.discriminator(model.drawer(z, pooled), fixed)
    (-score.mean()).backward()
    for name, gradient in gradients(model.drawer).items():
        torch.testing.assert_close(drawer[name], gradient)
    torch.testing.assert_close(fusion, pooled.grad)

    model.zero_grad()
    with torch.no_grad():
        drawn = model.drawer(z, fixed)
    real = images.clone().requires_grad_()
    right = model.discriminator(real, fixed)
    wrong = model.discriminator(images, fixed[[3, 0, 1, 2]])
    fooled = model.discriminator(drawn, fixed)
    (slope,) = torch.autograd.grad(right.sum(), real, create_graph=True)
    hinges = [F.relu(1 - right), F.relu(1 + fooled) / 2, F.relu(1 + wrong) / 2]
    loss = sum(hinge.mean() for hinge in hinges) + 3.0 / 2 * slope.square().sum() / 4
    loss.backward()
    for name, gradient in gradients(model.discriminator).items():
        torch.testing.assert_close(judge[name], gradient, msg=name)


def test_loss_is_the_sum_of_both_and_each_leaves_the_other_alone(images, make_condition):
    model, condition = tiny(), make_condition(4)
    pooled = condition.pooled_projections
    drawn = model.draw(condition, seeded())
    total = model.loss(images, condition, seeded())
    judged, drew = (
        model.discriminator_loss(images, drawn, pooled),
        model.generator_loss(drawn, pooled),
    )
    torch.testing.assert_close(total, judged + drew)
    judged.backward()
    assert all(g is None for g in gradients(model.drawer).values())
    model.zero_grad()
    drew.backward()
    assert all(g is None for g in gradients(model.discriminator).values())
    assert all(p.requires_grad for p in model.parameters()) and not images.requires_grad


# --- what the discriminator is asked ------------------------------------------------------------


class Judge(nn.Module):
    """A discriminator that answers `answer(images, pooled)`."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def features(self, images: Tensor) -> Tensor:
        return images

    def scores(self, images: Tensor, pooled: Tensor) -> Tensor:
        return self.answer(images, pooled) + 0 * images.sum(dim=(1, 2, 3))

    def forward(self, images: Tensor, pooled: Tensor) -> Tensor:
        return self.scores(images, pooled)


@pytest.mark.parametrize("weight", [0.0, 1.0, 7.0])
def test_r1_of_a_linear_score_is_half_its_squared_slope(weight, images):
    """The slope at real pictures, although the score of drawn ones has another."""
    model, slope = tiny(r1_weight=weight), torch.randn(3, SIDE, SIDE) / 100
    model.discriminator = Judge(lambda x, _: (x * slope).sum(dim=(1, 2, 3)))
    pooled, drawn = torch.randn(4, 12), torch.zeros_like(images)
    loss = model.discriminator_loss(images, drawn, pooled)
    score = (images * slope).sum(dim=(1, 2, 3))
    hinges = (1 - score).mean() + (1 + score).mean() / 2 + 1 / 2
    assert score.abs().max() < 1  # no hinge is closed
    torch.testing.assert_close(loss, hinges + weight * slope.square().sum() / 2)


def test_a_real_picture_with_anothers_caption_is_wrong(images):
    """Who ignores the caption pays for it; who reads it does not."""
    model, drawn = tiny(), torch.full_like(images, 9.0)
    pooled = torch.arange(4.0)[:, None].expand(4, 12)
    images[:, 0, 0, 0] = torch.arange(4.0)  # which caption a picture belongs to

    def is_real(x: Tensor, _) -> Tensor:
        return torch.where(x[:, 0, 0, 0] < 9, 2.0, -2.0)

    def is_real_and_fits(x: Tensor, p: Tensor) -> Tensor:
        return torch.where(x[:, 0, 0, 0] == p[:, 0], 2.0, -2.0)

    model.discriminator = Judge(is_real)
    assert model.discriminator_loss(images, drawn, pooled).item() == (1 + 2) / 2
    model.discriminator = Judge(is_real_and_fits)
    assert model.discriminator_loss(images, drawn, pooled).item() == 0
    same = pooled[:1].expand(4, 12)  # one caption for all: "another's" is the same
    images[:, 0, 0, 0] = 0.0
    assert model.discriminator_loss(images, drawn, same).item() == (1 + 2) / 2


def test_pairing_of_captions_changes_the_loss_and_one_image_has_no_other(images, make_condition):
    model, condition = tiny(), make_condition(4)
    nn.init.normal_(model.discriminator.question.weight)
    drawn, pooled = model.sample(condition, generator=seeded()), condition.pooled_projections
    losses = [
        model.discriminator_loss(images[rows], drawn[rows], pooled[rows]).item()
        for rows in ([0, 1, 2, 3], [0, 2, 1, 3])  # the same pairs, but other mismatched ones
    ]
    assert abs(losses[0] - losses[1]) > 1e-4
    with pytest.raises(ValueError, match="batch has 1 image; a GAN needs at least 2"):
        model.loss(images[:1], condition[:1])


def test_score_is_realism_plus_fit(images, make_condition):
    """A projection: linear in the caption, and without V the caption is not heard."""
    model, condition = tiny(), make_condition(4)
    score = model.discriminate(images, condition)
    assert score.shape == (4,)
    p = condition.pooled_projections
    twice, none = (
        model.discriminate(images, replace(condition, pooled_projections=q))
        for q in (2 * p, torch.zeros_like(p))
    )
    torch.testing.assert_close(twice - score, score - none)
    assert (score - none).abs().min() > 1e-5
    h = model.discriminator.features(images)
    torch.testing.assert_close(none, model.discriminator.realism(h)[:, 0])


def test_a_picture_is_judged_by_itself_and_by_where_things_are(images, make_condition):
    model, condition = tiny(batch_std=False), make_condition(4)
    score = model.discriminate(images, condition)
    alone = torch.cat([model.discriminate(images[i : i + 1], condition[i : i + 1]) for i in (0, 1)])
    torch.testing.assert_close(score[:2], alone)
    square = torch.full((4, 3, SIDE, SIDE), -1.0)
    square[:, :, 2:4, 2:4] = 1
    left, right = (model.discriminate(x, condition) for x in (square, square.flip(3)))
    assert (left - right).abs().max() > 1e-3


def test_pictures_that_are_all_alike_give_themselves_away(images):
    """By one channel more: the mean deviation over the batch of what the blocks say."""
    judge = tiny().discriminator
    seen = []
    judge.to_features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    judge.features(images)
    judge.features(images[:1].expand_as(images))
    varied, alike = (x.unflatten(1, (-1, 4, 4))[:, -1] for x in seen)
    assert varied.std() < 1e-6 < 1e-3 < varied.mean() and alike.abs().max() < 1e-3
    blocks = judge.first(F.pixel_unshuffle(images, 1))
    for block in judge.blocks:
        blocks = block(blocks)
    torch.testing.assert_close(varied.mean(), blocks.std(dim=0, correction=0).mean())


# --- drawing ------------------------------------------------------------------------------------


def test_seeds_and_one_generator_an_image(make_condition):
    model, condition = tiny(), make_condition(3)
    first, again, other = (model.sample(condition, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (3, 3, SIDE, SIDE) and first.abs().max() <= 1
    assert not first.requires_grad and model.draw(condition).requires_grad
    together = model.sample(condition, generator=[seeded(s) for s in range(3)])
    alone = model.sample(condition[1:2], generator=[seeded(1)])
    torch.testing.assert_close(together[1:2], alone)


def test_caption_changes_its_own_picture_and_padding_none(make_condition):
    model, condition = tiny(), make_condition(3)
    before = model.sample(condition, generator=seeded())
    pooled = condition.pooled_projections.clone()
    pooled[1] += 1
    after = model.sample(replace(condition, pooled_projections=pooled), generator=seeded())
    moved = (after - before).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert moved.tolist() == [False, True, False]
    longer = Condition(torch.randn(1, 9, 12), torch.ones(1, 9).bool(), torch.randn(1, 12))
    padded = Condition.cat([condition, longer])[:3]
    assert torch.equal(model.sample(padded, generator=seeded()), before)


def test_two_captions_get_their_two_pictures():
    """Constant pictures of two colours: after 200 steps each caption's drawings have its own."""
    model = tiny(widths=(16, 16))
    colours = torch.tensor([[0.6, -0.5, 0.1], [-0.4, 0.5, -0.6]])
    images = colours[:, :, None, None].expand(2, 3, SIDE, SIDE)
    pooled = torch.tensor([[1.0] * 12, [-1.0] * 12])
    condition = Condition(torch.zeros(2, 1, 12), torch.ones(2, 1).bool(), pooled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.0, 0.99))
    rows, source = torch.arange(2).repeat(4), seeded()

    def error(wanted: Tensor) -> float:
        drawn = model.sample(condition[rows], generator=seeded(1))
        return (drawn - wanted[rows]).square().mean().sqrt().item()

    before = error(images)
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(images[rows], condition[rows], source).backward()
        optimizer.step()
    assert error(images) < 0.25 < before
    assert error(images.flip(0)) > 0.8


# --- storing, refusing --------------------------------------------------------------------------


def test_saved_and_loaded_it_gives_the_same(images, make_condition, tmp_path):
    model, condition = tiny(), make_condition(4)
    model.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = CGAN.from_pretrained(tmp_path)
    drawn = [m.sample(condition, generator=seeded()) for m in (model, loaded)]
    assert torch.equal(*drawn)
    assert torch.equal(*(m.discriminate(images, condition) for m in (model, loaded)))


def test_in_half_precision_it_draws_nearly_the_same(make_condition):
    model, condition = tiny(), make_condition(3)
    exact = model.sample(condition, generator=seeded())
    half = model.to(torch.bfloat16).sample(condition.to(dtype=torch.bfloat16), generator=seeded())
    assert half.dtype == torch.bfloat16
    assert (half - exact).square().mean() < 1e-3 * exact.square().mean()


def test_latents_are_drawn_without_a_bound(make_condition):
    """A tanh belongs to pixels: latents of either sign reach beyond 1."""
    model, condition = tiny(in_channels=5), make_condition(3)
    nn.init.constant_(model.drawer.last.bias, 7.0)
    drawn = model.sample(condition, generator=seeded())
    assert drawn.shape == (3, 5, SIDE, SIDE) and drawn.mean() > 3
    assert model.discriminate(drawn, condition).shape == (3,)
    with pytest.raises(ValueError, match=r"built for \(B, 5, 8, 8\)"):
        model.prepare(drawn[:, :3])


def test_config_holds_the_constructors_defaults():
    own, config = CGAN().config, asdict(CGANConfig())
    assert config.pop("kind") == "cgan"
    assert {name: own[name] for name in config} == config


@pytest.mark.parametrize(
    ("sizes", "side"),
    [({}, 64), ({"patch_size": 1, "widths": (8,)}, 4), ({"widths": (8, 8, 8), "depth": 3}, 32)],
)
def test_pictures_come_out_at_the_size_that_was_asked(sizes, side):
    defaults = {"in_channels": 3, "patch_size": 2, "widths": (8, 8, 8, 8), "depth": 1}
    model = CGAN(sample_size=side, condition_width=12, **(defaults | sizes))
    pooled = torch.randn(2, 12)
    condition = Condition(torch.zeros(2, 1, 12), torch.ones(2, 1).bool(), pooled)
    drawn = model.sample(condition)
    assert drawn.shape == (2, 3, side, side) and model.discriminate(drawn, condition).shape == (2,)


def test_sizes_that_do_not_fit_are_refused(images, make_condition):
    with pytest.raises(ValueError, match="sample_size is 32; expected 8: 2 widths double 4"):
        CGAN(sample_size=32)
    with pytest.raises(ValueError, match=r"widths are \(16, 12\); expected multiples of 8"):
        tiny(widths=(16, 12))
    with pytest.raises(ValueError, match="depth is 0; expected 1 block or more"):
        tiny(depth=0)
    for wrong in (images[:, :1], images[..., :4], images[0]):
        with pytest.raises(ValueError, match=r"built for \(B, 3, 8, 8\)"):
            tiny().loss(wrong, make_condition(4))
        with pytest.raises(ValueError, match=r"built for \(B, 3, 8, 8\)"):
            tiny().discriminate(wrong, make_condition(4))
