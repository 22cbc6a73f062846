"""Checks of the page on a service: how many wait, how many may, and when to come again."""

from __future__ import annotations

import math
from collections.abc import Callable

from .report import Mistake, call, compare, passed, require


def check_inside(inside: Callable[[float, float], float]) -> None:
    """`inside(rate, seconds)`: requests in the service on average (Little 1961).

    Raises:
        CheckFailed: naming the mistake.
    """
    for rate, seconds in ((2.0, 1.5), (0.5, 8.0), (3.0, 0.1)):
        mistakes = [
            Mistake(rate / seconds, "A slower service holds more requests, not fewer: multiply."),
            Mistake(seconds / rate, "More requests a second fill the service: multiply."),
            Mistake(
                math.ceil(rate * seconds), "An average may lie between whole numbers: no rounding."
            ),
            Mistake(
                rate * seconds / (1 - rate * seconds),
                "That is the queue of one special service. Little's law needs no such model.",
            ),
        ]
        shown = f"At {rate:g} requests a second that each stay {seconds:g} s, the number inside"
        compare(call(inside, rate, seconds), rate * seconds, mistakes, shown)
    passed("arrivals a second times the seconds that each stays, whatever happens in between.")


def check_places(places: Callable[[float, float], int]) -> None:
    """`places(timeout, seconds)`: how many may wait if the last is to be answered in time.

    Raises:
        CheckFailed: naming the mistake.
    """
    cases = (
        (
            (10.0, 1.0),
            9,
            {
                10: "The last of 10 that wait is drawn eleventh: one is being drawn already.",
                8: "One too few: with 9 waiting, the last one's picture is there after 10 s.",
                11: "The one that is being drawn takes time too; it is subtracted, not added.",
            },
        ),
        (
            (10.0, 4.0),
            1,
            {2: "Round down first, then take away the one being drawn.", 1.5: "A place is whole."},
        ),
        (
            (3.0, 5.0),
            0,
            {-1: "A queue cannot have less than 0 places."},
        ),
        ((0.3, 0.1), 2, {1: "0.3 / 0.1 is 2.9999... to a computer. Round what is almost whole."}),
    )
    for arguments, right, wrong in cases:
        mistakes = [Mistake(answer, message) for answer, message in wrong.items()]
        compare(call(places, *arguments), right, mistakes, f"The number of places for {arguments}")
    passed("as many drawings as fit into the timeout, less the one under way, and never below 0.")


def check_retry_after(retry_after: Callable[[int, float], int]) -> None:
    """`retry_after(waiting, seconds)`: whole seconds after which the queue will be empty.

    Raises:
        CheckFailed: naming the mistake.
    """
    answer = call(retry_after, 8, 0.4)
    require(
        isinstance(answer, int) and not isinstance(answer, bool),
        f"The header holds whole seconds as text; {answer!r} is no whole number.",
    )
    cases = (
        (
            (8, 0.4),
            4,
            {3: "8 wait and one is being drawn: 9 drawings of 0.4 s. And round up: 3 s is early."},
        ),
        ((3, 2.0), 8, {6: "The one that is being drawn takes its time too."}),
        ((0, 0.2), 1, {0: "0 says: at once. That starts a storm; at least 1."}),
    )
    for arguments, right, wrong in cases:
        mistakes = [Mistake(answer, message) for answer, message in wrong.items()]
        compare(call(retry_after, *arguments), right, mistakes, f"Retry-After for {arguments}")
    passed("the drawings ahead times the seconds of each, rounded up, and never 0.")
