"""What to say when the packages of the extra `serving` are missing."""

from __future__ import annotations


def missing(error: ImportError) -> ImportError:
    """The same error with the way out of it."""
    return ImportError(
        f"serving needs the package {error.name}; install it with: "
        "pip install 'vislm-tutorial[serving]'",
        name=error.name,
    )
