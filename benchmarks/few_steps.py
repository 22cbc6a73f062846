"""Four steps, without guidance: distil the shipped pipeline, and score student and teacher alike.

    python benchmarks/few_steps.py trajectories [--part 0 2]   the teacher's ways, in shards
    python benchmarks/few_steps.py train                       the student, with checkpoints
    python benchmarks/few_steps.py score -o book/results/few_steps.json

Each command goes on where it stopped, and without a name all three follow each other. `--part 0 2`
and `--part 1 2` share the first stage between two processes. `train --student NAME` trains one of
STUDENTS in `runs/few_steps/NAME`, whose `pipeline` `VisLMPipeline.from_pretrained` opens; `score`
scores those that are there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.parsing import read
from vislm_tutorial.evaluation import GENEVAL_TASKS, evaluate
from vislm_tutorial.evaluation.exact_eval import judge
from vislm_tutorial.serving.wording import understood
from vislm_tutorial.training.few_steps import (
    FewStepsConfig,
    read_trajectories,
    train_student,
    write_trajectories,
)

STAGES = ("trajectories", "train", "score")
STUDENTS = {  # name -> what it learns from
    "all_walks": "every walk of the teacher",
    "right_walks": "those that ended in a drawing that is right",
    "own_places": "every walk, from where the student stands itself (training.few_steps.FewSteps)",
}
SEED = 1  # of the prompts, as in sampling.py: not those of `vislm evaluate`


def score(pipe: VisLMPipeline, name: str, n: int, **settings) -> dict:
    """One row: who draws how, its score with interval, single objects, and CPU time a picture."""
    pipe.set_progress_bar_config(disable=True)
    drawing = 0.0

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        nonlocal drawing
        start = time.process_time()
        noise = torch.Generator().manual_seed(seed)
        images = pipe(captions, generator=noise, output_type="pt", **settings).images
        drawing += time.process_time() - start
        return images

    result = evaluate(draw, GENEVAL_TASKS, n=n, seed=SEED)
    own = pipe.generator.settings | settings
    return {
        "system": name,
        "steps": own["num_inference_steps"],
        "guidance": own["guidance_scale"],
        "score": round(result.overall.value, 4),
        "low": round(result.overall.low, 4),
        "high": round(result.overall.high, 4),
        "single": round(result.scores["single_object"].value, 4),
        "prompts": result.overall.n,
        "cpu_ms": round(1000 * drawing / result.overall.n, 1),
    }


def losses(run: Path) -> dict:
    """A student's last loss on the trajectories of training, and on those kept apart."""
    logged = [json.loads(line) for line in (run / "student" / "log.jsonl").read_text().splitlines()]
    last = {key: value for record in logged for key, value in record.items()}
    return {"loss": round(last["loss"], 3), "held_loss": round(last["validation/loss"], 3)}


def rows(
    teacher: VisLMPipeline, students: dict[str, Path], config: FewStepsConfig, n: int
) -> Iterator[dict]:
    """Teacher, what it does in the students' few steps, and the students, by name their runs."""
    euler = {"scheduler": "euler", "guidance_scale": config.guidance_scale}
    yield score(teacher, "teacher, as it ships", n)
    yield score(teacher, "teacher, as it ships", n, num_inference_steps=config.teacher_steps)
    yield score(teacher, "teacher", n, **euler, num_inference_steps=config.teacher_steps)
    yield score(teacher, "teacher", n, **euler, num_inference_steps=config.steps)
    for name, run in students.items():
        student = VisLMPipeline.from_pretrained(run / "pipeline")
        yield score(student, f"student, {name.replace('_', ' ')}", n) | losses(run)


def right_walks(teacher: VisLMPipeline, config: FewStepsConfig, folder: Path) -> list[int]:
    """Which of the walks to learn from end in a drawing that the parser calls right.

    Those of the empty caption, and of captions that it does not understand, count as right.
    """
    walks, _ = read_trajectories(teacher, config, folder)
    found = []
    for rows in torch.arange(len(walks)).split(256):
        latents = walks.points[rows, -1].float()
        drawn = read(teacher.generator.autoencoder.decode(latents))
        for row, reading in zip(rows.tolist(), drawn, strict=True):
            prompt = understood(walks.captions[row])
            if prompt is None or all(check.holds for check in judge(prompt, reading)):
                found.append(row)
    print(f"{len(found)} of {len(walks)} walks ended right")
    return found


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
    parser.add_argument("--steps", type=int, help="updates of the student")
    parser.add_argument("--batch-size", type=int, help="trajectories an update")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--student", choices=STUDENTS, default="right_walks")
    parser.add_argument("--n", type=int, default=100, help="prompts a task (default 100)")
    parser.add_argument("-o", "--output", type=Path, help="write the scores to this JSON file")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; choose some of {', '.join(STAGES)}")
    stages = options.stages or STAGES
    source = options.pipeline
    teacher = VisLMPipeline.from_pretrained(source) if source else VisLMPipeline.from_bundled()
    config = configured(options)
    if "trajectories" in stages:
        whole = write_trajectories(
            teacher, config, options.run / "trajectories", tuple(options.part), options.minutes
        )
        if not whole or options.part[1] > 1:
            stages = ()  # the others are still at it
    if "train" in stages:
        walks, run = options.run / "trajectories", options.run / options.student
        some = options.student == "right_walks"
        keep = right_walks(teacher, config, walks) if some else None
        result = train_student(teacher, config, walks, run, options.minutes, keep)
        if result.stopped not in ("done", "early"):
            raise SystemExit(f"stopped at step {result.step}; the same command goes on")
    if "score" in stages:
        runs, found = {name: options.run / name for name in STUDENTS}, []
        there = {name: run for name, run in runs.items() if (run / "pipeline").is_dir()}
        for row in rows(teacher, there, config, options.n):
            found.append(row)
            print(json.dumps(row), flush=True)
        if options.output:
            command = shlex.join(["python", "benchmarks/few_steps.py", *sys.argv[1:]])
            text = json.dumps({"command": command, "rows": found}, indent=1)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(text + "\n", encoding="utf-8")


def configured(options: argparse.Namespace) -> FewStepsConfig:
    """The configuration that the command line asks for; a shorter run decays in proportion."""
    config = FewStepsConfig(
        teacher_steps=options.teacher_steps,
        guidance_scale=options.guidance,
        trajectories=options.trajectories,
        validation=options.validation,
        own_places=options.student == "own_places",
    )
    training = config.training
    if options.steps:
        share = options.steps / training.steps
        training = replace(
            training,
            steps=options.steps,
            warmup_steps=min(training.warmup_steps, options.steps // 4),
            decay_steps=max(1, round(share * training.decay_steps)),
        )
    changed = {"batch_size": options.batch_size, "learning_rate": options.learning_rate}
    changed = {name: value for name, value in changed.items() if value}
    return replace(config, training=replace(training, **changed))


if __name__ == "__main__":
    main()
