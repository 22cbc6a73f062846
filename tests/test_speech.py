"""The book's recordings are heard, whatever the format; what cannot be heard is said clearly."""

from __future__ import annotations

import os
import random
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample_poly

from vislm_tutorial import speech
from vislm_tutorial.data.captions import caption
from vislm_tutorial.data.scenes import sample_scenes
from vislm_tutorial.speech import RATE, caption_grammar, listen

FOLDER = Path(__file__).resolve().parents[1] / "book/speech"
SAID = dict(re.findall(r"\| `(\w+\.wav)` \| `\S+` \| (.+) \|", (FOLDER / "README.md").read_text()))
hears = pytest.mark.skipif(
    find_spec("pocketsphinx") is None and not os.environ.get("CI"),
    reason="hearing needs pocketsphinx: pip install 'vislm-tutorial[speech]'",
)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """ "a red circle left of a blue square" as (N,) floats in [-1, 1] at 16 kHz."""
    rate, samples = wavfile.read(FOLDER / "red_circle.wav")
    assert rate == RATE
    return samples / 32768


def test_every_recording_is_described_and_small():
    files = sorted(FOLDER.glob("*.wav"))
    assert [f.name for f in files] == sorted(SAID) and len(SAID) <= 4
    assert all(f.stat().st_size < 110_000 for f in files)


@hears
@pytest.mark.parametrize("name", SAID)
def test_recordings_are_heard_exactly(name):
    heard = listen(FOLDER / name)
    assert heard.caption == SAID[name]
    assert [w.text for w in heard.words] == SAID[name].split()
    times = [t for word in heard.words for t in (word.start, word.end)]
    assert times == sorted(times) and times[0] >= 0
    assert times[-1] <= (FOLDER / name).stat().st_size / 2 / RATE


@hears
def test_stereo_of_a_cd_is_heard_too(sound, tmp_path):
    left = resample_poly(sound, 441, 160)
    file = tmp_path / "cd.wav"
    pcm = (np.stack([left, 0.5 * left], axis=1).clip(-1, 1) * 32767).astype(np.int16)
    wavfile.write(file, 44_100, pcm)
    assert listen(file).caption == SAID["red_circle.wav"]
    assert listen(str(file)) == listen((pcm / 32768, 44_100))  # and twice the same


@hears
def test_quiet_speech_is_heard_too(sound):
    assert listen((0.02 * sound + 0.1, RATE)).caption == SAID["red_circle.wav"]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_sample_formats_of_wav_files_are_the_same_sound(kind, sound, tmp_path):
    largest = 1 if kind == np.float32 else 127 if kind == np.uint8 else np.iinfo(kind).max
    stored = (sound * largest + (128 if kind == np.uint8 else 0)).astype(kind)
    wavfile.write(tmp_path / "a.wav", RATE, stored)
    read, rate = speech._read_wav(tmp_path / "a.wav")
    assert rate == RATE and np.abs(read - sound).max() < 0.02


@hears
def test_general_english_hears_other_words(sound):
    assert listen((sound, RATE), grammar=False).caption != SAID["red_circle.wav"]


# --- grammars ------------------------------------------------------------------------------------


def matcher(grammar: str) -> re.Pattern:
    """The same grammar as a regular expression over words; its one loop is unrolled four times."""
    rules = dict(re.findall(r"<(\w+)> = (.*);", grammar))

    def expand(text: str, depth: int) -> str:
        found = []
        for token in re.findall(r"<\w+>|[()\[\]|]|[^\s()\[\]|<>]+", text):
            if token.startswith("<"):
                name = token[1:-1]
                deeper = depth + (name == "more")
                found.append(f"(?:{expand(rules[name], deeper)})" if deeper < 5 else "(?!)")
            else:
                named = {"[": "(?:", "]": ")?", "(": "(?:"}
                found.append(named.get(token, token if token in "|)" else f"{token} "))
        return "".join(found)

    return re.compile(expand(rules["caption"], 0))


@pytest.mark.parametrize("synonyms", [False, True])
def test_every_caption_is_a_sentence_and_is_written_as_it_was(synonyms):
    pattern, rng = matcher(caption_grammar(synonyms)), random.Random(0)
    for scene in sample_scenes(300, 0):
        text = caption(scene, rng, synonyms=synonyms, held_out_template=rng.random() < 0.3)
        said = speech._spoken(text)
        assert pattern.fullmatch(f"{said} "), text
        assert speech._written(said) == text
    assert not pattern.fullmatch("a orange star ") and not pattern.fullmatch("two red circle ")


@hears
@pytest.mark.parametrize("synonyms", [False, True])
def test_every_word_of_the_grammar_has_a_pronunciation(synonyms):
    import pocketsphinx

    decoder = speech._decoder(pocketsphinx, caption_grammar(synonyms))
    words = speech._grammar_words(caption_grammar(synonyms))
    assert {"a", "an", "circle", "corner", "two"} < set(words)
    assert all(decoder.lookup_word(word) for word in words)


@hears
def test_a_grammar_of_ones_own(sound):
    shape = "/2/ square | /1/ star {tag}"
    sentence = "a (red | green) circle left of a blue <shape>"
    own = f"#JSGF V1.0; grammar g; public <s> = {sentence}; <shape> = {shape};"
    assert listen((sound, RATE), own).caption == SAID["red_circle.wav"]


@hears
@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("a red circle", "cannot be read"),
        ("#JSGF V1.0; grammar g; public <s> = a red (star | circle;", "cannot be read"),
        ("#JSGF V1.0; grammar g; <s> = a red star;", "cannot be read"),
        ("#JSGF V1.0; grammar g; public <s> = a <colour> star;", "rules that it lacks: colour"),
        ("#JSGF V1.0; grammar g; public <s> = a flurble star;", "pronunciation: flurble"),
    ],
)
def test_wrong_grammars(grammar, message, sound):
    with pytest.raises(ValueError, match=message):
        listen((sound, RATE), grammar)


# --- what cannot be heard ------------------------------------------------------------------------


@hears
@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(RATE), RATE, "silent.*microphone"),
        (np.zeros(0), RATE, "lasts 0.00 s"),
        (np.full(RATE, 0.3), RATE, "silent"),
        (np.ones(100) * 0.1, RATE, "lasts 0.01 s.*0.3 to 30 s"),
        (np.ones(31 * RATE) * 0.1, RATE, "lasts 31.00 s"),
        (np.ones(RATE, np.int16), RATE, "int16.*samples / 32768"),
        (np.ones((2, RATE)), RATE, "expected floats.*channels"),
        (np.ones((1, 2, 3)), RATE, "expected floats"),
        (np.full(RATE, 2.0), RATE, "reach from 2.0 to 2.0"),
        (np.full(RATE, np.nan), RATE, "reach from nan"),
        (np.zeros(4000), 4000, "rate is 4000 Hz"),
        (np.zeros(9000), 8000.5, "rate is 8000.5 Hz"),
    ],
)
def test_sound_that_cannot_be_used(samples, rate, message):
    with pytest.raises(ValueError, match=message):
        listen((samples, rate))


@hears
def test_sound_without_speech():
    noise = np.random.default_rng(0).standard_normal(RATE).clip(-3, 3) / 30
    with pytest.raises(ValueError, match="Nothing was understood.*grammar=False"):
        listen((noise, RATE))


@hears
def test_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a recording"):
        listen(tmp_path / "missing.wav")
    for name, content in (("a.mp3", b"ID3" + bytes(99)), ("b.wav", b""), ("c.wav", b"RIFF\0\0")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as a WAV file.*ffmpeg"):
            listen(tmp_path / name)
    whole = (FOLDER / "red_circle.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:30])
    with pytest.raises(ValueError, match="cannot be read as a WAV file"):
        listen(tmp_path / "cut.wav")


def test_without_pocketsphinx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ImportError, match=r"pip install 'vislm-tutorial\[speech\]'"):
        listen(FOLDER / "red_circle.wav")
