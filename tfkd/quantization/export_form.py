"""The form of a quantize-aware model that the TFLite converter gets.

Training is over: weights become constants on the int8 grid, ranges stop moving, and
tfmot's wrappers are gone, so that the converter folds batch normalization into any layer
and finds a scale per channel in the weights themselves.
"""

from __future__ import annotations

import math

import numpy as np

from tfkd.errors import InputError
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import RECURRENT, inner, kind_of, remade
from tfkd.quantization.aware import _is_wrapper, unwrapped
from tfkd.quantization.rules import moves
from tfkd.translation import operations

_PLACES = ("argmax", "argmin")


def narrow_wrappers(model) -> list:
    """Return the layers of a quantize-aware model whose weights have fewer than 8 bits."""
    return [
        layer
        for layer in model.layers
        if getattr(getattr(layer, "quantize_config", None), "bits", 8) < 8
    ]


def narrow_layers(model) -> dict[str, tuple[int, ...]]:
    """Return the layers whose weights have fewer than 8 bits.

    Returns:
        Name of a layer → number of weights in each tensor that it becomes in a file.
    """
    found = {}
    for layer in narrow_wrappers(model):
        sizes: list[int] = []
        for weight, quantizer, _ in layer._weight_vars:
            rows = math.prod(weight.shape[:-1])
            sizes += [rows * n for n in quantizer.columns or (weight.shape[-1],)]
        found[layer.name] = tuple(sizes)
    return found


def is_ours(model) -> bool:
    """Tell whether a quantize-aware model was made by tfkd's scheme."""
    return any(
        type(getattr(layer, name, None)).__module__ == "tfkd.quantization.quantizers"
        for layer in model.layers
        for name in ("quantize_config", "quantizer")
    )


def needs_calibration(model) -> bool:
    """Tell whether the file's ranges must come from data: it has rounded recurrent layers.

    Their gates and their state have no learned ranges.
    """
    left = set(float_layers(model))
    rounded = (layer for layer in model.layers if layer.name not in left)
    return any(kind_of(inner(layer)) in RECURRENT for layer in rounded)


def float_layers(model) -> list[str]:
    """Return the names of the layers that `quantize_aware(skip=...)` left out."""
    from tfkd.quantization import quantizers

    return [layer.name for layer in model.layers if isinstance(layer, quantizers.LeftFloat)]


def freeze(model, *, ranges: bool = True):
    """Return a plain tf_keras model that computes what a quantize-aware one does.

    Args:
        model: A model made by `quantize_aware`; it is not changed.
        ranges: Whether to keep the rounding of activations. Without it, only the weights
            are rounded, and the converter reads the ranges from data.

    Returns:
        A `tf_keras.Model` without wrappers.

    Raises:
        InputError: if the model was never trained, so that its ranges are not known.
    """
    from tfkd.quantization import quantizers

    tfmot = backends.tfmot()
    source = graph.walk(model)
    roundings = (quantizers.RangeRounding, quantizers.FixedRounding)
    made = {}
    unseen = []
    grids = {}  # index of a rounded tensor → its range

    def layer_for(layer):
        if id(layer) in made:
            return made[id(layer)]
        if _has_rounded_weights(layer):
            new = unwrapped(layer, rounded=True)
        elif (
            isinstance(layer, quantizers.quantize_layer.QuantizeLayer)
            and type(layer.quantizer) in roundings
        ):
            new = None
            if ranges:
                low, high = _range(layer, unseen)
                new = quantizers.Rounding(low, high, name=layer.name)
        elif isinstance(layer, quantizers.LeftFloat):
            new = remade(layer.layer, name=layer.name)
        elif ranges and _is_clipped(layer, source):
            new = remade(layer, max_value=None)  # a ReLU, which fuses without a limit of its own
        else:
            with tfmot.quantization.keras.quantize_scope():
                new = remade(layer)
        made[id(layer)] = new
        return new

    def apply(call, args, kwargs):
        layer = layer_for(call.layer)
        grid = grids.get(call.inputs[0].index)
        is_left = isinstance(call.layer, quantizers.LeftFloat)
        if layer is None:
            return args[0]
        if grid and operations.name_of(layer) in _PLACES:
            # The converter undoes the rounding of an output that such an operation reads.
            args, kwargs = graph.map_structure(_again(grid), (args, kwargs))
        result = layer(*args, **kwargs)
        if isinstance(layer, quantizers.Rounding):
            grid = layer.low, layer.high
        elif ranges and _is_wrapper(call.layer) and kind_of(layer) == "Embedding":
            # The rows are on a grid, which the converter only finds at the output.
            step = float(np.abs(layer.get_weights()[0]).max()) / 127.0
            grid = -128.0 * step, 127.0 * step
            result = quantizers.Rounding(*grid)(result)
        elif grid and not is_left and moves.keeps_grid(layer):
            # Rounded again after each such layer: the converter uses the reader's range for an
            # unrounded tensor, and refuses two readers with different ranges.
            result = graph.map_structure(_again(grid), result)
        elif not moves.is_identity(layer):
            grid = None
        if grid:
            grids.update((tensor.index, grid) for tensor in call.outputs)
        return result

    frozen = graph.rebuild(source, backends.tf_keras(), apply)
    if unseen:
        raise InputError(
            f"The quantize-aware model {model.name!r} has not been trained: the ranges of "
            f"{len(unseen)} activations ({', '.join(unseen[:3])}, ...) were never seen. Train it "
            "for at least an epoch."
        )
    for _, layer in source.layers:
        new = made[id(layer)]
        if new is not None and not _has_rounded_weights(layer) and new.weights:
            held = layer.layer if isinstance(layer, quantizers.LeftFloat) else layer
            new.set_weights(held.get_weights())
    for variable in frozen.weights:
        _make_uneven(variable)
    frozen.trainable = True  # tf_keras lists frozen weights of a layer last
    return frozen


def _has_rounded_weights(layer) -> bool:
    """Tell whether a layer is a wrapper of tfkd's own, and not one with a given QuantizeConfig."""
    from tfkd.quantization import quantizers

    return isinstance(getattr(layer, "quantize_config", None), quantizers.RoundedWeights)


def _is_clipped(layer, source) -> bool:
    """Tell whether a layer is a ReLU whose limit is the end of each rounding that reads it."""
    from tfkd.quantization import quantizers

    if kind_of(layer) != "ReLU" or layer.max_value in (None, 6.0):
        return False
    calls = [call for call in source.calls if call.layer is layer]
    readers = [reader for call in calls for reader in source.consumers(call.outputs[0])]
    roundings = [getattr(reader.layer, "quantizer", None) for reader in readers]
    return bool(roundings) and all(
        isinstance(one, quantizers.FixedRounding) and one.high == float(layer.max_value)
        for one in roundings
    )


def _make_uneven(variable):
    """Change the last number of a bias with equal numbers by a millionth.

    The converter stores equal numbers as one, and rounds it by the first channel's scale.
    """
    values = variable.numpy()
    if values.ndim == 1 and values.size > 1 and values[0] and (values == values[0]).all():
        values[-1] *= 1.0 + 1e-6
        variable.assign(values)


def _again(grid):
    """Return a function that rounds the tensors among its leaves again over their range."""
    from tfkd.quantization import quantizers

    return lambda leaf: (
        quantizers.Rounding(*grid)(leaf) if hasattr(leaf, "_keras_history") else leaf
    )


def _range(layer, unseen) -> tuple[float, float]:
    from tfkd.quantization import quantizers

    held = layer.quantizer_vars
    if isinstance(layer.quantizer, quantizers.FixedRounding):
        ends = layer.quantizer.low, layer.quantizer.high
    else:
        if not float(np.asarray(held["seen"])):
            unseen.append(layer.name)
        ends = held["min_var"], held["max_var"]
    low, high = quantizers.on_grid(*(np.asarray(end, "float32") for end in ends))
    return float(low), float(high)
