"""The random twin of a trained model differs from it in its weights and in nothing else."""

import pytest
import torch

from vislm_tutorial.encoders import load_encoder


@pytest.fixture(scope="module")
def twin():
    return load_encoder("scratch:minilm", seed=0)


def test_same_configuration_and_shapes_but_other_weights(minilm, twin):
    assert twin.name == "scratch:minilm" and twin.width == minilm.width
    ignored = {"_name_or_path", "architectures", "transformers_version", "dtype"}
    trained_config, random_config = minilm.model.config.to_dict(), twin.model.config.to_dict()
    differing = {k for k in trained_config if trained_config[k] != random_config.get(k)}
    assert differing <= ignored
    trained, random = minilm.model.state_dict(), twin.model.state_dict()
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in random.items()}
    matrices = [key for key, value in trained.items() if value.ndim == 2]
    assert len(matrices) > 30
    assert all((trained[key] - random[key]).abs().mean() > 1e-3 for key in matrices)


def test_the_same_tokens_and_different_states(minilm, twin):
    captions = ["a red circle", "a crimson disc above a square"]
    ours, theirs = twin.encode(captions), minilm.encode(captions)
    assert torch.equal(ours.encoder_attention_mask, theirs.encoder_attention_mask)
    assert ours.encoder_hidden_states.shape == theirs.encoder_hidden_states.shape
    assert (ours.encoder_hidden_states - theirs.encoder_hidden_states).abs().mean() > 0.1


def test_the_seed_decides_and_leaves_the_global_state_alone(twin):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    same, other = load_encoder("scratch:minilm", seed=0), load_encoder("scratch:minilm", seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert same.fingerprint == twin.fingerprint != other.fingerprint
    states = [e.encode(["a red circle"]).encoder_hidden_states for e in (twin, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.allclose(states[0], states[2], atol=0.1)


def test_the_decoders_twin_has_the_decoders_shape(smollm2):
    twin = load_encoder("scratch:smollm2")
    assert (twin.width, twin.num_layers) == (576, 30)
    states = twin.encode(["a red circle", ""])
    trained = smollm2.encode(["a red circle", ""])
    assert torch.equal(states.encoder_attention_mask, trained.encoder_attention_mask)
    assert states.encoder_hidden_states.isfinite().all()


def test_a_twin_may_have_fewer_layers():
    small = load_encoder("scratch:minilm:2", layers="mean")
    assert (small.num_layers, len(small.model.encoder.layer), small.width) == (2, 2, 384)
    assert load_encoder("scratch:smollm2:1").num_layers == 1
    for wrong in ("scratch:minilm:0", "scratch:minilm:two", "scratch:minilm:"):
        with pytest.raises(ValueError, match="expected a whole number from 1"):
            load_encoder(wrong)
