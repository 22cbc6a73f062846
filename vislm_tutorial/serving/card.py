"""A pipeline's folder as others get it: a model card from what lies in it, checked, then sent.

Every number of the card is read from the folder: the recipe, the record of the run, the scores.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import EvalResult as HubScore
from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from .. import registry
from ..evaluation.report import EvalResult
from ..pipeline import ENCODER
from . import card_text as text

CARD = "README.md"  # where hubs look for it
KINDS = (".safetensors", ".json", ".jsonl", ".yaml", ".md", ".png")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".joblib")
LARGEST = 5 * 10**9  # bytes a file


class CardError(ValueError):
    """A folder that cannot be described or published; the message says what to change."""


@dataclass(frozen=True)
class Publication:
    """What goes to a hub: where, which files, how large; `address` once it is there."""

    repo_id: str
    files: tuple[tuple[str, int], ...]  # name in the folder, bytes
    address: str | None = None  # None: a dry run

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.files)
        lines = [f"{name:<{width}} {size:>12,}" for name, size in self.files]
        end = f"sent to {self.address}" if self.address else "nothing was sent: a dry run"
        total = f"{len(self.files)} files, {self.size / 1e6:.1f} MB for {self.repo_id}; {end}"
        return "\n".join([*lines, total])


def model_card(folder: str | Path, repo_id: str = "your-name/your-model") -> str:
    """The card of a pipeline's folder: YAML for the hub, then Markdown for people.

    Args:
        folder: as `vislm train` or `save_pretrained` wrote it. `recipe.yaml`, `run.json` and
            `exact_eval.json` are read where they are; without one the card says what is not known.
        repo_id: where it will be, for the lines that load it.

    Raises:
        CardError: if it is no pipeline's folder, or a file in it cannot be read.
    """
    folder = Path(folder)
    index = _json(folder / "model_index.json")
    if index is None or "encoder_name" not in index:
        raise CardError(
            f"{folder} is no pipeline's folder (it has no model_index.json that names an encoder). "
            "A run's is its subfolder pipeline/."
        )
    recipe = _yaml(folder / "recipe.yaml") or {}
    run = _json(folder / "run.json")
    scores = folder / "exact_eval.json"
    try:
        result = EvalResult.from_json(scores.read_text("utf-8")) if scores.is_file() else None
    except (ValueError, KeyError, TypeError) as error:
        raise CardError(
            f"{scores} cannot be read ({error}); write it anew with `vislm evaluate -o "
            f"{scores.with_suffix('')}`."
        ) from error
    words, licence = _data(recipe)
    title = repo_id.split("/")[-1]
    body = text.PAGE.format(
        title=title,
        description=recipe.get("description") or "A caption becomes a picture.",
        use=text.USE.format(
            repo_id=repo_id, repository=registry.REPOSITORY, encoder=index["encoder_name"]
        ),
        data=words,
        parts=_parts(index, licence, taught=(folder / ENCODER).is_dir()),
        training=_training(recipe, run),
        scores=text.scores_section(result) if result else "Not measured (`vislm evaluate`).",
        limits=text.limits_section(result),
    )
    return f"---\n{_front_matter(index, recipe, result, licence, title)}\n---\n\n{body}"


def write_card(
    folder: str | Path, repo_id: str = "your-name/your-model", *, force: bool = False
) -> Path:
    """Write the card to the folder's README.md; returns its path. Raises as `model_card`.

    Args:
        force: also over one that is there; otherwise it stays, for somebody may have filled it in.
    """
    card = model_card(folder, repo_id)
    path = Path(folder) / CARD
    if force or not path.exists():
        path.write_text(card, encoding="utf-8")
    return path


def check_folder(folder: str | Path) -> tuple[tuple[str, int], ...]:
    """The files that would be sent, each with its bytes.

    Raises:
        CardError: for a file that could run code when it is loaded, of a kind that does not belong
            here, too large, or a link; or if there are no weights.
    """
    folder = Path(folder)
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CardError(f"{name} is a link; copy the file itself into the folder.")
        if path.is_dir():
            continue
        if path.suffix in PICKLED:
            raise CardError(
                f"{name} can run code when it is loaded; save weights with safe_serialization=True "
                "(safetensors) and delete it."
            )
        if path.suffix not in KINDS:
            raise CardError(
                f"{name} does not belong into a pipeline's folder (expected {', '.join(KINDS)}); "
                "move it elsewhere, so that nothing is published by mistake."
            )
        size = path.stat().st_size
        if size > LARGEST:
            raise CardError(
                f"{name} has {size / 1e9:.1f} GB; expected at most {LARGEST / 1e9:g} GB a file. "
                "Save it with a smaller max_shard_size."
            )
        files.append((name, size))
    if not any(name.endswith(".safetensors") for name, _ in files):
        raise CardError(f"{folder} holds no weights (*.safetensors); save the pipeline first.")
    return tuple(files)


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    allow_network: bool = False,
    private: bool = True,
    api: HfApi | None = None,
) -> Publication:
    """Write a card if there is none, check the folder and, if the network is allowed, send it.

    Args:
        folder: of a pipeline.
        repo_id: "<owner>/<name>".
        allow_network: send it, as whoever `hf auth login` has logged in; otherwise a dry run.
        private: of a repository that is made for it: nobody else sees it.
        api: None: the hub's own.

    Raises:
        CardError: as `model_card` and `check_folder`, for a name that no hub takes, or before
            sending a card with a place that is still to be filled in.
    """
    try:
        validate_repo_id(repo_id)
        named = repo_id.count("/") == 1
    except HFValidationError:
        named = False
    if not named:
        raise CardError(f"repo_id is {repo_id!r}; expected '<owner>/<name>', say 'ada/shapes'.")
    check_folder(folder)  # before anything is written into it
    card = write_card(folder, repo_id)
    files = check_folder(folder)
    if not allow_network:
        return Publication(repo_id, files)
    if text.TO_FILL_IN in card.read_text(encoding="utf-8"):
        raise CardError(
            f"{card} still says '{text.TO_FILL_IN}': write there what the pictures are and whether "
            "they may be used, then send it."
        )
    api = HfApi() if api is None else api
    api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(
        folder_path=str(folder),
        repo_id=repo_id,
        allow_patterns=[name for name, _ in files],
        commit_message="A pipeline of vislm-tutorial with its card",
    )
    return Publication(repo_id, files, f"{api.endpoint}/{repo_id}")


# --- the sections ---


def _data(recipe: dict) -> tuple[str, str]:
    source = recipe.get("data", {}).get("source")
    if source is None:
        return text.UNKNOWN_DATA, "other"
    return text.DATA.get(source, (text.FOLDER, "other"))


def _parts(index: dict, licence: str, taught: bool) -> str:
    classes = ((name, index.get(name)) for name in ("fusion", "backbone", "autoencoder"))
    rows = [(name, value[1], licence) for name, value in classes if value and value[1]]
    name = index["encoder_name"]
    asset = registry.ASSETS.get(name.removeprefix("scratch:").partition(":")[0])
    known = asset.licence if asset else "see its own page"
    title = asset.title if asset else name
    if taught:
        title += "; what it was taught for this lies in encoder/"
    return text.table(("part", "what it is", "licence"), [*rows, ("language model", title, known)])


def _machine(run: dict) -> str:
    if run.get("device", "cpu") != "cpu":
        return run["device"]
    return f"{run.get('machine', 'an unnamed machine')} ({run.get('cpu_count', '?')} CPU cores)"


def _training(recipe: dict, run: dict | None) -> str:
    if run is None:
        return "The folder holds no record of its training."
    config, versions = run.get("config", {}), run.get("versions", {})
    data = recipe.get("data", {})
    lines = [
        f"- {run['step']:,} steps of {config.get('batch_size', '?')} pictures in "
        f"{run['minutes']:.0f} minutes on {_machine(run)}, "
        f"{run.get('precision', 'in unknown precision')}",
        f"- {config.get('optimizer', '?')}, learning rate {config.get('learning_rate', '?')} "
        f"({config.get('schedule', '?')}), weights averaged with decay "
        f"{config.get('ema_decay', '?')}, seed {run.get('seed', '?')}",
    ]
    if data:
        lines.append(
            f"- data: {data.get('size', '?')} pictures of {data.get('image_size', '?')} px, "
            f"{data.get('validation', '?')} of them for validation; last training loss "
            f"{run['final_loss']:.3f}"
        )
    if versions:
        lines.append("- with " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    return "\n".join(lines)


def _front_matter(
    index: dict, recipe: dict, result: EvalResult | None, licence: str, title: str
) -> str:
    asset = registry.ASSETS.get(index["encoder_name"])
    kind = recipe.get("generator", {}).get("kind")
    scores = None
    if result is not None:
        scores = [
            HubScore(
                task_type="text-to-image",
                dataset_type="exact-eval",
                dataset_name=f"ExactEval, {task.replace('_', ' ')}",
                dataset_config=task,
                metric_type="accuracy",
                metric_value=round(score.value, 4),
            )
            for task, score in result.scores.items()
        ]
    return ModelCardData(
        license=licence,
        language="en",
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["vislm-tutorial", *([kind.replace("_", "-")] if kind else [])],
        base_model=asset.hub_id if asset else None,
        model_name=title,
        eval_results=scores,
    ).to_yaml()


def _json(path: Path) -> dict | None:
    return _read(path, json.loads)


def _yaml(path: Path) -> dict | None:
    return _read(path, yaml.safe_load)


def _read(path: Path, parse) -> dict | None:
    """A file's mapping, or None if there is no such file."""
    if not path.is_file():
        return None
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise CardError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise CardError(f"{path} holds a {type(values).__name__}; expected a mapping.")
    return values
