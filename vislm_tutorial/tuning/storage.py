"""The few weights that an encoder was taught, in a folder of their own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .._files import replaced_when_complete
from ..encoders import TextEncoder
from ..training.config import load_dataclass
from .config import AdaLoRA, Adapters, Full, LoRA, TopLayers
from .strategies import attach

CONFIG_FILE, WEIGHTS_FILE = "tuning.json", "learned.safetensors"
KINDS = {kind.kind: kind for kind in (Full, TopLayers, Adapters, LoRA, AdaLoRA)}


def learned_state(encoder: TextEncoder) -> dict[str, Tensor]:
    """The learned weights by name; what a frozen encoder has is empty."""
    weights = dict(encoder.model.named_parameters())
    return {name: weights[name].detach() for name in encoder.learned}


def learned_size(encoder: TextEncoder) -> int:
    """How many numbers were learned."""
    return sum(weight.numel() for weight in learned_state(encoder).values())


def save_learned(encoder: TextEncoder, folder: str | Path) -> Path:
    """Write the learned weights and the strategy, without the base model.

    Args:
        encoder: one with a strategy attached.
        folder: gets tuning.json and learned.safetensors; made if need be.

    Returns:
        `folder`.

    Raises:
        ValueError: if nothing is attached.
    """
    if encoder.tuning is None:
        raise ValueError(
            f"the encoder {encoder.name!r} learned nothing; it is found by name, not saved."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: weight.cpu().contiguous() for name, weight in learned_state(encoder).items()}
    with replaced_when_complete(folder / WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    record = {"encoder": encoder.fingerprint, "tuning": asdict(encoder.tuning)}
    text = json.dumps(record, indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    return folder


def load_learned(encoder: TextEncoder, folder: str | Path) -> None:
    """Attach what `save_learned` wrote to the base model that it belongs to, in place.

    Where the same strategy is attached already, to go on learning, its weights are replaced.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it belongs to another model, or another strategy is attached.
    """
    folder = Path(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} has no {CONFIG_FILE}; expected a folder that save_learned wrote."
        )
    record = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if record["encoder"] != encoder.fingerprint:
        raise ValueError(
            f"{folder} was learned on the encoder {record['encoder']}, but this is "
            f"{encoder.fingerprint}; load that one."
        )
    tuning = load_dataclass(KINDS[record["tuning"]["kind"]], record["tuning"], CONFIG_FILE)
    if encoder.tuning is None:
        attach(encoder, tuning)
    elif encoder.tuning != tuning:
        raise ValueError(
            f"{folder} was learned by {tuning}, but {encoder.tuning} is attached to the encoder; "
            "go on with the one that it was learned by."
        )
    state = load_file(folder / WEIGHTS_FILE)
    if set(state) != set(encoder.learned):
        other = sorted(set(state) ^ set(encoder.learned))[0]
        raise ValueError(
            f"{folder / WEIGHTS_FILE} does not hold the weights that {tuning} teaches, {other!r} "
            "for one; save it again with this version of peft and transformers."
        )
    weights = dict(encoder.model.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            weights[name].copy_(value)
