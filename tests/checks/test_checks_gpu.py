"""The checks of "What a GPU changes" accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_loss_scale, check_number_format, check_step_flops


def loss_scale(largest: float) -> float:
    return 2.0 ** math.floor(math.log2(torch.finfo(torch.float16).max / largest))


def number_format(smallest, largest, spacing, below=lambda info: info.tiny) -> str:
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        info = torch.finfo(dtype)
        if below(info) <= smallest and largest <= info.max and info.eps <= spacing:
            return name
    return "fp32"


def subnormal(smallest, largest, spacing) -> str:
    return number_format(smallest, largest, spacing, lambda info: info.tiny * info.eps)


def bf16_first(smallest, largest, spacing) -> str:
    return "bf16" if spacing >= 1e-2 else number_format(smallest, largest, spacing)


def by_range(smallest, largest, spacing) -> str:
    small = smallest >= 6.1e-5 and largest <= 65504
    return "fp16" if small else "bf16"


def by_spacing(smallest, largest, spacing) -> str:
    return "fp16" if spacing >= 1e-3 else "fp32"


RIGHT = [
    (check_loss_scale, loss_scale),
    (check_number_format, number_format),
    (check_step_flops, lambda forward, in_blocks: 3 * forward + in_blocks),
]
WRONG = [
    (check_loss_scale, lambda x: 2.0 ** math.ceil(math.log2(65504 / x)), "One doubling too far"),
    (check_loss_scale, lambda x: 2.0 ** math.floor(math.log2(32768 / x) - 1e-9), "One more"),
    (check_loss_scale, lambda x: 65504 / x, "no power of two"),
    (check_loss_scale, lambda x: 2.0**16, "where GradScaler starts"),
    (check_loss_scale, lambda x: 1 / loss_scale(x), "Upside down"),
    (check_number_format, subnormal, "subnormal"),
    (check_number_format, bf16_first, "finer spacing"),
    (check_number_format, by_range, "bf16 has the range"),
    (check_number_format, by_spacing, "below fp16's smallest normal"),
    (check_number_format, lambda *_: "fp32", "twice as long"),
    (check_step_flops, lambda forward, in_blocks: 3 * forward, "without checkpointing"),
    (check_step_flops, lambda forward, in_blocks: 4 * forward, "Only what is in blocks"),
    (check_step_flops, lambda forward, in_blocks: forward * 4 / 3, "not of its forward pass"),
    (check_step_flops, lambda forward, in_blocks: 2 * forward + in_blocks, "two forward passes"),
    (check_step_flops, lambda forward, in_blocks: 3 * (forward + in_blocks), "forward only"),
]
