"""How much of a spoken caption is heard, with a grammar of the captions and without?

    python benchmarks/speech.py -o book/results/speech.json
    python benchmarks/speech.py --recordings book/speech

The first command has synthetic voices say captions, as they are, over a telephone (8 kHz) and in
noise, and counts what `vislm_tutorial.speech` hears; three minutes of one core. The second writes
the recordings that the book has. Both need espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

from vislm_tutorial.data.captions import caption
from vislm_tutorial.data.scenes import sample_scene
from vislm_tutorial.evaluation.control import share
from vislm_tutorial.speech import RATE, listen, word_errors

VOICES = ("en-us", "en-us+f3", "en-us+m7", "en-gb", "en-gb+f2")
SPEED = 150  # words a minute
LONGEST = 12  # words of a caption: what one says in one breath
NOISE = 10  # decibels by which speech is louder than noise
# (what is changed in the sound, with the grammar or without)
CONDITIONS = (("clean", True), ("clean", False), ("telephone", True), ("noise", True))
RECORDINGS = {
    "red_circle.wav": ("en-us", "a red circle left of a blue square"),
    "two_squares.wav": ("en-gb", "two yellow squares and a green star"),
    "purple_cross.wav": ("en-us+f2", "a purple cross above an orange diamond"),
    "pink_star.wav": ("en-us+m7", "a pink star in the top left corner"),
}


def say(text: str, voice: str) -> np.ndarray:
    """Speech as (N,) floats in [-1, 1] at `RATE`. Raises SystemExit without espeak-ng."""
    if shutil.which("espeak-ng") is None:
        raise SystemExit("Needs espeak-ng: apt install espeak-ng, brew install espeak-ng.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "said.wav")
        subprocess.run(
            ["espeak-ng", "-v", voice, "-s", str(SPEED), "-w", str(file), text], check=True
        )
        rate, samples = wavfile.read(file)
    return np.clip(resample_poly(samples / 32768, RATE, rate), -1, 1)


def changed(sound: np.ndarray, how: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Speech as `listen` takes it, over a telephone or in white noise."""
    if how == "telephone":
        return np.clip(resample_poly(sound, 1, 2), -1, 1), RATE // 2
    if how == "noise":
        loudness = np.sqrt((sound**2).mean()) * 10 ** (-NOISE / 20)
        sound = sound + loudness * rng.standard_normal(len(sound))
        return sound / np.abs(sound).max(), RATE
    return sound, RATE


def sentences(n: int, seed: int) -> list[str]:
    """`n` different captions of at most `LONGEST` words, in the words of the training data."""
    rng, found = random.Random(seed), {}
    while len(found) < n:
        text = caption(sample_scene(rng), rng)
        if len(text.split()) <= LONGEST:
            found[text] = None
    return list(found)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def row_of(voice: str, how: str, grammar: bool, said: list[str], rng) -> tuple[dict, list[dict]]:
    """One row of the table, and what was heard wrongly."""
    right, errors, words, wrong = [], 0, 0, []
    begun = time.process_time()
    for text in said:
        try:
            heard = listen(changed(say(text, voice), how, rng), grammar).caption
        except ValueError:  # nothing was understood
            heard = ""
        right.append(words_of(heard) == words_of(text))
        errors += word_errors(words_of(text), words_of(heard))
        words += len(words_of(text))
        if not right[-1]:
            wrong.append({"voice": voice, "sound": how, "grammar": grammar, "said": text})
            wrong[-1]["heard"] = heard
    row = {"voice": voice, "sound": how, "grammar": grammar, "word_errors": errors, "words": words}
    seconds = round((time.process_time() - begun) / len(said), 2)
    row |= {"sentences": asdict(share(right)), "cpu_seconds": seconds}
    print(
        f"{voice:9} {how:9} {'grammar' if grammar else 'English':8}"
        f"{errors / words:7.1%} of words wrong, {sum(right):2} of {len(said)} sentences right, "
        f"{seconds:.2f} s each",
        flush=True,
    )
    return row, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="the JSON to write")
    parser.add_argument("--recordings", type=Path, help="the folder for the book's recordings")
    parser.add_argument("--n", type=int, default=12, help="captions for each voice")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    if options.recordings:
        options.recordings.mkdir(parents=True, exist_ok=True)
        for name, (voice, text) in RECORDINGS.items():
            samples = np.round(say(text, voice) * 32767).astype(np.int16)
            wavfile.write(options.recordings / name, RATE, samples)
    if options.output:
        said, rng = sentences(options.n, options.seed), np.random.default_rng(options.seed)
        found = [row_of(v, *c, said, rng) for c in CONDITIONS for v in VOICES]
        stored = {
            "command": shlex.join(["python", "benchmarks/speech.py", *sys.argv[1:]]),
            "voices": f"espeak-ng, {SPEED} words a minute",
            "noise_decibels": NOISE,
            "said": said,
            "rows": [row for row, _ in found],
            "wrong": [w for _, wrong in found for w in wrong],
        }
        options.output.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
