"""What the model misses: read from the captions that people typed, window by window.

Three signs, from cheap to dear. A word that no training caption has needs a set of words. A caption
far from all training captions needs the language model. A picture that is wrong needs to be drawn
and read back, and a caption that can be understood. Each share comes with its interval: of 50
captions, 3 with a strange word are no news.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..data.parsing import read
from ..evaluation.control import share
from ..evaluation.exact_eval import judge
from ..evaluation.report import Score
from .collect import Typed
from .wording import understood, words_of

FAR = 0.99  # of training captions this share lies nearer to the others than what counts as far
LEAST_REQUESTS = 5  # a word in fewer requests is not shown: it may be somebody's name
STEPS = 20  # of drawings that are only judged


class Known:
    """What a model was trained on: its captions' words, and where its captions lie.

    Args:
        captions: of the training, or a sample of some hundreds.
        encoder: the model's own; a `CachedEncoder` does too.
    """

    def __init__(self, captions: Sequence[str], encoder):
        captions = list(dict.fromkeys(captions))
        if len(captions) < 10:
            raise ValueError(f"{len(captions)} different captions are too few; expected 10.")
        self.words = frozenset(word for caption in captions for word in words_of(caption))
        self.encoder = encoder
        means = self._means(captions)
        self._centre = means.mean(dim=0)
        self._directions = self._directed(means)
        # Of each training caption, the distance to the nearest other one.
        alike = self._directions @ self._directions.T
        nearest = 1 - alike.fill_diagonal_(-1).amax(dim=1)
        self.far = float(nearest.quantile(FAR))

    def unknown(self, caption: str) -> list[str]:
        """The words of a caption that no training caption has."""
        return [word for word in words_of(caption) if word not in self.words]

    def distances(self, captions: Sequence[str]) -> Tensor:
        """1 - cosine to the nearest training caption, (n,) in [0, 2]; above `far`, it is far.

        Compared are the means of the encoder's states, from the training captions' centre.
        """
        return 1 - (self._directed(self._means(captions)) @ self._directions.T).amax(dim=1)

    def _means(self, captions: Sequence[str]) -> Tensor:
        states = self.encoder.encode(list(captions))
        mask = states.encoder_attention_mask[..., None]
        return (states.encoder_hidden_states * mask).sum(dim=1) / mask.sum(dim=1)

    def _directed(self, means: Tensor) -> Tensor:
        return functional.normalize(means - self._centre, dim=-1)


@dataclass(frozen=True)
class Window:
    """Some captions in a row.

    Attributes:
        first, n: number of the first caption, and how many there are.
        unknown: the share with a word that no training caption has.
        far: the share that lies far from all training captions.
        disliked: of those with feedback, the share that was said to be wrong; None: no feedback.
        wrong: of those that could be judged, the share drawn wrong; None: nothing was drawn.
        words: unknown word -> ids of the requests with it; one may have several captions.
    """

    first: int
    n: int
    unknown: Score
    far: Score
    disliked: Score | None
    wrong: Score | None
    words: Mapping[str, frozenset[str]]


def watch(
    typed: Sequence[Typed],
    known: Known,
    size: int = 50,
    right: Sequence[bool | None] | None = None,
) -> list[Window]:
    """A report for each `size` captions in a row; the last may be shorter.

    Args:
        right: from `drawn_right`: whether each caption was drawn right.
    """
    if not typed or size < 1:
        raise ValueError(
            f"{len(typed)} captions in windows of {size}; expected 1 of each at least."
        )
    distances = known.distances([entry.caption for entry in typed])
    windows = []
    for first in range(0, len(typed), size):
        part = typed[first : first + size]
        strange = [known.unknown(entry.caption) for entry in part]
        judged = [r for r in (right or [])[first : first + size] if r is not None]
        said = [entry.right for entry in part if entry.right is not None]
        windows.append(
            Window(
                first,
                len(part),
                share([bool(words) for words in strange]),
                share((distances[first : first + size] > known.far).tolist()),
                share([not r for r in said]) if said else None,
                share([not r for r in judged]) if judged else None,
                _requests(part, strange),
            )
        )
    return windows


def _requests(typed: Sequence[Typed], words: Sequence[Sequence[str]]) -> dict[str, frozenset[str]]:
    """word -> ids of the requests in which it was typed."""
    found: dict[str, set[str]] = {}
    for entry, own in zip(typed, words, strict=True):
        for word in own:
            found.setdefault(word, set()).add(entry.id)
    return {word: frozenset(ids) for word, ids in found.items()}


def missed_words(windows: Iterable[Window], least: int = LEAST_REQUESTS) -> dict[str, int]:
    """Unknown words by the number of requests with them, most first; rare ones are left out.

    One request counts once, however often it says a word: nobody gets a name shown by a single one.
    """
    ids: dict[str, frozenset[str]] = {}
    for window in windows:
        for word, own in window.words.items():
            ids[word] = ids.get(word, frozenset()) | own
    total = Counter({word: len(own) for word, own in ids.items()})
    return {word: count for word, count in total.most_common() if count >= least}


def drifted(before: Score, after: Score) -> bool:
    """Whether a share has risen for sure: the intervals do not even touch."""
    return after.low > before.high


@torch.no_grad()
def drawn_right(
    pipe,
    captions: Sequence[str],
    labels: Mapping[str, str] | None = None,
    seed: int = 0,
    steps: int = STEPS,
    batch_size: int = 40,
) -> list[bool | None]:
    """Whether a pipeline draws captions right; None for a caption that is not understood.

    Caption i is drawn with the noise of seed + i, so two models can be compared pair by pair.

    Args:
        pipe: a `VisLMPipeline` with a flow.
        labels: new word -> known word, by which a person says what new words mean.
    """
    prompts = [understood(caption, labels) for caption in captions]
    rows = [row for row, prompt in enumerate(prompts) if prompt is not None]
    right: list[bool | None] = [None] * len(prompts)
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        images = pipe(
            [captions[row] for row in part],
            num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(seed + row) for row in part],
            output_type="pt",
        ).images
        for row, reading in zip(part, read(images), strict=True):
            right[row] = all(check.holds for check in judge(prompts[row], reading))
    return right
