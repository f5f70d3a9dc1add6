"""Pruning rules of the user's own, by the class of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tfkd.errors import InputError
from tfkd.model import own_rules
from tfkd.model.graph import Call as Call
from tfkd.model.layer_kinds import class_of, is_of_library
from tfkd.pruning.structured import rules
from tfkd.pruning.structured.labels import KEPT, Channels, NotPrunable


class PruningRule(Protocol):
    """The effect of a layer on channels: a function that `register` takes.

    It tells `channels` which channel each slice of the layer's weights belongs to, and which
    numbers in its configuration count channels, and returns the labels of the output.
    """

    def __call__(
        self, channels: Channels, call: Call, inputs: Sequence[np.ndarray], /
    ) -> np.ndarray | Sequence[np.ndarray]:
        """Follow the channels through one call of a layer.

        Args:
            channels: The known facts about the model's channels; the rule adds to them.
            call: The call: its `layer`, `inputs` and `outputs` with their shapes.
            inputs: Labels of each input: integers, with an axis for each axis of the tensor
                except the batch, of size 1 if the axis has no channels.

        Returns:
            Labels of the output in the same form, or a list of them, one per output.

        Raises:
            NotPrunable: if the layer must stay as it is.
        """
        ...


_rules: dict[type, PruningRule] = {}


def register(layer_class: type, rule: PruningRule, *, replace: bool = False) -> None:
    """Tell `prune_channels` what your own layer class does to channels.

    Choose it when `describe` reports that a layer of a model has no rule: without a rule, the layer
    and the layers it reads from keep all their channels. `spiral`, `Slimming` and `compress` use
    the rule too. The layer must be built from `get_config()`, which holds the numbers that
    `channels.counted` names. Criteria rank by weights whose names end in `kernel`, and by
    `embeddings`.

    Args:
        layer_class: A subclass of `keras.layers.Layer` or `tf_keras.layers.Layer`. The rule also
            applies to subclasses that override nothing that the class computes with.
        rule: See `PruningRule`.
        replace: Whether to replace the rule that the class has. Defaults to `False`.

    Raises:
        InputError: if the class is no layer class or has a rule already, or the rule can't be
            called.

    Example:
        >>> import keras, tfkd
        >>> class Projection(keras.layers.Layer):
        ...     def __init__(self, units, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.units = units
        ...     def build(self, shape):
        ...         self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        ...     def call(self, x):
        ...         return keras.ops.matmul(x, self.kernel)
        ...     def get_config(self):
        ...         return {**super().get_config(), "units": self.units}
        >>> def follow(channels, call, inputs):
        ...     units = channels.counted(call.layer, "units")
        ...     channels.slices(call.layer.kernel, 0, channels.of_input(call))
        ...     channels.slices(call.layer.kernel, 1, units)
        ...     return channels.as_output(call, units)
        >>> tfkd.pruning.register(Projection, follow)
        >>> layers = [keras.Input((8,)), Projection(16), keras.layers.Dense(2)]
        >>> small = tfkd.prune_channels(keras.Sequential(layers), 0.5)
        >>> small.layers[1].units
        8
    """
    own_rules.check(layer_class, rule, "pruning", ("keras", "tf_keras"), _has_rule, replace)
    _rules[layer_class] = rule


def _has_rule(kind: type) -> bool:
    return kind in _rules or (is_of_library(kind) and kind.__name__ in rules.STANDARD)


def rule_of(layer: Any) -> PruningRule | None:
    """Return the rule that is registered for a layer's class, if there is one."""
    found = class_of(layer, lambda kind: kind in _rules or is_of_library(kind))
    return None if found is None else _rules.get(found)


def follow(
    rule: PruningRule, channels: Channels, call: Call, inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Call a registered rule, and check its result.

    Returns:
        The labels of each output.

    Raises:
        InputError: if the rule fails, or its result is incomplete or has other shapes.
        NotPrunable: if the rule raises it.
    """
    layer = call.layer
    who = f"The pruning rule of {type(layer).__name__}, at the layer {call.name!r},"
    result = own_rules.result_of(who, rule, channels, call, inputs, own=(NotPrunable,))
    made = list(result) if isinstance(result, (list, tuple)) else [result]
    if len(made) != len(call.outputs):
        raise InputError(
            f"{who} returned {len(made)} arrays of labels, but the layer has "
            f"{len(call.outputs)} outputs; return a list with an array for each."
        )
    for labels, tensor in zip(made, call.outputs, strict=True):
        _check_labels(who, labels, tensor.shape)
    _check_counts(who, layer, channels)
    known = {KEPT}.union(*map(np.ravel, [*inputs, *channels.of_layer(layer)]))
    if not known.issuperset(np.concatenate([*map(np.ravel, made)])):
        raise InputError(
            f"{who} returned labels that occur neither in its inputs nor, by channels.slices, in "
            "its weights: nothing in the layer would go with these channels."
        )
    missing = [
        f"{weight.name!r} of shape {tuple(weight.shape)}"
        for weight in layer.weights
        if id(weight) not in channels.axes and max(weight.shape, default=1) > 1
    ]
    if missing:
        raise InputError(
            f"{who} leaves out the weights {', '.join(missing)}; call channels.slices(weight, "
            "axis, labels) for each axis that goes with channels, or channels.whole(weight)."
        )
    return [np.asarray(labels) for labels in made]


def _check_labels(who: str, labels: Any, shape: tuple[int | None, ...]) -> None:
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        what = f"dtype {labels.dtype}" if isinstance(labels, np.ndarray) else repr(labels)
        raise InputError(
            f"{who} must return an array of integers, the labels of its output, got {what}; "
            "channels.as_output(call, labels) makes it from flat labels."
        )
    fits = labels.ndim == len(shape) - 1 and all(
        got in (1, size) for got, size in zip(labels.shape, shape[1:], strict=True)
    )
    if not fits:
        raise InputError(
            f"{who} returned labels of shape {labels.shape} for an output of shape {shape}: they "
            "need an axis for each except the batch, of its size or of size 1; "
            "channels.as_output(call, labels) makes them from flat labels."
        )


def _check_counts(who: str, layer: Any, channels: Channels) -> None:
    config = layer.get_config() if channels.counts.get(id(layer)) else {}
    for name, labels in channels.counts.get(id(layer), {}).items():
        value = config.get(name)
        if isinstance(value, bool) or value != len(labels):
            raise InputError(
                f"{who} counts {len(labels)} channels by {name!r}, for which the layer's "
                f"get_config() has {value!r}; return the number there, so that a smaller layer "
                "can be built."
            )
