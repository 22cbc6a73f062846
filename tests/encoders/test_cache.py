"""The cache returns what its encoder would, survives damage and kills, encodes nothing twice."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_encoder

from vislm_tutorial.encoders import CachedEncoder, cache
from vislm_tutorial.types import TextStates

CAPTIONS = ["a red circle", "a", "", "a red circle above a blue square", "blue", "a blue circle"]


class Counting:
    """An encoder that notes how many captions it was given, and their lengths in order."""

    def __init__(self, encoder) -> None:
        self.encoder, self.lengths = encoder, []

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode_ids(self, ids, batch_size=64):
        self.lengths += [len(kept) for kept in ids]
        return self.encoder.encode_ids(ids, batch_size)


@pytest.fixture
def encoder():
    return Counting(tiny_encoder())


def assert_as_direct(cached: CachedEncoder, encoder, captions=CAPTIONS) -> None:
    found, direct = cached.encode(captions), encoder.encode(captions)
    assert isinstance(found, TextStates) and found.encoder_hidden_states.dtype == torch.float32
    assert torch.equal(found.encoder_attention_mask, direct.encoder_attention_mask)
    torch.testing.assert_close(
        found.encoder_hidden_states, direct.encoder_hidden_states, atol=1e-3, rtol=1e-3
    )


def shards(cached: CachedEncoder) -> list[Path]:
    return sorted(cached.folder.glob("*.safetensors"))


def test_a_round_trip_equals_direct_encoding(encoder, tmp_path):
    assert_as_direct(CachedEncoder(encoder, tmp_path), encoder.encoder)  # while it is written
    assert len(encoder.lengths) == len(CAPTIONS)
    reopened = CachedEncoder(encoder, tmp_path)
    assert_as_direct(reopened, encoder.encoder)  # as it is read
    assert len(encoder.lengths) == len(CAPTIONS) == len(reopened)


def test_trained_states_survive_the_round_trip(minilm, tmp_path):
    captions = ["a red circle", "a crimson disc above a small hollow square"]
    assert_as_direct(CachedEncoder(minilm, tmp_path), minilm, captions)
    assert_as_direct(CachedEncoder(minilm, tmp_path), minilm, captions)


def test_repetitions_are_encoded_once_and_order_is_kept(encoder, tmp_path):
    cached = CachedEncoder(encoder, tmp_path)
    assert_as_direct(cached, encoder.encoder, ["blue", "a", "blue", "a red circle", "a"])
    assert len(encoder.lengths) == 3


def test_many_captions_are_encoded_shortest_first_in_shards(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_CAPTIONS", 4)
    cached = CachedEncoder(encoder, tmp_path)
    assert cached.encode_many(CAPTIONS * 2, batch_size=2, progress=False) == len(CAPTIONS)
    assert encoder.lengths == sorted(encoder.lengths)
    assert len(shards(cached)) == 2
    assert cached.encode_many(CAPTIONS, progress=False) == 0
    assert_as_direct(cached, encoder.encoder)


def test_the_bar_is_shown_when_asked(encoder, tmp_path, capsys):
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode_many(["a"], progress=False)
    assert capsys.readouterr().err == ""
    cached.encode_many(["blue"], progress=True)
    assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "foreign"])
def test_a_damaged_shard_is_passed_over_and_encoded_again(encoder, tmp_path, damage):
    from safetensors.torch import save_file

    cached = CachedEncoder(encoder, tmp_path)
    cached.encode(CAPTIONS)
    (path,) = shards(cached)
    whole = path.read_bytes()
    if damage == "foreign":
        save_file({"states": torch.zeros(2, 3)}, path)
    else:
        path.write_bytes({"cut": whole[:-7], "garbage": b"x" * len(whole), "empty": b""}[damage])
    reopened = CachedEncoder(encoder, tmp_path)
    assert len(reopened) == 0
    assert_as_direct(reopened, encoder.encoder)
    assert path.read_bytes() == whole
    assert len(CachedEncoder(encoder, tmp_path)) == len(CAPTIONS)


def test_a_kill_halfway_loses_no_finished_shard(encoder, tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import tiny_encoder
from vislm_tutorial.encoders import CachedEncoder, cache
cache.SHARD_CAPTIONS = 2
encoder, calls = tiny_encoder(), []
run = encoder.encode_ids
def encode_ids(ids, batch_size):
    calls.append(ids)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(ids, batch_size)
encoder.encode_ids = encode_ids
CachedEncoder(encoder, {str(tmp_path)!r}).encode_many({CAPTIONS!r}, progress=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    cached = CachedEncoder(encoder, tmp_path)
    assert len(cached) == 4
    assert cached.encode_many(CAPTIONS, progress=False) == 2
    assert len(encoder.lengths) == 2
    assert_as_direct(cached, encoder.encoder)


def test_a_write_that_fails_leaves_no_shard(encoder, tmp_path, monkeypatch):
    def full_disk(tensors, path):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    cached = CachedEncoder(encoder, tmp_path)
    monkeypatch.setattr(cache, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        cached.encode(["a"])
    assert list(cached.folder.iterdir()) == []


def test_encoders_do_not_share_states(tmp_path):
    last, mean = (CachedEncoder(tiny_encoder(layers=c), tmp_path) for c in ("last", "mean"))
    assert last.folder != mean.folder
    for cached in (last, mean):
        cached.encode(["a"])
    assert_as_direct(CachedEncoder(tiny_encoder(layers="mean"), tmp_path), mean.encoder, ["a"])


def test_what_another_process_wrote_meanwhile_is_read(encoder, tmp_path):
    here, there = CachedEncoder(encoder, tmp_path), CachedEncoder(encoder, tmp_path)
    there.encode(CAPTIONS)
    assert_as_direct(here, encoder.encoder)
    assert len(encoder.lengths) == len(CAPTIONS)


def test_many_small_shards_become_one(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST_SMALL_SHARDS", 3)
    cached, bystander = CachedEncoder(encoder, tmp_path), CachedEncoder(encoder, tmp_path)
    for caption in CAPTIONS[:2]:
        cached.encode([caption])
    bystander.encode(CAPTIONS[:2])  # holds shards that are about to go
    cached.encode([CAPTIONS[2]])
    assert len(shards(cached)) == 1
    for each in (cached, bystander, CachedEncoder(encoder, tmp_path)):
        assert_as_direct(each, encoder.encoder, CAPTIONS[:3])
    assert len(encoder.lengths) == 3


def test_states_beyond_float16_are_refused(encoder, tmp_path):
    def huge(ids, batch_size=64):
        states = torch.full((len(ids), 2, 16), 7e4)
        return TextStates(states, torch.ones(len(ids), 2, dtype=torch.bool))

    encoder.encode_ids = huge
    cached = CachedEncoder(encoder, tmp_path)
    with pytest.raises(OverflowError, match="7e[+]04.*cannot be cached"):
        cached.encode(["a"])
    assert len(cached) == 0 and shards(cached) == []


def test_it_has_the_interface_and_errors_of_an_encoder(encoder, tmp_path):
    cached = CachedEncoder(encoder, tmp_path)
    for name in ("name", "layers", "width", "num_layers", "max_length", "fingerprint", "device"):
        assert getattr(cached, name) == getattr(encoder.encoder, name), name
    with pytest.raises(TypeError, match="single string"):
        cached.encode("a red circle")
    with pytest.raises(ValueError, match="captions is empty"):
        cached.encode([])
    with pytest.raises(TypeError, match=r"captions\[0\] is 3"):
        cached.encode_many([3])


def test_without_a_folder_it_uses_the_packages_cache(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path))
    assert CachedEncoder(encoder).folder == tmp_path / "states" / encoder.fingerprint
