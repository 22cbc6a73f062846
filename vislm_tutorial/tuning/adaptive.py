"""AdaLoRA's ranks in training: what must be told of each update, kept with the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft.tuners.adalora import AdaLoraModel

    from ..encoders import TextEncoder

AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # peft's running importances


class AdaptiveRank(nn.Module):
    """Lowers the ranks of an encoder's AdaLoRA updates while they learn.

    peft computes the importances; here they are buffers, so that a run that was stopped goes on
    with the same ones.

    Args:
        tuner: peft's, around the encoder's model; its modules stay the encoder's.
        orthogonality: weight of `penalty`.
    """

    def __init__(self, tuner: AdaLoraModel, orthogonality: float):
        super().__init__()
        self._tuner = (tuner,)  # in a tuple: not registered, the modules have their place already
        self.orthogonality = orthogonality
        updates = [(n, p) for n, p in tuner.model.named_parameters() if "lora_" in n]
        self.names = [name for name, _ in updates]
        for index, (_, parameter) in enumerate(updates):
            for kind in AVERAGES:
                self.register_buffer(f"{kind}_{index}", torch.zeros_like(parameter))
        self.entries = {name: p for name, p in updates if ".lora_E." in name}
        for index, entries in enumerate(self.entries.values()):
            self.register_buffer(f"kept_{index}", torch.ones_like(entries, dtype=torch.bool))
        for kind in AVERAGES:
            setattr(tuner.rankallocator, kind, _Buffers(self, kind))

    def penalty(self) -> Tensor:
        """The weighted mean of ||A A' - I|| and ||B' B - I||, a scalar (AdaLoRA's eq. 4)."""
        by_shape: dict[tuple, list[Tensor]] = {}
        for name, parameter in self._tuner[0].model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                rows = parameter if ".lora_A." in name else parameter.T  # (r, D)
                by_shape.setdefault(tuple(rows.shape), []).append(rows)
        distances = []
        for rows in map(torch.stack, by_shape.values()):  # all of a shape at once: (n, r, D)
            gram = rows @ rows.mT
            distances.append(
                (gram - torch.eye(gram.shape[-1], device=gram.device)).norm(dim=(1, 2))
            )
        return self.orthogonality * torch.cat(distances).mean()

    def after_update(self, step: int) -> None:
        """Counts update `step` (from 1) while its gradients are still there; lets ranks fall.

        Between two choices an entry that was set to 0 may grow again and be chosen after all.
        """
        tuner = self._tuner[0]
        config = tuner.peft_config["default"]
        last = config.total_step - config.tfinal  # the last choice
        if step <= last:
            choose = step == last or (step > config.tinit and step % config.deltaT == 0)
            if step == last:
                tuner.rankallocator.update_and_allocate(tuner.model, step, force_mask=True)
            else:
                tuner.rankallocator.update_and_allocate(tuner.model, step)
            if choose:
                for index, entries in enumerate(self.entries.values()):
                    getattr(self, f"kept_{index}").copy_(entries != 0)
        else:
            with torch.no_grad():
                for index, entries in enumerate(self.entries.values()):
                    entries.mul_(getattr(self, f"kept_{index}"))

    def ranks(self) -> dict[str, int]:
        """Matrix -> its rank as last chosen."""
        return {
            name.replace(".lora_E.default", ""): int(getattr(self, f"kept_{index}").sum())
            for index, name in enumerate(self.entries)
        }


class _Buffers(MutableMapping):
    """The buffers of one kind by parameter name, as peft's allocator wants them."""

    def __init__(self, owner: AdaptiveRank, kind: str):
        self.owner, self.kind = owner, kind
        self.places = {name: f"{kind}_{index}" for index, name in enumerate(owner.names)}

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self.owner, self.places[name])

    def __setitem__(self, name: str, value: Tensor) -> None:
        self[name].copy_(value)

    def __delitem__(self, name: str) -> None:
        self[name].zero_()

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def ranks_left(encoder: TextEncoder) -> dict[str, int]:
    """Matrix -> how many entries of its AdaLoRA update are not 0; empty without AdaLoRA."""
    return {
        name.replace(".lora_E.default", ""): int((entries != 0).sum())
        for name, entries in encoder.model.named_parameters()
        if ".lora_E." in name
    }
