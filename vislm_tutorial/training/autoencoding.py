"""The first stage of a run: an autoencoder is trained on the run's pictures, or taken over."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import registry
from .._files import replaced_when_complete
from ..generators import Autoencoder, AutoencoderObjective
from .config import TrainingConfig
from .datasets import picture_batches, stack_images
from .loop import train
from .state import TrainingResult

if TYPE_CHECKING:
    from .recipe import Recipe

BUNDLED = "bundled"  # `autoencoder_from` of the one that the package ships
CALIBRATION = 1024  # pictures that latents are normalised by


def load_autoencoder(source: str | Path) -> Autoencoder:
    """A trained autoencoder, float32, in eval mode.

    Args:
        source: "bundled", or the folder of a run, of a pipeline, or of the autoencoder itself.

    Raises:
        FileNotFoundError: if there is none.
        registry.AssetError: if it is the bundled one, and this installation has none.
    """
    base = registry.find("scenes-weights") if source == BUNDLED else Path(source).expanduser()
    for folder in (base / "autoencoder" / "model", base / "autoencoder", base):
        if (folder / Autoencoder.config_name).is_file():
            return Autoencoder.from_pretrained(folder).float().eval()
    raise FileNotFoundError(
        f"There is no trained autoencoder in {base}; expected the folder of a run whose first "
        f"stage is done, of a pipeline that has one, or {BUNDLED!r}."
    )


def latent_side(image_size: int, autoencoder: Autoencoder) -> int:
    """Cells on the side of the latent grid of a picture with `image_size` pixels on its side.

    Raises:
        ValueError: if the picture does not divide into cells.
    """
    side, rest = divmod(image_size, autoencoder.downsampling)
    if rest:
        raise ValueError(
            f"data.image_size is {image_size}; expected a multiple of {autoencoder.downsampling}, "
            "the pixels on the side of one of the autoencoder's cells."
        )
    return side


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
        latent_side(recipe.data.image_size, autoencoder)
        _save(autoencoder, target)
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        autoencoder = Autoencoder(**asdict(recipe.autoencoder))
    latent_side(recipe.data.image_size, autoencoder)
    objective = AutoencoderObjective(autoencoder)
    result = train(
        objective,
        pictures,
        config,
        run_dir,
        collate=stack_images,
        validate=_reconstruction_error(held) if len(held) else None,
        meta={"recipe": recipe.name, "stage": "autoencoder"},
    )
    if result.stopped in ("done", "early"):
        autoencoder.calibrate(next(picture_batches(pictures, CALIBRATION)).to(autoencoder.device))
        _save(autoencoder, target)
    return result


def _reconstruction_error(held: Dataset):
    images: Tensor = next(picture_batches(held, len(held)))

    @torch.no_grad()
    def validate(objective: AutoencoderObjective) -> dict[str, float]:
        model, pixels = objective.autoencoder, images.to(objective.autoencoder.device)
        drawn = model.reconstruct(model.posterior(pixels).mode()).clamp(-1, 1)
        return {"mse": (drawn - pixels).square().mean().item()}

    return validate


def _save(autoencoder: Autoencoder, target: Path) -> None:
    with replaced_when_complete(target) as temporary:
        autoencoder.save_pretrained(temporary)
