"""The repository's address: read from pyproject.toml, copied where nothing can read it.

    python book/address.py      (or `make address`) renews the copies after a fork changed the line

Copies stand in CITATION.cff, in the README and in each notebook's set-up cell, which must know the
address before anything of the book is installed. The book's own pages get it at build time.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import yaml
from pages import ROOT, notebooks

from vislm_tutorial.doctor import EXTRAS

# The package's own modules that import what an extra adds.
USERS = {
    "medical": ("vislm_tutorial.data.dicom",),
    "speech": ("vislm_tutorial.speech",),
    "widgets": ("vislm_tutorial.viz.painter",),
    "search": ("vislm_tutorial.tuning.search",),
    "shards": ("vislm_tutorial.data.shards", "vislm_tutorial.training.streaming"),
    "serving": ("vislm_tutorial.serving",),
}
SET_UP_TAG = "set-up"
SET_UP_METADATA = {
    "tags": [SET_UP_TAG, "hide-input"],
    "mystnb": {"code_prompt_show": "Set-up, for Colab", "code_prompt_hide": "Set-up, for Colab"},
}
SET_UP_CELL = """\
import os

if "COLAB_RELEASE_TAG" in os.environ:  # on Colab only: install the book's
    # package and its models, keeping each version that is there already
    source = "git+{address}"
    !pip list --format=freeze > versions.txt
    !pip install -q -c versions.txt "vislm-tutorial[{extras}] @ {{source}}"
    !vislm models get"""


def address(root: Path = ROOT) -> str:
    """The line of pyproject.toml that a fork changes, without a slash at its end."""
    # Read as text: tomllib is not in Python 3.10.
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    lines = re.findall(r'^Repository = "(https://[^"/]+/[^"/]+/[^"/]+)/?"$', text, re.MULTILINE)
    if len(lines) != 1:
        raise ValueError(
            f'pyproject.toml must hold one line Repository = "https://host/owner/name"; '
            f"found {len(lines)}"
        )
    return lines[0]


def site(root: Path = ROOT) -> str:
    """Where GitHub Pages publishes the book of that repository."""
    owner, name = address(root).split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


def extras_of(notebook: nbformat.NotebookNode) -> str:
    """The package's extras that a page needs beside the drawings, from what its code imports."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    needed = ["drawings"]
    for extra, (_, modules) in EXTRAS.items():
        users = "|".join([*modules, *(re.escape(name) for name in USERS.get(extra, ()))])
        if extra not in needed and re.search(rf"^\s*(?:import|from) (?:{users})\b", code, re.M):
            needed.append(extra)
    return ",".join(needed)


def set_up_cell(notebook: nbformat.NotebookNode, root: Path = ROOT) -> str:
    """Source of the first code cell of a notebook."""
    return SET_UP_CELL.format(address=address(root), extras=extras_of(notebook))


def is_set_up(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell is the one that installs the package on Colab."""
    return SET_UP_TAG in cell.metadata.get("tags", [])


def renew(root: Path = ROOT) -> list[Path]:
    """Write the address into each copy; returns the files that changed."""
    citation = root / "CITATION.cff"
    old = yaml.safe_load(citation.read_text(encoding="utf-8"))
    copies = {
        old["repository-code"]: address(root),
        old["url"]: site(root),
        # The owner/name inside a Colab link.
        "/".join(old["repository-code"].split("/")[-2:]): "/".join(address(root).split("/")[-2:]),
    }
    # One pass, longest first: a replaced text is never replaced again.
    any_copy = re.compile("|".join(re.escape(text) for text in sorted(copies, key=len)[::-1]))
    changed = []
    for path in (citation, root / "README.md"):
        before = path.read_text(encoding="utf-8")
        after = any_copy.sub(lambda found: copies[found[0]], before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    for path in notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            wanted = (set_up_cell(notebook, root), SET_UP_METADATA)
            if is_set_up(cell) and (cell.source, cell.metadata) != wanted:
                cell.source, cell.metadata = wanted
                nbformat.write(notebook, path)
                changed.append(path)
    return changed


if __name__ == "__main__":
    for path in renew():
        print(f"renewed {path.relative_to(ROOT)}")
    print(f"the repository's address is {address()}")
