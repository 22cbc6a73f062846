"""Checks of page 5.12's exercises: what a GPU changes."""

from __future__ import annotations

from collections.abc import Callable

from .report import Mistake, call, compare, passed


def check_loss_scale(loss_scale: Callable[[float], float]) -> None:
    """`loss_scale(largest)`: the largest power of two at which that gradient stays finite in fp16.

    Raises:
        CheckFailed: naming the mistake.
    """
    for largest, right in ((0.1, 2.0**19), (1.0, 2.0**15), (300.0, 2.0**7), (1e-4, 2.0**29)):
        mistakes = [
            Mistake(
                2 * right,
                "One doubling too far: the gradient becomes infinite, and the step is skipped. "
                "Round down.",
            ),
            Mistake(
                right / 2,
                "One more doubling would still be finite: fp16 ends at 65,504, not 32,768.",
            ),
            Mistake(
                65504 / largest,
                "That just fits, but is no power of two. Such a scale would round every gradient; "
                "a power of two moves the exponent alone.",
            ),
            Mistake(
                2.0**16, "2 to the 16 is where GradScaler starts. The answer depends on `largest`."
            ),
            Mistake(1 / right, "Upside down: a small gradient can take a large scale."),
        ]
        answer = call(loss_scale, largest)
        compare(answer, right, mistakes, f"The scale for a largest gradient of {largest:g}")
    passed("the largest power of two that keeps the largest gradient at or below 65,504.")


def check_number_format(number_format: Callable[[float, float, float], str]) -> None:
    """`number_format(smallest, largest, spacing)`: "fp16", "bf16" or "fp32".

    Raises:
        CheckFailed: naming the mistake.
    """
    cases = (
        ((1e-3, 100.0, 1e-3), "fp16", {"bf16": "Between neighbours bf16 leaves 0.0078: too much."}),
        (
            (1e-3, 100.0, 1e-2),
            "fp16",
            {"bf16": "Both hold these numbers. Take the one with the finer spacing, fp16."},
        ),
        ((1e-8, 1.0, 1e-2), "bf16", {"fp16": "1e-8 is below fp16's smallest normal, 6.1e-05."}),
        ((1e-3, 1e5, 1e-2), "bf16", {"fp16": "1e5 is infinite in fp16, which ends at 65,504."}),
        (
            (1e-8, 1.0, 1e-3),
            "fp32",
            {
                "bf16": "bf16 has the range, but 0.0078 between neighbours where 0.001 was asked.",
                "fp16": "fp16 has the spacing, but 1e-8 is below its smallest normal number.",
            },
        ),
        (
            (1e-6, 1.0, 1e-3),
            "fp32",
            {
                "fp16": "1e-6 is a subnormal number of fp16: it is there, but with few of its "
                "digits. Compare with finfo.tiny, not with the smallest number above 0.",
            },
        ),
        ((1e-3, 1.0, 1e-6), "fp32", {"fp16": "fp16 leaves 0.00098 between neighbours."}),
    )
    for arguments, right, wrong in cases:
        mistakes = [Mistake(name, message) for name, message in wrong.items()]
        mistakes += [Mistake("fp32", "Right, but twice as long as it need be.")]
        compare(call(number_format, *arguments), right, mistakes, f"The format for {arguments}")
    passed("fp16 for few sizes and more digits, bf16 for all sizes and few digits, else fp32.")


def check_step_flops(step_flops: Callable[[float, float], float]) -> None:
    """`step_flops(forward, in_blocks)`: FLOPs of a training step with checkpointed blocks.

    Raises:
        CheckFailed: naming the mistake.
    """
    forward, in_blocks = 10.0, 8.0
    mistakes = [
        Mistake(3 * forward, "That is a step without checkpointing: forward once, backward twice."),
        Mistake(4 * forward, "Only what is in blocks is computed again."),
        Mistake(forward * 4 / 3, "4/3 of a whole step, not of its forward pass."),
        Mistake(2 * forward + in_blocks, "The backward pass costs two forward passes, not one."),
        Mistake(
            3 * forward + 3 * in_blocks,
            "The second time a block runs forward only: its backward pass is counted already.",
        ),
    ]
    compare(call(step_flops, forward, in_blocks), 38.0, mistakes, "The step's FLOPs")
    compare(call(step_flops, 3.0, 3.0), 12.0, what="With everything in blocks, FLOPs of a step")
    compare(call(step_flops, 3.0, 0.0), 9.0, what="With nothing in blocks, FLOPs of a step")
    passed("three forward passes' worth, and one more of what is in blocks: 4/3 if all is.")
