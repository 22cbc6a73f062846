"""The checks of the page on control accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest

from vislm_tutorial.checks import CheckFailed, check_entropy_of, check_isolation
from vislm_tutorial.evaluation.control import entropy


def kept(before, after, moved):
    """By pair: the names of the attributes, without the moved one, that stayed."""
    names = [name for name in vars(before[0]) if name != moved]
    return [
        [getattr(a, name) == getattr(b, name) for name in names]
        for a, b in zip(before, after, strict=True)
    ]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def isolation(before, after, moved):
    return mean(all(pair) for pair in kept(before, after, moved))


def moved_stays(before, after, moved):
    return mean(getattr(a, moved) == getattr(b, moved) for a, b in zip(before, after, strict=True))


def shares(labels):
    return [number / len(labels) for number in Counter(labels).values()]


@pytest.mark.parametrize(
    ("check", "answer", "verified"),
    [
        (check_isolation, isolation, "everything but the moved attribute stayed"),
        (check_entropy_of, entropy, "3 for eight that all differ"),
        (
            check_entropy_of,
            lambda labels: sum(p * math.log2(1 / p) for p in shares(labels)),
            "0 bits when all are alike",
        ),
    ],
)
def test_right_answers_pass_and_say_what_was_verified(check, answer, verified, capsys):
    check(answer)
    assert re.fullmatch(f"Right: .*{re.escape(verified)}.*\n", capsys.readouterr().out)


WRONG = [
    (
        check_isolation,
        lambda b, a, m: mean(x == y for x, y in zip(b, a, strict=True)),
        "nothing changed at all",
    ),
    (check_isolation, lambda b, a, m: 1 - isolation(b, a, m), "one minus the answer"),
    (
        check_isolation,
        lambda b, a, m: mean(x.differs(y) == {m} for x, y in zip(b, a, strict=True)),
        "the moved attribute has changed",
    ),
    (check_isolation, moved_stays, "how often the moved attribute stayed"),
    (check_isolation, lambda b, a, m: 1 - moved_stays(b, a, m), "compares the moved attribute"),
    (
        check_isolation,
        lambda b, a, m: mean(mean(pair) for pair in kept(b, a, m)),
        "averaged over the attributes",
    ),
    (
        check_isolation,
        lambda b, a, m: mean(any(pair) for pair in kept(b, a, m)),
        "all(...), not any(...)",
    ),
    (
        check_isolation,
        lambda b, a, m: sum(all(pair) for pair in kept(b, a, m)),
        "That is a number of pairs",
    ),
    (check_isolation, lambda b, a, m: isolation(b, a, "colour"), "'colour' is built in"),
    (check_isolation, lambda b, a, m: None, "Does it end in `return`"),
    (check_entropy_of, lambda x: entropy(x) * math.log(2), "in nats"),
    (check_entropy_of, lambda x: entropy(x) * math.log10(2), "Base 10"),
    (check_entropy_of, lambda x: -entropy(x), "sign is turned"),
    (check_entropy_of, lambda x: math.log2(len(set(x))), "only if all are equally frequent"),
    (
        check_entropy_of,
        lambda x: -sum(x.count(y) / len(x) * math.log2(x.count(y) / len(x)) for y in x),
        "The sum went over all labels",
    ),
    (check_entropy_of, lambda x: -sum(map(math.log2, shares(x))), "must be weighted by p"),
    (
        check_entropy_of,
        lambda x: -sum(n * math.log2(n) for n in Counter(x).values()),
        "Counts are no shares yet",
    ),
    (
        check_entropy_of,
        lambda x: sum(n * math.log2(n) for n in Counter(x).values()),
        "Counts are no shares yet",
    ),
    (check_entropy_of, lambda x: -mean(map(math.log2, shares(x))), "the plain mean of -log2 p"),
    (check_entropy_of, lambda x: entropy([y for y in x if y is not None]), "None is a label too"),
    (
        check_entropy_of,
        lambda x: entropy(x) if len(set(x)) != 4 else 2.2,
        "expected 1.75",
    ),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    with pytest.raises(CheckFailed, match=re.escape(message)) as caught:
        check(answer)
    assert "raised" not in str(caught.value)
