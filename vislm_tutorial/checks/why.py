"""Checks of the exercises of page 8.2: the nearest word, and a state put in another's place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed, require


def check_nearest_word(nearest_word: Callable[[Tensor, Tensor], int]) -> None:
    """Page 8.2: `nearest_word(state, plain)`: the row of `plain` (K, D) with the largest cosine.

    Both are taken from the mean of `plain` first; the answer is a whole number from 0 to K - 1.

    Raises:
        CheckFailed: naming the mistake.
    """
    # Seen from 0, or with a dot product, another word is nearest than seen from the middle.
    rows = [[6.0, 2.5, -3.75], [12.0, 6.5, 3.25], [12.0, 1.5, -0.75], [10.0, 5.5, 1.25]]
    plain, state = torch.tensor(rows), torch.tensor([6.0, 5.0, -1.0])
    middle = plain.mean(dim=0)
    cosines = torch.cosine_similarity((state - middle)[None], plain - middle, dim=1)
    from_zero = torch.cosine_similarity(state[None], plain, dim=1)
    mistakes = [
        Mistake(
            from_zero.argmax().item(),
            "This is nearest as seen from 0. All states share a large part; take the mean of "
            "`plain` from both before the cosine.",
        ),
        Mistake(
            (plain @ state).argmax().item(),
            "A dot product prefers long states. Take the mean of `plain` from both, and divide by "
            "both lengths.",
        ),
        Mistake(
            cosines.argmin().item(),
            "That is the word that is least like it: the largest cosine is the nearest.",
        ),
    ]
    given = plain.clone()
    answer = call(nearest_word, state.clone(), given)
    require(torch.equal(given, plain), "The states given were changed; work on a copy.")
    compare(answer, cosines.argmax().item(), mistakes, "The nearest row")
    # Here the state lies in the direction of row 0, but nearer to row 1, which is longer.
    around = torch.tensor([[1.0, 0.2, 0.0], [4.0, 1.5, 0.0], [-3.0, 1.0, 2.0], [-2.0, -2.7, -2.0]])
    further_out = Mistake(
        1,
        "A distance, or a product that is not divided by both lengths, prefers states that lie "
        "further out. A cosine compares directions alone.",
    )
    answer = call(nearest_word, middle + 3 * around[0], middle + around)
    compare(answer, 0, [further_out], "The nearest row of a second example")
    for row in range(len(plain)):
        compare(call(nearest_word, plain[row].clone(), plain.clone()), row, what="A word's own row")
    passed("the largest cosine, seen from the middle of the plain words.")


def check_transplant(transplant: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """Page 8.2: `transplant(states, donor, token)`: (B, L, D) with one token's states from `donor`.

    Raises:
        CheckFailed: naming the mistake.
    """
    states, donor = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    token = 2
    right = states.clone()
    right[:, token] = donor[:, token]
    turned, row, channel = donor.clone(), states.clone(), states.clone()
    turned[:, token] = states[:, token]
    row[token] = donor[token]
    channel[..., token] = donor[..., token]
    first = states.clone()
    first[0, token] = donor[0, token]
    after = states.clone()
    after[:, token:] = donor[:, token:]
    mistakes = [
        Mistake(states, "Nothing was exchanged."),
        Mistake(donor, "Everything was exchanged; all but one token has to stay."),
        Mistake(turned, "The other way round: the donor gives one token, all else stays."),
        Mistake(row, "A whole caption was exchanged. Axis 0 is the caption, axis 1 the token."),
        Mistake(channel, "One channel of every token was exchanged. The token is axis 1."),
        Mistake(first, "Only the first caption of the batch was changed."),
        Mistake(after, "All later tokens were exchanged as well: `token:` is not `token`."),
    ]
    given, giver = states.clone(), donor.clone()
    answer = call(transplant, given, giver, token)
    require(
        torch.equal(given, states) and torch.equal(giver, donor),
        "The states given were changed, so the untouched drawing can no longer be made. "
        "Begin with states.clone().",
    )
    compare(answer, right, mistakes, "The new states")
    passed(
        "one token of every caption comes from the donor, all else stays, nothing given changed."
    )
