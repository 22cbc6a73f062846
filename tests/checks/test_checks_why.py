"""Page 8.2's checks accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_nearest_word, check_transplant


def cosines(state, plain, centred=True):
    middle = plain.mean(dim=0) if centred else torch.zeros_like(state)
    return torch.cosine_similarity((state - middle)[None], plain - middle, dim=1)


def by_hand(state, plain):
    middle = plain.mean(dim=0)
    a, b = state - middle, plain - middle
    return (b @ a / b.norm(dim=1)).argmax()


def centred_in_place(state, plain):
    middle = plain.mean(dim=0)
    plain -= middle
    return torch.cosine_similarity((state - middle)[None], plain, dim=1).argmax()


def put(index):
    """An answer that takes `donor[index(token)]`."""

    def transplant(states, donor, token):
        new = states.clone()
        new[index(token)] = donor[index(token)]
        return new

    return transplant


def in_place(states, donor, token):
    states[:, token] = donor[:, token]
    return states


def by_where(states, donor, token):
    chosen = torch.arange(states.shape[1]) == token
    return torch.where(chosen[:, None], donor, states)


EVERY = slice(None)
RIGHT = [
    (check_nearest_word, lambda state, plain: cosines(state, plain).argmax().item()),
    (check_nearest_word, by_hand),
    (check_transplant, put(lambda token: (EVERY, token))),
    (check_transplant, by_where),
]
WRONG = [
    (check_nearest_word, lambda s, p: cosines(s, p, centred=False).argmax(), "as seen from 0"),
    (check_nearest_word, lambda s, p: (p @ s).argmax(), "prefers long states"),
    (check_nearest_word, lambda s, p: cosines(s, p).argmin(), "least like it"),
    (check_nearest_word, lambda s, p: (p - s).norm(dim=1).argmin(), "prefers states that lie"),
    (check_nearest_word, lambda s, p: ((p - p.mean(0)) @ (s - p.mean(0))).argmax(), "further out"),
    (check_nearest_word, centred_in_place, "were changed"),
    (check_nearest_word, lambda s, p: None, "Does it end in `return`?"),
    (check_transplant, lambda states, donor, token: states.clone(), "Nothing was exchanged"),
    (check_transplant, lambda states, donor, token: donor.clone(), "Everything was exchanged"),
    (check_transplant, lambda s, d, token: by_where(d, s, token), "The other way round"),
    (check_transplant, put(lambda token: token), "Axis 0 is the caption"),
    (check_transplant, put(lambda token: (EVERY, EVERY, token)), "The token is axis 1"),
    (check_transplant, put(lambda token: (0, token)), "Only the first caption"),
    (check_transplant, put(lambda token: (EVERY, slice(token, None))), "All later tokens"),
    (check_transplant, in_place, "states.clone()"),
]
