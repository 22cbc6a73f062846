"""What a network learned beyond the one it began as, in a file of small rank.

A network that is trained further moves most along few directions of each weight. Their best
approximation of a given rank is the truncated singular value decomposition of the difference
(Eckart and Young 1936), the same two factors that LoRA would have learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

UP, DOWN = ".up", ".down"  # of a weight W, in place of W - W_0 = up @ down


@torch.no_grad()
def low_rank_difference(learned: nn.Module, start: nn.Module, rank: int) -> dict[str, Tensor]:
    """The weights of `learned` less those of `start`: tensors by name, in float16.

    A weight (n, ...), read as a matrix (n, m), gives `name.up` (n, rank) and `name.down` (rank, m);
    what would not be smaller so, a bias for one, is kept whole under its own name.

    Raises:
        ValueError: if the rank is below 1, or if the two networks are not built alike.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; expected 1 or more.")
    before, found = start.state_dict(), {}
    after = learned.state_dict()
    _check_alike({n: t.shape for n, t in after.items()}, {n: t.shape for n, t in before.items()})
    for name, weight in after.items():
        difference = weight.float() - before[name].float()
        matrix = difference.flatten(1) if difference.ndim > 1 else difference[None]
        n, m = matrix.shape
        if rank * (n + m) < n * m:
            u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
            root = s[:rank].sqrt()  # half of it on each side, where float16 has room
            found[name + UP] = (u[:, :rank] * root).half().contiguous()
            found[name + DOWN] = (root[:, None] * vh[:rank]).half().contiguous()
        else:
            found[name] = difference.half()
    return found


@torch.no_grad()
def add_difference(network: nn.Module, difference: dict[str, Tensor]) -> None:
    """Turns `start` into (about) `learned`, in place.

    Raises:
        ValueError: if the difference is not one of such a network.
    """
    weights = network.state_dict()  # shares its memory with the network
    products = {}
    for name, tensor in difference.items():
        if name.endswith(UP):
            whole = name.removesuffix(UP)
            products[whole] = tensor.float() @ difference[whole + DOWN].float()
        elif not name.endswith(DOWN):
            products[name] = tensor.float()
    _check_alike(
        {name: tensor.numel() for name, tensor in products.items()},
        {name: weight.numel() for name, weight in weights.items()},
    )
    for name, product in products.items():
        weights[name] += product.view_as(weights[name]).to(weights[name])


def _check_alike(given: dict, expected: dict) -> None:
    """Raises ValueError, naming the first weight of which only one network has that size."""
    for name in sorted(given.keys() | expected.keys()):
        if given.get(name) != expected.get(name):
            raise ValueError(
                f"the two networks differ in {name!r} ({given.get(name)} and "
                f"{expected.get(name)}). A difference can only be taken from, and added to, the "
                "network that the training began with."
            )
