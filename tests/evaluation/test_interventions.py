"""A transplant changes one token and nothing else; what is hidden is not looked at."""

from __future__ import annotations

import pytest
import torch

from vislm_tutorial.blocks import Attention
from vislm_tutorial.data.scenes import SceneObject
from vislm_tutorial.evaluation.attention import attention_weights
from vislm_tutorial.evaluation.interventions import hidden, looked_up, transplanted
from vislm_tutorial.types import Condition, TextStates


def random_condition(seed: int, length: int = 5) -> Condition:
    noise = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, length, 6, generator=noise)
    mask = torch.ones(2, length, dtype=torch.bool)
    return Condition(tokens, mask, torch.randn(2, 6, generator=noise))


def test_a_transplant_changes_its_tokens_alone():
    own, donor = random_condition(0), random_condition(1)
    before = own.encoder_hidden_states.clone()
    new = transplanted(own, donor, (1, 3))
    for token in range(5):
        source = donor if token in (1, 3) else own
        torch.testing.assert_close(
            new.encoder_hidden_states[:, token], source.encoder_hidden_states[:, token]
        )
    assert torch.equal(new.pooled_projections, own.pooled_projections)
    assert torch.equal(own.encoder_hidden_states, before), "the record given was changed"


def test_states_of_a_language_model_can_be_transplanted_too():
    own, donor = (
        TextStates(c.encoder_hidden_states, c.encoder_attention_mask)
        for c in (random_condition(0), random_condition(1))
    )
    everything = transplanted(own, donor, range(5))
    assert isinstance(everything, TextStates)
    assert torch.equal(everything.encoder_hidden_states, donor.encoder_hidden_states)


def test_captions_of_other_lengths_are_refused():
    short = random_condition(1)
    mask = short.encoder_attention_mask.clone()
    mask[1, -1] = False
    donor = Condition(short.encoder_hidden_states, mask, short.pooled_projections)
    with pytest.raises(ValueError, match=r"\[5, 5\] tokens a caption and the donor \[5, 4\]"):
        transplanted(random_condition(0), donor, (0,))


@pytest.mark.parametrize("token", [-1, 5])
def test_a_token_that_is_not_there_is_refused(token):
    with pytest.raises(ValueError, match=f"tokens holds {token}; expected positions from 0 to 4"):
        hidden(random_condition(0), (token,))


def test_what_is_hidden_gets_no_attention_and_something_must_be_left():
    condition = hidden(random_condition(0), (0, 2))
    torch.manual_seed(0)
    attention = Attention(8, 2, context_width=6)
    queries = torch.randn(2, 9, 8)
    weights = attention_weights(
        attention, queries, condition.encoder_hidden_states, condition.encoder_attention_mask
    )
    assert weights[..., [0, 2]].max() == 0
    assert weights[..., [1, 3, 4]].min() > 0
    with pytest.raises(ValueError, match="leaves none to look at"):
        hidden(random_condition(0), range(5))


def test_attention_is_taken_from_the_cells_of_the_thing():
    thing = SceneObject("circle", "red", "large", "solid", x=0.25, y=0.25)
    maps = torch.zeros(2, 8, 8)
    maps[0] = 1.0  # all look at token 0, but for the thing's own cells
    across, down = (round(8 * v) for v in thing.half_extent)
    maps[:, 2 - down : 2 + down, 2 - across : 2 + across] = torch.tensor([0.2, 0.8])[:, None, None]
    torch.testing.assert_close(looked_up(maps, thing), torch.tensor([0.2, 0.8]))
