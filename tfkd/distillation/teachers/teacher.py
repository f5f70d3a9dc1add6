"""`Teacher`: one or several sources that answer as one, or answers computed beforehand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfkd import losses
from tfkd.distillation.teachers import memory
from tfkd.distillation.teachers.activations import readable_activation
from tfkd.distillation.teachers.sources import source_of
from tfkd.errors import InputError, argument
from tfkd.model import binding, fingerprint, graph


class TeacherBatch(NamedTuple):
    """A batch of inputs with the teacher's answers to it, as a cache returns them.

    Attributes:
        x: The inputs, as the student takes them.
        answers: What `Teacher.ask` would return, encoded by the cache.
    """

    x: Any
    answers: Any


def answers_beside(x) -> Mapping[str, Any] | None:
    """Return the teacher's answers that training data holds, or their specs; `None` for none."""
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        x = spec[0] if isinstance(spec, tuple) and not isinstance(spec, TeacherBatch) else spec
    # A sequence that a cache was attached to has those of its first batch.
    return x.answers if isinstance(x, TeacherBatch) else getattr(x, "_tfkd_answers", None)


def carries_answers(x) -> bool:
    """Tell whether training data holds the teacher's answers already."""
    return answers_beside(x) is not None


class Teacher:
    """One or several teachers that answer for a batch, never trained themselves.

    The caller's models are not changed: neither weights nor `trainable` flags nor compile state.
    They always run in inference mode, and no gradient flows into them.

    Args:
        given: A Keras 3 or tf_keras model or layer, the path of a `.keras`, `.h5`, SavedModel or
            `.tflite` file, a `TFLiteModel`, a loaded SavedModel or one of its functions, a callable
            from a NumPy batch to NumPy outputs (a scikit-learn `predict_proba`), or a list of
            these. Several are averaged: their probabilities for classification, their values for
            regression.
        from_logits: Whether the outputs are logits. Needed where the graph does not show it; in a
            list it is for these teachers, and the graphs of the others count.
        features: Names or paths of layers whose outputs to return as well.
        inputs: Callable from a batch of `x` to what the teacher takes (another resolution
            or preprocessing), or `None`.
        student: The inputs of the student that `x` is given for. They define a list of arrays where
            the teacher has the same names in another order.

    Raises:
        InputError: if a source can't teach or can't be read.
    """

    def __init__(self, given, from_logits=None, features=(), inputs=None, student=None):
        several = isinstance(given, (list, tuple))
        self.sources = [source_of(one, features) for one in (given if several else [given])]
        if not self.sources:
            raise InputError("The list of teachers is empty; give at least one.")
        if features and len(self.sources) > 1:
            raise InputError("Feature losses need one teacher, not a list of them.")
        self.from_logits = from_logits
        self.features, self.inputs, self._student = list(features), inputs, student

    @property
    def in_graph(self) -> bool:
        """Whether the answers are TensorFlow operations, so that XLA can compile them."""
        return all(source.in_graph for source in self.sources)

    @property
    def models(self) -> list:
        """The Keras models among the teachers."""
        return [source.model for source in self.sources if hasattr(source, "model")]

    def check_threads(self) -> None:
        """Raise if a callable could wait forever inside a training step.

        Raises:
            InputError: for a callable on a single core: if it runs TensorFlow itself, the
                only thread of TensorFlow waits for it.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        unsafe = [source.name for source in self.sources if source.may_run_tensorflow]
        if unsafe and cores == 1:
            raise InputError(
                f"On a single core, a callable teacher ({', '.join(unsafe)}) that runs TensorFlow "
                f"would hang the training step; use {argument('cache_teacher', True, of='fit')}, "
                "or give the model."
            )

    def check_stateless(self) -> None:
        """Raise if answers depend on earlier calls, and a call would change a teacher.

        Raises:
            InputError: naming the stateful layer and a remedy.
        """
        for source in self.sources:
            if source.memory:
                raise InputError(memory.message(source.name, source.memory))

    @property
    def outputs(self) -> binding.Slots | None:
        """The outputs of the first teacher that knows its own, or `None`."""
        return next((s.outputs for s in self.sources if s.outputs is not None), None)

    @property
    def output_shapes(self) -> list[tuple] | None:
        """Shapes of the outputs, batch included, or `None` if no source knows them."""
        if self.outputs is None or any(slot.shape is None for slot in self.outputs.entries):
            return None
        return [slot.shape for slot in self.outputs.entries]

    @property
    def output_names(self) -> list[str] | None:
        """Names of the outputs, or `None` if no source knows them."""
        return None if self.outputs is None else self.outputs.labels

    @property
    def feature_shapes(self) -> dict[str, tuple]:
        """Shape of each wanted feature."""
        return self.sources[0].feature_shapes

    def check_shapes(self, wanted: binding.Slots) -> None:
        """Raise unless each of the student's outputs has the shape of its teacher's.

        Args:
            wanted: The student's outputs.

        Raises:
            InputError: naming both sides.
        """
        for source in self.sources:
            if source.outputs is None:
                continue
            heads = wanted.match(source.outputs)
            if all(head is None for head in heads):
                raise InputError(
                    f"The teacher {source.name!r} has the outputs "
                    f"{', '.join(map(repr, source.outputs.labels))}, the {wanted.owner} "
                    f"{', '.join(map(repr, wanted.labels))}: {len(source.outputs)} and "
                    f"{len(wanted)} outputs without a common name; give both the same names."
                )
            for slot, head in zip(wanted.entries, heads, strict=True):
                if head is None:
                    continue
                check_shape(source.name, source.outputs.entries[head], wanted.owner, slot)

    def measure(self) -> bool:
        """Run the models that have a graph to get their outputs' shapes; tell if there is one."""
        measured = [source.measure() for source in self.sources]
        return any(measured)

    def check_inputs(self) -> None:
        """Raise if student and teacher have one input each and no batch fits the sizes of both."""
        if self.inputs is not None or self._student is None or len(self._student) != 1:
            return
        ours = self._student.entries[0].shape
        for source in self.sources:
            if source.inputs is None or len(source.inputs) != 1:
                continue
            theirs = source.inputs.entries[0].shape
            if theirs is not None and ours is not None and not _compatible(ours, theirs):
                raise InputError(
                    f"The teacher {source.name!r} takes inputs of shape {tuple(theirs)}, the "
                    f"{self._student.owner} {tuple(ours)}: convert x to the teacher's input "
                    f"with {argument('teacher_inputs', like='function')} (or the student's with "
                    f"{argument('student_inputs')})."
                )

    def check(self, tasks: list[str | None], wanted: binding.Slots, axes: list[int]) -> None:
        """Raise unless every source's outputs can be read for these tasks.

        Args:
            tasks: One of `losses.SOFT_TASKS` per output of the student; `None` for one that learns
                from labels alone.
            wanted: The student's outputs.
            axes: Class axis of each, counted from the front; -1 for the last.

        Raises:
            InputError: where shapes differ, an output has no teacher, or logits and
                probabilities can't be told apart.
        """
        self.check_shapes(wanted)
        taught = [False] * len(wanted)
        for source in self.sources:
            heads = range(len(wanted)) if source.outputs is None else wanted.match(source.outputs)
            for i, (head, task) in enumerate(zip(heads, tasks, strict=True)):
                if head is not None and task is not None:
                    self._activation(source, head, task, axes[i])
                    taught[i] = True
        check_all_taught(taught, tasks, wanted, [s.name for s in self.sources], self.output_names)

    def ask(self, x, tasks: list[str | None], shapes=None, wanted=None, axes=None):
        """Return the teacher's answers for a batch.

        Args:
            x: A batch of inputs.
            tasks: One of `losses.SOFT_TASKS` per wanted output; `None` for one that isn't asked.
            shapes: Shapes of the wanted outputs; only needed where `wanted` is `None` and
                the teacher doesn't know its own.
            wanted: The student's outputs; `None` for the teacher's own, in its own order.
            axes: Class axis of each wanted output, counted from the front; -1, the default, is
                the last.

        Returns:
            A list of float32 tensors, logits or values, one per output (`None` where it is
            not asked), and a dict from layer name to feature. Gradients are stopped.

        Raises:
            InputError: where an output has no teacher, or other sizes than the student's.
        """
        if self.inputs is not None:
            x = self.inputs(x)
        axes = axes or [-1] * len(tasks)
        votes, features = [[] for _ in tasks], {}
        for source in self.sources:
            if wanted is None and source.outputs is None:
                wanted = binding.named(
                    [f"output_{i}" for i in range(len(shapes))], "output", "student",
                    ordered=True, shapes=shapes,
                )  # fmt: skip
            outputs, features = source(self._inputs_of(source, x), wanted)
            heads = range(len(outputs))
            if wanted is not None and source.outputs is not None:
                heads = wanted.match(source.outputs)
            for i, output in enumerate(outputs):
                if output is None or tasks[i] is None:
                    continue
                if wanted is not None:
                    check_sizes(source.name, output, wanted, i)
                votes[i].append(
                    losses.logits_of(output, self._activation(source, heads[i], tasks[i], axes[i]))
                )
        if wanted is not None:
            names = [source.name for source in self.sources]
            check_all_taught(list(map(bool, votes)), tasks, wanted, names, self.output_names)
        combined = [
            _average(answers, task, axis) if answers else None
            for answers, task, axis in zip(votes, tasks, axes, strict=True)
        ]
        stop = tf.stop_gradient
        answers = [None if a is None else stop(a) for a in combined]
        return answers, {name: stop(f) for name, f in features.items()}

    def fingerprint(self) -> str:
        """Return a hash of what teaches: its sources, and what becomes of their inputs.

        Raises:
            InputError: for a callable or another object that another process could not
                recognize.
        """
        identities = [source.identity() for source in self.sources]
        return fingerprint.fingerprint([self.inputs, identities])

    def _inputs_of(self, source, x):
        """Return the batch in the form that a source takes: by name, or in flat order."""
        theirs = source.inputs
        if theirs is None:
            return x
        direct = self.inputs is not None or self._student is None
        if isinstance(x, Mapping):
            known = all(any(slot.is_called(key) for key in x) for slot in theirs.entries)
            direct = direct or known
        if direct or (len(theirs) == 1 and not isinstance(x, (Mapping, list, tuple))):
            return theirs.bind(x, "x", extra=True)
        flat = self._student.bind(x, "x", extra=True)
        order = theirs.match(self._student)
        if None in order:
            raise InputError(
                f"The {theirs.owner} takes the inputs {', '.join(map(repr, theirs.labels))}, the "
                f"{self._student.owner} {', '.join(map(repr, self._student.labels))}: give x as a "
                f"dict with all these names, or {argument('teacher_inputs')}, a function from x "
                "to the teacher's inputs."
            )
        return [flat[i] for i in order]

    def _activation(self, source, head: int, task: str, axis: int) -> str:
        seen = None
        if source.kinds is not None:
            kind = source.kinds[head]
            fits = kind.is_last if axis == -1 else kind.class_axis in (None, axis)
            seen = kind.activation if fits else None
        # Beside a function, whose answers need the setting, a model is read by its graph.
        kinds = [kind for one in self.sources for kind in one.kinds or [None]]
        hidden = any(kind is None or kind.activation is None for kind in kinds)
        return readable_activation("teacher", source.name, seen, task, self.from_logits, hidden)


#: Why arrays can't teach a stream.
ARRAY_NEEDS_ARRAYS = (
    "A teacher that is an array has an answer for each row of training arrays, but the training "
    "part is not an array in memory: give the model, or its answers as a tfkd.TeacherCache."
)


class ArrayTeacher:
    """A teacher's outputs, computed beforehand, one row per example of the training arrays.

    Args:
        arrays: One array (examples, ...) per output, or a dict of them by the student's names.
        from_logits: Whether they are logits; must be said for classification.
    """

    in_graph = True
    feature_shapes: dict = {}  # noqa: RUF012
    models = ()

    def __init__(self, arrays, from_logits=None):
        self.given = graph.map_structure(np.asarray, arrays)
        self.outputs = binding.slots_of_values(self.given, "output", "teacher 'array'")
        self.from_logits = from_logits

    def measure(self) -> bool:
        """Return `False`: an array has no graph to run."""
        return False

    def check_inputs(self):
        """Do nothing: an array has no inputs."""

    def check_shapes(self, wanted):
        """Raise unless each of the student's outputs has the shape of its array."""
        for slot, head in zip(wanted.entries, wanted.match(self.outputs), strict=True):
            if head is not None:
                check_shape("array", self.outputs.entries[head], wanted.owner, slot)

    def check(self, tasks, wanted, axes):
        """Raise unless shapes agree and logits and probabilities can be told apart."""
        self.check_shapes(wanted)
        found = self._arrays(wanted)
        taught = [array is not None for array in found]
        check_all_taught(taught, tasks, wanted, ["array"], self.outputs.labels)
        for array, task in zip(found, tasks, strict=True):
            if array is None or task is None:
                continue
            readable_activation("teacher", "array", None, task, self.from_logits)
            broken = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if broken.any():
                raise InputError(
                    f"The teacher's array holds NaN or infinite values in {broken.sum()} of "
                    f"{len(array)} rows (the first is row {broken.argmax()}); leave these examples "
                    "out, or correct the answers."
                )

    def beside(self, x, tasks, wanted) -> list:
        """Return the logits or values for each wanted output, `None` where it isn't asked.

        Raises:
            InputError: if `x` is not arrays of the same length.
        """
        found = self._arrays(wanted)
        rows = next(len(array) for array in found if array is not None)
        lengths = {len(leaf) for leaf in graph.leaves(x) if hasattr(leaf, "__len__")}
        if isinstance(x, tf.data.Dataset) or lengths != {rows}:
            raise InputError(
                f"An array of {rows} answers needs arrays x of the same length, "
                f"in the same order; got {type(x).__name__} of length {sorted(lengths)}."
            )
        answers = []
        for array, task in zip(found, tasks, strict=True):
            if array is None or task is None:
                answers.append(None)
                continue
            activation = readable_activation("teacher", "array", None, task, self.from_logits)
            answers.append(np.asarray(losses.logits_of(array, activation)))
        return answers

    def ask(self, x, tasks, shapes=None, wanted=None, axes=None):
        """Refuse: the answers belong to the arrays that `fit` is called with."""
        raise InputError(
            "A teacher given as an array has answers only for the training arrays of `fit`; give "
            "the model itself to evaluate with it or to train on a dataset."
        )

    def _arrays(self, wanted):
        flat = list(graph.leaves(self.given))
        return [None if i is None else flat[i] for i in wanted.match(self.outputs)]


def fingerprint_of(teacher) -> str | None:
    """Return a teacher's fingerprint, or `None` where it has none."""
    if not isinstance(teacher, Teacher):
        return None
    try:
        return teacher.fingerprint()
    except InputError:
        return None


def check_all_taught(taught, tasks, wanted: binding.Slots, names, theirs) -> None:
    """Raise if an output that should have a teacher has none.

    Args:
        taught: Whether each output has a teacher.
        tasks: Its task, `None` for one that learns from labels alone.
        wanted: The student's outputs.
        names: Names of the teachers.
        theirs: The names of the teacher's outputs, if known.
    """
    missing = [
        slot.label
        for slot, has, task in zip(wanted.entries, taught, tasks, strict=True)
        if not has and task is not None
    ]
    if missing:
        known = "outputs with other names" if theirs is None else f"{', '.join(map(repr, theirs))}"
        lacking = ", ".join(map(repr, missing))
        raise InputError(
            f"The teacher {', '.join(map(repr, names))} has {known}, but the {wanted.owner} also "
            f"has {lacking}: give the outputs the same names, or let it learn from "
            f"labels alone with {argument('soft_loss', {missing[0]: None})}."
        )


def check_shape(name: str, theirs: binding.Slot, owner: str, ours: binding.Slot) -> None:
    """Raise if a teacher's output and a student's have sizes that can't be equal."""
    if theirs.shape is None or ours.shape is None:
        return
    if tuple(theirs.shape[1:]) != tuple(ours.shape[1:]) and not _compatible(
        ours.shape, theirs.shape
    ):
        raise InputError(
            f"The teacher {name!r} gives outputs of shape {tuple(theirs.shape)}, but the {owner} "
            f"gives {tuple(ours.shape)} ({ours.label!r}); they must be equal."
        )


def check_sizes(name: str, output, wanted: binding.Slots, i: int) -> None:
    """Raise unless a teacher's answer has the shape of the student's output."""
    shape = wanted.entries[i].shape
    if shape is not None and not _compatible(shape, output.shape):
        raise InputError(
            f"The teacher {name!r} returned the shape {tuple(output.shape)}, but the "
            f"{wanted.owner} gives {tuple(shape)} ({wanted.entries[i].label!r}); they must be "
            "equal."
        )


def _compatible(a, b) -> bool:
    """Tell whether two shapes can be equal, ignoring the batch axis."""
    if getattr(b, "rank", len(b) if b is not None else None) is None:
        return True
    a, b = tuple(a)[1:], tuple(b)[1:]
    return len(a) == len(b) and all(
        m is None or n is None or m == n for m, n in zip(a, b, strict=True)
    )


def _average(answers: list, task: str, axis: int):
    if len(answers) == 1:
        return answers[0]
    count = float(len(answers))
    if task == "categorical":
        return tf.reduce_logsumexp(
            [tf.nn.log_softmax(a, axis=axis) for a in answers], axis=0
        ) - np.log(count)
    if task == "binary":
        yes = tf.reduce_logsumexp([tf.math.log_sigmoid(a) for a in answers], axis=0)
        return yes - tf.reduce_logsumexp([tf.math.log_sigmoid(-a) for a in answers], axis=0)
    return tf.reduce_mean(tf.stack(answers), axis=0)
