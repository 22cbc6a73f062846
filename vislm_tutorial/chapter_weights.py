"""What a single chapter needs: not in the package, but in the repository's book/ folder.

A checkout has it. Elsewhere, on Colab for one, it is fetched. Weights are compared with the sha256
of the table that comes with the package, chapter_weights.json, and fetched once; after new weights,
`python book/list_weights.py` writes the table anew.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from importlib import resources
from pathlib import Path

from . import registry
from ._files import replaced_when_complete, sha256_of

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = "book/weights"  # in the repository
BOOK = "book"
TABLE = "chapter_weights.json"  # name -> {file: sha256}


def weights_table() -> dict[str, dict[str, str]]:
    """All chapter weights: name -> {file in its folder: sha256}."""
    return json.loads((resources.files(__package__) / TABLE).read_text(encoding="utf-8"))


def find_chapter_weights(name: str, allow_network: bool = False) -> Path:
    """The folder of a pipeline that a chapter needs.

    Args:
        name: "image_gpt", say.
        allow_network: fetch what is not on this machine; otherwise nothing is tried.

    Raises:
        ValueError: if there is none of that name.
        registry.AssetError: if it is not here and the network was not allowed, if it cannot be
            fetched, or if a file is not what the table says.
    """
    table = weights_table()
    if name not in table:
        raise ValueError(f"there are no weights {name!r}; expected one of {', '.join(table)}.")
    files = table[name]
    folder = CHECKOUT / FOLDER / name
    if not folder.is_dir():
        version = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
        folder = registry.cache_dir() / "chapters" / version / name
        if not folder.is_dir():
            if not allow_network:
                raise registry.AssetError(
                    f"the weights {name!r} are not on this machine: they are in a checkout of the "
                    "repository, and not in the package. Pass allow_network=True to fetch them."
                )
            _fetch(f"{registry.REPOSITORY}/raw/main/{FOLDER}/{name}", list(files), folder)
    for file, expected in files.items():
        if not (folder / file).is_file() or sha256_of(folder / file) != expected:
            raise registry.AssetError(
                f"{folder / file} is not the file that was tested; its sha256 should be "
                f"{expected}. Restore it (`git checkout {FOLDER}`), or delete {folder} and fetch "
                "the weights again."
            )
    return folder


def stored_results(name: str, allow_network: bool = False) -> dict:
    """What a script in benchmarks/ stored in book/results/`name`.json.

    Args:
        name: "ablation", say.
        allow_network: fetch it where there is no checkout; otherwise nothing is tried.

    Raises:
        registry.AssetError: if it is not here and the network was not allowed, or if it cannot be
            fetched.
    """
    return json.loads(book_file(f"results/{name}.json", allow_network))


def book_file(name: str, allow_network: bool = False) -> bytes:
    """The bytes of a small file in the repository's book/ folder.

    Args:
        name: "results/ablation.json", say.
        allow_network, Raises: as for `stored_results`.
    """
    file = f"{BOOK}/{name}"
    if (CHECKOUT / file).is_file():
        return (CHECKOUT / file).read_bytes()
    if not allow_network:
        raise registry.AssetError(
            f"there is no {file} on this machine: it is in a checkout of the repository, and not "
            "in the package. Pass allow_network=True to fetch it."
        )
    return _answer(f"{registry.REPOSITORY}/raw/main/{file}")


def _fetch(address: str, files: list[str], folder: Path) -> None:
    """Each file of `address` into `folder`, which appears when all are there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_complete(folder) as temporary:
        for file in files:
            target = temporary / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_answer(f"{address}/{file}"))


def _answer(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise registry.AssetError(
            f"{address} could not be fetched: {error}. Check the connection, and that the "
            "repository's address in pyproject.toml is right."
        ) from error
