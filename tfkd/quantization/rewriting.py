"""Rewrites a float graph into the one that is trained with rounding.

Every value is rounded once, as late as the int8 file will: a convolution, the batch
normalization after it and the ReLU after that are one operation there and one rounding
here. So a rule passes its result on unrounded, and a reader that can't fuse with it asks for
`rounded(value)`.

    Graph ──rule per call (table.py)──► Values ──► tf_keras model of wrapped layers
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from tfkd.errors import UnsupportedError, raise_all
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import kind_of, remade
from tfkd.quantization import without_rule
from tfkd.quantization.report import LayerReport
from tfkd.translation import layers as translated
from tfkd.translation import operations

# Ranges that TFLite's int8 kernels prescribe for sigmoid and softmax, and for tanh
# (https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec).
UNIT = (0.0, 255.0 / 256.0)
SYMMETRIC_UNIT = (-1.0, 127.0 / 128.0)

#: Ranges of 8-bit inputs: in the file, a scale of 1 represents their values exactly.
BYTES = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}


@dataclasses.dataclass
class Value:
    """A tensor of the graph that is being built.

    Attributes:
        tensor: The symbolic tensor, perhaps not rounded.
        name: Name of the layer it comes from, for the name of its rounding.
        kind: Its origin, which decides what fuses with it: `"linear"` (a convolution or dense
            layer: batch normalization and ReLU do), `"sum"` (batch normalization or arithmetic:
            ReLU does), `"relu"`, `"input"` (of the model), `"joined"` (a concatenation) or
            `"other"`.
        uses: How many calls, and outputs of the model, read it.
        rounded: The tensor after rounding, once a reader has asked for it.
        fixed: Range (low, high) that TFLite prescribes, or `None` for a learned one.
    """

    tensor: Any
    name: str
    kind: str = "other"
    uses: int = 1
    rounded: Any = None
    fixed: tuple[float, float] | None = None

    def fuses(self, *kinds: str) -> bool:
        """Tell whether the only reader of this value may become one operation with it."""
        return self.kind in kinds and self.uses == 1 and self.rounded is None


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a source layer's weights are kept in the model that is trained.

    Attributes:
        layers: Names of the layers that hold them.
        back: From their weights (one list per layer) to the source layer's own.
    """

    layers: tuple[str, ...]
    back: Callable[..., list]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one layer class is treated.

    Attributes:
        how: The treatment in words, for the documentation.
        apply: `(rewriter, layer, *values) → Value or list of Values`.
    """

    how: str
    apply: Callable


class Rewriter:
    """One rewriting of one model; rules build with it.

    Args:
        source: The graph of a float tf_keras model that nothing else uses.
        rule_of: Class of a layer → its rule, or `None`.
        skip: Names of the layers to leave in floating point.
        configs: Name of a layer → the tfmot `QuantizeConfig` to use for it as it is.
        preserve: See `WeightRounding`.
        bits: Name of a layer → bits of its weights; 8 for layers it does not name.
        wrap: `(layer, config) → layer`: tfmot's wrapper, or a note for its scheme.
    """

    def __init__(
        self, source: graph.Graph, rule_of, *, skip=(), configs=(), preserve=None, bits=(), wrap
    ):
        from tfkd.quantization import quantizers

        self.parts = quantizers
        self.layers = backends.tf_keras().layers
        self.source = source
        self.rule_of = rule_of
        self.skip = set(skip)
        self.configs = dict(configs)
        self.preserve = preserve
        self.bits = dict(bits)
        self.wrap = wrap
        self.origins: dict[str, Origin] = {}
        self.report: dict[str, LayerReport] = {}
        self._names: set[str] = set()
        self._output_names: set[str] = set()
        self._made: dict[tuple[int, str], Any] = {}
        #: Layers whose weights were requested with fewer than 8 bits → the bits that they have.
        self.widths: dict[str, int] = {}
        self.layer = self.call = None
        #: `training=` of the source's call, if the call fixes it.
        self.mode: dict[str, bool] = {}

    def run(self):
        """Build the model.

        Returns:
            A `tf_keras.Model` with the inputs and outputs of the source.

        Raises:
            UnsupportedError: naming every layer without a rule, and why.
        """
        tf_keras = backends.tf_keras()
        without_rule.check(self.source, self.rule_of, self.skip, self.configs)
        uses = self._count_uses()
        # A layer that stays one layer keeps its name, so these names are taken.
        self._names = {tensor.name for tensor in self.source.input_list}
        inputs = graph.symbolic_inputs(self.source, tf_keras)
        values = {
            t.index: Value(tensor, t.name, "input", uses=uses.get(t.index, 0))
            for t, tensor in zip(self.source.input_list, inputs, strict=True)
        }
        problems = []
        for call in self.source.calls:
            given = [values[t.index] for t in call.inputs]
            try:
                results = self._apply(call, given)
            except UnsupportedError as error:
                problems.append(f"layer {call.name!r} ({type(call.layer).__name__}): {error}")
                # Continue, so that one error lists all problems of the model.
                results = self._values(self._called(call.layer, call, given))
            for tensor, value in zip(call.outputs, results, strict=True):
                # A rule may return its input, which becomes another value with other readers.
                values[tensor.index] = dataclasses.replace(value, uses=uses.get(tensor.index, 0))
        raise_all(problems, UnsupportedError, fix=without_rule.way_out(), code="no-rule")
        outputs = graph.map_structure(
            lambda t: self._output(values[t.index], t.name), self.source.outputs
        )
        structure = graph.as_structured(self.source, inputs)
        return tf_keras.Model(structure, outputs, name=self.source.name)

    def _output(self, value: Value, name: str):
        """Return an output of the model under its old name, rounded unless it is a probability.

        The file rounds probabilities to 1/256. Losses take their logarithm, and a true class
        that is rounded to zero would have no gradient.
        """
        probability = value.fixed in (UNIT, SYMMETRIC_UNIT) and value.rounded is None
        tensor = value.tensor if probability else self.rounded(value)
        # A wrapper has another name than its layer, so that the layer's name is free in the model.
        wrappers = (self.parts.quantize_wrapper.QuantizeWrapper, self.parts.LeftFloat)
        wrapped = {la.layer.name for la in self._made.values() if isinstance(la, wrappers)}
        layer = tensor._keras_history.layer
        taken = (self._names - wrapped) | self._output_names
        if layer.name in taken and name not in taken:
            layer._name = name
            self._output_names.add(name)
        return tensor

    def _count_uses(self) -> dict[int, int]:
        uses: dict[int, int] = {}
        read = [t for call in self.source.calls for t in call.inputs] + self.source.output_list
        for tensor in read:
            uses[tensor.index] = uses.get(tensor.index, 0) + 1
        return uses

    def _apply(self, call, given):
        self.call = call
        layer = self.layer = call.layer
        fixed = call.kwargs.get("training")
        self.mode = {} if fixed is None else {"training": fixed}
        if layer.name in self.configs:
            wrapped = self.made("own", lambda: self.wrap(self.copy(), self.configs[layer.name]))
            self.note("int8", "by the given QuantizeConfig")
            results = self._values(self._called(wrapped, call, given))
            return [self._regularized(value) for value in results]
        if layer.name in self.skip:
            self.note("float", "left out by skip")
            kept = self.made("", lambda: self.parts.LeftFloat(self.copy()))
            result = self._called(kept, call, given)
            kept.layer.set_weights(layer.get_weights())  # some layers are built by their first call
            return self._values(result)
        if not operations.is_operation(layer):
            self._one_argument(call)
        results = self.rule_of(layer)(self, layer, *given)
        if layer.name not in self.report:
            self.note("int8", "")
        if layer.name in self.widths:
            self._note_bits()
        results = results if isinstance(results, list) else [results]
        return [self._regularized(value) for value in results]

    def _regularized(self, value: Value) -> Value:
        """Return a value that the layer's regularizer of activity sees, in a layer of its own.

        A wrapped layer's own has no effect, and its activation comes later.
        """
        regularizer = self.layer._activity_regularizer
        if regularizer is None or kind_of(self.layer) == "ActivityRegularization":
            return value

        def make():
            sums = {key: float(getattr(regularizer, key, 0.0)) for key in ("l1", "l2")}
            name = self.name(f"{self.layer.name}_activity")
            made = self.layers.ActivityRegularization(**sums, name=name)
            made.activity_regularizer = regularizer  # perhaps one of the user's own
            return made

        is_rounded = value.rounded is not None
        seen = self.made("activity", make)(value.rounded if is_rounded else value.tensor)
        return dataclasses.replace(value, tensor=seen, rounded=seen if is_rounded else None)

    def _called(self, layer, call, given):
        """Call a layer on rounded tensors with the arguments of the source's call."""
        known = {t.index: self.rounded(v) for t, v in zip(call.inputs, given, strict=True)}

        def fill(leaf):
            return known[leaf.index] if _is_tensor(leaf) else leaf

        args, kwargs = graph.map_structure(fill, (call.args, call.kwargs))
        return layer(*args, **kwargs)

    def _one_argument(self, call):
        """Raise for calls with further arguments that are tensors: masks, initial states."""
        tensors = [t for t in graph.leaves((call.args[1:], call.kwargs)) if _is_tensor(t)]
        if tensors:
            raise UnsupportedError(
                "is called with further tensors (a mask, an initial state), which have no rule for "
                "8 bits",
                code="initial-state",
            )

    @staticmethod
    def unpacked(tensors):
        """Return a list of tensors as a layer takes them: one alone, or the list."""
        return tensors[0] if len(tensors) == 1 else tensors

    @staticmethod
    def tensors(result):
        """Return the tensors that a layer gave, as a list."""
        return list(graph.leaves(result))

    def _values(self, result):
        return [Value(t, self.layer.name) for t in self.tensors(result)]

    # Methods with which rules build layers.

    def rounded(self, value: Value):
        """Return the value's tensor on its int8 grid."""
        if value.rounded is None:
            tensor, fixed = value.tensor, value.fixed
            if tensor.dtype.name in BYTES:
                tensor, fixed = self.parts.as_float(tensor), BYTES[tensor.dtype.name]
            if not tensor.dtype.is_floating:
                value.rounded = tensor
            else:
                quantizer = (
                    self.parts.FixedRounding(*fixed) if fixed else self.parts.RangeRounding()
                )
                layer = self.parts.QuantizeLayer(quantizer, name=self.name(f"round_{value.name}"))
                value.rounded = layer(tensor)
        return value.rounded

    def moved(self, value: Value, layer) -> Value:
        """Return the result of a layer that only moves numbers: no new rounding."""
        tensor = layer(self.rounded(value))
        return Value(tensor, value.name, rounded=tensor)

    def operated(self, *values: Value):
        """Return the results of the source call, an operation, for values: a list of tensors."""
        copy = self.made("", lambda: operations.twin(self.layer))
        translated.renamed(copy, self.name(self.layer.name))
        return self.tensors(self._called(copy, self.call, values))

    def copy(self, layer_class=None, name: str | None = None, **changes):
        """Return a new layer like the source layer, built and with its weights.

        Args:
            layer_class: Another class; then only the settings in `changes` are used, and
                the weights are the caller's business.
            name: Name of the new layer. Defaults to the source layer's.
            **changes: Settings that differ.
        """
        layer = self.layer
        name = self.name(name or layer.name)
        if layer_class is not None:
            return layer_class(name=name, trainable=layer.trainable, **changes)
        copy = remade(layer, name=name, **changes)
        own = layer.name in self.skip or kind_of(layer) == "ActivityRegularization"
        # `_regularized` takes its place in a layer that is rounded.
        copy._activity_regularizer = layer._activity_regularizer if own else None
        if copy.trainable != layer.trainable:
            copy.trainable = layer.trainable  # and all layers inside
        if layer.weights:
            _build(copy, layer.get_input_shape_at(0))
            if copy.weights:
                copy.set_weights(layer.get_weights())
            self.origins[layer.name] = Origin((name,), lambda weights: weights)
        return copy

    def bits_of_weights(self, narrow: bool = True) -> int:
        """Return how many bits the weights of the source layer get.

        Args:
            narrow: Whether the operation has kernels for fewer than 8.
        """
        return self.bits.get(self.layer.name, 8) if narrow else 8

    def weighted(self, layer, weights, key: str = "", bits: int = 8):
        """Return a built layer wrapped so that its weights are rounded.

        Args:
            layer: A function that makes the layer, called once however often it is used.
            weights: As `RoundedWeights` takes them.
            key: Which of the several layers made from one source layer this is.
            bits: Bits of the weights, see `bits_of_weights`.
        """
        if self.bits.get(self.layer.name, 8) < 8:
            self.widths[self.layer.name] = bits

        def make():
            return self.wrap(layer(), self.parts.RoundedWeights(weights, self.preserve, bits))

        return self.made(key, make)

    def plain(self, **changes):
        """Return the source layer's copy, not wrapped; the same one in every call of it."""
        copy = self.made("", lambda: self.copy(**changes))
        return functools.partial(copy, **self.mode) if self.mode else copy

    def made(self, key: str, make):
        """Return the layer made for (source layer, key): shared layers stay shared."""
        place = (id(self.layer), key)
        if place not in self._made:
            self._made[place] = make()
        return self._made[place]

    def name(self, wanted: str) -> str:
        """Return a name that no layer has yet."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def note(self, how: str, detail: str):
        """Note in the report how the source layer is treated."""
        layer = self.layer
        self.report[layer.name] = LayerReport(layer.name, type(layer).__name__, how, detail)

    def _note_bits(self):
        """Report whether the layer's weights got the requested bits."""
        name, bits = self.layer.name, self.widths[self.layer.name]
        got = f"{bits} bits" if bits < 8 else "8 bits: fewer are not offered here"
        said = self.report[name]
        detail = "; ".join(filter(None, [got, said.detail]))
        self.report[name] = dataclasses.replace(said, detail=detail)

    def keep_weights(self, layers, back):
        """Say how to get the source layer's weights back from those of other layers."""
        self.origins[self.layer.name] = Origin(tuple(layers), back)


def _is_tensor(leaf) -> bool:
    return isinstance(leaf, graph.Tensor)


def _build(layer, shape):
    """Build a layer, with variables named as if the model had built it."""
    import tensorflow as tf

    with tf.name_scope(layer.name):
        layer.build(shape)
