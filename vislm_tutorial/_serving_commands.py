"""The commands of `vislm` that serve a model, look at what was asked of it, and teach it more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._command import command

PipelineOption = Annotated[
    str | None, typer.Option("--pipeline", help="Folder of a pipeline; else the shipped weights.")
]
HostOption = Annotated[str, typer.Option(help="127.0.0.1: this machine only.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535)]
KeepOption = Annotated[
    Path | None, typer.Option(help="Folder for captions whose senders consent; else none is kept.")
]
LogArgument = Annotated[Path, typer.Argument(help="Folder of kept captions (`--keep`).")]


def add_commands(app: typer.Typer) -> None:
    """Register `serve`, `app`, `listen` and `retune`."""
    for function in (serve, app_, listen, retune):
        command(app, function.__name__.rstrip("_"))(function)


def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    pipeline: PipelineOption = None,
    waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request fails.")] = 30.0,
    keep: KeepOption = None,
) -> None:
    """An HTTP service: POST /draw, health, metrics; /openapi.json describes it."""
    from .serving.collect import CaptionLog
    from .serving.service import ServiceConfig, build_service

    config = ServiceConfig(waiting=waiting, timeout=timeout)
    log = CaptionLog(keep) if keep else None
    service = build_service(lambda: _quiet_pipeline(pipeline), config, log)
    import uvicorn

    typer.echo(f"http://{host}:{port}; what may be asked stands in its /openapi.json.")
    typer.echo("Ctrl+C ends it once what is drawn is done.")
    uvicorn.run(service, host=host, port=port, log_level="warning", timeout_graceful_shutdown=60)


def app_(
    host: HostOption = "127.0.0.1",
    port: PortOption = 7860,
    pipeline: PipelineOption = None,
    keep: KeepOption = None,
) -> None:
    """A page in the browser to try the model (Gradio)."""
    from .serving.app import build_app
    from .serving.collect import CaptionLog

    page = build_app(_quiet_pipeline(pipeline), CaptionLog(keep) if keep else None)
    page.launch(server_name=host, server_port=port, share=False)


def listen(
    log: LogArgument,
    pipeline: PipelineOption = None,
    window: Annotated[int, typer.Option(min=1, help="Captions a line.")] = 50,
) -> None:
    """What people typed, window by window, and the words that the model misses."""
    from .serving.monitor import missed_words, watch

    typed = _typed(log)
    pipe = _quiet_pipeline(pipeline)
    windows = watch(typed, _known(pipe), window)
    for part in windows:
        typer.echo(
            f"captions {part.first + 1}-{part.first + part.n}: unknown word {part.unknown}, "
            f"far from training {part.far}, said to be wrong {part.disliked or 'nothing said'}"
        )
    for word, count in missed_words(windows).items():
        typer.echo(f"{word}: {count} requests")


def retune(
    log: LogArgument,
    labels: Annotated[Path, typer.Argument(help="YAML, a line a word: `crimson: red`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new pipeline.")],
    pipeline: PipelineOption = None,
    most: Annotated[int, typer.Option(min=20, help="Captions of each kind to judge by.")] = 60,
    steps: Annotated[int, typer.Option(min=1, help="Of teaching.")] = 200,
) -> None:
    """Teach new words; the pipeline is saved only if the gate accepts it (else exit code 1)."""
    import yaml

    from .serving.retune import RetuneConfig
    from .serving.retune import retune as run
    from .serving.wording import translate

    words = yaml.safe_load(labels.read_text(encoding="utf-8"))
    if not isinstance(words, dict) or not all(
        isinstance(text, str) for pair in words.items() for text in pair
    ):
        raise ValueError(f"{labels} holds {words!r}; expected lines like `crimson: red`.")
    if output.exists():
        raise FileExistsError(f"{output} exists; give a new folder, so the old model stays.")
    pipe, known = _quiet_pipeline(pipeline), _training_captions()
    typed = list(dict.fromkeys(entry.caption for entry in _typed(log)))
    new = [caption for caption in typed if translate(caption, words).text != caption]
    others = set(new)
    old = [caption for caption in typed if caption not in others]
    outcome = run(pipe, words, known, old[-most:], new[-most:], RetuneConfig(steps=steps))
    typer.echo(str(outcome.verdict))
    if not outcome.verdict.accepted:
        raise typer.Exit(1)
    outcome.pipe.save_pretrained(output)
    typer.echo(f"wrote {output}; serve it: vislm serve --pipeline {output}")


def _quiet_pipeline(folder: str | None):
    from .cli import open_pipeline

    pipe = open_pipeline(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _typed(folder: Path):
    from .serving.collect import CaptionLog

    typed = CaptionLog(folder).read() if folder.is_dir() else []
    if not typed:
        raise FileNotFoundError(
            f"No kept captions in {folder}; `vislm serve --keep {folder}` collects them."
        )
    return typed


def _training_captions() -> list[str]:
    from .training.datasets import SceneImages

    return SceneImages(1_000, seed=0).captions


def _known(pipe):
    from .serving.monitor import Known

    return Known(_training_captions(), pipe.encoder)
