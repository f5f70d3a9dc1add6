"""Whatever can teach, as one thing: an object that answers for a batch with logits or values.

Keras 3 or tf_keras model, `.keras`, `.h5` ─► _ModelSource ┐
SavedModel folder ─────────────────────────► _SavedSource ─┤
callable, `.tflite` ───────────────────────► _PythonSource ┼─► Teacher ─► answers, features
array of outputs ──────────────────────────► (attached to the data by `Distiller.fit`)
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfkd import backends, graph, losses, taps
from tfkd.errors import InputError, UnsupportedError


class Taught(NamedTuple):
    """A batch of inputs with the teacher's answers beside it, as a cache hands them on.

    Attributes:
        x: The inputs, as the student takes them.
        answers: What `Teacher.ask` would return, encoded by the cache.
    """

    x: Any
    answers: Any


def output_activations(model) -> list[str | None]:
    """Tell what each output of a model is by its last layer.

    Returns:
        Per output `"softmax"`, `"sigmoid"` or `"linear"`; `None` where it can't be told
        (another activation, a custom layer, a subclassed model).
    """
    try:
        source = graph.walk(model)
    except UnsupportedError:
        return [None] * len(getattr(model, "outputs", None) or [None])
    return [_activation_behind(source, tensor) for tensor in source.output_list]


_SHAPE_ONLY = frozenset({"Reshape", "Flatten", "Dropout", "Permute", "QuantizeLayer", "Identity"})
# Layers whose outputs are free values unless an activation follows.
_LINEAR = frozenset(
    {
        "Dense",
        "EinsumDense",
        "Conv1D",
        "Conv2D",
        "Add",
        "Average",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "BatchNormalization",
        "Rescaling",
    }
)


def _activation_behind(source: graph.Graph, tensor: graph.Tensor) -> str | None:
    call = source.producer(tensor)
    if call is None:
        return None
    layer = call.layer
    while type(layer).__name__ in ("QuantizeWrapperV2", "PruneLowMagnitude", "TimeDistributed"):
        layer = layer.layer
    kind = type(layer).__name__
    if kind in _SHAPE_ONLY:
        return _activation_behind(source, call.inputs[0])
    if kind == "Softmax":
        return "softmax"
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # tfmot's QuantizeAwareActivation
    name = getattr(activation, "__name__", None)
    if kind == "Activation" and name == "linear":
        return _activation_behind(source, call.inputs[0])
    if name in ("softmax", "sigmoid") or (name in (None, "linear") and kind in _LINEAR):
        return name or "linear"
    return None


def readable_activation(
    role: str, name: str, seen: str | None, task: str, from_logits: bool | None
) -> str:
    """Return how an output becomes logits for a task, or raise.

    Args:
        role: `"teacher"` or `"student"`, for the message.
        name: What to call it in the message.
        seen: What `output_activations` saw.
        task: One of `losses.TASKS`.
        from_logits: What the caller says, or `None`.

    Raises:
        InputError: where it can't be told, or the caller contradicts what was seen.
    """
    if task == "regression":
        return "linear"
    squash = {"categorical": "softmax", "binary": "sigmoid"}[task]
    argument = "from_logits" if role == "student" else "teacher_from_logits"
    if from_logits is None:
        if seen in ("linear", squash):
            return seen
        raise InputError(
            f"Whether the {role} {name!r} gives logits or probabilities can't be told from "
            f"its last layer ({seen or 'unknown'} output, {task} task); say {argument}=True for "
            f"logits or {argument}=False for {squash} probabilities."
        )
    said = "linear" if from_logits else squash
    if seen not in (None, said):
        raise InputError(
            f"{argument}={from_logits} contradicts the {role} {name!r}, whose output is "
            f"{seen}; leave {argument} out."
        )
    return said


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
        self.sources = [_source(one, features) for one in (given if several else [given])]
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
                    f"The teacher {source.name!r} gives outputs of shape {_show(theirs)}, the "
                    f"student {_show(shapes)}; they must be equal."
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


def _show(shapes) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)


class _ModelSource:
    """A Keras model of either flavour."""

    in_graph = True

    def __init__(self, model, features):
        self.model, self.name = model, model.name
        self.tap = taps.Tap(model, features, "teacher")
        self.feature_shapes = self.tap.shapes
        outputs = getattr(model, "outputs", None)
        self.output_shapes = [tuple(o.shape) for o in outputs] if outputs else None
        self.activations = output_activations(model) if outputs else None

    def __call__(self, x, shapes):
        outputs, features = self.tap(x, training=False)
        return list(graph.leaves(outputs)), features

    def feed(self, digest):
        digest.update(type(self.model).__name__.encode())
        for weight in self.model.weights:
            digest.update(np.ascontiguousarray(weight))


class _SavedSource:
    """A SavedModel's default signature."""

    in_graph = True
    feature_shapes: dict = {}  # noqa: RUF012
    activations = None

    def __init__(self, path):
        self.path, self.name = pathlib.Path(path), os.fspath(path)
        try:
            self.loaded = tf.saved_model.load(self.name)
            self.function = self.loaded.signatures["serving_default"]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{self.name!r} is no SavedModel with a 'serving_default' signature: {error}"
            ) from error
        specs = self.function.structured_outputs
        self.outputs = sorted(specs)
        self.output_shapes = [tuple(specs[name].shape) for name in self.outputs]
        self.inputs = sorted(self.function.structured_input_signature[1])

    def __call__(self, x, shapes):
        if not isinstance(x, dict):
            flat = list(graph.leaves(x))
            if len(flat) != len(self.inputs):
                raise InputError(
                    f"The SavedModel {self.name!r} takes {self.inputs}, got {len(flat)} inputs."
                )
            x = dict(zip(self.inputs, flat, strict=True))
        specs = self.function.structured_input_signature[1]
        results = self.function(**{n: tf.cast(x[n], specs[n].dtype) for n in self.inputs})
        return [results[name] for name in self.outputs], {}

    def feed(self, digest):
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            digest.update(file.read_bytes())


class _PythonSource:
    """A function from NumPy arrays to NumPy arrays; XLA can't compile a step that calls it."""

    in_graph = False
    feature_shapes: dict = {}  # noqa: RUF012
    activations = None
    output_shapes = None

    def __init__(self, function, name, identity=None):
        self.function, self.name, self.identity = function, name, identity

    def __call__(self, x, shapes):
        flat = list(graph.leaves(x))

        def run(*arrays):
            it = iter(arrays)
            result = self.function(graph.map_structure(lambda _: next(it), x))
            results = [np.asarray(r, np.float32) for r in graph.leaves(result)]
            wanted = [(len(arrays[0]), *shape[1:]) for shape in shapes]
            fits = len(results) == len(wanted) and all(
                r.ndim == len(w) and all(b in (None, a) for a, b in zip(r.shape, w, strict=True))
                for r, w in zip(results, wanted, strict=True)
            )
            if not fits:
                raise InputError(
                    f"The teacher {self.name!r} gave {_show(r.shape for r in results)} for a batch "
                    f"of {len(arrays[0])}; the student gives {_show(wanted)}."
                )
            return results

        results = tf.numpy_function(run, flat, [tf.float32] * len(shapes), stateful=False)
        results = results if isinstance(results, (list, tuple)) else [results]
        for result, shape in zip(results, shapes, strict=True):
            result.set_shape((None, *shape[1:]))
        return results, {}

    def feed(self, digest):
        if self.identity is None:
            raise InputError(
                f"A cache on disk is bound to its teacher, and {self.name!r} is a callable that "
                "can't be hashed; cache in memory, or cache an array of its outputs."
            )
        digest.update(self.identity)


def _source(given, features):
    """Return the source for one thing that was given as a teacher."""
    if isinstance(given, (str, os.PathLike)):
        given = _load(pathlib.Path(given))
    if isinstance(given, (_SavedSource, _PythonSource)):
        source = given
    elif backends.flavour(given) is not None and hasattr(given, "layers"):
        return _ModelSource(given, features)
    elif callable(given) and backends.flavour(given) is None:
        source = _PythonSource(given, getattr(given, "__qualname__", type(given).__name__))
    else:
        raise InputError(
            "A teacher must be a Keras 3 or tf_keras model, the path of a .keras, .h5, SavedModel "
            "or .tflite file, a callable, an array of outputs, or a list of these; "
            f"got {type(given).__name__}."
        )
    if features:
        raise InputError(
            f"Feature losses need a Keras model as teacher; {source.name!r} shows its outputs only."
        )
    return source


def _load(path: pathlib.Path):
    """Open a teacher's file, with whichever Keras wrote it; nothing in it is executed."""
    if not path.exists():
        raise InputError(f"There is no teacher at {str(path)!r}.")
    if path.is_dir():
        return _SavedSource(path)
    if path.suffix == ".tflite":
        from tfkd.export.artifact import TFLiteModel

        file = TFLiteModel.load(path)
        return _PythonSource(file.predict, str(path), identity=file.data)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise InputError(
            f"{str(path)!r} is no teacher: known are .keras, .h5, .tflite and SavedModel folders."
        )
    try:
        package = backends.keras() if _writer(path).startswith("3") else backends.tf_keras()
        return package.models.load_model(path, compile=False)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"The teacher {str(path)!r} can't be read: {reason}") from error


def _writer(path: pathlib.Path) -> str:
    """Return the version of Keras that wrote a file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))["keras_version"]
    import h5py

    with h5py.File(path, "r") as file:
        version = file.attrs["keras_version"]
        return version if isinstance(version, str) else version.decode()


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
                f"The teacher's outputs have the shape {_show(self.output_shapes)}, the student's "
                f"{_show(shapes)}; they must be equal."
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
