"""Chapter 1's checks accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import re

import pytest

from vislm_tutorial.checks import (
    CheckFailed,
    check_guide,
    check_masked_mean,
    check_number_of_captions,
    check_read_label,
    check_shows,
)
from vislm_tutorial.data.scenes import COLOURS, SHAPES


def neighbours(words):
    """The first (colour, shape) that stand side by side in a list of words."""
    pairs = zip(words, words[1:], strict=False)
    return next(((c, s) for c, s in pairs if c in COLOURS and s in SHAPES), None)


def read_label(caption):
    return neighbours(re.findall(r"\w+", caption.lower()))


def in_list_order(caption):
    words = re.findall(r"\w+", caption.lower())
    found = [next((n for n in names if n in words), None) for names in (COLOURS, SHAPES)]
    return tuple(found) if all(found) else None


def by_substring(caption):
    caption = caption.lower()
    colours = sorted((caption.index(c), c) for c in COLOURS if c in caption)
    shapes = sorted((caption.index(s), s) for s in SHAPES if s in caption)
    return (colours[0][1], shapes[0][1]) if colours and shapes else None


def masked_mean(states, mask):
    weight = mask[..., None].float()
    return (states * weight).sum(1) / weight.sum(1)


@pytest.mark.parametrize(
    ("check", "answer", "verified"),
    [
        (
            check_shows,
            lambda s, c, f: any(o.colour == c and o.shape == f for o in s.objects),
            "one and the same object",
        ),
        (check_masked_mean, masked_mean, "its own tokens"),
        (check_guide, lambda e, c, w: (1 - w) * e + w * c, "w = 3 goes past it"),
        (check_read_label, read_label, "all 48 labels"),
        (check_number_of_captions, 1680, "8 x 6 x 7 x 5 = 1,680"),
    ],
)
def test_right_answers_pass_and_say_what_was_verified(check, answer, verified, capsys):
    check(answer)
    assert re.fullmatch(f"Right: .*{re.escape(verified)}.*\n", capsys.readouterr().out)


WRONG = [
    (
        check_shows,
        lambda s, c, f: c in {o.colour for o in s.objects} and f in {o.shape for o in s.objects},
        "A red square and a blue circle were taken for a red circle",
    ),
    (
        check_shows,
        lambda s, c, f: bool(s.objects) and (s.objects[0].colour, s.objects[0].shape) == (c, f),
        "missed when it came second",
    ),
    (
        check_shows,
        lambda s, c, f: all((o.colour, o.shape) == (c, f) for o in s.objects),
        "any(...), not all(...)",
    ),
    (
        check_shows,
        lambda s, c, f: not s.objects or any((o.colour, o.shape) == (c, f) for o in s.objects),
        "all([]) is True",
    ),
    (check_shows, lambda s, c, f: False, "does show one"),
    (
        check_shows,
        lambda s, c, f: (
            len(s.objects) == 1 or any((o.colour, o.shape) == (c, f) for o in s.objects)
        ),
        "shows no red circle",
    ),
    (check_shows, lambda s, c, f: None, "Does it end in `return`"),
    (check_masked_mean, lambda s, m: s.mean(1), "padding was averaged in"),
    (check_masked_mean, lambda s, m: (s * m[..., None]).mean(1), "you divided by L"),
    (check_masked_mean, lambda s, m: (s * m[..., None]).sum(1), "sum over real tokens"),
    (check_masked_mean, lambda s, m: masked_mean(s, m)[:, None], "token axis is still there"),
    (check_masked_mean, lambda s, m: s[m].mean(0), "all captions in one list"),
    (check_masked_mean, lambda s, m: s.mean(-1), "expected a tensor of shape (2, 3)"),
    (check_guide, lambda e, c, w: (1 + w) * c - w * e, "one step too far"),
    (check_guide, lambda e, c, w: c + w * (e - c), "swapped"),
    (check_guide, lambda e, c, w: w * c, "empty caption's velocity is not used"),
    (check_guide, lambda e, c, w: c, "w is 3 here"),
    (check_guide, lambda e, c, w: (e + c) / 2, "At w = 1 the velocity is"),
    (check_read_label, in_list_order, "through the list of colours"),
    (check_read_label, by_substring, "'coloured' ends in 'red'"),
    (check_read_label, lambda text: neighbours(text.lower().split()), "full stop"),
    (check_read_label, lambda text: neighbours(re.findall(r"\w+", text)), "'Blue' with a capital"),
    (check_read_label, lambda text: neighbours(text.split()[1:3]), "try each pair of neighbours"),
    (
        check_read_label,
        lambda text: ("red", "star") if "green" in text else read_label(text),
        "gave a red star",
    ),
    (
        check_read_label,
        lambda text: ("green", "circle") if "green" in text else read_label(text),
        "gave a green circle",
    ),
    (check_read_label, lambda text: read_label(text) or ("red", "circle"), "do not guess"),
    (check_read_label, lambda text: list(read_label(text)), "expected ('red', 'circle')"),
    (
        check_read_label,
        lambda text: None if "orange" in text else read_label(text),
        "The label of 'a orange circle'",
    ),
    (check_number_of_captions, 48 * 48, "a red circle and a red circle"),
    (check_number_of_captions, 48 * 47, "a red circle and a red square"),
    (check_number_of_captions, 840, "two captions"),
    (check_number_of_captions, 48 + 35, "multiply"),
    (check_number_of_captions, 12, "The number is 12; expected 1680"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    with pytest.raises(CheckFailed, match=re.escape(message)) as caught:
        check(answer)
    assert "raised" not in str(caught.value)
