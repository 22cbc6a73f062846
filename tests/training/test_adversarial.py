"""Adversarial training: how far the states move, which way, and what a recipe makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vislm_tutorial.generators import CGANConfig
from vislm_tutorial.training.adversarial import Adversarial, adversarial_loss
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.recipe import Recipe
from vislm_tutorial.training.text_to_image import TextToImage
from vislm_tutorial.types import TextStates


@pytest.fixture
def states() -> TextStates:
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5)[None] < torch.tensor([5, 3, 1])[:, None]
    return TextStates(hidden * mask[..., None], mask)


def asked(states: TextStates, settings: Adversarial, loss) -> list[TextStates]:
    """The states that the loss was asked for, in order."""
    seen = []

    def noted(given: TextStates) -> torch.Tensor:
        seen.append(given)
        return loss(given.encoder_hidden_states)

    adversarial_loss(noted, states, settings)
    return seen


def test_one_step_is_the_gradient_at_the_length_that_was_asked_for(states):
    direction = torch.randn(4, generator=torch.Generator().manual_seed(1))
    true, moved = asked(states, Adversarial(0.1), lambda hidden: (hidden @ direction).sum())
    before, after = true.encoder_hidden_states, moved.encoder_hidden_states
    assert torch.equal(before, states.encoder_hidden_states)
    move = (after - before).detach()
    torch.testing.assert_close(move.norm(dim=(1, 2)), 0.1 * before.norm(dim=(1, 2)))
    along = nn.functional.cosine_similarity(move[0].sum(0), direction, dim=0)
    assert along > 0.999, "the move does not go uphill"
    assert not move[~states.encoder_attention_mask].any(), "padding was moved"


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_move_raises_the_loss_and_stays_in_its_ball(states, steps):
    target = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(2))

    def loss(hidden):
        return (hidden.sin() - target).square().mean()

    seen = asked(states, Adversarial(0.3, steps), loss)
    assert len(seen) == steps + 1
    true, moved = seen[0].encoder_hidden_states, seen[-1].encoder_hidden_states
    assert loss(moved) > loss(true)
    ratio = (moved - true).norm(dim=(1, 2)) / true.norm(dim=(1, 2))
    assert (ratio < 0.3 + 1e-5).all()


def test_the_two_losses_are_weighed_and_both_teach(states):
    weight = nn.Parameter(torch.tensor(2.0))

    def loss(given: TextStates) -> torch.Tensor:
        return (weight * given.encoder_hidden_states).square().mean()

    true = loss(states).item()
    for share in (1.0, 3.0):
        value = adversarial_loss(loss, states, Adversarial(0.1, weight=share))
        raised = true * 1.1**2  # this loss grows along the states themselves
        assert value.item() == pytest.approx((true + share * raised) / (1 + share), rel=1e-4)
    value.backward()
    assert weight.grad.item() == pytest.approx(2 * value.item() / 2.0, rel=1e-4)


def test_states_without_a_gradient_stay(states):
    _, moved = asked(states, Adversarial(0.1), lambda hidden: 0 * hidden.sum())
    assert torch.equal(moved.encoder_hidden_states, states.encoder_hidden_states)


class Pooled(nn.Module):
    """A fusion that hands the states' sum on."""

    def forward(self, states):
        return states.encoder_hidden_states.sum(dim=(1, 2))


class Noisy(nn.Module):
    """A generator whose loss is linear in the condition and has noise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def prepared_loss(self, pictures, condition, generator):
        noise = torch.randn(pictures.shape, generator=generator)
        return (self.weight * condition * noise).mean()


def test_all_losses_of_a_step_see_the_same_noise_and_validation_sees_no_move(states):
    batch = {"pictures": torch.zeros(3), "states": states}
    plain = TextToImage(Pooled(), Noisy())
    moved = TextToImage(Pooled(), Noisy(), adversarial=Adversarial(1e-6))

    def value(model: nn.Module) -> float:
        return model(batch, torch.Generator().manual_seed(0)).item()

    assert value(moved) == pytest.approx(value(plain), rel=1e-4), "the noise differs"
    far = TextToImage(Pooled(), Noisy(), adversarial=Adversarial(0.5))
    assert value(far) > value(plain) + 0.01
    assert value(far.eval()) == value(plain.eval())


@pytest.mark.parametrize("bad", [{"epsilon": 0.0}, {"steps": 0}, {"weight": -1.0}])
def test_settings_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match=f"Adversarial.{next(iter(bad))}"):
        Adversarial(**bad)


def test_a_gans_two_players_have_no_loss_to_climb():
    training = TrainingConfig(validate_every=0)
    recipe = Recipe("x", autoencoder=None, generator=CGANConfig(), training=training)
    with pytest.raises(ValueError, match="two players"):
        replace(recipe, adversarial=Adversarial())
