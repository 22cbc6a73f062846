"""Draw the picture at the top of the README and of the landing page, with the shipped weights.

    python book/draw_readme.py

The captions were written before any of them was drawn, and caption i is drawn from seed i: no
drawing is picked by hand.
"""

from __future__ import annotations

import torch
from pages import ROOT

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.viz import show_images

PICTURE = ROOT / "book" / "images" / "readme.png"
CAPTIONS = (
    "a red circle on a white background",
    "a large green star on a black background",
    "a hollow pink square",
    "an orange triangle on a beige background",
    "a striped purple diamond",
    "two green stars",
    "three yellow circles",
    "a blue cross above a red circle",
)


def main() -> None:
    pipe = VisLMPipeline.from_bundled()
    noise = [torch.Generator().manual_seed(seed) for seed in range(len(CAPTIONS))]
    images = pipe(list(CAPTIONS), generator=noise, output_type="pt").images
    PICTURE.parent.mkdir(exist_ok=True)
    show_images(images, CAPTIONS).savefig(PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {len(CAPTIONS)} drawings")


if __name__ == "__main__":
    main()
