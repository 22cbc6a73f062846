"""Chapter 5's checks accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import (
    check_above,
    check_average,
    check_calls,
    check_centre_square,
    check_drop,
    check_epochs,
    check_half_precision,
    check_interval,
    check_leaks,
    check_metadata,
    check_noisy,
    check_overall,
    check_psnr,
    check_same_scene,
    check_training_bytes,
)
from vislm_tutorial.data.captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS, plural
from vislm_tutorial.data.scenes import relations

SYNONYMS = [w for table in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for ws in table.values() for w in ws]


def choose(device, capability):
    if device == "cpu":
        return "fp32"
    return "bf16" if capability >= (8, 0) else "fp16"


def leaks(captions):
    forms = {word: rf"\b({re.escape(word)}|{re.escape(plural(word))})\b" for word in SYNONYMS}
    return {w for w, form in forms.items() if any(re.search(form, c, re.I) for c in captions)}


def same_scene(a, b, reach):
    left = list(b.objects)
    for o in a.objects:
        partner = next((r for r in left if _alike(o, r, reach)), None)
        if partner is None:
            return False
        left.remove(partner)
    return a.background == b.background and not left


def _alike(o, r, reach):
    looks = [(x.shape, x.colour, x.size, x.fill) for x in (o, r)]
    return looks[0] == looks[1] and max(abs(o.x - r.x), abs(o.y - r.y)) <= reach


def metadata(captions):
    return "\n".join(json.dumps({"file_name": n, "text": t}) for n, t in captions.items())


def centre_square(width, height):
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def noisy(x0, noise, sigma):
    level = sigma[:, None, None, None]
    return (1 - level) * x0 + level * noise


def psnr(a, b):
    return 10 * torch.log10(4 / (a - b).square().mean())


def drop(captions, share, seed):
    coins = torch.rand(len(captions), generator=torch.Generator().manual_seed(seed))
    return ["" if coin < share else c for coin, c in zip(coins, captions, strict=True)]


def interval(correct, seed):
    rounds = np.random.default_rng(seed).choice(correct, (4000, len(correct))).mean(axis=1)
    return tuple(np.quantile(rounds, (0.025, 0.975)))


def overall(results):
    return sum(sum(task) / len(task) for task in results.values()) / len(results)


def calls(steps, scale, scheduler):
    asked = 2 * steps - 1 if scheduler == "heun" else steps
    return asked if scale == 1 else 2 * asked


RIGHT = [
    (check_half_precision, choose),
    (check_training_bytes, lambda n: 20 * n),
    (check_leaks, leaks),
    (check_same_scene, same_scene),
    (check_metadata, metadata),
    (check_centre_square, centre_square),
    (check_noisy, noisy),
    (check_psnr, psnr),
    (check_average, lambda old, new, decay: decay * old + (1 - decay) * new),
    (check_drop, drop),
    (check_epochs, lambda s, b, a, p, n: s * b * a * p / n),
    (check_above, lambda a, b: "above" in relations(a, b)),
    (check_interval, interval),
    (check_overall, overall),
    (check_calls, calls),
]
WRONG = [
    (check_half_precision, lambda d, c: "bf16", "On a CPU half precision is emulated"),
    (check_half_precision, lambda d, c: "fp32" if d == "cpu" else "bf16", "emulates it: fp16"),
    (
        check_half_precision,
        lambda d, c: "fp32" if d == "cpu" else "bf16" if str(c[0]) >= "8" else "fp16",
        "compare numbers",
    ),
    (check_training_bytes, lambda n: 4 * n, "the weights alone"),
    (check_training_bytes, lambda n: 16 * n, "its average"),
    (check_training_bytes, lambda n: 5 * n, "takes 4 bytes"),
    (
        check_leaks,
        lambda captions: {w for w in SYNONYMS if any(w in c.lower() for c in captions)},
        "Use whole words",
    ),
    (
        check_leaks,
        lambda captions: {w for w in SYNONYMS for c in captions if w in c.lower().split()},
        "'balls' was missed",
    ),
    (check_same_scene, lambda a, b, reach: a == b, "order of objects means nothing"),
    (
        check_same_scene,
        lambda a, b, reach: (
            a.background == b.background
            and all(any(_alike(o, r, reach) for r in b.objects) for o in a.objects)
        ),
        "object more",
    ),
    (check_metadata, lambda c: json.dumps([{"file_name": n} for n in c]), "one JSON list"),
    (
        check_metadata,
        lambda c: "\n".join(str({"file_name": n, "text": t}) for n, t in c.items()),
        "single quotes",
    ),
    (check_centre_square, lambda w, h: (0, 0, min(w, h), min(w, h)), "That is the corner"),
    (check_centre_square, lambda w, h: (0, 0, w, h), "whole picture"),
    (check_noisy, lambda x0, noise, sigma: (1 - sigma) * x0 + sigma * noise, "last axis"),
    (check_noisy, lambda x0, noise, sigma: noisy(noise, x0, sigma), "runs backwards"),
    (check_psnr, lambda a, b: 10 * torch.log10(1 / (a - b).square().mean()), "square"),
    (check_psnr, lambda a, b: 10 * math.log(4 / (a - b).square().mean()), "natural logarithm"),
    (check_average, lambda old, new, decay: decay * new + (1 - decay) * old, "swapped"),
    (check_average, lambda old, new, decay: (old + new) / 2, "decay is not used"),
    (check_drop, lambda c, share, seed: [x for x in c if hash(x) % 10], "keep its place"),
    (check_drop, lambda c, share, seed: [""] * len(c), "Throw a coin for each"),
    (check_drop, lambda c, share, seed: drop(c, 1 - share, seed), "share that was to be dropped"),
    (check_drop, lambda c, share, seed: drop(c, share, 0), "Seeds 0 and 1"),
    (check_epochs, lambda s, b, a, p, n: s * b * p / n, "accumulated batches are in it"),
    (check_epochs, lambda s, b, a, p, n: n / (s * b * a * p), "Upside down"),
    (check_above, lambda a, b: a.y > b.y, "y grows downwards"),
    (check_above, lambda a, b: a.y < b.y, "no 'above'"),
    (check_interval, lambda correct, seed: (0.65, 0.65), "a point"),
    (check_interval, lambda correct, seed: (0.0, 1.0), "too wide"),
    (check_interval, lambda correct, seed: interval(correct, seed)[::-1], "upside down"),
    (check_overall, lambda r: sum(map(sum, r.values())) / 14, "weighs more"),
    (check_overall, lambda r: 3 * overall(r), "sum over tasks"),
    (check_calls, lambda steps, scale, scheduler: steps, "asks twice a step"),
    (check_calls, lambda s, w, name: calls(s, 3.0, name), "At guidance 1"),
]
