"""Each way to edit holds what it says it holds, and says what is wrong with what it is given."""

from __future__ import annotations

import pytest
import torch
from tiny_pipeline import SIDE, tiny_pipeline
from torch import nn

from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import Scene, SceneObject
from vislm_tutorial.editing import (
    alignment,
    draw_from,
    grown,
    inpaint,
    invert,
    mask_of_words,
    redraw,
    swap,
    tokens_of,
)
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation.attention import attention_weights
from vislm_tutorial.fusion import FusionConfig, build_fusion
from vislm_tutorial.generators import DiT
from vislm_tutorial.generators.config import CVAEConfig, build_generator
from vislm_tutorial.pipeline import VisLMPipeline

RED, GREEN, CYAN = (f"a {colour} circle" for colour in ("red", "green", "cyan"))


@pytest.fixture(scope="module")
def minilm():
    return load_encoder("minilm", layers="mean")


@pytest.fixture(scope="module")
def pipe(minilm) -> VisLMPipeline:
    return tiny_pipeline(minilm)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def through(pipe, image):
    """A picture as the autoencoder gives it back."""
    with torch.no_grad():
        return pipe.autoencoder.decode(pipe.autoencoder.encode(image))


# --- SDEdit --------------------------------------------------------------------------------------


def test_the_strength_says_how_much_of_the_picture_is_left(pipe, image):
    own = through(pipe, image)
    other = -image
    little, all_ = (
        [redraw(pipe, i, RED, strength=s, generator=seeded()) for i in (image, other)]
        for s in (0.001, 1.0)
    )
    assert (little[0] - own).abs().mean() < 0.1 * (little[0] - little[1]).abs().mean()
    torch.testing.assert_close(*all_)  # nothing is left of either
    again = redraw(pipe, image, RED, strength=0.5, generator=seeded())
    torch.testing.assert_close(again, redraw(pipe, image, RED, strength=0.5, generator=seeded()))
    assert not again.equal(redraw(pipe, image, GREEN, strength=0.5, generator=seeded()))
    assert not again.equal(redraw(pipe, image, RED, strength=0.5, generator=seeded(1)))


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.2, float("nan")])
def test_a_strength_outside_its_range_is_refused(pipe, image, strength):
    with pytest.raises(ValueError, match="strength is .*expected a noise level above 0"):
        redraw(pipe, image, RED, strength=strength)
    with pytest.raises(ValueError, match="strength is"):
        inpaint(pipe, image, torch.ones(SIDE, SIDE), RED, strength=strength)


def test_pictures_captions_and_pipelines_that_do_not_fit_are_refused(pipe, image, minilm):
    with pytest.raises(ValueError, match=r"expected floats in .* of shape \(B, 3, 16, 16\)"):
        redraw(pipe, image[..., :8, :8], RED, strength=0.5)
    with pytest.raises(ValueError, match=r"torch.uint8 of shape"):
        invert(pipe, image.to(torch.uint8), RED)
    with pytest.raises(ValueError, match="3 captions or words for 2 pictures"):
        redraw(pipe, image, [RED, GREEN, CYAN], strength=0.5)
    fusion = build_fusion(FusionConfig("projector", width=16, depth=1, heads=2), minilm.width)
    drawer = build_generator(CVAEConfig(), SIDE, None, 16)
    other = VisLMPipeline(fusion, drawer.network, encoder=minilm)
    for call in (
        lambda: redraw(other, image, RED, strength=0.5),
        lambda: inpaint(other, image, torch.ones(SIDE, SIDE), RED),
        lambda: invert(other, image, RED),
        lambda: draw_from(other, image, RED),
        lambda: swap(other, image, RED, GREEN),
        lambda: mask_of_words(other, image, RED, "red"),
    ):
        with pytest.raises(ValueError, match="load a pipeline whose generator is a FlowGenerator"):
            call()


# --- inpainting ----------------------------------------------------------------------------------


def test_outside_the_mask_is_the_picture_itself_or_the_autoencoders(pipe, image):
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:6, :6] = True  # touches 2 x 2 of the 4 x 4 cells
    options = {"num_inference_steps": 4, "generator": seeded()}
    pasted = inpaint(pipe, image, mask, RED, **options)
    assert torch.equal(pasted[..., ~mask], image[..., ~mask])
    assert (pasted - image)[..., mask].abs().mean() > 0.05
    drawn = inpaint(pipe, image, mask, RED, paste=False, **options)
    assert (drawn - through(pipe, image))[..., :8, :8].abs().mean() > 0.05
    # What the decoder sees beyond the cells that were drawn is exactly the picture's latents.
    seen = []
    hook = pipe.autoencoder.decoder.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    try:
        inpaint(pipe, image, mask, RED, rounds=2, **options)
        through(pipe, image)
    finally:
        hook.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=(0, 1)) > 1e-5
    assert changed[:2, :2].all() and changed.sum() == 4


def test_a_mask_a_picture_and_a_mask_for_all(pipe, image):
    masks = torch.zeros(2, SIDE, SIDE)
    masks[0, :4, :4] = masks[1, 8:, 8:] = 1
    both = inpaint(pipe, image, masks, RED, num_inference_steps=2, generator=seeded())
    changed = (both != image).any(dim=1)
    assert changed[0, :4, :4].all() and changed[0].sum() == 16
    assert changed[1, 8:, 8:].all() and changed[1].sum() == 64


def test_masks_that_do_not_fit_are_refused(pipe, image):
    with pytest.raises(ValueError, match=r"mask has shape \(8, 8\); expected .*\(16, 16\)"):
        inpaint(pipe, image, torch.ones(8, 8), RED)
    with pytest.raises(ValueError, match="mask is empty"):
        inpaint(pipe, image, torch.zeros(SIDE, SIDE), RED)
    one_empty = torch.stack([torch.ones(SIDE, SIDE), torch.zeros(SIDE, SIDE)])
    with pytest.raises(ValueError, match="mask is empty"):
        inpaint(pipe, image, one_empty, RED)
    with pytest.raises(ValueError, match="rounds is 0"):
        inpaint(pipe, image, torch.ones(SIDE, SIDE), RED, rounds=0)


def test_a_grown_mask():
    mask = torch.zeros(2, 9, 9)
    mask[0, 4, 4] = mask[1, 0, 0] = 1
    wide = grown(mask, 2)
    assert wide.dtype == torch.bool and wide.sum(dim=(1, 2)).tolist() == [25, 9]
    assert torch.equal(grown(mask[0], 2), wide[0]) and torch.equal(grown(mask, 0), mask.bool())
    with pytest.raises(ValueError, match="pixels is -1"):
        grown(mask, -1)


# --- inversion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_what_is_inverted_is_drawn_again(pipe, image, strength):
    own, options = through(pipe, image), {"num_inference_steps": 8, "strength": strength}
    errors = []
    for iterations in (1, 8):
        noise = invert(pipe, image, RED, iterations=iterations, **options)
        again = draw_from(pipe, noise, RED, guidance_scale=1.0, **options)
        errors.append((again - own).abs().mean().item())
    assert errors[1] < 1e-4 and errors[1] < 0.1 * errors[0], errors
    other = draw_from(pipe, noise, GREEN, guidance_scale=4.0, **options)
    assert (other - own).abs().mean() > 10 * errors[1]


def test_noise_of_another_shape_is_refused(pipe):
    with pytest.raises(ValueError, match=r"expected \(B, 4, 4, 4\)"):
        draw_from(pipe, torch.randn(1, 4, 8, 8), RED)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_the_tokens_of_a_word_are_its_own(name):
    encoder = load_encoder(name)
    caption = "a cyan star left of a red star, on grey"

    def said(words: str) -> str:
        ids = encoder.tokenize([caption])[0]
        tokens = [ids[i] for i in tokens_of(encoder, caption, words)]
        return encoder.tokenizer.decode(tokens).replace(" ", "")

    assert said("cyan") == "cyan" and said("red star") == "redstar"
    assert said("star") == "starstar", "every place counts"
    for missing in ("blue", "re", "ed star", ""):
        with pytest.raises(ValueError, match="is not in the caption"):
            tokens_of(encoder, caption, missing)


def test_a_word_that_was_cut_off_is_refused():
    encoder = load_encoder("minilm", max_length=6)
    with pytest.warns(UserWarning, match="were cut"):
        assert tokens_of(encoder, "a red star and a blue circle", "red") == (2,)
    with (
        pytest.warns(UserWarning, match="were cut"),
        pytest.raises(ValueError, match="beyond the first 6 tokens"),
    ):
        tokens_of(encoder, "a red star and a blue circle", "circle")


def test_a_word_of_two_tokens_takes_the_place_of_one(minilm):
    same = alignment(minilm, RED, GREEN)
    assert torch.equal(same, torch.eye(5))
    wide = alignment(minilm, RED, CYAN)  # [start] a cy ##an circle [end]
    expected = torch.zeros(5, 6)
    expected[0, 0] = expected[1, 1] = expected[3, 4] = expected[4, 5] = 1
    expected[2, 2:4] = 0.5
    assert torch.equal(wide, expected)
    narrow = alignment(minilm, CYAN, RED)
    assert torch.equal(narrow, (wide.T > 0).float())
    with pytest.raises(ValueError, match="has 3 words and .* 4; expected as many"):
        alignment(minilm, RED, "a small red circle")


# --- attention -----------------------------------------------------------------------------------


def noise_of(number: int) -> torch.Tensor:
    return torch.randn(number, 4, 4, 4, generator=seeded(3))


def test_without_shares_a_swap_draws_the_target_alone(pipe):
    options = {"num_inference_steps": 3}
    drawn = swap(pipe, noise_of(2), RED, [GREEN, CYAN], cross_share=0, self_share=0, **options)
    torch.testing.assert_close(
        drawn, draw_from(pipe, noise_of(2), [GREEN, CYAN], **options), atol=1e-4, rtol=1e-4
    )
    held = swap(pipe, noise_of(2), RED, [GREEN, CYAN], **options)
    assert (held - drawn).abs().max() > 1e-3


def test_the_same_words_draw_the_same(pipe):
    options = {"num_inference_steps": 3, "cross_share": 1.0, "self_share": 1.0}
    drawn = swap(pipe, noise_of(2), [RED, CYAN], [RED, CYAN], **options)
    alone = draw_from(pipe, noise_of(2), [RED, CYAN], num_inference_steps=3)
    torch.testing.assert_close(drawn, alone, atol=1e-4, rtol=1e-4)


def test_the_target_looks_where_the_source_looks(pipe):
    seen = {}
    attention = pipe.backbone.blocks[0].attn2

    def added(cross_share: float) -> torch.Tensor:
        """What the cross-attention adds to the 4 rows: source, target, and the empty captions."""
        block, hooks = pipe.backbone.blocks[0], []
        places = {"before": block.norm2, "given": attention, "after": block.norm3}
        for name, module in places.items():
            hooks.append(
                module.register_forward_pre_hook(
                    lambda module, arguments, name=name: seen.update({name: arguments})
                )
            )
        try:
            options = {"num_inference_steps": 1, "self_share": 0, "cross_share": cross_share}
            swap(pipe, noise_of(1), RED, CYAN, **options)
        finally:
            for hook in hooks:
                hook.remove()
        return seen["after"][0] - seen["before"][0]

    held = added(1.0)
    x, context, mask = seen["given"]
    weights = attention_weights(attention, x[:1], context[:1], mask[:1])
    matrix = torch.zeros(6, 6)
    matrix[:5] = alignment(pipe.encoder, RED, CYAN)  # the source has a token less
    values = attention.to_kv(context[1:2]).chunk(2, dim=-1)[1].unflatten(-1, (2, 8)).transpose(1, 2)
    mixed = (weights @ matrix @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(held[1:2], attention.to_out(mixed), atol=1e-5, rtol=1e-4)
    free = added(0.0)
    torch.testing.assert_close(held[[0, 2, 3]], free[[0, 2, 3]])  # no other row is touched
    assert (held[1] - free[1]).abs().max() > 1e-3


def test_a_mask_holds_the_target_to_the_source(pipe, image):
    mask = torch.zeros(SIDE, SIDE)
    mask[:4, :4] = 1
    options = {"num_inference_steps": 3, "mask": mask}
    seen = []
    hook = pipe.autoencoder.decoder.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    try:
        swap(pipe, noise_of(2), RED, GREEN, **options)
        draw_from(pipe, noise_of(2), RED, num_inference_steps=3)
    finally:
        hook.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=(0, 1)) > 1e-4
    assert changed[0, 0] and changed.sum() == 1


def test_a_picture_is_inverted_first(pipe, image):
    options = {"num_inference_steps": 4, "cross_share": 0.5}
    drawn = swap(pipe, image, RED, GREEN, **options)
    noise = invert(pipe, image, RED, num_inference_steps=4, iterations=1)
    again = swap(pipe, noise, RED, GREEN, source_guidance_scale=1.0, **options)
    torch.testing.assert_close(drawn, again)


def test_what_cannot_be_swapped_is_refused(pipe, minilm):
    with pytest.raises(ValueError, match="expected as many, each in the place of one"):
        swap(pipe, noise_of(1), RED, "a circle")
    with pytest.raises(ValueError, match="cross_share is 1.5"):
        swap(pipe, noise_of(1), RED, GREEN, cross_share=1.5)
    gathered = tiny_pipeline(minilm, fusion="queries")
    with pytest.raises(ValueError, match="expected a ProjectorFusion"):
        swap(gathered, noise_of(1), RED, GREEN)
    prefix = tiny_pipeline(minilm, conditioning="prefix")
    with pytest.raises(ValueError, match="no cross-attention"):
        swap(prefix, noise_of(1), RED, GREEN)


def test_a_flow_of_pixels_is_edited_without_an_autoencoder(minilm):
    torch.manual_seed(0)
    fusion = build_fusion(FusionConfig("projector", width=16, depth=1, heads=2), minilm.width)
    backbone = DiT(16, 3, patch_size=4, width=16, depth=1, heads=2, condition_width=16)
    for parameter in backbone.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    scheduler = tiny_pipeline(minilm).scheduler
    pixels = VisLMPipeline(fusion, backbone, scheduler, encoder=minilm)
    image, options = torch.rand(1, 3, 16, 16) - 0.5, {"num_inference_steps": 4}
    noise = invert(pixels, image, RED, iterations=10, **options)
    again = draw_from(pixels, noise, RED, guidance_scale=1.0, **options)
    torch.testing.assert_close(again, image, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        swap(pixels, image, RED, RED, guidance_scale=1.0, iterations=10, **options),
        image,
        atol=1e-3,
        rtol=0,
    )
    noise = 2 * torch.randn(1, 3, 16, 16)
    plain = draw_from(pixels, noise, GREEN, **options)
    off = {"cross_share": 0, "self_share": 0}
    torch.testing.assert_close(swap(pixels, noise, RED, GREEN, **off, **options), plain)


def test_words_are_masked_where_they_are_looked_at(pipe, image):
    soft = mask_of_words(pipe, image, RED, "red", threshold=None, generator=seeded())
    assert soft.shape == (2, SIDE, SIDE)
    assert soft.amin(dim=(1, 2)).max() == 0 and (soft.amax(dim=(1, 2)) - 1).abs().max() < 1e-6
    quarter = mask_of_words(pipe, image, RED, "red", threshold=0.25, generator=seeded())
    assert set(quarter.unique().tolist()) == {0.0, 1.0}
    assert quarter.mean().item() == pytest.approx(0.25, abs=0.02)
    for values, chosen in zip(soft, quarter.bool(), strict=True):
        assert values[chosen].min() >= values[~chosen].max()
    one = mask_of_words(pipe, image[:1], RED, "red", generator=seeded())
    assert one.shape == (SIDE, SIDE) and 0 < one.mean() < 1
    for wrong in ({"threshold": 1.0}, {"threshold": "mean"}, {"levels": (0.0,)}):
        with pytest.raises(ValueError):
            mask_of_words(pipe, image, RED, "red", **wrong)
    with pytest.raises(ValueError, match="'blue' is not in the caption"):
        mask_of_words(pipe, image, RED, "blue")


def test_the_shipped_model_looks_at_a_thing_for_its_word():
    pipe = VisLMPipeline.from_bundled()
    circle = SceneObject("circle", "red", "large", "solid", x=0.25, y=0.25)
    square = SceneObject("square", "blue", "large", "solid", x=0.75, y=0.75)
    image = render([Scene("white", (circle, square))])
    caption = "a large solid red circle above a large solid blue square on a white background"
    for word, corner, other in (("circle", (0, 0), (32, 32)), ("square", (32, 32), (0, 0))):
        mask = mask_of_words(pipe, image, caption, word, generator=seeded())
        inside, beside = (mask[r : r + 32, c : c + 32].sum() for r, c in (corner, other))
        assert inside > 300 and beside < 0.1 * inside, word
