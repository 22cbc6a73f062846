"""Products from the side, with parts and proportions in millimetres, said, drawn and measured.

A world as all others: `sample_products`, `caption`, `render`, `read`, `judge`.
"""

from .fitting import Fitted, judge, measure_errors, read
from .rendering import draw, render
from .world import (
    COLOURS,
    KINDS,
    MEASURES,
    SCALES,
    Product,
    caption,
    describe,
    held_out_pairs,
    said,
    sample_products,
)

__all__ = [
    "COLOURS",
    "KINDS",
    "MEASURES",
    "SCALES",
    "Fitted",
    "Product",
    "caption",
    "describe",
    "draw",
    "held_out_pairs",
    "judge",
    "measure_errors",
    "read",
    "render",
    "said",
    "sample_products",
]
