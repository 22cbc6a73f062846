"""Painting with strokes, and landscapes to paint, both by rule: nothing here is learned."""

from .landscapes import landscape, understand
from .strokes import BRUSHES, Painting, Stroke, paint

__all__ = ["BRUSHES", "Painting", "Stroke", "landscape", "paint", "understand"]
