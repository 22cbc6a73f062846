"""Four steps, without guidance: distil the shipped pipeline, and score student and teacher alike.

    python benchmarks/few_steps.py trajectories     the teacher's ways, in shards
    python benchmarks/few_steps.py imitate          a student of the first third of them
    python benchmarks/few_steps.py corrections      it goes first, then the teacher takes over
    python benchmarks/few_steps.py correct          it goes on learning, from all that ended right
    python benchmarks/few_steps.py ship             what it learned, as the book's weights
    python benchmarks/few_steps.py score

Each command goes on where it stopped, and without a name all six follow each other. `--part 0 2`
and `--part 1 2` share the trajectories or the corrections between two processes. A student is in
`runs/few_steps/STAGE`, whose `pipeline` `VisLMPipeline.from_pretrained` opens.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rows import Table
from torch import Tensor

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.parsing import read
from vislm_tutorial.evaluation import GENEVAL_TASKS, evaluate
from vislm_tutorial.evaluation.exact_eval import judge
from vislm_tutorial.serving.wording import understood
from vislm_tutorial.training.few_steps import (
    FewStepsConfig,
    Trajectories,
    levels,
    open_student,
    read_trajectories,
    save_student,
    train_student,
    walk,
    write_trajectories,
)

STAGES = ("trajectories", "imitate", "corrections", "correct", "ship", "score")
IMITATE, CORRECT = 2000, 3000  # updates
CORRECTIONS = 12_000  # walks that the student begins
RANK = 64  # of the shipped student's differences from its teacher
SHIPPED = Path(__file__).parents[1] / "book" / "weights" / "few_steps" / "student.safetensors"
RESULTS = Path(__file__).parents[1] / "book" / "results" / "few_steps.json"
SEED = 1  # of the prompts, as in sampling.py: not those of `vislm evaluate`

Draw = Callable[[list[str], int], Tensor]


def drawn_by(pipe: VisLMPipeline, **settings) -> Draw:
    """What the pipeline draws for captions and a seed."""
    pipe.set_progress_bar_config(disable=True)

    def draw(captions: list[str], seed: int) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        return pipe(captions, generator=noise, output_type="pt", **settings).images

    return draw


def relay(first: VisLMPipeline, second: VisLMPipeline, after: int, config: FewStepsConfig) -> Draw:
    """What is drawn when the one goes `after` of the student's K steps and the other the rest.

    Who draws with guidance is the teacher, and takes several steps for one of the student's.
    """

    def steps_of(pipe: VisLMPipeline, captions: list[str], x: Tensor, begin: int, end: int):
        (condition, empty), flow = pipe.encode_prompt(captions), pipe.generator
        if flow.settings["guidance_scale"] == 1:
            return walk(flow, condition, x, levels(config)[begin : end + 1])[:, -1]
        each = config.teacher_steps // config.steps
        fine = levels(replace(config, steps=config.teacher_steps))
        some = fine[begin * each : end * each + 1]
        return walk(flow, condition, x, some, empty, config.guidance_scale)[:, -1]

    @torch.no_grad()
    def draw(captions: list[str], seed: int) -> Tensor:
        flow, (condition, _) = first.generator, first.encode_prompt(captions)
        x = flow.noise(condition, torch.Generator().manual_seed(seed))  # as a pipeline begins
        x = steps_of(first, captions, x, 0, after)
        x = steps_of(second, captions, x, after, config.steps)
        return second.generator.autoencoder.decode(x)

    return draw


@dataclass(frozen=True)
class Contestant:
    """Who draws how; in a relay `steps` are those of the first."""

    system: str
    steps: int
    guidance: float
    draw: Draw
    learned: dict = field(default_factory=dict)  # of a student: from what, and how well

    def row(self, n: int) -> dict:
        """Its score with interval, which prompts are right, and CPU time a picture."""
        drawing = 0.0

        def timed(captions: list[str], seed: int) -> Tensor:
            nonlocal drawing
            start = time.process_time()
            images = self.draw(captions, seed)
            drawing += time.process_time() - start
            return images

        result = evaluate(timed, GENEVAL_TASKS, n=n, seed=SEED)
        return {
            "system": self.system,
            "steps": self.steps,
            "guidance": self.guidance,
            "score": round(result.overall.value, 4),
            "low": round(result.overall.low, 4),
            "high": round(result.overall.high, 4),
            "prompts": result.overall.n,
            "cpu_ms": round(1000 * drawing / result.overall.n, 1),
            **self.learned,
            "right": "".join(str(int(one.correct)) for one in result.results),
        }


def lessons(run: Path) -> dict:
    """What a student learned from, and its last loss on that and on walks kept apart."""
    logged = [json.loads(line) for line in (run / "student" / "log.jsonl").read_text().splitlines()]
    last = {key: value for record in logged for key, value in record.items()}
    record = json.loads((run / "student" / "run.json").read_text())
    return {
        "trajectories": record["meta"]["trajectories"],
        "updates": last["step"],
        "loss": round(last["loss"], 3),
        "held_loss": round(last["validation/loss"], 3),
    }


def contestants(
    teacher: VisLMPipeline, runs: Path, shipped: Path, config: FewStepsConfig
) -> Iterator[Contestant]:
    """Teacher, what it does in the students' few steps, and the students that are there."""

    def asked(name: str, pipe: VisLMPipeline, learned: dict | None = None, **settings):
        own = pipe.generator.settings | settings
        steps, guidance = own["num_inference_steps"], own["guidance_scale"]
        return Contestant(name, steps, guidance, drawn_by(pipe, **settings), learned or {})

    euler = {"scheduler": "euler", "guidance_scale": config.guidance_scale}
    yield asked("teacher, as it ships", teacher)
    yield asked("teacher, as it ships", teacher, num_inference_steps=config.teacher_steps)
    yield asked("teacher", teacher, **euler, num_inference_steps=config.teacher_steps)
    yield asked("teacher", teacher, **euler, num_inference_steps=config.steps)
    for stage in ("imitate", "correct"):
        if (runs / stage / "pipeline").is_dir():
            both = {"teacher": teacher}
            both[stage] = VisLMPipeline.from_pretrained(runs / stage / "pipeline")
            for first, second in ((stage, "teacher"), ("teacher", stage)):
                for after in range(1, config.steps):
                    draw = relay(both[first], both[second], after, config)
                    yield Contestant(f"{first}, then {second}", after, config.guidance_scale, draw)
            yield asked(stage, both[stage], lessons(runs / stage))
    if shipped.is_file():
        yield asked("shipped", open_student(teacher, shipped))


def score(options: argparse.Namespace, teacher: VisLMPipeline, config: FewStepsConfig) -> None:
    """Rows of all contestants that have none yet."""
    found = list(contestants(teacher, options.run, options.shipped, config))
    places = [(one.system, one.steps) for one in found]
    command = shlex.join(["python", "benchmarks/few_steps.py", *sys.argv[1:]])
    table = Table(
        options.output,
        options.run / "scores.lock",
        {"n": options.n},
        order=lambda row: places.index((row["system"], row["steps"])),
        header={"command": command},
    )
    for one in found:
        if (one.system, one.steps) not in {(r["system"], r["steps"]) for r in table.rows()}:
            table.add(row := one.row(options.n))
            print(f"{one.system}, {one.steps} steps: {row['score']:.3f}", flush=True)


def right_ones(teacher: VisLMPipeline, walks: Trajectories) -> Trajectories:
    """Those that end in a drawing that the parser calls right.

    Those of the empty caption, and of captions that it does not understand, count as right.
    """
    found = []
    for rows in torch.arange(len(walks)).split(256):
        latents = walks.points[rows, -1].float()
        drawn = read(teacher.generator.autoencoder.decode(latents))
        for row, reading in zip(rows.tolist(), drawn, strict=True):
            prompt = understood(walks.captions[row])
            if prompt is None or all(check.holds for check in judge(prompt, reading)):
                found.append(row)
    print(f"{len(found)} of {len(walks)} walks ended right")
    return walks.only(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", help=f"some of {', '.join(STAGES)}; none: all")
    parser.add_argument("--pipeline", help="folder of the teacher; else the shipped one")
    parser.add_argument("--run", type=Path, default=Path("runs/few_steps"))
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"))
    parser.add_argument("--minutes", type=float, default=0.0, help="stop a stage after so long")
    parser.add_argument("--trajectories", type=int, default=FewStepsConfig.trajectories)
    parser.add_argument("--validation", type=int, default=FewStepsConfig.validation)
    parser.add_argument("--teacher-steps", type=int, default=FewStepsConfig.teacher_steps)
    parser.add_argument("--guidance", type=float, default=FewStepsConfig.guidance_scale)
    parser.add_argument("--corrections", type=int, default=CORRECTIONS)
    parser.add_argument("--steps", type=int, help="updates of a student")
    parser.add_argument("--batch-size", type=int, help="trajectories an update")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--shipped", type=Path, default=SHIPPED, help="the file that is shipped")
    parser.add_argument("--n", type=int, default=100, help="prompts a task (default 100)")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="file of the scores")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; choose some of {', '.join(STAGES)}")
    stages = options.stages or STAGES
    source = options.pipeline
    teacher = VisLMPipeline.from_pretrained(source) if source else VisLMPipeline.from_bundled()
    config = configured(options)
    walks, some, part = options.run / "trajectories", options.run / "corrections", options.part
    again = replace(config, trajectories=options.corrections, seed=config.seed + 1)

    def ended(whole: bool) -> None:
        if not whole or part[1] > 1:
            raise SystemExit(0)  # the others are still at it, or the minutes are over

    if "trajectories" in stages:
        ended(write_trajectories(teacher, config, walks, part, options.minutes))
    if "imitate" in stages:
        third = replace(config, trajectories=config.trajectories // 3)
        pairs, held = read_trajectories(teacher, third, walks)
        learn(teacher, options, "imitate", pairs, held)
    if {"corrections", "correct"} & {*stages}:
        student = VisLMPipeline.from_pretrained(options.run / "imitate" / "pipeline")
    if "corrections" in stages:
        minutes = options.minutes
        ended(write_trajectories(teacher, again, some, part, minutes, student=student))
    if "correct" in stages:
        pairs, held = read_trajectories(teacher, config, walks)
        more, _ = read_trajectories(teacher, again, some, student)
        pairs = right_ones(teacher, pairs) + right_ones(teacher, more)
        learn(teacher, options, "correct", pairs, held, student)
    if "ship" in stages:
        learned = VisLMPipeline.from_pretrained(options.run / "correct" / "pipeline")
        options.shipped.parent.mkdir(parents=True, exist_ok=True)
        save_student(learned, teacher, options.shipped, RANK)
    if "score" in stages:
        score(options, teacher, config)


def configured(options: argparse.Namespace, steps: int = IMITATE) -> FewStepsConfig:
    """The configuration that the command line asks for; the rate falls in the same share of it."""
    steps, training = options.steps or steps, FewStepsConfig().training
    asked = {"batch_size": options.batch_size, "learning_rate": options.learning_rate}
    training = replace(
        training,
        steps=steps,
        warmup_steps=min(training.warmup_steps, steps // 4),
        decay_steps=max(1, round(steps / training.steps * training.decay_steps)),
        **{name: value for name, value in asked.items() if value},
    )
    return FewStepsConfig(
        teacher_steps=options.teacher_steps,
        guidance_scale=options.guidance,
        trajectories=options.trajectories,
        validation=options.validation,
        training=training,
    )


def learn(
    teacher: VisLMPipeline,
    options: argparse.Namespace,
    stage: str,
    pairs: Trajectories,
    held: Trajectories,
    begin: VisLMPipeline | None = None,
) -> None:
    """Train the student of a stage, to its end."""
    config = configured(options, {"imitate": IMITATE, "correct": CORRECT}[stage])
    run = options.run / stage
    result = train_student(teacher, config, pairs, held, run, options.minutes, begin)
    if result.stopped not in ("done", "early"):
        raise SystemExit(f"stopped at step {result.step}; the same command goes on")


if __name__ == "__main__":
    main()
