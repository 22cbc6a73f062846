"""The trained models: right weights, right shapes, quick loads, clear errors."""

import time

import pytest
import torch
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from vislm_tutorial import registry
from vislm_tutorial.encoders import TextEncoder, load_encoder, pretrained
from vislm_tutorial.registry import AssetError

SHORT = "a red circle"
LONG = "a large striped red circle to the left of a small hollow blue square on a grey background"
MODELS = {"minilm": (384, 6), "smollm2": (576, 30)}


def with_layers(encoder: TextEncoder, layers) -> TextEncoder:
    """The same loaded model with another choice of layers."""
    return TextEncoder(encoder.name, encoder.model, encoder.tokenizer, "same", layers)


@pytest.mark.parametrize("name", MODELS)
def test_padding_never_changes_a_captions_states(name, request):
    encoder = with_layers(request.getfixturevalue(name), "mean")
    alone, batch = encoder.encode([SHORT]), encoder.encode([LONG, SHORT, ""])
    length = alone.encoder_hidden_states.shape[1]
    torch.testing.assert_close(
        batch.encoder_hidden_states[1, :length], alone.encoder_hidden_states[0], atol=1e-4, rtol=0
    )
    assert batch.encoder_attention_mask.sum(dim=1).tolist()[1] == length
    assert batch.encoder_attention_mask[2].any()


@pytest.mark.parametrize("name", MODELS)
def test_layer_choices_give_different_states_of_one_shape(name, request):
    encoder = request.getfixturevalue(name)
    width, num_layers = MODELS[name]
    assert (encoder.width, encoder.num_layers, encoder.layers) == (width, num_layers, "last")
    choices = ["last", num_layers // 2, "mean"]
    found = [with_layers(encoder, c).encode([SHORT, LONG]).encoder_hidden_states for c in choices]
    assert {tuple(states.shape) for states in found} == {(2, found[0].shape[1], width)}
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert (found[one] - found[other]).abs().mean() > 0.01


def test_minilm_knows_what_means_the_same(minilm):
    states = minilm.encode(["a man is eating food", "someone has a meal", "a blue square"])
    mask = states.encoder_attention_mask[..., None]
    pooled = (states.encoder_hidden_states * mask).sum(dim=1) / mask.sum(dim=1)
    same, other = torch.cosine_similarity(pooled[:1], pooled[1:])
    assert same > other + 0.3  # 0.66 and -0.01; random weights give 0.93 and 0.90


def test_smollm2_still_speaks_after_its_conversion(smollm2):
    states = smollm2.encode(["The capital of France is"]).encoder_hidden_states
    embeddings = smollm2.model.get_input_embeddings().weight  # also the output layer: tied weights
    next_token = (states[0, -1] @ embeddings.T).argmax()
    assert smollm2.tokenizer.decode(next_token).strip() == "Paris"


def test_smollm2_loads_quickly_once_it_is_converted(smollm2):
    start = time.perf_counter()
    again = load_encoder("smollm2")
    seconds = time.perf_counter() - start
    assert seconds < 12, f"{seconds:.1f} s"  # 1 s on an idle machine, the conversion alone 13 s
    assert again.fingerprint == smollm2.fingerprint
    assert again.model.dtype == torch.float32


def test_an_interrupted_conversion_leaves_nothing_behind(monkeypatch, tmp_path):
    gguf = registry.find("smollm2") / next(iter(registry.ASSETS["smollm2"].files))
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained.AutoTokenizer, "from_pretrained", lambda *a, **k: "tokenizer")

    class Interrupted:
        def state_dict(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrained.AutoModel, "from_pretrained", lambda *a, **k: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        pretrained._converted(gguf)
    assert list((tmp_path / "converted").iterdir()) == []


def test_choices_that_do_not_fit_the_model_are_refused():
    with pytest.raises(ValueError, match="layers is 7; expected .* from 0 .* to 6"):
        load_encoder("minilm", layers=7)
    with pytest.raises(ValueError, match="max_length is 513; expected .* to 512"):
        load_encoder("minilm", max_length=513)


@pytest.mark.parametrize("name", ["minlm", "scratch:minlm"])
def test_an_unknown_name_is_answered_with_the_nearest(name):
    with pytest.raises(ValueError, match="'minlm'; expected .* Did you mean 'minilm'"):
        load_encoder(name)


@pytest.mark.parametrize("name", ["owner/model", "scratch:owner/model"])
def test_a_hub_id_is_refused_while_the_network_is_not_allowed(name):
    with pytest.raises(AssetError, match="owner/model .*allow_network=True"):
        load_encoder(name)


def test_a_hub_model_is_named_by_its_commit(monkeypatch, minilm):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = registry.find("minilm")
    monkeypatch.setattr(registry, "find_on_hub", lambda *a, **k: folder)
    monkeypatch.setattr(pretrained, "_weights_id", lambda *a: commit[:16])
    hub = load_encoder("owner/model", layers="mean")
    assert hub.fingerprint == f"owner-model-{commit[:16]}-mean-64"


def test_an_outline_asked_for_first_leaves_real_weights_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path))
    with FakeTensorMode():
        outline = pretrained.outline("smollm2")
        assert all(isinstance(p, FakeTensor) for p in outline.model.parameters())
    (file,) = tmp_path.glob("converted/*/model.safetensors")
    norm = load_file(file)["norm.weight"]
    assert type(norm) is torch.Tensor and norm.float().std() > 0
