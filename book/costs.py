"""What a page costs to run: measured by run_notebooks.py, kept in book/results/running_times.json.

{"book/01_background/01_first_drawing.ipynb":
    {"quick": {"seconds": 41.8, "peak_gb": 1.3, "device": "2 CPU cores"}}}
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from pages import ROOT

COST_TAG = "cost"
RUNNING_TIMES = Path("book/results/running_times.json")


def load(root: Path = ROOT) -> dict[str, dict[str, dict]]:
    """Page -> profile -> measured seconds, peak memory and device; empty before the first run."""
    path = root / RUNNING_TIMES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def record(page: str, profile: str, cost: dict, root: Path = ROOT) -> None:
    """Put one measurement into the file."""
    costs = load(root)
    costs.setdefault(page, {})[profile] = cost
    path = root / RUNNING_TIMES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(costs, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def spoken_time(seconds: float) -> str:
    """Seconds rounded up as coarsely as a person would say them: "7 s", "45 s", "2 min 10 s"."""
    for limit, step in ((10, 1), (60, 5), (math.inf, 10)):
        rounded = math.ceil(seconds / step) * step
        if rounded <= limit:
            break
    minutes, rest = divmod(rounded, 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def spoken_cost(cost: dict) -> str:
    """One measurement in words, for a page's cost line and for the table of running times."""
    time, memory = spoken_time(cost["seconds"]), math.ceil(cost["peak_gb"] * 10) / 10
    return f"{time} and {memory:.1f} GB on {cost['device']}"


def sentence(costs: dict[str, dict]) -> str:
    """The cost line of one page, from its measurements by profile."""
    spoken = [f"{spoken_cost(costs[name])} ({name})" for name in sorted(costs, reverse=True)]
    return f"*This page ran in {'; in '.join(spoken)}.*"
