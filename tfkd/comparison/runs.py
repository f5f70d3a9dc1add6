"""One run: a student trained by one method with one seed, and its score on the held-out parts."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfkd.comparison.methods import Method
from tfkd.comparison.store import Run
from tfkd.compression.settings import Training
from tfkd.compression.trainer import Progress, Trainer
from tfkd.data import Data, Samples, Stream
from tfkd.distillation import teachers
from tfkd.distillation.distiller import Distiller
from tfkd.distillation.teachers import functions
from tfkd.distillation.validation import first_line
from tfkd.errors import InputError, TfkdError, argument, raise_all
from tfkd.loading.models import SUFFIXES, load_model
from tfkd.model import metrics
from tfkd.model import task as tasks
from tfkd.output_kind import output_activations

_BATCH = 256
#: Metrics for which lower is better.
ERRORS = ("rmse", "mae")
_METRICS = {"categorical": "accuracy", "binary": "accuracy", "multilabel": "auc"}


#: Fields of `Training` that a comparison accepts. It chooses the seeds itself, and code that
#: repeats a run can't contain an augmentation.
SPENT = ("epochs", "batch_size", "learning_rate", "optimizer")


def budget_of(given: int | Mapping[str, Any] | Training) -> Training:
    """Return the budget of each run.

    Args:
        given: A number of epochs, or some of `SPENT`. The defaults are 20 epochs, 32 examples per
            step, an initial learning rate of 3e-3, and Adam.

    Raises:
        InputError: for other attributes, and for values out of range.
    """
    if isinstance(given, Training):
        plain = Training()
        given = {name: to for name, to in vars(given).items() if to != getattr(plain, name)}
    elif not isinstance(given, Mapping):
        given = {"epochs": given}
    raise_all(
        [f"budget has no {name!r}" for name in given if name not in SPENT],
        fix=f"It takes {', '.join(SPENT)}.",
    )
    try:
        return Training(**{"epochs": 20, "learning_rate": 3e-3, **given})
    except InputError as error:
        raise InputError(f"budget: {error}") from error


class Runner:
    """Trains students by methods, on the same terms, and scores them.

    Args:
        students: The source of the students.
        teacher: Whatever `Distiller` takes.
        data: Split three ways.
        budget: The budget of each run.
        task: The task of the labels; `None` infers it from them.
        metric: The metric of the scores; `None` for the task's own.
        options: Further arguments of every `Distiller`.
        store: Where finished runs are kept.
        progress: Called as `progress(method, epochs_done, epochs)`.
    """

    def __init__(self, students, teacher, data, budget, task, metric, options, store, progress):
        self.students, self.teacher = students, _loaded(teacher)
        self.data, self.budget, self.options, self.store = data, budget, options, store
        self.progress = progress or (lambda stage, done, total: None)
        trainer = self._trainer(data, task)
        trainer.check_scored()
        self.task = trainer.task(students.example)
        if self.task == "anomaly":
            raise InputError(
                f"compare does not score anomaly detectors; give {argument('task', 'regression')}."
            )
        self.activation = output_activations(students.example)[0]
        self.metric = metric or _METRICS.get(self.task, "rmse")
        self.is_error = self.metric in ERRORS
        self._check_parts()
        self._probe = self._cache = None

    def check(self, methods: list[Method]) -> None:
        """Raise unless the student can be trained by each method.

        Raises:
            InputError: naming the method.
        """
        student = self.students.copy(self.students.first)
        self._trainer(self.data).compile(student, student)
        self._probe = self._probed(student, {})
        if self.holds_answers and not self.data.train.in_memory:
            raise InputError(teachers.ARRAY_NEEDS_ARRAYS)
        features = []
        for method in methods:
            if method.settings is not None:
                try:
                    features += self._probed(student, method.settings)._features
                except InputError as error:
                    raise InputError(f"methods[{method.name!r}]: {error}") from error
        if features:  # for all methods, so that the teacher is asked once
            self._probe = self._probed(student, {"features": features})

    def prepare(self, pending: bool) -> None:
        """Run the teacher once on the training part, if a run needs its answers."""
        if not pending or not self.caches or self._cache is not None:
            return
        examples = self.data.train.inputs(_BATCH)
        self._cache = self._asked(lambda: self._probe.cache_teacher(examples), "train")

    def run(self, method: Method, seed: int, stage: str, before: int, total: int) -> Run:
        """Return the run of a method and a seed, trained now or before.

        Args:
            method: How to train.
            seed: Seed of the weights and of the order of the examples.
            stage: Name for the progress.
            before: Number of runs of this stage that are done already.
            total: Number of runs of this stage.
        """
        epochs = self.budget.epochs
        key = self.store.key(method, seed)
        found = self.store.find(key)
        if found is None:

            def tick(_, done, __):
                self.progress(stage, before * epochs + done, total * epochs)

            start = time.perf_counter()
            try:
                weights = self.train(method, seed, tick).get_weights()
                validation = self.score(weights, "validation")
                found = Run(validation, time.perf_counter() - start)
                self.store.keep(key, found, weights)
            except TfkdError as error:
                if method.settings is None:
                    raise
                found = Run(None, time.perf_counter() - start, str(error))
                self.store.keep(key, found, None)
        self.progress(stage, (before + 1) * epochs, total * epochs)
        return found

    def trained(self, method: Method, seed: int):
        """Return the student that a run left."""
        student = self.students.copy(seed)
        student.set_weights(self.weights(method, seed))
        return student

    def weights(self, method: Method, seed: int) -> list[np.ndarray]:
        """Return the weights that a run left."""
        return self.store.weights(self.store.key(method, seed))

    def score(self, weights: list[np.ndarray], part: str) -> float:
        """Return the score of a student's weights on a part of the data."""
        student = self.students.example
        student.set_weights(weights)  # one model for all methods, which TensorFlow traces once
        found = getattr(self.data, part).answered(student.predict_on_batch)
        return self._scored(*found, self.activation)

    def teacher_score(self, part: str) -> float | None:
        """Return the teacher's score; `None` where it is an array of answers for training."""
        if self.holds_answers:
            return None

        def ask():
            return getattr(self.data, part).answered(lambda x: self._probe._ask(x)[0][0])

        return self._scored(*self._asked(ask, part), "linear")

    def is_better(self, value: float, than: float) -> bool:
        """Tell whether a score is better than another."""
        return value < than if self.is_error else value > than

    def loss_of(self, method: Method):
        """Return the loss that a method trains with."""
        student = self.students.example
        trainer = self._trainer(self._data_of(method), self.task)
        trainer.compile(student, student)
        return student.loss

    @property
    def spent(self) -> dict[str, Any]:
        """The budget of a run, as plain values."""
        return {name: getattr(self.budget, name) for name in SPENT}

    @property
    def steps(self) -> int:
        """Optimizer steps of a run."""
        return self.budget.epochs * -(-len(self.data.train) // self.budget.batch_size)

    @property
    def holds_answers(self) -> bool:
        """Whether the teacher is an array of its answers, which can't be asked."""
        return isinstance(self._probe._teacher(), teachers.ArrayTeacher)

    @functools.cached_property
    def caches(self) -> bool:
        """Whether the teacher answers each example once, and not in every step."""
        return not self.holds_answers and not self._trainer(self.data).changes_examples

    def fingerprint(self) -> str | np.ndarray:
        """Return the teacher's fingerprint."""
        if self.holds_answers:
            return self._probe._teacher().given
        return self._probe._teacher().fingerprint()

    def train(self, method: Method, seed: int, tick: Progress) -> Any:
        """Return a new student, trained by a method.

        Args:
            method: The method of training.
            seed: Seed of its weights and of everything else random.
            tick: As `progress` of `Trainer`.
        """
        student = self.students.copy(seed)
        trainer = self._trainer(self._data_of(method), self.task, seed, tick)
        how = {"validate": False}
        if method.settings is None:
            trainer.fit(method.name, student, **how)
        else:
            settings = {**method.settings, **self.options}
            if self.caches:
                how["cache_teacher"] = self._cache
            teach = functools.partial(Distiller, teacher=self.teacher, **settings)
            trainer.fit(method.name, student, teach, **how)
        return student

    def _data_of(self, method: Method) -> Data:
        if not method.label_smoothing:
            return self.data
        train = self.data.train

        def smooth(y):
            shape = self.students.example.output_shape
            return smoothed(y, shape, self.task, method.label_smoothing)

        if isinstance(train, Samples):
            return dataclasses.replace(self.data, train=Samples(train.x, smooth(train.y)))
        shape = (None, *smooth(train.labels[:1]).shape[1:])

        def batch(x, y, *weights):
            y = tf.numpy_function(smooth, [y], tf.float32, stateful=False)
            return (x, tf.ensure_shape(y, shape), *weights)

        smoothed_batches = train.dataset(self.budget.batch_size).map(batch)
        return dataclasses.replace(self.data, train=Stream(smoothed_batches, len(train)))

    def _trainer(self, data, task=None, seed=0, progress=None) -> Trainer:
        return Trainer(
            data,
            # Without a twin, so that the printed call repeats a run to the last bit.
            dataclasses.replace(self.budget, seed=seed, twin=False),
            progress=progress,
            task=task or getattr(self, "task", None),
        )

    def _probed(self, student, settings):
        try:
            probe = Distiller(student, self.teacher, **settings, **self.options)
        except (TypeError, ValueError) as error:
            raise InputError(str(error)) from error
        self._trainer(self.data).compile(probe, student)
        return probe

    def _asked(self, ask, part: str):
        try:
            return ask()
        except MemoryError:
            raise
        except Exception as error:  # the teacher's code may raise anything for unsuitable inputs
            cause = functions.cause_of(error)
            if isinstance(cause, TfkdError):
                raise
            samples = getattr(self.data, part)
            shape = (len(samples), *samples.shape[1:])
            raise InputError(
                f"The teacher can't take the {part} examples, of shape {shape} "
                f"({first_line(cause)}); if its inputs differ from the student's, give "
                f"{argument('teacher_inputs', like='function')}."
            ) from cause

    def _scored(self, outputs, y, activation) -> float:
        found = metrics.score(outputs, np.asarray(y), task=self.task, activation=activation)
        return float(found[self.metric])

    def _check_parts(self) -> None:
        """Raise for held-out examples that the student can't take, or labels without a score."""
        for part in ("validation", "test"):
            samples, student = getattr(self.data, part), self.students.example
            try:
                few = student.predict_on_batch(samples.head(2).x)
            except Exception as error:  # Keras raises many types for inputs that don't fit
                raise InputError(
                    f"The student can't take the {part} examples, of shape "
                    f"{(len(samples), *samples.shape[1:])} ({first_line(error)})."
                ) from error
            y = samples.labels
            outputs = np.zeros((len(y), *few.shape[1:]), "float32")
            found = metrics.score(outputs, y, task=self.task, activation=self.activation)
            if self.metric not in found:
                raise InputError(
                    f"The {part} part can't be scored by {self.metric!r}: its labels allow only "
                    f"{', '.join(found)}."
                )


def smoothed(y, shape, task: str, share: float) -> np.ndarray:
    """Return labels with a share spread over the classes, as Keras's label smoothing does.

    Args:
        y: Class numbers, one-hot or soft rows, or 0 and 1.
        shape: Shape of the outputs, batch included.
        task: `"categorical"`, `"binary"` or `"multilabel"`.
        share: The share to spread, in (0, 1).
    """
    y = np.asarray(y)
    if task != "categorical":
        return (y * (1 - share) + 0.5 * share).astype("float32")
    classes = shape[-1]
    if y.shape != tasks.filled(shape, y):
        y = keras.utils.to_categorical(y, classes)
    return (y * (1 - share) + share / classes).astype("float32")


def _loaded(teacher):
    """Return a teacher with its Keras files loaded, once for all runs."""
    if isinstance(teacher, (list, tuple)):
        return [_loaded(one) for one in teacher]
    if isinstance(teacher, (str, os.PathLike)) and pathlib.Path(teacher).suffix in SUFFIXES:
        return load_model(teacher, "teacher")
    return teacher
