"""Synthetic chest CT slices with a nodule, said, drawn and read back. Not for diagnosis.

A world as all others: `sample_phantoms`, `caption`, `render`, `read`, `judge`.
"""

from .anatomy import FIELD_OF_VIEW_MM
from .reading import Finding, Reading, judge, level_of, read, size_error_mm
from .rendering import hounsfield, render, to_hounsfield, to_images
from .world import Nodule, Phantom, caption, sample_phantoms

__all__ = [
    "FIELD_OF_VIEW_MM",
    "Finding",
    "Nodule",
    "Phantom",
    "Reading",
    "caption",
    "hounsfield",
    "judge",
    "level_of",
    "read",
    "render",
    "sample_phantoms",
    "size_error_mm",
    "to_hounsfield",
    "to_images",
]
