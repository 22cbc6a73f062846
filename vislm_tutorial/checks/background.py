"""Checks of chapter 1's exercises."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..data.scenes import COLOURS, SHAPES, Scene, SceneObject
from .report import Mistake, call, compare, passed, require

BINDING = (
    "A red square and a blue circle were taken for a red circle: the scene holds the colour and "
    "holds the shape, but not on one object. Ask both of the same object."
)
READ_CAPTIONS = {
    "a red circle": (("red", "circle"), []),
    "a green star and a red circle": (
        ("green", "star"),
        [
            Mistake(
                ("red", "circle"),
                "'a green star and a red circle' gave the red circle. Go through the caption's "
                "words in their order, not through the list of colours.",
            ),
            Mistake(
                ("red", "star"),
                "'a green star and a red circle' gave a red star: the colour of one object with "
                "the shape of the other. Take words that stand side by side.",
            ),
            Mistake(
                ("green", "circle"),
                "'a green star and a red circle' gave a green circle: the colour of one object "
                "with the shape of the other. Take words that stand side by side.",
            ),
        ],
    ),
    "a coloured drawing of a blue square": (
        ("blue", "square"),
        [
            Mistake(
                ("red", "square"),
                "'coloured' ends in 'red', and you found it there. Compare whole words.",
            ),
            Mistake(
                None,
                "'a coloured drawing of a blue square' gave None. Look further than the first "
                "words: try each pair of neighbours.",
            ),
        ],
    ),
    "we see a pink cross.": (
        ("pink", "cross"),
        [Mistake(None, "'cross.' with its full stop is still a cross. Drop the punctuation.")],
    ),
    "Blue diamond": (
        ("blue", "diamond"),
        [Mistake(None, "'Blue' with a capital is still blue. Lower the case first.")],
    ),
}


def check_shows(shows: Callable[[Scene, str, str], bool]) -> None:
    """Page 1.1: `shows(scene, colour, shape)`: whether one object has both.

    Raises:
        CheckFailed: naming the mistake.
    """
    red_circle = SceneObject("circle", "red", "medium", "solid", 0.3, 0.5)
    blue_square = SceneObject("square", "blue", "medium", "solid", 0.7, 0.5)
    blue_circle = SceneObject("circle", "blue", "medium", "solid", 0.3, 0.5)
    red_square = SceneObject("square", "red", "medium", "solid", 0.7, 0.5)
    cases = (
        ((red_circle,), True, "A scene with nothing but a red circle does show one."),
        (
            (red_circle, blue_square),
            True,
            "A blue square beside the red circle made it disappear. One object that fits is "
            "enough: any(...), not all(...).",
        ),
        (
            (blue_square, red_circle),
            True,
            "The red circle was missed when it came second. Go through all of scene.objects.",
        ),
        ((red_square, blue_circle), False, BINDING),
        ((), False, "An empty scene was said to show a red circle. Note that all([]) is True."),
        ((blue_square,), False, "A scene with a blue square only shows no red circle."),
    )
    for objects, right, message in cases:
        answer = call(shows, Scene("white", objects), "red", "circle")
        compare(answer, right, [Mistake(not right, message)], "shows(...)")
    passed("colour and shape are asked of one and the same object, wherever it stands.")


def check_masked_mean(masked_mean: Callable) -> None:
    """Page 1.2: `masked_mean(states (B, L, D), mask (B, L)) -> (B, D)`, over real tokens only.

    Raises:
        CheckFailed: naming the mistake.
    """
    states = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    kept = states * mask[..., None]
    count = mask.sum(dim=1, keepdim=True)
    right = kept.sum(dim=1) / count
    mistakes = [
        Mistake(states.mean(dim=1), "The padding was averaged in: use the mask."),
        Mistake(
            kept.mean(dim=1),
            "The sum is right, but you divided by L. A short caption then gets a short vector: "
            "divide by the number of real tokens.",
        ),
        Mistake(kept.sum(dim=1), "This is the sum over real tokens. Divide it by their number."),
        Mistake(right[:, None], "The values are right, the token axis is still there: (B, 1, D)."),
        Mistake(
            states[mask].mean(dim=0),
            "states[mask] puts the tokens of all captions in one list: this is one mean for the "
            "whole batch.",
        ),
    ]
    compare(call(masked_mean, states, mask), right, mistakes, "The mean")
    passed("a caption's vector is the mean of its own tokens, whatever padding stands beside it.")


def check_guide(guide: Callable) -> None:
    """Page 1.2: `guide(empty, caption, w)`, the guided velocity of two velocities (B, C, h, w).

    Raises:
        CheckFailed: naming the mistake.
    """
    empty, caption = torch.randn(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    for w in (1.0, 3.0, 0.0):
        right = empty + w * (caption - empty)
        mistakes = [
            Mistake(
                caption + w * (caption - empty),
                f"At w = {w:g} you went one step too far: that is the convention of Ho and "
                "Salimans, whose w is ours less 1. Ours starts at the empty caption.",
            ),
            Mistake(
                caption + w * (empty - caption),
                f"At w = {w:g} the two are swapped: this moves away from the caption as w grows.",
            ),
            Mistake(w * caption, "The empty caption's velocity is not used."),
            Mistake(caption, f"w is {w:g} here, and the answer is still the caption's own."),
        ]
        compare(call(guide, empty, caption, w), right, mistakes, f"At w = {w:g} the velocity")
    passed("w = 0 ignores the caption, w = 1 is the caption alone, w = 3 goes past it.")


def check_read_label(read_label: Callable[[str], tuple[str, str] | None]) -> None:
    """Page 1.3: `read_label(caption)`: the first neighbours (colour, shape), or None.

    Raises:
        CheckFailed: naming the mistake.
    """
    for caption, (right, mistakes) in READ_CAPTIONS.items():
        answer = call(read_label, caption, may_be_none=True)
        compare(answer, right, mistakes, f"The label of {caption!r}")
    for colour in COLOURS:
        for shape in SHAPES:
            answer = call(read_label, f"a {colour} {shape}", may_be_none=True)
            compare(answer, (colour, shape), what=f"The label of 'a {colour} {shape}'")
    guessed = call(read_label, "a crimson disc", may_be_none=True)
    require(
        guessed is None,
        f"'a crimson disc' gave {guessed!r}. No rule knows these words: say None, do not guess.",
    )
    passed("all 48 labels are read in any of these sentences, and 'a crimson disc' in none.")


def check_number_of_captions(number: int) -> None:
    """Page 1.3: how many captions say "a C S and a D T" with C, D and also S, T different.

    Raises:
        CheckFailed: naming the mistake.
    """
    colours, shapes = len(COLOURS), len(SHAPES)
    pairs = colours * shapes
    right = pairs * (colours - 1) * (shapes - 1)
    mistakes = [
        Mistake(pairs**2, "48 x 48 allows 'a red circle and a red circle'. Both words differ."),
        Mistake(
            pairs * (pairs - 1),
            "48 x 47 still allows 'a red circle and a red square': colours differ, and shapes too.",
        ),
        Mistake(
            right // 2,
            "That counts each two objects once. 'A red circle and a blue square' and 'a blue "
            "square and a red circle' are two captions.",
        ),
        Mistake(pairs + (colours - 1) * (shapes - 1), "Choices one after the other multiply."),
    ]
    compare(number, right, mistakes, "The number")
    passed(f"{colours} x {shapes} x {colours - 1} x {shapes - 1} = {right:,} captions.")
