"""Chapter weights: found in the checkout, else fetched once; never used unchecked."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading

import list_weights
import pytest
import torch

from vislm_tutorial import chapter_weights, registry
from vislm_tutorial.chapter_weights import (
    CHECKOUT,
    FOLDER,
    find_chapter_weights,
    stored_results,
    weights_table,
)
from vislm_tutorial.pipeline import VisLMPipeline

NAME = "image_gpt"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An installation without a checkout; the repository is a server in this process."""
    monkeypatch.setattr(chapter_weights, "CHECKOUT", tmp_path / "site")
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))
    served = tmp_path / "served"
    shutil.copytree(CHECKOUT / FOLDER / NAME, served / "raw" / "main" / FOLDER / NAME)

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Silent, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            registry, "_repository", lambda: f"http://127.0.0.1:{server.server_port}"
        )
        yield served
        server.shutdown()


def test_the_table_is_what_lies_in_the_checkout():
    assert weights_table() == list_weights.listed(), "run: python book/list_weights.py"


def test_in_a_checkout_nothing_is_fetched(monkeypatch):
    monkeypatch.setattr(chapter_weights, "_fetch", None)
    assert find_chapter_weights(NAME, allow_network=True) == CHECKOUT / FOLDER / NAME


def test_elsewhere_they_are_fetched_once_and_draw(elsewhere):
    with pytest.raises(registry.AssetError, match="Pass allow_network=True"):
        find_chapter_weights(NAME)
    folder = find_chapter_weights(NAME, allow_network=True)
    shutil.rmtree(elsewhere)  # the second time nothing is asked for
    assert find_chapter_weights(NAME) == folder
    pipe = VisLMPipeline.from_bundled(NAME)
    assert pipe("a red circle", output_type="pt").images.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", ["cvae", "cgan"])
def test_who_draws_behind_the_shipped_autoencoder_has_no_copy_of_it(name):
    assert not (find_chapter_weights(name) / "autoencoder").exists()
    theirs = VisLMPipeline.from_bundled(name).autoencoder.state_dict()
    shipped = VisLMPipeline.from_bundled().autoencoder.state_dict()
    assert theirs.keys() == shipped.keys()
    assert all(torch.equal(theirs[k], shipped[k]) for k in shipped)


def test_what_was_damaged_on_the_way_is_refused(elsewhere):
    file = next((elsewhere / "raw").rglob("fusion/*.safetensors"))
    file.write_bytes(b"something else")
    with pytest.raises(registry.AssetError, match="is not the file that was tested"):
        find_chapter_weights(NAME, allow_network=True)


def test_a_server_without_them_is_named(elsewhere):
    shutil.rmtree(elsewhere / "raw")
    with pytest.raises(registry.AssetError, match="could not be fetched.*Check the connection"):
        find_chapter_weights(NAME, allow_network=True)


def test_results_are_read_from_the_checkout_or_fetched(elsewhere, monkeypatch):
    with pytest.raises(registry.AssetError, match="Pass allow_network=True"):
        stored_results("ablation")
    served = elsewhere / "raw" / "main" / "book" / "results" / "ablation.json"
    served.parent.mkdir(parents=True)
    served.write_text('{"rows": [1]}')
    assert stored_results("ablation", allow_network=True) == {"rows": [1]}
    monkeypatch.setattr(chapter_weights, "CHECKOUT", CHECKOUT)
    assert len(stored_results("ablation", allow_network=True)["rows"]) > 50


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="no weights 'gtp'; expected one of .*image_gpt"):
        find_chapter_weights("gtp")
