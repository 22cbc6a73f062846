"""The repository's address stands in one line of pyproject.toml; its copies follow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import nbformat
import pytest
from address import SET_UP_TAG, address, renew, set_up_cell, site
from pages import ROOT, notebooks, pages

COPIES = ("README.md", "CITATION.cff")
EMPTY = nbformat.v4.new_notebook()
FORK = "https://github.com/somebody/drawing-course"


def repository_files():
    """Text files that are, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # pictures, weights


@pytest.fixture
def fork(tmp_path):
    """A copy of every file that holds the address, with the one line changed."""
    kept = [ROOT / name for name in ("pyproject.toml", "_toc.yml", *COPIES)]
    for path in [*kept, *pages()]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    line = tmp_path / "pyproject.toml"
    line.write_text(line.read_text(encoding="utf-8").replace(address(), FORK), encoding="utf-8")
    return tmp_path


def test_only_the_known_copies_name_the_address():
    owner_and_name = "/".join(address().split("/")[-2:])
    allowed = {ROOT / "pyproject.toml", *(ROOT / name for name in COPIES), *notebooks()}
    holders = {path for path, text in repository_files() if owner_and_name in text}
    assert ROOT / "pyproject.toml" in holders
    assert holders <= allowed, "derive it from pyproject.toml, as book/address.py does"


def test_copies_agree_with_the_line():
    name = address().split("/")[-1]
    pattern = re.compile(rf"github(?:\.com)?/([\w.-]+)/{re.escape(name)}\b")
    for copy in COPIES:
        text = (ROOT / copy).read_text(encoding="utf-8")
        owners = set(pattern.findall(text))
        assert owners == {address().split("/")[-2]}, f"{copy}: run `make address`"
        assert site() in text


def test_a_notebook_names_it_in_its_set_up_cell_only():
    for path in notebooks():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            named = address() in "".join(cell["source"])
            assert not named or _set_up(cell), path


def test_the_set_up_cell_installs_what_the_page_imports():
    page = nbformat.v4.new_notebook()
    page.cells = [nbformat.v4.new_code_cell("from vislm_tutorial.tuning.search import search")]
    assert "[drawings,search]" in set_up_cell(page)
    assert "[drawings]" in set_up_cell(EMPTY)


def test_a_fork_changes_one_line(fork):
    assert renew(fork), "renewing the copies changed nothing"
    assert address(fork) == FORK
    for path in fork.rglob("*"):
        if path.is_file() and path.suffix != ".png":
            text = path.read_text(encoding="utf-8")
            assert address() not in text and site() not in text, path.name
    assert f"git+{FORK}" in set_up_cell(EMPTY, fork)
    for copy in COPIES:
        assert FORK in (fork / copy).read_text(encoding="utf-8")
    assert renew(fork) == [], "a second renewal finds nothing to do"


def test_renewal_leaves_the_rest_of_a_notebook_alone(fork):
    before = {path: json.loads(path.read_text(encoding="utf-8")) for path in notebooks(fork)}
    renew(fork)
    for path, old in before.items():
        new = json.loads(path.read_text(encoding="utf-8"))
        assert new["metadata"] == old["metadata"]
        assert [cell for cell in new["cells"] if not _set_up(cell)] == [
            cell for cell in old["cells"] if not _set_up(cell)
        ]


def _set_up(cell):
    return SET_UP_TAG in cell["metadata"].get("tags", [])


@pytest.mark.parametrize("line", ["", 'Repository = "somewhere"', 'Repository = "https://a.b/c"'])
def test_a_broken_line_is_named(tmp_path, line):
    (tmp_path / "pyproject.toml").write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match="Repository"):
        address(tmp_path)


def test_set_up_cell_does_nothing_outside_colab(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    # IPython would hand a line that starts with "!" to the shell; plain Python may not reach one.
    plain = re.sub(r"^( *)!.*$", r"\1raise AssertionError", set_up_cell(EMPTY), flags=re.MULTILINE)
    assert plain.count("AssertionError") == 3
    exec(plain, {})
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    with pytest.raises(AssertionError):
        exec(plain, {})
