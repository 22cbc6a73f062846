"""Settings for every test: offline, one thread, the same random numbers each time."""

from __future__ import annotations

import os
import random
import sys

# Before anything imports torch or huggingface_hub: both read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VISLM_PROFILE", "quick")

import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Seed every generator a test may draw from; torch only where something has imported it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
