"""Products keep their measures: in words, in pixels, and when a picture is measured again."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from vislm_tutorial.data.products import (
    COLOURS,
    KINDS,
    MEASURES,
    SCALES,
    Fitted,
    Product,
    caption,
    describe,
    draw,
    held_out_pairs,
    judge,
    measure_errors,
    read,
    render,
    said,
    sample_products,
)
from vislm_tutorial.data.products.fitting import TOLERANCE
from vislm_tutorial.data.products.world import GAP, third, training_pairs

MUG = Product("mug", "blue", (110, 66, 58, 27))


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return sample_products(2000, seed=3)


@pytest.fixture(scope="module")
def measured() -> list[tuple[Product, Fitted]]:
    asked = sample_products(16, seed=11) + sample_products(8, seed=12, pairs=held_out_pairs())
    return list(zip(asked, read(render(asked)), strict=True))


# --- words ---


def test_held_out_pairs_are_spread_and_never_sampled(products):
    held_out = held_out_pairs()
    assert len(held_out) == len({c for c, _ in held_out}) == len({k for _, k in held_out}) == 4
    assert {(p.colour, p.kind) for p in products} == set(training_pairs())
    assert len(training_pairs()) == len(COLOURS) * len(KINDS) - 4
    only = sample_products(60, seed=0, pairs=held_out)
    assert {(p.colour, p.kind) for p in only} == held_out


def test_sampling_is_repeatable_and_keeps_clear_of_the_borders(products):
    assert sample_products(50, seed=3) == products[:50] != sample_products(50, seed=4)
    levels = Counter()
    for p in products:
        for name, value in p.named.items():
            measure = MEASURES[p.kind][name]
            position = (value - measure.low) / measure.range
            assert min(abs(position - 1 / 3), abs(position - 2 / 3)) >= GAP - 1e-9, p
            levels[third(p.kind, name, value)] += 1
    assert min(levels.values()) > 0.3 * levels.total()


def test_captions_by_hand():
    assert describe(MUG) == "a tall, narrow blue mug with a large handle"
    assert said(MUG) == {"height": "high", "width": "low", "handle_height": "high"}
    chair = Product("chair", "orange", (340, 430, 470, 32))
    assert describe(chair) == "an orange chair with a low seat, a high back and thin legs"
    assert describe(replace(MUG, measures=(95, 78, 49, 27))) == "a blue mug"


def test_captions_say_everything_that_is_judged(products):
    rng = random.Random(0)
    for p in products[:400]:
        text = caption(p, rng)
        assert p.kind in text and p.colour in text
        for name, measure in MEASURES[p.kind].items():
            level = said(p).get(name)
            for word, of in ((measure.low_word, "low"), (measure.high_word, "high")):
                others = [m for n, m in MEASURES[p.kind].items() if n != name]
                if word not in {w for m in others for w in (m.low_word, m.high_word)}:
                    assert (word in text.replace(",", "").split()) == (level == of), (text, name)
    assert len({caption(MUG, rng) for _ in range(100)}) >= 6


def test_products_survive_json(products):
    for p in products[:200]:
        assert Product.from_dict(json.loads(json.dumps(p.to_dict()))) == p


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: replace(MUG, kind="boat"), "'boat'"),
        (lambda: replace(MUG, colour="mauve"), "'mauve'"),
        (lambda: replace(MUG, measures=(110, 66)), "4 measures"),
        (lambda: replace(MUG, measures=(150, 66, 58, 27)), "height of a mug is 150 mm"),
        (lambda: replace(MUG, measures=(110, float("nan"), 58, 27)), "width of a mug is nan"),
        (lambda: Product.from_dict({**MUG.to_dict(), "measures": {"height": 90}}), "handle_depth"),
        (lambda: render([MUG], 8), "8"),
        (lambda: draw("mug", torch.zeros(2, 3), torch.zeros(2, 3)), r"\(2, 3\)"),
        (lambda: read(torch.zeros(3, 64, 64)), r"\(3, 64, 64\)"),
        (lambda: read(torch.zeros(1, 3, 40, 40)), "40 pixels"),
        (lambda: read(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)), "uint8"),
    ],
)
def test_errors_name_the_value(make, named):
    with pytest.raises(ValueError, match=named):
        make()


# --- pixels ---


def test_a_mug_is_as_high_and_wide_as_it_says():
    """Measured by counting ink: the middle column of the body, and a row below the handle."""
    white, blue = (torch.tensor(c) / 127.5 - 1 for c in ((250, 250, 248), COLOURS["blue"]))
    image = render([MUG], 128)[0]
    pixel = SCALES["mug"] / 2
    inked = (image - white[:, None, None]).abs().sum(dim=0) > (blue - white).abs().sum() / 2
    body = round(64 - 27 / 2 / pixel)  # the handle moves the body to the left by half its depth
    assert inked[:, body].sum() * pixel == pytest.approx(110, abs=pixel)
    assert inked[round(0.92 * 128 - 14 / pixel)].sum() * pixel == pytest.approx(66, abs=pixel)


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_is_differentiable_in_every_measure(kind):
    middle = [[m.low + 0.47 * m.range for m in MEASURES[kind].values()]]
    measures = torch.tensor(middle, dtype=torch.float64, requires_grad=True)
    colour = torch.tensor([[0.2, 0.4, 0.8]], dtype=torch.float64)
    weights = torch.rand(3, 32, 32, dtype=torch.float64, generator=torch.manual_seed(0))

    def total(values):
        return (draw(kind, values, colour, 32) * weights).sum()

    (gradient,) = torch.autograd.grad(total(measures), measures)
    assert (gradient.abs() > 1e-4).all(), gradient
    for i in range(measures.shape[1]):
        nudge = torch.zeros_like(measures)
        nudge[0, i] = 1e-5
        with torch.no_grad():
            slope = (total(measures + nudge) - total(measures - nudge)) / 2e-5
        assert gradient[0, i].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-6)


# --- measuring ---


def test_renders_are_measured(measured):
    errors = []
    for asked, fitted in measured:
        assert judge(asked, fitted) == {"kind": True, "colour": True, "proportions": True}, asked
        ranges = MEASURES[asked.kind]
        errors += [e / ranges[n].range for n, e in measure_errors(asked, fitted).items()]
    assert statistics.median(errors) < 0.005
    assert statistics.quantiles(errors, n=20)[-1] < 0.03


def test_soft_shifted_and_tinted_pictures_are_measured_too():
    asked = sample_products(8, seed=5)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    images = functional.pad(render(asked), (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    images = functional.conv2d(images, (kernel[:, None] * kernel)[None, None])
    images = images.reshape(8, 3, 64, 64).roll((1, -1), (2, 3)) * 0.95
    right = [all(judge(a, f).values()) for a, f in zip(asked, read(images), strict=True)]
    assert sum(right) == 8


def test_noise_is_no_product():
    noise = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(1))
    blank = torch.full((1, 3, 64, 64), 0.96)
    for fitted in read(torch.cat((noise, blank, blank * float("nan")))):
        assert not fitted.clear
        assert not any(judge(fitted.product, fitted).values())
    assert read(noise[:0]) == []


def test_reading_stays_inside_the_ranges():
    low = Product("mug", "red", tuple(m.low for m in MEASURES["mug"].values()))
    assert measure_errors(low, read(render([low]))[0])["height"] < 0.5


def test_judging_by_hand():
    border = 70 + 50 * 2 / 3

    def verdict(**changes):
        return judge(MUG, Product("mug", "blue", tuple({**MUG.named, **changes}.values())))

    assert all(verdict(height=border + 1, handle_depth=36).values()), "what is not said may differ"
    assert verdict(height=border - TOLERANCE * 50 + 0.1)["proportions"]
    assert not verdict(height=border - TOLERANCE * 50 - 0.1)["proportions"]
    assert not verdict(width=80)["proportions"]
    red = judge(MUG, replace(MUG, colour="red"))
    assert red == {"kind": True, "colour": False, "proportions": True}
    lamp = sample_products(40, seed=0, pairs=[("blue", "lamp")])[0]
    assert judge(MUG, lamp) == {"kind": False, "colour": True, "proportions": False}
    with pytest.raises(ValueError, match="lamp"):
        measure_errors(MUG, lamp)
