"""Settings for running the notebooks under nbval."""

from __future__ import annotations


def pytest_itemcollected(item):
    """Wait a minute for a cell's outputs to arrive: nbval's own 5 s is too short on a busy CPU."""
    if type(item).__name__ == "IPyNbCell":
        item.output_timeout = 60
