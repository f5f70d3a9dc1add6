"""One class per kind of teacher; each knows its inputs and outputs by name.

A source is called with its inputs in flat order (or with a batch as it is, where it doesn't
know them) and gives its outputs in flat order.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfkd.distillation.teachers import batches, functions, memory
from tfkd.errors import InputError, argument
from tfkd.export.tflite.model import TFLiteModel
from tfkd.loading import models, signatures
from tfkd.model import backends, binding, feature_extractor, graph, real_shapes
from tfkd.output_kind import OutputKind, output_kinds


class Source:
    """Base of the sources.

    Attributes:
        name: Its name in messages.
        inputs: Its inputs; `None` if it takes a batch as it is.
        outputs: Its outputs; `None` if they are known only when it is called.
        kinds: The kind of each output, as `output_kinds` returns it; `None` if unknown.
        in_graph: Whether it runs in TensorFlow, so that XLA can compile it.
        may_run_tensorflow: Whether it is Python code that may wait for TensorFlow's threads.
        feature_shapes: Shape of each wanted feature.
    """

    name: str
    inputs: binding.Slots | None = None
    outputs: binding.Slots | None = None
    kinds: list[OutputKind] | None = None
    in_graph = True
    may_run_tensorflow = False
    feature_shapes: dict = {}  # noqa: RUF012

    @property
    def memory(self) -> str:
        """The part that keeps a state from batch to batch, in words; empty if there is none."""
        return ""

    @property
    def activations(self) -> list[str | None] | None:
        """What each output is, classes along the last axis; `None` if unknown."""
        if self.kinds is None:
            return None
        return [kind.activation if kind.is_last else None for kind in self.kinds]

    def __call__(self, x, wanted: binding.Slots | None):
        """Return the answers for a batch.

        Args:
            x: The inputs in flat order; the unchanged batch if `inputs` is `None`.
            wanted: The student's outputs, or `None` for the source's own outputs.

        Returns:
            A list with a tensor for each wanted output (`None` if the source doesn't teach
            it), and a dict from layer name to feature.

        Raises:
            InputError: if its outputs can't be bound to the wanted outputs.
        """
        size = batches.size_of(self.inputs)
        outputs, features = self.run(x) if size is None else batches.in_batches(self.run, x, size)
        given = binding.slots_of_values(outputs, "output", f"teacher {self.name!r}")
        ours = self.outputs if self.outputs is not None else given
        flat = list(graph.leaves(outputs))
        if wanted is None:
            return flat, features
        return [None if i is None else flat[i] for i in wanted.match(ours)], features

    def run(self, x):
        """Return the outputs in the source's own structure, and features by layer."""
        raise NotImplementedError

    def measure(self) -> bool:
        """Find the shapes of the outputs by running it; tell whether it can."""
        return False

    def identity(self):
        """Return everything that decides the answers, for a fingerprint."""
        raise NotImplementedError


class ModelSource(Source):
    """A Keras model of either flavour."""

    def __init__(self, model, features):
        self.model, self.name = model, model.name
        self.tap = feature_extractor.Tap(model, features, "teacher")
        self.feature_shapes = self.tap.shapes
        self.inputs = self.tap.inputs
        if self.inputs is not None:
            self.outputs = real_shapes.outputs_of(model, "teacher")
            self.kinds = output_kinds(model)

    def run(self, x):
        """Return the outputs in the model's structure, and features by layer."""
        if self.inputs is not None:
            return self.tap.run(x, training=False)
        return self.tap(x, training=False)

    def measure(self) -> bool:
        """Find the shapes of the outputs by running the model on blank examples."""
        if self.inputs is not None:
            self.outputs = real_shapes.outputs_of(self.model, "teacher", always=True)
        return self.inputs is not None

    def identity(self):
        """Return the model."""
        return self.model

    @property
    def memory(self) -> str:
        """The stateful layer, in words."""
        return memory.stateful_layer(self.model)


class FunctionSource(Source):
    """A function of tensors: a SavedModel's signature or endpoint, a `tf.function`, a layer."""

    def __init__(self, function, name, loaded=None, path=None):
        self.function, self.name = function, name
        owner = f"teacher {name!r}"
        self.inputs = signatures.inputs_of(loaded, function, owner)
        self.outputs = signatures.outputs_of(function, path, owner)
        self._dtypes = None
        self._untraced = isinstance(function, tf.types.experimental.GenericFunction)
        if self.inputs is not None:
            specs = function.structured_input_signature[1]
            self._dtypes = {name: spec.dtype for name, spec in specs.items()}

    def run(self, x):
        """Return the outputs in the order of `outputs`, or as the function gives them."""
        if self._dtypes is not None:
            names = [slot.name for slot in self.inputs.entries]
            x = {n: tf.cast(value, self._dtypes[n]) for n, value in zip(names, x, strict=True)}
            results = self._called(**x)
        else:
            results = self._called(x)
        if self.outputs is not None and isinstance(results, Mapping):
            results = [results[slot.name] for slot in self.outputs.entries]
        return results, {}

    def _called(self, *args, **kwargs):
        try:
            if self._untraced:
                if memory.assigns(self.function.get_concrete_function(*args, **kwargs)):
                    raise InputError(memory.message(self.name, memory.ASSIGNED))
                self._untraced = False
            return self.function(*args, **kwargs)
        except AssertionError as error:
            if "variables which have been deleted" not in str(error):
                raise
            raise InputError(
                f"The teacher {self.name!r} is a function of a SavedModel that no variable holds "
                "any more: keep what tf.saved_model.load returned in a variable, or give that, or "
                "the path."
            ) from None

    def identity(self):
        """Return the function."""
        return self.function

    @property
    def memory(self) -> str:
        """What keeps a state, in words: a layer, or a variable that the function changes."""
        if backends.flavour(self.function) is not None:
            return memory.stateful_layer(self.function)
        # A `tf.function` has no concrete function before its first call.
        known = getattr(self.function, "concrete_functions", None)  # of a loaded function
        traced = known or ([self.function] if hasattr(self.function, "graph") else [])
        return memory.ASSIGNED if any(map(memory.assigns, traced)) else ""


class SavedSource(FunctionSource):
    """A SavedModel's default signature, or the only one it has."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.loaded, function, _ = signatures.opened(
            path, "teacher", choose="give the function of one of them as the teacher"
        )
        super().__init__(function, os.fspath(path), self.loaded, self.path)

    def identity(self):
        """Return the names and bytes of all files."""
        files = sorted(p for p in self.path.rglob("*") if p.is_file())
        return [(str(p.relative_to(self.path)), p.read_bytes()) for p in files]


class PythonSource(Source):
    """A function from NumPy arrays to NumPy arrays; XLA can't compile a step that calls it."""

    in_graph = False
    may_run_tensorflow = True

    def __init__(self, function, name):
        self.function, self.name = function, name
        # The index of each wanted output among its own; known after a run outside a graph.
        self._order: list[int | None] | None = None

    def __call__(self, x, wanted):
        """Return the wanted outputs, and no features."""
        wanted = self.outputs if wanted is None else wanted
        flat = list(graph.leaves(x))
        shapes = [slot.shape for slot in wanted.entries]
        # Tracing a graph fixes which outputs it returns.
        order = None if tf.executing_eagerly() else self._order or list(range(len(shapes)))

        def run(*arrays):
            it = iter(arrays)
            result = self.answers(graph.map_structure(lambda _: next(it), x))
            found, answers = self._fitting(result, wanted, len(arrays[0]))
            if order not in (None, found):
                raise InputError(
                    f"The teacher {self.name!r} returned outputs with other names than for the "
                    "first examples, or not one for each of the student's outputs "
                    f"({', '.join(wanted.labels)})."
                )
            self._order = found
            return answers

        if tf.executing_eagerly():
            results = _call_in_thread(run, [np.asarray(leaf) for leaf in flat])
        else:
            results = tf.numpy_function(run, flat, [tf.float32] * len(shapes), stateful=False)
        results = results if isinstance(results, (list, tuple)) else [results]
        for result, shape in zip(results, shapes, strict=True):
            result.set_shape((None, *shape[1:]))
        order = self._order if order is None else order
        return [None if i is None else r for i, r in zip(order, results, strict=True)], {}

    def answers(self, x):
        """Return the function's answers to a batch; see `functions.answers_of`."""
        return functions.answers_of(self.function, self.name, x)

    def _fitting(self, result, wanted, examples: int):
        """Return the index of each wanted output, and the outputs; empty if none fits."""
        ours = self.outputs
        if ours is None:
            ours = binding.slots_of_values(result, "output", f"teacher {self.name!r}")
        answers = list(graph.leaves(result))
        order = wanted.match(ours) if len(ours) == len(answers) else [None] * len(wanted)
        shapes = [(examples, *slot.shape[1:]) for slot in wanted.entries]
        fits = [i is None or _fits(answers[i].shape, s) for i, s in zip(order, shapes, strict=True)]
        if not all(fits) or all(i is None for i in order):
            raise InputError(
                f"The teacher {self.name!r} returned {show_shapes(a.shape for a in answers)} for "
                f"a batch of {examples}; the student returns {show_shapes(shapes)}."
            )
        empty = [np.zeros((0, *[size or 0 for size in shape[1:]]), np.float32) for shape in shapes]
        return order, [empty[n] if i is None else answers[i] for n, i in enumerate(order)]

    def identity(self):
        """Return the function."""
        return self.function


class TFLiteSource(PythonSource):
    """A `.tflite` file or a `TFLiteModel`, run in a process of its own."""

    may_run_tensorflow = False

    def __init__(self, file, name):
        self.file = file
        super().__init__(self._predict, name)
        hidden = {name for pair in self.file.states for name in pair}
        self.inputs, self.outputs = (
            self._slots(kind, [info for info in infos if info.name not in hidden])
            for kind, infos in (("input", self.file.inputs), ("output", self.file.outputs))
        )

    def identity(self):
        """Return the file's bytes."""
        return self.file.data

    def _predict(self, x):
        outputs = self.file._predict(x if len(self.inputs) > 1 else x[0])
        return outputs if len(outputs) > 1 else outputs[0]

    def _slots(self, kind, infos) -> binding.Slots:
        names = [re.sub(r"^serving_default_|:0$", "", info.name) for info in infos]
        shapes = [(None, *info.shape[1:]) for info in infos]
        owner = f"teacher {self.name!r}"
        # Other tools may reorder a file's outputs; the numbers in the names show if they did.
        ordered = signatures.in_order(names) == (names, True)
        return binding.named(names, kind, owner, ordered=ordered, shapes=shapes)


# Functions that TensorFlow runs: `tf.function`s, SavedModels' signatures and endpoints.
_FUNCTIONS = (tf.types.experimental.GenericFunction, tf.types.experimental.ConcreteFunction)


def source_of(given, features) -> Source:
    """Return the source for one object given as a teacher.

    Raises:
        InputError: if it can't teach, or can't return the requested features.
    """
    if isinstance(given, (str, os.PathLike)):
        given = _load(pathlib.Path(given))
    if isinstance(given, Source):
        source = given
    elif isinstance(given, TFLiteModel):
        source = TFLiteSource(given, "TFLiteModel")
    elif backends.flavour(given) is not None and hasattr(given, "layers"):
        return ModelSource(given, features)
    elif isinstance(given, _FUNCTIONS) or backends.flavour(given) is not None:
        source = FunctionSource(given, getattr(given, "name", type(given).__name__))
    elif "serving_default" in (getattr(given, "signatures", None) or ()):
        name = type(given).__name__
        source = FunctionSource(given.signatures["serving_default"], name, given)
    elif callable(given):
        source = PythonSource(given, getattr(given, "__qualname__", type(given).__name__))
    else:
        raise InputError(_no_teacher(given))
    if features:
        raise InputError(
            f"Feature losses need a Keras model as teacher; {source.name!r} shows only its outputs."
        )
    return source


def _no_teacher(given) -> str:
    given_as = type(given).__name__
    if callable(getattr(given, "predict_proba", None)):  # as the classifiers of scikit-learn
        return (
            f"A {given_as} can't teach, but its method can: give teacher.predict_proba, without "
            f"calling it, and {argument('teacher_from_logits', False)}."
        )
    return (
        "A teacher must be a Keras 3 or tf_keras model, the path of a .keras, .h5, SavedModel or "
        ".tflite file, a TFLiteModel, a callable, an array of outputs, or a list of these; got "
        f"{given_as}."
    )


def _load(path: pathlib.Path):
    """Open a teacher's file with the Keras that wrote it.

    No code in a file runs, except a SavedModel's graph after a check of its operations.
    """
    if not path.exists():
        raise InputError(f"There is no teacher at {str(path)!r}.")
    if path.is_dir():
        return SavedSource(path)
    if path.suffix == ".tflite":
        return TFLiteSource(TFLiteModel.load(path), str(path))
    if path.suffix not in models.SUFFIXES:
        raise InputError(
            f"{str(path)!r} is not a teacher: tfkd reads .keras, .h5 and .tflite files and "
            "SavedModel folders."
        )
    return models.load_model(path, "teacher")


def _call_in_thread(function, arrays: list) -> list:
    """Call a function outside of the running step, in a separate thread, as a graph does.

    An eager step runs inside a replica, where Keras's `predict` may not be called.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return [tf.constant(answer) for answer in thread.submit(function, *arrays).result()]


def _fits(shape, wanted) -> bool:
    return len(shape) == len(wanted) and all(
        b in (None, a) for a, b in zip(shape, wanted, strict=True)
    )


def show_shapes(shapes) -> str:
    """Return shapes as text for a message."""
    return ", ".join(str(tuple(shape)) for shape in shapes)
