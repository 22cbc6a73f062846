"""Stands where a pipeline would: draws grey squares, as slowly as a test asks."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from PIL import Image
from torch import nn

from vislm_tutorial.generators import FlowGenerator


class FakeModel:
    """Waits in every drawing until `go` is set; `stopped` counts drawings that were cancelled."""

    def __init__(self, grey: int = 128):
        self.generator = FlowGenerator(nn.Identity())
        self.encoder = SimpleNamespace(max_length=8, tokenizer=self._tokens)
        self.go, self.calls, self.stopped, self.grey = threading.Event(), [], 0, grey
        self.go.set()

    def __call__(self, prompts, num_images_per_prompt, generator, callback_on_step_end, **options):
        self.calls.append((prompts, [g.initial_seed() for g in generator], options))
        if "fail" in prompts:
            raise RuntimeError("a secret of the machine")
        if "unknown setting" in prompts:
            raise ValueError("this family has no such setting")
        try:
            while not self.go.is_set():
                callback_on_step_end(self, 0, None, {})
                time.sleep(0.005)
        except Exception:
            self.stopped += 1
            raise
        number = len(prompts) * num_images_per_prompt
        return SimpleNamespace(images=[Image.new("RGB", (8, 8), 3 * (self.grey,))] * number)

    @staticmethod
    def _tokens(captions, verbose):
        return {"input_ids": [caption.split() for caption in captions]}


def until(condition, seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
