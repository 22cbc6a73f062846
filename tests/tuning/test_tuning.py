"""What of a language model learns: each strategy, on a BERT and on a Llama."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from vislm_tutorial.encoders import CachedEncoder, load_encoder
from vislm_tutorial.encoders.base import TextEncoder
from vislm_tutorial.training.config import load_dataclass
from vislm_tutorial.training.recipe import Recipe
from vislm_tutorial.tuning import (
    AdaLoRA,
    Adapter,
    Adapters,
    Full,
    LoRA,
    TopLayers,
    attach,
    learned_size,
    learned_state,
    load_learned,
    merge,
    save_learned,
)

STRATEGIES = (Full(), TopLayers(), Adapters(4), LoRA(2), AdaLoRA(4, 2))
CAPTIONS = ["a red circle", "two crimson discs", ""]
WIDTH, LAYERS = 16, 3


@pytest.fixture(scope="module")
def tokenizer():
    return load_encoder("scratch:minilm").tokenizer


@pytest.fixture(params=["bert", "llama"])
def fresh(request, tokenizer):
    """Makes the same small encoder each time."""

    def make(layers: str | int = "mean") -> TextEncoder:
        torch.manual_seed(0)
        sizes = {
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "vocab_size": len(tokenizer),
        }
        if request.param == "bert":
            model = BertModel(BertConfig(**sizes))
        else:
            model = LlamaModel(LlamaConfig(**sizes, num_key_value_heads=1))
        return TextEncoder(request.param, model, tokenizer, "tiny", layers)

    return make


def states(encoder: TextEncoder) -> torch.Tensor:
    return encoder.encode(CAPTIONS).encoder_hidden_states


def teach(encoder: TextEncoder) -> None:
    """Move every learned weight, as training would."""
    generator = torch.Generator().manual_seed(1)
    weights = dict(encoder.model.named_parameters())
    with torch.no_grad():
        for name in encoder.learned:
            weights[name] += 0.3 * torch.randn(weights[name].shape, generator=generator)


@pytest.mark.parametrize("tuning", STRATEGIES, ids=lambda tuning: tuning.kind)
def test_a_strategy_begins_as_the_identity_and_comes_back_from_disk(tuning, fresh, tmp_path):
    """Equal after it was loaded, different from the base, and nothing else on disk."""
    encoder = fresh()
    base = states(encoder)
    attach(encoder, tuning)
    torch.testing.assert_close(states(encoder), base)
    trainable = {n for n, p in encoder.model.named_parameters() if p.requires_grad}
    assert set(encoder.learned) == trainable == set(learned_state(encoder))
    teach(encoder)
    taught = states(encoder)
    assert (taught - base).abs().max() > 0.01
    save_learned(encoder, tmp_path)
    assert set(load_file(tmp_path / "learned.safetensors")) == set(encoder.learned)
    again = fresh()
    load_learned(again, tmp_path)
    assert again.tuning == tuning
    assert torch.equal(states(again), taught)
    if tuning != Full():
        sizes = [sum(p.numel() for p in fresh().model.parameters()), learned_size(encoder)]
        assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize(
    "tuning", [LoRA(2, dropout=0.5), AdaLoRA(4, 2, dropout=0.5)], ids=lambda tuning: tuning.kind
)
def test_dropout_is_off_when_it_comes_back_from_disk(tuning, fresh, tmp_path):
    encoder = fresh()
    attach(encoder, tuning)
    teach(encoder)
    save_learned(encoder, tmp_path)
    again = fresh()
    load_learned(again, tmp_path)
    assert torch.equal(states(again), states(again))
    assert torch.equal(states(again), states(encoder))


@pytest.mark.parametrize("tuning", STRATEGIES, ids=lambda tuning: tuning.kind)
def test_layers_above_the_chosen_one_stay_as_they_are(tuning, fresh):
    """Every weight that learns can change the states: all of them get a gradient."""
    encoder = fresh(layers=2)
    attach(encoder, tuning)
    teach(encoder)
    ids, mask = encoder._padded(encoder.tokenize(CAPTIONS))
    encoder.forward(ids, mask).square().sum().backward()
    weights = dict(encoder.model.named_parameters())
    assert encoder.learned and all(weights[n].grad is not None for n in encoder.learned)
    numbers = {
        n.split("layer")[1].lstrip("s.").split(".")[0] for n in encoder.learned if "layer" in n
    }
    assert numbers - {"norm"} <= {"0", "1"} and "1" in numbers


def test_layers_that_the_states_do_not_go_through_cannot_be_taught(fresh):
    with pytest.raises(ValueError, match="go through 2 layers"):
        attach(fresh(layers=2), TopLayers(3))
    encoder = fresh(layers=2)
    attach(encoder, TopLayers(1))
    assert {n.split("layer")[1].lstrip("s.")[0] for n in encoder.learned} == {"1"}
    for tuning in STRATEGIES[1:]:
        with pytest.raises(ValueError, match="layer 0, the embeddings"):
            attach(fresh(layers=0), tuning)
    attach(fresh(layers=0), Full())


def test_a_cache_notices_that_its_encoder_was_taught(fresh, tmp_path):
    encoder = fresh()
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode(CAPTIONS)
    with pytest.raises(TypeError, match="got a CachedEncoder; expected a TextEncoder"):
        attach(cached, LoRA(2))
    attach(encoder, LoRA(2))
    with pytest.raises(ValueError, match="use it without a cache"):
        cached.encode(CAPTIONS)


def test_a_second_round_goes_on_with_the_same_strategy(fresh, tmp_path):
    first, second = fresh(), fresh()
    attach(first, LoRA(2))
    teach(first)
    save_learned(first, tmp_path)
    attach(second, LoRA(2))
    load_learned(second, tmp_path)
    assert torch.equal(states(second), states(first))
    other = fresh()
    attach(other, LoRA(3))
    with pytest.raises(ValueError, match=r"learned by LoRA\(rank=2.*but LoRA\(rank=3"):
        load_learned(other, tmp_path)


def test_each_strategy_teaches_what_it_says(fresh):
    def learned(tuning) -> list[str]:
        encoder = fresh()
        attach(encoder, tuning)
        return encoder.learned

    everything = {n for n, _ in fresh().model.named_parameters()}
    assert everything - set(learned(Full())) == {n for n in everything if "pooler" in n}
    assert {n.split("layer")[1][1:].lstrip("s.")[0] for n in learned(TopLayers(2))} == {"1", "2"}
    assert len(learned(Adapters(4))) == LAYERS * 2 * 4  # two a layer, two matrices, two biases
    assert len(learned(LoRA(2))) == LAYERS * 3 * 2
    assert len(learned(AdaLoRA(4, 2))) == LAYERS * 3 * 3


def test_an_adapter_has_the_size_that_the_paper_counts():
    adapter = Adapter(10, 3)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 10 * 3 + 10 + 3
    x = torch.randn(2, 5, 10)
    assert torch.equal(adapter(x), x)


@pytest.mark.parametrize("tuning", [LoRA(2), AdaLoRA(4, 2)], ids=lambda tuning: tuning.kind)
def test_merged_equals_unmerged(tuning, fresh):
    encoder = fresh()
    names = {n for n, _ in encoder.model.named_parameters()}
    attach(encoder, tuning)
    teach(encoder)
    before = states(encoder)
    merge(encoder)
    torch.testing.assert_close(states(encoder), before, atol=1e-5, rtol=0)
    assert {n for n, _ in encoder.model.named_parameters()} == names
    assert encoder.tuning == Full()
    with pytest.raises(ValueError, match="only the updates of LoRA"):
        merge(encoder)


def test_lora_is_the_papers_equation(fresh):
    encoder = fresh()
    attach(encoder, LoRA(rank=2, alpha=6.0))
    teach(encoder)
    name = encoder.learned[0].partition(".lora_")[0]
    layer = encoder.model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(4, WIDTH)
    weight = layer.base_layer.weight + 6.0 / 2 * b @ a
    torch.testing.assert_close(
        layer(x),
        x @ weight.T + (layer.base_layer.bias or 0)
        if layer.base_layer.bias is None
        else x @ weight.T + layer.base_layer.bias,
    )


def train_ranks(encoder: TextEncoder, ranks, steps: range, generator: torch.Generator) -> list:
    """Some updates with gradients that are noise; the mean rank after each."""
    parameters = [p for p in encoder.model.parameters() if p.requires_grad]
    seen = []
    for step in steps:
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            parameter.data -= 0.1 * parameter.grad
        ranks.after_update(step)
        seen.append(ranks.ranks())
    return seen


def test_adaloras_ranks_fall_to_the_target(fresh):
    encoder = fresh()
    tuning = AdaLoRA(4, 2, warmup_fraction=0.2, final_fraction=0.3)
    ranks = attach(encoder, tuning, steps=20)
    penalty = ranks.penalty()
    penalty.backward()
    assert penalty > 0
    seen = train_ranks(encoder, ranks, range(1, 21), torch.Generator().manual_seed(0))
    means = [sum(each.values()) / len(each) for each in seen]
    assert means[:4] == [4.0] * 4 and means[14:] == [2.0] * 6
    assert all(later <= earlier for earlier, later in zip(means, means[1:], strict=False))
    assert len(set(seen[-1].values())) > 1  # not the same everywhere
    weights = dict(encoder.model.named_parameters())
    zeros = sum(int((weights[n] == 0).sum()) for n in encoder.learned if ".lora_E." in n)
    assert zeros == 2 * len(seen[-1])


@pytest.mark.parametrize("stop", [8, 17])  # while ranks fall, and after
def test_adaloras_importances_outlive_a_stop(stop, fresh):
    tuning = AdaLoRA(4, 2, warmup_fraction=0.2, final_fraction=0.3)
    noise = torch.Generator().manual_seed(0)
    through, first = fresh(), fresh()
    ranks = attach(through, tuning, steps=20)
    train_ranks(through, ranks, range(1, 21), noise)
    noise.manual_seed(0)
    half = attach(first, tuning, steps=20)
    train_ranks(first, half, range(1, stop + 1), noise)
    second = fresh()
    other = attach(second, tuning, steps=20)
    other.load_state_dict(half.state_dict())
    second.model.load_state_dict(first.model.state_dict())
    train_ranks(second, other, range(stop + 1, 21), noise)
    for name, weight in learned_state(through).items():
        assert torch.equal(weight, learned_state(second)[name]), name


def test_what_does_not_fit_is_refused(fresh, tmp_path):
    encoder = fresh()
    with pytest.raises(ValueError, match="3 layers"):
        attach(encoder, TopLayers(4))
    with pytest.raises(
        ValueError, match="no layer whose name ends in .*qkv.* called .*dense|_proj"
    ):
        attach(encoder, LoRA(targets=("qkv",)))
    with pytest.raises(ValueError, match="learned nothing"):
        save_learned(fresh(), tmp_path)
    with pytest.raises(FileNotFoundError, match="tuning.json"):
        load_learned(fresh(), tmp_path)
    encoder = fresh()
    attach(encoder, LoRA(2))
    with pytest.raises(ValueError, match="attached already"):
        attach(encoder, LoRA(2))
    with pytest.raises(ValueError, match="use it without a cache"):
        CachedEncoder(encoder, tmp_path)
    save_learned(encoder, tmp_path / "saved")
    record = json.loads((tmp_path / "saved" / "tuning.json").read_text())
    record["encoder"] = "another"
    (tmp_path / "saved" / "tuning.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="learned on the encoder another"):
        load_learned(fresh(), tmp_path / "saved")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: LoRA(rank=0), "LoRA.rank=0"),
        (lambda: LoRA(dropout=1.0), "LoRA.dropout=1.0"),
        (lambda: TopLayers(0), "TopLayers.layers=0"),
        (lambda: Adapters(0), "Adapters.bottleneck=0"),
        (lambda: AdaLoRA(4, 4), "initial_rank=4; expected above target_rank=4"),
        (lambda: AdaLoRA(warmup_fraction=0.6, final_fraction=0.6), "final_fraction=0.6"),
        (lambda: AdaLoRA(every=0), "AdaLoRA.every=0"),
    ],
)
def test_values_out_of_range_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_a_recipe_names_its_strategy_by_kind():
    recipe = load_dataclass(Recipe, {"name": "r", "tuning": {"kind": "lora", "rank": 3}}, "r.yaml")
    assert recipe.tuning == LoRA(rank=3)
    with pytest.raises(ValueError, match="'lora'"):
        load_dataclass(Recipe, {"name": "r", "tuning": {"kind": "lorra"}}, "r.yaml")
    with pytest.raises(ValueError, match="fusion would begin with random weights"):
        Recipe("r", freeze=("fusion",), tuning=LoRA())
    both = {"weights_from": "bundled", "autoencoder_from": "bundled"}
    frozen = Recipe("r", **both, freeze=("fusion", "generator"), tuning=LoRA())
    with pytest.raises(ValueError, match="nothing is left to learn"):
        replace(frozen, tuning=None)
    with pytest.raises(ValueError, match="ema_decay is 0.999"):
        replace(frozen, tuning=AdaLoRA())
