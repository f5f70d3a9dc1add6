"""Optuna's search over method, alpha and temperature, by the validation score of one seed."""

from __future__ import annotations

import dataclasses

from tfkd import losses
from tfkd.comparison.methods import Method
from tfkd.comparison.runs import Runner
from tfkd.errors import InputError, MissingDependencyError

_ALPHA, _TEMPERATURE = (0.0, 0.9), (1.0, 16.0)
#: Name of the progress stage.
STAGE = "search"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of the search.

    Attributes:
        method: The method whose other settings it uses.
        alpha: Weight of the hard loss.
        temperature: Softening; `None` if the loss has none.
        validation: Score of the first seed; `None` if training failed.
    """

    method: str
    alpha: float
    temperature: float | None
    validation: float | None


def optuna():
    """Return the `optuna` package.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError(
            f"A search needs Optuna ({error}): install it with `pip install 'tfkd[compare]'`."
        ) from error
    return optuna


def search(runner: Runner, methods: list[Method], seed: int, count: int):
    """Return the best method found, with its alpha and temperature, and all trials.

    The same seed and scores give the same trials, so an interrupted search continues from the runs
    that the runner's store holds.

    Args:
        runner: Trains and scores.
        methods: The methods whose alpha and temperature to search; methods without a teacher are
            left out.
        seed: Seed of the students and of Optuna.
        count: Number of trials.

    Raises:
        InputError: if no method has a teacher, or every trial failed.
    """
    package = optuna()
    taught = {one.name: one for one in methods if one.settings is not None}
    if not taught:
        raise InputError("The search needs a method with a teacher, and all were left out.")
    before = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.WARNING)
    try:
        study = package.create_study(
            direction="minimize" if runner.is_error else "maximize",
            sampler=package.samplers.TPESampler(seed=seed, multivariate=False),
        )
        return _run(study, package, runner, taught, seed, count)
    finally:
        package.logging.set_verbosity(before)


def _run(study, package, runner, taught, seed, count):
    trials, best = [], None
    for number in range(count):
        trial = study.ask()
        method = _suggested(trial, taught, runner.task)
        key = runner.store.key(method, seed)
        is_new = runner.store.find(key) is None
        run = runner.run(method, seed, STAGE, number, count)
        settings = method.settings
        trials.append(
            Trial(method.name, settings["alpha"], settings.get("temperature"), run.validation)
        )
        if run.validation is None:
            study.tell(trial, state=package.trial.TrialState.FAIL)
            continue
        study.tell(trial, run.validation)
        if best is None or runner.is_better(run.validation, best[0]):
            if best is not None and best[3]:
                runner.store.forget(best[2])
            best = run.validation, method, key, is_new
        elif is_new:
            runner.store.forget(key)
    if best is None:
        raise InputError(f"All {count} trials of the search failed: {run.error}")
    found = dataclasses.replace(best[1], name=f"{best[1].name} (search)")
    return found, tuple(trials)


def _suggested(trial, taught: dict[str, Method], task: str) -> Method:
    base = taught[trial.suggest_categorical("method", list(taught))]
    settings = dict(base.settings) | {"alpha": round(trial.suggest_float("alpha", *_ALPHA), 3)}
    # With a temperature, "auto" would select another loss than the method's.
    given = settings.get("soft_loss", "auto"), settings.get("temperature")
    settings["soft_loss"] = losses.resolve(*given)
    if base.uses_temperature(task):
        temperature = trial.suggest_float("temperature", *_TEMPERATURE, log=True)
        settings["temperature"] = round(temperature, 2)
    return Method(base.name, settings)
