"""One class per kind of thing that can teach; each is called with a batch and knows its shapes."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import tensorflow as tf

from tfkd import backends, graph, loading, taps
from tfkd.errors import InputError
from tfkd.outputs import output_activations


class ModelSource:
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
        """Return the outputs as a flat list, and features by layer."""
        outputs, features = self.tap(x, training=False)
        return list(graph.leaves(outputs)), features

    def feed(self, digest):
        """Add what decides the answers to a hash."""
        digest.update(type(self.model).__name__.encode())
        for weight in self.model.weights:
            digest.update(np.ascontiguousarray(weight))


class SavedSource:
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
        """Return the outputs as a flat list, and features by layer."""
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
        """Add what decides the answers to a hash."""
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            digest.update(file.read_bytes())


class PythonSource:
    """A function from NumPy arrays to NumPy arrays; XLA can't compile a step that calls it."""

    in_graph = False
    feature_shapes: dict = {}  # noqa: RUF012
    activations = None
    output_shapes = None

    def __init__(self, function, name, identity=None):
        self.function, self.name, self.identity = function, name, identity
        self.may_run_tensorflow = identity is None  # a .tflite file runs in its own process

    def __call__(self, x, shapes):
        """Return the outputs as a flat list, and features by layer."""
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
                gave = show_shapes(r.shape for r in results)
                raise InputError(
                    f"The teacher {self.name!r} gave {gave} for a batch "
                    f"of {len(arrays[0])}; the student gives {show_shapes(wanted)}."
                )
            return results

        results = tf.numpy_function(run, flat, [tf.float32] * len(shapes), stateful=False)
        results = results if isinstance(results, (list, tuple)) else [results]
        for result, shape in zip(results, shapes, strict=True):
            result.set_shape((None, *shape[1:]))
        return results, {}

    def feed(self, digest):
        """Add what decides the answers to a hash."""
        if self.identity is None:
            raise InputError(
                f"A cache on disk is bound to its teacher, and {self.name!r} is a callable that "
                "can't be hashed; cache in memory, or cache an array of its outputs."
            )
        digest.update(self.identity)


def source_of(given, features):
    """Return the source for one thing that was given as a teacher."""
    if isinstance(given, (str, os.PathLike)):
        given = _load(pathlib.Path(given))
    if isinstance(given, (SavedSource, PythonSource)):
        source = given
    elif backends.flavour(given) is not None and hasattr(given, "layers"):
        return ModelSource(given, features)
    elif callable(given) and backends.flavour(given) is None:
        source = PythonSource(given, getattr(given, "__qualname__", type(given).__name__))
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
        return SavedSource(path)
    if path.suffix == ".tflite":
        from tfkd.export.artifact import TFLiteModel

        file = TFLiteModel.load(path)
        return PythonSource(file.predict, str(path), identity=file.data)
    if path.suffix not in loading.SUFFIXES:
        raise InputError(
            f"{str(path)!r} is no teacher: known are .keras, .h5, .tflite and SavedModel folders."
        )
    return loading.load_model(path, "teacher")


def show_shapes(shapes) -> str:
    """Return shapes as a message shows them."""
    return ", ".join(str(tuple(shape)) for shape in shapes)
