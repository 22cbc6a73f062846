"""Teach a model the words that it misses, without a single picture.

A person says what a new word means by a word that the model knows. Then the fusion learns to give
for "a crimson disc" the condition that it gave for "a red circle": the language model stays frozen,
the generator is not even called, and a run takes seconds on a CPU. (Or the language model learns,
by one of the strategies of `tuning`, and the fusion stays as it is.) Beside each new caption it
sees old ones, with the condition they always had, so that nothing is forgotten (Li and Hoiem 2016,
"Learning without Forgetting").
"""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.captions import plural
from ..encoders import TextEncoder, TokenReader
from ..encoders.learning import LearningEncoder
from ..fusion.networks import ProjectorFusion
from ..pipeline import VisLMPipeline
from ..tuning import AdaLoRA, Tuning, attach
from ..types import Condition, TextStates
from .gate import Rule, Verdict, compare, decide
from .monitor import drawn_right
from .wording import Translation, check_words, translate, understood, words_of


@dataclass(frozen=True)
class RetuneConfig:
    """How a model is taught."""

    steps: int = 200
    batch_size: int = 64  # captions, new and old ones
    old_share: float = 0.5  # of a batch that repeats old captions; 0 forgets them
    learning_rate: float = 1e-3  # the peak, after a tenth of the steps; it falls in a line to 0
    captions: int = 400  # of the old ones that are turned into lessons, at most
    tuning: Tuning | None = None  # how the language model learns; None: the fusion does, it not
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.old_share < 1 and self.learning_rate > 0):
            raise ValueError(
                f"old_share is {self.old_share}, learning_rate {self.learning_rate}; expected a "
                "share in [0, 1) and a rate above 0."
            )
        if min(self.steps, self.batch_size, self.captions) < 1:
            raise ValueError("steps, batch_size and captions must be 1 or more.")
        if isinstance(self.tuning, AdaLoRA):
            raise ValueError("AdaLoRA's ranks fall in a run of a recipe only; take LoRA here.")


@dataclass(frozen=True)
class Outcome:
    """A taught pipeline and what the gate says of it."""

    pipe: VisLMPipeline
    verdict: Verdict


def lesson(
    captions: Sequence[str], labels: Mapping[str, str], seed: int, without: Collection[str] = ()
) -> list[tuple[str, Translation]]:
    """Pairs (a caption with new words, the same in known words).

    Made from old captions: each known word that has new names is called by one of them.

    Args:
        labels: new word -> known word.
        without: captions that must not be taught, since the new model is judged by them.

    Raises:
        ValueError: if no caption has a word that could be replaced.
    """
    rng = random.Random(seed)
    names: dict[str, list[str]] = {}
    for new, known in labels.items():
        names.setdefault(known, []).append(new)
    pairs = []
    for caption in captions:
        chosen = {known: rng.choice(options) for known, options in names.items()}
        renamed = translate(caption, chosen).text
        if renamed != caption and renamed not in without:
            pairs.append((renamed, translate(renamed, labels)))
    if not pairs:
        raise ValueError(
            f"No caption has one of the words {', '.join(sorted(names)) or '(no labels)'}; give "
            "captions that do, or labels whose right side is a word of the training captions."
        )
    return pairs


def teach(
    pipe: VisLMPipeline,
    labels: Mapping[str, str],
    captions: Sequence[str],
    config: RetuneConfig | None = None,
    without: Collection[str] = (),
) -> VisLMPipeline:
    """A pipeline that knows new words; all but what learned is shared with `pipe`.

    Args:
        labels: new word or phrase -> word that the model knows. A person gives them.
        captions: old ones, as in training.
        without: as in `lesson`.

    Raises:
        ValueError: if a label's known word is in no caption, or a new word already is in one; or
            if the fusion's condition is another one at each step; or if the encoder was taught
            by another strategy than `config.tuning`.
    """
    config = config or RetuneConfig()
    _check_labels(labels, captions)
    rng = random.Random(config.seed)
    chosen = rng.sample(list(captions), min(config.captions, len(captions)))
    pairs = lesson(chosen, labels, config.seed, without)
    texts = [new for new, _ in pairs]
    new_target = _conditions(pipe, [known.text for _, known in pairs])
    if isinstance(pipe.fusion, ProjectorFusion):  # its tokens are the caption's: they correspond
        new_target = _aligned(new_target, pairs, pipe.encoder)
    student, reader = _student(pipe, config)
    lessons = [
        (reader.encode(texts), new_target),
        (reader.encode(chosen), _conditions(pipe, chosen)),
    ]
    _fit(student, *lessons, config)
    fusion, encoder = (pipe.fusion, reader.encoder) if config.tuning else (student, pipe.encoder)
    taught = VisLMPipeline(fusion, pipe.backbone, pipe.scheduler, pipe.autoencoder, encoder)
    taught.set_progress_bar_config(**pipe._progress_bar_config)
    return taught


def retune(
    pipe: VisLMPipeline,
    labels: Mapping[str, str],
    captions: Sequence[str],
    old: Sequence[str],
    new: Sequence[str],
    config: RetuneConfig | None = None,
    rule: Rule | None = None,
    before: tuple[list, list] | None = None,
) -> Outcome:
    """Teach, draw, compare, decide.

    Args:
        pipe, labels, captions, config: as in `teach`.
        old, new: captions that people typed, without and with new words, by which both models are
            judged; those that are not understood do not count. None of `new` is taught.
        before: what `drawn_right` gave for `old` and `new` with `pipe`; None: it is drawn here.

    Raises:
        ValueError: as `teach`; or if fewer are understood than the rule asks for.
    """
    rule = rule or Rule()
    judged = [sum(understood(caption, labels) is not None for caption in c) for c in (old, new)]
    if min(judged) < rule.least:
        raise ValueError(
            f"of {len(old)} old and {len(new)} new captions, {judged[0]} and {judged[1]} are "
            f"understood; to judge a new model {rule.least} of each are needed. Collect more, or "
            "give labels to more of the new words."
        )
    taught = teach(pipe, labels, captions, config, without=set(new))
    old_before, new_before = before or (drawn_right(pipe, c, labels) for c in (old, new))
    old_after, new_after = (drawn_right(taught, c, labels) for c in (old, new))
    sides = (old_before, old_after), (new_before, new_after)
    differences = [
        compare(*([r for r in side if r is not None] for side in pair)) for pair in sides
    ]
    return Outcome(taught, decide(*differences, rule))


def _check_labels(labels: Mapping[str, str], captions: Sequence[str]) -> None:
    words = {word for caption in captions for word in words_of(caption)}
    check_words(labels)
    for new, known in labels.items():
        if not ({known.lower(), plural(known.lower())} & words):
            raise ValueError(
                f"labels says that {new!r} means {known!r}, but no old caption has {known!r}; "
                "name a word that the model was trained on."
            )
        if new.lower() in words:
            raise ValueError(
                f"{new!r} is no new word: old captions have it. Remove it from the labels, or the "
                "model would be taught two meanings of it."
            )


@torch.no_grad()
def _conditions(pipe: VisLMPipeline, captions: Sequence[str]) -> Condition:
    """What the generator is told of captions."""
    condition = pipe.fusion(pipe.encoder.encode(captions))
    if not isinstance(condition, Condition):
        raise ValueError(
            f"{type(pipe.fusion).__name__} gives another condition at each step of the flow; "
            "re-tune it on pictures, with a recipe that has weights_from."
        )
    return condition


def _student(pipe: VisLMPipeline, config: RetuneConfig) -> tuple[nn.Module, TokenReader]:
    """What learns, as a module from the reader's states to a condition, and the reader."""
    if config.tuning is None:
        return copy.deepcopy(pipe.fusion).requires_grad_(True), pipe.encoder
    encoder = copy.deepcopy(pipe.encoder)
    if encoder.tuning is None:
        attach(encoder, config.tuning, config.steps, config.seed)
    elif encoder.tuning != config.tuning:
        raise ValueError(
            f"config.tuning is {config.tuning}, but the pipeline's encoder was taught by "
            f"{encoder.tuning}; go on with that one, or with None: then the fusion learns."
        )
    return nn.Sequential(LearningEncoder(encoder), pipe.fusion), TokenReader(encoder)


def _fit(
    student: nn.Module,
    new: tuple[TextStates, Condition],
    old: tuple[TextStates, Condition],
    config: RetuneConfig,
) -> None:
    """AdamW on the mean squared distance between conditions."""
    generator = torch.Generator().manual_seed(config.seed)
    learned = [weight for weight in student.train().parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, config.learning_rate, weight_decay=0.0)
    olds = round(config.old_share * config.batch_size)
    parts = [(*new, config.batch_size - olds), (*old, olds)]
    warm = max(1, config.steps // 10)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            rising, falling = (step + 1) / warm, (config.steps - step) / config.steps
            group["lr"] = config.learning_rate * min(rising, falling)
        loss = torch.zeros(())
        for states, target, number in parts:
            if number:
                rows = torch.randint(len(states), (number,), generator=generator)
                told = student(states[rows].to(target.device))  # token numbers are on the CPU
                loss = loss + number * distance(told, target[rows])
        optimizer.zero_grad(set_to_none=True)
        (loss / config.batch_size).backward()
        optimizer.step()
    student.eval()


def distance(condition: Condition, target: Condition) -> Tensor:
    """Mean squared difference of the real tokens, plus that of the pooled vectors; a scalar."""
    mask = condition.encoder_attention_mask[..., None]
    squares = (condition.encoder_hidden_states - target.encoder_hidden_states).square() * mask
    tokens = squares.sum() / (mask.sum() * squares.shape[-1])
    return tokens + (condition.pooled_projections - target.pooled_projections).square().mean()


def _aligned(
    target: Condition,
    pairs: Sequence[tuple[str, Translation]],
    encoder: TextEncoder,
) -> Condition:
    """The known caption's condition, each token where the new caption has its counterpart.

    A new word may be cut into more tokens than the known one: all of them get its last token's.
    """
    places = [torch.tensor(corresponding(encoder, new, known)) for new, known in pairs]
    index = nn.utils.rnn.pad_sequence(places, batch_first=True)  # (B, L)
    lengths = torch.tensor([len(row) for row in places])
    mask = torch.arange(index.shape[1])[None, :] < lengths[:, None]
    index, mask = index.to(target.device), mask.to(target.device)
    width = target.encoder_hidden_states.shape[-1]
    chosen = index[..., None].expand(-1, -1, width)  # (B, L) -> (B, L, D)
    tokens = torch.gather(target.encoder_hidden_states, 1, chosen)
    return Condition(tokens, mask, target.pooled_projections)


def corresponding(encoder: TextEncoder, new: str, known: Translation) -> list[int]:
    """For each token of `new`, the number of the token of `known.text` that stands for it."""
    spans = [_spans(encoder, text) for text in (new, known.text)]
    last = len(spans[1]) - 1
    places = []
    for number, (start, end) in enumerate(spans[0]):
        if start == end:  # a token of no letters, as they open and close a caption
            places.append(0 if number == 0 else last)
            continue
        letter, shift = None, 0
        for a, b, _, d in known.edits:
            if start >= b:
                shift = d - b
            elif start >= a:
                letter = d - 1
        letter = start + shift if letter is None else letter
        found = (i for i, (a, b) in enumerate(spans[1]) if a <= letter < b)
        places.append(next(found, last))
    return places


def _spans(encoder: TextEncoder, text: str) -> list[tuple[int, int]]:
    """Where each token's letters stand in `text`, without the blank that may come before them."""
    ids = encoder.tokenize([text])[0]
    kept = encoder.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    room = len(ids) - min(len(ids), len(kept))  # a start token that the encoder adds itself
    spans = [(0, 0)] * room + [tuple(span) for span in kept[: len(ids) - room]]
    blank = [len(text[a:b]) - len(text[a:b].lstrip()) for a, b in spans]
    return [(a + skip, b) for (a, b), skip in zip(spans, blank, strict=True)]
