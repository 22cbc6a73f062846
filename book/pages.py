"""The pages of the book, in the order of _toc.yml.

python book/pages.py        prints the notebooks, one a line
"""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = (".ipynb", ".md")


def _names(entry: dict) -> list[str]:
    """Names of the pages of one table-of-contents entry and of everything below it."""
    own = [entry[key] for key in ("root", "file") if key in entry]
    below = [
        child
        for key in ("parts", "chapters", "sections", "entries")
        for child in entry.get(key, ())
    ]
    return own + [name for child in below for name in _names(child)]


def pages(root: Path = ROOT) -> list[Path]:
    """Each page's file, in reading order.

    Raises FileNotFoundError, naming the page, if _toc.yml lists one that is not there.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = []
    for name in _names(toc):
        candidates = [root / name] + [root / f"{name}{suffix}" for suffix in SUFFIXES]
        page = next((path for path in candidates if path.is_file()), None)
        if page is None:
            raise FileNotFoundError(
                f"_toc.yml lists {name!r}, but neither {name}.ipynb nor {name}.md exists: "
                f"write the page or take it out of _toc.yml"
            )
        found.append(page)
    return found


def notebooks(root: Path = ROOT) -> list[Path]:
    """The pages that are notebooks."""
    return [page for page in pages(root) if page.suffix == ".ipynb"]


if __name__ == "__main__":
    for notebook in notebooks():
        print(notebook.relative_to(ROOT))
