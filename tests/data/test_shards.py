"""Tar shards: what is written is what is read, and what is damaged is named."""

from __future__ import annotations

import io
import sys
import tarfile

import pytest
import torch
from PIL import Image

from vislm_tutorial.data import load_shards, write_shards
from vislm_tutorial.data.decoding import UnreadablePicture
from vislm_tutorial.training.datasets import DataConfig, SceneImages, load_images


@pytest.fixture(scope="module")
def scenes() -> SceneImages:
    return SceneImages(10, seed=0, image_size=16)


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_what_is_written_is_read_in_any_order(scenes, tmp_path):
    paths = write_shards(scenes, tmp_path, per_shard=4)
    assert [path.name for path in paths] == [f"shard-{i:06d}.tar" for i in range(3)]
    shards = load_shards(tmp_path, image_size=16)
    assert shards.captions == scenes.captions and not shards.skipped
    for index in (9, 0, 4):
        torch.testing.assert_close(
            shards[index]["image"], scenes[index]["image"], rtol=0, atol=1 / 255
        )
    assert shards[0]["image"].shape == (3, 16, 16)
    assert shards.report() == f"10 pictures with captions in 3 shards from {tmp_path}"


def test_the_same_data_make_the_same_bytes(scenes, tmp_path):
    one, two = (write_shards(scenes, tmp_path / name, 20)[0].read_bytes() for name in "ab")
    assert one == two


def test_a_generator_is_written_too(scenes, tmp_path):
    paths = write_shards((scenes[i] for i in range(5)), tmp_path, per_shard=5)
    assert len(paths) == 1 and len(load_shards(tmp_path, 16)) == 5


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path):
    records = {
        "a/good.png": png(),
        "a/good.txt": b"a red square",
        "a/torn.png": png()[:40],
        "a/torn.txt": b"half a picture",
        "a/mute.png": png(),
        "a/dark.txt": b"no picture",
        "a/odd.txt": b"\xff\xfe\xff",
        "a/odd.jpg": png("blue"),
        "b/good.txt": b"another  red\nsquare",
        "b/good.JPG": png(),
    }
    write_tar(tmp_path / "one.tar", records)
    shards = load_shards(tmp_path, 16)
    assert shards.captions == ["a red square", "another red square"]
    reasons = {entry.path.name: entry.reason for entry in shards.skipped}
    assert set(reasons) == {"torn", "mute", "dark", "odd"}
    for name, reason in (
        ("torn", "damaged"),
        ("mute", "no caption"),
        ("dark", "no picture"),
        ("odd", "UTF-8"),
    ):
        assert reason in reasons[name]
    assert "one.tar/a/torn: " in shards.report() and "4 left out" in shards.report()


def test_unchecked_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    write_tar(tmp_path / "one.tar", {"torn.png": png()[:40], "torn.txt": b"half"})
    shards = load_shards(tmp_path, 16, check=False)
    with pytest.raises(UnreadablePicture, match="record torn of .*one.tar is not a picture"):
        shards[0]


def test_a_shard_that_ends_early_gives_what_it_has(scenes, tmp_path):
    path = write_shards(scenes, tmp_path, per_shard=10)[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    shards = load_shards(tmp_path, 16)
    assert 3 <= len(shards) < 10
    assert "ends early" in shards.skipped[-1].reason
    assert shards.captions == scenes.captions[: len(shards)]


def test_compressed_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="No record with a picture"):
        load_shards(tmp_path)
    write_tar(tmp_path / "small.tar", {"a.png": png(), "a.txt": b"red"}, mode="w:gz")
    with pytest.raises(ValueError, match="no plain tar file"):
        load_shards(tmp_path)


def test_a_folder_with_shards_is_not_written_to(scenes, tmp_path):
    paths = write_shards(scenes, tmp_path, per_shard=4)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(FileExistsError, match="holds 3 .tar file.*another folder"):
        write_shards((scenes[i] for i in range(2)), tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_bad_options_are_refused(scenes, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="per_shard is 0"):
        write_shards(scenes, tmp_path, 0)
    with pytest.raises(ValueError, match="empty data set"):
        write_shards([], tmp_path)
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match=r"vislm-tutorial\[shards\]"):
        write_shards(scenes, tmp_path)


def test_a_recipe_reads_a_folder_of_shards(scenes, tmp_path):
    write_shards(scenes, tmp_path, per_shard=5)
    dataset = load_images(DataConfig(source=str(tmp_path), image_size=16))
    assert list(dataset.captions) == scenes.captions
