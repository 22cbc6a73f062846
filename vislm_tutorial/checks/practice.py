"""Checks of chapter 5's exercises on the environment, the data and the model: pages 5.1 to 5.4."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import torch

from ..data.scenes import Scene, SceneObject
from .report import Mistake, call, compare, fail, passed, require

GPUS = {"T4": (7, 5), "A100": (8, 0), "H100": (9, 0), "B200": (10, 0)}  # compute capability


def check_half_precision(choose: Callable) -> None:
    """Page 5.1: `choose(device, capability)`: "fp32", "fp16" or "bf16".

    Raises:
        CheckFailed: naming the mistake.
    """
    slow = "On a CPU half precision is emulated, up to 200 times slower than fp32: answer fp32."
    answer = call(choose, "cpu", None)
    compare(answer, "fp32", [Mistake(half, slow) for half in ("bf16", "fp16")], "On a CPU it")
    mistakes = {
        "T4": [
            Mistake("bf16", "A T4 (7.5) says that it supports bf16, and emulates it: fp16."),
            Mistake("fp32", "A T4 (7.5) has no bf16, but its fp16 is fast."),
        ],
        "B200": [
            Mistake(
                "fp16",
                "A B200 (10.0) was taken to be older than an A100 (8.0). As text '10' comes "
                "before '8': compare numbers.",
            )
        ],
    }
    for name, capability in GPUS.items():
        right = "bf16" if capability >= (8, 0) else "fp16"
        shown = f"On a {name} {capability} it"
        compare(call(choose, "cuda", capability), right, mistakes.get(name, ()), shown)
    passed("fp32 on a CPU, fp16 before compute capability 8, bf16 from there on.")


def check_training_bytes(training_bytes: Callable[[int], int]) -> None:
    """Page 5.1: `training_bytes(parameters)`: what AdamW and an average of the weights keep.

    Raises:
        CheckFailed: naming the mistake.
    """
    n = 1_000_000
    mistakes = [
        Mistake(4 * n, "That is the weights alone. Each has a gradient, and AdamW keeps more."),
        Mistake(8 * n, "Weights and gradients are there; AdamW's two moments and the EMA are not."),
        Mistake(12 * n, "AdamW keeps two numbers a weight, and the EMA is missing."),
        Mistake(16 * n, "One is missing: weight, gradient, two moments, and ... its average."),
        Mistake(5 * n, "Five numbers a weight is right. Each takes 4 bytes in float32."),
        Mistake(40 * n, "In float32 a number takes 4 bytes, not 8."),
    ]
    for parameters in (n, 0):
        compare(call(training_bytes, parameters), 20 * parameters, mistakes, "The memory")
    passed("20 bytes a parameter, before a single activation is kept.")


def check_leaks(leaks: Callable[[list[str]], set[str]]) -> None:
    """Page 5.2: `leaks(captions)`: the set of held-out synonyms that a list of captions holds.

    Raises:
        CheckFailed: naming the mistake.
    """
    cases = (
        (["a red circle"], set(), []),
        (["an azure box"], {"azure", "box"}, []),
        (
            ["a Crimson star"],
            {"crimson"},
            [Mistake(set(), "'Crimson' with a capital was missed. Lower the case first.")],
        ),
        (
            ["three balls"],
            {"ball"},
            [Mistake(set(), "'balls' was missed. `captions.plural` gives a word's plural.")],
        ),
        (
            ["a discovery in the ballroom"],
            set(),
            [
                Mistake(
                    {"disc", "ball"}, "'discovery' and 'ballroom' leak nothing. Use whole words."
                )
            ],
        ),
        (
            ["a green plus sign"],
            {"plus", "plus sign"},
            [Mistake({"plus"}, "'plus sign' was missed: one of the synonyms is two words.")],
        ),
        (
            ["a jade star", "a lemon star"],
            {"jade", "lemon"},
            [
                Mistake({"lemon"}, "Only the last caption counted. Collect over all of them."),
                Mistake({"jade"}, "Only the first caption counted. Collect over all of them."),
            ],
        ),
    )
    for captions, right, mistakes in cases:
        answer = call(leaks, captions)
        require(
            isinstance(answer, set | frozenset),
            f"leaks returned a {type(answer).__name__}; return a set: a word leaks or does not.",
        )
        if captions == ["a green plus sign"] and answer == {"plus sign"}:
            continue  # the longer word alone says the same
        compare(set(answer), right, mistakes, f"What leaks in {captions}")
    passed("every form of a held-out word is found, and no innocent word that holds one.")


def check_same_scene(same_scene: Callable) -> None:
    """Page 5.2: `same_scene(a, b, reach)`: equal but for order and small shifts.

    Raises:
        CheckFailed: naming the mistake.
    """
    a = SceneObject("circle", "red", "medium", "solid", 0.3, 0.3)
    b = SceneObject("square", "blue", "medium", "solid", 0.7, 0.7)
    near, far = replace(a, x=0.31, y=0.29), replace(a, x=0.4)
    scene = Scene("white", (a, b))
    cases = [
        (scene, True, "A scene was said to differ from itself."),
        (Scene("white", (b, a)), True, "The order of objects means nothing; yours counted it."),
        (Scene("white", (near, b)), True, "A shift of 0.01 is within reach = 0.02: not ==."),
        (Scene("white", (far, b)), False, "A circle that moved by 0.1 in x was let pass."),
        (Scene("white", (replace(a, y=0.4), b)), False, "A shift of 0.1 in y was let pass."),
        (Scene("black", (a, b)), False, "The backgrounds differ, and it went unnoticed."),
        (Scene("white", (a,)), False, "The second scene lacks an object, and it went unnoticed."),
    ]
    other = {"shape": "star", "colour": "pink", "size": "large", "fill": "hollow"}
    cases += [
        (Scene("white", (replace(a, **{k: v}), b)), False, f"Another {k} went unnoticed.")
        for k, v in other.items()
    ]
    for compared, right, message in cases:
        answer = call(same_scene, scene, compared, 0.02)
        compare(answer, right, [Mistake(not right, message)], "same_scene(...)")
    more = "The second scene holds one object more, and it went unnoticed."
    answer = call(same_scene, Scene("white", (a,)), scene, 0.02)
    compare(answer, False, [Mistake(True, more)], "same_scene(...)")
    twins = Scene("white", (a, replace(a, x=0.5)))
    middle = Scene("white", (replace(a, x=0.4), b))
    shared = "Two circles were both paired with one. An object that has a partner is taken."
    answer = call(same_scene, twins, middle, 0.2)
    compare(answer, False, [Mistake(True, shared)], "same_scene(...)")
    passed("same background, and each object has one partner of its own within reach.")


def check_metadata(metadata: Callable[[dict[str, str]], str]) -> None:
    """Page 5.3: `metadata({file name: caption})`: the text of a metadata.jsonl.

    Raises:
        CheckFailed: naming the mistake.
    """
    captions = {"a.png": "a red kite", "b.png": 'a sign: "no"', "c.png": "a café"}
    text = call(metadata, captions)
    require(isinstance(text, str), f"metadata returned {type(text).__name__}; return the text.")
    require(
        not text.lstrip().startswith("["),
        "That is one JSON list. In a .jsonl each line is an object of its own.",
    )
    lines = [line for line in text.splitlines() if line.strip()]
    require(
        len(lines) == len(captions),
        f"3 pictures gave {len(lines)} line(s). Put each object on a line, with a line break.",
    )
    for line, (name, caption) in zip(lines, captions.items(), strict=True):
        try:
            row = json.loads(line)
        except ValueError:
            quotes = "Python's own form of a dict has single quotes, JSON double ones."
            inner = "Quotation marks inside a caption must be escaped."
            fail(f"{line} is not JSON. {quotes if chr(39) in line else inner} Use json.dumps.")
        require(isinstance(row, dict), f"{line} is no object; expected {{...}}.")
        require(
            "file_name" in row, f"{line} does not name its picture: the key is called file_name."
        )
        said = row.get("text", row.get("caption"))
        require(said is not None, f"{line} has no caption: the key is called text.")
        require(
            (row["file_name"], said) == (name, caption),
            f"{line} should name {name!r} and say {caption!r}.",
        )
    passed("a line a picture, each valid JSON, quotation marks and accents included.")


def check_centre_square(centre_square: Callable[[int, int], tuple]) -> None:
    """Page 5.3: `centre_square(width, height)`: (left, top, right, bottom), as PIL's crop takes.

    Raises:
        CheckFailed: naming the mistake.
    """
    for width, height in ((100, 60), (60, 100), (50, 50)):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        mistakes = [
            Mistake((0, 0, side, side), "That is the corner. Cut as much from both ends."),
            Mistake((0, 0, width, height), "That is the whole picture, which is no square."),
            Mistake(
                (left, top, side, side),
                "The third and fourth number are the right and lower edge, not width and height.",
            ),
            Mistake(
                (left, top, left + max(width, height), top + max(width, height)),
                "The square must fit: its side is the shorter one.",
            ),
        ]
        answer = call(centre_square, width, height)
        shown = f"The square of a {width} x {height} picture"
        compare(_floats(answer), (left, top, left + side, top + side), mistakes, shown)
    passed("the largest square, in the middle, of wide and of tall pictures.")


def _floats(answer):
    try:
        return tuple(float(number) for number in answer)
    except TypeError:
        return answer


def check_noisy(noisy: Callable) -> None:
    """Page 5.4: `noisy(x0, noise, sigma)`: x_sigma for (B, C, h, w) and one sigma each, (B,).

    Raises:
        CheckFailed: naming the mistake.
    """
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 2, 4, 4, generator=generator)  # B = w: wrong axes go unnoticed
    sigma = torch.tensor([0.0, 0.25, 0.6, 1.0])
    level = sigma[:, None, None, None]
    right = (1 - level) * x0 + level * noise
    mistakes = [
        Mistake(
            level * x0 + (1 - level) * noise,
            "That runs backwards: sigma = 0 must give the picture, sigma = 1 the noise.",
        ),
        Mistake(
            (1 - level).sqrt() * x0 + level.sqrt() * noise,
            "Square roots belong to diffusion's variance-preserving path. A flow's is straight.",
        ),
        Mistake(
            (1 - sigma) * x0 + sigma * noise,
            "sigma of shape (B,) was spread over the last axis, so each column of the picture has "
            "its own level. Make it (B, 1, 1, 1).",
        ),
        Mistake(x0 + level * noise, "The noise was added, but the picture must fade by 1 - sigma."),
    ]
    compare(call(noisy, x0, noise, sigma), right, mistakes, "x_sigma")
    passed("a straight line from the picture to the noise, with a level of its own for each.")


def check_psnr(psnr: Callable) -> None:
    """Page 5.4: `psnr(a, b)` in dB for images (3, H, W) in [-1, 1].

    Raises:
        CheckFailed: naming the mistake.
    """
    a = torch.zeros(3, 8, 8)
    for error in (0.1, 0.02):
        mse = error**2
        right = 10 * math.log10(4 / mse)
        mistakes = [
            Mistake(
                10 * math.log10(1 / mse),
                "6 dB too low: from -1 to 1 the range is 2, and its square 4.",
            ),
            Mistake(10 * math.log10(255**2 / mse), "255 is the range of bytes; here it is 2 wide."),
            Mistake(10 * math.log10(2 / mse), "The range, 2, goes in squared."),
            Mistake(10 * math.log(4 / mse), "That is the natural logarithm; decibels have log10."),
            Mistake(math.log10(4 / mse), "These are bels. A decibel is a tenth: times 10."),
            Mistake(20 * math.log10(4 / mse), "20 goes with amplitudes; a mean square takes 10."),
            Mistake(-right, "The sign is turned: a smaller error has the higher PSNR."),
        ]
        answer = call(psnr, a, a + error)
        compare(answer, right, mistakes, f"With every pixel off by {error} the PSNR", 1e-4)
    passed("26 dB for an error of 0.1, 40 dB for 0.02.")
