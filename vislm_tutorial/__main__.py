"""`python -m vislm_tutorial` is `vislm`, for launchers that start a module."""

from .cli import app

if __name__ == "__main__":
    app(prog_name="vislm")
