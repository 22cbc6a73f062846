"""Checks of the page on collecting and re-tuning: drift, the gate, and what may be shown."""

from __future__ import annotations

from collections.abc import Callable

from .report import Mistake, call, compare, passed


def check_risen(risen: Callable[[list[bool], list[bool]], bool]) -> None:
    """`risen(before, after)`: has a share risen for sure: do the intervals lie apart?

    Raises:
        CheckFailed: naming the mistake.
    """

    def flags(true: int, n: int) -> list[bool]:
        return [True] * true + [False] * (n - true)

    cases = (
        (
            flags(0, 50),
            flags(20, 50),
            True,
            "From 0 of 50 to 20 of 50 the intervals lie far apart: compare the new low end with "
            "the old high end.",
        ),
        (
            flags(3, 50),
            flags(6, 50),
            False,
            "3 and 6 of 50 may be luck: their intervals overlap. A larger share is not enough.",
        ),
        (flags(20, 50), flags(0, 50), False, "The share fell. Asked was whether it rose."),
        (
            flags(60, 1000),
            flags(120, 1000),
            True,
            "The same shares as 3 and 6 of 50, of 1,000 captions: now it is sure. Does your "
            "interval get narrower with n?",
        ),
        (
            flags(0, 10),
            flags(2, 10),
            False,
            "An interval around 0 of 10 has a width: 0 seen is not 0 for sure.",
        ),
    )
    for before, after, right, message in cases:
        shown = f"For {sum(before)} of {len(before)}, then {sum(after)} of {len(after)}, it"
        compare(call(risen, before, after), right, [Mistake(not right, message)], shown)
    passed("surely more only when the intervals lie apart; the same shares need enough captions.")


def check_accept(accept: Callable[[list, list, list, list], bool]) -> None:
    """`accept(old_before, old_after, new_before, new_after)`: the gate's rule, margin 0.1.

    Raises:
        CheckFailed: naming the mistake.
    """
    good, bad = [True] * 40, [False] * 40
    cases = (
        ((good, good, bad, good), True, "Nothing lost, everything won: let it through."),
        (
            (good, bad, bad, good),
            False,
            "All old captions are lost. What is won elsewhere does not make up for that.",
        ),
        (
            (good, good, bad, bad),
            False,
            "Nothing is won: why replace a model that is as good? The new captions' low end must "
            "be above 0.",
        ),
        (
            (good, good, bad, [True] * 1 + [False] * 39),
            False,
            "One caption of 40 may be luck: ask the interval's low end, not the difference.",
        ),
        (
            (good, [True] * 37 + [False] * 3, bad, good),
            False,
            "3 of 40 lost is 0.075, inside the margin, but the loss may be as large as 0.15: ask "
            "the low end of the old captions, too.",
        ),
        (
            ([True] * 200, [True] * 197 + [False] * 3, bad, good),
            True,
            "3 of 200 lost: surely less than 0.1. A rule without any loss accepts nothing.",
        ),
    )
    for answers, right, message in cases:
        shares = ", ".join(f"{sum(a)}/{len(a)}" for a in answers)
        shown = f"For {shares} right (old before, after; new before, after) the answer"
        compare(call(accept, *answers), right, [Mistake(not right, message)], shown)
    passed("surely better on new captions, and on old ones surely not worse than the margin.")


def check_reportable(reportable: Callable[[list[list[str]], set[str], int], set[str]]) -> None:
    """`reportable(captions, known, least)`: unknown words that enough captions have.

    Raises:
        CheckFailed: naming the mistake.
    """
    captions = [["crimson", "disc"]] * 3 + [["zoe"] * 5, ["red", "disc"], ["crimson", "circle"]]
    known = {"red", "circle"}
    right = {"crimson", "disc"}
    mistakes = [
        Mistake(
            right | {"zoe"},
            "One caption says zoe five times. Count captions, not words: a single person can "
            "repeat a name.",
        ),
        Mistake({"disc", "crimson", "red", "circle", "zoe"}, "Neither count nor known words used."),
        Mistake(set(), "Nothing left: a word in exactly `least` captions may be shown."),
        Mistake(["crimson", "disc"], "Return a set."),
    ]
    compare(call(reportable, captions, known, 4), right, mistakes, "The set of words")
    compare(
        call(reportable, captions, known, 1),
        {"crimson", "disc", "zoe"},
        [Mistake({"crimson", "disc", "zoe", "red", "circle"}, "Known words are no news.")],
        "With least = 1 the set",
    )
    passed("words that training has not, in enough captions; a name said by one stays unseen.")
