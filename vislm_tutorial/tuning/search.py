"""Searching for good settings: Optuna proposes, the training loop reports, the worse half stops.

A search is a folder: `study.db` (SQLite) and one run folder a trial. What the n-th trial tries is a
function of the seed, n and the trials before it, and a trial is a resumable run, so a search that
was killed goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..training.config import TrainingConfig
from ..training.data import derive_seed

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from ..training.recipe import Recipe
    from ..training.state import TrainingResult

Report = Callable[[int, float], None]  # (step, validation value): may raise optuna.TrialPruned
Objective = Callable[[dict[str, Any], Path, Report], float]
_T = TypeVar("_T")
# What `RecipeObjective` prepares for all trials, or has none of.
_PREPARED = (
    *("data", "encoder", "autoencoder", "autoencoder_from", "autoencoder_training"),
    *("codebook", "codebook_training", "weights_from", "weights_of", "freeze", "tuning"),
)


@dataclass(frozen=True)
class SearchConfig:
    """How to search. A trial is one training run with settings of its own.

    Raises:
        ValueError: for a number out of its range.
    """

    trials: int = 20  # that end: well, pruned or diverged; one that was killed is run again
    sampler: Literal["tpe", "random"] = "tpe"  # Bergstra et al. 2011, or independent draws
    startup: int = 5  # trials drawn at random, and none pruned, before anything is compared
    pruner: Literal["median", "hyperband", "none"] = "median"  # hyperband: Li et al. 2018
    seed: int = 0  # of what is drawn, not of the runs: these have the recipe's

    def __post_init__(self) -> None:
        for name in ("trials", "startup"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"SearchConfig.{name} is {getattr(self, name)}; expected at least 1."
                )


def search(
    objective: Objective,
    space: Mapping[str, BaseDistribution],
    config: SearchConfig,
    folder: str | Path,
) -> optuna.Study:
    """Runs trials until `config.trials` have ended, those of earlier calls included.

    Only one process at a time may search in a folder. A trial found half done there was killed: it
    is marked failed and run again, with the same settings and in the same run folder.

    Args:
        objective: settings, the trial's folder and `report` -> the final value; lower is better.
            It calls report(step, value) as it goes; a hopeless trial is ended there by an
            exception that it lets pass. A FloatingPointError, or a value that is not finite,
            counts as pruned: the sampler learns to stay away. Its `recipe`, if it has one, tells
            one search from another.
        space: setting -> optuna distribution.

    Raises:
        ImportError: without optuna.
        KeyboardInterrupt: if a signal, or its time limit, stopped a trial's run; the next call
            takes it up.
        ValueError: if the folder holds a search of another space, recipe, pruner or seed.
    """
    optuna = _optuna()
    folder = Path(folder)
    study = open_study(folder)
    _check_same_search(study, objective, space, config)
    _repeat_killed(study)
    while (ended := len(ended_trials(study))) < config.trials:
        # A sampler's own random state is not in the file: a search that was taken up again would
        # draw its first settings once more.
        seed = derive_seed("search", config.seed, ended) % 2**32
        study.sampler = _sampler(config, seed)
        study.pruner = _pruner(config)
        trial = study.ask(dict(space))
        trial.set_user_attr("folder", trial.user_attrs.get("folder", f"trial-{trial.number:04d}"))
        try:
            value = objective(trial.params, trial_folder(folder, trial), _reporter(trial))
            if not math.isfinite(value):
                raise FloatingPointError(f"the objective is {value}")
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except FloatingPointError as problem:
            trial.set_user_attr("diverged", str(problem))
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return study


def open_study(folder: str | Path) -> optuna.Study:
    """The study kept in `folder`, with whatever trials it has; a new one if there is none."""
    optuna = _optuna()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name="search",
        storage=f"sqlite:///{folder / 'study.db'}",
        load_if_exists=True,
    )


def ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that ended by themselves: complete, pruned or diverged, not killed."""
    states = _optuna().trial.TrialState
    return study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))


def trial_folder(folder: str | Path, trial: optuna.trial.BaseTrial) -> Path:
    """Where a trial's run is."""
    return Path(folder) / trial.user_attrs["folder"]


def importances(study: optuna.Study) -> dict[str, float]:
    """Setting -> its share of what separates the better trials from the rest; they add up to 1.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023) over the better quarter of the complete trials.
    """
    optuna = _optuna()
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def with_settings(config: _T, settings: Mapping[str, Any]) -> _T:
    """A (nested) dataclass with some fields replaced: {"training.learning_rate": 1e-3}.

    Raises:
        ValueError: for a name that it does not have.
    """
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        known = [field.name for field in fields(config)] if is_dataclass(config) else []
        if first not in known:
            raise ValueError(
                f"{type(config).__name__} has no setting {first!r}; it has {', '.join(known)}."
            )
        inner = with_settings(getattr(config, first), {rest: value}) if rest else value
        config = replace(config, **{first: inner})
    return config


class RecipeObjective:
    """The last stage of a recipe as an objective; data are prepared once, for all trials.

    The objective is the validation loss, on pictures that are kept apart: neither a loss on what
    was trained on, nor a score on the prompts of a test.

    Args:
        recipe: with a ready autoencoder (`autoencoder_from`) or none, fresh weights, a frozen
            language model, and `training.validate_every` above 0. A setting is named by its path:
            "training.learning_rate", "caption_dropout", "fusion.depth". What the data are made of
            ("data", "encoder", "autoencoder") stays as it is.

    Raises:
        ValueError: for another recipe, or for a setting that has to stay as it is.
    """

    def __init__(self, recipe: Recipe) -> None:
        from ..encoders import CachedEncoder, load_encoder
        from ..training.autoencoding import load_autoencoder
        from ..training.datasets import load_images, prepare_pictures, split_rows
        from ..training.text_to_image import build_model, validation_loss

        if recipe.autoencoder_from == "" and recipe.autoencoder is not None:
            raise ValueError(
                "autoencoder_from is '': each trial would train an autoencoder. Set it to a "
                "finished run or 'bundled', or autoencoder to null."
            )
        for name in ("tuning", "weights_from", "codebook"):
            if getattr(recipe, name):
                raise ValueError(
                    f"{name} is {getattr(recipe, name)!r}; a search cannot use it yet."
                )
        if not recipe.training.validate_every:
            raise ValueError("training.validate_every is 0, so there is nothing to compare by.")
        self.recipe = recipe
        images = load_images(recipe.data)
        self.rows, self.held = split_rows(len(images), recipe.data)
        self.captions = list(images.captions)
        encoder = load_encoder(recipe.encoder.name, layers=recipe.encoder.layers)
        self.encoder = CachedEncoder(encoder)
        self.encoder.encode_many([*dict.fromkeys(self.captions), ""], progress=False)
        source = recipe.autoencoder_from
        self.autoencoder = load_autoencoder(source) if source else None
        generator = build_model(recipe, self.encoder, self.autoencoder).generator
        self.pictures = prepare_pictures(images, generator.behind(self.autoencoder))
        kept_apart = [self.captions[row] for row in self.held]
        self.validate = validation_loss(self.pictures[self.held], kept_apart, self.encoder)

    def __call__(self, settings: dict[str, Any], run_dir: Path, report: Report) -> float:
        """The validation loss after training with `settings`."""
        from torch.utils.data import Subset

        from ..training.datasets import PreparedCaptions, first
        from ..training.loop import train
        from ..training.text_to_image import build_model

        for name in settings:
            if name.partition(".")[0] in _PREPARED:
                raise ValueError(
                    f"{name} cannot be searched: data, encoder and autoencoder were prepared once, "
                    "for all trials. Take it out of the space, and another folder."
                )
        recipe = with_settings(self.recipe, settings)

        def validate(model) -> dict[str, float]:
            result = self.validate(model)
            report(_step(run_dir, recipe.training), result["loss"])
            return result

        drop = recipe.caption_dropout
        result = train(
            build_model(recipe, self.encoder, self.autoencoder),
            Subset(PreparedCaptions(self.pictures, self.captions, self.encoder, drop), self.rows),
            recipe.training,
            run_dir,
            collate=first,
            validate=validate,
            progress=False,
        )
        return final_value(result, run_dir, recipe.training)


def final_value(result: TrainingResult, run_dir: Path, config: TrainingConfig) -> float:
    """What a trial's run came to: its last validation, or the best one with early stopping.

    Read from the run's folder: a run that had ended before its trial did is not validated again.

    Raises:
        KeyboardInterrupt: if the run was stopped on its way; the trial is no result then.
    """
    from ..training.recipe import INTERRUPTED

    if result.stopped in INTERRUPTED:
        raise KeyboardInterrupt(
            f"{run_dir} was stopped after {result.step} of {config.steps} steps; the next call of "
            "search goes on from there."
        )
    return result.best_value if config.patience else _validations(run_dir)[-1]


def _validations(run_dir: Path) -> list[float]:
    """The deciding numbers of a run's validations so far, a resumed run's too."""
    log = run_dir / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    values = [
        [v for k, v in json.loads(line).items() if k.startswith("validation/")] for line in lines
    ]
    return [found[0] for found in values if found]


def _step(run_dir: Path, config: TrainingConfig) -> int:
    """The step of the validation under way: the log holds those before it."""
    return min((len(_validations(run_dir)) + 1) * config.validate_every, config.steps)


def _reporter(trial: optuna.Trial) -> Report:
    """What the objective calls; a trial that is run again begins with what it had reported."""
    reported = {int(step): value for step, value in trial.user_attrs.get("reported", {}).items()}
    for step, value in reported.items():
        trial.report(value, step)

    def report(step: int, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(f"step {step}: the validation value is {value}")
        if step not in reported:  # a run that was killed may validate its last step again
            trial.report(value, step)
        if trial.should_prune():
            raise _optuna().TrialPruned

    return report


def _repeat_killed(study: optuna.Study) -> None:
    """Marks trials that were under way as failed, and puts them first in the queue."""
    states = _optuna().trial.TrialState
    for killed in study.get_trials(states=(states.RUNNING,)):
        study.tell(killed.number, state=states.FAIL)
        if "folder" in killed.user_attrs:  # else it was killed before it began
            about = killed.user_attrs | {"reported": killed.intermediate_values}
            study.enqueue_trial(killed.params, user_attrs=about)


def _check_same_search(
    study: optuna.Study,
    objective: Objective,
    space: Mapping[str, BaseDistribution],
    config: SearchConfig,
) -> None:
    ours = {name: repr(distribution) for name, distribution in space.items()}
    ours |= {name: value for name, value in asdict(config).items() if name != "trials"}
    recipe = getattr(objective, "recipe", None)
    if recipe is not None:
        text = json.dumps(asdict(recipe), sort_keys=True)
        ours["recipe"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    theirs = study.user_attrs.get("search")
    if theirs is None:
        study.set_user_attr("search", ours)
    elif theirs != ours:
        names = sorted(theirs.keys() | ours.keys())
        name = next(name for name in names if theirs.get(name) != ours.get(name))
        raise ValueError(
            f"The folder holds a search with {name} {theirs.get(name)}, this one has "
            f"{ours.get(name)}; trials of the two cannot be compared. Take another folder."
        )


def _sampler(config: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    samplers = _optuna().samplers
    if config.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.TPESampler(seed=seed, n_startup_trials=config.startup)


def _pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    pruners = _optuna().pruners
    if config.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=config.startup)
    return pruners.HyperbandPruner() if config.pruner == "hyperband" else pruners.NopPruner()


def _optuna():
    try:
        import optuna
    except ImportError as error:
        raise ImportError("A search needs optuna: pip install 'vislm-tutorial[search]'.") from error
    return optuna
