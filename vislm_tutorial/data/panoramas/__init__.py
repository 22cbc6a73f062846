"""Landscapes all around the viewer, with landmarks at compass headings: said, drawn, read back.

A world as all others: `sample_panoramas`, `caption`, `render`, `read`, `judge`.
"""

from .reading import read, seam
from .rendering import render
from .world import (
    COLOURS,
    GROUNDS,
    HEADINGS,
    KINDS,
    LIGHTS,
    Landmark,
    Panorama,
    caption,
    held_out_pairs,
    judge,
    sample_panoramas,
)

__all__ = [
    "COLOURS",
    "GROUNDS",
    "HEADINGS",
    "KINDS",
    "LIGHTS",
    "Landmark",
    "Panorama",
    "caption",
    "held_out_pairs",
    "judge",
    "read",
    "render",
    "sample_panoramas",
    "seam",
]
