"""The search for a student: many trained briefly, few for longer, the smallest that is good enough.

candidates ─► those whose files meet the target ─► trials, many ended early ─► front
front ─► the first to finish, under other losses too ─► finished, one by one, until one will do
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator
from typing import Any

from tfkd.comparison import methods
from tfkd.comparison.search import optuna
from tfkd.compression.candidates import Candidate, Family, families
from tfkd.compression.finished import Finished
from tfkd.compression.finishing import LOSSES, Finisher
from tfkd.compression.front import Trial, order_of
from tfkd.compression.missed import Missed
from tfkd.compression.recipe import Recipe
from tfkd.compression.rehearsal import Costs, main_format, rehearse
from tfkd.compression.settings import trained_by
from tfkd.errors import InputError, MissingDependencyError, TfkdError, UnsupportedError
from tfkd.model.fingerprint import fingerprint

#: Largest share of a budget before the finishing of students.
_SHARE = 0.5
#: Largest share of a budget before candidates are trained; one of each kind is costed in any case.
_COSTING = 0.2
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
    fitting = _fitting(finisher)
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


def _fitting(finisher: Finisher) -> list[tuple[Candidate, Costs]]:
    """Return the candidates to train: some of each family whose files meet the target."""
    recipe, data = finisher.recipe, finisher.trainer.data
    x, keeps_masks = data.train.head(256).x, "int8" not in recipe.formats
    several = families(finisher.teacher, x, recipe.seed, finisher.end_of, keeps_masks, data.outputs)
    missed = Missed()
    for family in several:
        try:
            finisher.check(family.largest.model)
        except TfkdError as error:
            missed.refused[family.kind] = error
    if len(missed.refused) == len(several):  # the data does not fit, and not a student
        raise next(iter(missed.refused.values()))
    several = [one for one in several if one.kind not in missed.refused]
    quota = -(-recipe.candidates // len(several))
    found = list[list[tuple[Candidate, Costs]]]()
    for done, family in enumerate(several):
        finisher.progress("candidates", done, len(several))
        found.append(_of_a_family(finisher, family, x[:32], quota, missed))
    finisher.progress("candidates", len(several), len(several))
    dealt = [one for row in itertools.zip_longest(*found) for one in row if one is not None]
    if not dealt:
        raise InputError(missed.in_words(finisher.goal))
    # Two ways to cut the teacher may end in one student.
    different: dict[str, tuple[Candidate, Costs]] = {}
    for candidate, costs in dealt:
        different.setdefault(fingerprint(candidate.model.get_weights()), (candidate, costs))
    return list(different.values())[: recipe.candidates]


def _of_a_family(
    finisher: Finisher, family: Family, x, quota: int, missed: Missed
) -> list[tuple[Candidate, Costs]]:
    """Return the largest student that meets the target, then smaller ones far from the others."""
    fitting: dict[int, tuple[Candidate, Costs]] = {}
    tried, met = set[int](), dict[int, bool]()

    def meets(at: int) -> bool:
        """Cost the student of a size; tell whether larger ones may meet the target too."""
        tried.add(at)
        candidate = family.candidate(family.sizes[at])
        if candidate is None:
            return True
        if candidate.parameters not in met:  # channels go in fours, so two sizes may be one
            costs = _costs_within(finisher, candidate, x, missed)
            if costs is not None:
                fitting[at] = candidate, costs
            met[candidate.parameters] = costs is not None
        return met[candidate.parameters]

    def is_over() -> bool:
        late = bool(fitting) and _is_late(finisher, _COSTING)
        return late or family.kind in missed.refused

    low, high = 0, len(family.sizes)
    at = high - 1
    while low < high and not is_over():
        low, high = (at + 1, high) if meets(at) else (low, at)
        at = (low + high) // 2
    chosen = [max(fitting)] if fitting else []
    while chosen and len(chosen) < quota:
        rest = [at for at in range(chosen[0]) if at not in chosen]
        rest = [at for at in rest if at in fitting or (at not in tried and not is_over())]
        if not rest:
            break
        at = max(rest, key=lambda at: min(abs(at - one) for one in (-1, *chosen)))
        if at not in fitting:
            meets(at)
        if at in fitting:
            chosen.append(at)
    return [fitting[at] for at in chosen]


def _costs_within(finisher: Finisher, candidate: Candidate, x, missed: Missed) -> Costs | None:
    """Return the costs of a candidate's file if it meets the target and is below the teacher."""
    recipe = finisher.recipe
    if candidate.parameters >= finisher.teacher_parameters:
        missed.larger = True
        return None
    inputs = finisher.inputs(
        candidate.model,
        goal=finisher.goal.limits,
        board=finisher.goal.needs_arena,
        flash=finisher.goal.board and finisher.goal.board.flash_bytes,
        format=main_format(recipe),
        bits=recipe.bits,
        threads=recipe.threads,
    )
    kept = finisher.stages.once(
        f"costs of {candidate.name}", inputs, lambda: _costs(finisher, candidate, x)
    )
    if isinstance(kept.get("refused"), str):
        missed.refused[candidate.kind] = UnsupportedError(kept["refused"])
        return None
    costs = Costs(**kept)
    problems = finisher.goal.unmet(costs)
    if costs.bytes >= finisher.teacher_bytes:
        problems.append(
            f"bytes: {costs.bytes:,}, but the teacher's file has {finisher.teacher_bytes:,}"
        )
    if problems:
        missed.problems.append((costs, problems))
        return None
    return costs


def _costs(finisher: Finisher, candidate: Candidate, x) -> dict[str, Any]:
    try:
        formats = (main_format(finisher.recipe),)
        return rehearse(candidate.model, x, finisher.recipe, finisher.goal, formats).to_json()
    except MissingDependencyError:
        raise
    except TfkdError as error:
        return {"refused": str(error)}


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
        for number, (candidate, costs) in enumerate(_spread(fitting)):
            if (trials or failed) and _is_late(finisher):
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


def _is_late(finisher: Finisher, share: float = _SHARE) -> bool:
    """Tell whether the search has used up its share of the budget."""
    seconds = finisher.clock.seconds
    return seconds is not None and finisher.clock.spent > share * seconds


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
        if _is_late(finisher):
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


def _spread(fitting: list[tuple[Candidate, Costs]]) -> list[tuple[Candidate, Costs]]:
    """Return the candidates in an order whose every beginning covers all sizes."""
    rest = sorted(fitting, key=lambda one: one[1].bytes)
    spread = [rest.pop(0)] + ([rest.pop()] if rest else [])
    while rest:
        # Next, the one whose ratio of bytes to all earlier ones is largest.
        gaps = [
            min(abs(math.log(one[1].bytes / other[1].bytes)) for other in spread) for one in rest
        ]
        spread.append(rest.pop(gaps.index(max(gaps))))
    return spread


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
    inputs = finisher.inputs(
        candidate.model, training=trained_by(training), beside=beside, **losses
    )
    kept: list[float] = finisher.stages.once(stage, inputs, make)["scores"]
    if trial is not None and not scores:  # epochs of an earlier run
        for step, score in enumerate(kept, 1):
            trial.report(score, step)
    return kept
