"""The encoder interface on tiny models of the BERT and GPT families."""

import warnings

import pytest
import torch
from conftest import tiny_encoder
from torch.nn import functional

SHORT, LONG = "a red circle", "a red circle above a blue square above a circle"
FAMILIES = ["bert", "gpt2", "llama"]


@pytest.mark.parametrize("layers", ["last", 0, 1, "mean", "plain mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_never_changes_a_captions_states(family, layers):
    encoder = tiny_encoder(family, layers)
    alone, batch = encoder.encode([SHORT]), encoder.encode([LONG, SHORT, ""])
    length = alone.encoder_hidden_states.shape[1]
    assert batch.encoder_attention_mask[1].sum() == length
    torch.testing.assert_close(
        batch.encoder_hidden_states[1, :length], alone.encoder_hidden_states[0], atol=1e-5, rtol=0
    )
    assert not batch.encoder_hidden_states[~batch.encoder_attention_mask].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_empty_caption_has_states(family):
    states = tiny_encoder(family).encode([""])
    assert states.encoder_attention_mask.all() and states.encoder_attention_mask.shape[1] >= 1
    assert states.encoder_hidden_states.isfinite().all()
    assert states.encoder_hidden_states.abs().sum() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_choices_are_the_models_own_hidden_states(family):
    encoder = tiny_encoder(family)
    ids = torch.tensor(encoder.tokenize([SHORT]))
    with torch.no_grad():
        every = encoder.model(input_ids=ids, output_hidden_states=True).hidden_states
    assert len(every) == encoder.num_layers + 1 == 4
    centred = [states - states.mean(-1, keepdim=True) for states in every]
    normalised = [c / (c.square().mean(-1, keepdim=True) + 1e-5).sqrt() for c in centred]
    expected = {"last": every[3], 0: every[0], 2: every[2], "mean": sum(normalised[1:]) / 3}
    for layers, states in expected.items():
        found = tiny_encoder(family, layers).encode([SHORT]).encoder_hidden_states
        assert found.dtype == torch.float32 and found.shape == (1, ids.shape[1], 16)
        torch.testing.assert_close(found, states, atol=1e-5, rtol=0)


def test_order_is_kept_when_a_long_list_is_grouped_by_length():
    encoder = tiny_encoder()
    captions = [LONG, "a", SHORT, "", LONG] * 3
    grouped = encoder.encode_ids(encoder.tokenize(captions), batch_size=4)
    assert len(grouped) == 15
    for row, caption in enumerate(captions):
        alone = encoder.encode([caption]).encoder_hidden_states[0]
        found = grouped.encoder_hidden_states[row, : len(alone)]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_caption_is_cut_with_one_warning(family):
    encoder = tiny_encoder(family, max_length=6)
    with pytest.warns(UserWarning, match=r"2 caption\(s\) are longer than max_length=6") as caught:
        states = encoder.encode([LONG, LONG, "a red"])
    assert len(caught) == 1
    longest = len(tiny_encoder(family).tokenize([LONG])[0])
    assert f"the longest has {longest}" in str(caught[0].message)
    assert states.encoder_hidden_states.shape[1] == 6
    assert caught[0].filename == __file__


def test_a_caption_that_just_fits_gives_no_warning():
    encoder = tiny_encoder(max_length=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder.encode(["a red circle"]).encoder_hidden_states.shape[1] == 5


def test_wrong_captions_are_refused_with_advice():
    encoder = tiny_encoder()
    with pytest.raises(ValueError, match=r'captions is empty.*pass \[""\]'):
        encoder.encode([])
    with pytest.raises(TypeError, match=r"single string 'a red circle'.*\[caption\]"):
        encoder.encode("a red circle")
    with pytest.raises(TypeError, match=r"captions\[1\] is None, a NoneType"):
        encoder.encode(["a", None])
    with pytest.raises(TypeError, match=r"captions\[0\] is 3, a int"):
        encoder.encode([3])
    with pytest.raises(ValueError, match=r"captions\[0\] is .* no valid Unicode"):
        encoder.encode(["a \ud800"])


def test_wrong_choices_are_refused_with_the_range():
    for layers in (4, -1, True, "first", 1.0, None):
        with pytest.raises(ValueError, match="layers is .* from 0 .* to 3"):
            tiny_encoder(layers=layers)
    for max_length in (0, 33, 8.0, None):
        with pytest.raises(ValueError, match="max_length is .* from 4 to 32"):
            tiny_encoder(max_length=max_length)


def test_a_tokenizer_without_any_start_token_is_refused():
    encoder = tiny_encoder("gpt2")
    encoder.tokenizer.bos_token = None
    with pytest.raises(ValueError, match="neither a start nor an end token"):
        type(encoder)("gpt2", encoder.model, encoder.tokenizer, "0", max_length=16)


def test_fingerprints_differ_with_every_choice_and_fit_a_file_name():
    encoders = [tiny_encoder(), tiny_encoder(layers=1), tiny_encoder(max_length=8)]
    prints = {encoder.fingerprint for encoder in [*encoders, tiny_encoder("gpt2")]}
    assert len(prints) == 4
    assert tiny_encoder().fingerprint == encoders[0].fingerprint
    assert not set("".join(prints)) & set('/\\:*?"<>| ')


def test_encode_keeps_no_gradient_and_forward_does():
    encoder = tiny_encoder()
    assert not encoder.encode(["a"]).encoder_hidden_states.requires_grad
    ids = torch.tensor(encoder.tokenize(["a"]))
    encoder.forward(ids, torch.ones_like(ids, dtype=torch.bool)).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in encoder.model.parameters())


def test_dropout_is_off():
    encoder = tiny_encoder()
    first, second = encoder.encode([LONG]), encoder.encode([LONG])
    assert torch.equal(first.encoder_hidden_states, second.encoder_hidden_states)


def test_the_normalised_mean_weighs_every_layer_alike():
    from vislm_tutorial.encoders.base import normalised_mean

    layers = [torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    scaled = normalised_mean([layers[0], 1000 * layers[1]])
    expected = sum(functional.layer_norm(states, (8,)) for states in layers) / 2
    torch.testing.assert_close(scaled, expected, atol=1e-4, rtol=0)
