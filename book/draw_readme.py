"""Draw the picture at the top of the README and of the landing page, with the shipped weights.

    python book/draw_readme.py

The captions were written before any of them was drawn, and seed 0 draws all of them: nothing is
picked by hand.
"""

from __future__ import annotations

import torch
from pages import ROOT

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.viz import show_images

PICTURE = ROOT / "book" / "images" / "readme.png"
CAPTIONS = (
    "a red circle above a blue square",
    "two green stars on a white background",
    "a large striped purple diamond in the centre",
    "four small yellow circles",
    "an orange triangle to the left of a cyan cross",
    "a hollow pink square in the top left corner",
    "three blue crosses on a black background",
    "a green circle and a red triangle",
)


def main() -> None:
    pipe = VisLMPipeline.from_bundled()
    noise = [torch.Generator().manual_seed(0) for _ in CAPTIONS]
    images = pipe(CAPTIONS, generator=noise, output_type="pt").images
    PICTURE.parent.mkdir(exist_ok=True)
    show_images(images, CAPTIONS).savefig(PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {len(CAPTIONS)} drawings")


if __name__ == "__main__":
    main()
