"""A reader's folder: good pictures arrive right, every bad one is named with its reason."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from vislm_tutorial.data.decoding import MAX_PIXELS
from vislm_tutorial.data.folder import Folder, load_folder

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def picture(colour=RED, size=(20, 20)) -> Image.Image:
    return Image.new("RGB", size, colour)


def write(root: Path, name: str, image: Image.Image | bytes | None = None, caption="a caption"):
    """A file called `name` (default: a red picture), with a sidecar unless `caption` is None."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        file.write_bytes(image)
    else:
        (image or picture()).save(file)
    if caption is not None:
        sidecar = file.with_suffix(".txt")
        if isinstance(caption, bytes):
            sidecar.write_bytes(caption)
        else:
            sidecar.write_text(caption, encoding="utf-8")
    return file


def write_jsonl(root: Path, *rows):
    """metadata.jsonl; a row that is a str or bytes is written as it is."""
    lines = [r if isinstance(r, str | bytes) else json.dumps(r) for r in rows]
    lines = [line.encode() if isinstance(line, str) else line for line in lines]
    (root / "metadata.jsonl").write_bytes(b"\n".join(lines))


def reasons(folder: Folder) -> dict[str, str]:
    return {os.path.relpath(s.path, folder.root): s.reason for s in folder.skipped}


def only_reason(root: Path, name: str, **options) -> str:
    """Why `name` is left out of a folder that also holds one good picture."""
    write(root, "good.png")
    folder = load_folder(root, 8, **options)
    assert [item.path.name for item in folder.items] == ["good.png"]
    assert list(reasons(folder)) == [name]
    assert name in folder.report()
    return reasons(folder)[name]


def colours(root: Path, name: str, places=((1, 1),)) -> list[tuple]:
    """Pixels (x, y) of one 20 x 20 picture, loaded at that size, as 0..255."""
    folder = load_folder(root, 20)
    assert [item.path.name for item in folder.items] == [name], folder.report()
    image = ((folder[0]["image"] + 1) * 127.5).round().int()
    return [tuple(image[:, y, x].tolist()) for x, y in places]


# --- the data set -------------------------------------------------------------------------------


def test_items_captions_and_tensors(tmp_path):
    write(tmp_path, "b.png", picture(BLUE), "a  blue\n square\n")
    write(tmp_path, "a/x.jpg", picture(RED), "\ufeffein rotes Bild")
    folder = load_folder(tmp_path, image_size=16)
    assert folder.captions == ["ein rotes Bild", "a blue square"]
    assert [item.path.name for item in folder.items] == ["x.jpg", "b.png"]
    assert len(folder) == 2 and folder.skipped == []
    assert set(folder[1]) == {"image", "caption"} and folder[-1]["caption"] == "a blue square"
    images = folder.images([1, 0, 1])
    assert images.shape == (3, 3, 16, 16) and images.dtype == torch.float32
    assert torch.equal(images[0], folder[1]["image"])
    assert images[0, :, 5, 5].tolist() == [-1, -1, 1]
    assert folder.images().shape[0] == 2


def test_it_works_in_a_data_loader(tmp_path):
    for index in range(3):
        write(tmp_path, f"{index}.png", caption=f"number {index}")
    loader = torch.utils.data.DataLoader(load_folder(tmp_path, 8), batch_size=3)
    (batch,) = list(loader)
    assert batch["image"].shape == (3, 3, 8, 8)
    assert batch["caption"] == ["number 0", "number 1", "number 2"]


def test_positions_out_of_range_end_the_iteration(tmp_path):
    write(tmp_path, "a.png")
    folder = load_folder(tmp_path, 8)
    assert len(list(folder)) == 1
    with pytest.raises(IndexError, match="1 is outside"):
        folder[1]
    with pytest.raises(ValueError, match="no indices"):
        folder.images([])


def test_crop_and_pad(tmp_path):
    wide = picture(RED, (64, 32))
    wide.paste(GREEN, (16, 0, 48, 32))
    write(tmp_path, "wide.png", wide)
    center = load_folder(tmp_path, 32).images()[0]
    assert torch.equal(center[:, 16, 0], torch.tensor([-1.0, 1.0, -1.0]))
    padded = load_folder(tmp_path, 64, crop="pad").images()[0]
    assert torch.equal(padded[:, 0, 32], torch.ones(3))
    assert torch.equal(padded[:, 32, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_nothing_in_the_folder_changes_and_it_need_not_stay(tmp_path):
    write(tmp_path, "a.png")
    write(tmp_path, "broken.png", b"no picture")
    write_jsonl(tmp_path, {"file_name": "a.png", "text": "a"}, "{")

    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}

    before = state()
    folder = load_folder(tmp_path, 8)
    folder.report()
    assert state() == before
    for file in tmp_path.iterdir():
        file.unlink()
    assert folder[0]["caption"] == "a"


def test_report_counts_and_shortens(tmp_path):
    write(tmp_path, "good.png")
    for index in range(5):
        write(tmp_path, f"bad{index}.png", b"no")
    report = load_folder(tmp_path, 8).report(limit=2)
    assert "1 pictures with captions at 8 x 8" in report and "5 left out" in report
    assert "bad1.png" in report and "bad2.png" not in report and "3 more" in report


# --- captions -----------------------------------------------------------------------------------


def test_metadata_comes_before_sidecar_before_folder_name(tmp_path):
    write(tmp_path, "red_shoes/1.png", caption="from the text file")
    write(tmp_path, "red_shoes/2.png", caption="from the text file")
    write(tmp_path, "red_shoes/3.png", caption=None)
    write_jsonl(tmp_path, {"file_name": "red_shoes/1.png", "text": "from metadata"})
    folder = load_folder(tmp_path, 8, caption_from_folder=True)
    assert folder.captions == ["from metadata", "from the text file", "red shoes"]
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["from metadata", "from the text file"]
    assert "no caption" in reasons(folder)["red_shoes/3.png"]


def test_csv_with_bom_quotes_and_caption_column(tmp_path):
    write(tmp_path, "sub/a.png", caption=None)
    write(tmp_path, "sub/b.png", caption=None)
    with (tmp_path / "sub/metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["File_Name", "caption", "more"])
        table.writerow(["a.png", 'one, with "quotes"\nand a line break', 1])
        table.writerow(["b.png", "一只猫", 2])
    assert load_folder(tmp_path, 8).captions == ['one, with "quotes" and a line break', "一只猫"]


def test_composed_and_decomposed_names_are_one_file(tmp_path):
    on_disk = unicodedata.normalize("NFD", "café.png")
    write(tmp_path, on_disk, caption=None)
    write_jsonl(tmp_path, {"file_name": unicodedata.normalize("NFC", "café.png"), "text": "cup"})
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["cup"] and folder.skipped == []


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"file_name": "x.png", "text": ', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('["x.png", "a caption"]', "expected {"),
        ('{"text": "a caption"}', "needs a file_name"),
        ('{"file_name": 7, "text": "a caption"}', "needs a file_name"),
        ('{"file_name": "", "text": "a caption"}', "needs a file_name"),
        ('{"file_name": "a\\u0000.png", "text": "a caption"}', "needs a file_name"),
    ],
)
def test_malformed_jsonl_lines_are_reported_with_their_number(tmp_path, line, said):
    write(tmp_path, "good.png", caption=None)
    write_jsonl(tmp_path, {"file_name": "good.png", "text": "good"}, "", line)
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["good"]
    assert reasons(folder)["metadata.jsonl"].startswith("line 3 ")
    assert said in reasons(folder)["metadata.jsonl"]


@pytest.mark.parametrize(
    "row, said",
    [
        ({"text": ""}, "empty"),
        ({"text": " \n\t"}, "empty"),
        ({"text": None}, "has no text or caption"),
        ({"label": 3}, "has no text or caption"),
        ({"text": 3}, "its caption is 3"),
        ({"text": ["a"]}, "expected text"),
        ({"text": "half a \ud83d sign"}, "UTF-8"),
    ],
)
def test_rows_without_a_usable_caption_name_the_picture(tmp_path, row, said):
    write(tmp_path, "x.png", caption=None)
    write_jsonl(tmp_path, {"file_name": "x.png", **row})
    reason = only_reason(tmp_path, "x.png")
    assert said in reason and "metadata.jsonl line 1" in reason


def test_bytes_that_are_not_utf8_spoil_their_own_row_only(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path, name, caption=None)
    latin = '{"file_name": "b.png", "text": "crème"}'.encode("latin-1")
    write_jsonl(
        tmp_path,
        {"file_name": "a.png", "text": "a"},
        latin,
        {"file_name": "c.png", "text": "c"},
    )
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["a", "c"]
    assert "UTF-8" in reasons(folder)["b.png"] and "line 2" in reasons(folder)["b.png"]


def test_csv_faults_are_reported_with_their_line(tmp_path):
    for name in ("a.png", "b.png"):
        write(tmp_path, name, caption=None)
    rows = b'file_name,text\na.png,"good"\nb.png,cr\xe8me\n,nameless\na.png\n'
    (tmp_path / "metadata.csv").write_bytes(rows + b'"never closed\n')
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["good"]
    said = [f"{s.path.name}: {s.reason}" for s in folder.skipped]
    assert any(line.startswith("b.png: ") and "UTF-8" in line for line in said)
    assert any("line 4 needs a file_name" in line for line in said)
    assert any(line.startswith("a.png: is named again in metadata.csv line 5") for line in said)
    assert any("is not CSV" in line for line in said)


def test_csv_with_wrong_columns_says_which_it_found(tmp_path):
    (tmp_path / "metadata.csv").write_text("file;text\nx.png;hello\n")
    assert "file_name (found file;text)" in only_reason(tmp_path, "metadata.csv")


def test_a_picture_listed_twice_keeps_its_first_caption(tmp_path):
    write(tmp_path, "a.png", caption=None)
    write_jsonl(
        tmp_path,
        {"file_name": "a.png", "text": "first"},
        {"file_name": "./a.png", "text": "second"},
    )
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["first"]
    assert reasons(folder)["a.png"] == (
        "is named again in metadata.jsonl line 2; metadata.jsonl line 1 counts"
    )


@pytest.mark.parametrize(
    "sidecar, said",
    [
        ("", "empty"),
        ("crème".encode("latin-1"), "UTF-8"),
        ("a red circle".encode("utf-16"), "UTF-8"),
        ("a red circle".encode("utf-16-le"), "UTF-8"),
        ("word " * 50_000, "too long"),
    ],
)
def test_bad_sidecars(tmp_path, sidecar, said):
    write(tmp_path, "x.png", caption=sidecar)
    reason = only_reason(tmp_path, "x.png")
    assert said in reason and "x.txt" in reason


# --- where files may lie ------------------------------------------------------------------------


def test_listed_but_missing(tmp_path):
    write_jsonl(tmp_path, {"file_name": "gone.png", "text": "gone"})
    assert only_reason(tmp_path, "gone.png") == "is not on disk (named in metadata.jsonl line 1)"


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "{outside}/secret.png"])
def test_rows_cannot_lead_outside(tmp_path, name):
    outside, root = tmp_path, tmp_path / "mine"
    write(outside, "secret.png", caption="secret")
    root.mkdir()
    write_jsonl(root, {"file_name": name.format(outside=outside), "text": "mine now"})
    write(root, "good.png")
    folder = load_folder(root, 8)
    assert folder.captions == ["a caption"]
    (skipped,) = folder.skipped
    assert "lies outside the folder" in skipped.reason and "line 1" in skipped.reason


def test_links_cannot_lead_outside(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "mine"
    secret = write(outside, "secret.png", caption="secret")
    root.mkdir()
    (root / "picture.png").symlink_to(secret)
    (root / "picture.txt").write_text("a caption")
    (root / "folder").symlink_to(outside, target_is_directory=True)
    write(root, "stolen.png", caption=None)
    (root / "stolen.txt").symlink_to(outside / "secret.txt")
    (root / "loop.png").symlink_to(root / "loop.png")
    write(root, "good.png")
    folder = load_folder(root, 8)
    assert folder.captions == ["a caption"]
    said = reasons(folder)
    assert set(said) == {"picture.png", "folder", "stolen.png", "loop.png"}
    assert "leads there" in said["picture.png"] and "leads there" in said["stolen.png"]
    assert "not followed" in said["folder"]
    assert "secret" not in folder.report()


def test_a_link_within_the_folder_is_a_picture(tmp_path):
    (tmp_path / "b.png").symlink_to(write(tmp_path, "a.png"))
    (tmp_path / "b.txt").write_text("the link")
    assert load_folder(tmp_path, 8).captions == ["a caption", "the link"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_special_files_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert only_reason(tmp_path, "pipe.png") == "is not a regular file"


def test_a_folder_named_like_a_picture(tmp_path):
    write(tmp_path, "dir.png/x.png", caption="inside")
    write_jsonl(tmp_path, {"file_name": "dir.png", "text": "a folder"})
    folder = load_folder(tmp_path, 8)
    assert folder.captions == ["inside"]
    assert "not a regular file" in reasons(folder)["dir.png"]


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    for name in (".hidden.png", ".cache/x.png", "__MACOSX/x.png"):
        write(tmp_path, name)
    (tmp_path / "notes.md").write_text("not a picture")
    (tmp_path / "phone.HEIC").write_bytes(b"of a kind that cannot be read")
    assert "save it as PNG" in only_reason(tmp_path, "phone.HEIC")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX file names are bytes")
def test_undecodable_file_names_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        write(tmp_path, name, b"no picture")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    write(tmp_path, "good.png")
    report = load_folder(tmp_path, 8).report()
    assert report.encode("utf-8") and "caf\\udce9.png" in report


# --- what files may hold ------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size=(64, 64)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_files_are_named(tmp_path, kind):
    whole = encoded(noise(), kind)
    write(tmp_path, "half.png", whole[: len(whole) // 2])
    assert "cannot be decoded" in only_reason(tmp_path, "half.png")


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "empty file"),
        (b"GIF89a", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a picture"),
        (np.random.default_rng(1).bytes(5000), "not a picture"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, said):
    write(tmp_path, "x.png", content)
    assert said in only_reason(tmp_path, "x.png")


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.parametrize(
    "side, said",
    [(9_000, "9000 x 9000, more than the 50,000,000 pixels"), (60_000, "too large to decode")],
)
def test_decompression_bombs_are_not_decoded(tmp_path, monkeypatch, side, said):
    assert side**2 > MAX_PIXELS
    limit = Image.MAX_IMAGE_PIXELS
    loaded = []
    original = ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda self: loaded.append(self.size) or original(self)
    )
    write(tmp_path, "bomb.png", png_header(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert said in only_reason(tmp_path, "bomb.png")
    assert set(loaded) == {(20, 20)}, "only the good picture may be decoded"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_max_pixels_is_the_readers_choice(tmp_path):
    write(tmp_path, "x.png", picture(size=(21, 21)))
    assert "21 x 21, more than the 400" in only_reason(tmp_path, "x.png", max_pixels=400)


def test_files_too_long_for_their_pixels_are_not_read(tmp_path):
    file = write(tmp_path, "x.png")
    os.truncate(file, 8 * 400 + 1_000_001)  # sparse: takes no room on disk
    assert "bytes long" in only_reason(tmp_path, "x.png", max_pixels=400)


def test_palette(tmp_path):
    write(tmp_path, "x.gif", picture(GREEN).convert("P"))
    assert colours(tmp_path, "x.gif") == [GREEN]


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 10, 20))
    write(tmp_path, "x.png", encoded(image, "PNG", transparency=0))
    assert colours(tmp_path, "x.png", ((1, 1), (18, 1))) == [WHITE, BLUE]


@pytest.mark.parametrize("mode, solid", [("RGBA", RED), ("LA", (0, 0, 0))])
def test_transparency_is_composed_on_white(tmp_path, mode, solid):
    clear = (*RED, 0) if mode == "RGBA" else (0, 0)
    image = Image.new(mode, (20, 20), clear)
    image.paste((*clear[:-1], 255), (10, 0, 20, 20))
    write(tmp_path, "x.png", image)
    assert colours(tmp_path, "x.png", ((1, 1), (18, 1))) == [WHITE, solid]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    levels = np.full((20, 20), 0x8080, dtype=np.uint16)
    write(tmp_path, "x.png", encoded(Image.fromarray(levels), kind))
    assert colours(tmp_path, "x.png") == [(128, 128, 128)]


def test_pixels_without_an_agreed_range_are_named(tmp_path):
    write(tmp_path, "x.tif", Image.fromarray(np.full((9, 9), 0.5, dtype=np.float32)))
    assert "unknown range" in only_reason(tmp_path, "x.tif")


def test_32_bit_levels_are_named(tmp_path):
    write(tmp_path, "x.tif", Image.fromarray(np.full((9, 9), 10**6, dtype=np.int32)))
    assert "outside 16 bits" in only_reason(tmp_path, "x.tif")


def test_cmyk(tmp_path):
    write(tmp_path, "x.jpg", Image.new("CMYK", (20, 20), (0, 255, 255, 0)))
    ((red, green, blue),) = colours(tmp_path, "x.jpg")
    assert red > 240 and green < 15 and blue < 15


def test_one_bit_and_grey(tmp_path):
    write(tmp_path, "x.png", Image.new("1", (20, 20), 1))
    assert colours(tmp_path, "x.png") == [WHITE]


def test_exif_rotation_is_applied(tmp_path):
    stored = picture(BLUE)
    stored.paste(RED, (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the stored left becomes the top
    write(tmp_path, "x.png", encoded(stored, "PNG", exif=exif))
    assert colours(tmp_path, "x.png", ((1, 1), (18, 1), (1, 18))) == [RED, RED, BLUE]


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    write(tmp_path, "x.jpg", encoded(picture(GREEN), "JPEG", exif=b"Exif\x00\x00MM\x00\xff\xff"))
    ((red, green, blue),) = colours(tmp_path, "x.jpg")
    assert green > 240 and red < 15 and blue < 15


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    moving = encoded(picture(RED), kind, save_all=True, append_images=[picture(BLUE)], **options)
    write(tmp_path, "x.gif", moving)
    ((red, green, blue),) = colours(tmp_path, "x.gif")
    assert red > 250 and green < 5 and blue < 5


def test_a_large_jpeg_is_the_same_through_the_short_cut(tmp_path):
    smooth = Image.radial_gradient("L").resize((512, 512)).convert("RGB")
    write(tmp_path, "x.jpg", smooth)
    write(tmp_path, "y.png", smooth)
    fast, exact = load_folder(tmp_path, 16).images()
    assert (fast - exact).abs().max() < 0.05


# --- wrong calls --------------------------------------------------------------------------------


def test_a_folder_without_anything_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)metadata.jsonl.*text file.*holds no picture"):
        load_folder(tmp_path)


def test_a_folder_without_captions_shows_the_way_out(tmp_path):
    write(tmp_path, "cats/1.png", caption=None)
    with pytest.raises(ValueError, match=r"(?s)caption_from_folder=True.*1.png: has no caption"):
        load_folder(tmp_path)


def test_path_that_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is a file"):
        load_folder(write(tmp_path, "x.png"))


@pytest.mark.parametrize("options", [{"image_size": 0}, {"image_size": 64.0}, {"crop": "top"}])
def test_bad_options_are_named(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        load_folder(tmp_path, **options)
