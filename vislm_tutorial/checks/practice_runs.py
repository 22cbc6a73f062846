"""Checks of chapter 5's exercises on training, evaluation and drawing: pages 5.5 to 5.7."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..data.scenes import SceneObject, relations
from .report import Mistake, call, compare, fail, passed, require


def check_average(average: Callable) -> None:
    """Page 5.5: `average(old, weights, decay)`: one update of an exponential moving average.

    Raises:
        CheckFailed: naming the mistake.
    """
    old, weights = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    for decay in (0.9, 0.0, 1.0):
        right = decay * old + (1 - decay) * weights
        mistakes = [
            Mistake(
                (1 - decay) * old + decay * weights,
                "The two are swapped: with decay near 1 the average must hardly move.",
            ),
            Mistake(
                decay * old + weights, "The shares add up to more than 1: weights need 1 - decay."
            ),
            Mistake((old + weights) / 2, "The decay is not used."),
        ]
        answer = call(average, old.clone(), weights.clone(), decay)
        compare(answer, right, mistakes, f"At decay {decay:g} the average")
    passed("decay 1 keeps the average, decay 0 takes the weights, 0.9 moves a tenth of the way.")


def check_drop(drop: Callable[[list[str], float, int], list[str]]) -> None:
    """Page 5.5: `drop(captions, share, seed)`: some captions replaced by the empty one.

    Raises:
        CheckFailed: naming the mistake.
    """
    captions = [f"caption {i}" for i in range(2000)]
    answer = call(drop, captions, 0.1, 0)
    require(
        isinstance(answer, list) and len(answer) == len(captions),
        "A dropped caption must keep its place, as ''. Taken out of the list, all that follow "
        "belong to the wrong pictures.",
    )
    require(None not in answer, "None is no caption. The encoder knows the empty one: ''.")
    changed = [kept for kept, said in zip(answer, captions, strict=True) if kept not in (said, "")]
    require(not changed, f"{changed[:1]} stands in another's place: what is kept stays as it is.")
    share = answer.count("") / len(captions)
    require(
        0 < share < 1,
        "All captions were dropped, or none. Throw a coin for each, not one for the batch.",
    )
    require(
        not 0.85 < share < 0.95, "You kept the share that was to be dropped: rand() < share drops."
    )
    require(0.05 < share < 0.15, f"Of 2,000 captions {share:.0%} were dropped; expected about 10%.")
    require(call(drop, captions, 0.1, 0) == answer, "The same seed gave another choice.")
    require(
        call(drop, captions, 0.1, 1) != answer,
        "Seeds 0 and 1 drop the same captions. These pictures would never be seen with theirs.",
    )
    for limit, right in ((0.0, captions), (1.0, [""] * len(captions))):
        compare(call(drop, captions, limit, 0), right, what=f"With share = {limit:g} the list")
    passed("about a tenth is empty, each in its place, and another tenth with another seed.")


def check_epochs(epochs: Callable[[int, int, int, int, int], float]) -> None:
    """Page 5.5: `epochs(steps, batch_size, accumulation, processes, pictures)`.

    Raises:
        CheckFailed: naming the mistake.
    """
    steps, batch, accumulation, processes, pictures = 1000, 32, 4, 2, 64_000
    right = steps * batch * accumulation * processes / pictures
    mistakes = [
        Mistake(
            right / accumulation, "A step is one update, and all accumulated batches are in it."
        ),
        Mistake(right / processes, "Every process draws a batch of its own."),
        Mistake(right / accumulation / processes, "Accumulation and processes both multiply."),
        Mistake(1 / right, "Upside down: pictures seen, divided by pictures there are."),
        Mistake(right * pictures, "That is how many pictures pass. Divide by how many there are."),
    ]
    answer = call(epochs, steps, batch, accumulation, processes, pictures)
    compare(answer, right, mistakes, "The number of epochs")
    compare(call(epochs, 10, 8, 1, 1, 160), 0.5, what="10 steps of 8 over 160 pictures, in epochs,")
    passed("steps x batch x accumulation x processes / pictures; half an epoch counts as half.")


def check_above(above: Callable[[SceneObject, SceneObject], bool]) -> None:
    """Page 5.6: `above(a, b)` by GenEval's rule.

    Raises:
        CheckFailed: naming the mistake.
    """

    def at(x: float, y: float) -> SceneObject:
        return SceneObject("square", "red", "large", "solid", x, y)

    middle = at(0.5, 0.5)
    cases = (
        (
            at(0.5, 0.1),
            "Straight above was not accepted. y grows downwards: what is above has a smaller y; "
            "and r is compared with 0.5 after it was divided by the distance.",
        ),
        (at(0.5, 0.9), "What lies below was taken for above: y grows downwards."),
        (at(0.5, 0.47), "A thirtieth of the side higher is no 'above': subtract the margin first."),
        (at(0.1, 0.4), "Far to the left and a little higher is 'left of': divide by the distance."),
        (at(0.1, 0.12), "A diagonal is left of and above at once: each part is over half."),
        (
            at(0.1, 0.225),
            "Nearly right. The margin is 0.1 of both boxes' full heights, not of their halves.",
        ),
    )
    for a, message in cases:
        right = "above" in relations(a, middle)
        shown = f"above for centres ({a.x}, {a.y}) and (0.5, 0.5)"
        compare(call(above, a, middle), right, [Mistake(not right, message)], shown)
    passed("straight above and on a diagonal, but not beside and not by a hair.")


def check_interval(interval: Callable[[list[bool], int], tuple[float, float]]) -> None:
    """Page 5.6: `interval(correct, seed)`: the bootstrap's 95 % interval of a share.

    Raises:
        CheckFailed: naming the mistake.
    """
    few = [True] * 13 + [False] * 7
    low, high = _pair(call(interval, few, 0))
    require(low <= high, f"({low}, {high}) is upside down: the lower end comes first.")
    require(
        high > low,
        "The interval is a point: every round gave the same share. Draw with replacement, or each "
        "round holds the same answers in another order.",
    )
    require(
        low < 0.65 < high,
        f"({low:.2f}, {high:.2f}) does not hold the share itself: 13 of 20 is 0.65.",
    )
    width = high - low
    require(
        width < 0.55,
        f"({low:.2f}, {high:.2f}) is too wide for 13 of 20. Ends are the 2.5 and 97.5 per cent "
        "quantiles of the rounds' shares, not the extremes, nor the spread of single answers.",
    )
    require(
        width > 0.31,
        f"({low:.2f}, {high:.2f}) is too narrow for 13 of 20. 95 % is about two standard errors "
        "to each side; is it one, or were more than 20 answers drawn in a round?",
    )
    low, high = _pair(call(interval, 20 * few, 0))
    require(
        0.05 < high - low < 0.14,
        f"260 of 400 gave ({low:.2f}, {high:.2f}). Twenty times the prompts make it some 4.5 times "
        "narrower: a round draws as many answers as there are.",
    )
    passed("about +- 0.2 for 20 prompts, +- 0.05 for 400: the root of n.")


def _pair(answer) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in answer)
    except (TypeError, ValueError):
        fail(f"interval returned {answer!r}; return its two ends: (low, high).")
    return low, high


def check_overall(overall: Callable[[dict[str, list[bool]]], float]) -> None:
    """Page 5.6: `overall({task: [right or wrong, ...]})`: GenEval's overall score.

    Raises:
        CheckFailed: naming the mistake.
    """
    results = {"single_object": [True] * 8, "counting": [True, False], "position": [False] * 4}
    mistakes = [
        Mistake(9 / 14, "That is the share of all pictures. A task with many prompts weighs more."),
        Mistake(1.5, "That is the sum over tasks. Divide by their number."),
        Mistake(0.0, "Is the score that of the last task, or of the worst? Take the mean of all."),
    ]
    compare(call(overall, results), 0.5, mistakes, "The overall score")
    passed("each task's share first, then their plain mean, however many prompts each has.")


def check_calls(calls: Callable[[int, float, str], int]) -> None:
    """Page 5.7: `calls(steps, guidance_scale, scheduler)`: passes through the backbone a picture.

    Raises:
        CheckFailed: naming the mistake.
    """
    cases = (
        (
            (20, 1.0, "euler"),
            20,
            {40: "At guidance 1 nothing is asked of the empty caption."},
        ),
        ((20, 3.0, "euler"), 40, {20: "Guidance asks twice a step: with the caption and without."}),
        ((20, 0.0, "euler"), 40, {20: "Only 1 spares the second question; 0 is guidance too."}),
        (
            (20, 1.0, "heun"),
            39,
            {
                20: "Heun asks twice a step: once at its start, once where Euler would end.",
                40: "Heun's last step ends at sigma = 0 and asks nothing there: 2 n - 1.",
            },
        ),
        ((20, 3.0, "heun"), 78, {39: "Heun and guidance both double.", 80: "2 n - 1, doubled."}),
    )
    for arguments, right, wrong in cases:
        mistakes = [Mistake(answer, message) for answer, message in wrong.items()]
        compare(call(calls, *arguments), right, mistakes, f"The number of calls for {arguments}")
    passed("n, doubled by guidance; 2 n - 1 with Heun.")
