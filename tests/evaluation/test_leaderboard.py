"""Two results, or a page of them, only from the same prompts; and who cannot be told apart."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vislm_tutorial.evaluation import (
    GENEVAL_TASKS,
    EvalResult,
    compare,
    leaderboard_page,
    load_results,
    prompt_hash,
    prompts_for,
)
from vislm_tutorial.evaluation.leaderboard import ranks
from vislm_tutorial.evaluation.scores import PromptResult

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "leaderboard.py"
N = 40


def _result(
    share: float, luck: int = 0, tasks=GENEVAL_TASKS, n: int = N, seed: int = 0, **more
) -> EvalResult:
    """An evaluation of the real prompts in which about a share of the pictures is right."""
    rng = np.random.default_rng(luck)
    asked = {task: prompts_for(task, n, seed) for task in tasks}
    results = tuple(
        PromptResult(task, p.text, (("objects", bool(rng.random() < share)),))
        for task, own in asked.items()
        for p in own
    )
    hashes = {task: prompt_hash(own) for task, own in asked.items()}
    return EvalResult(results, seed, n, 64, prompt_hashes=hashes, **more)


GOOD, POOR = _result(0.9, 1), _result(0.6, 2)
ALIKE = _result(0.9, 3)


def test_a_difference_is_taken_prompt_by_prompt():
    found = compare(GOOD, POOR)
    assert list(found) == [*GENEVAL_TASKS, "overall"]
    for task in GENEVAL_TASKS:
        expected = GOOD.scores[task].value - POOR.scores[task].value
        assert found[task].value == pytest.approx(expected)
        assert found[task].low <= expected <= found[task].high
    overall = found["overall"]
    assert overall.value == pytest.approx(GOOD.overall.value - POOR.overall.value)
    assert overall.low > 0 and overall.n == 6 * N
    other = compare(POOR, GOOD)["overall"]
    assert other.value == pytest.approx(-overall.value) and other.high < 0
    same = compare(GOOD, GOOD)["overall"]
    assert same.value == same.low == same.high == 0


def test_pairs_are_told_apart_where_intervals_overlap():
    """With five of 200 pictures mended, two scores overlap, and their difference leaves out 0."""
    first = _result(0.8, 5, ("colours",), n=200)
    wrong = [i for i, r in enumerate(first.results) if not r.correct][:5]
    mended = replace(
        first,
        results=tuple(
            replace(r, checks=(("objects", True),)) if i in wrong else r
            for i, r in enumerate(first.results)
        ),
    )
    assert first.scores["colours"].high > mended.scores["colours"].low
    assert compare(mended, first)["colours"].low > 0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            _result(0.9, seed=1, name="mine"),
            r"unnamed \(first\) \(n 40, seed 0\) and mine \(second\) \(n 40, seed 1\) .*single_obj",
        ),
        (_result(0.9, n=20), r"n 20, seed 0.* answer to different prompts"),
        (replace(GOOD, exact_eval_version="2"), "by ExactEval 1, .* by ExactEval 2"),
        (replace(GOOD, results=GOOD.results[1:]), "different prompts of single_object"),
        (replace(GOOD, prompt_hashes={}, seed=3), "different prompts of single_object .*unknown"),
        (_result(0.9, tasks=("templates",)), "one result has single_object.* in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(other, said):
    with pytest.raises(ValueError, match=said):
        compare(GOOD, other)


def test_an_older_file_is_compared_by_its_captions():
    old = replace(POOR, prompt_hashes={}, exact_eval_version="")
    assert compare(GOOD, old) == compare(GOOD, POOR)


def test_captions_that_nobody_knows_are_not_taken_for_the_same():
    odd = replace(GOOD, prompt_hashes={}, seed=3)
    with pytest.raises(ValueError, match="unknown and unknown"):
        compare(odd, replace(POOR, prompt_hashes={}, seed=3))


def test_ranks_mark_what_cannot_be_told_apart():
    found = ranks({"a": GOOD, "b": ALIKE, "c": POOR})
    assert found == {"a": (1, True), "b": (1, True), "c": (3, False)}


def _rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, its header first."""
    lines = page.split(heading)[1].split("\n#")[0].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return [rows[0], *rows[2:]]


def test_the_page_is_sorted_and_has_every_interval():
    page = leaderboard_page(
        {"poor": POOR, "good": replace(GOOD, parameters=1_500_000, seconds=2.4), "alike": ALIKE}
    )
    header, *rows = _rows(page, "# Leaderboard")
    assert header[:4] == ["rank", "name", "overall", "95 % interval"]
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    assert {row[1]: row[0] for row in rows} == {"good": "1=", "alike": "1=", "poor": "3"}
    good = next(row for row in rows if row[1] == "good")
    overall = GOOD.overall
    assert good[2:] == [
        f"{overall.value:.3f}",
        f"{overall.low:.3f} - {overall.high:.3f}",
        "1.50 M",
        "10",
        "64 px",
    ]
    assert next(row for row in rows if row[1] == "poor")[4:6] == ["–", "–"]
    header, *rows = _rows(page, "## By task")
    assert header[1:] == [task.replace("_", " ") for task in GENEVAL_TASKS]
    score = POOR.scores["colours"]
    expected = f"{score.value:.2f} [{score.low:.2f},\N{NO-BREAK SPACE}{score.high:.2f}]"
    assert rows[-1][0] == "poor" and rows[-1][1 + GENEVAL_TASKS.index("colours")] == expected
    assert GOOD.prompt_hashes["colours"] in page and "ExactEval 1, 40 prompts" in page
    assert not any(heading in page for heading in ("Other tasks", "Combining", "Paraphrases"))


def test_what_only_some_have_is_shown_where_it_is():
    more = _result(0.9, 4, (*GENEVAL_TASKS, "templates", "concepts_2", "paraphrases"))
    page = leaderboard_page({"more": more, "less": POOR})
    header, *rows = _rows(page, "## Other tasks")
    assert header == ["name", "templates"] and rows[1] == ["less", "–"]
    header, marks, fractions, other, _ = _rows(page, "## Combining concepts")
    assert header[2] == "k = 2" and marks[0] == "more" and other[0] == "less"
    assert marks[2].startswith(f"{more.scores['concepts_2'].value:.2f} [")
    assert fractions[2].startswith(f"{more.fractions['concepts_2'].value:.2f} [")
    assert marks[1] == other[2] == "–"
    _, groups, none = _rows(page, "## Paraphrases")
    assert groups[3] == f"{more.lucky_groups:.2f}" and none[1:] == ["–"] * 4


def test_what_has_no_place_on_the_page():
    with pytest.raises(ValueError, match="there are no results"):
        leaderboard_page({})
    with pytest.raises(ValueError, match="short has no overall score, for want of .*counting"):
        leaderboard_page({"short": _result(0.9, tasks=GENEVAL_TASKS[:2])})
    with pytest.raises(ValueError, match=r"a \(n 40, seed 0\) and b \(n 40, seed 7\)"):
        leaderboard_page({"a": GOOD, "b": _result(0.9, seed=7)})


# --- files ---


def _save(result: EvalResult, path: Path) -> str:
    return str(result.save(path)[1])


def test_files_have_names(tmp_path):
    named = _save(replace(GOOD, name="mine | best"), tmp_path / "a")
    plain = _save(POOR, tmp_path / "plain")
    folder = _save(ALIKE, tmp_path / "cvae" / "exact_eval")
    found = load_results([named, plain, folder, f"other={plain}"])
    assert list(found) == ["mine | best", "plain", "cvae", "other"]
    assert found["plain"] == POOR
    assert r"mine \| best" in leaderboard_page(found)
    with pytest.raises(ValueError, match=r"two results are named 'plain'; give one as NAME="):
        load_results([plain, plain])


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"results": [], "seed": 0})])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json holds no results .*`vislm evaluate -o`"):
        load_results([str(tmp_path / "x.json")])
    with pytest.raises(FileNotFoundError, match="nothing.json does not exist"):
        load_results([str(tmp_path / "nothing.json")])


def test_the_script_writes_the_page(tmp_path, monkeypatch, capsys):
    files = [_save(GOOD, tmp_path / "good"), _save(POOR, tmp_path / "poor")]
    output = tmp_path / "new" / "leaderboard.md"
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", *files, "-o", str(output)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    page = output.read_text()
    assert page.startswith(leaderboard_page(load_results(files)))
    assert "Made by `python benchmarks/leaderboard.py" in page
    files.append(_save(_result(0.9, seed=5), tmp_path / "other"))
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", *files])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "answer to different prompts" in capsys.readouterr().err


def test_the_books_page_is_made_of_the_books_files(tmp_path, monkeypatch):
    output = tmp_path / "leaderboard.md"
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", "-o", str(output)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    stored = (SCRIPT.parents[1] / "book" / "08_trends" / "leaderboard.md").read_text()
    fresh, stored = (text.split("\nMade by")[0] for text in (output.read_text(), stored))
    assert fresh == stored, "run python benchmarks/leaderboard.py -o book/08_trends/leaderboard.md"


def test_no_interval_is_sold_as_certainty():
    page = leaderboard_page({"all right": _result(1.0)})
    assert "1.000 - 1.000" in page and "it could as well be 8 % that differ" in page
