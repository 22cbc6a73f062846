"""A write that is cut short leaves what was there before; a hash is computed once."""

import json
import os
import time

import pytest

from vislm_tutorial import _files


def test_a_file_is_replaced_only_when_its_writer_finished(tmp_path):
    path = tmp_path / "inner" / "data.txt"
    with _files.replaced_when_complete(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError), _files.replaced_when_complete(path) as temporary:
        temporary.write_text("sec")
        raise RuntimeError("killed")
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["data.txt"]


def test_results_are_gone_on_with_under_the_same_settings_only(tmp_path):
    path, settings = tmp_path / "results.json", {"steps": 10, "sizes": (1, 2)}
    fresh = _files.results_to_go_on_with(path, settings, {"rows": []})
    assert fresh == {"rows": [], "settings": {"steps": 10, "sizes": [1, 2]}}
    assert _files.results_to_go_on_with(None, settings, {"rows": []}) == fresh
    path.write_text(json.dumps(fresh | {"rows": [1]}))
    assert _files.results_to_go_on_with(path, settings, {"rows": []})["rows"] == [1]
    with pytest.raises(ValueError, match="results.json.* steps is 10 there, not 20. Delete it"):
        _files.results_to_go_on_with(path, settings | {"steps": 20}, {"rows": []})
    path.write_text(json.dumps({"rows": [1]}))  # of unknown settings
    with pytest.raises(ValueError, match="steps is None there, not 10"):
        _files.results_to_go_on_with(path, settings, {"rows": []})


def test_of_two_folders_the_first_complete_one_stays(tmp_path):
    path = tmp_path / "converted"
    for text in ("first", "second"):
        with _files.replaced_when_complete(path) as temporary:
            temporary.mkdir()
            (temporary / "data.txt").write_text(text)
    assert (path / "data.txt").read_text() == "first"
    assert os.listdir(tmp_path) == ["converted"]


def test_leftovers_are_removed_once_they_are_old(tmp_path):
    old, new = tmp_path / ".a.1.tmp", tmp_path / ".b.2.tmp"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - 2 * _files.DAY,) * 2)
    _files.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == [new.name]


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    hashed = []
    real = _files.sha256_of
    monkeypatch.setattr(_files, "sha256_of", lambda path: hashed.append(path) or real(path))
    file, memory = tmp_path / "data.bin", tmp_path / "memory"
    file.write_bytes(b"one")
    first = _files.remembered_sha256(tmp_path, "data.bin", memory)
    assert _files.remembered_sha256(tmp_path, "data.bin", memory) == first
    assert len(hashed) == 1
    _files.remembered_sha256(tmp_path, "data.bin", memory, afresh=True)
    assert len(hashed) == 2
    file.write_bytes(b"another")
    assert _files.remembered_sha256(tmp_path, "data.bin", memory) == real(file) != first


def test_a_damaged_memory_is_forgotten(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"one")
    (tmp_path / "sha256.json").write_text('{"torn')
    expected = _files.sha256_of(tmp_path / "data.bin")
    assert _files.remembered_sha256(tmp_path, "data.bin", tmp_path) == expected


def test_a_glob_stands_for_names_and_contents(tmp_path):
    folder = tmp_path / "drawings"
    folder.mkdir()
    for name in ("b.svg", "a.svg"):
        (folder / name).write_text(name)
    before = _files.remembered_sha256(folder, "*.svg", tmp_path)
    assert before == _files.sha256_of_all([folder / "a.svg", folder / "b.svg"])
    (folder / "b.svg").rename(folder / "c.svg")
    assert _files.remembered_sha256(folder, "*.svg", tmp_path, afresh=True) != before
    with pytest.raises(FileNotFoundError, match="no file matches"):
        _files.remembered_sha256(folder, "*.png", tmp_path)
