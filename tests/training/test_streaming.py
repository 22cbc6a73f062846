"""Streams of shards: dealt to readers, mixed, gone on with, and never all in memory."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from itertools import islice

import psutil
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from vislm_tutorial.data import write_shards
from vislm_tutorial.training import checkpoint as checkpoints
from vislm_tutorial.training import streaming, train
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.streaming import StreamedImages, stream_loader


def numbered(n: int, side: int = 4) -> list[dict]:
    """Pictures that can be told apart by their captions and by their grey."""
    greys = [2 * i / 255 - 1 for i in range(n)]
    return [
        {"image": torch.full((3, side, side), grey), "caption": str(i)}
        for i, grey in enumerate(greys)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 pictures in 6 shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(numbered(24), folder, per_shard=4)
    return folder


def captions(stream, n: int) -> list[int]:
    return [int(item["caption"]) for item in islice(stream, n)]


def collate(items: list[dict]) -> torch.Tensor:
    return torch.stack([item["image"] for item in items])


def test_every_epoch_holds_every_picture_once_in_another_order(folder):
    stream = StreamedImages(folder, 4, buffer=8)
    seen = captions(stream, 48)
    assert sorted(seen[:24]) == sorted(seen[24:]) == list(range(24))
    assert seen[:24] != seen[24:] and seen[:24] != list(range(24))
    assert captions(stream, 48) == seen  # a function of the seed
    assert captions(StreamedImages(folder, 4, buffer=8, seed=1), 24) != seen[:24]
    item = next(iter(stream))
    assert torch.allclose(item["image"], torch.tensor(2 * int(item["caption"]) / 255 - 1))


def test_processes_share_no_picture(folder):
    parts = []
    for rank in range(3):
        stream = StreamedImages(folder, 4)
        stream.place(rank, 3)
        parts.append(captions(stream, 8))
    assert sorted(sum(parts, [])) == list(range(24))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 4])
def test_a_stream_goes_on_where_it_stopped(folder, workers, start):
    def batches(first: int, n: int) -> list[list[str]]:
        place = {"rank": 1, "world_size": 2, "start_batch": first, "num_workers": workers}
        loader = stream_loader(StreamedImages(folder, 4), 2, **place)
        return [batch["caption"] for batch in islice(loader, n)]

    assert batches(start, 4) == batches(0, start + 4)[start:]


def test_more_readers_than_shards_are_refused(folder):
    stream = StreamedImages(folder, 4)
    stream.place(0, 7)
    with pytest.raises(ValueError, match="6 shard.* for 7 readers"):
        next(iter(stream))


def test_a_damaged_record_is_named_counted_and_replaced(folder, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        with tarfile.open(sorted(folder.iterdir())[0]) as whole:
            for member in whole:
                data = whole.extractfile(member).read()
                if member.name == "00000002.png":
                    data = data[:20]
                    member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    stream = StreamedImages(tmp_path, 4)
    with pytest.warns(UserWarning, match="record 00000002 of .*a.tar cannot be decoded.*passed"):
        seen = captions(stream, 5)
    assert stream.skipped == 1
    assert set(seen[:4]) == {0, 1, 3}  # four places, one of them taken by a neighbour
    stream.place(0, 1, batch=3, batch_size=1)
    with pytest.warns(UserWarning):
        assert captions(stream, 5)[:2] == seen[3:5]


def test_a_torn_shard_is_named_and_the_rest_is_read(folder, tmp_path):
    for path in folder.iterdir():
        content = path.read_bytes()
        torn = path.name.endswith("3.tar")
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if torn else content)
    stream = StreamedImages(tmp_path, 4)
    with pytest.warns(UserWarning, match="shard-000003.tar"):
        seen = captions(stream, 23)  # of the torn shard two records and half a third are there
    assert set(range(24)) - set(seen) == {14, 15}
    assert stream.skipped >= 1


def test_nothing_but_damage_is_an_error(tmp_path, folder, monkeypatch):
    (tmp_path / "a.tar").write_bytes(b"no tar")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="not one record"):
        next(iter(StreamedImages(tmp_path, 4)))
    monkeypatch.setattr(streaming, "MOST_IN_A_ROW", 3)
    monkeypatch.setattr(streaming, "picture_key", lambda record: "txt")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="3 records in a row"):
        next(iter(StreamedImages(folder, 4)))
    with pytest.raises(ValueError, match="holds no .tar"):
        StreamedImages(tmp_path / "none", 4)


class Grey(nn.Module):
    """Learns the mean picture."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))

    def forward(self, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (batch - self.mean).square().mean()


def test_a_run_on_a_stream_resumes_exactly(folder, tmp_path):
    settings = {"steps": 6, "batch_size": 3, "warmup_steps": 0, "schedule": "constant"}
    for name, pieces in (("whole", (6,)), ("pieces", (3, 6))):
        for steps in pieces:
            config = TrainingConfig(**{**settings, "steps": steps})
            data = StreamedImages(folder, 4)
            train(Grey(), data, config, tmp_path / name, collate=collate, progress=False)
    newest = (checkpoints.latest(tmp_path / name) for name in ("whole", "pieces"))
    whole, pieces = (checkpoints.load(path).tensors for path in newest)
    assert all(torch.equal(value, pieces[name]) for name, value in whole.items())
    assert whole["model/mean"] != 0


def test_a_stream_goes_on_with_the_readers_that_it_had(folder, tmp_path):
    def go_on(steps: int, **changes) -> int:
        settings = {"steps": steps, "batch_size": 2, "warmup_steps": 0, "schedule": "constant"}
        config = TrainingConfig(**{**settings, **changes})
        data = StreamedImages(folder, 4)
        return train(Grey(), data, config, tmp_path, collate=collate, progress=False).step

    assert go_on(3, num_workers=2) == 3
    assert checkpoints.load(checkpoints.latest(tmp_path)).meta["readers"] == 2
    for workers in (0, 1, 3):
        with pytest.raises(ValueError, match=r"with 2 reader\(s\) .* now it is [13] reader"):
            go_on(6, num_workers=workers)
    # One worker has given two batches and the other one: with half as large ones, each three.
    with pytest.raises(ValueError, match="batches of 2, now it is 2 .* batches of 1:"):
        go_on(6, num_workers=2, batch_size=1, gradient_accumulation=2)
    assert go_on(6, num_workers=2) == 6


def test_one_reader_may_cut_its_batches_otherwise(folder, tmp_path):
    seen = {}
    for name, cuts in (("whole", [(4, 1), (4, 1)]), ("cut", [(4, 1), (2, 2)])):
        for steps, (size, pieces) in zip((3, 6), cuts, strict=True):
            config = TrainingConfig(
                steps=steps, batch_size=size, gradient_accumulation=pieces, warmup_steps=0
            )
            config = replace(config, schedule="constant", num_workers=int(size == 2))
            model = Grey()
            data = StreamedImages(folder, 4)
            train(model, data, config, tmp_path / name, collate=collate, progress=False)
        seen[name] = model.mean.item()
    assert seen["cut"] == pytest.approx(seen["whole"], rel=1e-5)


def test_a_stream_that_cannot_go_on_is_refused(tmp_path):
    class Endless(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match="Endless, a stream that cannot be told"):
        train(Grey(), Endless(), TrainingConfig(steps=1), tmp_path, progress=False)


def test_memory_holds_one_buffer_however_long_the_stream_is(tmp_path):
    torch.manual_seed(0)
    side, n = 128, 40  # noise does not compress: 64 kB of PNG and 200 kB of floats a picture
    pictures = ({"image": torch.rand(3, side, side) * 2 - 1, "caption": "noise"} for _ in range(n))
    write_shards(pictures, tmp_path, per_shard=10)
    stream = iter(StreamedImages(tmp_path, side, buffer=16))
    process = psutil.Process()
    for _ in islice(stream, n):  # whatever is loaded once is loaded now
        pass
    before = process.memory_info().rss
    for _ in islice(stream, 10 * n):  # 80 MB once decoded, 20 MB of files
        pass
    grown = process.memory_info().rss - before
    assert grown < 10e6, f"memory grew by {grown / 1e6:.0f} MB"
