"""A join on disk: what was learned, and the names of the two models it stands between."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers.utils import convert_state_dict_to_diffusers

from ..diffusion import quiet
from ..encoders import TextEncoder
from ..fusion import ResamplerFusion
from .joined import JoinConfig, Joined, freeze_but_adapters, join

RECORD = "joined.json"
ADAPTERS = "pytorch_lora_weights.safetensors"  # as diffusers calls them


def save_joined(joined: Joined, folder: str | Path) -> None:
    """Fusions and adapters as safetensors; the two models are named, not copied.

    The adapters' file is in diffusers' own format: `pipe.load_lora_weights(folder)` reads it.
    An older join in the folder is replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("fusion", "distilled"):
        shutil.rmtree(folder / part, ignore_errors=True)
    (folder / ADAPTERS).unlink(missing_ok=True)
    joined.fusion.save_pretrained(folder / "fusion")
    if joined.distilled is not None:
        joined.distilled.save_pretrained(folder / "distilled")
    if joined.has_adapters:
        from peft import get_peft_model_state_dict

        adapters = convert_state_dict_to_diffusers(get_peft_model_state_dict(joined.pipe.unet))
        type(joined.pipe).save_lora_weights(folder, unet_lora_layers=adapters)
    record = {
        "diffusion": joined.source,
        "encoder": joined.encoder.name,
        "layers": joined.encoder.layers,
        "max_length": joined.encoder.max_length,
        "fingerprint": joined.encoder.fingerprint,
        "config": asdict(joined.config),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_joined(
    folder: str | Path,
    source: str | Path | None = None,
    language_model: TextEncoder | None = None,
    *,
    allow_network: bool = False,
    device: torch.device | str | None = None,
) -> Joined:
    """What `save_joined` wrote, with the two models it names.

    Args:
        source: the diffusion pipeline, where it is not at the place that was noted.
        language_model: the one it was joined to, if it is loaded already.

    Raises:
        FileNotFoundError: if nothing was saved there.
        ValueError: if it was joined to another language model.
        registry.AssetError: as `join`.
    """
    folder = Path(folder)
    record = read_record(folder)
    joined = join(
        source or record["diffusion"],
        language_model or record["encoder"],
        JoinConfig(**record["config"]),
        layers=record["layers"],
        max_length=record["max_length"],
        allow_network=allow_network,
        device=device,
    )
    if record["fingerprint"] != joined.encoder.fingerprint:
        raise ValueError(
            f"{folder.name} was joined to the language model {record['fingerprint']}, not to "
            f"{joined.encoder.fingerprint}. Leave language_model out: the folder names its own."
        )
    joined.fusion = ResamplerFusion.from_pretrained(folder / "fusion").to(joined.device)
    if (folder / "distilled").is_dir():
        joined.distilled = ResamplerFusion.from_pretrained(folder / "distilled").to(joined.device)
    if (folder / ADAPTERS).is_file():
        with quiet():
            joined.pipe.load_lora_weights(folder, weight_name=ADAPTERS, adapter_name="default")
        freeze_but_adapters(joined.pipe.unet)
    return joined


def read_record(folder: str | Path) -> dict:
    """What was joined in `folder`, and how.

    Raises:
        FileNotFoundError: if nothing was.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {RECORD} in {folder}; expected a folder that save_joined wrote."
        )
    return json.loads(path.read_text(encoding="utf-8"))
