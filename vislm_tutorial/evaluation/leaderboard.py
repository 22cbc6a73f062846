"""Results files -> one page that says who draws what is asked, and who cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .comparison import OVERALL, UNVERSIONED, demand_same_prompts, differences
from .concepts import CONCEPT_TASKS
from .paraphrases import GROUP, PARAPHRASES
from .prompts import GENEVAL_TASKS, TASKS
from .report import EvalResult
from .scores import ALL_RIGHT, NONE_RIGHT, Score
from .table import markdown_table

NOTHING = "–"  # what was not measured, or is not known


def load_results(sources: Iterable[str]) -> dict[str, EvalResult]:
    """Results by name.

    Args:
        sources: files of `vislm evaluate -o`, as `FILE` or `NAME=FILE`. Without a name, the one in
            the file; if there is none either, the file's own, or its folder's for exact_eval.json.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else, or two have one name.
    """
    results: dict[str, EvalResult] = {}
    for source in sources:
        name, _, file = source.rpartition("=")
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; expected a file of `vislm evaluate`.")
        try:
            result = EvalResult.from_json(path.read_text("utf-8"))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} holds no results ({type(error).__name__}: {error}); expected the .json "
                "that `vislm evaluate -o` writes."
            ) from error
        own = path.resolve().parent.name if path.stem == "exact_eval" else path.stem
        name = name or result.name or own
        if name in results:
            raise ValueError(f"two results are named {name!r}; give one as NAME={path}.")
        results[name] = result
    return results


def leaderboard_page(results: Mapping[str, EvalResult]) -> str:
    """A page of Markdown: ranks by the overall score, then every task.

    Args:
        results: by name, each with GenEval's six tasks.

    Raises:
        ValueError: if there are none, if one lacks an overall score, or if two answer to different
            prompts.
    """
    if not results:
        raise ValueError("there are no results; give the files of `vislm evaluate -o`.")
    for name, result in results.items():
        if result.overall is None:
            missing = ", ".join(task for task in GENEVAL_TASKS if task not in result.scores)
            raise ValueError(
                f"{name} has no overall score, for want of {missing}; `vislm evaluate --tasks "
                "geneval` asks for all six."
            )
    hashes = demand_same_prompts(results)
    order = sorted(results, key=lambda name: -results[name].overall.value)
    ranked = {name: results[name] for name in order}
    parts = [_head(ranked), _overall(ranked), "## By task", _tasks(ranked, GENEVAL_TASKS)]
    others = [task for task in TASKS if task not in GENEVAL_TASKS]
    others = [task for task in others if any(task in r.scores for r in ranked.values())]
    if others:
        parts += ["## Other tasks", _OTHERS, _tasks(ranked, others)]
    if any(set(CONCEPT_TASKS) & set(result.scores) for result in ranked.values()):
        parts += ["## Combining concepts", _CONCEPTS, _concepts(ranked)]
    if any(PARAPHRASES in result.scores for result in ranked.values()):
        parts += ["## Paraphrases", _PARAPHRASES, _paraphrases(ranked)]
    return "\n\n".join([*parts, "## Prompts", _PROMPTS, _prompts(hashes)]) + "\n"


_OTHERS = "They do not count in the overall score."
_CONCEPTS = """\
A caption names an object and k more concepts (ConceptMix, Wu et al. 2024). Above: the share of
pictures that show all of them. Below it: the mean share of concepts that a picture shows."""
_PARAPHRASES = f"""\
Each request is made in {GROUP} wordings. "By luck" is the share of requests that would be right in
all wordings if the pictures that are right were spread over them by chance alone."""
_PROMPTS = "The sha256 of each task's captions and of what they ask for."


def _head(results: Mapping[str, EvalResult]) -> str:
    any_ = next(iter(results.values()))
    return (
        "# Leaderboard\n\n"
        f"ExactEval {any_.exact_eval_version or UNVERSIONED}, {any_.n} prompts a task, seed "
        f"{any_.seed}, the same for all. Overall is the mean of GenEval's six tasks (Ghosh et al. "
        "2023), with 95 % intervals by bootstrap over prompts. A rank is one more than the number "
        "of better entries, and better means that the 95 % interval of the difference, prompt by "
        "prompt, leaves out 0. `=` marks an entry that cannot be told apart from another one. "
        "Where all pictures are right, or none, resampling has nothing to vary, and the interval "
        f"is a point; of {any_.n} such pictures, it could as well be {300 / any_.n:.0f} % that "
        "differ. Times are those of each entry's own machine."
    )


def ranks(results: Mapping[str, EvalResult]) -> dict[str, tuple[int, bool]]:
    """By name, the rank, and whether another entry cannot be told apart from this one."""
    rank, tied = dict.fromkeys(results, 1), dict.fromkeys(results, False)
    names = list(results)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            difference = differences(results[first], results[second], GENEVAL_TASKS)[OVERALL]
            if difference.low > 0:
                rank[second] += 1
            elif difference.high < 0:
                rank[first] += 1
            else:
                tied[first] = tied[second] = True
    return {name: (rank[name], tied[name]) for name in names}


def _overall(results: Mapping[str, EvalResult]) -> str:
    header = ("rank", "name", "overall", "95 % interval", "parameters", "ms a picture", "side")
    rows = []
    for name, (rank, tied) in ranks(results).items():
        result = results[name]
        overall = result.overall
        known = result.parameters is not None
        speed = result.seconds is not None
        rows.append(
            (
                f"{rank}=" if tied else f"{rank}",
                _cell(name),
                f"{overall.value:.3f}",
                f"{overall.low:.3f} - {overall.high:.3f}",
                f"{result.parameters / 1e6:.2f} M" if known else NOTHING,
                f"{1000 * result.seconds / len(result.results):.0f}" if speed else NOTHING,
                f"{result.image_size} px",
            )
        )
    return markdown_table(header, rows, left=2)


def _tasks(results: Mapping[str, EvalResult], tasks: Sequence[str]) -> str:
    rows = [
        (_cell(name), *(_share(result.scores.get(task)) for task in tasks))
        for name, result in results.items()
    ]
    return markdown_table(("name", *(task.replace("_", " ") for task in tasks)), rows)


def _concepts(results: Mapping[str, EvalResult]) -> str:
    rows = []
    for name, result in results.items():
        rows.append((_cell(name), *(_share(result.scores.get(task)) for task in CONCEPT_TASKS)))
        rows.append(("", *(_share(result.fractions.get(task)) for task in CONCEPT_TASKS)))
    return markdown_table(("name", *(f"k = {k + 1}" for k in range(len(CONCEPT_TASKS)))), rows)


def _paraphrases(results: Mapping[str, EvalResult]) -> str:
    rows = []
    for name, result in results.items():
        beside = result.beside.get(PARAPHRASES, {})
        lucky = result.lucky_groups
        rows.append(
            (
                _cell(name),
                _share(result.scores.get(PARAPHRASES)),
                _share(beside.get(ALL_RIGHT)),
                NOTHING if lucky is None else f"{lucky:.2f}",
                _share(beside.get(NONE_RIGHT)),
            )
        )
    header = ("name", "pictures right", "all wordings right", "by luck", "no wording right")
    return markdown_table(header, rows)


def _prompts(hashes: Mapping[str, str]) -> str:
    rows = [(task.replace("_", " "), f"`{value}`") for task, value in hashes.items()]
    return markdown_table(("task", "sha256"), rows, left=2)


def _share(score: Score | None) -> str:
    if score is None:
        return NOTHING
    return f"{score.value:.2f} [{score.low:.2f},\N{NO-BREAK SPACE}{score.high:.2f}]"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
