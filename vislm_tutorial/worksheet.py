"""Scenes -> a worksheet to print: match sentences with pictures, then say what is true or false.

What is right is never left to the one who drew. A picture is on the sheet only if its sentence is
true of what can be read in it, and false of every other picture; a statement is there only if it is
plainly true or plainly false, so nobody can argue with the answer sheet.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from string import ascii_uppercase

from torch import Tensor

from .data.captions import NUMBERS, PHRASES, plural, with_article
from .data.parsing import RESIDUAL_LIMIT, read
from .data.rendering import render
from .data.scenes import COLOURS, PLACES, RELATIONS, SHAPES, Scene, SceneObject, place, relations
from .viz.worksheet_page import page

PICTURE_SIZE = 256  # of the renderer's pictures, in pixels: sharp on paper at 4 cm
FEWEST = 2  # pictures, or there is nothing to match
SAID = {relation: relation for relation in RELATIONS} | {
    relation: PHRASES[relation]
    for relation in ("left of", "right of")  # "over" is not "above"
}
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Group:
    """ "three red circles"."""

    count: int
    colour: str
    shape: str

    @property
    def text(self) -> str:
        words = f"{self.colour} {self.shape}"
        return with_article(words) if self.count == 1 else f"{NUMBERS[self.count]} {plural(words)}"

    def members(self, scene: Scene) -> list[SceneObject]:
        """The objects of this colour and shape, however many."""
        return [o for o in scene.objects if (o.colour, o.shape) == (self.colour, self.shape)]


@dataclass(frozen=True)
class Claim:
    """Something that is said of a picture.

    Attributes:
        groups: what is there.
        relation: of the first group to the second, both of one object; one of `scenes.RELATIONS`
            or "".
        place: of the first group, of one object; one of `scenes.PLACES` or "".
    """

    groups: tuple[Group, ...]
    relation: str = ""
    place: str = ""

    @property
    def caption(self) -> str:
        """As the captions of the training data say it."""
        texts = [group.text for group in self.groups]
        if self.relation:
            return f"{texts[0]} is {self.relation} {texts[1]}"
        joined = " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
        return f"{joined} {self.place}".strip()

    @property
    def statement(self) -> str:
        """As a sentence that is true or false. "Exactly" keeps two of three from being two."""
        first = self.groups[0]
        if self.relation:
            text = f"{first.text} is {SAID[self.relation]} {self.groups[1].text}"
        elif first.count == 1:
            text = f"there is {first.text} {self.place}".strip()
        else:
            text = f"there are exactly {first.text}"
        return f"{text[0].upper()}{text[1:]}."

    def describes(self, scene: Scene) -> bool | None:
        """Whether the caption says what a picture shows, and leaves no object out.

        None where one can argue: the picture shows this and more, or only just so.
        """
        numbers = [len(group.members(scene)) for group in self.groups]
        if any(n < group.count for n, group in zip(numbers, self.groups, strict=True)):
            return False
        stands = self._stands(scene)
        all_said = sum(group.count for group in self.groups) == len(scene.objects)
        return None if stands and not all_said else stands

    def holds(self, scene: Scene) -> bool | None:
        """Whether the statement is true of a scene; None where one can argue."""
        for group in self.groups:
            n = len(group.members(scene))
            if n < group.count or (group.count > 1 and n > group.count):
                return False
        return self._stands(scene)

    def _stands(self, scene: Scene) -> bool | None:
        """Whether the relation or place holds of some of the objects that are meant."""
        members = [group.members(scene) for group in self.groups]
        answers: list[bool | None] = [True]
        if self.relation:
            answers = [_related(a, b, self.relation) for a in members[0] for b in members[1]]
        elif self.place:
            answers = [_placed(o, self.place) for o in members[0]]
        return True if True in answers else None if None in answers else False


def _related(a: SceneObject, b: SceneObject, relation: str) -> bool | None:
    if relation in relations(a, b):
        return True
    away = {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}
    return None if away[relation] > 0 else False  # "left of", but higher far more than left


def _placed(o: SceneObject, where: str) -> bool | None:
    found = place(o)
    return None if found is None else found == where


# --- what is on the sheet ------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """A sentence about a picture of the sheet.

    Attributes:
        picture: its number, from 1.
        text: the sentence.
        true: whether it is.
        correct: the true sentence; a false one differs from it in one word.
    """

    picture: int
    text: str
    true: bool
    correct: str


@dataclass(frozen=True)
class Answers:
    """The answer sheet: picture number -> letter of its sentence, and the statements."""

    matches: dict[int, str]
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Dropped:
    """A scene that is not on the sheet: its position among those given, its sentence, and why."""

    index: int
    sentence: str
    reason: str


@dataclass(frozen=True)
class Worksheet:
    """A sheet and what is right on it.

    Attributes:
        html: a whole page, to be written to a file (UTF-8) and printed; it loads nothing.
        answers: as on its last page.
        dropped: which scenes are not on it.
        images: (N, 3, H, W), the pictures in their order.
        sentences: letter -> sentence.
    """

    html: str
    answers: Answers
    dropped: tuple[Dropped, ...]
    images: Tensor
    sentences: dict[str, str]


def sentences(scenes: Sequence[Scene], seed: int = 0) -> list[str]:
    """The caption of each scene on a worksheet with this seed: what a model is to draw.

    Raises:
        ValueError: for a scene without objects, of which there is nothing to say.
    """
    return [claim.caption for claim in _claims(scenes, seed)]


def worksheet(
    scenes: Sequence[Scene],
    images: Tensor | None = None,
    seed: int = 0,
    title: str = "Shapes and sentences",
) -> Worksheet:
    """Make a worksheet of scenes; the same arguments give the same sheet.

    Args:
        scenes: 2 to 26 of them, each with an object or more.
        images: (N, 3, H, W) floats in [-1, 1], drawn from `sentences(scenes, seed)`; each is read
            (`data.parsing`), and what it shows decides. Default: the renderer's pictures.
        seed: chooses the sentences, their order and what becomes false.
        title: the heading.

    Raises:
        ValueError: for fewer or more scenes, an empty scene, images of another number or shape, and
            where fewer than two pictures can be used.
    """
    if not FEWEST <= len(scenes) <= len(ascii_uppercase):
        raise ValueError(f"Got {len(scenes)} scenes; expected {FEWEST} to {len(ascii_uppercase)}.")
    if images is not None and len(images) != len(scenes):
        raise ValueError(f"Got {len(images)} images for {len(scenes)} scenes; expected one each.")
    claims = _claims(scenes, seed)
    if images is None:
        images, shown = render(scenes, PICTURE_SIZE), list(scenes)
    else:
        shown = _shown(images)
    dropped = _dropped(claims, shown)
    kept = [i for i in range(len(scenes)) if i not in {d.index for d in dropped}]
    if len(kept) < FEWEST:
        reasons = "; ".join(f"scene {d.index}: {d.reason}" for d in dropped)
        raise ValueError(
            f"{len(kept)} of {len(scenes)} pictures can be used, expected {FEWEST} or more: give "
            f"more scenes, or draw again. {reasons}."
        )
    rng = random.Random(f"order {seed}")
    order = rng.sample(kept, len(kept))  # of the sentences
    letters = {i: ascii_uppercase[position] for position, i in enumerate(order)}
    answers = Answers(
        {number: letters[i] for number, i in enumerate(kept, 1)},
        _statements([shown[i] for i in kept], rng),
    )
    lettered = {letters[i]: claims[i].caption for i in order}
    html = page(title, images[kept], lettered, answers.matches, answers.statements)
    return Worksheet(html, answers, dropped, images[kept], lettered)


def _claims(scenes: Sequence[Scene], seed: int) -> list[Claim]:
    """What is said of each scene as a whole."""
    rng = random.Random(f"sentences {seed}")  # an own one: the order must not change the words
    for i, scene in enumerate(scenes):
        if not scene.objects:
            raise ValueError(f"Scene {i} has no objects; expected one or more, to speak of.")
    return [_claim(scene, rng) for scene in scenes]


def _groups(scene: Scene) -> list[Group]:
    """As one reads, from the top left: as the captions list them."""
    kinds = [(o.colour, o.shape) for o in sorted(scene.objects, key=lambda o: o.x + o.y)]
    return [Group(count, *kind) for kind, count in Counter(kinds).items()]


def _claim(scene: Scene, rng: random.Random) -> Claim:
    related = _related_claims(scene)
    if len(scene.objects) == 2 and related:
        return rng.choice(related)
    alone = place(scene.objects[0]) if len(scene.objects) == 1 else None
    return Claim(tuple(_groups(scene)), place=alone or "")


def _related_claims(scene: Scene) -> list[Claim]:
    """Each relation that holds between two objects of different looks, said of those alone."""
    pairs = permutations([g for g in _groups(scene) if g.count == 1], 2)
    return [
        Claim(pair, relation)
        for pair in pairs
        for relation in relations(*(group.members(scene)[0] for group in pair))
    ]


def _shown(images: Tensor) -> list[Scene | None]:
    """The scene in each picture; None where something in it cannot be made out."""
    readings = read(images)
    return [r.scene if max((*r.residuals, 0)) <= RESIDUAL_LIMIT else None for r in readings]


def _dropped(claims: Sequence[Claim], shown: Sequence[Scene | None]) -> tuple[Dropped, ...]:
    """The scenes that would make the answers doubtful."""
    reasons: dict[int, str] = {}
    for i, (claim, scene) in enumerate(zip(claims, shown, strict=True)):
        if scene is None:
            reasons[i] = "something in its picture cannot be made out"
        elif not claim.describes(scene):
            seen = ", ".join(group.text for group in _groups(scene)) or "nothing"
            reasons[i] = f"its picture shows something else ({seen})"
    for i, j in permutations(range(len(claims)), 2):
        # Of two that can be taken for each other the first stays.
        if i not in reasons and j not in reasons and claims[i].describes(shown[j]) is not False:
            reasons[max(i, j)] = f"it can be taken for scene {min(i, j)}"
    return tuple(Dropped(i, claims[i].caption, reasons[i]) for i in sorted(reasons))


# --- true or false -------------------------------------------------------------------------------


def _statements(scenes: Sequence[Scene], rng: random.Random) -> tuple[Statement, ...]:
    """One about each picture, in any order, half of them false."""
    numbers = rng.sample(range(1, len(scenes) + 1), len(scenes))
    truths = rng.sample([i % 2 == 0 for i in range(len(scenes))], len(scenes))
    used: Counter[str] = Counter()  # how often each kind of sentence and change was taken
    found = []
    for number, true in zip(numbers, truths, strict=True):
        scene = scenes[number - 1]
        claim = _rarest(_true_claims(scene), used, rng)
        said = claim if true else _rarest(_false_claims(claim, scene), used, rng)
        found.append(Statement(number, said.statement, true, claim.statement))
    return tuple(found)


def _rarest(claims: dict[str, list[Claim]], used: Counter[str], rng: random.Random) -> Claim:
    """One of the kind that was taken least often, so that no kind fills the sheet."""
    kinds = [kind for kind, those in claims.items() if those]
    kind = min(kinds, key=lambda kind: (used[kind], rng.random()))
    used[kind] += 1
    return rng.choice(claims[kind])


def _true_claims(scene: Scene) -> dict[str, list[Claim]]:
    """Kind of sentence -> the plainly true ones."""
    groups = _groups(scene)
    alone = place(scene.objects[0]) if len(scene.objects) == 1 else None
    several = [Claim((group,)) for group in groups if group.count > 1]
    single = [Claim((group,), place=alone or "") for group in groups if group.count == 1]
    return {"relates": _related_claims(scene), "counts": several, "names": single}


def _false_claims(claim: Claim, scene: Scene) -> dict[str, list[Claim]]:
    """What was changed -> the claims that differ in one word and are plainly false."""

    def with_group(i: int, **change) -> Claim:
        groups = list(claim.groups)
        groups[i] = replace(groups[i], **change)
        return replace(claim, groups=tuple(groups))

    each = range(len(claim.groups))
    changes: dict[str, list[Claim]] = {
        "colour": [with_group(i, colour=colour) for i in each for colour in COLOURS],
        "shape": [with_group(i, shape=shape) for i in each for shape in SHAPES],
        "count": [with_group(i, count=count) for i in each for count in NUMBERS],
        "relation": [replace(claim, relation=OPPOSITES.get(claim.relation, ""))],
        "place": [replace(claim, place=where) for where in PLACES if claim.place],
    }

    def plainly_false(changed: Claim) -> bool:
        differ = len(set(changed.groups)) == len(changed.groups)  # "a star is above a star" is odd
        one_word = one_word_apart(claim.statement, changed.statement)
        return differ and one_word and changed.holds(scene) is False

    return {kind: list(filter(plainly_false, those)) for kind, those in changes.items()}


def one_word_apart(a: str, b: str) -> bool:
    """Whether two sentences have as many words, all but one the same: "a red", not "an orange"."""
    first, second = a.split(), b.split()
    return len(first) == len(second) and sum(map(str.__ne__, first, second)) == 1
