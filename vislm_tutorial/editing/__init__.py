"""Change a picture by words, with the flow that drew it or could have drawn it; nothing is learned.

    pipe = VisLMPipeline.from_bundled()
    redraw(pipe, image, "a green circle", strength=0.7)

Every function takes a pipeline whose generator is a flow, and pictures (B, 3, H, W) in [-1, 1]. All
follow the flow's own equation dx = v d sigma by Euler's steps (x_sigma = (1 - sigma) x_0 +
sigma eps). They differ in where they begin, and in what holds the picture to what it was.
"""

from .attention import mask_of_words, swap
from .redrawing import draw_from, grown, inpaint, invert, redraw
from .words import alignment, tokens_of

__all__ = [
    "alignment",
    "draw_from",
    "grown",
    "inpaint",
    "invert",
    "mask_of_words",
    "redraw",
    "swap",
    "tokens_of",
]
