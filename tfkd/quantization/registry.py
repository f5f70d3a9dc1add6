"""Quantization rules of the user's own, by the class of a layer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tfkd import translation
from tfkd.errors import InputError
from tfkd.model import own_rules
from tfkd.model.layer_kinds import class_of, is_of_library
from tfkd.quantization import table
from tfkd.quantization.rewriting import Rewriter, Value


class QuantizationRule(Protocol):
    """How a layer is trained with 8-bit rounding: a function that `register` takes.

    It builds the layers that replace the layer in the model that is trained. tfkd's own rules in
    `tfkd.quantization.rules` are such functions, and its `primitives` (`affine`, `pair`, `relu`,
    `function`, `depthwise`) can be used in others.
    """

    def __call__(self, net: Rewriter, layer: Any, /, *values: Value) -> Value | Sequence[Value]:
        """Build the replacement of one call of a layer.

        Args:
            net: The model being built. `net.rounded(value)` is an input's tensor on the int8
                grid; `net.copy()` the layer again, with its weights; `net.weighted(net.copy,
                [("kernel", (1,), None)])` the same with its kernel rounded, a scale for each
                index of axis 1; `net.layers` the layers of tf_keras; `net.name(name)` a free name.
            layer: The layer, of tf_keras.
            *values: The inputs of its call.

        Returns:
            A `Value(tensor, layer.name)`, or a list of them, one per output. The tensor is not
            rounded yet: its readers round it, after the layers that fuse with it (`kind`).

        Raises:
            UnsupportedError: if this layer can't be rounded; the message states the reason.
        """
        ...


_rules: dict[type, QuantizationRule] = {}


def register(layer_class: type, rule: QuantizationRule, *, replace: bool = False) -> None:
    """Tell `quantize_aware` how to train your own layer class with 8-bit rounding.

    Choose it when `quantize_aware` reports that a class of yours has no rule. Every tensor that the
    int8 file stores must be rounded: a layer whose `call` is one operation with a kernel, and a
    bias, can stay as it is with its kernel rounded; a layer of several operations is built from
    several layers. `to_tflite` then finds all ranges in the model.

    Args:
        layer_class: A subclass of `tf_keras.layers.Layer`, or one of `keras.layers.Layer` whose
            counterpart `tfkd.translation.register` names: rules work on tf_keras's layers.
            The rule also applies to subclasses that override nothing that the class computes with.
        rule: See `QuantizationRule`.
        replace: Whether to replace the rule that the class has. Defaults to `False`.

    Raises:
        InputError: if the class is no layer class or has a rule already, or the rule can't be
            called.

    Example:
        >>> import tf_keras, tfkd
        >>> class Projection(tf_keras.layers.Layer):
        ...     def __init__(self, units, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.units = units
        ...     def build(self, shape):
        ...         self.kernel = self.add_weight("kernel", (shape[-1], self.units))
        ...     def call(self, x):
        ...         return x @ self.kernel
        ...     def get_config(self):
        ...         return {**super().get_config(), "units": self.units}
        >>> def per_unit(net, layer, x):
        ...     rounded = net.weighted(net.copy, [("kernel", (1,), None)])
        ...     return tfkd.quantization.Value(rounded(net.rounded(x)), layer.name, "linear")
        >>> tfkd.quantization.register(Projection, per_unit)
        >>> model = tf_keras.Sequential([tf_keras.Input((8,)), Projection(4, name="own")])
        >>> print(tfkd.quantization.describe(tfkd.quantize_aware(model)))
        layer  class       how
        own    Projection  int8
    """
    own_rules.check(layer_class, rule, "quantization", ("tf_keras", "keras"), _has_rule, replace)
    for one in translation.pair_of(layer_class):
        _rules.pop(one, None)
    _rules[layer_class] = rule


def _has_rule(kind: type) -> bool:
    standard = is_of_library(kind) and kind.__name__ in table.RULES
    return standard or _registered(kind) is not None


def rule_of(layer: Any) -> Callable[..., Any] | None:
    """Return the rule for a tf_keras layer or operation: a registered one, or the table's."""
    kind = class_of(layer, lambda kind: _registered(kind) is not None or is_of_library(kind))
    own = None if kind is None else _registered(kind)
    return table.rule_of(layer) if own is None else functools.partial(_follow, own)


def _registered(kind: type) -> QuantizationRule | None:
    return next((_rules[one] for one in translation.pair_of(kind) if one in _rules), None)


def _follow(rule: QuantizationRule, net: Rewriter, layer: Any, *values: Value) -> list[Value]:
    """Call a registered rule and check its result."""
    call = net.call
    who = f"The quantization rule of {type(layer).__name__}, at the layer {call.name!r},"
    result = own_rules.result_of(who, rule, net, layer, *values)
    made = list(result) if isinstance(result, (list, tuple)) else [result]
    if not all(isinstance(value, Value) for value in made):
        raise InputError(
            f"{who} must return a tfkd.quantization.Value(tensor, layer.name), or a list of them, "
            f"got {result!r}."
        )
    if len(made) != len(call.outputs):
        raise InputError(
            f"{who} returned {len(made)} values, but the layer has {len(call.outputs)} outputs; "
            "return a list with a Value for each."
        )
    for value, wanted in zip(made, call.outputs, strict=True):
        shape, dtype = tuple(value.tensor.shape), value.tensor.dtype.name
        if shape != wanted.shape or dtype != wanted.dtype:
            raise InputError(
                f"{who} returned a tensor of shape {shape} and dtype {dtype} for an output of "
                f"shape {wanted.shape} and dtype {wanted.dtype}."
            )
    if layer.weights and layer.name not in net.origins:
        raise InputError(
            f"{who} does not say where the layer's weights are, so strip_quantization would lose "
            "them; build with net.copy(), or call net.keep_weights(names, back)."
        )
    return made
