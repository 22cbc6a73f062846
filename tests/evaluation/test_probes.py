"""A probe finds what is there, says when nothing is, and reads the states of the right word."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation.probes import fit_probe, word_states


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_states_are_those_of_the_words_own_tokens(name):
    encoder = load_encoder(name, layers=2)
    captions = ["we see a crimson circle", "a dark blue square", "draw a star"]
    words = ["crimson", "dark blue", "star"]
    found = word_states(encoder, captions, words, batch_size=2)
    assert found.shape == (3, encoder.num_layers + 1, encoder.width)
    states = encoder.encode(captions).encoder_hidden_states
    for row, (caption, word) in enumerate(zip(captions, words, strict=True)):
        before = len(encoder.tokenize([caption[: caption.find(word)].rstrip()])[0])
        until = len(encoder.tokenize([caption[: caption.find(word) + len(word)]])[0])
        ends = 1 if name == "minilm" else 0  # its closing token
        own = functional.layer_norm(states[row, before - ends : until - ends], (encoder.width,))
        torch.testing.assert_close(found[row, 2], own.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_a_word_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'red' is not in its caption 'a blue star'"):
        word_states(load_encoder("minilm"), ["a blue star"], ["red"])


def test_a_probe_finds_a_direction_and_generalises():
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    states = torch.randn(300, 20, generator=noise)
    states[:, :3] += 4 * functional.one_hot(labels, 3)
    probe = fit_probe(states[:200], labels[:200], 3)
    assert probe.accuracy(states[200:], labels[200:]) > 0.9
    assert probe.weight[:3].norm() > 3 * probe.weight[3:].norm()


def test_where_nothing_is_there_it_is_at_chance_and_a_penalty_makes_it_small():
    noise = torch.Generator().manual_seed(0)
    labels, states = torch.arange(600) % 3, torch.randn(600, 20, generator=noise)
    loose, strict = (fit_probe(states[:300], labels[:300], 3, decay) for decay in (1e-3, 1.0))
    assert 0.2 < loose.accuracy(states[300:], labels[300:]) < 0.47
    assert strict.weight.norm() < 0.2 * loose.weight.norm()
