"""What every command of `vislm` shares: an error is one clear line unless more is asked for."""

from __future__ import annotations

import functools
import os
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

import typer

DEBUG = "VISLM_DEBUG"  # set to anything: errors show where they come from
# Whose messages say all that is needed; another kind of error is named with its message.
SPEAKING_ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError)


def command(group: typer.Typer, name: str | None = None) -> Callable[[Callable], Callable]:
    """Register a function as a command whose errors and warnings are one clear line."""

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def guarded(*arguments, **options):
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                try:
                    return function(*arguments, **options)
                except Exception as error:
                    if os.environ.get(DEBUG) or isinstance(error, (typer.Exit, typer.Abort)):
                        raise
                    typer.echo(f"vislm: {_in_words(error)}", err=True)
                    raise typer.Exit(1) from None

        return group.command(name)(guarded)

    return register


def typed(context: typer.Context) -> str:
    """The command that is running, as one types it: its name and the options that were given."""
    words = ["vislm", context.info_name]
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name).name == "COMMANDLINE":
            words += [parameter.opts[0], str(context.params[parameter.name])]
    return shlex.join(words)


def _show_warning(message, _category, filename: str, *_) -> None:
    if Path(__file__).parent in Path(filename).parents:  # other packages' are no news for a reader
        typer.echo(f"vislm: {message}", err=True)


def _in_words(error: Exception) -> str:
    if isinstance(error, SPEAKING_ERRORS) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (`vislm --debug ...` shows where)"
