"""Write vislm_tutorial/chapter_weights.json: what lies in book/weights, with its sha256."""

from __future__ import annotations

import json

from vislm_tutorial._files import sha256_of
from vislm_tutorial.chapter_weights import CHECKOUT, FOLDER, TABLE

NEEDED = (
    *("*.safetensors", "config.json", "scheduler_config.json", "model_index.json"),
    *("tokenizer.json", "tokenizer_config.json", "joined.json"),  # of page 5.13
    *("run.json", "log.jsonl", "exact_eval.json"),  # which pages read
)


def listed() -> dict[str, dict[str, str]]:
    """Name -> {file: sha256} of what a page opens."""
    return {
        folder.name: {
            file.relative_to(folder).as_posix(): sha256_of(file)
            for pattern in NEEDED
            for file in sorted(folder.rglob(pattern))
        }
        for folder in sorted((CHECKOUT / FOLDER).iterdir())
        if folder.is_dir()
    }


if __name__ == "__main__":
    table = json.dumps(listed(), indent=1) + "\n"
    (CHECKOUT / "vislm_tutorial" / TABLE).write_text(table, encoding="utf-8")
