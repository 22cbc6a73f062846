"""Model cards say what lies in a folder; nothing is sent unasked, and nothing that could run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from tiny_pipeline import seeds, tiny_pipeline
from typer.testing import CliRunner

from vislm_tutorial import registry
from vislm_tutorial.cli import app
from vislm_tutorial.data.openmoji import ATTRIBUTION
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation.report import EvalResult
from vislm_tutorial.pipeline import VisLMPipeline
from vislm_tutorial.serving import card
from vislm_tutorial.serving.card import CardError, check_folder, model_card, publish, write_card

CAPTION = "a red circle above a blue square"


class FakeHub:
    """Takes what a hub would be sent, and keeps a copy of it."""

    endpoint = "https://hub.example"

    def __init__(self, place: Path):
        self.place, self.made = place, []

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.made.append((repo_id, private))

    def upload_folder(self, *, folder_path, repo_id, allow_patterns, commit_message):
        for name in allow_patterns:
            target = self.place / repo_id / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder_path) / name, target)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_pipeline(load_encoder("minilm", layers="mean")).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A tiny pipeline with the shipped one's recipe, record and scores beside it."""
    target = tmp_path / "pipeline"
    shutil.copytree(saved, target)
    for name in ("recipe.yaml", "run.json", "exact_eval.json"):
        shutil.copyfile(registry.find("scenes-weights") / name, target / name)
    return target


def change(file: Path, **values) -> None:
    """Put values into a JSON or YAML file."""
    read, write = (
        (json.loads, json.dumps) if file.suffix == ".json" else (yaml.safe_load, yaml.dump)
    )
    file.write_text(write(read(file.read_text()) | values))


def test_every_score_stands_in_the_card_with_its_interval(folder):
    text = model_card(folder, "ada/shapes")
    result = EvalResult.from_json((folder / "exact_eval.json").read_text())
    for task, score in result.scores.items():
        row = next(r for r in text.splitlines() if r.startswith(f"| {task.replace('_', ' ')} |"))
        assert f"| {score.value:.2f} | {score.low:.2f} to {score.high:.2f} | {score.n} |" in row
    assert f"**{result.overall.value:.3f}**" in text
    assert 'from_pretrained("ada/shapes", allow_network=True)' in text


def test_what_is_right_less_than_half_the_time_is_named_as_a_limit(folder):
    limits = model_card(folder).split("## Limits")[1]
    assert "training never used, such as crimson or disc: right in 0% of 100" in limits
    assert "hapes, each in its colour" not in limits and "another caption" not in limits
    result = json.loads((folder / "exact_eval.json").read_text())
    for judged in result["results"]:
        if judged["task"] == "counting":
            judged["checks"] = [["count", False]]
    (folder / "exact_eval.json").write_text(json.dumps(result))
    assert "Two to four of a shape: right in 0% of" in model_card(folder).split("## Limits")[1]


def test_the_hub_reads_the_front_matter(folder):
    data = ModelCard(write_card(folder, "ada/shapes").read_text()).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "mit",
        "diffusers",
        "text-to-image",
    )
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and "flow" in data.tags
    scores = {score.dataset_config: score.metric_value for score in data.eval_results}
    assert scores["single_object"] == 1.0 and len(scores) == 10


def test_the_parts_and_the_training_are_those_of_the_folder(folder):
    text = model_card(folder)
    for words in (
        "| backbone | DiT | mit |",
        "| Apache-2.0 |",
        "2,200 steps of 192 pictures",
        "H100",
    ):
        assert words in text
    (folder / "encoder").mkdir()
    assert "what it was taught for this lies in encoder/" in model_card(folder)


def test_openmoji_asks_for_its_licence_and_its_line(folder):
    change(folder / "recipe.yaml", data={"source": "openmoji"})
    text = model_card(folder)
    assert ATTRIBUTION in text and "license: cc-by-sa-4.0" in text


def test_pictures_of_ones_own_have_no_licence_by_themselves(folder):
    change(folder / "recipe.yaml", data={"source": "holiday"})
    assert "license: other" in model_card(folder) and "fill this in" in model_card(folder)


def test_what_is_not_known_is_said(folder):
    for name in ("recipe.yaml", "run.json", "exact_eval.json"):
        (folder / name).unlink()
    text = model_card(folder)
    for words in ("is not recorded", "no record of its training", "Not measured", "any mistake"):
        assert words in text
    assert "model-index" not in text and "None" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model_index.json", None, "no pipeline's folder"),
        ("model_index.json", "{", "cannot be read"),
        ("recipe.yaml", "- 1", "holds a list"),
        ("exact_eval.json", "{}", "write it anew with `vislm evaluate"),
    ],
)
def test_a_folder_that_cannot_be_described_is_refused(folder, name, content, message):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(CardError, match=message):
        model_card(folder)


def test_without_being_asked_nothing_is_sent(folder, monkeypatch):
    monkeypatch.setattr(card, "HfApi", lambda: pytest.fail("a dry run called the hub"))
    dry = publish(folder, "ada/shapes")
    assert dry.address is None and "nothing was sent" in str(dry)
    names = {name for name, _ in dry.files}
    assert {"README.md", "model_index.json", "recipe.yaml"} <= names
    assert dry.size == sum((folder / name).stat().st_size for name in names)


def test_what_the_reader_filled_in_stays(folder, tmp_path):
    change(folder / "recipe.yaml", data={"source": "holiday"})
    hub = FakeHub(tmp_path / "hub")
    assert publish(folder, "ada/shapes").address is None  # a dry run writes the card
    with pytest.raises(CardError, match="still says 'fill this in"):
        publish(folder, "ada/shapes", allow_network=True, api=hub)
    assert not hub.made
    card = folder / "README.md"
    own = card.read_text().replace("**fill this in before you publish**", "they are mine, CC0")
    card.write_text(own)
    assert write_card(folder) == card and card.read_text() == own
    assert publish(folder, "ada/shapes", allow_network=True, api=hub).address
    assert (hub.place / "ada/shapes/README.md").read_text() == own
    write_card(folder, "ada/shapes", force=True)
    assert "fill this in" in card.read_text()


def test_what_is_sent_loads_and_draws_the_same(folder, tmp_path):
    hub = FakeHub(tmp_path / "hub")
    sent = publish(folder, "ada/shapes", allow_network=True, api=hub)
    assert sent.address == "https://hub.example/ada/shapes"
    assert hub.made == [("ada/shapes", True)]
    again = VisLMPipeline.from_pretrained(tmp_path / "hub/ada/shapes")
    options = {"num_inference_steps": 2, "output_type": "pt"}
    pictures = [
        pipe(CAPTION, generator=seeds(0), **options).images
        for pipe in (VisLMPipeline.from_pretrained(folder), again)
    ]
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("backbone/model.bin", "can run code"),
        ("weights.pth", "can run code"),
        (".env", "published by mistake"),
        ("notes.txt", "published by mistake"),
    ],
)
def test_what_does_not_belong_there_stops_it_before_anything_is_written(folder, name, message):
    (folder / name).write_bytes(b"x")
    with pytest.raises(CardError, match=message):
        publish(folder, "ada/shapes")
    assert not (folder / "README.md").exists()


def test_links_large_files_and_a_folder_without_weights_are_refused(folder, monkeypatch, tmp_path):
    (folder / "more.json").symlink_to(folder / "run.json")
    with pytest.raises(CardError, match="more.json is a link"):
        check_folder(folder)
    (folder / "more.json").unlink()
    monkeypatch.setattr(card, "LARGEST", 1000)
    with pytest.raises(CardError, match="max_shard_size"):
        check_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CardError, match="holds no weights"):
        check_folder(tmp_path / "empty")


@pytest.mark.parametrize("name", ["shapes", "ada/shapes/2", "ada/my shapes", ""])
def test_a_name_that_no_hub_takes_is_refused(folder, name):
    with pytest.raises(CardError, match="expected '<owner>/<name>'"):
        publish(folder, name)


def test_the_commands_write_the_card_and_only_list(folder, monkeypatch):
    monkeypatch.setattr(card, "HfApi", lambda: pytest.fail("the hub was called"))
    run = CliRunner().invoke
    said = run(app, ["card", str(folder), "--name", "ada/shapes"]).output
    assert said.strip() == f"wrote {folder / 'README.md'}"
    (folder / "README.md").write_text("my own")
    refused = run(app, ["card", str(folder)])
    assert refused.exit_code == 1 and "--force writes over it" in refused.output
    assert (folder / "README.md").read_text() == "my own"
    assert run(app, ["card", str(folder), "--force"]).exit_code == 0
    assert (folder / "README.md").read_text() != "my own"
    said = run(app, ["publish", str(folder), "ada/shapes"]).output
    assert "nothing was sent" in said
    refused = run(app, ["publish", str(folder), "shapes"])
    assert refused.exit_code == 1 and refused.output.count("\n") == 1
