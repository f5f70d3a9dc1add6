"""`Teacher`: one or several sources asked as one, and answers that were given beforehand."""

from __future__ import annotations

import hashlib
import os
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfkd import graph, losses
from tfkd.errors import InputError
from tfkd.teachers.activations import readable_activation
from tfkd.teachers.sources import show_shapes, source_of


class Taught(NamedTuple):
    """A batch of inputs with the teacher's answers beside it, as a cache hands them on.

    Attributes:
        x: The inputs, as the student takes them.
        answers: What `Teacher.ask` would return, encoded by the cache.
    """

    x: Any
    answers: Any


def carries_answers(x) -> bool:
    """Tell whether training data holds the teacher's answers already."""
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        x = spec[0] if isinstance(spec, tuple) and not isinstance(spec, Taught) else spec
    return isinstance(x, Taught)


class Teacher:
    """One or several teachers that answer for a batch, never trained themselves.

    The caller's models are not touched: not their weights, `trainable` flags or compile
    state. They always run in inference mode, and no gradient flows into them.

    Args:
        given: A Keras 3 or tf_keras model, the path of a `.keras`, `.h5`, SavedModel or
            `.tflite` file, a callable from a NumPy batch to NumPy outputs (a scikit-learn
            `predict_proba`), or a list of such. Several are averaged: their probabilities
            for classification, their values for regression.
        from_logits: Whether the outputs are logits, where that can't be told.
        features: Names or paths of layers whose outputs are wanted as well.
        inputs: Callable from a batch of `x` to what the teacher takes (another resolution
            or preprocessing), or `None`.

    Raises:
        InputError: if something given can't teach, or can't be read.
    """

    def __init__(self, given, from_logits=None, features=(), inputs=None):
        several = isinstance(given, (list, tuple))
        self.sources = [source_of(one, features) for one in (given if several else [given])]
        if not self.sources:
            raise InputError("The list of teachers is empty; give at least one.")
        if features and len(self.sources) > 1:
            raise InputError("Feature losses need one teacher, not a list of them.")
        self.from_logits = from_logits
        self.inputs = inputs

    @property
    def in_graph(self) -> bool:
        """Whether the answers are TensorFlow operations, so that XLA can compile them."""
        return all(source.in_graph for source in self.sources)

    def check_threads(self) -> None:
        """Raise where a callable could wait for ever inside a training step.

        Raises:
            InputError: for a callable on a single core: if it runs TensorFlow itself, the
                only thread of TensorFlow waits for it.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        unsafe = [s.name for s in self.sources if getattr(s, "may_run_tensorflow", False)]
        if unsafe and cores == 1:
            raise InputError(
                f"On a single core a callable teacher ({', '.join(unsafe)}) that runs TensorFlow "
                "would hang the training step; use fit(..., cache_teacher=True), or give the model."
            )

    @property
    def output_shapes(self) -> list[tuple] | None:
        """Shapes of the outputs, batch included, or `None` if no source knows them."""
        return next((s.output_shapes for s in self.sources if s.output_shapes), None)

    @property
    def feature_shapes(self) -> dict[str, tuple]:
        """Shape of each wanted feature."""
        return self.sources[0].feature_shapes

    def check(self, tasks: list[str], shapes: list[tuple]) -> None:
        """Raise unless every source's outputs can be read for these tasks.

        Args:
            tasks: One of `losses.TASKS` per output.
            shapes: The student's output shapes.

        Raises:
            InputError: where shapes differ, or logits and probabilities can't be told apart.
        """
        for source in self.sources:
            theirs = source.output_shapes
            if theirs is not None and [s[1:] for s in theirs] != [s[1:] for s in shapes]:
                raise InputError(
                    f"The teacher {source.name!r} gives outputs of shape {show_shapes(theirs)}, "
                    f"the student {show_shapes(shapes)}; they must be equal."
                )
            self._activations(source, tasks)

    def ask(self, x, tasks: list[str], shapes: list[tuple]):
        """Return what the teacher says of a batch.

        Args:
            x: A batch of inputs.
            tasks: One of `losses.TASKS` per output.
            shapes: The student's output shapes, for sources that don't know their own.

        Returns:
            A list of float32 tensors, logits or values, one per output, and a dict from
            layer name to feature. Gradients are stopped.
        """
        if self.inputs is not None:
            x = self.inputs(x)
        votes, features = [], {}
        for source in self.sources:
            outputs, features = source(x, shapes)
            votes.append(
                [
                    losses.logits_of(output, activation)
                    for output, activation in zip(
                        outputs, self._activations(source, tasks), strict=True
                    )
                ]
            )
        combined = [
            _average(list(answers), task)
            for answers, task in zip(zip(*votes, strict=True), tasks, strict=True)
        ]
        stop = tf.stop_gradient
        return [stop(a) for a in combined], {name: stop(f) for name, f in features.items()}

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the answers.

        Raises:
            InputError: if a source is a callable, whose code and state can't be hashed.
        """
        digest = hashlib.sha256(repr(self.from_logits).encode())
        for source in self.sources:
            source.feed(digest)
        return digest.hexdigest()

    def _activations(self, source, tasks):
        seen = source.activations or [None] * len(tasks)
        if len(seen) != len(tasks):
            raise InputError(
                f"The teacher {source.name!r} has {len(seen)} outputs, the student {len(tasks)}."
            )
        return [
            readable_activation("teacher", source.name, one, task, self.from_logits)
            for one, task in zip(seen, tasks, strict=True)
        ]


class ArrayTeacher:
    """A teacher's outputs, computed beforehand, one row per example of the training arrays.

    Args:
        arrays: One array (examples, ...) per output.
        from_logits: Whether they are logits; must be said for classification.
    """

    in_graph = True
    feature_shapes: dict = {}  # noqa: RUF012

    def __init__(self, arrays, from_logits=None):
        self.arrays = [np.asarray(array) for array in arrays]
        self.from_logits = from_logits
        self.output_shapes = [(None, *array.shape[1:]) for array in self.arrays]

    def check(self, tasks, shapes):
        """Raise unless shapes agree and logits and probabilities can be told apart."""
        if [s[1:] for s in self.output_shapes] != [s[1:] for s in shapes]:
            raise InputError(
                f"The teacher's outputs have the shape {show_shapes(self.output_shapes)}, the "
                f"student's {show_shapes(shapes)}; they must be equal."
            )
        for array, task in zip(self.arrays, tasks, strict=True):
            readable_activation("teacher", "array", None, task, self.from_logits)
            if not np.isfinite(array).all():
                raise InputError("The teacher's array holds NaN or infinite values.")

    def beside(self, x, tasks) -> Taught:
        """Put the answers beside the training inputs.

        Raises:
            InputError: if `x` is not arrays of the same length.
        """
        lengths = {len(leaf) for leaf in graph.leaves(x) if hasattr(leaf, "__len__")}
        if isinstance(x, tf.data.Dataset) or lengths != {len(self.arrays[0])}:
            raise InputError(
                f"An array of {len(self.arrays[0])} answers teaches arrays x of the same length, "
                f"in the same order; got {type(x).__name__} of length {sorted(lengths)}."
            )
        answers = {}
        for i, (array, task) in enumerate(zip(self.arrays, tasks, strict=True)):
            activation = readable_activation("teacher", "array", None, task, self.from_logits)
            answers[f"output{i}"] = np.asarray(losses.logits_of(array, activation))
        return Taught(x, answers)

    def ask(self, x, tasks, shapes):
        """Refuse: the answers belong to the arrays that `fit` is called with."""
        raise InputError(
            "A teacher given as an array answers for the training arrays of `fit` only; give the "
            "model itself to evaluate with it or to train on a dataset."
        )


def _average(answers: list, task: str):
    if len(answers) == 1:
        return answers[0]
    count = float(len(answers))
    if task == "categorical":
        return tf.reduce_logsumexp([tf.nn.log_softmax(a) for a in answers], axis=0) - np.log(count)
    if task == "binary":
        yes = tf.reduce_logsumexp([tf.math.log_sigmoid(a) for a in answers], axis=0)
        return yes - tf.reduce_logsumexp([tf.math.log_sigmoid(-a) for a in answers], axis=0)
    return tf.reduce_mean(tf.stack(answers), axis=0)
