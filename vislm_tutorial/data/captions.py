"""Scene -> caption: many ways to say what a picture shows, with some ways kept for the test.

Three things are held out and never trained on: some (colour, shape) pairs
(`scenes.held_out_pairs`), every word in `COLOUR_SYNONYMS` and `SHAPE_SYNONYMS`, and the templates
in `HELD_OUT_TEMPLATES`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import permutations

from .scenes import Scene, SceneObject, place, relations

COLOUR_SYNONYMS = {
    "red": ("crimson", "scarlet"),
    "orange": ("tangerine", "apricot"),
    "yellow": ("golden", "lemon"),
    "green": ("emerald", "jade"),
    "cyan": ("turquoise", "aqua"),
    "blue": ("azure", "cobalt"),
    "purple": ("violet", "lilac"),
    "pink": ("rosy", "salmon"),
}
SHAPE_SYNONYMS = {
    "circle": ("disc", "ball"),
    "square": ("box", "block"),
    "triangle": ("pyramid", "wedge"),
    "diamond": ("rhombus", "lozenge"),
    "star": ("pentagram", "asterisk"),
    "cross": ("plus sign", "plus"),
}
NUMBERS = {2: "two", 3: "three", 4: "four"}
TEMPLATES = (
    "{}",
    "{}",
    "{}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "a photo of {}",
    "we see {}",
    "draw {}",
    "a picture with {}",
    "an image that shows {}",
    "{}, simple shapes",
)
HELD_OUT_TEMPLATES = (
    "please paint {} for me",
    "could you sketch {}?",
    "I would love to see {}",
    "on the canvas we find {}",
)
RELATION_TEMPLATES = (
    "{a} {rel} {b}",
    "{a} {rel} {b}",
    "{a} is {rel} {b}",
    "{a} {to_the} {b}",
    "{a} that is {rel} {b}",
)
PHRASES = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "over",
    "below": "under",
}


Others = Mapping[str, Sequence[str]]  # a colour or shape -> other words for it


def plural(noun: str) -> str:
    """English plural of a shape's name or synonym: cross -> crosses, plus sign -> plus signs."""
    if noun == "rhombus":
        return "rhombuses"
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def with_article(phrase: str) -> str:
    """ "orange star" -> "an orange star"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


class _Speaker:
    """The random choices of one caption: its words, and which attributes it leaves out."""

    def __init__(self, scene: Scene, rng: random.Random, synonyms: bool, others: Others):
        words = {**COLOUR_SYNONYMS, **SHAPE_SYNONYMS}
        if others and not synonyms:
            words = {name: (name, *others.get(name, ())) for name in words}
        self.word = {n: rng.choice(words[n]) if synonyms or others else n for n in words}
        # "three circles" is the natural way to count one shape in several colours.
        shapes, colours = ({getattr(o, k) for o in scene.objects} for k in ("shape", "colour"))
        mixed = len(shapes) == 1 and len(colours) > 1
        self.say_colour = rng.random() < (0.3 if mixed else 0.5)
        self.say_size = rng.random() < 0.25
        self.say_fill = rng.random() < 0.3

    def attributes(self, o: SceneObject) -> tuple[str, ...]:
        """The adjectives said of an object: ("small", "striped", "red"), or fewer."""
        said = ((self.say_size, o.size), (self.say_fill, o.fill), (self.say_colour, o.colour))
        return tuple(self.word.get(value, value) for told, value in said if told)

    def several(self, objects: Sequence[SceneObject]) -> str:
        """Objects that are said in the same words: "a red circle" or "two red circles"."""
        noun = self.word[objects[0].shape]
        adjectives = self.attributes(objects[0])
        if len(objects) == 1:
            return with_article(" ".join([*adjectives, noun]))
        return " ".join([NUMBERS[len(objects)], *adjectives, plural(noun)])

    def groups(self, scene: Scene) -> list[str]:
        """All objects as one reads, from the top left; those with equal descriptions together.

        People list what they see in this order, and it tells a model which of two is where.
        """
        alike: dict[tuple, list[SceneObject]] = {}
        for o in sorted(scene.objects, key=lambda o: o.x + o.y):
            alike.setdefault((self.attributes(o), o.shape), []).append(o)
        return [self.several(objects) for objects in alike.values()]


def _body(scene: Scene, speak: _Speaker, rng: random.Random) -> str:
    if not scene.objects:
        return "nothing"
    if len(scene.objects) == 1:
        only = scene.objects[0]
        where = place(only)
        return speak.several([only]) + (f" {where}" if where and rng.random() < 0.85 else "")
    phrases = speak.groups(scene)
    if len(scene.objects) == len(phrases) == 2 and rng.random() < 0.6:
        facts = [(a, b, r) for a, b in permutations(scene.objects) for r in relations(a, b)]
        if facts:
            a, b, rel = rng.choice(facts)
            template = rng.choice(RELATION_TEMPLATES)
            first, second = speak.several([a]), speak.several([b])
            return template.format(a=first, b=second, rel=rel, to_the=PHRASES[rel])
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def caption(
    scene: Scene,
    rng: random.Random,
    synonyms: bool = False,
    held_out_template: bool = False,
    others: Others | None = None,
) -> str:
    """Say what a scene shows, leaving some attributes out.

    `synonyms` swaps every colour and shape word for one that training never uses;
    `held_out_template` wraps the words in a sentence that training never uses; `others` are further
    words for some colours and shapes, each as likely as the first (`data.words`).
    """
    body = _body(scene, _Speaker(scene, rng, synonyms, others or {}), rng)
    if rng.random() < 0.3 or not scene.objects:
        body += f" on {with_article(scene.background)} background"
    return rng.choice(HELD_OUT_TEMPLATES if held_out_template else TEMPLATES).format(body)
