"""OpenMoji drawings of things, each redrawn in twelve styles: named, drawn and read back."""

from .drawings import Restyled, StyledDrawings, caption, held_out_style, load_styles, subjects
from .reading import Reading, StyleIndex, read
from .redrawing import OWN_COLOURS, STYLES

__all__ = [
    "OWN_COLOURS",
    "STYLES",
    "Reading",
    "Restyled",
    "StyleIndex",
    "StyledDrawings",
    "caption",
    "held_out_style",
    "load_styles",
    "read",
    "subjects",
]
