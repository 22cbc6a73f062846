"""The repaired listing: what it reads, what it learns, and that nothing of it looks ahead."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vislm_tutorial import listing
from vislm_tutorial.chapter_weights import find_chapter_weights
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.generators.vq import VQAutoencoder
from vislm_tutorial.training.datasets import SceneImages, picture_batches

SHAPE = {"width": 32, "depth": 2, "heads": 2}


@pytest.fixture(scope="module")
def parts():
    """Encoder and codebook."""
    folder = find_chapter_weights("image_gpt") / "autoencoder"
    codebook = VQAutoencoder.from_pretrained(folder).float().eval()
    return load_encoder("minilm", layers="mean"), codebook


@pytest.fixture(scope="module")
def dataset(parts):
    scenes = SceneImages(24, seed=0)
    images = torch.cat(list(picture_batches(scenes)))
    return listing.ImageDataset(scenes.captions, images, *parts)


def model(seed: int = 0) -> listing.DrawingGPT2:
    torch.manual_seed(seed)
    return listing.DrawingGPT2(**SHAPE).eval()


def test_a_batch_is_captions_states_and_codes(dataset, parts):
    batch = dataset[[3, 0]]
    encoder, codebook = parts
    scenes = SceneImages(24, seed=0)
    images = torch.stack([scenes[i]["image"] for i in (3, 0)])
    assert torch.equal(batch["codes"], codebook.encode_codes(images).flatten(1))
    alone = encoder.encode([scenes.captions[3]])
    length = alone.encoder_hidden_states.shape[1]
    torch.testing.assert_close(
        batch["states"][:1, :length], alone.encoder_hidden_states, atol=1e-4, rtol=0
    )
    assert batch["attention_mask"][0].sum() == length


def test_captions_without_a_picture_are_refused(parts):
    with pytest.raises(ValueError, match="2 captions, 1 pictures"):
        listing.ImageDataset(["a", "b"], torch.zeros(1, 3, 64, 64), *parts)


def test_the_loss_is_the_cross_entropy_of_each_code_from_what_stands_before_it(dataset):
    batch, gpt2 = dataset[[0, 1]], model()
    with torch.no_grad():
        output = gpt2(**batch, labels=batch["codes"])
    logits = output.logits[:, -batch["codes"].shape[1] - 1 : -1]
    expected = F.cross_entropy(logits.transpose(1, 2), batch["codes"])
    torch.testing.assert_close(output.loss, expected)
    assert abs(output.loss.item() - math.log(1024)) < 0.5


def test_no_code_sees_those_that_follow(dataset):
    batch, gpt2 = dataset[[0]], model()
    codes = batch.pop("codes")
    changed = codes.clone()
    changed[:, 40:] = 0
    with torch.no_grad():
        one, two = (gpt2(**batch, codes=c).logits for c in (codes, changed))
    first = one.shape[1] - 64 + 40
    torch.testing.assert_close(one[:, :first], two[:, :first])
    assert not torch.allclose(one[:, first:], two[:, first:])


def test_padding_is_not_read(dataset):
    batch, gpt2 = dataset[[0]], model()
    states, mask, codes = (batch[key] for key in ("states", "attention_mask", "codes"))
    length = int(mask.sum())
    longer = F.pad(states[:, :length], (0, 0, 0, 9), value=7.0)
    longer_mask = F.pad(mask[:, :length], (0, 9))
    with torch.no_grad():
        short = gpt2(states[:, :length], mask[:, :length], codes).logits[:, -65:]
        padded = gpt2(longer, longer_mask, codes).logits[:, -65:]  # the place before code 0, too
    torch.testing.assert_close(short, padded, atol=1e-5, rtol=0)


def test_writing_takes_the_likeliest_or_draws_from_the_chances(dataset):
    batch, gpt2 = dataset[[0, 1]], model()
    told = (batch["states"], batch["attention_mask"])
    first = gpt2.write(*told, temperature=0)
    assert first.shape == (2, 64) and torch.equal(first, gpt2.write(*told, temperature=0))
    with torch.no_grad():
        logits = gpt2(*told, first).logits[:, -65:-1]
    assert (logits.argmax(2) == first).float().mean() > 0.98  # ties of a fresh model apart
    drawn = [gpt2.write(*told, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_it_learns_from_the_pictures_and_tells_captions_apart(dataset):
    gpt2 = model()
    before = listing.validation_loss(gpt2, dataset)
    log = listing.train(gpt2, dataset, 120, batch_size=12, lr=3e-3, log_every=40)
    assert [row["step"] for row in log] == [1, 40, 80, 120]
    after = listing.validation_loss(gpt2, dataset)
    assert after < 0.7 * before
    exchanged = dataset.codes.clone()
    dataset.codes = exchanged.roll(1, dims=0)
    try:
        assert listing.validation_loss(gpt2, dataset) > after + 0.2
    finally:
        dataset.codes = exchanged


def test_time_ends_a_training_with_its_rate_at_zero(dataset):
    log = listing.train(model(), dataset, 10_000, batch_size=4, seconds=0.5)
    assert 1 <= log[-1]["step"] < 10_000
    assert listing._rate(0) == 0 and listing._rate(1) < 1e-9
    assert listing._rate(listing.WARMUP) == pytest.approx(1)


def test_what_is_saved_draws_the_same(dataset, parts, tmp_path):
    gpt2 = model()
    listing.save(gpt2, tmp_path / "new" / "model.safetensors")
    again = listing.load(model(seed=1), tmp_path / "new" / "model.safetensors")
    pictures = [listing.draw(m, *parts, ["a red circle"], seed=3) for m in (gpt2, again)]
    assert pictures[0].shape == (1, 3, 64, 64) and torch.equal(*pictures)
    assert pictures[0].abs().max() <= 1


def test_the_program_runs_from_start_to_end():
    _, _, _, log = listing.main(steps=2, size=16, **SHAPE)
    assert log[-1]["step"] == 2
