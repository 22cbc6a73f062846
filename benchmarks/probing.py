"""What each layer knows of a word: `python benchmarks/probing.py -o book/results/probing.json`.

A linear probe learns a colour (a shape) from its plain word and k other words for it, and is asked
about words it did not see: the last ones of `data.words`, by which a layer is chosen, and then the
held-out synonyms of `data.captions`, on which the chosen layer is judged. For a relation, such as
"left of", it is asked for other phrases. Two minutes of one slow core.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vislm_tutorial.data.captions import (
    COLOUR_SYNONYMS,
    PHRASES,
    SHAPE_SYNONYMS,
    with_article,
)
from vislm_tutorial.data.words import OTHER_COLOURS, OTHER_SHAPES
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation.probes import fit_probe, word_states

MODELS = ("minilm", "smollm2")
WORDS = (0, 3, 6, 8)  # k: how many other words a probe learns from
ATTRIBUTES = {
    "colour": (OTHER_COLOURS, COLOUR_SYNONYMS),
    "shape": (OTHER_SHAPES, SHAPE_SYNONYMS),
}
FRAMES = ("{}", "a picture of {}", "we see {}", "draw {}")
# What a probe for relations learns from, what its layer is chosen by, what it is judged on.
PLAIN_PHRASES = {name: (name,) for name in PHRASES}
OTHER_PHRASES = {name: (phrase,) for name, phrase in PHRASES.items()}
HELD_OUT_PHRASES = {
    "left of": ("on the left side of", "further left than"),
    "right of": ("on the right side of", "further right than"),
    "above": ("on top of", "higher than"),
    "below": ("underneath", "lower than"),
}
READ_FROM = ("first thing", "second thing", "all words")
CAPTIONS_A_PHRASE = {"seen": 24, "validation": 12, "held out": 10}
DECAY = 1e-2

Words = tuple[tuple[str, int], ...]  # (word, class)


@dataclass(frozen=True)
class Split:
    """The words that a probe learns from, is chosen by, and is judged on: no word is in two."""

    seen: Words
    validation: Words
    held_out: Words


def split(attribute: str, k: int) -> Split:
    """The words of "colour" or "shape"; `validation` and `held_out` are the same for every k.

    A validation word that holds a seen one, or is held by it ("dark blue", "blueberry", "quad" and
    "quadrangle"), is left out: a probe would know it by its spelling.

    Raises:
        ValueError: if k is so large that validation words would be learned from.
    """
    most = max(WORDS)
    if not 0 <= k <= most:
        raise ValueError(f"k is {k}; expected 0 to {most}: later words are for validation.")
    others, synonyms = ATTRIBUTES[attribute]
    spelled = [w for name in synonyms for w in (name, *others[name][:most])]

    def labelled(words_of: Callable[[str], Iterable[str]]) -> Words:
        return tuple((w, i) for i, name in enumerate(synonyms) for w in words_of(name))

    def new(words: Iterable[str]) -> list[str]:
        return [w for w in words if not any(w in seen or seen in w for seen in spelled)]

    return Split(
        seen=labelled(lambda name: (name, *others[name][:k])),
        validation=labelled(lambda name: new(others[name][most:])),
        held_out=labelled(lambda name: synonyms[name]),
    )


def captions_of(attribute: str, word: str) -> list[str]:
    """A caption a frame, each with another of the other attribute's plain words."""
    rng = random.Random(f"{attribute} {word}")
    if attribute == "colour":
        things = [f"{word} {shape}" for shape in rng.sample(list(SHAPE_SYNONYMS), len(FRAMES))]
    else:
        things = [f"{colour} {word}" for colour in rng.sample(list(COLOUR_SYNONYMS), len(FRAMES))]
    return [frame.format(with_article(x)) for frame, x in zip(FRAMES, things, strict=True)]


def with_mean(states: Tensor) -> Tensor:
    """Layers and, behind the last, the mean of all but the embeddings: (B, N + 1, D) -> N + 2."""
    return torch.cat([states, states[:, 1:].mean(dim=1, keepdim=True)], dim=1)


def best(validation: Sequence[int], doubt: Sequence[float]) -> int:
    """The layer with most validation words right; of equals that with less doubt."""
    return max(range(len(doubt)), key=lambda layer: (validation[layer], -doubt[layer]))


def judged(answers: Tensor, labels: Tensor, each: int) -> tuple[int, float]:
    """How many words are right, and the mean doubt in nats.

    Args:
        answers: (n * each, K) log-odds, `each` captions a word; a word has one answer, that of the
            log-probabilities' sum.
        labels: (n,).
    """
    logs = answers.log_softmax(dim=1).unflatten(0, (-1, each))  # (n * each, K) -> (n, each, K)
    right = (logs.sum(dim=1).argmax(dim=1) == labels).sum().item()
    doubt = -logs.gather(2, labels[:, None, None].expand(-1, each, 1)).mean().item()
    return right, doubt


def by_layer(
    seen: tuple[Tensor, Tensor],
    asked: Mapping[str, tuple[Tensor, Tensor]],
    classes: int,
    each: int,
) -> dict:
    """A probe a layer, and what it answers.

    Args:
        seen: states (n * each, layers, D) and labels (n,).
        asked: "validation" and "held_out", likewise.
    """
    row = {name: [] for name in asked} | {"doubt": []}
    for layer in range(seen[0].shape[1]):
        labels = seen[1].repeat_interleave(each)
        probe = fit_probe(seen[0][:, layer], labels, classes, DECAY)
        for name, (states, answers) in asked.items():
            right, doubt = judged(probe(states[:, layer]), answers, each)
            row[name].append(right)
            if name == "validation":
                row["doubt"].append(round(doubt, 3))
    row |= {f"n_{name}": len(labels) for name, (_, labels) in asked.items()}
    return row | {"chosen": best(row["validation"], row["doubt"])}


def nearest(states: Mapping[str, Tensor], attribute: str) -> dict:
    """No probe: the plain word whose state has the largest cosine, its captions' mean, centred."""
    parts, row = split(attribute, 0), {"attribute": attribute}
    means = {word: states[word].mean(dim=0) for word in states}  # (layers, D) each
    plain = torch.stack([means[word] for word, _ in parts.seen])  # (K, layers, D)
    middle = plain.mean(dim=0)
    for name in ("validation", "held_out"):
        words = getattr(parts, name)
        asked = torch.stack([means[word] for word, _ in words])
        cosines = torch.cosine_similarity((asked - middle)[:, None], (plain - middle)[None], dim=-1)
        found = cosines.argmax(dim=1)  # (n, layers)
        labels = torch.tensor([label for _, label in words])
        row[name] = (found == labels[:, None]).sum(dim=0).tolist()
        row[f"n_{name}"] = len(words)
    row["chosen"] = best(row["validation"], [0.0] * len(row["validation"]))
    names = [word for word, _ in parts.seen]
    at = row["chosen"]
    return row | {"words": {w: names[found[i, at]] for i, (w, _) in enumerate(parts.held_out)}}


def relation_captions(phrases: Mapping[str, Sequence[str]], n: int, seed: int) -> list[tuple]:
    """`n` captions a phrase: (caption, first shape, second shape, class of the relation)."""
    rng, found = random.Random(seed), []
    for label, name in enumerate(PHRASES):
        for phrase in phrases[name]:
            for _ in range(n):
                a, b = rng.sample(list(SHAPE_SYNONYMS), 2)
                x, y = (f"{rng.choice(list(COLOUR_SYNONYMS))} {shape}" for shape in (a, b))
                found.append((f"{with_article(x)} {phrase} {with_article(y)}", a, b, label))
    return found


def probe_words(encoder) -> Iterable[tuple[str, dict]]:
    """Rows of ("probes" | "nearest", row) for colours and shapes."""
    for attribute in ATTRIBUTES:
        parts = split(attribute, max(WORDS))
        words = [w for w, _ in parts.seen + parts.validation + parts.held_out]
        captions = [caption for w in words for caption in captions_of(attribute, w)]
        each = len(FRAMES)
        found = with_mean(word_states(encoder, captions, [w for w in words for _ in range(each)]))
        states = dict(zip(words, found.unflatten(0, (-1, each)), strict=True))

        def states_of(part: Words, states=states) -> tuple[Tensor, Tensor]:
            return torch.cat([states[w] for w, _ in part]), torch.tensor([i for _, i in part])

        for k in WORDS:
            parts = split(attribute, k)
            asked = {name: states_of(getattr(parts, name)) for name in ("validation", "held_out")}
            row = by_layer(states_of(parts.seen), asked, len(ATTRIBUTES[attribute][1]), each)
            yield "probes", {"attribute": attribute, "words": k} | row
        yield "nearest", nearest(states, attribute)


def probe_relations(encoder) -> Iterable[tuple[str, dict]]:
    """Rows for relations, read from either thing's word or from all words."""
    parts = [
        relation_captions(phrases, n, seed)
        for seed, (phrases, n) in enumerate(
            zip(
                (PLAIN_PHRASES, OTHER_PHRASES, HELD_OUT_PHRASES),
                CAPTIONS_A_PHRASE.values(),
                strict=True,
            )
        )
    ]
    for column, name in enumerate(READ_FROM):
        read = []
        for rows in parts:
            captions = [row[0] for row in rows]
            words = captions if name == "all words" else [row[1 + column] for row in rows]
            labels = torch.tensor([row[3] for row in rows])
            read.append((with_mean(word_states(encoder, captions, words)), labels))
        asked = {"validation": read[1], "held_out": read[2]}
        yield "relations", {"read_from": name} | by_layer(read[0], asked, len(PHRASES), each=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("-o", "--output", type=Path, help="store the rows in this JSON file")
    options = parser.parse_args()
    stored: dict[str, list] = {"probes": [], "nearest": [], "relations": []}
    for model in options.models:
        encoder = load_encoder(model)
        for rows in (probe_words(encoder), probe_relations(encoder)):
            for kind, row in rows:
                stored[kind].append({"model": model} | row)
                print(model, *(v for v in row.values() if isinstance(v, str | int)), flush=True)
                at, n = row["chosen"], row["n_held_out"]
                right = (row[name][at] for name in ("validation", "held_out"))
                print("   right at the chosen layer:", *right, "held out of", n, flush=True)
    if options.output:
        options.output.write_text(as_text(stored), encoding="utf-8")


def as_text(stored: Mapping[str, Sequence[dict]]) -> str:
    """JSON with a line for each row."""
    command = "python benchmarks/probing.py -o book/results/probing.json"
    settings = {"frames": FRAMES, "decay": DECAY, "chance": {"colour": 1 / 8, "shape": 1 / 6}}
    head = json.dumps({"command": command, "settings": settings}, indent=1)[:-2]
    for kind, rows in stored.items():
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        head += f',\n "{kind}": [\n  {lines}\n ]'
    return head + "\n}\n"


if __name__ == "__main__":
    main()
