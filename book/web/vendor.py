"""Fetch the scripts that the pages load, so that a reader's browser asks no third party for them.

    python book/web/vendor.py

Takes the versions in package.json from the npm registry through npm itself, and keeps only the
files the pages use in book/web/vendor/ (about 10 MB, not committed). Where npm is missing or has
no network, it says so and leaves the folder without its `.complete` mark: the book then builds all
the same, with these scripts coming from a public CDN.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from fnmatch import fnmatch
from pathlib import Path

WEB = Path(__file__).resolve().parent
VENDOR = WEB / "vendor"
COMPLETE = VENDOR / ".complete"

# npm package -> patterns of the files that pages load, and the licence we owe ("*" crosses "/").
WANTED = {
    "@jupyter-widgets/html-manager": ("LICENSE", "dist/embed-amd.js", "dist/*.woff2"),
    "anywidget": ("LICENSE", "dist/index.js"),
    "mathjax": (
        "LICENSE",
        "es5/tex-mml-chtml.js",
        "es5/input/tex/extensions/*",
        "es5/output/chtml/fonts/*",
    ),
    "mermaid": ("LICENSE", "dist/mermaid.esm.min.mjs", "dist/chunks/mermaid.esm.min/*.mjs"),
    "pannellum": ("COPYING", "build/pannellum.css", "build/pannellum.js"),
    "requirejs": ("require.js",),  # its licence stands at the head of the file
}


def versions() -> dict[str, str]:
    """Package name -> exact version, from package.json."""
    return json.loads((WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]


def download(folder: Path) -> dict[str, Path]:
    """Let npm put each package's archive into `folder`; returns name -> archive.

    Raises OSError where npm is not installed, CalledProcessError where it fails.
    """
    archives = {}
    for name, version in versions().items():
        done = subprocess.run(
            ["npm", "pack", "--json", "--pack-destination", str(folder), f"{name}@{version}"],
            check=True,
            capture_output=True,
            text=True,
        )
        # "@scope/name" is packed as "scope-name-version.tgz".
        archives[name] = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not archives[name].is_file():
            raise OSError(f"npm packed {name} under another name: {done.stdout.strip()}")
    return archives


def unpack(name: str, archive: Path, target: Path) -> None:
    """Copy the wanted files of one npm archive to `target`/`name`."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = member.name.removeprefix("package/")
            if not member.isfile() or not any(fnmatch(path, want) for want in WANTED[name]):
                continue
            copy = target / name / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(tar.extractfile(member).read())


def main() -> int:
    shutil.rmtree(VENDOR, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            archives = download(Path(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or error
            print(
                f"note: MathJax, Mermaid, Pannellum and the widget scripts could not be fetched "
                f"with npm ({str(reason).strip()}). The pages will load them from a public CDN; "
                f"install Node.js (it brings npm) and run `make clean book` to serve them yourself."
            )
            return 0
        for name, archive in archives.items():
            unpack(name, archive, VENDOR)
    size = sum(path.stat().st_size for path in VENDOR.rglob("*") if path.is_file())
    COMPLETE.write_text("\n".join(f"{name} {number}" for name, number in versions().items()))
    print(f"{len(versions())} packages of scripts, {size / 1e6:.1f} MB, in {VENDOR.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
