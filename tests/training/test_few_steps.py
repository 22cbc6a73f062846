"""The few-step student: the teacher's points, the loss, resuming, and the saved pipeline."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import few_steps as script
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file
from tiny_pipeline import tiny_pipeline
from torch import nn

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.generators import FlowGenerator
from vislm_tutorial.generators.flow import _set_steps
from vislm_tutorial.training import TrainingConfig, few_steps
from vislm_tutorial.training.few_steps import (
    FewSteps,
    FewStepsConfig,
    levels,
    student_pipeline,
    train_student,
    trajectories,
    write_trajectories,
)
from vislm_tutorial.types import Condition

TINY = FewStepsConfig(
    steps=2,
    teacher_steps=4,
    trajectories=6,
    validation=2,
    training=TrainingConfig(steps=4, batch_size=3, warmup_steps=0, validate_every=2),
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(few_steps, "SHARD", 4)


@pytest.fixture(scope="module")
def teacher() -> VisLMPipeline:
    return tiny_pipeline(load_encoder("minilm"))


class Backbone(nn.Module):
    """Answers with `velocity(sample, sigma (B, 1, 1, 1))`, times a weight that begins at 1."""

    def __init__(self, velocity) -> None:
        super().__init__()
        self.velocity, self.weight = velocity, nn.Parameter(torch.ones(()))
        self.config = SimpleNamespace(sample_size=2, in_channels=3)
        self.seen = []

    def forward(self, sample, timestep, condition):
        self.seen.append(sample)
        return self.weight * self.velocity(sample, timestep.view(-1, 1, 1, 1) / 1000)


def condition_of(n: int) -> Condition:
    return Condition(torch.randn(n, 2, 4), torch.ones(n, 2, dtype=torch.bool), torch.randn(n, 4))


def ways(batch: int, config: FewStepsConfig) -> torch.Tensor:
    """Points of a flow to fixed data: straight lines."""
    noise, data = torch.randn(2, batch, 3, 2, 2)
    return torch.stack([s * noise + (1 - s) * data for s in levels(config)], dim=1)


def loss_of(
    backbone: Backbone, points: torch.Tensor, config: FewStepsConfig, taken: tuple[int, ...] = ()
) -> torch.Tensor:
    model = FewSteps(nn.Identity(), backbone, levels(config))
    taken = torch.tensor(taken or (0,) * len(points))
    return model({"points": points, "taken": taken, "states": condition_of(len(points))})


def test_the_levels_are_those_of_the_scheduler_that_the_student_is_saved_with():
    config = FewStepsConfig(steps=4)
    scheduler = FlowMatchEulerDiscreteScheduler(1000, shift=config.flow_shift)
    _set_steps(scheduler, config.steps, torch.device("cpu"))
    assert scheduler.sigmas.tolist() == pytest.approx(levels(config), abs=1e-6)
    assert levels(config) == pytest.approx([1, 0.9, 0.75, 0.5, 0])


def test_a_teacher_that_steps_over_the_students_levels_is_refused():
    with pytest.raises(ValueError, match="teacher_steps=10; expected a multiple of steps=4"):
        FewStepsConfig(steps=4, teacher_steps=10)


def test_the_exact_velocity_has_no_loss_and_a_wrong_one_has():
    config = FewStepsConfig(steps=4)
    points = ways(5, config)
    straight = points[:, 0] - points[:, -1]  # eps - x_0
    backbone = Backbone(lambda x, sigma: straight)
    assert loss_of(backbone, points, config).item() == pytest.approx(0, abs=1e-9)
    half = Backbone(lambda x, sigma: 0.5 * straight)
    assert loss_of(half, points, config).item() > 0.1


def test_the_student_learns_from_where_the_teacher_stands():
    config = FewStepsConfig(steps=2, teacher_steps=2)
    points = ways(3, config)
    still = Backbone(lambda x, sigma: torch.zeros_like(x))
    loss_of(still, points, config)
    assert torch.equal(still.seen[0], points[:, 0]) and torch.equal(still.seen[1], points[:, 1])


def test_what_a_student_did_before_it_was_corrected_is_not_learned():
    config = FewStepsConfig(steps=2, teacher_steps=2)
    points = ways(3, config)
    still = Backbone(lambda x, sigma: torch.zeros_like(x))
    loss = loss_of(still, points, config, taken=(0, 1, 1))
    assert torch.equal(still.seen[0], points[:1, 0]) and torch.equal(still.seen[1], points[:, 1])
    strides = [a - b for a, b in pairwise(levels(config))]
    asked = [(points[:, k] - points[:, k + 1]).square() / strides[k] ** 2 for k in range(2)]
    expected = torch.cat([asked[0][:1], asked[1]]).mean()  # four steps, all of one size
    torch.testing.assert_close(loss.detach(), expected)


def test_the_teachers_points_lie_on_its_sampler(teacher):
    """The last is what the teacher draws; the first is its noise; a shorter walk ends the same."""
    flow = FlowGenerator(teacher.backbone)
    condition, empty = teacher.encode_prompt(["a red circle", "two blue squares"])
    seen = trajectories(flow, condition, empty, [3, 4], TINY)
    side = teacher.backbone.config.sample_size
    assert seen.shape == (2, 3, 4, side, side)
    noise = torch.randn(4, side, side, generator=torch.Generator().manual_seed(4))
    assert torch.equal(seen[1, 0], noise)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=TINY.flow_shift)
    drawn = FlowGenerator(teacher.backbone, teacher.autoencoder).sample(
        condition,
        empty,
        TINY.guidance_scale,
        TINY.teacher_steps,
        scheduler,
        [torch.Generator().manual_seed(seed) for seed in (3, 4)],
    )
    torch.testing.assert_close(teacher.autoencoder.decode(seen[:, -1]), drawn)
    alone = trajectories(flow, condition[1:], empty, [4], TINY)
    torch.testing.assert_close(alone[0], seen[1], rtol=0, atol=1e-4)
    led = trajectories(
        flow, condition, empty, [3, 4], TINY, led=seen[:, :2]
    )  # by a perfect student
    torch.testing.assert_close(led, seen, rtol=0, atol=1e-4)


def test_a_student_of_one_step_cannot_be_corrected(teacher, tmp_path):
    with pytest.raises(ValueError, match="leaves its teacher nothing to take over"):
        write_trajectories(teacher, FewStepsConfig(steps=1), tmp_path, student=teacher)


def test_a_walk_of_the_student_that_the_teacher_takes_over(teacher, tmp_path):
    """Begins as the student would, goes on as the teacher does, and is kept with the place."""
    config = replace(TINY, steps=4, trajectories=10)  # three shards: 1, 2 and 3 steps
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for p in student.backbone.parameters():
            p *= 1.1
    write_trajectories(teacher, config, tmp_path, say=lambda line: None, student=student)
    pairs, held = few_steps.read_trajectories(teacher, config, tmp_path, student)
    walks = held + pairs
    assert walks.taken.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    row, after = 5, 2
    own, _ = student.encode_prompt([walks.captions[row]])
    condition, empty = teacher.encode_prompt([walks.captions[row]])
    seeds = [few_steps.derive_seed("trajectory", config.seed, row)]
    noise = few_steps.starts(student.generator, own, seeds)
    led = few_steps.walk(student.generator, own, noise, levels(config)[: after + 1])
    whole = trajectories(teacher.generator, condition, empty, seeds, config, led)
    torch.testing.assert_close(walks.points[row].float(), whole[0], rtol=0, atol=0.02)
    assert (led - trajectories(teacher.generator, condition, empty, seeds, config)[:, :3]).std() > 0
    with pytest.raises(ValueError, match="was made with"):
        few_steps.read_trajectories(teacher, config, tmp_path)


def test_the_way_from_teacher_to_saved_student(teacher, tmp_path):
    folder, said = tmp_path / "trajectories", []
    before = {name: p.clone() for name, p in teacher.backbone.named_parameters()}
    assert write_trajectories(teacher, TINY, folder, (1, 2), say=said.append)
    assert [path.name for path in folder.iterdir()] == ["00001.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"00000\.safetensors"):
        few_steps.read_trajectories(teacher, TINY, folder)
    assert write_trajectories(teacher, TINY, folder, say=said.append)
    assert len(said) == 2  # the shard that was there was not computed again
    result = train_student(
        teacher, TINY, *few_steps.read_trajectories(teacher, TINY, folder), tmp_path
    )
    assert result.stopped == "done" and result.step == 4
    assert all(torch.equal(p, before[name]) for name, p in teacher.backbone.named_parameters())

    student = VisLMPipeline.from_pretrained(tmp_path / "pipeline", encoder=teacher.encoder)
    assert student.generator.settings == {"guidance_scale": 1.0, "num_inference_steps": 2}
    calls = []
    student.backbone.register_forward_hook(lambda module, inputs, out: calls.append(len(out)))
    noise = torch.Generator().manual_seed(0)
    picture = student("a red circle", generator=noise, output_type="pt").images
    assert calls == [1, 1]  # two calls of one row: no guidance
    assert student.scheduler.sigmas.tolist() == pytest.approx(levels(TINY))
    asked = student("a red circle", num_inference_steps=3, output_type="pt").images
    assert len(calls) == 5 and asked.shape == picture.shape  # who asks for more gets it
    assert set(student.components) == {"fusion", "backbone", "scheduler", "autoencoder"}
    student.save_pretrained(tmp_path / "again")
    options = {"encoder": teacher.encoder, "num_inference_steps": 8}
    again = VisLMPipeline.from_pretrained(tmp_path / "again", **options)
    assert again.generator.settings == {"guidance_scale": 1.0, "num_inference_steps": 8}

    with pytest.raises(ValueError, match="was made with"):
        other = FewStepsConfig(steps=2, teacher_steps=8, trajectories=6, validation=2)
        write_trajectories(teacher, other, folder, say=said.append)


def test_training_makes_the_student_nearer_to_its_teacher(teacher, tmp_path):
    """It begins as the teacher without guidance, and learns the guided way."""
    training = TrainingConfig(steps=60, batch_size=8, learning_rate=3e-3, warmup_steps=0)
    config = FewStepsConfig(
        steps=2, teacher_steps=4, trajectories=30, validation=2, training=training
    )
    write_trajectories(teacher, config, tmp_path / "trajectories", say=lambda line: None)
    pairs, held = few_steps.read_trajectories(teacher, config, tmp_path / "trajectories")
    batch = pairs.__getitems__(range(30))[0]

    def loss(pipe: VisLMPipeline) -> float:
        with torch.no_grad():
            return FewSteps(pipe.fusion, pipe.backbone, levels(config))(batch).item()

    train_student(teacher, config, pairs, held, tmp_path)
    student = VisLMPipeline.from_pretrained(tmp_path / "pipeline", encoder=teacher.encoder)
    assert loss(student) < 0.7 * loss(teacher)
    still = replace(config, training=replace(training, steps=1, learning_rate=1e-9))
    train_student(teacher, still, pairs, held, tmp_path / "more", begin=student)
    again = VisLMPipeline.from_pretrained(tmp_path / "more/pipeline", encoder=teacher.encoder)
    assert loss(again) == pytest.approx(loss(student), rel=0.01)


def test_a_pipeline_without_settings_of_its_own_takes_the_familys(teacher, tmp_path):
    assert teacher.generator.settings is FlowGenerator.settings
    teacher.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert not {"guidance_scale", "num_inference_steps"} & set(index)
    again = VisLMPipeline.from_pretrained(tmp_path, encoder=teacher.encoder)
    assert again.generator.settings == FlowGenerator.settings
    student = student_pipeline(teacher, FewSteps(teacher.fusion, teacher.backbone, (1, 0)), TINY)
    student.generator  # noqa: B018  (the student's settings are its own)
    assert FlowGenerator.settings["num_inference_steps"] == 40


def test_a_student_is_kept_as_what_it_learned_beyond_its_teacher(teacher, tmp_path):
    torch.manual_seed(0)
    parts = copy.deepcopy(teacher.fusion), copy.deepcopy(teacher.backbone)
    with torch.no_grad():
        for p in (p for part in parts for p in part.parameters()):
            p += 0.01 * torch.randn_like(p)
    student = student_pipeline(teacher, FewSteps(*parts, levels(TINY)), TINY)
    path = tmp_path / "student.safetensors"
    few_steps.save_student(student, teacher, path, rank=10_000)  # all of it
    again = few_steps.open_student(teacher, path)
    assert again.generator.settings == student.generator.settings
    noise = [torch.Generator().manual_seed(0) for _ in range(3)]
    pictures = [
        pipe("a red circle", generator=g, output_type="pt").images
        for pipe, g in zip((student, again, teacher), noise, strict=True)
    ]
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=5e-3)
    assert (pictures[0] - pictures[2]).abs().max() > 0.02
    with pytest.raises(ValueError, match="a teacher with other weights"):
        few_steps.open_student(student, path)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no student"):
        few_steps.open_student(teacher, tmp_path / "other.safetensors")


def test_in_a_relay_each_goes_its_part(teacher):
    """A student that is its teacher without guidance, of one step fewer a level."""
    parts = FewSteps(teacher.fusion, teacher.backbone, levels(TINY))
    student = student_pipeline(teacher, parts, TINY)
    captions = ["a red circle", "two blue squares"]
    condition, empty = teacher.encode_prompt(captions)
    x = teacher.generator.noise(condition, torch.Generator().manual_seed(7))
    fine = levels(replace(TINY, steps=4))
    one = few_steps.walk(student.generator, condition, x, levels(TINY)[:2])[:, -1]
    two = few_steps.walk(teacher.generator, condition, one, fine[2:], empty, TINY.guidance_scale)
    decode = teacher.generator.autoencoder.decode
    drawn = script.relay(student, teacher, 1, TINY)(captions, 7)
    torch.testing.assert_close(drawn, decode(two[:, -1]))
    one = few_steps.walk(teacher.generator, condition, x, fine[:3], empty, TINY.guidance_scale)
    two = few_steps.walk(student.generator, condition, one[:, -1], levels(TINY)[1:])
    drawn = script.relay(teacher, student, 1, TINY)(captions, 7)
    torch.testing.assert_close(drawn, decode(two[:, -1]))
    alone = script.drawn_by(student)(captions, 7)  # from the same noise
    torch.testing.assert_close(script.relay(student, student, 1, TINY)(captions, 7), alone)


def test_the_script_goes_all_the_way(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "judge", lambda prompt, reading: [])  # all that is drawn is right
    teacher.save_pretrained(tmp_path / "teacher")
    results, run = tmp_path / "few_steps.json", tmp_path / "run"
    sizes = "--trajectories 9 --corrections 5 --validation 2 --steps 2 --batch-size 3 --n 1"
    command = ["few_steps.py", "--pipeline", str(tmp_path / "teacher"), "--run", str(run)]
    command += [*sizes.split(), "--teacher-steps", "8", "-o", str(results)]
    command += ["--shipped", str(tmp_path / "student.safetensors")]
    for part in ("0", "1"):  # one half of the shards each, and nothing more
        monkeypatch.setattr(sys, "argv", [*command, "trajectories", "--part", part, "2"])
        with pytest.raises(SystemExit, match="0"):
            script.main()
    assert sorted(path.name for path in run.iterdir()) == ["trajectories"]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    rows = json.loads(results.read_text())["rows"]
    students = []
    for stage in ("imitate", "correct"):
        students += [(f"{stage}, then teacher", after, 4.0) for after in (1, 2, 3)]
        students += [(f"teacher, then {stage}", after, 4.0) for after in (1, 2, 3)]
        students += [(stage, 4, 1.0)]
    assert [(row["system"], row["steps"], row["guidance"]) for row in rows] == [
        ("teacher, as it ships", 40, 4.0),
        ("teacher, as it ships", 8, 4.0),
        ("teacher", 8, 4.0),
        ("teacher", 4, 4.0),
        *students,
        ("shipped", 4, 1.0),
    ]
    assert all(row["prompts"] == 6 and row["cpu_ms"] > 0 for row in rows)
    assert all(row["right"] == "000000" for row in rows)
    learned = {row["system"]: row for row in rows if "loss" in row}
    assert all(row["loss"] > 0 and row["held_loss"] > 0 for row in learned.values())
    assert learned["imitate"]["trajectories"] == 3 and learned["correct"]["trajectories"] == 14


def test_a_student_needs_walks_and_sees_those_that_are_left(teacher, tmp_path):
    write_trajectories(teacher, TINY, tmp_path, say=lambda line: None)
    pairs, held = few_steps.read_trajectories(teacher, TINY, tmp_path)
    some = pairs.only([1, 4]) + held.only([0])
    assert some.captions == [pairs.captions[1], pairs.captions[4], held.captions[0]]
    batch = some.__getitems__([2, 0])[0]
    assert torch.equal(batch["points"][0], held.points[0].float())
    assert torch.equal(batch["points"][1], pairs.points[1].float())
    with pytest.raises(ValueError, match="no trajectory is left"):
        pairs.only([])
