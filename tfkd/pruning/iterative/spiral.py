"""`spiral`: prune a little, distil, and go on from the student, until a target is met.

original ─► prune ─► distil ─► measure ─► keep, or step back ─► prune ─► ...
                        ▲ taught by the original, by the last student, or by both
"""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from tfkd._renamed import with_old_keywords
from tfkd.compression import trainer as training
from tfkd.data import Data
from tfkd.distillation import teachers
from tfkd.distillation.distiller import Distiller
from tfkd.errors import InputError, TfkdError, UnsupportedError, argument, raise_all
from tfkd.model import backends, cost, graph
from tfkd.pruning.iterative import file_size
from tfkd.pruning.iterative.checkpoint import State, of
from tfkd.pruning.iterative.evaluation import Evaluator
from tfkd.pruning.iterative.result import MEASURES, Measured, Round, Spiral
from tfkd.pruning.structured import importance
from tfkd.pruning.structured.channels import prune_channels

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, AnyTeacher, Criterion, Format, Names, PathLike

#: What the result can be compared with: the model pruned once and distilled; the same model from
#: scratch, with and without the teacher; the original, trained further for as long.
ALTERNATIVES = ("one_shot", "scratch", "scratch_taught", "original_trained_on")


@with_old_keywords(keep="skip")
def spiral(
    model: AnyModel,
    data: Data,
    *,
    target: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    step: float = 0.2,
    rounds: int = 20,
    epochs: int = 4,
    final_epochs: int = 0,
    teach: Literal["original", "last", "both"] = "original",
    teacher: AnyTeacher | None = None,
    distiller: Mapping | None = None,
    criterion: Criterion = "l1",
    scope: Literal["global", "layer"] = "global",
    round_to: int = 8,
    skip: Names = (),
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    augment: Callable | None = None,
    format: Format | None = "int8",
    alternatives: Sequence[str] | str | bool = (),
    folder: PathLike | None = None,
    seed: int = 0,
    progress: training.Progress | None = None,
) -> Spiral:
    """Make a model smaller round by round: prune a little, distil, go on from the student.

    Choose it over one cut with `prune_channels` where the cut is deep: each round takes what
    matters least of a model that has recovered from the last one. Whether it is worth its
    epochs, `alternatives` tells. The first round is trained with and without the teacher; all
    others go the way whose validation score is better.

    Args:
        model: A trained Functional or Sequential model, Keras 3 or tf_keras; not changed.
        data: Split three ways. Trained on `train`, choices made on `validation`; `test` is
            looked at when everything is done.
        target: Where to end: `"macs"`, `"parameters"`, `"bytes"` (of the file) or `"latency"`
            → a part of the original's below 1, or a number (of µs for latency). All of them
            must be met.
        max_drop: How much worse the validation score may become, in accuracy, or as a part of
            the RMSE. A round that is worse is stepped back from, and half as much pruned. With
            no target it goes as far as this allows.
        step: Which part of the costs goes in a round, in (0, 1).
        rounds: How many at most, steps back included.
        epochs: Of distillation, a round.
        final_epochs: Further ones at the end, kept if they do no harm on validation.
        teach: `"original"`, `"last"` (the student of the round before) or `"both"`, which are
            then asked once an example in each round.
        teacher: What teaches in the place of the original: whatever `Distiller` takes.
        distiller: Arguments of `Distiller`, such as `{"alpha": 0.1, "temperature": 4.0}`.
        criterion: As for `prune_channels`; `scope`, `round_to` and `skip` likewise.
        scope: See there.
        round_to: See there.
        skip: See there.
        optimizer: `"adam"`, or `"sgd"` with a Nesterov momentum of 0.9: take what the model was
            trained with, and its learning rate.
        learning_rate: At the start of each round's cosine decay.
        batch_size: Examples per step.
        augment: Function from a batch of `x` to another, in TensorFlow operations. The teacher
            then sees what the student sees, and runs in every step; without it, it runs once
            an example.
        format: Of the files whose bytes and latency are measured: `"int8"` (calibrated),
            `"float32"`, `"float16"` or `"dynamic"`; `None` for no files.
        alternatives: Which of `ALTERNATIVES` to train for as many epochs, or `True` for all.
        folder: Where the state is kept after each round, and at the end `student.keras`,
            `spiral.json` and `spiral.svg`. A run that was killed goes on from its last round
            when it is called again with the same arguments.
        seed: Of everything random.
        progress: Called as `progress(stage, done, total)`.

    Returns:
        A `Spiral`; print it for the table of its rounds.

    Raises:
        InputError: for arguments out of range, a target that can't be reached (the floor is
            told), or a folder that holds the state of another run.
        UnsupportedError: for a subclassed model, or one in which nothing can be pruned.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
        >>> data = tfkd.split(x, (x.sum(1) > 0).astype(int))
        >>> layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((4,)), *layers])
        >>> small = tfkd.spiral(model, data, target={"macs": 0.5}, epochs=1, format=None)
        >>> small.final.macs <= small.original.macs / 2
        True
    """
    skip = [skip] if isinstance(skip, str) else list(skip)
    if isinstance(alternatives, str):
        alternatives = (alternatives,)
    alternatives = ALTERNATIVES if alternatives is True else tuple(alternatives or ())
    target, distiller = {} if target is None else target, {} if distiller is None else distiller
    _check(locals())
    importance.check(criterion, (data.train.x, data.train.y))
    trainer = training.Trainer(
        data, batch_size=batch_size, seed=seed, augment=augment, optimizer=optimizer,
        progress=progress,
    )  # fmt: skip
    pruning = {"criterion": criterion, "scope": scope, "round_to": round_to, "skip": skip}
    pruning |= {"format": format or "int8", "seed": seed}
    if criterion == "taylor":
        pruning["data"] = _some(data.train, seed)
    evaluator = Evaluator(model, data, format, "latency" in target)
    lessons = _Lessons(trainer, model, teacher, teach, dict(distiller), learning_rate)
    wanted = {name: _absolute(name, value, evaluator.original) for name, value in target.items()}
    settings = {
        "target": dict(target), "max_drop": max_drop, "step": step, "epochs": epochs,
        "teach": teach, "criterion": criterion, "scope": scope, "round_to": round_to, "keep": skip,
        "optimizer": optimizer, "learning_rate": learning_rate, "batch_size": batch_size,
        "augment": augment, "format": format, "seed": seed, "distiller": dict(distiller),
        "teacher": teacher,
    }  # fmt: skip
    state = State(folder, {} if folder is None else settings | {"of": of(model, data)})
    for name in wanted if not state.started else ():
        if name != "latency" and getattr(evaluator.original, name) > wanted[name]:
            prune_channels(model, metric=name, target=wanted[name], **pruning)  # can it be reached?
    state.begin()
    floor = evaluator.floor(max_drop)
    walk = _Walk(state, evaluator, lessons, pruning, wanted, floor)
    stopped = walk.run(model, step, rounds, epochs)
    current, total = walk.current, epochs * len(walk.rounds)
    if final_epochs and current is not model:
        total += final_epochs
        further = state.once(
            "final", len(walk.rounds), total, lambda: _trained_on(lessons, current, final_epochs)
        )
        if evaluator.better(further, current):
            current = further
        else:
            stopped += "; the final epochs made it worse and were left out"
    if alternatives and not total:
        alternatives, stopped = (), f"{stopped}; without training there are no alternatives"
    timed = {"latency": format is not None, "test": True}
    final = evaluator.measure(current, **timed)
    models, beside = {}, {}
    for name in alternatives:
        models[name] = state.once(
            name,
            len(walk.rounds),
            total,
            lambda name=name: _alternative(name, lessons, current, total, pruning),
        )
        beside[name] = evaluator.measure(models[name], **timed)
    reached = not evaluator.unmet(final, wanted) and evaluator.holds(final.validation, floor)
    made = Spiral(
        model=current,
        original=evaluator.measure(model, **timed),
        final=final,
        rounds=tuple(walk.rounds),
        metric=evaluator.metric,
        target=wanted,
        floor=floor,
        reached=reached,
        stopped=stopped,
        epochs=total,
        alternatives=beside,
        models=models,
    )
    state.finish(made)
    return made


class _Walk:
    """The rounds: from what is kept, prune, distil, measure, keep or step back."""

    def __init__(self, state, evaluator, lessons, pruning, wanted, floor):
        self.state, self.evaluator, self.lessons = state, evaluator, lessons
        self.pruning, self.wanted, self.floor = pruning, wanted, floor
        self.rounds: list[Round] = []

    def run(self, model, step: float, most: int, epochs: int) -> str:
        """Go round until something ends it; say what."""
        self.rounds, self.current = self.state.load(model)
        self.lessons.helps = all(one.taught for one in self.rounds)
        least = step / 8
        at = next((one.measured for one in reversed(self.rounds) if one.kept), None)
        at = at or self.evaluator.original
        harmful = set()  # sizes of students that were stepped back from
        for one in self.rounds:
            step = one.step if one.kept else one.step / 2
            size = one.measured.parameters, one.measured.macs
            harmful = set() if one.kept else harmful | {size}
        while True:
            unmet = self.evaluator.unmet(at, self.wanted)
            if self.wanted and not unmet:
                return "the target is met"
            if len(self.rounds) >= most:
                return f"{most} rounds were made"
            if step < least:
                return f"the floor of {self.floor:.4f} allows no further step"
            start = time.perf_counter()
            try:
                student = self._pruned(at, unmet, step)
            except InputError as error:
                return f"nothing more can go: {error}"
            costs = cost.measure(student)
            if costs.parameters == at.parameters:
                return "nothing was found that could go"
            size = costs.parameters, costs.macs
            if size in harmful:  # the same channels: it would be the same round again
                step /= 2
                continue
            before = self.evaluator.score(student, "validation")
            number = len(self.rounds) + 1
            student, other = self._trained(f"round {number}", student, epochs)
            measured = self.evaluator.measure(student, latency="latency" in self.wanted)
            kept = self.evaluator.holds(measured.validation, self.floor)
            seconds = time.perf_counter() - start
            taught = self.lessons.helps
            self.rounds.append(Round(number, step, measured, kept, before, seconds, other, taught))
            self.state.save(self.rounds, student if kept else None)
            if kept:
                self.current, at, harmful = student, measured, set()
            else:
                step /= 2
                harmful.add(size)

    def _trained(self, stage: str, student, epochs: int):
        """Train a pruned student; return it, and the score of the other way if it was tried."""
        if self.rounds:
            self.lessons.train(stage, student, self.current, epochs)
            return student, None
        alone = training.copy_of(student)
        self.lessons.teach(stage, student, self.current, epochs)
        self.lessons.alone(f"{stage} without teacher", alone, epochs)
        taught, untaught = (self.evaluator.score(one, "validation") for one in (student, alone))
        self.lessons.helps = self.evaluator.holds(taught, untaught)
        return (student, untaught) if self.lessons.helps else (alone, taught)

    def _pruned(self, at: Measured, unmet: list[str], step: float):
        """Return the student with so much less of what its target is of."""
        metric = next((name for name in unmet if name != "latency"), None)
        metric = metric or ("macs" if at.macs is not None else "parameters")
        target = max((1 - step) * getattr(at, metric), self.wanted.get(metric, 1))
        return prune_channels(self.current, metric=metric, target=int(target), **self.pruning)


class _Lessons:
    """Who teaches a student, and for how long."""

    def __init__(self, trainer, model, teacher, teach, settings, learning_rate):
        self.trainer, self.settings, self.rate = trainer, settings, learning_rate
        self.model, self.teacher, self.by = model, model if teacher is None else teacher, teach
        self.cache = None
        self.helps = True  # until the first round shows that it doesn't
        student = training.copy_of(model)  # a model can't be its own teacher
        try:  # does the teacher fit, and do the settings?
            self.probe = Distiller(student, self._given(model), **settings)
        except (TypeError, ValueError) as error:
            raise InputError(f"Distiller does not take this: {error}") from error
        trainer.compile(self.probe, student, learning_rate, 1)
        self.holds_answers = isinstance(self.probe._teacher(), teachers.ArrayTeacher)
        if self.holds_answers and trainer.augment is not None:
            raise InputError(
                "A teacher that is an array has no answers for augmented examples: give the model, "
                "or leave augment out."
            )

    def _given(self, last):
        if self.by == "both":
            several = isinstance(self.teacher, (list, tuple))
            return [*(self.teacher if several else [self.teacher]), last]
        return last if self.by == "last" else self.teacher

    def teach(self, stage: str, student, last, epochs: int) -> None:
        """Distil, `last` being the student of the round before."""
        distiller = Distiller(student, self._given(last), **self.settings)
        how = {"validate": False}
        if self.trainer.augment is None and not self.holds_answers:
            how["cache_teacher"] = True
            if self.by == "original":  # asked once for all rounds
                self.cache = self.cache or self.probe.cache_teacher(self.trainer.data.train.x)
                how["cache_teacher"] = self.cache
        self.trainer.fit(stage, distiller, student, epochs, self.rate, **how)

    def train(self, stage: str, student, last, epochs: int) -> None:
        """Distil, or train on the labels where the teacher does not help."""
        if self.helps:
            self.teach(stage, student, last, epochs)
        else:
            self.alone(stage, student, epochs)

    def alone(self, stage: str, student, epochs: int) -> None:
        """Train on the labels."""
        self.trainer.fit(stage, student, student, epochs, self.rate, validate=False)


def _trained_on(lessons, student, epochs):
    student = training.copy_of(student)
    lessons.train("final", student, student, epochs)
    return student


def _alternative(name, lessons, final, epochs, pruning):
    """Return an alternative to the spiral, trained for as many epochs."""
    model, stage = lessons.model, name.replace("_", " ")
    if name == "original_trained_on":
        student = training.copy_of(model)
    elif name == "one_shot":
        measured = cost.measure(final)
        metric = "parameters" if measured.macs is None else "macs"
        target = getattr(measured, metric)
        student = prune_channels(model, metric=metric, target=target, **pruning)
    else:
        package = training.package_of(final)
        package.utils.set_random_seed(pruning["seed"])
        student = package.models.clone_model(final)
    if name == "one_shot":
        lessons.train(stage, student, model, epochs)
    elif name == "scratch_taught":
        lessons.teach(stage, student, model, epochs)
    else:
        lessons.alone(stage, student, epochs)
    return student


def _absolute(name: str, value: float, original: Measured) -> float:
    """Return a target as a number; one of latency as it is, a part or µs."""
    if name == "latency":
        return value
    whole = getattr(original, name)
    if whole is None:
        unknown = "files were not asked for" if name == "bytes" else "they are not known"
        raise UnsupportedError(f"target has {name}, and of this model {unknown}: take another.")
    return value * whole if value < 1 else value


def _some(samples, seed: int, count: int = 512):
    rows = np.random.default_rng(seed).permutation(len(samples))[:count]
    return np.asarray(samples.x)[rows], np.asarray(samples.y)[rows]


def _check(given: dict):
    raise_all(
        f"{name} must be a dict, got {given[name]!r}"
        for name in ("target", "distiller")
        if not isinstance(given[name], Mapping)
    )
    problems = []
    if not given["target"] and given["max_drop"] is None:
        problems.append("give target, max_drop or both")
    for name, value in given["target"].items():
        if name not in MEASURES:
            problems.append(f"target must be of {tuple(MEASURES)}, got {name!r}")
        elif not (isinstance(value, numbers.Real) and value > 0):
            problems.append(f"target[{name!r}] must be a number > 0, got {value!r}")
    if given["format"] is None and {"bytes", "latency"} & set(given["target"]):
        problems.append("a target of bytes or latency needs a format")
    if given["format"] is not None:
        try:
            file_size.check_format(given["format"])
        except TfkdError as error:
            problems.append(str(error).removesuffix("."))
    drop, rate = given["max_drop"], given["learning_rate"]
    if drop is not None and not (isinstance(drop, numbers.Real) and drop >= 0):
        problems.append(f"max_drop must be a number >= 0, got {drop!r}")
    if not (isinstance(rate, numbers.Real) and rate > 0):
        problems.append(f"learning_rate must be a number > 0, got {rate!r}")
    if not (isinstance(given["step"], numbers.Real) and 0 < given["step"] < 1):
        problems.append(f"step must lie between 0 and 1, got {given['step']!r}")
    for name, least in (("rounds", 1), ("epochs", 1), ("final_epochs", 0), ("batch_size", 1)):
        if not isinstance(given[name], int) or given[name] < least:
            problems.append(f"{name} must be an integer of at least {least}, got {given[name]!r}")
    if given["teach"] == "last" and given["teacher"] is not None:
        problems.append(
            f"with {argument('teach', 'last')} a teacher is never asked: leave it out, or "
            f"{argument('teach', 'both')}"
        )
    if given["optimizer"] not in training.OPTIMIZERS:
        problems.append(
            f"optimizer must be one of {training.OPTIMIZERS}, got {given['optimizer']!r}"
        )
    if given["teach"] not in ("original", "last", "both"):
        problems.append(f"teach must be 'original', 'last' or 'both', got {given['teach']!r}")
    for name in given["alternatives"]:
        if name not in ALTERNATIVES:
            problems.append(f"alternatives are {ALTERNATIVES}, got {name!r}")
    if not isinstance(given["data"], Data):
        problems.append(f"data must be a tfkd.Data, got {type(given['data']).__name__}")
    if backends.is_quantize_aware(given["model"]):
        problems.append("a quantize-aware model can't be pruned; prune its float student first")
    raise_all(problems)
    if len(graph.walk(given["model"]).output_list) > 1:
        raise UnsupportedError(
            "spiral goes by one score, and this model has several outputs: prune with "
            "prune_channels and train with Distiller."
        )
