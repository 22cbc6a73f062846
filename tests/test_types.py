"""The records that cross a border keep their shapes, masks and dtypes whatever is done to them."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from vislm_tutorial.types import Condition, TextStates, TimedCondition


def text_states(batch: int, tokens: int, width: int = 3) -> TextStates:
    states = torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(tokens))
    return TextStates(states, torch.ones(batch, tokens, dtype=torch.bool))


def condition(batch: int, tokens: int, width: int = 3) -> Condition:
    states = text_states(batch, tokens, width)
    pooled = states.encoder_hidden_states.mean(dim=1)
    return Condition(states.encoder_hidden_states, states.encoder_attention_mask, pooled)


def fuse(states: TextStates, timestep: torch.Tensor) -> Condition:
    """The states, times the time."""
    hidden = states.encoder_hidden_states * timestep[:, None, None]
    return Condition(hidden, states.encoder_attention_mask, hidden.mean(dim=1))


@pytest.mark.parametrize("make", [text_states, condition])
@pytest.mark.parametrize(
    "rows",
    [slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True, False])],
    ids=["slice", "positions", "boolean"],
)
def test_indexing_selects_rows_of_every_field(make, rows):
    record = make(4, 5)
    selected = record[rows]
    assert type(selected) is type(record) and len(selected) == 2
    for field in dataclasses.fields(record):
        whole, part = getattr(record, field.name), getattr(selected, field.name)
        assert torch.equal(part, whole[1:3]), field.name


@pytest.mark.parametrize("rows", [0, [0, 1], torch.tensor(0), torch.tensor([0.0]), "a"])
def test_an_index_that_would_lose_the_batch_axis_is_refused(rows):
    with pytest.raises(TypeError, match=r"expected a slice .* \[i : i \+ 1\]"):
        text_states(2, 3)[rows]


@pytest.mark.parametrize("make", [text_states, condition])
def test_cat_pads_the_shorter_part_with_masked_zeros(make):
    short, long = make(2, 3), make(1, 5)
    joined = type(short).cat([short, long])
    assert joined.encoder_hidden_states.shape == (3, 5, 3)
    assert torch.equal(joined.encoder_hidden_states[:2, :3], short.encoder_hidden_states)
    assert torch.equal(joined.encoder_hidden_states[2:], long.encoder_hidden_states)
    assert not joined.encoder_hidden_states[:2, 3:].any()
    assert joined.encoder_attention_mask.sum(dim=1).tolist() == [3, 3, 5]
    if isinstance(joined, Condition):
        pooled = torch.cat([short.pooled_projections, long.pooled_projections])
        assert torch.equal(joined.pooled_projections, pooled)


def test_cat_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="empty list"):
        TextStates.cat([])
    with pytest.raises(ValueError, match=r"widths \[3, 4\]"):
        TextStates.cat([text_states(1, 2, width=3), text_states(1, 2, width=4)])
    with pytest.raises(TypeError, match="got a Condition"):
        TextStates.cat([text_states(1, 2), condition(1, 2)])


def test_to_changes_states_and_leaves_masks_boolean():
    moved = condition(2, 3).to(device="cpu", dtype=torch.float64)
    assert moved.encoder_hidden_states.dtype == torch.float64
    assert moved.pooled_projections.dtype == torch.float64
    assert moved.encoder_attention_mask.dtype == torch.bool


def test_wrong_shapes_and_dtypes_are_named():
    states, mask = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"shape \(3, 4\).*expected floating point of shape"):
        TextStates(states[0], mask)
    with pytest.raises(ValueError, match="torch.int64.*expected floating point"):
        TextStates(states.long(), mask)
    with pytest.raises(ValueError, match=r"torch.int64.*mask.bool\(\)"):
        TextStates(states, mask.long())
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*expected torch.bool of shape \(2, 3\)"):
        TextStates(states, mask[:, :2])
    with pytest.raises(ValueError, match=r"shape \(2, 5\).*expected .* shape \(2, 4\)"):
        Condition(states, mask, torch.zeros(2, 5))


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        text_states(1, 2).encoder_hidden_states = None


def test_importing_the_package_does_not_import_torch():
    code = (
        "import sys, vislm_tutorial, vislm_tutorial.registry, vislm_tutorial.budget\n"
        "import vislm_tutorial.encoders\n"
        "heavy = {'torch', 'numpy', 'transformers', 'diffusers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_are_found_and_others_are_not():
    import vislm_tutorial

    assert vislm_tutorial.TextStates is TextStates
    assert set(vislm_tutorial.__all__) <= set(dir(vislm_tutorial))
    with pytest.raises(AttributeError, match="no attribute 'Sceen'"):
        _ = vislm_tutorial.Sceen


# --- conditions that depend on the time ---------------------------------------------------------


def test_a_condition_is_the_same_at_all_times():
    plain = condition(2, 3)
    assert plain.at(torch.tensor([0.0, 1000.0])) is plain


def test_a_timed_condition_asks_with_each_rows_time():
    timed = TimedCondition(text_states(2, 3), fuse)
    got = timed.at(torch.tensor([1.0, 500.0])).encoder_hidden_states
    assert torch.equal(got, timed.states.encoder_hidden_states * torch.tensor([[[1.0]], [[500.0]]]))


def test_a_timed_condition_is_indexed_moved_and_joined_as_its_states_are():
    timed = TimedCondition(text_states(4, 3), fuse)
    assert len(timed) == 4 and timed.dtype == torch.float32 and timed.device.type == "cpu"
    for rows in (slice(1, 3), torch.tensor([3, 3, 0]), torch.tensor([True, False, False, True])):
        part, expected = timed[rows], timed.states[rows].encoder_hidden_states
        assert part.fuse is fuse and torch.equal(part.states.encoder_hidden_states, expected)
    with pytest.raises(TypeError, match="expected a slice"):
        timed[0]
    moved = timed.to("cpu", torch.float64)
    assert moved.dtype == moved.states.dtype == torch.float64 and moved.fuse is fuse
    assert timed.to("meta").device.type == "meta"
    joined = TimedCondition.cat([timed, TimedCondition(text_states(1, 5), fuse)])
    assert len(joined) == 5 and joined.fuse is fuse
    assert joined.states.encoder_attention_mask.sum(dim=1).tolist() == [3, 3, 3, 3, 5]


def test_timed_conditions_of_different_fusions_are_not_joined():
    timed = TimedCondition(text_states(1, 2), fuse)
    with pytest.raises(ValueError, match="different fuse.*Join only what the same fusion made"):
        TimedCondition.cat([timed, TimedCondition(text_states(1, 2), lambda s, t: fuse(s, t))])
    with pytest.raises(TypeError, match="got a Condition.*from one fusion"):
        TimedCondition.cat([timed, condition(1, 2)])
    with pytest.raises(TypeError, match="got a TimedCondition"):
        Condition.cat([condition(1, 2), timed])
    with pytest.raises(ValueError, match="empty list"):
        TimedCondition.cat([])


def test_what_needs_a_plain_condition_is_told_which_fusions_give_one():
    timed = TimedCondition(text_states(1, 2), fuse)
    for name in [field.name for field in dataclasses.fields(Condition)]:
        with pytest.raises(TypeError, match=f"has {name} at a timestep only.*choose the fusion"):
            getattr(timed, name)
    assert not hasattr(timed, "nothing")
