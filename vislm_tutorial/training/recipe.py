"""A recipe: one YAML file that says everything about a text-to-image run, and the run itself.

Up to three stages, each resumable: an autoencoder learns to fold images into latents, a codebook
makes whole numbers of them where the generator writes codes, then the fusion and the generator
learn from captions. A language model that stays frozen encodes each caption once, kept on disk.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
import yaml
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset, Subset

from .._files import replaced_when_complete
from ..encoders import CachedEncoder, TextEncoder, TokenReader, load_encoder
from ..fusion import FusionConfig, standardise
from ..generators import (
    AutoencoderConfig,
    CGANConfig,
    CodebookConfig,
    FlowConfig,
    Generator,
    GeneratorConfig,
)
from ..tuning import AdaLoRA, Tuning
from . import checkpoint
from .adversarial import Adversarial
from .autoencoding import (
    AUTOENCODER,
    CODEBOOK,
    load_autoencoder,
    prepare_autoencoder,
    prepare_codebook,
)
from .config import TrainingConfig, load_dataclass
from .datasets import (
    DataConfig,
    PreparedCaptions,
    first,
    load_images,
    prepare_pictures,
    split_rows,
)
from .loop import train
from .state import TrainingResult
from .text_to_image import build_model, load_taught, load_weights, sampler, validation_loss

RECIPE_FILE = "recipe.yaml"  # in a run's folder
GENERATOR = "generator"  # folder of the last stage
STANDARD = 512  # captions by which a fusion is standardised
INTERRUPTED = ("time", "signal")  # ways to stop after which a run can be taken up again


@dataclass(frozen=True)
class EncoderConfig:
    """The language model; what of it learns says the recipe's `tuning`."""

    name: str = "minilm"  # as in load_encoder
    layers: str | int = "mean"  # "last", "mean", "plain mean", or a layer's number


@dataclass(frozen=True)
class Recipe:
    """All of a run.

    Raises:
        ValueError: for parts that contradict each other.
    """

    name: str
    description: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    generator: GeneratorConfig = field(default_factory=FlowConfig)
    autoencoder: AutoencoderConfig | None = field(default_factory=AutoencoderConfig)  # null: pixels
    autoencoder_from: str = ""  # a trained one ("bundled", a folder) in its place; "": train it
    autoencoder_training: TrainingConfig = field(default_factory=TrainingConfig)
    codebook: CodebookConfig | None = None  # for generators that write codes
    codebook_training: TrainingConfig = field(default_factory=TrainingConfig)
    weights_from: str = ""  # flow: "bundled" or a folder, to go on from its weights; "": fresh
    weights_of: tuple[Literal["fusion", "generator"], ...] = ("fusion", "generator")  # taken over
    freeze: tuple[Literal["fusion", "generator"], ...] = ()  # stay as they were taken over
    tuning: Tuning | None = None  # what of the language model learns; null: nothing
    training: TrainingConfig = field(default_factory=TrainingConfig)
    caption_dropout: float = 0.1  # how often a caption is replaced by the empty one
    adversarial: Adversarial | None = None  # learn from captions' states moved uphill, too

    def __post_init__(self) -> None:
        if self.autoencoder is None and self.autoencoder_from:
            raise ValueError(
                f"autoencoder is null, which means pixels, but autoencoder_from is "
                f"{self.autoencoder_from!r}; remove one of the two."
            )
        if self.codebook is not None and self.autoencoder is None:
            raise ValueError(
                "autoencoder is null, which means pixels, but there is a codebook, which is of "
                "latents; remove one of the two."
            )
        if self.weights_from and not isinstance(self.generator, FlowConfig):
            raise ValueError(
                f"weights_from is {self.weights_from!r}, but only a flow goes on from the weights "
                f"of another run; remove it, or take another generator than {self.generator.kind}."
            )
        if self.weights_from and self.autoencoder and self.autoencoder_from != self.weights_from:
            raise ValueError(
                f"weights_from is {self.weights_from!r}, and its backbone draws the latents of its "
                f"own autoencoder; set autoencoder_from, now {self.autoencoder_from!r}, to it too."
            )
        fresh = set(self.freeze) - set(self.weights_of if self.weights_from else ())
        if fresh:
            raise ValueError(
                f"freeze is {self.freeze}, but the {' and the '.join(sorted(fresh))} would begin "
                "with random weights and keep them; take trained ones over with weights_from and "
                "weights_of, or let them learn."
            )
        if set(self.freeze) == {"fusion", "generator"} and self.tuning is None:
            raise ValueError(
                "freeze names fusion and generator, and without tuning the language model is "
                "frozen too, so nothing is left to learn; remove one of the three."
            )
        if isinstance(self.tuning, AdaLoRA) and self.training.ema_decay:
            raise ValueError(
                f"training.ema_decay is {self.training.ema_decay}, but an average never forgets "
                "the entries that AdaLoRA sets to 0, so its ranks would not fall; set it to 0."
            )
        if self.training.sharding == "fsdp":
            if self.adversarial is not None:
                raise ValueError(
                    f"training.sharding is 'fsdp', but adversarial is {self.adversarial}, which "
                    "goes back through the model in the middle of a forward pass, when FSDP has "
                    "let its weights go; set ddp."
                )
            if isinstance(self.tuning, AdaLoRA):
                raise ValueError(
                    "training.sharding is 'fsdp', but tuning is AdaLoRA, which compares the "
                    "entries of whole matrices, not of slices; set ddp."
                )
        timed = self.fusion.kind == "timestep_resampler"
        if timed and not isinstance(self.generator, FlowConfig):
            raise ValueError(
                f"fusion is timestep_resampler, but a generator of kind {self.generator.kind} has "
                "no timesteps; take a flow, or the fusion pooled, projector, resampler or queries."
            )
        if isinstance(self.generator, CGANConfig) and self.training.validate_every:
            raise ValueError(
                f"training.validate_every is {self.training.validate_every}, but the loss of a GAN "
                "is that of two players and says nothing about its pictures; set it to 0."
            )
        if isinstance(self.generator, CGANConfig) and self.adversarial is not None:
            raise ValueError(
                f"adversarial is {self.adversarial}, but the loss of a GAN is that of two players, "
                "and what raises one lowers the other; remove one of the two."
            )
        for stage in ("autoencoder_training", "codebook_training", "training"):
            every = getattr(self, stage).validate_every
            if every and not self.data.validation:
                raise ValueError(
                    f"{stage}.validate_every is {every}, but data.validation is 0, so there is "
                    "nothing to validate on; change one of the two."
                )


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe of the package by name ("scenes"), or a YAML file by path.

    Raises:
        FileNotFoundError: when there is neither; the message lists the names.
        ValueError, TypeError: for a bad key or value; the message names it.
    """
    path = Path(name_or_path)
    bundled = Path(str(resources.files("vislm_tutorial"))) / "recipes"
    if path.suffix not in (".yaml", ".yml"):
        path = bundled / f"{name_or_path}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in bundled.glob("*.yaml")))
        raise FileNotFoundError(
            f"There is no recipe {str(name_or_path)!r}; give one of {names}, "
            "or the path of a .yaml file."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    return load_dataclass(Recipe, content, path.name)


def train_recipe(
    recipe: Recipe,
    run_dir: str | Path,
    *,
    max_minutes: float = 0.0,
    say: Callable[[str], None] = print,
) -> TrainingResult:
    """Run a recipe, or take it up where it stopped.

    Args:
        recipe: from `load_recipe`.
        run_dir: keeps the recipe; `autoencoder/`, `codebook/` and `generator/` below it hold each
            stage's log, checkpoints and weights.
        max_minutes: stop after so long, resumable; 0: the recipe's own limits.
        say: receives one line a stage.

    Returns:
        How the last stage that ran ended.

    Raises:
        ValueError: if the run was begun with another recipe or with other pictures.
    """
    run_dir, start = Path(run_dir), time.monotonic()

    def limited(config: TrainingConfig) -> TrainingConfig:
        left = max(1e-6, max_minutes - (time.monotonic() - start) / 60)
        return replace(config, max_minutes=left) if max_minutes else config

    kept, processes = run_dir / RECIPE_FILE, _processes()
    with processes.main_process_first():
        if kept.is_file():
            _check_recipe(recipe, kept)
        else:
            _write_recipe(recipe, kept)
    say = say if processes.is_main_process else _nothing
    dataset = load_images(recipe.data)
    rows, held = split_rows(len(dataset), recipe.data)
    say(f"{recipe.name}: {len(rows):,} pictures of {recipe.data.image_size} px, {len(held)} held")
    pictures, apart = Subset(dataset, rows), Subset(dataset, held)
    autoencoder = None
    if recipe.autoencoder is not None:
        say("stage: autoencoder")
        config = limited(recipe.autoencoder_training)
        result = prepare_autoencoder(recipe, pictures, apart, run_dir / AUTOENCODER, config)
        if result is not None and result.stopped in INTERRUPTED:
            return result
        autoencoder = load_autoencoder(run_dir).to(_device())
    if recipe.codebook is not None:
        say(f"stage: codebook of {recipe.codebook.codes:,} entries")
        config = limited(recipe.codebook_training)
        result = prepare_codebook(recipe, autoencoder, pictures, apart, run_dir / CODEBOOK, config)
        if result is not None and result.stopped in INTERRUPTED:
            return result
        autoencoder = load_autoencoder(run_dir).to(_device())
    captions = list(dataset.captions)
    encoder = load_encoder(recipe.encoder.name, layers=recipe.encoder.layers, device=_device())
    model = build_model(recipe, encoder, autoencoder)
    stage = run_dir / GENERATOR
    if recipe.weights_from and (recipe.freeze or checkpoint.latest(stage) is None):
        load_weights(model, recipe.weights_from, recipe.weights_of)  # resuming, what stays frozen
        if "fusion" in recipe.weights_of:
            load_taught(encoder, recipe.weights_from)
    with processes.main_process_first():  # the others read what it wrote
        reader = TokenReader(encoder) if recipe.tuning else _knowing(encoder, captions, say)
    if recipe.fusion.standardise and not (recipe.weights_from and "fusion" in recipe.weights_of):
        some = [captions[row] for row in rows[:STANDARD]]
        states = (encoder if recipe.tuning else reader).encode(some)
        standardise(model.fusion, states.to(model.fusion.device))
    with processes.main_process_first():
        prepared = _prepared(
            dataset, model.generator.behind(autoencoder), run_dir / "pictures.safetensors"
        )
    every = sum(p.numel() for p in model.parameters()) / 1e6
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    some = "" if every == learned else f", {learned:.2f} M of them learn"
    say(f"stage: {recipe.generator.kind}, {every:.2f} M parameters{some}")
    pairs = PreparedCaptions(prepared, captions, reader, recipe.caption_dropout)
    shown = [captions[row] for row in (held or rows)[:16]]
    result = train(
        model,
        Subset(pairs, rows),
        limited(recipe.training),
        stage,
        collate=first,
        validate=validation_loss(prepared[held], [captions[row] for row in held], reader),
        sample=sampler(autoencoder, reader, shown),
        meta={"recipe": recipe.name, "stage": GENERATOR},
    )
    if processes.is_main_process:  # the loop took it: a resumed run may have been given more steps
        _write_recipe(recipe, kept)
    return result


def _processes() -> PartialState:
    """accelerate's view of this process and the others of the run."""
    return PartialState(cpu=not torch.accelerator.is_available())


def _device() -> torch.device:
    """Where accelerate will train."""
    return _processes().device


def _nothing(text: str) -> None:
    """What a process says that is not the first."""


def _check_recipe(recipe: Recipe, path: Path) -> None:
    """Refuse another recipe than the run at `path` was begun with."""
    before = load_recipe(path)
    # How long and how often is the loop's business, which has its own rules for a resumed run.
    free = ("name", "description", "autoencoder_training", "codebook_training", "training")
    for name in (name for name in vars(recipe) if name not in free):
        old, new = getattr(before, name), getattr(recipe, name)
        if old != new:
            raise ValueError(
                f"{path.parent} was begun with {name} {old}, now it is {new}. Give the old recipe "
                "to go on, or another run folder to start again."
            )


def _write_recipe(recipe: Recipe, path: Path) -> None:
    plain = json.loads(json.dumps(asdict(recipe)))  # tuples as lists, which YAML can write
    with replaced_when_complete(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def _knowing(
    encoder: TextEncoder, captions: list[str], say: Callable[[str], None]
) -> CachedEncoder:
    """The encoder with the states of all captions, and of the empty one, on disk."""
    encoder = CachedEncoder(encoder)
    say(f"captions: {len(set(captions)):,} different ones through {encoder.name}")
    encoder.encode_many([*dict.fromkeys(captions), ""], progress=sys.stderr.isatty())
    encoder.model.to("cpu")  # from here on states are only read, by the loader, on the CPU
    return encoder


def _prepared(dataset: Dataset, generator: Generator, path: Path) -> Tensor:
    """The data set as the generator's loss sees it, computed once and kept beside the run."""
    if path.is_file():
        pictures = load_file(path)["pictures"]
        if len(pictures) != len(dataset):
            raise ValueError(
                f"The run in {path.parent} was begun with {len(pictures)} pictures, now there are "
                f"{len(dataset)}. Give the same ones to go on, or another run folder."
            )
        return pictures
    pictures = prepare_pictures(dataset, generator, _device())
    with replaced_when_complete(path) as temporary:
        save_file({"pictures": pictures}, temporary)
    return pictures
