"""The first stages of a run: an autoencoder is trained or taken over, and may get a codebook."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import registry
from .._files import replaced_when_complete
from ..generators import (
    Autoencoder,
    AutoencoderObjective,
    CodebookObjective,
    VQAutoencoder,
)
from .config import TrainingConfig
from .datasets import picture_batches, stack_images
from .loop import train
from .state import TrainingResult

if TYPE_CHECKING:
    from .recipe import Recipe

AUTOENCODER, CODEBOOK = "autoencoder", "codebook"  # folders of the stages in a run's
BUNDLED = "bundled"  # `autoencoder_from` of the one that the package ships
CALIBRATION = 1024  # pictures that latents are normalised by


def load_autoencoder(source: str | Path) -> Autoencoder:
    """A trained autoencoder, float32, in eval mode: with a codebook if it has one.

    Args:
        source: "bundled", or the folder of a run, of a pipeline, or of the autoencoder itself.

    Raises:
        FileNotFoundError: if there is none.
        registry.AssetError: if it is the bundled one, and this installation has none.
    """
    base = registry.find("scenes-weights") if source == BUNDLED else Path(source).expanduser()
    stages = (base / CODEBOOK / "model", base / AUTOENCODER / "model", base / AUTOENCODER, base)
    for folder in stages:
        if (folder / Autoencoder.config_name).is_file():
            kind = Autoencoder.load_config(folder)["_class_name"]
            model = VQAutoencoder if kind == VQAutoencoder.__name__ else Autoencoder
            return model.from_pretrained(folder).float().eval()
    raise FileNotFoundError(
        f"There is no trained autoencoder in {base}; expected the folder of a run whose first "
        f"stage is done, of a pipeline that has one, or {BUNDLED!r}."
    )


def prepare_autoencoder(
    recipe: Recipe, pictures: Dataset, held: Dataset, run_dir: Path, config: TrainingConfig
) -> TrainingResult | None:
    """Put the autoencoder of a recipe into `run_dir/model`, trained or taken over.

    Args:
        recipe: names an autoencoder to take over (`autoencoder_from`), or the shape of a new one.
        pictures: to learn from.
        held: for validation; may be empty.
        run_dir: of this stage; training that stopped half-way is resumed.
        config: `recipe.autoencoder_training`, perhaps with another time limit.

    Returns:
        How training ended, or None if there was nothing to train. Only if it was "done" or
        "early" is there a `run_dir/model`.

    Raises:
        ValueError: if the pictures do not divide into latent cells.
        FileNotFoundError, registry.AssetError: as `load_autoencoder`.
    """
    target = run_dir / "model"
    if target.is_dir():
        return None
    if recipe.autoencoder_from:
        autoencoder = load_autoencoder(recipe.autoencoder_from)
        autoencoder.cells(recipe.data.image_size)
        _save(autoencoder, target)
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        autoencoder = Autoencoder(**asdict(recipe.autoencoder))
    autoencoder.cells(recipe.data.image_size)
    objective = AutoencoderObjective(autoencoder)
    result = train(
        objective,
        pictures,
        config,
        run_dir,
        collate=stack_images,
        validate=_reconstruction_error(held) if len(held) else None,
        meta={"recipe": recipe.name, "stage": AUTOENCODER},
    )
    if result.stopped in ("done", "early"):
        autoencoder.calibrate(next(picture_batches(pictures, CALIBRATION)).to(autoencoder.device))
        _save(autoencoder, target)
    return result


def prepare_codebook(
    recipe: Recipe,
    autoencoder: Autoencoder,
    pictures: Dataset,
    held: Dataset,
    run_dir: Path,
    config: TrainingConfig,
) -> TrainingResult | None:
    """Give a trained autoencoder the recipe's codebook: arguments and answer as above.

    The codebook begins as the k-means of the pictures' latents, then all of it is trained.
    """
    target = run_dir / "model"
    if target.is_dir():
        return None
    first = next(picture_batches(pictures, CALIBRATION)).to(autoencoder.device)
    generator = torch.Generator().manual_seed(config.seed)
    codes = recipe.codebook.codes
    model = VQAutoencoder.from_autoencoder(autoencoder, codes, first, generator)
    objective = CodebookObjective(model, recipe.codebook)
    result = train(
        objective,
        pictures,
        config,
        run_dir,
        collate=stack_images,
        validate=_reconstruction_error(held) if len(held) else None,
        meta={"recipe": recipe.name, "stage": CODEBOOK},
    )
    if result.stopped in ("done", "early"):
        _save(model, target)
    return result


def _reconstruction_error(held: Dataset):
    """Mean squared error of the pictures kept apart."""
    images: Tensor = next(picture_batches(held, len(held)))

    @torch.no_grad()
    def validate(objective: AutoencoderObjective | CodebookObjective) -> dict[str, float]:
        model, pixels = objective.autoencoder, images.to(objective.autoencoder.device)
        return {"mse": (model.decode(model.encode(pixels)) - pixels).square().mean().item()}

    return validate


def _save(autoencoder: Autoencoder, target: Path) -> None:
    with replaced_when_complete(target) as temporary:
        autoencoder.save_pretrained(temporary)
