"""Pictures whose left and right edges meet: convolutions that look around the seam."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn


class RoundConv2d(nn.Conv2d):
    """A convolution on a cylinder: beyond the right edge lies the left one, above and below lie 0s.

    Its weights and their names are those of `nn.Conv2d`.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, columns = self.padding
        # (B, C, h, w) -> (B, C, h + 2 rows, w + 2 columns)
        x = F.pad(F.pad(x, (columns, columns, 0, 0), mode="circular"), (0, 0, rows, rows))
        return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)


def wrap_around(network: nn.Module) -> None:
    """Let all convolutions of a network, in place, look around the seam.

    Afterwards a picture that is rolled by whole cells gives the rolled answer.
    """
    for module in network.modules():
        if isinstance(module, Downsample2D) and module.padding == 0:
            # diffusers pads this one by hand, on the right and below only, with zeros.
            module.padding, module.conv.padding = 1, (1, 1)
    for module in network.modules():
        if type(module) is nn.Conv2d and any(module.padding):
            module.__class__ = RoundConv2d
