"""The stages of a recipe on fake tensors: what each trains, on which batch, for how many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from ..encoders import TextEncoder
from ..encoders.pretrained import outline
from ..generators import Autoencoder, AutoencoderObjective, CodebookObjective, VQAutoencoder
from ..training.autoencoding import AUTOENCODER, CODEBOOK, load_autoencoder
from ..training.config import TrainingConfig
from ..training.datasets import SceneImages
from ..training.recipe import Recipe
from ..training.text_to_image import build_model
from ..types import TextStates
from .counting import Count
from .updates import count_forward

ENCODING_BATCH = 64  # captions that `TextEncoder.encode` runs at a time
USUAL_TOKENS = 16  # of a caption, where it cannot be known without reading the data


@dataclass(frozen=True)
class Stage:
    """A part of a run that trains something."""

    name: str
    training: TrainingConfig
    build: Callable[[int], tuple[nn.Module, dict]]  # batch size -> model, batch


def trained(recipe: Recipe) -> list[tuple[str, TrainingConfig]]:
    """Names and settings of the stages that `train_recipe` trains, in its order."""
    found = []
    if recipe.autoencoder is not None and not recipe.autoencoder_from:
        found.append((AUTOENCODER, recipe.autoencoder_training))
    if recipe.codebook is not None:
        found.append((CODEBOOK, recipe.codebook_training))
    return [*found, (recipe.generator.kind, recipe.training)]


def stages(recipe: Recipe) -> list[Stage]:
    """The same with models and batches; inside a `FakeTensorMode` they take no memory."""
    tuned, side = recipe.tuning is not None, recipe.data.image_size
    size = side, side * getattr(recipe.generator, "aspect", 1)
    known = _shape(recipe) if recipe.autoencoder is not None else None
    read = outline(recipe.encoder.name, recipe.encoder.layers)
    length = caption_tokens(recipe, read)

    def autoencoder() -> Autoencoder | None:
        if known is None or recipe.codebook is None:
            return None if known is None else Autoencoder(**known)
        return VQAutoencoder(codes=recipe.codebook.codes, **known)

    def first(batch: int) -> tuple[nn.Module, dict]:
        return AutoencoderObjective(Autoencoder(**known)), {"image": _pictures(batch, size)}

    def second(batch: int) -> tuple[nn.Module, dict]:
        model = CodebookObjective(autoencoder(), recipe.codebook)
        return model, {"image": _pictures(batch, size)}

    def last(batch: int) -> tuple[nn.Module, dict]:
        folded = autoencoder()
        model = _tuned(recipe, autoencoder) if tuned else build_model(recipe, read, folded)
        with torch.no_grad():
            prepared = model.generator.behind(folded).prepare(_pictures(batch, size))
        prepared = prepared.float() if prepared.is_floating_point() else prepared.long()
        states = TextStates(
            torch.zeros(batch, length, 1 if tuned else read.width),
            torch.ones(batch, length, dtype=torch.bool),
        )
        return model, {"pictures": prepared, "states": states}

    builders = {AUTOENCODER: first, CODEBOOK: second, recipe.generator.kind: last}
    return [Stage(name, training, builders[name]) for name, training in trained(recipe)]


def count_encoding(recipe: Recipe) -> Count:
    """One pass of `ENCODING_BATCH` captions through the language model, inside `FakeTensorMode`."""
    encoder = outline(recipe.encoder.name, recipe.encoder.layers)
    shape = ENCODING_BATCH, caption_tokens(recipe, encoder)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.bool)
    return count_forward(encoder.model, lambda: encoder.forward(ids, mask))


def caption_tokens(recipe: Recipe, encoder: TextEncoder, batch: int = 32) -> int:
    """Tokens of the longest caption in a batch: of scenes by looking, else `USUAL_TOKENS`."""
    if recipe.data.source != "scenes":
        return USUAL_TOKENS
    captions = SceneImages(8 * batch, recipe.data.seed, recipe.data.image_size).captions
    lengths = [len(kept) for kept in encoder.tokenize(captions)]
    longest = [max(lengths[row : row + batch]) for row in range(0, len(lengths), batch)]
    return round(sum(longest) / len(longest))


def _tuned(recipe: Recipe, autoencoder: Callable[[], Autoencoder | None]) -> nn.Module:
    """The model of a recipe that teaches its encoder.

    PEFT moves what it adds to the device of what is there, which fake tensors do not bear: this
    one is built of real ones, with random weights, and emptied.
    """
    with unset_fake_temporarily():
        encoder = outline(recipe.encoder.name, recipe.encoder.layers)
        model = build_model(recipe, encoder, autoencoder())
    if not isinstance(torch.empty(0), FakeTensor):
        return model
    emptied: dict[Tensor, Tensor] = {}  # two modules may share a parameter
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor not in emptied:
                    emptied[tensor] = _empty_like(tensor)
                tensors[name] = emptied.get(tensor)
    return model


def _empty_like(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _pictures(batch: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(batch, 3, *size) * 2 - 1  # numbers for who measures, not plans


def _shape(recipe: Recipe) -> dict:
    """What the recipe's autoencoder is built with; of one to be taken over, what it was."""
    if not recipe.autoencoder_from:
        return asdict(recipe.autoencoder)
    with unset_fake_temporarily():
        config = load_autoencoder(recipe.autoencoder_from).config
    return {name: config[name] for name in asdict(recipe.autoencoder)}
