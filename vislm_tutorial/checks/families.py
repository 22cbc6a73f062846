"""Checks of page 2.9's exercises: which differences are more than luck, which choices remain."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

from .report import Mistake, call, compare, passed, require


def check_sign_test(sign_test: Callable) -> None:
    """Page 2.9: `sign_test(a, b)`: for the same prompts, whether each was right, the p-value.

    Raises:
        CheckFailed: naming the mistake.
    """
    both = [True] * 5 + [False] * 10
    cases = [
        ([True] * 7 + [False] * 2 + both, [False] * 7 + [True] * 2 + both),
        ([False] * 6 + [True] * 4 + [False] * 3, [True] * 6 + [True] * 4 + [False] * 3),
        ([True, False] * 3, [False, True] * 3),
    ]
    for a, b in cases:
        only_a = sum(x and not y for x, y in zip(a, b, strict=True))
        only_b = sum(y and not x for x, y in zip(a, b, strict=True))
        n, fewer = only_a + only_b, min(only_a, only_b)
        tail = _tail(fewer, n)
        mistakes = [
            Mistake(tail, "That is one tail. Luck may favour either: count both, so twice it."),
            Mistake(
                min(1.0, 2 * _tail(n - fewer, n)),
                "The tail runs from the larger count down. Sum from 0 to the smaller of the two.",
            ),
            Mistake(2 * tail, "A probability above 1: the middle was counted in both tails. Cap."),
            Mistake(
                min(1.0, 2 * _tail(min(sum(a), sum(b)), len(a))),
                "Prompts on which both agree are in it. They say nothing about who is better: "
                "leave them out.",
            ),
            Mistake(
                min(1.0, 2 * _tail(fewer, len(a))),
                "n counts all prompts. Only those on which the two differ are thrown coins.",
            ),
            Mistake(
                comb(n, fewer) / 2**n,
                "That is the probability of exactly this count. Add those that are more extreme.",
            ),
            Mistake(1 - min(1.0, 2 * tail), "That is 1 minus the p-value."),
        ]
        answer = call(sign_test, a, b)
        compare(answer, min(1.0, 2 * tail), mistakes, f"For {only_a} against {only_b} it")
    for same in ([True, False, True], [True]):
        answer = call(sign_test, same, same)
        require(
            answer == 1,
            f"Two that never differ give {answer}; nothing speaks against luck, so it is 1.",
        )
    passed("two tails over the prompts on which they differ; agreement says nothing.")


def check_undominated(undominated: Callable) -> None:
    """Page 2.9: `undominated(cost, score)`: of two dicts, the names that remain.

    Raises:
        CheckFailed: naming the mistake.
    """
    cost = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 4.0, "e": 8.0, "f": 9.0}
    score = {"a": 0.3, "b": 0.5, "c": 0.4, "d": 0.5, "e": 0.9, "f": 0.8}
    answer = _names(call(undominated, dict(cost), dict(score)))
    for wrong, why in (
        (
            {"a", "b", "d", "e"},
            "d costs more than b and is no better. As good in both and better "
            "in one is enough to be dominated by.",
        ),
        (
            {"a", "b", "c", "e"},
            "c costs as much as b and is worse. As good in both and better in "
            "one is enough to be dominated by.",
        ),
        (
            {"a", "b", "c", "d", "e"},
            "c and d are left: b is as good as each of them in one thing "
            "and better in the other, and that dominates.",
        ),
        ({"e", "f"}, "Dear ones are left. A lower cost is better, a higher score is better."),
        ({"e"}, "Only the highest score is left. a is worse and cheaper: some will want that."),
        (
            {"a"},
            "Only the cheapest, or the most score for its cost, is left. Nothing is cheaper "
            "than a, but nothing scores like e.",
        ),
        ({"c", "d", "f"}, "Those are the dominated ones; the others remain."),
    ):
        require(answer != wrong, why)
    require(
        answer == {"a", "b", "e"},
        f"It left {', '.join(sorted(answer)) or 'nothing'}; expected a, b, e.",
    )
    twins = _names(call(undominated, {"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 0.5}))
    require(
        twins == {"a", "b"},
        "Of two that are equal in both neither dominates: better in one is needed.",
    )
    passed("whatever nothing else beats: as good in both and better in one.")


def _tail(k: int, n: int) -> float:
    """P(at most k heads in n throws)."""
    return sum(comb(n, i) for i in range(k + 1)) / 2**n


def _names(answer: object) -> set[str]:
    require(
        isinstance(answer, (set, list, tuple, frozenset, dict)),
        f"It gave {type(answer).__name__}; expected the names, in a set or a list.",
    )
    return set(answer)
