"""`vislm serve`, `listen` and `retune` as they are typed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from tiny_pipeline import tiny_pipeline
from typer.testing import CliRunner

from vislm_tutorial.cli import app
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.serving.collect import CaptionLog
from vislm_tutorial.serving.population import typed_by_many

LABELS = {"crimson": "red", "disc": "circle"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny pipeline's folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline(load_encoder("minilm", layers="mean")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> str:
    """A folder with 60 captions, the later ones with new words."""
    folder = tmp_path_factory.mktemp("log")
    CaptionLog(folder).append(typed_by_many(60, LABELS))
    return str(folder)


def vislm(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_serve_answers_and_ends_when_it_is_told(folder, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vislm_tutorial", "serve", "--pipeline", folder]
    command += ["--port", str(port), "--keep", str(tmp_path / "log")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while True:
            assert child.poll() is None and time.monotonic() < end
            try:
                if httpx.get(url + "/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        body = {"captions": ["a circle"], "steps": 2, "consent": True}
        assert httpx.post(url + "/draw", json=body, timeout=30).status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    finally:
        child.kill()
    assert [entry.caption for entry in CaptionLog(tmp_path / "log").read()] == ["a circle"]


def test_listen_shows_windows_and_missed_words(folder, log, tmp_path):
    said = vislm("listen", log, "--pipeline", folder, "--window", "30")
    assert "captions 1-30: unknown word 0.000" in said and "captions 31-60" in said
    assert "disc:" in said
    assert "No kept captions" in vislm("listen", str(tmp_path / "none"), code=1)


def test_a_model_that_learned_nothing_is_not_written(folder, log, tmp_path, monkeypatch):
    # Weights that are noise draw nothing right, before and after: the gate has to refuse.
    labels = tmp_path / "labels.yaml"
    labels.write_text("Crimson: Red\ndisc: circle\n")
    output = tmp_path / "new"
    options = ("-o", str(output), "--pipeline", folder, "--steps", "3", "--most", "20")
    CaptionLog(tmp_path / "log").append(typed_by_many(240, LABELS))
    said = vislm("retune", str(tmp_path / "log"), str(labels), *options, code=1)
    assert "refused" in said and "of 20" in said and not output.exists()
    with monkeypatch.context() as patch:  # too few to judge by: said before anything is taught
        patch.setattr("vislm_tutorial.serving.retune.teach", lambda *_, **__: pytest.fail("taught"))
        said = vislm("retune", log, str(labels), *options, code=1)
        assert "20 of each are needed" in said
    labels.write_text("crimson: ''\n")
    assert "is empty" in vislm("retune", log, str(labels), *options, code=1)
    labels.write_text("- crimson\n")
    assert "expected lines like" in vislm("retune", log, str(labels), "-o", str(output), code=1)
    labels.write_text("crimson: red\n")
    assert "exists" in vislm("retune", log, str(labels), "-o", str(tmp_path), code=1)


def test_the_app_is_a_command():
    assert "Gradio" in vislm("app", "--help")
