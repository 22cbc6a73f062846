"""Image GPT: what each code may see, drawing with a cache, guidance, and what it can learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vislm_tutorial.generators import CodeGenerator, ImageGPT
from vislm_tutorial.types import Condition, TextStates, TimedCondition

CODES, SIDE, WIDTH = 11, 3, 12  # WIDTH is the conditions' (conftest)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def gpt() -> ImageGPT:
    torch.manual_seed(0)
    model = ImageGPT(
        codes=CODES, grid_size=SIDE, width=24, depth=2, heads=2, max_prefix=8, condition_width=WIDTH
    )
    with torch.no_grad():  # GPT-2 begins almost silent
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval()


class Squares(nn.Module):
    """A tokeniser whose picture is its codes."""

    def encode_codes(self, images):
        return images[:, 0].long()

    def decode_codes(self, codes):
        return codes[:, None].expand(-1, 3, -1, -1).float()


def draw(gpt: ImageGPT, condition: Condition, **options) -> torch.Tensor:
    options = {"generator": seeded()} | options
    return CodeGenerator(gpt, Squares()).sample_codes(condition, **options)


# --- what a code may see -------------------------------------------------------------------------


def test_a_code_sees_those_before_it_and_no_other(gpt, make_condition):
    condition = make_condition(1)
    codes = torch.randint(CODES, (1, 8), generator=seeded())
    logits = gpt(codes, condition)
    assert logits.shape == (1, 9, CODES)
    for place in (0, 3, 7):
        other = codes.clone()
        other[0, place] = (codes[0, place] + 1) % CODES
        moved = (gpt(other, condition) - logits).abs().amax(dim=-1)[0]
        assert moved[: place + 1].max() == 0, "an earlier code knows a later one"
        assert moved[place + 1 :].min() > 1e-4, "a later code does not see it"


def test_every_code_sees_the_caption(gpt, make_condition):
    codes = torch.randint(CODES, (1, 8), generator=seeded())
    torch.manual_seed(1)
    condition = make_condition(1)
    states = condition.encoder_hidden_states.clone().requires_grad_()
    pooled = condition.pooled_projections.clone().requires_grad_()
    logits = gpt(codes, Condition(states, condition.encoder_attention_mask, pooled))
    for place in range(9):
        gradients = torch.autograd.grad(logits[0, place].sum(), (states, pooled), retain_graph=True)
        assert (gradients[0].abs().sum(dim=-1) > 0).all() and gradients[1].abs().sum() > 0


def test_padding_changes_nothing(gpt, make_condition):
    condition = make_condition(4)
    codes = torch.randint(CODES, (4, 8), generator=seeded())
    noise = 100 * torch.randn(condition.encoder_hidden_states.shape)
    padding = ~condition.encoder_attention_mask[..., None]
    loud = Condition(
        condition.encoder_hidden_states + noise * padding,
        condition.encoder_attention_mask,
        condition.pooled_projections,
    )
    torch.testing.assert_close(gpt(codes, loud), gpt(codes, condition))
    short = condition[1:2]
    trimmed = Condition(
        short.encoder_hidden_states[:, :4],
        short.encoder_attention_mask[:, :4],
        short.pooled_projections,
    )
    assert trimmed.encoder_attention_mask.all()
    torch.testing.assert_close(gpt(codes[1:2], trimmed), gpt(codes, condition)[1:2])


def test_a_caption_that_is_too_long_is_refused(gpt):
    long = Condition(torch.randn(1, 9, WIDTH), torch.ones(1, 9).bool(), torch.randn(1, WIDTH))
    with pytest.raises(ValueError, match="9 tokens; this ImageGPT reads at most 8"):
        gpt(torch.zeros(1, 3, dtype=torch.long), long)


# --- the loss ------------------------------------------------------------------------------------


def test_loss_is_the_mean_of_minus_log_p_over_codes(gpt, make_condition):
    condition = make_condition(3)
    codes = torch.randint(CODES, (3, SIDE, SIDE), generator=seeded())
    flat, total = codes.flatten(1), 0.0
    with torch.no_grad():
        for place in range(SIDE**2):
            log_p = gpt(flat[:, :place], condition)[:, -1].log_softmax(dim=-1)
            total -= log_p[torch.arange(3), flat[:, place]].sum().item()
    loss = CodeGenerator(gpt).prepared_loss(codes, condition)
    assert loss.item() == pytest.approx(total / (3 * SIDE**2), rel=1e-5)


def test_loss_of_images_is_that_of_their_codes(gpt, make_condition):
    condition = make_condition(2)
    codes = torch.randint(CODES, (2, SIDE, SIDE), generator=seeded())
    generator = CodeGenerator(gpt, Squares())
    images = Squares().decode_codes(codes)
    assert generator.loss(images, condition) == generator.prepared_loss(codes, condition)


def test_an_untrained_model_pays_about_log_k(make_condition):
    torch.manual_seed(0)
    fresh = ImageGPT(codes=CODES, grid_size=SIDE, width=24, depth=1, heads=2, condition_width=WIDTH)
    codes = torch.randint(CODES, (8, SIDE, SIDE), generator=seeded())
    loss = CodeGenerator(fresh).prepared_loss(codes, make_condition(8))
    assert loss.item() == pytest.approx(math.log(CODES), abs=0.1)


# --- drawing -------------------------------------------------------------------------------------


def test_drawing_with_a_cache_equals_drawing_without(gpt, make_condition):
    """Greedy, so that a difference in the logits would show as another code."""
    condition = make_condition(4)
    cached = draw(gpt, condition, temperature=0).flatten(1)
    codes = torch.zeros(4, 0, dtype=torch.long)
    for _ in range(SIDE**2):
        codes = torch.cat([codes, gpt(codes, condition)[:, -1:].argmax(dim=-1)], dim=1)
    assert torch.equal(cached, codes)
    assert len(codes.unique()) > 2


def test_guidance_extrapolates_the_logits(gpt, make_condition):
    condition, empty = make_condition(4), make_condition(1)
    drawn = draw(gpt, condition, unconditional=empty, guidance_scale=2.5, temperature=0).flatten(1)
    codes = torch.zeros(4, 0, dtype=torch.long)
    for _ in range(SIDE**2):
        caption = gpt(codes, condition)[:, -1]
        nothing = gpt(codes, empty[torch.zeros(4, dtype=torch.long)])[:, -1]
        best = (nothing + 2.5 * (caption - nothing)).argmax(dim=-1)
        codes = torch.cat([codes, best[:, None]], dim=1)
    assert torch.equal(drawn, codes)
    assert not torch.equal(drawn, draw(gpt, condition, temperature=0).flatten(1))
    with pytest.raises(ValueError, match=r"guidance_scale is 2\.5"):
        draw(gpt, condition, guidance_scale=2.5)


def test_codes_are_drawn_as_often_as_the_model_says(gpt, make_condition):
    condition = make_condition(1)
    with torch.no_grad():
        expected = gpt(torch.zeros(1, 0, dtype=torch.long), condition)[0, 0].softmax(dim=-1)
    many = condition[torch.zeros(4000, dtype=torch.long)]
    first = draw(gpt, many)[:, 0, 0]
    share = torch.bincount(first, minlength=CODES) / 4000
    assert (share - expected).abs().max() < 4 * 0.5 / math.sqrt(4000)
    assert expected.max() < 0.9


def test_seeds(gpt, make_condition):
    condition = make_condition(3)
    first, again, other = (draw(gpt, condition, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    each = draw(gpt, condition, generator=[seeded(s) for s in (4, 5, 6)])
    alone = draw(gpt, condition[1:2], generator=[seeded(5)])
    assert torch.equal(each[1:2], alone)


def test_pictures_come_from_the_tokeniser(gpt, make_condition):
    condition = make_condition(2)
    codes = draw(gpt, condition)
    images = CodeGenerator(gpt, Squares()).sample(condition, generator=seeded())
    assert torch.equal(images, Squares().decode_codes(codes)) and not images.requires_grad


# --- learning ------------------------------------------------------------------------------------


def test_learns_which_picture_belongs_to_which_caption(make_condition):
    torch.manual_seed(0)
    gpt = ImageGPT(codes=CODES, grid_size=SIDE, width=24, depth=1, heads=2, condition_width=WIDTH)
    generator, condition = CodeGenerator(gpt, Squares()), make_condition(4)
    codes = torch.randint(CODES, (4, SIDE, SIDE), generator=seeded())
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    for _ in range(80):
        loss = generator.prepared_loss(codes, condition)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(draw(gpt, condition), codes)
    turned = torch.tensor([1, 2, 3, 0])
    assert torch.equal(draw(gpt, condition[turned]), codes[turned])


def test_saves_and_loads(gpt, make_condition, tmp_path):
    gpt.save_pretrained(tmp_path)
    again = ImageGPT.from_pretrained(tmp_path).eval()
    condition = make_condition(2)
    assert torch.equal(draw(again, condition), draw(gpt, condition))


def test_a_condition_that_depends_on_the_time_is_refused(gpt):
    states = TextStates(torch.randn(1, 2, WIDTH), torch.ones(1, 2, dtype=torch.bool))
    timed = TimedCondition(states, lambda states, timestep: None)
    family = CodeGenerator(gpt, Squares())
    for ask in (
        lambda: family.loss(torch.zeros(1, 3, SIDE, SIDE), timed),
        lambda: draw(gpt, timed),
    ):
        with pytest.raises(TypeError, match="only a flow has timesteps.*choose the fusion"):
            ask()
