"""`translate`: a model of one Keras as an equal model of the other."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from tfkd.errors import InputError, UnsupportedError, raise_all
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import takes_mask
from tfkd.translation import layers, operations, standard
from tfkd.translation.frozen import frozen_from_outside

if TYPE_CHECKING:
    from tfkd._typing import AnyModel

_WAY_OUT = (
    "Replace these layers, register a counterpart with tfkd.translation.register(...), or "
    "build the model in the other Keras."
)


def translate(model: AnyModel, to: Literal["keras", "tf_keras"] = "tf_keras") -> AnyModel:
    """Translate a Keras 3 model into an equal tf_keras model, or back.

    Choose it to hand a Keras 3 model to a tool that only takes tf_keras (tfmot, older
    code), and to bring the trained model back. The graph is re-traced call by call, so shared
    layers stay shared; nested models come out inlined. Operations between layers (`x * 2`,
    `keras.ops.mean(x, (1, 2))`, `tf.nn.relu(x)`) become the standard layer that computes the same
    (`Rescaling`, `GlobalAveragePooling2D`, `ReLU`) wherever there is one. Weights and `trainable`
    are copied; optimizer and compile state are not.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not
            changed. A model that is already in the wanted Keras is inlined and copied.
        to: `"tf_keras"` or `"keras"` (Keras 3). Defaults to `"tf_keras"`.

    Returns:
        A Functional model of the wanted Keras with the same input and output structure,
        names and dtypes. Its outputs equal the given model's up to rounding (1e-6 in
        float32).

    Raises:
        InputError: for another `to`, or if `model` is no Keras model or not built.
        UnsupportedError: for a subclassed model, and naming every layer and operation that
            has no counterpart.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> x = np.ones((1, 4), "float32")
        >>> old = tfkd.translate(model)
        >>> bool(np.allclose(model(x), old(x), atol=1e-6))
        True
        >>> back = tfkd.translate(old, to="keras")
        >>> bool(np.allclose(model(x), back(x), atol=1e-6))
        True
    """
    if to not in ("tf_keras", "keras"):
        raise InputError(f"to must be 'tf_keras' or 'keras', got {to!r}.")
    source = graph.walk(model)
    _check_inputs(model)
    return _copied(model, _Translator(source, to))


def counterparts(model, to: str = "tf_keras", float32: bool = False):
    """Translate a model and say which layer became which.

    Args:
        model: As in `translate`.
        to: As in `translate`.
        float32: Whether layers of another precision are to compute in float32.

    Returns:
        The translated model, and the name of each layer in it by the `id` of the given model's
        layer.
    """
    translator = _Translator(graph.walk(model), to, float32)
    translated = _copied(model, translator)
    return translated, {key: layer.name for key, layer in translator.layers.items()}


def _copied(model, translator):
    """Return the translated model; layers that a nested model freezes stay frozen."""
    translated = translator.model()
    for layer in frozen_from_outside(model):
        if id(layer) in translator.layers:
            translator.layers[id(layer)].trainable = False
    return translated


def other_precision(model) -> str | None:
    """Return a sentence if a model computes in another precision than float32, else `None`.

    To continue in float32, work on a copy: `counterparts(model, float32=True)`.
    """
    walked = graph.walk(model)
    held = [layer for _, layer in walked.layers if hasattr(layer, "_flatten_layers")]
    kinds = {
        policy
        for layer in held
        for one in layer._flatten_layers()
        if (policy := one.dtype_policy.name) in layers.OTHER_FLOATS
    }
    kinds |= {tensor.dtype for tensor in walked.input_list} & layers.OTHER_FLOATS
    if not kinds:
        return None
    return (
        f"The model {model.name!r} computes in {', '.join(sorted(kinds))}: it is replaced by a "
        "float32 copy with the same weights."
    )


def aliases(model, translated: graph.Graph, names_of: dict[int, str]) -> dict[str, set[str]]:
    """Return the names that the layers of a translated model may have.

    Args:
        model: The model that was translated.
        translated: The walk of what became of it.
        names_of: As `counterparts` returns it.

    Returns:
        Name of each layer there → that name, and its counterpart's name and path here.
    """
    found = {layer.name: {layer.name} for _, layer in translated.layers}
    for path, layer in graph.walk(model).layers:
        if id(layer) in names_of:
            found[names_of[id(layer)]] |= {layer.name, path}
    return found


class _Translator:
    """Creates all layers before it calls any, so that one error lists all problems."""

    def __init__(self, source: graph.Graph, to: str, float32: bool = False):
        self.source, self.to, self.float32 = source, to, float32
        if float32:
            self.source = _in_float32(source)
        self.package = backends.package(to)
        self.taken = {tensor.name for tensor in source.input_list}
        self.layers: dict[int, Any] = {}

    def model(self):
        problems = []
        for path, layer in self.source.layers:
            if not operations.is_operation(layer):
                with _told(path, problems):
                    name = self._name(layer.name, path)
                    self.layers[id(layer)] = layers.counterpart(
                        layer, name, self.to, self._inner, self.float32
                    )
        steps = []
        for call in self.source.calls:
            with _told(call.name, problems):
                steps.append(self._step(call))
        raise_all(problems, UnsupportedError, fix=_WAY_OUT, code="other-keras")
        translated = self._replay(steps)
        for path, layer in self.source.layers:
            if id(layer) in self.layers:
                with _told(path, problems):
                    layers.copy_state(layer, self.layers[id(layer)])
        raise_all(problems, UnsupportedError, fix=_WAY_OUT, code="other-keras")
        return translated

    def _inner(self, model, to: str):
        """Translate a model inside a wrapper."""
        return _copied(model, _Translator(graph.walk(model), to, self.float32))

    def _replay(self, steps: list[Callable]):
        remaining = iter(steps)

        def apply(call, args, kwargs):
            _check_masks(call, args, kwargs)
            try:
                result = next(remaining)(args, kwargs)
            except Exception as error:
                reason = layers.reason(error)
                raise UnsupportedError(
                    f"layer {call.name!r}: {self.to} refused the call ({reason}). {_WAY_OUT}",
                    code="other-keras",
                ) from error
            _check_outputs(call, result)
            wanted = iter(call.outputs)
            return graph.map_structure(
                lambda value: self._unmasked(value) if next(wanted).masked is False else value,
                result,
            )

        return graph.rebuild(self.source, self.package, apply)

    def _step(self, call: graph.Call) -> Callable:
        """Return a function that repeats one call in the target, given its arguments there."""
        if not operations.is_operation(call.layer):
            if self.to == "keras" and self.source.flavour != "keras":
                _check_training(call)
            layer = self.layers.get(id(call.layer))
            return lambda args, kwargs: layer(*args, **kwargs)
        name = self._name(call.layer.name, call.name)
        if self.source.flavour == self.to and not operations.is_known(call.layer):
            twin = operations.twin(call.layer)
            return lambda args, kwargs: layers.renamed(twin, name)(*args, **kwargs)
        operation = operations.read(call.layer, call.args, call.kwargs)
        if operation.name == "copy":  # the result of `_unmasked`
            return lambda args, kwargs: self._unmasked(next(graph.leaves((args, kwargs))), name)
        found = standard.chain(operation, call.outputs[0])
        if found is None:
            operations.check(operation, self.to)
            return lambda args, kwargs: self._native(call, args, kwargs, name)
        made = []
        for kind, settings in found.layers:
            last = len(made) == len(found.layers) - 1
            named = name if last else self._name(f"{name}_{kind.lower()}", name)
            settings = {**settings, "name": named, "dtype": call.outputs[0].dtype}
            made.append(layers.standard(kind, settings, self.to))
        return lambda args, kwargs: self._chained(call, args, kwargs, found.inputs, made)

    def _native(self, call: graph.Call, args, kwargs, name: str):
        """Call the operation itself in the target."""
        operation = operations.read(call.layer, args, kwargs)
        result = operations.call(operation, self.to, call.outputs[0])
        layers.renamed(next(graph.leaves(result))._keras_history[0], name)
        return result

    def _chained(self, call: graph.Call, args, kwargs, names, chain):
        """Call the standard layers that compute an operation."""
        arguments = operations.read(call.layer, args, kwargs).arguments
        given = [leaf for name in names for leaf in graph.leaves(arguments[name])]
        # An operation ends a mask; layers would use it and pass it on.
        given = [self._unmasked(leaf) for leaf in given]
        value = given if len(given) > 1 else given[0]
        for layer in chain:
            value = layer(value)
        return value

    def _unmasked(self, value, name: str = ""):
        """Return a tensor without the mask that the target's layers would pass on."""
        if getattr(value, "_keras_mask", None) is None:
            return value
        out = graph.Tensor(-1, "", tuple(value.shape), operations.dtype(value))
        result = operations.call(operations.Operation("copy", {"x": value}), self.to, out)
        layers.renamed(result._keras_history[0], name or self._name("unmasked", "unmasked"))
        return result

    def _name(self, name: str, path: str) -> str:
        """Return a layer's name, or its path if two names would collide."""
        # tf_keras's names become scopes of TensorFlow, which allow few characters.
        outside = r"[^\w.-]" if self.to == "tf_keras" else "/"
        name, path = (re.sub(outside, "_", text) for text in (name, path))
        if name in self.taken:
            name = path
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


def _in_float32(source: graph.Graph) -> graph.Graph:
    """Return a graph with float32 in place of other float precisions."""

    def cast(leaf):
        other = isinstance(leaf, graph.Tensor) and leaf.dtype in layers.OTHER_FLOATS
        return dataclasses.replace(leaf, dtype="float32") if other else leaf

    calls = [
        dataclasses.replace(
            call,
            args=graph.map_structure(cast, call.args),
            kwargs=graph.map_structure(cast, call.kwargs),
            outputs=graph.map_structure(cast, call.outputs),
        )
        for call in source.calls
    ]
    inputs, outputs = (graph.map_structure(cast, one) for one in (source.inputs, source.outputs))
    return dataclasses.replace(source, inputs=inputs, outputs=outputs, calls=tuple(calls))


@contextlib.contextmanager
def _told(path: str, problems: list[str]):
    """Collect an `UnsupportedError` instead of raising it."""
    try:
        yield
    except UnsupportedError as error:
        problems.append(f"layer {path!r}: {error}")


def _check_training(call: graph.Call) -> None:
    """Raise if a call fixes `training`: Keras 3 replaces it by the value of the model's call."""
    fixed = call.kwargs.get("training")
    frozen = call.kind == "BatchNormalization" and not call.layer.trainable
    if fixed is not None and not (frozen and not fixed):
        raise UnsupportedError(
            f"it is called with training={fixed}, which a Keras 3 model does not keep; call it "
            "without, and set trainable=False on batch normalization that must not learn",
            code="fixed-training",
        )


def _check_masks(call: graph.Call, args, kwargs) -> None:
    """Raise if a layer would lose a mask: merging layers differ in when they keep it."""
    values = graph.leaves((args, kwargs))
    tensors = graph.leaves((call.args, call.kwargs))
    lost = any(
        isinstance(tensor, graph.Tensor)
        and tensor.masked
        and getattr(value, "_keras_mask", None) is None
        for tensor, value in zip(tensors, values, strict=True)
    )
    if lost and "mask" not in call.kwargs and takes_mask(call.layer):
        raise UnsupportedError(
            f"layer {call.name!r}: the mask of its input does not reach it in the other Keras; "
            "pass it as mask=.",
            code="recurrent-mask",
        )


def _check_outputs(call: graph.Call, result) -> None:
    """Raise if a layer with the same name and settings has another output."""
    made = [tuple(value.shape) for value in graph.leaves(result)]
    wanted = [tensor.shape for tensor in call.outputs]
    fits = len(made) == len(wanted) and all(
        len(a) == len(b)
        and all(x is None or y is None or x == y for x, y in zip(a, b, strict=True))
        for a, b in zip(made, wanted, strict=True)
    )
    if not fits:
        raise UnsupportedError(
            f"layer {call.name!r}: its counterpart gives {made}, not {wanted}. {_WAY_OUT}",
            code="other-keras",
        )


def _check_inputs(model):
    problems = [
        f"input {tensor.name!r} is {kind}"
        for tensor in model.inputs
        for kind in ("sparse", "ragged")
        if getattr(tensor, kind, False) or type(tensor).__name__.lower().startswith(kind)
    ]
    raise_all(
        problems, UnsupportedError, fix="Only dense inputs can be translated.", code="other-keras"
    )
