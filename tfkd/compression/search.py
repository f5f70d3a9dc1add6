"""The search for a student: many trained briefly, few for longer, the smallest that is good enough.

candidates ─► those whose files meet the target ─► trials, many ended early ─► front
front ─► the first to finish, under other losses too ─► finished, one by one, until one will do
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any

from tfkd.comparison import methods
from tfkd.comparison.search import optuna
from tfkd.compression.candidates import Candidate
from tfkd.compression.costing import affordable
from tfkd.compression.finished import Finished
from tfkd.compression.finishing import LOSSES, Finisher
from tfkd.compression.front import Trial, order_of, spread_out
from tfkd.compression.recipe import Recipe
from tfkd.compression.rehearsal import Costs
from tfkd.errors import (
    TfkdError,
)

#: Largest share of a budget before the finishing of students.
_SHARE = 0.5
#: Most candidates to finish until one meets the target and its file verifies, without a budget.
_ATTEMPTS = 3


def smallest(finisher: Finisher) -> tuple[list[Trial], Finished]:
    """Return all trials and the finished student: the smallest that meets the target.

    The validation part is a sample: a drop that is met by less than its standard error may as
    likely as not be missed on the test part. If no finished student has more to spare, the one with
    the best validation score is returned. A warning names a student that could not be finished
    after another.

    Raises:
        InputError: if no candidate's file is small enough (the message gives the smallest), or the
            budget is too short for one student.
        MissingDependencyError: without Optuna.
    """
    optuna()  # raises if Optuna is missing
    finisher.check_teacher()
    fitting = affordable(finisher)
    trials = _tried(finisher, fitting)
    order = order_of(finisher, trials)
    others, order[0] = _under_other_losses(finisher, order[0])
    best, seconds = None, 0.0
    most = _ATTEMPTS if finisher.clock.seconds is None else len(order)
    for attempt, trial in enumerate(order[:most]):
        if attempt and finisher.clock.left < seconds:
            break
        start = finisher.clock.spent
        finisher.progress(f"finishing {trial.said}", 1, 1)
        taught = {} if trial.method is None else trial.method.settings
        recipe = dataclasses.replace(finisher.recipe, bits=trial.costs.bits, **taught)
        try:
            finished = finisher.finished(trial.candidate.model, recipe)
        except TfkdError as error:
            if best is None:
                raise
            warnings.warn(f"{trial.said} could not be finished: {error}", stacklevel=3)
            break
        seconds = finisher.clock.spent - start
        if best is None or finished.is_better(best[1]):
            best = trial, finished
        if finished.meets(finisher.goal):
            best = trial, finished
            break
    trials = [
        dataclasses.replace(one, chosen=one is best[0])
        for one in sorted([*trials, *others], key=lambda one: one.costs.bytes)
    ]
    return trials, best[1]


def _tried(finisher: Finisher, fitting: list[tuple[Candidate, Costs]]) -> list[Trial]:
    """Train the candidates, and stop early those that a smaller one outperforms.

    Raises:
        TfkdError: if none of them can be trained: the reason of the first.

    Warns:
        UserWarning: for a candidate that can't be trained, as it diverges.
    """
    from tfkd.compression.dominated import BYTES, Dominated

    package, epochs = optuna(), _epochs(finisher.recipe)
    trials: list[Trial] = []
    failed: list[TfkdError] = []
    with _quiet(package):
        study = package.create_study(direction="maximize", pruner=Dominated(epochs))
        for number, (candidate, costs) in enumerate(spread_out(fitting)):
            if (trials or failed) and finisher.clock.is_past(_SHARE):
                break
            finisher.progress("search", number, len(fitting))
            trial = study.ask()
            trial.set_user_attr(BYTES, costs.bytes)
            rivals = [one for one in trials if one.costs.bytes <= costs.bytes]
            try:
                scores = _trained(finisher, candidate, epochs, trial, rivals)
            except TfkdError as error:
                study.tell(trial, state=package.trial.TrialState.FAIL)
                failed.append(error)
                warnings.warn(f"{candidate.name} was left out: {error}", stacklevel=4)
                continue
            if len(scores) < epochs:
                study.tell(trial, state=package.trial.TrialState.PRUNED)
            else:
                study.tell(trial, scores[-1])
            metric = finisher.scale.metric(candidate.model)
            trials.append(Trial(candidate, costs, scores[-1], len(scores), metric=metric))
            if trials[-1] == max(trials, key=lambda one: one.score):
                finisher.progress(f"best so far: {trials[-1].said}", 1, 1)
        finisher.progress("search", len(fitting), len(fitting))
    if not trials:
        raise failed[0]
    return trials


def _epochs(recipe: Recipe) -> int:
    """Return the number of epochs of a whole trial."""
    return recipe.search_epochs or max(1, recipe.epochs // 4)


@contextlib.contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Keep Optuna from printing a line per trial."""
    before = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.WARNING)
    try:
        yield
    finally:
        package.logging.set_verbosity(before)


def _under_other_losses(finisher: Finisher, trial: Trial) -> tuple[list[Trial], Trial]:
    """Train a student again with the losses that `compare` tries by default.

    It tries none if the recipe names a loss, for regression (an error has no standard error), for
    several outputs, if none could be ahead, and if the search has used up its share of the budget.

    Returns:
        The trials, and the best: the given one, unless another is ahead of it by more than a
        standard error of its score.
    """
    recipe, candidate = finisher.recipe, trial.candidate
    taught = any(getattr(recipe, name) is not None for name in LOSSES)
    if trial.metric != "accuracy" or taught:
        return [], trial
    found: list[Trial] = []
    task = finisher.trainer.task(candidate.model)
    several, _ = methods.resolve(None, task, int(candidate.model.output_shape[-1]))
    several = [one for one in several if one.settings]  # neither "alone" nor the recipe's loss
    count = len(finisher.trainer.data.validation)
    wanted = trial.score + math.sqrt(trial.score * (1 - trial.score) / count)
    if wanted >= 1:
        return [], trial
    for number, method in enumerate(several):
        if finisher.clock.is_past(_SHARE):
            break
        finisher.progress("losses", number, len(several))
        try:
            scores = _trained(finisher, candidate, trial.epochs, None, [], method)
        except TfkdError as error:
            warnings.warn(f"The loss {method.name!r} was left out: {error}", stacklevel=4)
            continue
        found.append(Trial(candidate, trial.costs, scores[-1], len(scores), method=method))
    finisher.progress("losses", len(several), len(several))
    best = max(found, key=lambda one: one.score, default=trial)
    return found, best if best.score > wanted else trial


def _trained(
    finisher: Finisher,
    candidate: Candidate,
    epochs: int,
    trial: Any,
    earlier: list[Trial],
    method: methods.Method | None = None,
) -> list[float]:
    """Return the validation score after each epoch, until the pruner stops the training.

    Args:
        finisher: The `Finisher` with data, teacher and recipe.
        candidate: The candidate; the training uses a copy.
        epochs: The most epochs.
        trial: Optuna's trial, which may stop the training; `None` trains to the end.
        earlier: The trials that the pruner compares with: those of equal or smaller size.
        method: The distillation method, if not the recipe's loss.
    """
    student, own = finisher.copied(candidate.model), finisher.recipe.callbacks
    scores: list[float] = []

    def callbacks(stage: str, package: Any) -> list[Any]:
        def told(epoch: int, logs: dict[str, float]) -> None:
            learner = getattr(tick.model, "student", tick.model)
            scores.append(finisher.scale.score(learner, logs))
            if trial is None:
                return
            trial.report(scores[-1], len(scores))
            if len(scores) < epochs and trial.should_prune():
                tick.model.stop_training = True

        tick = package.callbacks.LambdaCallback(on_epoch_end=told)
        return [tick, *(own(stage, package) if own else ())]

    settings = {} if method is None else method.settings
    training = dataclasses.replace(
        finisher.recipe, epochs=epochs, callbacks=callbacks, patience=None, **settings
    )
    stage = f"search {candidate.name}{'' if method is None else f' by {method.name}'}"

    def make() -> dict[str, list[float]]:
        finisher.teach(stage, student, training)
        return {"scores": scores}

    # Its end depends on the trials before it.
    beside = [(one.candidate.name, one.score, one.epochs) for one in earlier]
    losses = {name: getattr(training, name) for name in LOSSES}
    inputs = finisher.keys.of(
        candidate.model, training=finisher.keys.trained_by(training), beside=beside, **losses
    )
    kept: list[float] = finisher.stages.once(stage, inputs, make)["scores"]
    if trial is not None and not scores:  # epochs of an earlier run
        for step, score in enumerate(kept, 1):
            trial.report(score, step)
    return kept
