"""More words for the colours and shapes, none of them held out.

Training captions use them only where a data set asks for it (`DataConfig.words`): do words that
training never showed follow when many others were shown?
"""

from __future__ import annotations

from .captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS

# In no order of likeness: the first k of each are what k more words means.
OTHER_COLOURS = {
    "red": (
        *("ruby", "cherry", "brick red", "tomato", "vermilion", "strawberry"),
        *("blood red", "maroon", "poppy", "garnet", "cardinal", "burgundy"),
    ),
    "orange": (
        *("pumpkin", "carrot", "amber", "mandarin", "rust", "persimmon"),
        *("copper", "papaya", "ginger", "clementine", "peach", "cantaloupe"),
    ),
    "yellow": (
        *("mustard", "canary", "banana", "butter", "sunflower", "corn"),
        *("straw", "honey", "daffodil", "blonde", "maize", "buttercup"),
    ),
    "green": (
        *("olive", "lime", "mint", "grass", "moss", "forest green"),
        *("fern", "avocado", "pine", "sage", "pistachio", "leaf green"),
    ),
    "cyan": (
        *("teal", "sky blue", "cerulean", "ice blue", "seafoam", "lagoon"),
        *("light blue", "pool blue", "peacock", "glacier", "tiffany", "caribbean"),
    ),
    "blue": (
        *("navy", "sapphire", "royal blue", "denim", "ultramarine", "ocean blue"),
        *("midnight blue", "indigo", "blueberry", "cornflower", "dark blue", "prussian blue"),
    ),
    "purple": (
        *("plum", "lavender", "mauve", "grape", "amethyst", "eggplant"),
        *("orchid", "mulberry", "aubergine", "iris", "heliotrope", "byzantium"),
    ),
    "pink": (
        *("magenta", "fuchsia", "blush", "bubblegum", "flamingo", "hot pink"),
        *("peony", "coral", "carnation", "cerise", "raspberry", "watermelon"),
    ),
}
OTHER_SHAPES = {
    "circle": (
        "ring",
        "dot",
        "orb",
        "coin",
        "sphere",
        "wheel",
        "bubble",
        "hoop",
        "globe",
        "marble",
    ),
    "square": (
        *("cube", "tile", "crate", "quadrangle", "brick"),
        *("pixel", "checker", "window", "quad", "stamp"),
    ),
    "triangle": (
        *("trigon", "cone", "arrowhead", "tent", "delta"),
        *("spike", "prism", "shark fin", "trilateral", "sail"),
    ),
    "diamond": (
        *("kite", "gem", "jewel", "crystal", "tilted square"),
        *("harlequin", "gemstone", "argyle", "brilliant", "facet"),
    ),
    "star": (
        *("starburst", "sparkle", "starfish", "sunburst", "five-pointed star"),
        *("twinkle", "nova", "sun", "snowflake", "estrella"),
    ),
    "cross": (
        *("crucifix", "crossing", "intersection", "crosshair", "medical cross"),
        *("crossed bars", "crossroads", "saltire", "sword", "junction"),
    ),
}
OTHER_WORDS = {**OTHER_COLOURS, **OTHER_SHAPES}
HELD_OUT_WORDS = {
    name: words for names in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for name, words in names.items()
}
