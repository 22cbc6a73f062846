"""A student that draws in a few steps, without guidance, what its teacher draws in many with it.

The teacher is a flow of a pipeline. Its guided sampler is deterministic: noise and caption decide
the picture. So the ways from noise to picture are computed once and kept, and the student learns
them by regression (Luhman & Luhman 2021, "Knowledge distillation in iterative generative models",
with the guidance folded in as in Meng et al. 2023, "On distillation of guided diffusion models").

A student makes small errors, stands where its teacher never stood, and there it errs more. So a
second round begins walks as the student goes, lets the teacher take over, and teaches what it did
(Ross et al. 2011, "DAgger").
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._files import replaced_when_complete
from ..encoders import CachedEncoder, TextEncoder
from ..generators import FlowGenerator
from ..generators.base import doubled
from ..generators.flow import TRAIN_TIMESTEPS
from ..tuning import add_difference, low_rank_difference
from ..types import Condition, TextStates, TimedCondition
from .config import TrainingConfig
from .data import derive_seed
from .datasets import SceneImages, first
from .loop import train
from .state import TrainingResult

if TYPE_CHECKING:
    from ..pipeline import VisLMPipeline

PARTS = ("fusion", "backbone")  # of a pipeline: what the student learns
SHARD = 128  # trajectories in a file: what a kill can lose, 20 seconds of one core
EMPTY_EVERY = 50  # one trajectory in so many has the empty caption


@dataclass(frozen=True)
class FewStepsConfig:
    """The student, its teacher's settings, and how it learns.

    Raises:
        ValueError: if the teacher's steps do not end where the student's do.
    """

    steps: int = 4  # K, the student's
    teacher_steps: int = 20  # a multiple of K
    guidance_scale: float = 4.0  # the teacher's; the student needs none
    flow_shift: float = 3.0  # m of both: see `levels`
    trajectories: int = 36_000  # to learn from
    validation: int = 256  # further ones, kept apart
    alike: float = 0.2  # share of captions with two to four of one kind, as the teacher had them
    seed: int = 0  # of captions and noise
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=2000,
            batch_size=32,
            learning_rate=5e-4,
            warmup_steps=100,
            schedule="trapezoid",
            decay_steps=800,
            final_lr_fraction=0.02,
            betas=(0.9, 0.98),
            ema_decay=0.998,
            validate_every=200,
            checkpoint_every=100,
            log_every=25,
        )
    )

    def __post_init__(self) -> None:
        if self.steps < 1 or self.teacher_steps % self.steps or self.teacher_steps < self.steps:
            raise ValueError(
                f"FewStepsConfig.teacher_steps={self.teacher_steps!r}; expected a multiple of "
                f"steps={self.steps!r} (1 or more), so that the teacher passes where the student "
                "stops."
            )
        if min(self.trajectories, self.validation) < 1:
            raise ValueError(
                f"FewStepsConfig has trajectories={self.trajectories!r} and "
                f"validation={self.validation!r}; expected at least 1 of each."
            )


def levels(config: FewStepsConfig) -> list[float]:
    """The student's K + 1 noise levels sigma_k, from 1 to 0.

    sigma_k = m s / (1 + (m - 1) s) with s = 1 - k / K (Esser et al. 2024, eq. 23): those of
    diffusers' Euler scheduler with `shift=m`, which is the student's.
    """
    shift, steps = config.flow_shift, config.steps
    even = [1 - k / steps for k in range(steps + 1)]
    return [shift * s / (1 + (shift - 1) * s) for s in even]


class FewSteps(nn.Module):
    """What is trained: fusion and backbone, on the teacher's points.

    At the teacher's points y_0 (noise), ..., y_K (data), with levels sigma_k, the student is asked
    for the velocity that leads to the next one:

        L = mean over k of | v(y_k, sigma_k, c) - (y_k - y_{k+1}) / (sigma_k - sigma_{k+1}) |^2.

    Of a walk that the teacher took over at y_j, what went before is not counted: k >= j.
    """

    def __init__(self, fusion: nn.Module, backbone: nn.Module, levels: Sequence[float]) -> None:
        super().__init__()
        self.fusion, self.backbone, self.levels = fusion, backbone, tuple(levels)

    def forward(self, batch: dict, generator: torch.Generator | None = None) -> Tensor:
        """Scalar loss of a batch of `Trajectories`; draws nothing."""
        points, taken, condition = batch["points"], batch["taken"], self.fusion(batch["states"])
        errors = []
        for k, (level, following) in enumerate(pairwise(self.levels)):
            rows = (taken <= k).nonzero().squeeze(1)
            now, then = points[rows, k], points[rows, k + 1]
            timestep = points.new_full((len(rows),), TRAIN_TIMESTEPS * level)
            velocity = self.backbone(now, timestep, condition[rows].at(timestep))
            asked = (now - then) / (level - following)
            errors.append((velocity - asked).square().flatten(1).mean(dim=1))
        return torch.cat(errors).mean()


# The teacher's ways, from noise to data


def captions_of(config: FewStepsConfig) -> list[str]:
    """A caption for each trajectory, those kept apart first, and for what fills the last shard."""
    n = _shards(config)[-1][1].stop
    captions = SceneImages(n, config.seed, alike=config.alike).captions
    return ["" if i % EMPTY_EVERY == 0 else caption for i, caption in enumerate(captions)]


@torch.no_grad()
def walk(
    flow: FlowGenerator,
    condition: Condition | TimedCondition,
    x: Tensor,
    sigmas: Sequence[float],
    unconditional: Condition | TimedCondition | None = None,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Euler's places from x (B, C, h, w) at sigmas[0] on: (B, len(sigmas), C, h, w), x the first.

    Like `FlowGenerator.sample`, from any level to any other.
    """
    condition, places = doubled(condition, unconditional, guidance_scale), [x]
    for level, following in pairwise(sigmas):
        x = places[-1]
        timestep = x.new_tensor(TRAIN_TIMESTEPS * level)
        velocity = flow.velocity(x, timestep, condition, guidance_scale)
        places.append(x - (level - following) * velocity)
    return torch.stack(places, dim=1)


def trajectories(
    flow: FlowGenerator,
    condition: Condition | TimedCondition,
    unconditional: Condition | TimedCondition,
    seeds: Sequence[int],
    config: FewStepsConfig,
    led: Tensor | None = None,
) -> Tensor:
    """What the teacher passes on its way: (B, K + 1, C, h, w), at the levels of the student.

    Args:
        flow: the teacher.
        condition: of B captions.
        unconditional: of the empty caption.
        seeds: B, each of the noise that one begins from.
        led: (B, j + 1, C, h, w), where a student went first; the teacher takes over at the last.
    """
    if led is None:
        led = starts(flow, condition, seeds)[:, None]
    each, after = config.teacher_steps // config.steps, led.shape[1] - 1
    sigmas = levels(replace(config, steps=config.teacher_steps))[after * each :]
    places = walk(flow, condition, led[:, -1], sigmas, unconditional, config.guidance_scale)
    return torch.cat([led, places[:, each::each]], dim=1)


def starts(flow: FlowGenerator, condition: Condition, seeds: Sequence[int]) -> Tensor:
    """The noise that each seed stands for: (B, C, h, w)."""
    return flow.noise(condition, [torch.Generator().manual_seed(seed) for seed in seeds])


def write_trajectories(
    pipe: VisLMPipeline,
    config: FewStepsConfig,
    folder: str | Path,
    part: tuple[int, int] = (0, 1),
    minutes: float = 0.0,
    say: Callable[[str], None] = print,
    student: VisLMPipeline | None = None,
) -> bool:
    """Compute what is missing in `folder`, shard by shard; whether all of this part is there.

    Args:
        student: goes first, 1 to K - 1 steps (the number changes from shard to shard), before the
            teacher takes over; None: the teacher walks all the way.
        part: (i, n): every n-th shard from the i-th on, so that n processes share the work.
        minutes: begin no shard after so long; 0: no limit.

    Raises:
        ValueError: if a shard there is of another teacher or student, or of other settings, or if
            the student has no step but its last.
    """
    if student is not None and config.steps == 1:
        raise ValueError("a student of one step leaves its teacher nothing to take over.")
    folder, start = Path(folder), time.monotonic()
    if not isinstance(pipe.generator, FlowGenerator):
        raise ValueError(f"the teacher is a {type(pipe.generator).__name__}; expected a flow.")
    captions, reader = captions_of(config), _reader(pipe.encoder)
    reader.encode([""])
    shards = _shards(config)[part[0] :: part[1]]
    stamp = _stamp(pipe, config, student)
    for done, (number, rows) in enumerate(shards):
        path = folder / f"{number:05d}.safetensors"
        if path.is_file():
            _check_stamp(path, stamp)
            continue
        if minutes and time.monotonic() - start > 60 * minutes:
            say(f"trajectories: {done} of {len(shards)} shards; the same command goes on")
            return False
        seeds = [derive_seed("trajectory", config.seed, row) for row in rows]
        with torch.no_grad():
            states = reader.encode([captions[row] for row in rows] + [""])
            states = states.to(pipe.device, pipe.fusion.dtype)
            condition, led = pipe.fusion(states), None
            if student is not None:
                own = student.fusion(states)[:-1]
                noise = starts(student.generator, own, seeds)
                first = levels(config)[: 2 + number % (config.steps - 1)]
                led = walk(student.generator, own, noise, first)
        points = trajectories(pipe.generator, condition[:-1], condition[-1:], seeds, config, led)
        taken = torch.full((len(rows),), 0 if led is None else led.shape[1] - 1)
        with replaced_when_complete(path) as temporary:
            tensors = {"points": points.half().cpu(), "taken": taken}
            save_file(tensors, temporary, {"settings": stamp})
        say(f"trajectories: {done + 1} of {len(shards)} shards, {_pace(start)}")
    return True


class Trajectories(Dataset):
    """Trajectories with the states of their captions; use `collate=first`.

    A batch is `{"points": (B, K + 1, C, h, w) float32, "taken": (B,) int64, "states": TextStates}`;
    from point number `taken` on the teacher walked.
    """

    def __init__(
        self, points: Tensor, taken: Tensor, captions: Sequence[str], encoder: TextEncoder
    ) -> None:
        self.points, self.taken, self.captions = points, taken, list(captions)
        self.encoder = encoder

    def __len__(self) -> int:
        return len(self.points)

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor | TextStates]]:
        some = self.only(rows)
        states = self.encoder.encode(some.captions)
        return [{"points": some.points.float(), "taken": some.taken, "states": states}]

    def only(self, rows: Sequence[int]) -> Trajectories:
        """Some of them.

        Raises:
            ValueError: if it is none.
        """
        rows = list(rows)
        if not rows:
            raise ValueError("no trajectory is left; a student needs some to learn from.")
        captions = [self.captions[row] for row in rows]
        return Trajectories(self.points[rows], self.taken[rows], captions, self.encoder)

    def __add__(self, other: Trajectories) -> Trajectories:
        points = torch.cat([self.points, other.points])
        taken = torch.cat([self.taken, other.taken])
        return Trajectories(points, taken, self.captions + other.captions, self.encoder)


def read_trajectories(
    pipe: VisLMPipeline,
    config: FewStepsConfig,
    folder: str | Path,
    student: VisLMPipeline | None = None,
) -> tuple[Trajectories, Trajectories]:
    """Those to learn from and those kept apart, from the shards in `folder`.

    Raises:
        FileNotFoundError: if shards are missing.
        ValueError: if one is of another teacher or student, or of other settings.
    """
    points, taken, stamp = [], [], _stamp(pipe, config, student)
    for number, _ in _shards(config):
        path = Path(folder) / f"{number:05d}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; compute the trajectories first (write_trajectories)."
            )
        _check_stamp(path, stamp)
        with safe_open(path, framework="pt") as file:
            points.append(file.get_tensor("points"))
            taken.append(file.get_tensor("taken"))
    reader, captions = _reader(pipe.encoder), captions_of(config)
    if isinstance(reader, CachedEncoder):
        reader.encode_many(captions, progress=False)
    every = Trajectories(torch.cat(points), torch.cat(taken), captions, reader)
    held, total = config.validation, config.validation + config.trajectories
    return every.only(range(held, total)), every.only(range(held))


# The student


def train_student(
    pipe: VisLMPipeline,
    config: FewStepsConfig,
    pairs: Trajectories,
    held: Trajectories,
    run_dir: str | Path,
    minutes: float = 0.0,
    begin: VisLMPipeline | None = None,
) -> TrainingResult:
    """Learn from the trajectories; resumable.

    `run_dir/pipeline` then holds the student, a pipeline like any other that draws in K steps
    with guidance 1 unless told otherwise.

    Args:
        pipe: the teacher; it stays as it is.
        pairs: to learn from.
        held: kept apart, for the loss that is logged as validation/loss.
        minutes: stop after so long, resumable; 0: no limit.
        begin: what the student is at first; None: its teacher.
    """
    run_dir, begin = Path(run_dir), begin or pipe
    model = FewSteps(copy.deepcopy(begin.fusion), copy.deepcopy(begin.backbone), levels(config))
    model.float().requires_grad_(True)
    training = replace(config.training, max_minutes=minutes) if minutes else config.training
    apart = held.__getitems__(range(len(held)))[0]

    @torch.no_grad()
    def validate(model: FewSteps) -> dict[str, float]:
        device = next(model.parameters()).device
        batch = {name: value.to(device) for name, value in apart.items()}
        return {"loss": model(batch).item()}

    result = train(
        model,
        pairs,
        training,
        run_dir / "student",
        collate=first,
        validate=validate,
        meta={
            "stage": "few_steps",
            "settings": json.loads(_stamp(pipe, config, None if begin is pipe else begin)),
            "trajectories": len(pairs),
        },
    )
    if result.stopped in ("done", "early"):
        student_pipeline(pipe, model, config).save_pretrained(run_dir / "pipeline")
    return result


def student_pipeline(pipe: VisLMPipeline, model: FewSteps, config: FewStepsConfig) -> VisLMPipeline:
    """The teacher's pipeline with the student in its place, and the student's way of drawing."""
    return type(pipe)(
        model.fusion,
        model.backbone,
        FlowMatchEulerDiscreteScheduler(TRAIN_TIMESTEPS, shift=config.flow_shift),
        pipe.autoencoder,
        pipe.encoder,
        guidance_scale=1.0,
        num_inference_steps=config.steps,
    )


def save_student(
    student: VisLMPipeline, teacher: VisLMPipeline, path: str | Path, rank: int = 64
) -> None:
    """What the student learned beyond its teacher, in one file: `tuning.low_rank_difference`."""
    tensors = {
        f"{part}.{name}": tensor
        for part in PARTS
        for name, tensor in low_rank_difference(
            getattr(student, part), getattr(teacher, part), rank
        ).items()
    }
    settings = {
        "steps": student.generator.settings["num_inference_steps"],
        "flow_shift": student.scheduler.config.shift,
        "teacher": _digest(teacher),
    }
    save_file(tensors, path, {"student": json.dumps(settings)})


def open_student(teacher: VisLMPipeline, path: str | Path) -> VisLMPipeline:
    """The student that `save_student` wrote; the teacher stays as it is.

    Raises:
        ValueError: if the file is no student's, or if another teacher's.
    """
    with safe_open(path, framework="pt") as file:
        settings = json.loads((file.metadata() or {}).get("student", "null"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if settings is None:
        raise ValueError(f"{path} holds no student; expected a file that save_student wrote.")
    if settings["teacher"] != _digest(teacher):
        raise ValueError(
            f"{path} was learned from a teacher with other weights. Open it with the pipeline that "
            "it was trained from, or train a student of this one (benchmarks/few_steps.py)."
        )
    steps = settings["steps"]
    config = FewStepsConfig(steps, teacher_steps=steps, flow_shift=settings["flow_shift"])
    networks = []
    for part in PARTS:
        networks.append(copy.deepcopy(getattr(teacher, part)).float())
        own = {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(part)}
        add_difference(networks[-1], own)
    return student_pipeline(teacher, FewSteps(*networks, levels(config)), config)


def _shards(config: FewStepsConfig) -> list[tuple[int, range]]:
    """Number and rows of each shard, all of them full, so that more trajectories only add some."""
    number = -(-(config.validation + config.trajectories) // SHARD)
    return [(i, range(i * SHARD, (i + 1) * SHARD)) for i in range(number)]


def _stamp(pipe: VisLMPipeline, config: FewStepsConfig, student: VisLMPipeline | None) -> str:
    """What decides about a trajectory, as JSON."""
    names = ("steps", "teacher_steps", "guidance_scale", "flow_shift", "alike", "seed")
    settings = {name: getattr(config, name) for name in names} | {"teacher": _digest(pipe)}
    if student is not None:
        settings["student"] = _digest(student)
    return json.dumps(settings, sort_keys=True)


def _digest(pipe: VisLMPipeline) -> str:
    """sha256 of the teacher's weights, the first 16 digits."""
    digest = hashlib.sha256()
    for part in PARTS:
        for tensor in getattr(pipe, part).state_dict().values():
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_stamp(path: Path, stamp: str) -> None:
    with safe_open(path, framework="pt") as file:
        before = (file.metadata() or {}).get("settings")
    if before != stamp:
        raise ValueError(
            f"{path} was made with {before}, now it is {stamp}. Take another folder, or delete "
            "this one to compute the trajectories anew."
        )


def _reader(encoder: TextEncoder) -> CachedEncoder | TextEncoder:
    return CachedEncoder(encoder) if encoder.tuning is None else encoder


def _pace(start: float) -> str:
    return f"{(time.monotonic() - start) / 60:.1f} minutes"
