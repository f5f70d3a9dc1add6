"""`spiral`: prune a little, distil, and go on from the student, until a target is met.

original ─► prune ─► distil ─► measure ─► keep, or step back ─► prune ─► ...
                        ▲ taught by the original, by the last student, or by both
"""

from __future__ import annotations

import dataclasses
import numbers
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tfkd._renamed import with_old_keywords
from tfkd.compression.settings import Target, Training, check_drop, is_drop, is_whole, trained_by
from tfkd.compression.trainer import Progress, Trainer
from tfkd.data import Data, as_data
from tfkd.distillation import teachers
from tfkd.distillation.distiller import Distiller
from tfkd.errors import InputError, TfkdError, UnsupportedError, argument, raise_all
from tfkd.model import backends, cost, graph
from tfkd.pruning.iterative import file_size
from tfkd.pruning.iterative.checkpoint import State, of
from tfkd.pruning.iterative.evaluation import Evaluator
from tfkd.pruning.iterative.result import Measured, Round, Spiral
from tfkd.pruning.structured import importance, surgery
from tfkd.pruning.structured.channels import prune_channels
from tfkd.translation.copies import copy_of, with_new_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from tfkd._typing import AnyModel, AnyTeacher, Criterion, Format, Names, PathLike, SpiralOptions
    from tfkd.data.door import AnyData

#: Alternatives to compare the result with: the model pruned once and distilled; the same model from
#: scratch, with and without the teacher; and the original, trained on for as many epochs.
ALTERNATIVES = ("one_shot", "scratch", "scratch_taught", "original_trained_on")


@with_old_keywords(keep="skip")
def spiral(
    model: AnyModel,
    data: AnyData,
    *,
    target: Target | Mapping[str, float] | None = None,
    training: Training | None = None,
    step: float = 0.2,
    rounds: int = 20,
    final_epochs: int = 0,
    teach: Literal["original", "last", "both"] = "original",
    teacher: AnyTeacher | None = None,
    distiller: Mapping | None = None,
    task: str | None = None,
    criterion: Criterion = "l1",
    scope: Literal["global", "layer"] = "global",
    round_to: int = 8,
    skip: Names = (),
    format: Format | None = "int8",
    alternatives: Sequence[str] | str | bool = (),
    folder: PathLike | None = None,
    progress: Progress | None = None,
    **options: Unpack[SpiralOptions],
) -> Spiral:
    """Make a model smaller round by round: prune a little, distil, go on from the student.

    Choose it over one cut with `prune_channels` where the cut is deep: each round removes what
    matters least from a model that has recovered from the round before. The `alternatives` show
    whether it is worth its epochs. The first round is trained with and without the teacher; all
    others train in the way whose validation score is better.

    Args:
        model: A trained Functional or Sequential model, Keras 3 or tf_keras; not changed.
        data: A `Data`, or what `as_data` takes: `(x, y)`, a path. `train` is for training,
            `validation` for choices; `test` is used only when everything is done.
        target: Where to end: a `Target`, or a dict with some of its attributes. With a `drop`, the
            spiral steps back from a round that is worse and prunes half as much. With a `drop`
            alone, it goes as far as that allows.
        training: How each round trains: 4 epochs and a learning rate of 1e-3 by
            default.
        step: Fraction of the costs that a round removes, in (0, 1).
        rounds: Maximum number of rounds, steps back included.
        final_epochs: Further epochs at the end, kept if the validation score gets no worse.
        teach: `"original"`, `"last"` (the student of the round before) or `"both"`. Teachers run
            once per example in each round.
        teacher: The teacher instead of the original: whatever `Distiller` takes.
        distiller: Arguments of `Distiller`, such as `{"alpha": 0.1, "temperature": 4.0}`.
        task: `"categorical"`, `"binary"`, `"multilabel"` or `"regression"`. Needed where it does
            not follow from the labels and the output.
        criterion: Which channels matter least: `"l1"`, `"l2"`, `"bn_scale"`, `"taylor"`,
            `"random"` or a function, as `prune_channels` takes it.
        scope: Whether channels are compared in the whole model (`"global"`) or in each layer.
        round_to: The channels of each layer are kept to a multiple of this, where it has as many.
        skip: Names of layers that keep all their channels.
        format: Of the files whose bytes and latency are measured: `"int8"` (calibrated),
            `"float32"`, `"float16"` or `"dynamic"`; `None` for no files.
        alternatives: Which of `ALTERNATIVES` to train for the same number of epochs, or `True` for
            all.
        folder: Where the state is kept after each round, and at the end `student.keras`,
            `spiral.json` and `spiral.svg`. An interrupted run continues from its last round when it
            is called again with the same arguments.
        progress: Called as `progress(stage, done, total)`.
        **options: Attributes of `training` given directly (`epochs=`, `learning_rate=`,
            `batch_size=`, `optimizer=`, `augment=`, `seed=`), and `max_drop=` for the `drop` of the
            target.

    Returns:
        A `Spiral`; print it for the table of its rounds.

    Raises:
        InputError: for arguments out of range, a target that can't be reached (the message
            gives the floor), or a folder that holds the state of another run.
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
    alternatives = _alternatives(alternatives)
    distiller = {} if distiller is None else distiller
    goal, how, data = _check(locals())
    importance.check(criterion, (data.train, data.train.labels))
    trainer = Trainer(data, how, progress=progress, task=task)
    trainer.check_scored()
    check_drop(goal.drop, trainer.outputs(model))
    pruning = {"criterion": criterion, "scope": scope, "round_to": round_to, "skip": skip}
    pruning |= {"format": format or "int8", "seed": how.seed}
    pruning |= _for_gradients(criterion, trainer, model)
    evaluator = Evaluator(model, data, format, "latency" in goal.costs, trainer.task(model))
    lessons = _Lessons(trainer, model, teacher, teach, dict(distiller))
    wanted = {
        name: _absolute_target(name, to, evaluator.original) for name, to in goal.costs.items()
    }
    settings = {
        "target": goal.costs, "max_drop": goal.drop, "step": step, "teach": teach, "format": format,
        "criterion": criterion, "scope": scope, "round_to": round_to, "skip": skip,
        "teacher": teacher, "distiller": dict(distiller), "task": trainer.given_task,
        **trained_by(how),
    }  # fmt: skip
    state = State(folder, {} if folder is None else settings | {"of": of(model, data)})
    for name in wanted if not state.started else ():
        if name != "latency" and getattr(evaluator.original, name) > wanted[name]:
            prune_channels(model, metric=name, target=wanted[name], **pruning)  # can it be reached?
    state.begin()
    floor = evaluator.floor(goal.drop)
    walk = _Walk(state, evaluator, lessons, pruning, wanted, floor)
    stopped = walk.run(model, step, rounds, how.epochs)
    total = how.epochs * len(walk.rounds)
    if final_epochs and walk.current is not model:
        total += final_epochs
        stopped += walk.train_further(final_epochs, total)
    if alternatives and not total:
        alternatives, stopped = (), f"{stopped}; without training there are no alternatives"
    timed = {"latency": format is not None, "test": True}
    final = evaluator.measure(walk.current, **timed)
    models = walk.alternatives(alternatives, total)
    beside = {name: evaluator.measure(student, **timed) for name, student in models.items()}
    reached = not evaluator.unmet(final, wanted) and evaluator.holds(final.validation, floor)
    made = Spiral(
        model=walk.current,
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
    """The rounds: from the kept student, prune, distil, measure, then keep it or step back."""

    def __init__(self, state, evaluator, lessons, pruning, wanted, floor):
        self.state, self.evaluator, self.lessons = state, evaluator, lessons
        self.pruning, self.wanted, self.floor = pruning, wanted, floor
        # After the first round, the layers of nested models have other names.
        walked = graph.walk(lessons.model)
        names = surgery.names_after(walked)
        self.skip = [re.escape(names[path]) for path in walked.matching(pruning["skip"], "skip")]
        self.rounds: list[Round] = []

    def run(self, model, step: float, most: int, epochs: int) -> str:
        """Run rounds until something ends them, and return the reason."""
        self.rounds, self.current = self.state.load(model)
        self.lessons.helps = all(one.taught for one in self.rounds)
        least = step / 8
        at = next((one.measured for one in reversed(self.rounds) if one.kept), None)
        at = at or self.evaluator.original
        harmful = set()  # sizes of rejected students
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
            if size in harmful:  # the same channels would repeat the same round
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

    def train_further(self, epochs: int, total: int) -> str:
        """Train the kept student for further epochs, and report if that made it worse."""
        further = self.state.once(
            "final",
            len(self.rounds),
            total,
            lambda: _trained_on(self.lessons, self.current, epochs),
        )
        if not self.evaluator.better(further, self.current):
            return "; the final epochs made it worse and were left out"
        self.current = further
        return ""

    def alternatives(self, names: Sequence[str], epochs: int) -> dict:
        """Return the models to compare the result with, each trained for so many epochs."""
        rounds, against = len(self.rounds), (self.lessons, self.current, epochs, self.pruning)
        return {
            name: self.state.once(
                name, rounds, epochs, lambda name=name: _alternative(name, *against)
            )
            for name in names
        }

    def _trained(self, stage: str, student, epochs: int):
        """Train a pruned student; return it, and the score of the other way if it was tried."""
        if self.rounds:
            self.lessons.train(stage, student, self.current, epochs)
            return student, None
        alone = copy_of(student)
        self.lessons.teach(stage, student, self.current, epochs)
        self.lessons.alone(f"{stage} without teacher", alone, epochs)
        taught, untaught = (self.evaluator.score(one, "validation") for one in (student, alone))
        self.lessons.helps = self.evaluator.holds(taught, untaught)
        return (student, untaught) if self.lessons.helps else (alone, taught)

    def _pruned(self, at: Measured, unmet: list[str], step: float):
        """Return the student with the metric of its target reduced by `step`."""
        metric = next((name for name in unmet if name != "latency"), None)
        metric = metric or ("macs" if at.macs is not None else "parameters")
        target = max((1 - step) * getattr(at, metric), self.wanted.get(metric, 1))
        how = {**self.pruning, "metric": metric, "target": int(target)}
        if self.current is not self.lessons.model:
            how["skip"] = self.skip
        return prune_channels(self.current, **how)


class _Lessons:
    """The teacher of a student, and the training's length."""

    def __init__(self, trainer, model, teacher, teach, settings):
        self.trainer, self.settings = trainer, settings
        augment = trainer.training.augment
        self.model, self.teacher, self.by = model, model if teacher is None else teacher, teach
        self.cache = None
        self.helps = True  # until the first round shows otherwise
        student = copy_of(model)  # a model can't be its own teacher
        try:  # raises if the teacher or the settings don't fit
            self.probe = Distiller(student, self._given(model), **settings)
        except (TypeError, ValueError) as error:
            raise InputError(f"Distiller does not accept this: {error}") from error
        trainer.compile(self.probe, student)
        self.holds_answers = isinstance(self.probe._teacher(), teachers.ArrayTeacher)
        if self.holds_answers and not trainer.data.train.in_memory:
            raise InputError(teachers.ARRAY_NEEDS_ARRAYS)
        if self.holds_answers and augment is not None:
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
        """Distil; `last` is the student of the previous round."""
        how = {"teach": lambda one: Distiller(one, self._given(last), **self.settings)}
        if not self.holds_answers and not self.trainer.changes_examples:
            how["cache_teacher"] = True
            if self.by == "original":  # asked once for all rounds
                train = self.trainer.data.train
                examples = train.inputs(self.trainer.training.batch_size)
                self.cache = self.cache or self.probe.cache_teacher(examples)
                how["cache_teacher"] = self.cache
        self._fit(stage, student, epochs, **how)

    def train(self, stage: str, student, last, epochs: int) -> None:
        """Distil, or train on the labels if the teacher does not help."""
        if self.helps:
            self.teach(stage, student, last, epochs)
        else:
            self.alone(stage, student, epochs)

    def alone(self, stage: str, student, epochs: int) -> None:
        """Train on the labels only."""
        self._fit(stage, student, epochs)

    def _fit(self, stage: str, student, epochs: int, **how) -> None:
        training = dataclasses.replace(self.trainer.training, epochs=epochs)
        self.trainer.fit(stage, student, training=training, validate=False, **how)


def _trained_on(lessons, student, epochs):
    student = copy_of(student)
    lessons.train("final", student, student, epochs)
    return student


def _alternative(name, lessons, final, epochs, pruning):
    """Return an alternative to the spiral, trained for as many epochs."""
    model, stage = lessons.model, name.replace("_", " ")
    if name == "original_trained_on":
        student = copy_of(model)
    elif name == "one_shot":
        measured = cost.measure(final)
        metric = "parameters" if measured.macs is None else "macs"
        target = getattr(measured, metric)
        student = prune_channels(model, metric=metric, target=target, **pruning)
    else:
        student = with_new_weights(final, pruning["seed"])
    if name == "one_shot":
        lessons.train(stage, student, model, epochs)
    elif name == "scratch_taught":
        lessons.teach(stage, student, model, epochs)
    else:
        lessons.alone(stage, student, epochs)
    return student


def _alternatives(given: bool | str | Sequence[str]) -> tuple[str, ...]:
    given = (given,) if isinstance(given, str) else given
    return ALTERNATIVES if given is True else tuple(given or ())


def _absolute_target(name: str, value: float, original: Measured) -> float:
    """Return a target as a number; a latency target unchanged, as a fraction or in µs."""
    if name == "latency":
        return value
    whole = getattr(original, name)
    if whole is None:
        unknown = (
            "no file was requested" if name == "bytes" else f"this model's {name} are not known"
        )
        raise UnsupportedError(
            f"target has {name!r}, but {unknown}: use another target.", code="unknown-cost"
        )
    return value * whole if value < 1 else value


def _for_gradients(criterion, trainer: Trainer, model, count: int = 512) -> dict:
    """Return what `prune_channels` takes the gradients of: examples, and the loss of the task."""
    if criterion != "taylor":
        return {}
    examples = trainer.data.train.drawn(count, trainer.training.seed)
    loss = trainer.outputs(model)[0].loss(backends.package_of(model))
    return {"data": (examples.x, examples.y), "loss": loss}


def _check(given: dict) -> tuple[Target, Training, Data]:
    """Return target, training and data if all arguments are valid."""
    problems = []

    def read(of, *args, **kwargs):
        try:
            return of(*args, **kwargs)
        except InputError as error:
            problems.append(str(error).removesuffix("."))
            return None

    options = dict(given["options"])
    max_drop = options.pop("max_drop", None)
    how = read(Training.of, given["training"], options, epochs=4, learning_rate=1e-3)
    goal = read(Target.of, given["target"])
    data = read(as_data, given["data"])
    if max_drop is not None and not is_drop(max_drop):
        problems.append(f"max_drop must be a number >= 0, got {max_drop!r}")
    elif max_drop is not None and goal is not None:
        if goal.drop is not None:
            problems.append("give max_drop or a target with drop, not both")
        goal = dataclasses.replace(goal, drop=max_drop)
    if goal == Target():
        problems.append("give target, max_drop or both")
    costs = goal.costs if goal is not None else {}
    if "arena" in costs:
        problems.append("a target of arena is for tfkd.compress; give spiral bytes, macs or others")
    if given["format"] is None and {"bytes", "latency"} & set(costs):
        problems.append("a target of bytes or latency needs a format")
    if not isinstance(given["distiller"], Mapping):
        problems.append(f"distiller must be a dict, got {given['distiller']!r}")
    if given["format"] is not None:
        try:
            file_size.check_format(given["format"])
        except TfkdError as error:
            problems.append(str(error).removesuffix("."))
    if not (isinstance(given["step"], numbers.Real) and 0 < given["step"] < 1):
        problems.append(f"step must lie between 0 and 1, got {given['step']!r}")
    for name, least in (("rounds", 1), ("final_epochs", 0)):
        if not is_whole(given[name], least):
            problems.append(f"{name} must be an integer of at least {least}, got {given[name]!r}")
    if given["teach"] == "last" and given["teacher"] is not None:
        problems.append(
            f"with {argument('teach', 'last')}, spiral never uses a teacher: leave it out, or give "
            f"{argument('teach', 'both')}"
        )
    if given["teach"] not in ("original", "last", "both"):
        problems.append(f"teach must be 'original', 'last' or 'both', got {given['teach']!r}")
    for name in given["alternatives"]:
        if name not in ALTERNATIVES:
            problems.append(f"alternatives must be from {ALTERNATIVES}, got {name!r}")
    if backends.is_quantize_aware(given["model"]):
        problems.append("a quantize-aware model can't be pruned; prune its float student first")
    raise_all(problems)
    walked = graph.walk(given["model"])
    walked.matching(given["skip"], "skip")  # raises for a name that no layer has
    if data.outputs or len(walked.output_list) > 1:
        what = "the labels are for" if data.outputs else "this model has"
        raise UnsupportedError(
            f"spiral decides by one score, but {what} several outputs: prune with prune_channels, "
            "and train the pruned model with compress or a Distiller.",
            code="one-output",
        )
    return goal, how, data
