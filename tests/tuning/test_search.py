"""A search: seeds, pruning, what diverges, what is killed, and which setting mattered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from search_toy import SPACE, Objective

import vislm_tutorial
from vislm_tutorial.fusion import FusionConfig
from vislm_tutorial.generators import FlowConfig
from vislm_tutorial.training.recipe import load_recipe
from vislm_tutorial.tuning.search import (
    RecipeObjective,
    SearchConfig,
    ended_trials,
    importances,
    open_study,
    search,
    trial_folder,
    with_settings,
)

TRIALS = 7
CONFIG = SearchConfig(trials=TRIALS, startup=3, seed=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> optuna.Study:
    """A search that nobody touched."""
    return search(Objective(), SPACE, CONFIG, tmp_path_factory.mktemp("whole"))


def outcome(study: optuna.Study) -> list[tuple]:
    return [(t.params, t.state, t.intermediate_values) for t in ended_trials(study)]


def test_every_trial_ends_and_the_best_is_found(whole):
    assert len(ended_trials(whole)) == TRIALS
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in whole.trials)
    best = whole.best_trial
    assert best.value == min(t.value for t in whole.trials if t.state == TrialState.COMPLETE)
    assert best.params.keys() == SPACE.keys()


def test_a_rate_that_diverges_is_pruned_and_says_why(whole):
    diverged = [t for t in whole.trials if "diverged" in t.user_attrs]
    assert diverged and all(t.state == TrialState.PRUNED for t in diverged)
    assert all("must be finite" in t.user_attrs["diverged"] for t in diverged)
    assert min(t.params["learning_rate"] for t in diverged) > 0.5


def test_the_same_seed_searches_the_same_and_another_does_not(whole, tmp_path):
    again = search(Objective(), SPACE, CONFIG, tmp_path / "again")
    assert outcome(again) == outcome(whole)
    other = search(Objective(), SPACE, SearchConfig(trials=2, seed=2), tmp_path / "other")
    assert other.trials[0].params != whole.trials[0].params


@pytest.mark.parametrize("die_in", [2, 8])
def test_killed_it_goes_on_to_the_same_trials(whole, tmp_path, die_in):
    script = Path(__file__).with_name("search_toy.py")
    child = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(TRIALS), str(die_in)],
        env={"PYTHONPATH": str(Path(vislm_tutorial.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL
    before = open_study(tmp_path)
    assert [t.state for t in before.trials].count(TrialState.RUNNING) == 1
    objective = Objective()
    after = search(objective, SPACE, CONFIG, tmp_path)
    states = [t.state for t in after.trials]
    assert states.count(TrialState.FAIL) == 1 and TrialState.RUNNING not in states
    killed = next(t for t in after.trials if t.state == TrialState.FAIL)
    assert objective.folders[0] == killed.user_attrs["folder"], "it takes up the same run"
    assert outcome(after) == outcome(whole)


@pytest.mark.parametrize("die_in", [1, 2])
def test_a_signal_stops_the_search_and_the_half_trained_trial_is_no_result(whole, tmp_path, die_in):
    with pytest.raises(KeyboardInterrupt, match=f"after {4 * die_in} of 12 steps"):
        search(Objective(die_in, signal.SIGINT), SPACE, CONFIG, tmp_path)
    states = [t.state for t in open_study(tmp_path).trials]
    assert states[-1] == TrialState.RUNNING and TrialState.COMPLETE not in states
    assert outcome(search(Objective(), SPACE, CONFIG, tmp_path)) == outcome(whole)


def test_killed_between_a_runs_end_and_its_trials_it_takes_the_runs_value(whole, tmp_path):
    toy = Objective()

    def killed(settings, run_dir, report) -> float:
        toy(settings, run_dir, report)
        raise KeyboardInterrupt  # the run is finished, its value was told to nobody

    with pytest.raises(KeyboardInterrupt):
        search(killed, SPACE, CONFIG, tmp_path)
    assert outcome(search(Objective(), SPACE, CONFIG, tmp_path)) == outcome(whole)


def test_more_trials_may_be_asked_for_later(whole, tmp_path):
    search(Objective(), SPACE, SearchConfig(trials=3, startup=3, seed=1), tmp_path)
    assert outcome(search(Objective(), SPACE, CONFIG, tmp_path)) == outcome(whole)
    objective = Objective()
    search(objective, SPACE, CONFIG, tmp_path)
    assert not objective.folders, "all that was asked for has run"


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search(Objective(), SPACE, SearchConfig(trials=1), tmp_path)
    with pytest.raises(ValueError, match="seed 0, this one has 1"):
        search(Objective(), SPACE, SearchConfig(trials=1, seed=1), tmp_path)
    wider = SPACE | {"learning_rate": FloatDistribution(1e-9, 1.0, log=True)}
    with pytest.raises(ValueError, match="learning_rate"):
        search(Objective(), wider, SearchConfig(trials=1), tmp_path)
    for other in ({"pruner": "none"}, {"startup": 2}, {"sampler": "random"}):
        with pytest.raises(ValueError, match=f"with {next(iter(other))} "):
            search(Objective(), SPACE, SearchConfig(trials=1, **other), tmp_path)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path):
    def objective(recipe):
        of_recipe = curves([[1.0]] * 9)
        of_recipe.recipe = recipe
        return of_recipe

    recipe = load_recipe("quick")
    search(objective(recipe), SPACE, SearchConfig(trials=1), tmp_path)
    search(objective(load_recipe("quick")), SPACE, SearchConfig(trials=2), tmp_path)
    other = with_settings(recipe, {"training.batch_size": 7})
    with pytest.raises(ValueError, match="with recipe"):
        search(objective(other), SPACE, SearchConfig(trials=3), tmp_path)


def curves(values: list[list[float]]):
    """An objective whose n-th trial reports the n-th list."""
    left = iter(values)

    def objective(settings, run_dir, report) -> float:
        for step, value in enumerate(mine := next(left)):
            report(step, value)
        return mine[-1]

    return objective


def test_the_median_prunes_from_the_first_report_that_is_worse(tmp_path):
    config = SearchConfig(trials=4, startup=2, sampler="random")
    values = [[5, 4, 3], [9, 8, 7], [6, 5, 1], [8, 0, 0]]
    study = search(curves(values), SPACE, config, tmp_path)
    states = [t.state for t in study.trials]
    # Medians of the first two: 7, 6, 5. The third stays below, the fourth is above at once.
    assert states == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert study.trials[3].intermediate_values == {0: 8}
    assert trial_folder(tmp_path, study.trials[3]) == tmp_path / "trial-0003"


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
def test_without_the_median_another_rule_holds(tmp_path, pruner):
    config = SearchConfig(trials=4, startup=2, sampler="random", pruner=pruner)
    values = [[5, 4, 3], [9, 8, 7], [6, 5, 1], [8, 0, 0]]
    study = search(curves(values), SPACE, config, tmp_path)
    assert len(ended_trials(study)) == 4
    if pruner == "none":
        assert [t.value for t in study.trials] == [3, 7, 1, 0]


def test_what_is_no_number_counts_as_diverged_but_other_errors_are_raised(tmp_path):
    study = search(curves([[1.0], [float("nan")]]), SPACE, SearchConfig(trials=2), tmp_path / "nan")
    assert study.trials[1].state == TrialState.PRUNED
    assert "nan" in study.trials[1].user_attrs["diverged"]

    def broken(settings, run_dir, report) -> float:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        search(broken, SPACE, SearchConfig(trials=2), tmp_path / "bug")


def test_importance_belongs_to_the_setting_that_matters(tmp_path):
    def objective(settings, run_dir, report) -> float:
        return abs(torch.tensor(settings["learning_rate"]).log10().item() + 1)

    config = SearchConfig(trials=30, sampler="random")
    shares = importances(search(objective, SPACE, config, tmp_path))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.7


def test_settings_are_named_by_their_path():
    recipe = load_recipe("quick")
    other = with_settings(recipe, {"training.learning_rate": 0.5, "caption_dropout": 0.3})
    assert (other.training.learning_rate, other.caption_dropout) == (0.5, 0.3)
    assert other.training.steps == recipe.training.steps
    assert recipe.training.learning_rate != 0.5
    with pytest.raises(ValueError, match="no setting 'learning_rte'; it has steps"):
        with_settings(recipe, {"training.learning_rte": 0.5})


def test_a_recipe_is_an_objective_that_reports_and_takes_up_its_run(tmp_path, monkeypatch):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))
    small = {
        "data.size": 40,
        "generator": FlowConfig(backbone="dit", width=16, depth=1, heads=2, patch_size=4),
        "fusion": FusionConfig(kind="pooled", width=16, heads=2),
        "training.steps": 3,
        "training.batch_size": 4,
        "training.validate_every": 1,
    }
    objective = RecipeObjective(with_settings(load_recipe("quick"), small))
    said = []

    def report(step: int, value: float) -> None:
        said.append((step, value))
        if len(said) == 2:
            raise KeyboardInterrupt  # the second step's checkpoint is not written yet

    settings = {"training.learning_rate": 1e-2, "training.checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        objective(settings, tmp_path / "run", report)
    final = objective(settings, tmp_path / "run", report)
    assert [step for step, _ in said] == [1, 2, 2, 3], "the second step is validated again"
    assert said[1] == said[2] and final == said[-1][1]
    assert objective(settings, tmp_path / "run", report) == final and len(said) == 4
    other = tmp_path / "other"
    assert objective(settings, other, lambda *_: None) == final

    def stop(step: int, value: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="after 1 of 3 steps"):
        objective(settings, tmp_path / "stopped", stop)
    rising = settings | {"training.learning_rate": 3.0, "training.patience": 1}
    seen = []
    best = objective(rising, tmp_path / "rising", lambda step, value: seen.append(value))
    assert best == min(seen) < seen[-1], "early stopping keeps the best weights"
    for name in ("data.size", "encoder.layers", "autoencoder_from", "weights_from"):
        with pytest.raises(ValueError, match=f"{name} cannot be searched"):
            objective({name: 1}, tmp_path / "prepared", report)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"autoencoder_from": ""}, "train an autoencoder"),
        ({"training.validate_every": 0}, "nothing to compare by"),
        ({"weights_from": "bundled"}, "cannot use it"),
    ],
)
def test_a_recipe_that_no_trial_can_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RecipeObjective(with_settings(load_recipe("quick"), settings))


@pytest.mark.parametrize("field", ["trials", "startup"])
def test_numbers_of_trials_are_checked(field):
    with pytest.raises(ValueError, match=f"{field} is 0"):
        SearchConfig(**{field: 0})


def test_without_optuna_it_says_what_to_install(tmp_path):
    with patch.dict(sys.modules, {"optuna": None}), pytest.raises(ImportError, match=r"\[search\]"):
        search(Objective(), SPACE, CONFIG, tmp_path)
