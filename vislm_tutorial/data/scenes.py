"""A world of coloured shapes whose pictures have an exact meaning.

A `Scene` says everything that its picture shows, and nothing else, so a caption can be made from
it (`vislm_tutorial.data.captions`) and a picture can be read back into it
(`vislm_tutorial.data.parsing`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

COLOURS = {
    "red": (216, 38, 38),
    "orange": (246, 142, 22),
    "yellow": (242, 216, 34),
    "green": (38, 156, 62),
    "cyan": (44, 196, 206),
    "blue": (38, 76, 222),
    "purple": (134, 48, 172),
    "pink": (246, 132, 192),
}
BACKGROUNDS = {
    "white": (250, 250, 248),
    "grey": (146, 148, 150),
    "black": (22, 22, 26),
    "beige": (230, 212, 178),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
SIZES = {"small": 0.11, "medium": 0.145, "large": 0.18}  # radius as a fraction of the side
FILLS = ("solid", "hollow", "striped")
RELATIONS = ("left of", "right of", "above", "below")
PLACES = {
    "in the top left corner": (0.0, 0.0),
    "in the top right corner": (1.0, 0.0),
    "in the bottom left corner": (0.0, 1.0),
    "in the bottom right corner": (1.0, 1.0),
    "in the centre": (0.5, 0.5),
}
MAX_OBJECTS = 4

# Half of the bounding box's width and height, in radii. Every shape is centred in its box.
EXTENTS = {
    "circle": (1.0, 1.0),
    "square": (0.88, 0.88),
    "triangle": (1.04, 0.9),
    "diamond": (1.18, 1.18),
    "star": (1.2 * math.sin(math.radians(72)), 0.6 * (1 + math.cos(math.radians(36)))),
    "cross": (1.06, 1.06),
}
STROKE = 0.3  # width of a hollow shape's line, in radii
STRIPE_PERIOD = 0.72  # in radii
STRIPE_SHADE = 0.45  # a dark stripe is the colour times this
COUNT_WEIGHTS = (0.01, 0.31, 0.42, 0.14, 0.12)  # how often a scene has 0, 1, 2, 3, 4 objects
FILL_WEIGHTS = (0.7, 0.15, 0.15)
SIZE_WEIGHTS = (0.25, 0.35, 0.4)
GRID = 8  # centres are multiples of 1 / 8 of the side: a generator has few offsets to learn
MARGIN = 0.035  # least free space to the edge, as a fraction of the side
GAP = 0.07  # least free space between two objects


@dataclass(frozen=True)
class SceneObject:
    """One drawn shape. `x` and `y` are its centre in [0, 1]; x grows to the right, y downwards."""

    shape: str
    colour: str
    size: str
    fill: str
    x: float
    y: float

    def __post_init__(self):
        for field, allowed in (
            ("shape", SHAPES),
            ("colour", COLOURS),
            ("size", SIZES),
            ("fill", FILLS),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field} is {value!r}; choose one of {', '.join(allowed)}.")
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise ValueError(
                f"The centre ({self.x}, {self.y}) is outside the picture, [0, 1] x [0, 1]."
            )

    @property
    def radius(self) -> float:
        """Radius as a fraction of the picture's side."""
        return SIZES[self.size]

    @property
    def half_extent(self) -> tuple[float, float]:
        """Half of the bounding box's width and height, as fractions of the side."""
        half_width, half_height = EXTENTS[self.shape]
        return half_width * self.radius, half_height * self.radius


@dataclass(frozen=True)
class Scene:
    """A background and at most four objects that do not touch."""

    background: str
    objects: tuple[SceneObject, ...] = ()

    def __post_init__(self):
        if self.background not in BACKGROUNDS:
            raise ValueError(
                f"background is {self.background!r}; choose one of {', '.join(BACKGROUNDS)}."
            )
        if len(self.objects) > MAX_OBJECTS:
            raise ValueError(
                f"A scene holds at most {MAX_OBJECTS} objects, not {len(self.objects)}."
            )

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Scene:
        """The inverse of `to_dict`."""
        return cls(values["background"], tuple(SceneObject(**o) for o in values["objects"]))


# --- meaning -------------------------------------------------------------------------------------


def relations(a: SceneObject, b: SceneObject) -> tuple[str, ...]:
    """Which of `RELATIONS` hold for "a ... b"; none, one, or two on a diagonal.

    GenEval's rule (Ghosh et al. 2023): with o = centre_a - centre_b and
    r = sign(o) max(|o| - 0.1 (dim_a + dim_b), 0), a relation holds where r / ||o|| > 0.5.
    """
    offset = (a.x - b.x, a.y - b.y)
    norm = math.hypot(*offset) or 1.0
    held = []
    for axis, (negative, positive) in enumerate((("left of", "right of"), ("above", "below"))):
        slack = 0.1 * 2 * (a.half_extent[axis] + b.half_extent[axis])
        r = math.copysign(max(abs(offset[axis]) - slack, 0.0), offset[axis]) / norm
        if r < -0.5:
            held.append(negative)
        if r > 0.5:
            held.append(positive)
    return tuple(held)


def place(o: SceneObject) -> str | None:
    """Which of `PLACES` the object stands in, or None when it is between them."""
    if abs(o.x - 0.5) < 0.09 and abs(o.y - 0.5) < 0.09:
        return "in the centre"
    near = [min(v, 1 - v) < 0.31 for v in (o.x, o.y)]
    if not all(near):
        return None
    return f"in the {'top' if o.y < 0.5 else 'bottom'} {'left' if o.x < 0.5 else 'right'} corner"


@cache
def held_out_pairs() -> frozenset[tuple[str, str]]:
    """The (colour, shape) pairs that training never shows: 5 of 48, one a colour at most."""
    colours = list(COLOURS)
    return frozenset((colours[(3 * i + 1) % 8], shape) for i, shape in enumerate(SHAPES[:5]))


# --- grammar -------------------------------------------------------------------------------------


def _sample_kind(rng: random.Random, pairs: Sequence[tuple[str, str]]) -> dict:
    colour, shape = rng.choice(pairs)
    return {
        "shape": shape,
        "colour": colour,
        "size": rng.choices(list(SIZES), SIZE_WEIGHTS)[0],
        "fill": rng.choices(FILLS, FILL_WEIGHTS)[0],
    }


def _sample_groups(rng: random.Random, count: int) -> list[int]:
    """Sizes of the groups of equal objects, so that there is something to count."""
    groups = {0: [[]], 1: [[1]], 2: [[1, 1], [1, 1], [1, 1], [2]], 3: [[3], [3], [2, 1], [1, 1, 1]]}
    return rng.choice(groups.get(count, [[4], [4], [3, 1], [2, 2]]))


def _sample_kinds(
    rng: random.Random, sizes: Sequence[int], pairs: Sequence[tuple[str, str]]
) -> list[dict]:
    """Looks of all objects, in groups of these sizes."""
    kinds: list[dict] = []
    used: set[str] = set()
    for size in sizes:
        free = [p for p in pairs if p[0] not in used and p[1] not in used] or pairs
        kind = _sample_kind(rng, free)
        used |= {kind["colour"], kind["shape"]}
        if size > 1 and rng.random() < 0.3:  # the same shape in several colours
            same_shape = [p for p in free if p[1] == kind["shape"]]
            kinds += [{**kind, "colour": rng.choice(same_shape)[0]} for _ in range(size)]
        else:
            kinds += [kind] * size
    return kinds


def _sample_centre(rng: random.Random, half: tuple[float, float], anchor) -> tuple[float, float]:
    """A point of the grid from which a box of half size `half` stays inside the picture."""
    centre = []
    for axis, h in enumerate(half):
        low, high = math.ceil((h + MARGIN) * GRID), math.floor((1 - h - MARGIN) * GRID)
        if anchor is None:
            cell = rng.randint(low, high)
        else:
            near = round(low + anchor[axis] * (high - low)) + rng.choice((-1, 0, 0, 0, 1))
            cell = min(max(near, low), high)
        centre.append(cell / GRID)
    return tuple(centre)


def _free(candidate: SceneObject, others: Iterable[SceneObject]) -> bool:
    """True when the boxes of the candidate and of each other object keep `GAP` between them."""
    for other in others:
        dx = abs(candidate.x - other.x) - candidate.half_extent[0] - other.half_extent[0]
        dy = abs(candidate.y - other.y) - candidate.half_extent[1] - other.half_extent[1]
        if max(dx, dy) < GAP:
            return False
    return True


def arrange(rng: random.Random, kinds: list[dict]) -> tuple[SceneObject, ...] | None:
    """Put the objects where they do not touch; None when there is no room after some tries."""
    anchor = rng.choice(list(PLACES.values())) if rng.random() < 0.75 else None
    placed: list[SceneObject] = []
    for kind in kinds:
        for _ in range(20):
            half = tuple(e * SIZES[kind["size"]] for e in EXTENTS[kind["shape"]])
            x, y = _sample_centre(rng, half, anchor if len(kinds) == 1 else None)
            candidate = SceneObject(**kind, x=x, y=y)
            if _free(candidate, placed):
                placed.append(candidate)
                break
        else:
            return None
    return tuple(placed)


def sample_scene(
    rng: random.Random,
    count: int | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    alike: float = 0.0,
) -> Scene:
    """Draw one scene from the grammar.

    `count` fixes the number of objects (0 to 4; default: by `COUNT_WEIGHTS`). `pairs` are the
    allowed (colour, shape) pairs, distinct ones for distinct groups as long as there are some;
    default: all that training may show, so never one of `held_out_pairs`. `alike` is the chance
    of two to four objects in one group, whatever `count` says: pictures that teach counting.
    """
    if count is None:
        count = rng.choices(range(MAX_OBJECTS + 1), weights=COUNT_WEIGHTS)[0]
    if not 0 <= count <= MAX_OBJECTS:
        raise ValueError(f"count is {count}; a scene holds 0 to {MAX_OBJECTS} objects.")
    allowed = training_pairs() if pairs is None else sorted(pairs)
    background = rng.choice(list(BACKGROUNDS))
    one_group = [rng.randint(2, MAX_OBJECTS)] if alike and rng.random() < alike else None
    while True:  # crowded looks are drawn again: four large stars may find no room
        sizes = one_group or _sample_groups(rng, count)
        objects = arrange(rng, _sample_kinds(rng, sizes, allowed))
        if objects is not None:
            return Scene(background, objects)


@cache
def training_pairs() -> tuple[tuple[str, str], ...]:
    """All (colour, shape) pairs but the held-out ones."""
    pairs = ((c, s) for c in COLOURS for s in SHAPES)
    return tuple(p for p in pairs if p not in held_out_pairs())


def sample_scenes(n: int, seed: int, **options) -> list[Scene]:
    """`n` scenes; the same seed gives the same scenes. Options as in `sample_scene`."""
    rng = random.Random(seed)
    return [sample_scene(rng, **options) for _ in range(n)]
