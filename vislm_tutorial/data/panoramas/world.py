"""A world seen all around: 360-degree pictures whose landmarks stand at compass headings.

A `Panorama` says everything that its picture shows, and nothing else: a caption is made from it
here, a picture in `vislm_tutorial.data.panoramas.rendering`, and
`vislm_tutorial.data.panoramas.reading` reads a picture back into it. The picture is
equirectangular: its column is the heading, its row the height above the horizon, and its left and
right edges are the same line, due south.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

GROUNDS = {"meadow": "a meadow", "desert": "a desert", "sea": "the sea", "snow": "a snow field"}
LIGHTS = {"noon": "at noon", "sunset": "at sunset", "night": "at night"}
KINDS = ("house", "tree", "tower", "tent", "windmill", "gate")
COLOURS = {
    "red": (214, 36, 40),
    "orange": (250, 134, 20),
    "yellow": (250, 222, 50),
    "blue": (40, 96, 240),
    "purple": (150, 52, 196),
    "white": (250, 248, 242),
}
HEADINGS = {  # degrees to the right of north, which is the middle column
    "north": 0,
    "northeast": 45,
    "east": 90,
    "southeast": 135,
    "south": 180,
    "southwest": 225,
    "west": 270,
    "northwest": 315,
}
LEAST_ANGLE = 90  # degrees between two landmarks of a drawn panorama: they never overlap
COUNTS = (1, 2, 3)  # how many landmarks `sample_panoramas` gives a panorama
COUNT_WEIGHTS = (0.3, 0.4, 0.3)


def angle_between(a: str, b: str) -> int:
    """Degrees from one heading to another the shorter way round, 0 to 180."""
    difference = abs(HEADINGS[a] - HEADINGS[b])
    return min(difference, 360 - difference)


@dataclass(frozen=True)
class Landmark:
    """Something that stands on the horizon. Fields: one of `KINDS`, `COLOURS`, `HEADINGS`."""

    kind: str
    colour: str
    heading: str

    def __post_init__(self):
        for field, allowed in (("kind", KINDS), ("colour", COLOURS), ("heading", HEADINGS)):
            _check(field, getattr(self, field), allowed)


@dataclass(frozen=True)
class Panorama:
    """A ground, a light and landmarks, in the order of their headings from north to the right.

    What is read from a picture may hold no landmark or too many: only `check_drawable` and with it
    `render` insist on `COUNTS` and `LEAST_ANGLE`.

    Raises:
        ValueError: for an unknown name, and for two landmarks at one heading.
    """

    ground: str
    light: str
    landmarks: tuple[Landmark, ...] = ()

    def __post_init__(self):
        _check("ground", self.ground, GROUNDS)
        _check("light", self.light, LIGHTS)
        ordered = tuple(sorted(self.landmarks, key=lambda mark: HEADINGS[mark.heading]))
        object.__setattr__(self, "landmarks", ordered)
        for a, b in zip(ordered, ordered[1:], strict=False):
            if a.heading == b.heading:
                raise ValueError(
                    f"A {a.kind} and a {b.kind} both stand in the {a.heading}; "
                    "expected one landmark a heading."
                )

    def check_drawable(self) -> None:
        """Raise ValueError unless there are 1 to 3 landmarks, all `LEAST_ANGLE` apart."""
        if len(self.landmarks) not in COUNTS:
            raise ValueError(
                f"A panorama has {COUNTS[0]} to {COUNTS[-1]} landmarks, not {len(self.landmarks)}."
            )
        for a, b in zip(self.landmarks, self.landmarks[1:] + self.landmarks[:1], strict=True):
            if a is not b and angle_between(a.heading, b.heading) < LEAST_ANGLE:
                raise ValueError(
                    f"The {a.kind} in the {a.heading} and the {b.kind} in the {b.heading} would "
                    f"overlap; keep {LEAST_ANGLE} degrees between two landmarks."
                )

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        return {**asdict(self), "landmarks": [asdict(mark) for mark in self.landmarks]}

    @classmethod
    def from_dict(cls, values: dict) -> Panorama:
        """The inverse of `to_dict`."""
        landmarks = tuple(Landmark(**mark) for mark in values["landmarks"])
        return cls(values["ground"], values["light"], landmarks)


def _check(field: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{field} is {value!r}; choose one of {', '.join(allowed)}.")


# --- grammar -------------------------------------------------------------------------------------


@cache
def held_out_pairs() -> frozenset[tuple[str, str]]:
    """The (kind, colour) pairs that training never shows: 4 of 36, four kinds and four colours."""
    colours = list(COLOURS)
    return frozenset((kind, colours[(5 * i + 2) % 6]) for i, kind in enumerate(KINDS[:4]))


@cache
def training_pairs() -> tuple[tuple[str, str], ...]:
    """All (kind, colour) pairs but the held-out ones."""
    pairs = ((kind, colour) for kind in KINDS for colour in COLOURS)
    return tuple(pair for pair in pairs if pair not in held_out_pairs())


def _sample_headings(rng: random.Random, count: int) -> list[str]:
    while True:  # at random, since every set of free headings shall be as likely as any other
        headings = rng.sample(list(HEADINGS), count)
        angles = [angle_between(a, b) for i, a in enumerate(headings) for b in headings[:i]]
        if min(angles, default=LEAST_ANGLE) >= LEAST_ANGLE:
            return headings


def _sample_panorama(rng: random.Random, pairs: Sequence[tuple[str, str]]) -> Panorama:
    headings = _sample_headings(rng, rng.choices(COUNTS, COUNT_WEIGHTS)[0])
    landmarks = tuple(Landmark(*rng.choice(pairs), heading) for heading in headings)
    return Panorama(rng.choice(list(GROUNDS)), rng.choice(list(LIGHTS)), landmarks)


def sample_panoramas(n: int, seed: int, held_out: bool = False) -> list[Panorama]:
    """`n` panoramas; the same seed gives the same ones.

    Landmarks are of the `training_pairs`; with `held_out` they are of `held_out_pairs` only.
    """
    rng = random.Random(seed)
    pairs = sorted(held_out_pairs()) if held_out else training_pairs()
    return [_sample_panorama(rng, pairs) for _ in range(n)]


# --- words ---------------------------------------------------------------------------------------

TEMPLATES = (
    "{ground} {light} with {landmarks}",
    "{ground} {light} with {landmarks}",
    "a panorama of {ground} {light} with {landmarks}",
    "all around: {ground} {light} with {landmarks}",
    "{light}, {ground} with {landmarks}",
    "{landmarks}, in the middle of {ground} {light}",
)
DIRECTIONS = ("in the {}", "in the {}", "to the {}")


def caption(panorama: Panorama, rng: random.Random) -> str:
    """Say all that a picture shows: "a meadow at sunset with a red house in the north"."""
    where = rng.choice(DIRECTIONS)
    phrases = []
    for mark in panorama.landmarks:
        article = "an" if mark.colour[0] in "aeiou" else "a"
        phrases.append(f"{article} {mark.colour} {mark.kind} {where.format(mark.heading)}")
    rng.shuffle(phrases)
    landmarks = " and ".join(
        filter(None, (", ".join(phrases[:-1]), phrases[-1] if phrases else ""))
    )
    return rng.choice(TEMPLATES).format(
        ground=GROUNDS[panorama.ground],
        light=LIGHTS[panorama.light],
        landmarks=landmarks or "nothing in sight",
    )


def judge(asked: Panorama, reading: Panorama) -> dict[str, bool]:
    """What of a caption's meaning a picture shows.

    Returns:
        "ground" and "light": the asked ones. "landmarks": at each asked heading the asked kind,
        and none elsewhere. "colours": at each asked heading a landmark of the asked colour,
        whatever its kind and whatever stands elsewhere.
    """

    def seen(panorama: Panorama, field: str) -> dict[str, str]:
        return {mark.heading: getattr(mark, field) for mark in panorama.landmarks}

    return {
        "ground": asked.ground == reading.ground,
        "light": asked.light == reading.light,
        "landmarks": seen(asked, "kind") == seen(reading, "kind"),
        "colours": seen(asked, "colour").items() <= seen(reading, "colour").items(),
    }
