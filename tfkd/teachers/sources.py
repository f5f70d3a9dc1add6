"""One class per kind of thing that can teach; each knows its inputs and outputs by name.

A source is called with its inputs in flat order (or with a batch as it is, where it doesn't
know them) and gives its outputs in flat order.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfkd import backends, graph, loading, taps
from tfkd.errors import InputError
from tfkd.model import binding
from tfkd.outputs import OutputKind, output_kinds


class Source:
    """Base of the sources.

    Attributes:
        name: What a message calls it.
        inputs: Its inputs; `None` where it takes a batch as it is.
        outputs: Its outputs; `None` where they show only when it is called.
        kinds: Of each output, as `output_kinds` gives them; `None` if unknown.
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
    def activations(self) -> list[str | None] | None:
        """What each output is, classes along the last axis; `None` if unknown."""
        if self.kinds is None:
            return None
        return [kind.activation if kind.is_last else None for kind in self.kinds]

    def __call__(self, x, wanted: binding.Slots | None):
        """Answer for a batch.

        Args:
            x: The inputs in flat order; a batch as it is where `inputs` is `None`.
            wanted: The student's outputs, or `None` for the source's own.

        Returns:
            A list with a tensor for each wanted output, `None` for one that it doesn't
            teach, and a dict from layer name to feature.

        Raises:
            InputError: where its outputs can't be bound to the wanted ones.
        """
        outputs, features = self.run(x)
        given = binding.slots_of_values(outputs, "output", f"teacher {self.name!r}")
        ours = self.outputs if self.outputs is not None else given
        flat = list(graph.leaves(outputs))
        if wanted is None:
            return flat, features
        return [None if i is None else flat[i] for i in wanted.match(ours)], features

    def run(self, x):
        """Return the outputs in the source's own structure, and features by layer."""
        raise NotImplementedError

    def identity(self):
        """Return what decides the answers, for a fingerprint."""
        raise NotImplementedError


class ModelSource(Source):
    """A Keras model of either flavour."""

    def __init__(self, model, features):
        self.model, self.name = model, model.name
        self.tap = taps.Tap(model, features, "teacher")
        self.feature_shapes = self.tap.shapes
        self.inputs = self.tap.inputs
        if self.inputs is not None:
            self.outputs = binding.outputs_of(model, "teacher")
            self.kinds = output_kinds(model)

    def run(self, x):
        """Return the outputs in the model's structure, and features by layer."""
        if self.inputs is not None:
            return self.tap.run(x, training=False)
        return self.tap(x, training=False)

    def identity(self):
        """Return the model."""
        return self.model


class FunctionSource(Source):
    """A function of tensors: a SavedModel's signature or endpoint, a `tf.function`, a layer."""

    def __init__(self, function, name, inputs=None, outputs=None):
        self.function, self.name = function, name
        self.inputs, self.outputs = inputs, outputs
        specs = _keyword_specs(function)
        self._dtypes = None if specs is None else {n: spec.dtype for n, spec in specs.items()}
        if inputs is None and specs is not None:
            names, ordered = _in_order(specs)
            self.inputs = binding.named(names, "input", f"teacher {name!r}", ordered=ordered)
        given = getattr(function, "structured_outputs", None)
        if outputs is None and isinstance(given, Mapping):
            names, ordered = _in_order(given)
            shapes = [tuple(given[n].shape) for n in names]
            self.outputs = binding.named(
                names, "output", f"teacher {name!r}", ordered=ordered, shapes=shapes
            )

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
            return self.function(*args, **kwargs)
        except AssertionError as error:
            if "variables which have been deleted" not in str(error):
                raise
            raise InputError(
                f"The teacher {self.name!r} is a function of a SavedModel that nothing holds any "
                "more: keep what tf.saved_model.load returned in a variable, or give that, or the "
                "path."
            ) from None

    def identity(self):
        """Return the function."""
        return self.function


class SavedSource(FunctionSource):
    """A SavedModel's default signature."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        name = os.fspath(path)
        try:
            self.loaded = tf.saved_model.load(name)
            function = self.loaded.signatures["serving_default"]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{name!r} is no SavedModel with a 'serving_default' signature: {error}"
            ) from error
        super().__init__(function, name, *_slots_of_saved(self.loaded, name, self.path))

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
        # Which of its outputs each wanted one is; known once it has run outside a graph.
        self._order: list[int | None] | None = None

    def __call__(self, x, wanted):
        """Return the outputs that are wanted, and no features."""
        wanted = self.outputs if wanted is None else wanted
        flat = list(graph.leaves(x))
        shapes = [slot.shape for slot in wanted.entries]
        # In a graph the heads are fixed while it is traced.
        order = None if tf.executing_eagerly() else self._order or list(range(len(shapes)))

        def run(*arrays):
            it = iter(arrays)
            result = self.function(graph.map_structure(lambda _: next(it), x))
            found, answers = self._fitting(result, wanted, len(arrays[0]))
            if order not in (None, found):
                raise InputError(
                    f"The teacher {self.name!r} gave outputs of other names than for the first "
                    f"examples, or not one for each of the student's ({', '.join(wanted.labels)})."
                )
            self._order = found
            return answers

        results = tf.numpy_function(run, flat, [tf.float32] * len(shapes), stateful=False)
        results = results if isinstance(results, (list, tuple)) else [results]
        for result, shape in zip(results, shapes, strict=True):
            result.set_shape((None, *shape[1:]))
        order = self._order if order is None else order
        return [None if i is None else r for i, r in zip(order, results, strict=True)], {}

    def _fitting(self, result, wanted, examples: int):
        """Return which output each wanted one is, and the outputs; empty where there is none."""
        ours = self.outputs
        if ours is None:
            ours = binding.slots_of_values(result, "output", f"teacher {self.name!r}")
        answers = [np.asarray(answer, np.float32) for answer in graph.leaves(result)]
        order = wanted.match(ours) if len(ours) == len(answers) else [None] * len(wanted)
        shapes = [(examples, *slot.shape[1:]) for slot in wanted.entries]
        fits = [i is None or _fits(answers[i].shape, s) for i, s in zip(order, shapes, strict=True)]
        if not all(fits) or all(i is None for i in order):
            raise InputError(
                f"The teacher {self.name!r} gave {show_shapes(a.shape for a in answers)} for a "
                f"batch of {examples}; the student gives {show_shapes(shapes)}."
            )
        empty = [np.zeros((0, *[size or 0 for size in shape[1:]]), np.float32) for shape in shapes]
        return order, [empty[n] if i is None else answers[i] for n, i in enumerate(order)]

    def identity(self):
        """Return the function."""
        return self.function


class TFLiteSource(PythonSource):
    """A `.tflite` file, run in a process of its own."""

    may_run_tensorflow = False

    def __init__(self, path):
        from tfkd.export.artifact import TFLiteModel

        self.file = TFLiteModel.load(path)
        super().__init__(self._predict, str(path))
        hidden = {name for pair in self.file.states for name in pair}
        self.inputs, self.outputs = (
            self._slots(kind, [info for info in infos if info.name not in hidden])
            for kind, infos in (("input", self.file.inputs), ("output", self.file.outputs))
        )

    def identity(self):
        """Return the file's bytes."""
        return self.file.data

    def _predict(self, x):
        return self.file.predict(x if len(self.inputs) > 1 else x[0])

    def _slots(self, kind, infos) -> binding.Slots:
        names = [re.sub(r"^serving_default_|:0$", "", info.name) for info in infos]
        shapes = [(None, *info.shape[1:]) for info in infos]
        owner = f"teacher {self.name!r}"
        return binding.named(names, kind, owner, ordered=_counts_up(names), shapes=shapes)


# What TensorFlow runs itself: `tf.function`s, SavedModels' signatures and endpoints.
_FUNCTIONS = (tf.types.experimental.GenericFunction, tf.types.experimental.ConcreteFunction)


def source_of(given, features) -> Source:
    """Return the source for one thing that was given as a teacher.

    Raises:
        InputError: if it can't teach, or features are wanted that it can't show.
    """
    if isinstance(given, (str, os.PathLike)):
        given = _load(pathlib.Path(given))
    if isinstance(given, Source):
        source = given
    elif backends.flavour(given) is not None and hasattr(given, "layers"):
        return ModelSource(given, features)
    elif isinstance(given, _FUNCTIONS) or backends.flavour(given) is not None:
        source = FunctionSource(given, getattr(given, "name", type(given).__name__))
    elif hasattr(given, "signatures") and "serving_default" in given.signatures:
        name = type(given).__name__
        source = FunctionSource(
            given.signatures["serving_default"], name, *_slots_of_saved(given, name, None)
        )
    elif callable(given):
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
        return TFLiteSource(path)
    if path.suffix not in loading.SUFFIXES:
        raise InputError(
            f"{str(path)!r} is no teacher: known are .keras, .h5, .tflite and SavedModel folders."
        )
    return loading.load_model(path, "teacher")


def _keyword_specs(function) -> dict | None:
    """Return the tensors that a function takes by keyword, if it takes nothing else."""
    signature = getattr(function, "structured_input_signature", None)
    if not signature or signature[0] or not signature[1]:
        return None
    return dict(signature[1])


def _slots_of_saved(loaded, name: str, path: pathlib.Path | None):
    """Return inputs and outputs of a SavedModel's default signature in the declared order."""
    function, owner = loaded.signatures["serving_default"], f"teacher {name!r}"
    specs = _keyword_specs(function)
    inputs = None
    if specs is not None:
        names, ordered = _declared_inputs(loaded, specs)
        shapes = [tuple(specs[n].shape) for n in names]
        inputs = binding.named(names, "input", owner, ordered=ordered, shapes=shapes)
    names, ordered = _in_order(function.structured_outputs)
    if not ordered and path is not None:
        declared = _declared_outputs(path) or []
        if set(declared) == set(names):
            names, ordered = declared, True
    shapes = [tuple(function.structured_outputs[n].shape) for n in names]
    return inputs, binding.named(names, "output", owner, ordered=ordered, shapes=shapes)


def _declared_inputs(loaded, specs: dict) -> tuple[list[str], bool]:
    """Return the names of a signature's inputs, and whether their order is the declared one.

    The signature itself has names and no order. What Keras's `export` and tf_keras's `save`
    put beside it shows the structure that the model was called with.
    """
    for endpoint in ("serve", "__call__"):
        for concrete in getattr(getattr(loaded, endpoint, None), "concrete_functions", []):
            taken = concrete.structured_input_signature[0][:1]
            declared = [leaf.name for leaf in graph.leaves(taken) if hasattr(leaf, "name")]
            if set(declared) == set(specs):
                return declared, not isinstance(taken[0], Mapping) or len(declared) == 1
    return _in_order(specs)


def _declared_outputs(path: pathlib.Path) -> list[str] | None:
    """Return the output layers of a tf_keras SavedModel in the order of its configuration."""
    import json

    file = path / "keras_metadata.pb"
    if not file.is_file():
        return None
    from tf_keras.protobuf import saved_metadata_pb2

    try:
        metadata = saved_metadata_pb2.SavedMetadata.FromString(file.read_bytes())
        root = next(node for node in metadata.nodes if node.node_path == "root")
        layers = json.loads(root.metadata)["config"]["output_layers"]
        return [layer[0] for layer in layers] if isinstance(layers, list) else None
    except (StopIteration, KeyError, TypeError, ValueError, IndexError):
        return None


_NUMBERED = re.compile(r"^(?P<base>\D*?)_?(?P<number>\d*)$")


def _count(name: str) -> int:
    return int(_NUMBERED.match(name)["number"] or 0)


def _counts_up(names) -> bool:
    """Tell whether names are one word with numbers (`output_0`, `output_1`): an order."""
    found = [_NUMBERED.match(name) for name in names]
    if not all(found) or len({match["base"] for match in found}) > 1:
        return len(list(names)) == 1
    numbers = sorted(_count(name) for name in names)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _in_order(results: Mapping) -> tuple[list[str], bool]:
    """Return the names of a signature's outputs, and whether their order is the declared one."""
    if _counts_up(results):
        return sorted(results, key=_count), True
    return list(results), len(results) == 1


def _fits(shape, wanted) -> bool:
    return len(shape) == len(wanted) and all(
        b in (None, a) for a, b in zip(shape, wanted, strict=True)
    )


def show_shapes(shapes) -> str:
    """Return shapes as a message shows them."""
    return ", ".join(str(tuple(shape)) for shape in shapes)
