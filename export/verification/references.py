"""References to compare a file with: a Keras model, a SavedModel's signature, a file, a function.

model ──of──► Reference: inputs, outputs, kinds;  bind(x) ─► arrays ─run─► flat list of outputs
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfkd.errors import InputError, argument
from tfkd.escaping import identifiers
from tfkd.export.conversion import plan, tracing
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import STEP, TFLiteModel
from tfkd.loading import models, signatures
from tfkd.model import backends, binding, graph
from tfkd.model.layer_kinds import RECURRENT, inner, kind_of, stateful_layers
from tfkd.output_kind import OutputKind, output_kinds

# Examples per call of a function or signature with a free batch.
_BATCH = 32
# Parts of the names of layers whose results are not logits.
_FEATURES = ("Pooling", "Normalization", "Embedding")
_KINDS = (
    "a Keras 3 or tf_keras model, a TFLiteModel, a loaded SavedModel or its signature, a function, "
    "or the path of a model"
)


class Reference:
    """A reference that a file is compared with.

    Attributes:
        inputs: The inputs, to which data is bound.
        outputs: The outputs, to which labels are bound.
        model: The model for a comparison of layers: a Keras model, the path of a SavedModel, a
            `TFLiteModel`, or `None`.
        signature: For a SavedModel, the key that was named.
        layers: Names of the layers, as far as they are known.
        is_recurrent: Whether one of them is recurrent.
    """

    inputs: binding.Slots
    outputs: binding.Slots
    model: Any = None
    signature: str | None = None
    layers: tuple[str, ...] = ()
    is_recurrent: bool = False

    @property
    def input_names(self) -> list[str]:
        """The names that `to_tflite` gives to the inputs."""
        return [slot.name for slot in self.inputs.entries]

    @property
    def output_names(self) -> list[str]:
        """The names that `to_tflite` gives to the outputs."""
        return [slot.name for slot in self.outputs.entries]

    @property
    def kinds(self) -> list[OutputKind]:
        """The kind of each output, as far as it is known."""
        return [OutputKind(None, rank=len(slot.shape)) for slot in self.outputs.entries]

    def bind(self, x, over_steps: bool = False) -> list[np.ndarray]:
        """Return data as one array per input, in the flat order, checked.

        Args:
            x: Arrays (examples, ...), a list or dict of them.
            over_steps: Whether an input of one step may be given sequences.

        Raises:
            InputError: if `x` does not fit the inputs.
        """
        arrays = []
        values = self.inputs.bind(x, "x", arrays=True)
        for slot, one in zip(self.inputs.entries, values, strict=True):
            array, wanted = binding.as_array(one, f"input {slot.label!r}"), list(slot.shape[1:])
            if over_steps and wanted[:1] == [1]:
                wanted[0] = None
            fits = array.ndim == len(slot.shape) and all(
                want in (None, got) for want, got in zip(wanted, array.shape[1:], strict=True)
            )
            if not fits or len(array) == 0:
                sizes = ", ".join("any" if n is None else str(n) for n in wanted)
                raise InputError(
                    f"Input {slot.label!r} takes arrays of shape (examples, {sizes}), at least "
                    f"one example, got {array.shape}."
                )
            arrays.append(array)
        _check_counts(arrays)
        return arrays

    def run(self, arrays: list[np.ndarray], stacked=()) -> list[np.ndarray]:
        """Return the outputs (examples, ...) as a flat list; state is reset before each example.

        Args:
            arrays: As from `bind`.
            stacked: For sequences in a model of one step: whether to return each output at every
                step, or else only after the last one.
        """
        raise NotImplementedError


def of(model, signature: str | None = None) -> Reference:
    """Return the reference to compare a file with.

    Args:
        model: A Keras 3 or tf_keras model, a `TFLiteModel` of floats, a loaded SavedModel or one
            of its signatures, a function of a batch, or the path of a `.keras`, `.h5`, `.tflite`
            file or SavedModel.
        signature: For a SavedModel, the key of the signature, as for `to_tflite`.

    Raises:
        InputError: for anything else, or a path that can't be read as one of these.
    """
    is_folder = isinstance(model, (str, os.PathLike)) and os.path.isdir(model)
    if signature is not None and not is_folder:
        raise InputError(
            f"{argument('signature', signature)} is for the path of a SavedModel, got "
            f"{repr(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__}."
        )
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if str(path).endswith(".tflite"):
            model = TFLiteModel.load(path)
        elif signature is not None or plan.is_signature(path):
            return _SavedSignature(path, signature)
        else:
            model = models.load_model(path)
    if isinstance(model, TFLiteModel):
        return _File(model)
    if graph.has_graph(model):
        return _Keras(model)
    function = _signature_of(model)
    if function is not None:
        return _Signature(function, model)
    if callable(model):
        return _Function(model)
    raise InputError(f"Expected {_KINDS}, got {type(model).__name__}.")


class _Keras(Reference):
    def __init__(self, model):
        self.model, self.source = model, graph.walk(model)
        self.inputs = _as_in_files(binding.inputs_of(self.source), self.input_names)
        outputs = binding.outputs_of(model, walked=self.source)
        self.outputs = _as_in_files(outputs, self.output_names)
        self.layers = tuple(name for name, _ in self.source.layers)
        self.is_recurrent = any(call.kind in RECURRENT for call in self.source.calls)
        self.stateful = [la for la in stateful_layers(model) if hasattr(la, "reset_states")]

    @property
    def input_names(self):
        return identifiers([tensor.name for tensor in self.source.input_list])

    @property
    def output_names(self):
        return tracing.names_of_outputs(self.model, self.source)

    @property
    def kinds(self):
        return [
            dataclasses.replace(kind, activation=None)
            if kind.activation == "linear" and _is_feature(self.source.producer(tensor))
            else kind
            for kind, tensor in zip(output_kinds(self.model), self.source.output_list, strict=True)
        ]

    def run(self, arrays, stacked=()):
        batch = self.source.input_list[0].shape[0]
        if batch is None and not self.stateful:
            given = graph.as_structured(self.source, arrays)
            return list(graph.leaves(self.model.predict(given, verbose=0)))
        with _states_kept(self.stateful):
            return _in_batches(lambda part: self._fresh(part, stacked), arrays, batch or 1)

    def _fresh(self, arrays, stacked):
        """Run a batch from a state of zeros; a one-step model runs sequences step by step."""
        for layer in self.stateful:
            layer.reset_states()
        moving = [
            tensor.shape[1:2] == (1,) and array.shape[1] > 1
            for tensor, array in zip(self.source.input_list, arrays, strict=True)
        ]
        if not any(moving):
            return self._once(arrays)
        steps = max(array.shape[1] for array, moves in zip(arrays, moving, strict=True) if moves)
        results = [
            self._once([a[:, t : t + 1] if m else a for a, m in zip(arrays, moving, strict=True)])
            for t in range(steps)
        ]
        stacked = stacked or [False] * len(results[0])
        return [
            np.concatenate(values, axis=1) if every else values[-1]
            for values, every in zip(zip(*results, strict=True), stacked, strict=True)
        ]

    def _once(self, arrays):
        given = graph.as_structured(self.source, arrays)
        return [np.asarray(one) for one in graph.leaves(self.model.predict_on_batch(given))]


class _File(Reference):
    def __init__(self, file):
        self.file = self.model = file
        scaled = any(
            schema.scale_of(tensor) is not None
            for part in file._parsed.subgraphs
            for tensor in part.tensors
        )
        if scaled:
            raise InputError(
                "The reference file is quantized itself; give the float32 file, or the Keras "
                "model that it was made from."
            )
        if file.states:
            raise InputError("The reference file takes one step per call; give one of sequences.")
        self.inputs, self.outputs = file._slots("inputs"), file._slots("outputs")

    @property
    def kinds(self):
        return [
            OutputKind(self.file._activation(i), rank=len(info.shape))
            for i, info in enumerate(self.file.outputs)
        ]

    def run(self, arrays, stacked=()):
        return self.file._predict(arrays)


def _signature_of(given):
    """Return the signature to call of a loaded SavedModel, or the signature that was given."""
    known = getattr(given, "signatures", None)
    if isinstance(known, Mapping) and known:
        return known.get("serving_default") or next(iter(known.values()))
    return given if signatures.inputs_of(None, given, "") is not None else None


class _Signature(Reference):
    """A function that takes its inputs by name: a signature of a loaded SavedModel."""

    def __init__(self, function, loaded=None):
        self.function, self.loaded = function, loaded  # keeps its variables alive
        self.inputs = signatures.inputs_of(loaded, function, "signature")
        self.outputs = signatures.outputs_of(function, None, "signature")
        if self.outputs is None:
            raise InputError("The signature has no named outputs.")

    @property
    def input_names(self):
        return identifiers(super().input_names)

    def run(self, arrays, stacked=()):
        import tensorflow as tf

        named = self.function.structured_input_signature[1]
        specs = [named[slot.name] for slot in self.inputs.entries]

        def run(part):
            given = {
                slot.name: tf.cast(values, spec.dtype)
                for slot, spec, values in zip(self.inputs.entries, specs, part, strict=True)
            }
            results = self.function(**given)
            return [np.asarray(results[slot.name]) for slot in self.outputs.entries]

        return _in_batches(run, arrays, specs[0].shape[0] or _BATCH)


class _SavedSignature(_Signature):
    """A signature in a folder, with layers that can be compared."""

    def __init__(self, path, key=None):
        saved = tracing.SavedSignature(path, key)
        self.model, self.signature = path, key
        self.function, self.loaded = saved.function, saved.loaded
        self.inputs, self.outputs = saved.slots, saved.output_slots


class _Function(Reference):
    """A function of a batch; a call on the first examples shows its outputs."""

    def __init__(self, function):
        self.function = function
        if backends.flavour(function) is not None:
            self.function = lambda x: function(x, training=False)

    def bind(self, x, over_steps=False):
        arrays = [np.asarray(one) for one in graph.leaves(x)]
        places = {id(one): place for place, one in enumerate(graph.leaves(x))}
        if not arrays or any(one.ndim == 0 or len(one) == 0 for one in arrays):
            raise InputError("x must hold arrays (examples, ...) of at least one example.")
        _check_counts(arrays)
        self.inputs = binding.slots_of_values(x, "input", "function")

        def run(part):
            given = graph.map_structure(lambda one: part[places[id(one)]], x)
            self.result = self.function(given)
            return [np.asarray(one) for one in graph.leaves(self.result)]

        self._run = run
        first = run([one[:_BATCH] for one in arrays])
        wrong = [one.shape for one in first if one.shape[:1] != (min(_BATCH, len(arrays[0])),)]
        if wrong:
            raise InputError(
                f"The function returned outputs of shape {wrong[0]} for "
                f"{min(_BATCH, len(arrays[0]))} examples; it must return one row for each."
            )
        self.outputs = binding.slots_of_values(self.result, "output", "function")
        return arrays

    def run(self, arrays, stacked=()):
        return _in_batches(self._run, arrays, _BATCH, fill=False)


def _is_feature(call: graph.Call | None) -> bool:
    """Tell whether a layer returns features, not logits: it pools, normalizes or looks up."""
    if call is None:
        return True  # an input
    kind = kind_of(inner(call.layer)) or ""
    return kind in RECURRENT or any(word in kind for word in _FEATURES)


def _check_counts(arrays):
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise InputError(f"The inputs have different numbers of examples: {sorted(counts)}.")


def _in_batches(
    run: Callable, arrays: list[np.ndarray], size: int, fill: bool = True
) -> list[np.ndarray]:
    """Return the outputs of all examples; the first examples fill up the last batch."""
    count, parts = len(arrays[0]), []
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        rows = rows % count if fill else rows[rows < count]
        left = min(size, count - start)
        parts.append([values[:left] for values in run([array[rows] for array in arrays])])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


class _states_kept:  # noqa: N801  used as a function
    """Restore the state of the caller's model afterwards."""

    def __init__(self, layers):
        self.layers = layers

    def _variables(self):
        for layer in self.layers:
            states = graph.leaves(getattr(layer, "states", None) or [])
            yield from (state for state in states if hasattr(state, "assign"))

    def __enter__(self):
        self.kept = [(variable, np.asarray(variable).copy()) for variable in self._variables()]

    def __exit__(self, *_):
        for variable, value in self.kept:
            variable.assign(value)


def _as_in_files(slots: binding.Slots, called: list[str]) -> binding.Slots:
    """Return inputs or outputs that can also be addressed by their names in a file."""
    entries = []
    names = [slot.name for slot in slots.entries]
    for slot, name in zip(slots.entries, called, strict=True):
        if names.count(slot.name) > 1:
            # Two layers with the same name in nested models; the file numbers them.
            slot = dataclasses.replace(slot, name=name)
        entries.append(dataclasses.replace(slot, aliases=slot.aliases | {name} - {slot.name}))
    return dataclasses.replace(slots, entries=tuple(entries))


def visible(file: TFLiteModel, which: str):
    """Return (name, `TensorInfo`) of what is data: all but a step file's states."""
    return [
        (info.name.removeprefix(STEP) if file.states else info.name, info)
        for info in file._visible(which)
    ]
