"""Edits whose right answer is known: one word of a caption changes, and all else is to stay.

What an editing method is asked for is two things that pull apart: to obey the new word, and to keep
what it does not name. Both are judged by the parser, so neither needs a detector or an eye. Pairs
of captions that differ in one word, with the edited picture judged by what was and was not to
change, are also how Hertz et al. 2023 (arXiv 2208.01626) show their method.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vislm_tutorial.data.captions import with_article
from vislm_tutorial.data.parsing import Reading, read
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import (
    COLOURS,
    SHAPES,
    Scene,
    SceneObject,
    held_out_pairs,
    relations,
    sample_scenes,
)

CHANGES = ("colour", "shape")
NEAR = 0.1  # of the side, along each axis: less than one step of the grid that scenes stand on
RIM = 2 / 64  # of the side, around an object's box: its blurred edge


@dataclass(frozen=True)
class Edit:
    """A scene of two objects of which one gets another colour or shape.

    Attributes:
        source: before.
        changed: which of the source's objects is changed, 0 or 1; the caption may name either
            first.
        attribute: one of `CHANGES`.
        value: the new one.
        first: the object that the captions name first, 0 or 1.
        relation: that holds of the first and the second, before and after.
    """

    source: Scene
    changed: int
    attribute: str
    value: str
    first: int
    relation: str

    @property
    def before(self) -> SceneObject:
        """The object that is changed, as it was."""
        return self.source.objects[self.changed]

    @property
    def after(self) -> SceneObject:
        """The same object as it should be."""
        return replace(self.before, **{self.attribute: self.value})

    @property
    def other(self) -> SceneObject:
        """The object that is to stay."""
        return self.source.objects[1 - self.changed]

    @property
    def target(self) -> Scene:
        """The scene that the edited picture should show."""
        objects = [self.after if o is self.before else o for o in self.source.objects]
        return replace(self.source, objects=tuple(objects))

    @property
    def source_caption(self) -> str:
        """What the picture shows, in full: "a large solid red circle left of a small ..."."""
        return self._caption(self.source)

    @property
    def target_caption(self) -> str:
        """The same with one word changed."""
        return self._caption(self.target)

    @property
    def words(self) -> tuple[str, str]:
        """The changed object as the two captions call it: "large solid red circle", and after."""
        return _named(self.before), _named(self.after)

    def box(self, side: int, rim: float = RIM) -> Tensor:
        """(side, side) bool: the pixels of the changed object's box, before or after, and a rim.

        Args:
            side: of the picture, in pixels.
            rim: around both boxes, as a fraction of the side.
        """
        centres = (torch.arange(side) + 0.5) / side
        mask = torch.zeros(side, side, dtype=torch.bool)
        for thing in (self.before, self.after):
            across, down = (half + rim for half in thing.half_extent)
            rows, columns = (centres - thing.y).abs() <= down, (centres - thing.x).abs() <= across
            mask |= rows[:, None] & columns
        return mask

    def seen_in(self, image: Tensor) -> Edit | None:
        """The same edit of what a picture (3, H, W) really shows; None unless it is drawn right.

        A caption leaves open where things stand, so a drawing of `source_caption` has positions of
        its own. Right is a picture of two clear objects that fit the caption, and nothing else.
        """
        reading = read(image[None])[0]
        found = [_only(reading, o) for o in self.source.objects]
        if None in found or len(reading.objects) != len(found):
            return None
        drawn = replace(self, source=Scene(reading.background, tuple(found)))
        same = drawn.source_caption == self.source_caption
        return drawn if same and drawn.relation in drawn._relations() else None

    def _relations(self) -> tuple[str, ...]:
        """Those that hold of the first and the second object, before and after."""
        scenes = self.source, self.target
        pairs = [(s.objects[self.first], s.objects[1 - self.first]) for s in scenes]
        held = [relations(*pair) for pair in pairs]
        return tuple(r for r in held[0] if r in held[1])

    def _caption(self, scene: Scene) -> str:
        first, second = (
            with_article(_named(scene.objects[i])) for i in (self.first, 1 - self.first)
        )
        return f"{first} {self.relation} {second} on {with_article(scene.background)} background"


def _named(o: SceneObject) -> str:
    return f"{o.size} {o.fill} {o.colour} {o.shape}"


def sample_edits(n: int, seed: int = 0) -> list[Edit]:
    """`n` edits, as many colours as shapes (but for one); the same seed gives the same.

    The two objects have no colour and no shape in common, before or after, so that a caption tells
    which is meant. No object is one of the pairs that training never showed.

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected 1 or more.")
    rng, edits = random.Random(f"edits {seed}"), []
    while len(edits) < n:
        for scene in sample_scenes(4 * n, seed=rng.randrange(2**32), count=2):
            edit = _edit_of(scene, CHANGES[len(edits) % len(CHANGES)], rng)
            if edit is not None and len(edits) < n:
                edits.append(edit)
    return edits


def _edit_of(scene: Scene, attribute: str, rng: random.Random) -> Edit | None:
    """One edit of a scene; None where its objects are too alike, or stand in no relation."""
    a, b = scene.objects
    if a.colour == b.colour or a.shape == b.shape:
        return None
    changed, first = rng.randrange(2), rng.randrange(2)
    thing = scene.objects[changed]
    taken = {getattr(o, attribute) for o in scene.objects}
    values = [v for v in (COLOURS if attribute == "colour" else SHAPES) if v not in taken]
    new = [replace(thing, **{attribute: v}) for v in values]
    allowed = [getattr(o, attribute) for o in new if (o.colour, o.shape) not in held_out_pairs()]
    edit = Edit(scene, changed, attribute, rng.choice(allowed), first, relation="")
    held = edit._relations()
    return replace(edit, relation=rng.choice(held)) if held else None


# --- judging -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EditScore:
    """How well an edited picture does both things.

    Attributes:
        obeyed: the named object has its new colour or shape, and none has the old.
        kept: the other object has its colour, shape, size, fill and rough position; the background
            is the same; something stands where the changed object stood; there is nothing else.
        dressed: the changed object still has its size and fill. No part of `both`.
        outside: mean absolute change of the pixels outside `Edit.box`, in [0, 2].
    """

    obeyed: bool
    kept: bool
    dressed: bool
    outside: float

    @property
    def both(self) -> bool:
        """Obeyed and kept."""
        return self.obeyed and self.kept


def judge(edit: Edit, image: Tensor, original: Tensor | None = None) -> EditScore:
    """Judge an edited picture.

    Args:
        edit: of the picture's own scene; for a drawn picture that is `Edit.seen_in`.
        image: (3, H, W) in [-1, 1], square, after the edit.
        original: (3, H, W), before; None: the render of `edit.source`.

    Raises:
        ValueError: for a picture of another shape, or two of different shapes.
    """
    if original is None:
        original = render([edit.source], image.shape[-1])[0]
    if image.ndim != 3 or image.shape != original.shape:
        raise ValueError(
            f"image has shape {tuple(image.shape)} and the original {tuple(original.shape)}; "
            "expected the same, (3, H, W). Of a batch take images[0]."
        )
    reading, outside = read(image[None])[0], ~edit.box(image.shape[-1])
    new, other = _only(reading, edit.after), _only(reading, edit.other, whole=True)
    kept = (
        other is not None
        and _near(other, edit.other)
        and any(_near(o, edit.before) for o in reading.objects if o is not other)
        and len(reading.objects) == len(edit.source.objects)
        and reading.background == edit.source.background
    )
    change = (image.float().cpu() - original.float().cpu()).abs().mean(dim=0)[outside]
    return EditScore(
        obeyed=new is not None and not _like(reading, edit.before),
        kept=kept,
        dressed=new is not None and (new.size, new.fill) == (edit.before.size, edit.before.fill),
        outside=change.mean().item(),
    )


def _like(reading: Reading, wanted: SceneObject, whole: bool = False) -> list[SceneObject]:
    """The clear objects with the colour and shape of `wanted`, or, `whole`, with its looks."""
    names = ("colour", "shape", "size", "fill") if whole else ("colour", "shape")
    return [o for o in reading.clear if all(getattr(o, k) == getattr(wanted, k) for k in names)]


def _only(reading: Reading, wanted: SceneObject, whole: bool = False) -> SceneObject | None:
    """The one that `_like` finds; None if there is none, or more."""
    found = _like(reading, wanted, whole)
    return found[0] if len(found) == 1 else None


def _near(a: SceneObject, b: SceneObject) -> bool:
    return abs(a.x - b.x) < NEAR and abs(a.y - b.y) < NEAR


def counted(scores: Sequence[EditScore]) -> dict[str, float]:
    """How many of `scores` obeyed, kept, did both, ... and the mean change outside, as JSON keeps.

    Raises:
        ValueError: if there are none.
    """
    if not scores:
        raise ValueError("counted got no scores; expected at least one.")
    numbers = {k: sum(getattr(s, k) for s in scores) for k in ("obeyed", "kept", "both", "dressed")}
    outside = sum(s.outside for s in scores) / len(scores)
    return {"n": len(scores)} | numbers | {"outside": round(outside, 4)}
