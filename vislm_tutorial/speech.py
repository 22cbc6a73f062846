"""Sound -> caption: say it, draw it, offline. Needs pocketsphinx, the extra `speech`.

A grammar of the scene captions says which sentences there are, so that "blue" cannot be misheard as
"flew". Without one, a language model of general English has to guess among 126,000 words.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

from .data.captions import (
    COLOUR_SYNONYMS,
    HELD_OUT_TEMPLATES,
    NUMBERS,
    PHRASES,
    RELATION_TEMPLATES,
    SHAPE_SYNONYMS,
    TEMPLATES,
    plural,
    with_article,
)
from .data.scenes import BACKGROUNDS, COLOURS, FILLS, PLACES, SHAPES, SIZES

RATE = 16_000  # samples a second of the sound that the acoustic model was trained on
LOWEST_RATE = 8_000  # a telephone's; below it consonants are lost
MOST_CHANNELS = 16  # more are samples, in an array that is turned
SHORTEST, LONGEST = 0.3, 30.0  # seconds: "a star" takes 0.6, the longest caption 15
SILENCE = 0.002  # of full scale (-54 dB): the loudest moment of a room's hiss lies below it
# Faint noise is mixed in. A microphone always hears some, and so did the acoustic model's; digital
# zeros between the words of a synthetic voice, whose loudness has no logarithm, make it hear worse.
HISS = 40 / 32768  # standard deviation, of full scale; speech is brought to a peak of a half
WINDOW = RATE // 20  # samples over which loudness is measured
# In the phones of the CMU dictionary, which lacks these words.
PRONUNCIATIONS = {
    "rhombus": "R AA M B AH S",
    "rhombuses": "R AA M B AH S AH Z",
    "pentagram": "P EH N T AH G R AE M",
    "pentagrams": "P EH N T AH G R AE M Z",
    "asterisks": "AE S T ER IH S K S",
}


@dataclass(frozen=True)
class Word:
    """A heard word and when it was said, in seconds from the beginning."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Heard:
    """What was heard.

    Attributes:
        caption: as a caption is written, with the commas that nobody says.
        words: in their order, lower case.
    """

    caption: str
    words: tuple[Word, ...]


def listen(sound: str | Path | tuple[np.ndarray, int], grammar: bool | str = True) -> Heard:
    """Recognise one spoken sentence.

    Args:
        sound: a WAV file; or the samples, (N,) or (N, channels) floats in [-1, 1], and their rate
            in Hz. Channels are averaged.
        grammar: True hears only sentences of `caption_grammar()`; False any English; a text is a
            grammar of your own in JSGF (https://www.w3.org/TR/jsgf/) with one public rule and
            no imports.

    Raises:
        ImportError: without pocketsphinx.
        FileNotFoundError: where there is no file.
        ValueError: for what is no WAV file, samples of another shape, type or range, a rate below
            8 kHz, less than 0.3 s, more than 30 s, silence; for a grammar that cannot be read or
            has words without a pronunciation; and where nothing was understood.
    """
    pocketsphinx = _import_pocketsphinx()
    samples = _samples(*(sound if isinstance(sound, tuple) else _read_wav(Path(sound))))
    decoder = _decoder(pocketsphinx, grammar)
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    heard = tuple(_words(decoder)) if found and found.hypstr.strip() else ()
    if not heard:
        other = ", or try grammar=False, which hears any English" if grammar else ""
        raise ValueError(
            "Nothing was understood: speak more slowly and closer to the microphone, in a sentence "
            f"such as 'a red circle left of a blue square'{other}."
        )
    return Heard(_written(" ".join(word.text for word in heard)), heard)


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest words to exchange, drop or add that make the one from the other (Levenshtein 1966)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1]


def caption_grammar(synonyms: bool = False) -> str:
    """The sentences of `data.captions` as a grammar in JSGF.

    It is a little wider than the captions: one object may be said with its colour and another
    without, any number of groups may be listed, and any opening goes with any closing.

    Args:
        synonyms: whether other words for colours and shapes may be heard, too.
    """
    others = {**COLOUR_SYNONYMS, **SHAPE_SYNONYMS} if synonyms else {}
    colours, nouns = (
        [word for name in names for word in (name, *others.get(name, ()))]
        for names in (COLOURS, SHAPES)
    )
    kinds = {"size": list(SIZES), "fill": list(FILLS), "colour": colours, "noun": nouns}
    # "a" or "an" goes with the word that follows, whichever that is.
    after_article = {f"a_{kind}": map(with_article, words) for kind, words in kinds.items()}
    relations = {
        template.format(a="", b="", rel=rel, to_the=to_the).strip()
        for template in RELATION_TEMPLATES
        for rel, to_the in PHRASES.items()
    }
    openings, closings = zip(*map(_around, _TEMPLATES), strict=True)
    rules = {name: _any(words) for name, words in (kinds | after_article).items()} | {
        "nouns": _any(map(plural, nouns)),
        "one": "<a_size> [<fill>] [<colour>] <noun> | <a_fill> [<colour>] <noun>"
        " | <a_colour> <noun> | <a_noun>",
        "several": f"({_any(NUMBERS.values())}) [<size>] [<fill>] [<colour>] <nouns>",
        "place": _any(PLACES),
        "relation": _any(relations),
        # A rule that ends in itself is a loop. Writing out all lists of one to four objects copies
        # <one> forty times, and takes a hundred times as long.
        "more": "(<one> | <several>) <more> | and (<one> | <several>)",
        "things": "<one> [<place> | <relation> <one> | <more>] | <several> [<more>]",
        "where": f"on ({_any(map(with_article, BACKGROUNDS))}) background",
        "body": "nothing <where> | <things> [<where>]",
        "opening": _any(filter(None, openings)),
        "closing": _any(filter(None, closings)),
    }
    lines = [f"<{name}> = {rule};" for name, rule in rules.items()]
    start = "public <caption> = [<opening>] <body> [<closing>];"
    return "\n".join(["#JSGF V1.0;", "grammar captions;", *lines, start])


def _any(choices: Iterable[str]) -> str:
    """Alternatives, each once, in an order that is the same in every process."""
    return " | ".join(sorted({choice.strip() for choice in choices}))


# --- spoken and written --------------------------------------------------------------------------

_TEMPLATES = tuple(dict.fromkeys(TEMPLATES + HELD_OUT_TEMPLATES))
_NOUNS = "|".join(
    noun for name in SHAPES for one in (name, *SHAPE_SYNONYMS[name]) for noun in (plural(one), one)
)
_NO_COMMA = re.compile(rf"\b({_NOUNS}) (?=(?:an?|{'|'.join(NUMBERS.values())})\b)")


def _spoken(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def _around(template: str) -> tuple[str, str]:
    """What is said before and after the body of a caption."""
    before, after = map(_spoken, template.split("{}"))
    return before, after


def _written(said: str) -> str:
    """A caption as it is written: "could you sketch a star a cross and a disc" gets its ",?"."""
    found = "{}"
    for template in _TEMPLATES:
        before, after = _around(template)
        if said.startswith(f"{before} ".lstrip()) and said.endswith(f" {after}".rstrip()):
            found = max(found, template, key=len)
    before, after = _around(found)
    body = said[len(before) : len(said) - len(after)].strip()
    return found.format(_NO_COMMA.sub(r"\1, ", body))


# --- sound ---------------------------------------------------------------------------------------


def _read_wav(path: Path) -> tuple[np.ndarray, int]:
    """A WAV file as floats in [-1, 1], (N,) or (N, channels), and its rate in Hz."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; expected a recording, a WAV file.")
    try:
        with warnings.catch_warnings():  # of tags that other programs write behind the sound
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except Exception as error:  # scipy raises half a dozen kinds at damaged files
        raise ValueError(
            f"{path} cannot be read as a WAV file ({error}). Save the recording as WAV (PCM), "
            "or convert it: ffmpeg -i recording -ar 16000 -ac 1 recording.wav"
        ) from error
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128, rate
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32), rate
    return np.clip(samples, -1, 1), rate


def _samples(sound: np.ndarray, rate: int) -> np.ndarray:
    """Checked sound as (N,) int16 at `RATE`, its loudest sample at about half of full scale."""
    sound = np.asarray(sound)
    turned = sound.ndim == 2 and sound.shape[1] > MOST_CHANNELS
    if sound.ndim not in (1, 2) or turned or not np.issubdtype(sound.dtype, np.floating):
        raise ValueError(
            f"The sound is {sound.dtype} of shape {sound.shape}; expected floats in [-1, 1], (N,) "
            "or (N, channels). 16-bit samples become them by samples / 32768."
        )
    if rate != int(rate) or rate < LOWEST_RATE:
        raise ValueError(
            f"The rate is {rate} Hz; expected a whole number, {LOWEST_RATE} or more. "
            f"Record at {RATE}."
        )
    seconds = len(sound) / rate
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(
            f"The sound lasts {seconds:.2f} s; expected one sentence, {SHORTEST} to {LONGEST:g} s."
        )
    if not np.isfinite(sound).all() or np.abs(sound).max() > 1:
        raise ValueError(
            f"The samples reach from {sound.min()} to {sound.max()}; expected [-1, 1]. "
            "Divide them by their largest possible value."
        )
    mono = sound.astype(np.float64).reshape(len(sound), -1).mean(axis=1)
    mono -= mono.mean()  # a cheap microphone's constant offset
    common = math.gcd(RATE, int(rate))
    mono = resample_poly(mono, RATE // common, int(rate) // common)
    pieces = mono[: len(mono) // WINDOW * WINDOW].reshape(-1, WINDOW)
    loudest = np.sqrt((pieces**2).mean(axis=1)).max()
    if loudest < SILENCE:
        raise ValueError(
            f"The sound is silent: its loudest moment has {loudest:.5f} of full scale, expected "
            f"{SILENCE} or more. Check that the microphone is on and allowed, and speak up."
        )
    hiss = HISS * np.random.default_rng(0).standard_normal(len(mono))  # the same each time
    return np.round((mono / np.abs(mono).max() * 0.5 + hiss) * 32767).astype(np.int16)


# --- the recogniser ------------------------------------------------------------------------------


def _decoder(pocketsphinx, grammar: bool | str):
    """A new one each time: a used one adapts to what it heard, and the next answer with it."""
    if grammar is False:
        return pocketsphinx.Decoder(loglevel="FATAL")
    text = caption_grammar() if grammar is True else grammar
    # Without the search of a word graph: with a grammar it finds the same, in four times the time.
    decoder = pocketsphinx.Decoder(lm=None, bestpath=False, loglevel="FATAL")
    for word, phones in PRONUNCIATIONS.items():
        decoder.add_word(word, phones, False)
    unknown = [word for word in _grammar_words(text) if decoder.lookup_word(word) is None]
    if unknown:
        raise ValueError(
            f"The grammar has words without a pronunciation: {', '.join(unknown)}. Say them "
            "otherwise, or add how they sound to speech.PRONUNCIATIONS."
        )
    if missing := set(re.findall(r"<(\w+)>", text)) - set(re.findall(r"<(\w+)>\s*=", text)):
        raise ValueError(f"The grammar names rules that it lacks: {', '.join(sorted(missing))}.")
    try:
        decoder.add_jsgf_string("captions", text)
        decoder.activate_search("captions")
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            "The grammar cannot be read; expected JSGF, '#JSGF V1.0; grammar g; public <s> = "
            f"a red circle | a blue square;', not {text[:60]!r}."
        ) from error
    return decoder


def _grammar_words(text: str) -> list[str]:
    """The words that a grammar in JSGF may hear, each once."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/|#JSGF[^;]*;|grammar [^;]*;", " ", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>|\{[^}]*\}|/[^/]*/|\bpublic\b", " ", text)  # names, tags, weights
    return list(dict.fromkeys(re.findall(r"[^\s=;|()\[\]*+]+", text)))


def _words(decoder) -> Iterable[Word]:
    """What was heard, without pauses and noises, whose names are <sil>, [NOISE] and the like."""
    frames = decoder.config["frate"]
    for piece in decoder.seg():
        if piece.word[0] not in "<[+(":
            text = re.sub(r"\(\d+\)$", "", piece.word)  # a(2): the second pronunciation
            yield Word(text, piece.start_frame / frames, (piece.end_frame + 1) / frames)


def _import_pocketsphinx():
    try:
        import pocketsphinx
    except ImportError as error:
        raise ImportError(
            "Hearing needs pocketsphinx, not installed here. "
            "Install with: pip install 'vislm-tutorial[speech]'"
        ) from error
    return pocketsphinx
