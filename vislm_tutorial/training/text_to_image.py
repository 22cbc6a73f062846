"""The last stage's model: a fusion and a generator, how they are judged and shown in training."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .. import registry
from ..data.images import grid
from ..encoders import CachedEncoder, TextEncoder, TokenReader
from ..encoders.learning import LearningEncoder
from ..fusion import build_fusion
from ..generators import Autoencoder, Generator, build_generator
from ..tuning import AdaLoRA, attach, load_learned
from ..types import Condition, TextStates, TimedCondition
from .adversarial import Adversarial, adversarial_loss
from .autoencoding import BUNDLED
from .datasets import as_batch

if TYPE_CHECKING:
    from ..tuning import AdaptiveRank
    from .recipe import Recipe

SAMPLE_GUIDANCE = 3.0  # guidance scale of the pictures drawn during training


class TextToImage(nn.Module):
    """What the last stage trains: a fusion and a generator under the generator's own loss.

    Args:
        encoder: where the language model learns too; "states" are then those of a `TokenReader`.
        ranks: of the encoder's AdaLoRA updates.
        adversarial: in training, learn from states moved to where the loss is higher, too.

    Its state leaves frozen parameters out: they are where they were loaded from.
    """

    def __init__(
        self,
        fusion: nn.Module,
        generator: Generator,
        encoder: LearningEncoder | None = None,
        ranks: AdaptiveRank | None = None,
        adversarial: Adversarial | None = None,
    ):
        super().__init__()
        self.fusion = fusion
        self.generator = generator
        self.encoder = encoder
        self.ranks = ranks
        self.adversarial = adversarial
        self.register_state_dict_post_hook(_without_frozen)
        self.register_load_state_dict_post_hook(_frozen_may_miss)

    def train(self, mode: bool = True) -> TextToImage:
        """As for every module; frozen networks stay in eval mode."""
        super().train(mode)
        for part in (self.fusion, self.generator):
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def condition(self, states: TextStates) -> Condition | TimedCondition:
        """What the generator receives for B captions."""
        return self.fusion(states if self.encoder is None else self.encoder(states))

    def forward(self, batch: dict, generator: torch.Generator | None = None) -> Tensor:
        """Scalar loss of `{"pictures": as Generator.prepare gives them, "states": TextStates}`."""
        if self.adversarial is not None and self.training:
            loss = self._adversarial_loss(batch, generator)
        else:
            condition = self.condition(batch["states"])
            loss = self.generator.prepared_loss(batch["pictures"], condition, generator)
        # What is validated is the generator's loss alone, comparable with any other run's.
        return loss + self.ranks.penalty() if self.ranks is not None and self.training else loss

    def _adversarial_loss(self, batch: dict, generator: torch.Generator) -> Tensor:
        states = batch["states"] if self.encoder is None else self.encoder(batch["states"])
        noise = generator.get_state()

        def loss(states: TextStates) -> Tensor:
            generator.set_state(noise)  # only the states differ from one call to the next
            return self.generator.prepared_loss(batch["pictures"], self.fusion(states), generator)

        return adversarial_loss(loss, states, self.adversarial)

    def after_update(self, step: int) -> None:
        """Called after update `step` (from 1), before its gradients are cleared."""
        if self.ranks is not None:
            self.ranks.after_update(step)

    def log_values(self) -> dict[str, float]:
        """What the log says of the model besides its loss."""
        if self.ranks is None:
            return {}
        ranks = self.ranks.ranks()
        return {"rank": sum(ranks.values()) / len(ranks)}


def build_model(
    recipe: Recipe, encoder: TextEncoder, autoencoder: Autoencoder | None
) -> TextToImage:
    """Fusion and generator with fresh weights, drawn from the recipe's seed.

    Where the recipe lets the encoder learn, its model is a part of the result. What the recipe
    freezes is frozen, and still has to be loaded (`load_weights`).

    Raises:
        ValueError: as `build_generator`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        fusion = build_fusion(recipe.fusion, encoder.width)
        generator = build_generator(
            recipe.generator, recipe.data.image_size, autoencoder, recipe.fusion.width
        )
    for name in recipe.freeze:
        {"fusion": fusion, "generator": generator}[name].requires_grad_(False)
    if recipe.tuning is None:
        return TextToImage(fusion, generator, adversarial=recipe.adversarial)
    config = recipe.training
    ranks = attach(encoder, recipe.tuning, steps=config.steps, seed=config.seed)
    return TextToImage(fusion, generator, LearningEncoder(encoder), ranks, recipe.adversarial)


def _without_frozen(model: TextToImage, state: dict, prefix: str, _metadata: object) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            state.pop(prefix + name, None)


def _frozen_may_miss(model: TextToImage, keys) -> None:
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    keys.missing_keys[:] = [key for key in keys.missing_keys if key not in frozen]


def load_weights(
    model: TextToImage, source: str, parts: Sequence[str] = ("fusion", "generator")
) -> None:
    """Give a flow the fusion and backbone of a trained pipeline, to go on from them.

    Args:
        model: of the same shape.
        source: "bundled", or the folder of a pipeline or of a finished run.
        parts: one of the two, or both.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its networks have another shape.
        registry.AssetError: if it is the bundled one, and this installation has none.
    """
    base = _pipeline_folder(source)
    for name in ("backbone" if part == "generator" else part for part in parts):
        part: ModelMixin = model.fusion if name == "fusion" else model.generator.backbone
        if not (base / name / part.config_name).is_file():
            raise FileNotFoundError(
                f"There is no trained {name} in {base}; expected the folder of a pipeline or of a "
                f"finished run, or {BUNDLED!r}."
            )
        ours = {"_class_name": type(part).__name__} | json.loads(part.to_json_string())
        theirs = part.load_config(base / name)
        for argument in inspect.signature(type(part)).parameters.values():
            theirs.setdefault(argument.name, argument.default)  # younger than the file
        other = [key for key in ours if key[:1] != "_" or key == "_class_name"]
        other = [key for key in other if theirs.get(key) != ours[key]]
        if other:
            raise ValueError(
                f"The {name} in {base} has { {key: theirs.get(key) for key in other} }, the recipe "
                f"asks for { {key: ours[key] for key in other} }; make them equal."
            )
        part.load_state_dict(type(part).from_pretrained(base / name).float().state_dict())


def load_taught(encoder: TextEncoder, source: str) -> None:
    """Give an encoder what a trained pipeline's was taught: its fusion knows no other states.

    Args:
        encoder: what the fusion is to go on with; with its strategy attached, if it learns.
        source: as for `load_weights`.

    Raises:
        ValueError: if the pipeline's encoder is another one, or was taught by another strategy.
    """
    from ..pipeline import ENCODER, VisLMPipeline

    base = _pipeline_folder(source)
    index = base / VisLMPipeline.config_name
    record = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    for name, ours in (("name", encoder.name), ("layers", encoder.layers)):
        theirs = record.get(f"encoder_{name}", ours)
        if theirs != ours:
            raise ValueError(
                f"The fusion in {base} was trained with encoder.{name} {theirs!r}, the recipe has "
                f"{ours!r}; make them equal, or take the generator alone over (weights_of)."
            )
    if not (base / ENCODER).is_dir():
        return
    if encoder.tuning is None or isinstance(encoder.tuning, AdaLoRA):
        raise ValueError(
            f"The encoder of {base} was taught, and a recipe with tuning {encoder.tuning} cannot "
            "go on from it: give the strategy that it was taught by, if that is not AdaLoRA, whose "
            "ranks have fallen; or take the generator alone over (weights_of)."
        )
    load_learned(encoder, base / ENCODER)


def _pipeline_folder(source: str) -> Path:
    base = registry.find("scenes-weights") if source == BUNDLED else Path(source).expanduser()
    return base / "pipeline" if (base / "pipeline").is_dir() else base


def validation_loss(
    pictures: Tensor, captions: list[str], encoder: CachedEncoder | TokenReader
) -> Callable[[TextToImage], dict[str, float]] | None:
    """The loss on B prepared pictures with their captions, always with the same noise.

    None if there are none.
    """
    if not captions:
        return None
    states = encoder.encode(captions)

    @torch.no_grad()
    def validate(model: TextToImage) -> dict[str, float]:
        device = next(model.parameters()).device
        batch = {"pictures": as_batch(pictures).to(device), "states": states.to(device)}
        return {"loss": model(batch, torch.Generator(device).manual_seed(0)).item()}

    return validate


def sampler(
    autoencoder: Autoencoder | None, encoder: CachedEncoder | TokenReader, captions: list[str]
) -> Callable[[TextToImage, Path], None]:
    """Draws a picture a caption, always from the same noise, into one PNG."""
    states, empty = encoder.encode(captions), encoder.encode([""])

    def sample(model: TextToImage, path: Path) -> None:
        device = next(model.parameters()).device
        generator = model.generator.behind(autoencoder)
        condition, options = model.condition(states.to(device)), {}
        if generator.guided:
            options["unconditional"] = model.condition(empty.to(device))
            options["guidance_scale"] = SAMPLE_GUIDANCE
        seeded = torch.Generator().manual_seed(0)
        grid(generator.sample(condition, generator=seeded, **options), columns=8).save(path)

    return sample
