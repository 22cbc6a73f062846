"""The command `vislm`, as it is typed: what it writes, what it says, how it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_pipeline import SIDE, seeds, tiny_pipeline
from typer.testing import CliRunner

from vislm_tutorial import __version__, doctor, registry
from vislm_tutorial.cli import app
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation.report import EvalResult
from vislm_tutorial.pipeline import VisLMPipeline

CAPTION = "a red circle above a blue square"
VISLM = Path(sys.executable).with_name("vislm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny pipeline's folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline(load_encoder("minilm", layers="mean")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Set, not deleted: --debug sets it in this process, and only what was set is undone.
    monkeypatch.setenv("VISLM_DEBUG", "")


def vislm(*arguments: str, code: int = 0) -> str:
    """What the command says, on both streams; it must end with `code`."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


# --- help ---------------------------------------------------------------------------------------


def test_help_is_there_at_once():
    def seconds() -> float:
        start = time.perf_counter()
        done = subprocess.run([VISLM, "--help"], capture_output=True, text=True, check=True)
        for name in ("draw", "train", "plan", "evaluate", "data", "models", "doctor"):
            assert re.search(rf"\b{name}\b", done.stdout)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5


def test_help_loads_nothing_heavy():
    script = (
        "import sys, vislm_tutorial.cli\n"
        "sys.exit(str({'torch', 'numpy', 'PIL', 'transformers', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_version():
    assert vislm("--version").strip() == f"vislm-tutorial {__version__}"


@pytest.mark.parametrize(
    "name",
    ["draw", "train", "plan", "evaluate", "data preview", "models get", "models list", "doctor"],
)
def test_every_command_explains_itself(name):
    assert "Usage" in vislm(*name.split(), "--help")


# --- draw ---------------------------------------------------------------------------------------


def test_draw_writes_the_picture_that_the_pipeline_draws(folder):
    said = vislm("draw", CAPTION, "-o", "new/x.png", "--pipeline", folder, "--steps", "3")
    assert re.search(r"x.png: 1 picture of 16 px, seed 0, in \d+\.\d s", said)
    pipe = VisLMPipeline.from_pretrained(folder)
    expected = pipe(CAPTION, num_inference_steps=3, generator=seeds(0)).images[0]
    np.testing.assert_array_equal(np.array(Image.open("new/x.png")), np.array(expected))


def test_several_pictures_stand_side_by_side_each_with_its_own_seed(folder):
    options = ["--pipeline", folder, "--steps", "2", "--guidance", "5", "--scheduler", "heun"]
    vislm("draw", CAPTION, "-n", "3", "--seed", "4", "-o", "grid.png", *options)
    vislm("draw", CAPTION, "--seed", "5", "-o", "second.png", *options)
    sheet, second = (np.array(Image.open(f)).astype(int) for f in ("grid.png", "second.png"))
    assert sheet.shape[0] == SIDE and sheet.shape[1] > 3 * SIDE
    left = SIDE + 2  # the first picture and the gap
    assert abs(sheet[:, left : left + SIDE] - second).max() <= 1
    assert abs(sheet[:, :SIDE] - second).max() > 1


def test_drawing_of_a_run_that_is_still_going_on(trained, tmp_path):
    (tmp_path / "run").symlink_to(trained)
    said = vislm("draw", CAPTION, "--pipeline", "run", "--steps", "2")
    assert "drawing.png: 1 picture of 16 px" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "eular"], "'eular'; expected one of euler, heun"),
        (["--guidance", "-1"], "guidance_scale is -1.0"),
        (["--steps", "0"], "num_inference_steps is 0"),
        (["-n", "0"], "num_images_per_prompt is 0"),
        (["-o", "x.doc"], "unknown file extension: .doc"),
        (["--pipeline", "nowhere"], "'nowhere' is neither a pipeline's folder"),
    ],
)
def test_errors_are_one_line_without_a_traceback(folder, options, message):
    if "--pipeline" not in options:
        options = [*options, "--pipeline", folder]
    said = vislm("draw", CAPTION, *options, code=1)
    assert said.startswith("vislm: ") and message in said and said.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(monkeypatch):
    command = ["draw", CAPTION, "--pipeline", "nowhere"]
    result = CliRunner().invoke(app, ["--debug", *command])
    assert isinstance(result.exception, FileNotFoundError)
    monkeypatch.setenv("VISLM_DEBUG", "")
    assert isinstance(CliRunner().invoke(app, command).exception, SystemExit)


def test_an_error_without_words_is_named(monkeypatch, folder):
    def fail(*_, **__):
        raise KeyError("hidden_size")

    monkeypatch.setattr(VisLMPipeline, "from_pretrained", fail)
    said = vislm("draw", CAPTION, "--pipeline", folder, code=1)
    assert said == "vislm: KeyError: 'hidden_size' (`vislm --debug ...` shows where)\n"


def test_a_long_caption_is_drawn_with_one_line_of_warning(folder):
    said = vislm("draw", "red circle " * 910, "--pipeline", folder, "--steps", "1")
    assert said.count("vislm: 1 caption(s) are longer than max_length=64") == 1
    assert "Warning" not in said and Path("drawing.png").is_file()


# --- train --------------------------------------------------------------------------------------

STAGE = {"steps": 2, "batch_size": 4, "warmup_steps": 0}
RECIPE = {
    "name": "tiny",
    "data": {"size": 12, "image_size": 16, "validation": 2},
    "fusion": {"kind": "projector", "width": 16, "depth": 0},
    "generator": {"kind": "flow", "backbone": "dit", "width": 16, "depth": 1, "heads": 2},
    "autoencoder": {"patch_size": 2, "channels": [8, 16], "latent_channels": 4, "norm_groups": 4},
    "autoencoder_training": STAGE,
    "training": STAGE,
}


def write_recipe(path: str | Path = "tiny.yaml") -> None:
    Path(path).write_text(yaml.safe_dump(RECIPE))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a run that `vislm train` finished."""
    folder = tmp_path_factory.mktemp("trained")
    write_recipe(folder / "tiny.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISLM_CACHE", str(folder / "cache"))
        said = vislm("train", str(folder / "tiny.yaml"), "--run-dir", str(folder / "run"))
    assert "done at step 2" in said and f"--pipeline {folder / 'run' / 'pipeline'}" in said
    return folder / "run"


def test_train_exports_a_pipeline_that_draws(trained):
    said = vislm("draw", CAPTION, "--pipeline", str(trained / "pipeline"), "--steps", "2")
    assert "1 picture of 16 px" in said
    assert (trained / "pipeline" / "recipe.yaml").is_file()


def test_train_stops_in_time_and_goes_on(monkeypatch, tmp_path):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))
    write_recipe()
    said = vislm("train", "tiny.yaml", "--max-minutes", "0.0001")
    assert "stopped (time) at step 1; the same command goes on" in said
    assert not Path("runs/tiny/pipeline").exists()
    assert "done at step 2" in vislm("train", "tiny.yaml")
    assert Path("runs/tiny/pipeline/model_index.json").is_file()


def test_train_with_own_pictures_gets_a_run_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))
    write_recipe()
    Path("cats").mkdir()
    for number in range(6):
        Image.new("RGB", (20, 20), (40 * number, 0, 0)).save(f"cats/{number}.png")
        Path(f"cats/{number}.txt").write_text(f"cat number {number}")
    assert "done at step 2" in vislm("train", "tiny.yaml", "--pictures", "cats")
    kept = yaml.safe_load(Path("runs/tiny-cats/recipe.yaml").read_text())
    assert kept["data"]["source"] == "cats"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("scnes", "no recipe 'scnes'; give one of"),
        ("nowhere.yaml", "no recipe 'nowhere.yaml'; give one of"),
        ("my_pictures", "no folder my_pictures; check the path"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_one_line(recipe, message):
    said = vislm("train", recipe, code=1)
    assert message in said and said.splitlines()[-1].startswith("vislm: ")


# --- evaluate -----------------------------------------------------------------------------------


def test_evaluate_prints_a_table_and_writes_both_files(folder, monkeypatch):
    big = tiny_pipeline(load_encoder("minilm", layers="mean"))
    draw = type(big).__call__

    def enlarged(self, *arguments, **options):  # the parser wants pictures of at least 32 px
        output = draw(self, *arguments, **options)
        output.images = output.images.repeat_interleave(4, 2).repeat_interleave(4, 3)
        return output

    monkeypatch.setattr(VisLMPipeline, "__call__", enlarged)
    tasks = "counting, colours"
    said = vislm(
        *("evaluate", "--pipeline", folder, "--n", "3", "--tasks", tasks, "--steps", "2"),
        *("-o", "out.json", "--seed", "7"),
    )
    assert "| counting" in said and "| colours" in said
    result = EvalResult.from_json(Path("out.json").read_text())
    assert set(result.scores) == {"counting", "colours"} and (result.n, result.seed) == (3, 7)
    assert Path("out.md").read_text().strip() in said
    assert "choose one of single_object" in vislm(
        "evaluate", "--pipeline", folder, "--tasks", "coluors", code=1
    )


# --- data, models, doctor -----------------------------------------------------------------------


def test_preview_of_scenes_shows_pictures_and_captions():
    said = vislm("data", "preview", "scenes", "-o", "grid.png", "-n", "5", "--image-size", "32")
    assert len(said.splitlines()) == 6 and said.splitlines()[-1] == "wrote grid.png"
    assert Image.open("grid.png").size == (4 * 34 - 2, 2 * 34 - 2)
    assert vislm("data", "preview", "scenes", "-n", "5", "--seed", "1") != said


def test_preview_of_drawings_gives_credit():
    assert "CC BY-SA 4.0" in vislm("data", "preview", "openmoji", "-n", "2", "-o", "grid.png")


def test_preview_of_a_folder_names_what_it_leaves_out():
    Path("mine").mkdir()
    Image.new("RGB", (70, 70), "red").save("mine/good.png")
    Path("mine/good.txt").write_text("all red")
    Path("mine/broken.png").write_text("no picture")
    Path("mine/broken.txt").write_text("a dog")
    said = vislm("data", "preview", "mine", "-o", "grid.png")
    assert "all red" in said and "1 left out" in said and "broken.png" in said
    assert "no folder nowhere" in vislm("data", "preview", "nowhere", code=1)


def test_models_are_listed_and_an_unknown_one_is_refused():
    said = vislm("models", "list")
    for name in registry.ASSETS:
        assert re.search(rf"^{name}\b", said, re.MULTILINE)
    assert "expected one of minilm" in vislm("models", "get", "minilmm", code=1)


def test_models_get_leaves_what_is_right_alone():
    assert vislm("models", "get", "minilm").startswith("minilm: already installed")


def bundle(folder: str, monkeypatch) -> None:
    """Let a folder stand for the shipped weights."""
    monkeypatch.setattr(
        VisLMPipeline, "from_bundled", lambda: VisLMPipeline.from_pretrained(folder)
    )


def test_doctor_names_versions_device_precision_profile_and_models(folder, monkeypatch):
    monkeypatch.setattr(
        VisLMPipeline, "from_bundled", lambda: VisLMPipeline.from_pretrained(folder)
    )
    said = vislm("doctor")
    assert f"{torch.__version__}" in said and "fp32: half precision does not pay off" in said
    for subject in ("python", "device", "profile", "minilm", "drawings", "cache", "drawing"):
        assert re.search(rf"^{subject}\b", said, re.MULTILINE), subject
    assert re.search(r"drawing +works: .* took \d+\.\d s", said)
    assert "VISLM_PROFILE" in said


def test_doctor_says_what_is_missing_and_how_to_get_it(folder, monkeypatch):
    installed = registry._installed_folder
    monkeypatch.setattr(
        registry, "_installed_folder", lambda a: None if a.name == "openmoji" else installed(a)
    )
    monkeypatch.setattr(doctor, "EXTRAS", {"track": ("trackers", ("no_such_module",))})
    monkeypatch.setattr(
        VisLMPipeline, "from_bundled", lambda: VisLMPipeline.from_pretrained(folder)
    )
    said = vislm("doctor")  # both are optional, so all is well
    assert "Run `vislm models get openmoji`" in said
    assert "missing no_such_module" in said and "pip install 'vislm-tutorial[track]'" in said


def test_doctor_fails_when_drawing_cannot_work(monkeypatch):
    def fail():
        raise registry.AssetError("minilm is not here. Run `vislm models get minilm`.")

    monkeypatch.setattr(VisLMPipeline, "from_bundled", fail)
    said = vislm("doctor", code=1)
    assert "PROBLEM: does not work. minilm is not here. Run `vislm models get minilm`" in said


# --- the shipped weights ------------------------------------------------------------------------


def test_typed_in_an_empty_folder_a_caption_becomes_a_png(tmp_path):
    done = subprocess.run(
        [VISLM, "draw", CAPTION, "-o", "x.png"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and Image.open("x.png").size == (64, 64)
    seconds = float(re.search(r"in (\d+\.\d) s", done.stdout)[1])
    assert seconds <= 3


def test_shipped_scores_belong_to_the_shipped_weights():
    folder = registry.find("scenes-weights")
    result = EvalResult.from_json((folder / "exact_eval.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    assert result.image_size == 64 and run["stopped"] == "done"
    assert result.overall.n >= 600 and result.overall.value > result.scores["shuffled"].high


def test_shipped_scores_reach_the_bar():
    result = EvalResult.from_json((registry.find("scenes-weights") / "exact_eval.json").read_text())
    assert result.overall.n >= 600 and result.overall.value >= 0.92
    assert result.scores["single_object"].value >= 0.95
