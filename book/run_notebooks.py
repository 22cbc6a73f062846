"""Run the book's notebooks, store their outputs, and measure what each costs.

    python book/run_notebooks.py                     every notebook of _toc.yml
    python book/run_notebooks.py --only PATH ...     these
    python book/run_notebooks.py --check             run, but write nothing

Stores what stays the same from one run to the next: a cell keeps its id, no time stamps, no
version of this machine's Python. Time and peak memory go to book/results/running_times.json and
into the page's cell tagged "cost". Budgets are the quick profile's unless VISLM_PROFILE says else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import nbformat
from costs import COST_TAG, load, record, sentence
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from pages import ROOT, notebooks

# Asked of the page's own kernel after its last cell; ru_maxrss is in KiB, on macOS in bytes. On
# Linux it begins at the peak of whoever started the kernel, and VmHWM does not.
PROBE = """
import json, os, resource, sys
try:
    _lines = open("/proc/self/status").read().splitlines()
    _own = int(next(line for line in _lines if line.startswith("VmHWM")).split()[1])
except OSError:
    _own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_peak = max(_own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
_torch = sys.modules.get("torch")
_gpu = _torch is not None and _torch.cuda.is_available()
_device = _torch.cuda.get_device_name() if _gpu else f"{os.cpu_count()} CPU cores"
print(json.dumps([_peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024), _device]))
"""


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: int) -> dict:
    """Run every cell in place; returns {"seconds", "peak_gb", "device"}.

    Raises nbclient's CellExecutionError at the first cell that fails.
    """
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    start = time.perf_counter()
    try:
        client.execute()
    finally:
        probe = notebook.cells.pop()
    seconds = time.perf_counter() - start
    peak, device = json.loads(probe.outputs[0].text)
    return {"seconds": round(seconds, 1), "peak_gb": round(peak, 2), "device": device}


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Make the stored file depend on the page alone, not on when and where it ran."""
    notebook.metadata.kernelspec = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = set()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        identity = cell.get("id")
        for copy in range(len(notebook.cells)):
            if identity and identity not in seen:
                break
            identity = hashlib.sha256(f"{copy} {cell.source}".encode()).hexdigest()[:8]
        cell["id"] = identity
        seen.add(identity)


def fold_solutions(notebook: nbformat.NotebookNode) -> None:
    """Hide the code between solution-start and solution-end in Colab and JupyterLab too."""
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            inside = (inside or "{solution-start}" in cell.source) and (
                "{solution-end}" not in cell.source
            )
        elif inside and cell.cell_type == "code":
            cell.metadata["cellView"] = "form"
            cell.metadata["jupyter"] = {"source_hidden": True}


def run(path: Path, profile: str, timeout: int = 600, check: bool = False, root=ROOT) -> dict:
    """Run one notebook; unless `check`, store its outputs and its cost.

    Raises nbclient's CellExecutionError, and then stores nothing, if a cell fails.
    """
    page = path.resolve().relative_to(root).as_posix()
    notebook = nbformat.read(path, as_version=4)
    cost = execute(notebook, path.parent, timeout)
    if not check:
        tidy(notebook)
        fold_solutions(notebook)
        record(page, profile, cost, root)
        for cell in notebook.cells:
            if COST_TAG in cell.metadata.get("tags", []):
                cell.source = sentence(load(root)[page])
        nbformat.write(notebook, path)
    return cost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", type=Path, metavar="PATH", help="run these notebooks")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    options = parser.parse_args()
    profile = os.environ.setdefault("VISLM_PROFILE", "quick")  # the page's kernel inherits it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    failed = 0
    for path in options.only or notebooks():
        try:
            cost = run(path, profile, options.timeout, options.check)
        except CellExecutionError as error:
            failed += 1
            print(f"FAILED {path}\n{error}", flush=True)
        else:
            print(f"{path}: {cost['seconds']} s, {cost['peak_gb']} GB", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
