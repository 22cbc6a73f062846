"""The words of a model card: what is said about data, licences, scores and limits."""

from __future__ import annotations

from ..data.openmoji import ATTRIBUTION

HALF = 0.5  # a task that is right less often than this is named as a limit

# What a task asks for, and what it means to fail it.
TASKS = {
    "single_object": ("one shape", "not even one shape that is asked for is drawn reliably"),
    "two_objects": ("two different shapes", "of two shapes one is often missing"),
    "counting": ("two to four of a shape", "numbers are often wrong"),
    "colours": ("one shape in a colour", "colours are often wrong"),
    "position": ("one shape beside, above or below another", "places are often wrong"),
    "colour_attribution": ("two shapes, each in its colour", "colours go to the wrong shape"),
    "held_out_pairs": (
        "a colour and a shape that training never showed together",
        "new combinations of known words are often drawn wrong",
    ),
    "synonyms": (
        "words that training never used, such as crimson or disc",
        "words outside the training's vocabulary are not understood",
    ),
    "templates": ("sentences that training never used", "unusual sentences are often missed"),
    **{
        f"concepts_{k}": (
            f"one shape and {k} more to do with it at once",
            "of much that is asked at once, something is often missing",
        )
        for k in range(1, 8)
    },
    "paraphrases": ("the same in four wordings", "other wordings are often missed"),
}
FLOOR = "shuffled"  # pictures judged by another caption: what luck scores

SCENES = (
    "Pictures and captions are made by a program (`vislm_tutorial.data.scenes`): one to four flat "
    "shapes of six kinds in eight colours, with English captions from a small grammar. No "
    "photograph, no person and nobody's work is in them."
)
OPENMOJI = (
    "Drawings of OpenMoji with their English names. Whoever shows one of its pictures owes this "
    f"line: {ATTRIBUTION}"
)
PROGRAM = (
    "Pictures and captions are made by a program (`vislm_tutorial.data.{}`): {}. No photograph, no "
    "person and nobody's work is in them."
)
TO_FILL_IN = "fill this in before you publish"
FOLDER = (
    "A folder of pictures with captions that whoever trained this brought along. Whether they may "
    f"be used, shown and learned from is that person's to say: **{TO_FILL_IN}**."
)
DATA = {  # by the recipe's source: words, and the licence of weights learned from it
    "scenes": (SCENES, "mit"),
    "panoramas": (PROGRAM.format("panoramas", "simple landscapes, all around the viewer"), "mit"),
    "phantoms": (
        PROGRAM.format("phantoms", "slices of invented chests with a nodule, no patient's scan")
        + " **Not for diagnosis.**",
        "mit",
    ),
    "products": (PROGRAM.format("products", "mugs, chairs, lamps and shoes from the side"), "mit"),
    "openmoji": (OPENMOJI, "cc-by-sa-4.0"),
    "styles": (OPENMOJI, "cc-by-sa-4.0"),
}
UNKNOWN_DATA = "The folder holds no recipe, so what this was trained on is not recorded."
ALWAYS = (
    "It knows a small world and a few dozen English words; on anything else it draws some picture "
    "of that world. What it draws is evidence about nothing."
)

PAGE = """\
# {title}

{description}

{use}

## Data

{data}

## Parts and licences

{parts}

## Training

{training}

## Scores

{scores}

## Limits

{limits}
"""

USE = """\
```python
from vislm_tutorial import VisLMPipeline

pipe = VisLMPipeline.from_pretrained("{repo_id}", allow_network=True)
pipe("a red circle above a blue square").images[0]
```

Needs `pip install vislm-tutorial` (see {repository}). The language model is not in this
repository: it is found by its name, `{encoder}`."""


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple(":--" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def scores_section(result) -> str:
    """Every task with its interval (`EvalResult`), and what the words of the table mean."""
    rows = []
    for task, score in result.scores.items():
        asked = "pictures judged by another caption: luck" if task == FLOOR else TASKS[task][0]
        interval = f"{score.low:.2f} to {score.high:.2f}"
        rows.append((task.replace("_", " "), asked, f"{score.value:.2f}", interval, str(score.n)))
    text = table(("task", "asks for", "right", "95 % interval", "pictures"), rows)
    overall = result.overall
    if overall is not None:
        text += (
            f"\n\nOverall, the mean of GenEval's six tasks: **{overall.value:.3f}** "
            f"({overall.low:.3f} to {overall.high:.3f})."
        )
    return (
        f"{text}\n\nMeasured by ExactEval on {result.image_size} px pictures, seed {result.seed}: "
        "a program reads each picture back and compares it with its caption."
    )


def limits_section(result) -> str:
    """What the scores say that it cannot do: every task below one half, the worst first."""
    if result is None:
        return f"- Nothing has been measured: expect any mistake.\n- {ALWAYS}"
    weak = [(s.value, task) for task, s in result.scores.items() if s.value < HALF]
    lines = [
        f"- {TASKS[task][0].capitalize()}: right in {value:.0%} of "
        f"{result.scores[task].n} pictures; {TASKS[task][1]}."
        for value, task in sorted(weak)
        if task != FLOOR
    ]
    if not lines:
        lines = [f"- No task was right in less than {HALF:.0%} of its pictures."]
    return "\n".join([*lines, f"- {ALWAYS}"])
