"""The effect of each layer and operation on the kinds of its inputs.

Rules apply to the library's own classes: a user's class may do anything, whatever attributes it
has. Operations are read in the vocabulary of `keras.ops`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model import backends
from tfkd.model.layer_kinds import CELLS_IN_TIME, LIBRARIES, QUANTIZING, SPARSIFYING, kind_of
from tfkd.output_kind import kinds
from tfkd.output_kind.kinds import LINEAR, SIGMOID, VALUES, Kind, Value
from tfkd.translation import operations


@dataclasses.dataclass(frozen=True)
class Site:
    """One call as the rules see it.

    Attributes:
        layer: The layer that is called.
        values: Its input tensors, in order.
        shape: Shape of its first output, with the batch.
        args: Positional arguments, tensors as `Value`.
        kwargs: Keyword arguments, likewise.
    """

    layer: Any
    values: tuple[Value, ...]
    shape: tuple[int | None, ...]
    args: tuple = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> Value:
        """The first input."""
        return self.values[0]


def kind_of_call(site: Site, inner: Callable[[Any, list[Value]], list[Kind | None]]) -> Kind | None:
    """Return the kind of a call's result.

    Args:
        site: The call.
        inner: `inner(model, values)` follows a model that a layer applies to every step.
    """
    if operations.is_operation(site.layer):
        return _of_operation(site)
    name = library_class(site.layer)
    if name in _AROUND:
        return kind_of_call(dataclasses.replace(site, layer=site.layer.layer), inner)
    if name == "TimeDistributed":
        return _every_step(site, inner)
    rule = _LAYERS.get(name)
    return None if rule is None or not site.values else rule(site)


#: Rules that give the kind of a layer's outputs for any weights.
library_class = functools.partial(kind_of, any_weights=True)

# Wrappers that compute the same as the layer inside.
_AROUND = QUANTIZING | SPARSIFYING | {"SpectralNormalization", "QuantizeAnnotate"}


def _every_step(site: Site, inner) -> Kind | None:
    """TimeDistributed: the kind of the layer inside for one step, one axis further on."""
    steps = [_step(value) for value in site.values]
    layer = site.layer.layer
    if hasattr(layer, "layers"):
        kind, *others = inner(layer, steps)
        kind = None if others else kind
    else:
        shape = (site.shape[0], *site.shape[2:])
        args = (steps[0],) if len(steps) == 1 else (steps,)
        kind = kind_of_call(Site(layer, tuple(steps), shape, args), inner)
    return kinds.moved(kind, kind.axis + 1 if kind and kind.axis is not None else None)


def _step(value: Value) -> Value:
    return Value(kinds.without(value, [1]), (value.shape[0], *value.shape[2:]))


# Activations that leave free values free, and don't make probabilities.
_BENDING = frozenset(
    {"relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish"}
    | {"tanh", "hard_tanh", "softplus", "softsign", "hard_silu", "hard_swish", "squareplus"}
    | {"tanh_shrink", "hard_shrink", "soft_shrink", "threshold", "sparse_plus"}
)


def _activated(function, rank: int) -> Kind | None:
    """Return the kind of free values after an activation function."""
    function = getattr(function, "activation", function)  # tfmot's QuantizeAwareActivation
    if function is None:
        return LINEAR
    if backends.flavour(function) is not None:  # a layer used as the activation
        name, axis = library_class(function), getattr(function, "axis", -1)
        name = {"Softmax": "softmax", "ReLU": "relu", "LeakyReLU": "relu"}.get(name)
    else:
        own = (getattr(function, "__module__", None) or "").split(".")[0] in LIBRARIES
        name, axis = (getattr(function, "__name__", None) if own else None), -1
    if name in ("softmax", "softmax_v2"):  # the second name is that of tf.nn.softmax
        return kinds.softmax(axis, rank)
    if name == "sigmoid":
        return SIGMOID
    if name == "linear":
        return LINEAR
    return VALUES if name in _BENDING else None


def _weighted(site: Site) -> Kind | None:
    """A layer that multiplies by weights: only its activation decides."""
    return _activated(getattr(site.layer, "activation", None), len(site.shape))


def _activation(site: Site) -> Kind | None:
    function = getattr(site.layer.activation, "activation", site.layer.activation)
    kind = _activated(function, len(site.shape))
    if kind is None or not kind.is_free:
        return kind
    if kind == LINEAR:
        return site.first.kind
    return kinds.free([site.first])


def _softmax(site: Site) -> Kind | None:
    return kinds.softmax(site.layer.axis, len(site.shape))


def _gated(site: Site) -> Kind | None:
    """LSTM and GRU: gates multiply the activation's result, so it loses its kind."""
    cells = getattr(site.layer, "cell", site.layer)
    kind = _activated(getattr(cells, "activation", None), len(site.shape))
    return VALUES if kind is not None and kind.is_free else None


def _bidirectional(site: Site) -> Kind | None:
    """Two runs of one recurrent layer, merged."""
    merge, rank = site.layer.merge_mode, len(site.shape)
    kind = None
    rule = _LAYERS.get(library_class(site.layer.forward_layer))
    if rule is not None and library_class(site.layer.forward_layer) in CELLS_IN_TIME:
        kind = rule(dataclasses.replace(site, layer=site.layer.forward_layer))
    value = Value(kind, site.shape)
    if merge == "concat":
        return kinds.joined([value, value], rank - 1)
    if merge == "sum":
        return kinds.added([value, value], site.shape)
    if merge == "ave":
        return _mean_of([value, value], site.shape)
    return kind if merge is None else kinds.free([value])


def _keep(site: Site) -> Kind | None:
    return site.first.kind


def _bend(site: Site) -> Kind | None:
    return kinds.free(list(site.values))


def _values(site: Site) -> Kind | None:
    return VALUES


def _normalized(site: Site) -> Kind | None:
    """Own scales and offsets: free values stay free values, and probabilities get no kind."""
    return LINEAR if kinds.free([site.first]) else None


def _rescaling(site: Site) -> Kind | None:
    layer = site.layer
    kind = kinds.scaled(kinds.broadcast(site.first, site.shape), layer.scale)
    kind = kinds.shifted(kind, layer.offset)
    return LINEAR if kind == VALUES and kinds.number(layer.offset) == 0.0 else kind


def _operands(site: Site) -> list[Value]:
    """Return a merging layer's operands; those that Keras would not broadcast become unknown.

    Merging layers align operands of different ranks at their first axes, NumPy at the last.
    """
    return [
        value
        if value.rank == len(site.shape) or value.kind is None or value.kind.axis is None
        else Value(None, value.shape)
        for value in site.values
    ]


def _add(site: Site) -> Kind | None:
    return kinds.added(_operands(site), site.shape)


def _mean_of(values, shape) -> Kind | None:
    return kinds.scaled(kinds.added(values, shape), 1.0 / len(values))


def _average(site: Site) -> Kind | None:
    return _mean_of(_operands(site), site.shape)


def _subtract(site: Site) -> Kind | None:
    return LINEAR if kinds.free(list(site.values)) else None


def _extreme(site: Site) -> Kind | None:
    """The maximum or minimum of several: sigmoids stay in their range."""
    found = {value.kind for value in site.values}
    if len(found) == 1 and (only := found.pop()) is not None and only.axis is None:
        return only
    return kinds.free(list(site.values))


def _concatenate(site: Site) -> Kind | None:
    return kinds.joined(list(site.values), site.layer.axis % len(site.shape))


def _reshape(site: Site) -> Kind | None:
    return kinds.reshaped(site.first, site.shape)


def _flatten(site: Site) -> Kind | None:
    if getattr(site.layer, "data_format", None) == "channels_first" and site.first.rank > 2:
        # Both tf_keras and Keras 3 first move the channels to the end.
        axis = site.first.kind and site.first.kind.axis
        return site.first.kind if axis is None else None
    return _reshape(site)


def _permute(site: Site) -> Kind | None:
    return _transposed(site.first, (0, *site.layer.dims))


def _transposed(value: Value, axes) -> Kind | None:
    axis = value.kind and value.kind.axis
    if axis is None:
        return value.kind
    axes = range(value.rank)[::-1] if axes is None else [int(one) % value.rank for one in axes]
    return kinds.moved(value.kind, list(axes).index(axis))


def _repeat_vector(site: Site) -> Kind | None:
    return kinds.moved(site.first.kind, 2)


def _channel(site: Site) -> int:
    """Return the axis of the channels: the last one for a layer without such a setting."""
    first = getattr(site.layer, "data_format", None) == "channels_first"
    return 1 if first else site.first.rank - 1


def _per_channel(site: Site) -> Kind | None:
    """Moves or averages positions within each channel."""
    kind = site.first.kind
    return kind if kind is None or kind.axis in (None, _channel(site)) else None


def _upsampling(site: Site) -> Kind | None:
    # Cubic interpolation overshoots: it has negative weights.
    smooth = getattr(site.layer, "interpolation", "nearest") in ("nearest", "bilinear", "area")
    smooth = smooth and not getattr(site.layer, "pad_to_aspect_ratio", False)
    return _per_channel(site) if smooth else kinds.free([site.first])


def _global_average(site: Site) -> Kind | None:
    axes = [axis for axis in range(1, site.first.rank) if axis != _channel(site)]
    kind = kinds.without(site.first, axes, bool(getattr(site.layer, "keepdims", False)))
    return LINEAR if kind == VALUES else kind


def _average_pooling(site: Site) -> Kind | None:
    kind = _per_channel(site)
    return LINEAR if kind == VALUES else kind


def _max_pooling(site: Site) -> Kind | None:
    kind = site.first.kind
    return kind if kind is None or kind.axis is None else None


def _padding(site: Site) -> Kind | None:
    kind = site.first.kind
    return kind if kind is not None and kind.is_free else None


def _multiply(site: Site) -> Kind | None:
    return kinds.free(list(site.values))


def _sized(*names: str) -> list[str]:
    return [f"{name}{size}D" for name in names for size in (1, 2, 3)]


_LAYERS: dict[str | None, Callable[[Site], Kind | None]] = {
    **dict.fromkeys(
        ["Dense", "EinsumDense", "SimpleRNN"]
        + _sized("Conv", "Convolution", "SeparableConv", "DepthwiseConv", "LocallyConnected")
        + [f"Conv{size}DTranspose" for size in (1, 2, 3)],
        _weighted,
    ),
    "DepthwiseConv2D": _weighted,
    **dict.fromkeys(["LSTM", "GRU", *_sized("ConvLSTM")], _gated),
    "Bidirectional": _bidirectional,
    **dict.fromkeys(["Embedding", "MultiHeadAttention", "GroupQueryAttention"], _values),
    "Activation": _activation,
    "QuantizeAwareActivation": _activation,
    "Softmax": _softmax,
    **dict.fromkeys(
        [
            *("Identity", "InputLayer", "Dropout", "AlphaDropout", "GaussianDropout"),
            *("GaussianNoise", "ActivityRegularization", "QuantizeLayer", "Rounding", "Masking"),
            *_sized("SpatialDropout"),
        ],
        _keep,
    ),
    **dict.fromkeys(
        [
            *("ReLU", "LeakyReLU", "PReLU", "ELU", "ThresholdedReLU", "LayerNormalization"),
            *("GroupNormalization", "RMSNormalization", "UnitNormalization", "Dot"),
            *("Attention", "AdditiveAttention"),
        ],
        _bend,
    ),
    **dict.fromkeys(["BatchNormalization", "SyncBatchNormalization", "Normalization"], _normalized),
    "Rescaling": _rescaling,
    "Add": _add,
    "Average": _average,
    "Subtract": _subtract,
    "Multiply": _multiply,
    **dict.fromkeys(["Maximum", "Minimum"], _extreme),
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    **dict.fromkeys(_sized("Cropping"), _per_channel),
    "CenterCrop": _per_channel,
    **dict.fromkeys([*_sized("UpSampling"), "Resizing"], _upsampling),
    **dict.fromkeys(_sized("ZeroPadding"), _padding),
    **dict.fromkeys(_sized("GlobalAveragePooling"), _global_average),
    **dict.fromkeys(_sized("AveragePooling", "AdaptiveAveragePooling"), _average_pooling),
    **dict.fromkeys(
        _sized("MaxPooling", "GlobalMaxPooling", "AdaptiveMaxPooling"),
        _max_pooling,
    ),
}

# Operations. A rule takes the arguments by their parameter names in `keras.ops`, with tensors as
# `Value`, and the shape of the first output.

# TensorFlow's functions that `translation` lacks → our name, their parameter → ours.
_FURTHER = {
    "compat.v1.gather": ("take", {"params": "x", "indices": "indices", "axis": "axis"}),
    "math.add_n": ("add_n", {"inputs": "xs"}),
    "math.scalar_mul": ("multiply", {"scalar": "x1", "x": "x2"}),
    "compat.v1.math.scalar_mul": ("multiply", {"scalar": "x1", "x": "x2"}),
    "math.divide_no_nan": ("divide", {"x": "x1", "y": "x2"}),
    "unstack": ("unstack", {"value": "x", "axis": "axis"}),
    "reverse": ("flip", {"tensor": "x", "axis": "axis"}),
    "nn.sigmoid": ("sigmoid", {"x": "x"}),
    "compat.v1.nn.softmax": ("softmax", {"logits": "x", "axis": "axis"}),
    "math.softmax": ("softmax", {"logits": "x", "axis": "axis"}),
    "clip_by_value": ("clip", {"t": "x", "clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "compat.v1.expand_dims": ("expand_dims", {"input": "x", "axis": "axis"}),
    "compat.v1.math.reduce_mean": ("mean", {"input_tensor": "x", "axis": "axis"}),
    "ensure_shape": ("copy", {"x": "x"}),
}


def _of_operation(site: Site) -> Kind | None:
    read = _read(site)
    rule = None if read is None else _OPERATIONS.get(read.name)
    return None if rule is None else rule(read.arguments, site.shape)


def _read(site: Site) -> operations.Operation | None:
    """Return an operation by name and arguments, or `None` for an unknown one."""
    layer, args, kwargs = site.layer, site.args, site.kwargs
    try:
        if operations.is_known(layer):
            return operations.read(layer, args, kwargs)
        if backends.flavour(layer) is None:
            if not type(layer).__module__.startswith("keras."):
                return None
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
            bound = inspect.signature(layer.call).bind(*args, **kwargs)
            return operations.Operation(name, {**vars(layer), **bound.arguments})
        if layer.symbol not in _FURTHER:
            return None
        name, parameters = _FURTHER[layer.symbol]
        bound = inspect.signature(layer.function).bind(*args, **kwargs)
        bound.apply_defaults()
        found = {ours: bound.arguments.get(theirs) for theirs, ours in parameters.items()}
        return operations.Operation(name, found)
    except (UnsupportedError, TypeError):
        return None


def _stacked(x, axis: int = 0) -> Value | None:
    """Return an operand as one tensor: TensorFlow stacks a list of tensors."""
    if isinstance(x, Value):
        return x
    values = list(x) if isinstance(x, (list, tuple)) else []
    if not values or not all(isinstance(value, Value) for value in values):
        return None
    axis = axis % (values[0].rank + 1)
    shape = (*values[0].shape[:axis], len(values), *values[0].shape[axis:])
    opened = [
        Value(kinds.moved(v.kind, _opened(v.kind, [axis])), (*v.shape[:axis], 1, *v.shape[axis:]))
        for v in values
    ]
    return Value(kinds.joined(opened, axis), shape)


def _opened(kind: Kind | None, axes: list[int]) -> int | None:
    """Return the class axis after inserting axes of size 1 (positive, in the result)."""
    if kind is None or kind.axis is None:
        return None
    axis = kind.axis
    for one in sorted(axes):
        axis += one <= axis
    return axis


def _op_add(given, shape):
    x1, x2 = given["x1"], given["x2"]
    if isinstance(x1, Value) and isinstance(x2, Value):
        return kinds.added([x1, x2], shape)
    value, constant = (x1, x2) if isinstance(x1, Value) else (x2, x1)
    return kinds.shifted(kinds.broadcast(value, shape), constant)


def _op_add_n(given, shape):
    return kinds.added(list(given["xs"]), shape)


def _op_subtract(given, shape):
    x1, x2 = given["x1"], given["x2"]
    if isinstance(x1, Value) and isinstance(x2, Value):
        return LINEAR if kinds.free([x1, x2]) else None
    if isinstance(x1, Value):
        return kinds.shifted(kinds.broadcast(x1, shape), x2)
    kind = x2.kind
    if kind is not None and kind.name == "sigmoid" and kind.is_whole:
        flipped = dataclasses.replace(kind, complement=not kind.complement)
        return flipped if kinds.number(x1) == 1.0 else None
    return kinds.shifted(kinds.broadcast(x2, shape), x1) if kinds.free([x2]) else None


def _op_multiply(given, shape):
    x1, x2 = given["x1"], given["x2"]
    if isinstance(x1, Value) and isinstance(x2, Value):
        return kinds.free([x1, x2])
    value, constant = (x1, x2) if isinstance(x1, Value) else (x2, x1)
    return kinds.scaled(kinds.broadcast(value, shape), constant)


def _op_divide(given, shape):
    x1, x2 = given["x1"], given["x2"]
    if isinstance(x2, Value) or not isinstance(x1, Value):
        return None
    divisor = kinds.number(x2)
    kind = kinds.broadcast(x1, shape)
    if kind is not None and kind.is_free:
        return kind
    return kinds.scaled(kind, 1.0 / divisor) if divisor else None


def _op_negative(given, shape):
    return kinds.free([given["x"]]) and given["x"].kind


def _op_keep(name):
    def rule(given, shape):
        return given[name].kind

    return rule


def _op_cast(given, shape):
    return given["x"].kind if "float" in str(given["dtype"]) else None


def _op_clip(given, shape):
    kind = given["x"].kind
    low, high = kinds.number(given["x_min"]), kinds.number(given["x_max"])
    if kind is None or low is None or high is None or kind.is_free:
        return kinds.free([given["x"]])
    # Avoids logarithms of 0, as is common.
    return kind if kind.is_whole and low <= 1e-6 and high >= 1 - 1e-6 else None


def _op_softmax(given, shape):
    return kinds.softmax(-1 if given.get("axis") is None else given["axis"], len(shape))


def _op_sigmoid(given, shape):
    return SIGMOID


def _op_bend(given, shape):
    return kinds.free([given["x"]])


def _axes(axis, rank: int) -> list[int]:
    if axis is None:
        return list(range(rank))
    return [int(one) % rank for one in (axis if isinstance(axis, (list, tuple)) else [axis])]


def _op_mean(given, shape):
    x = _stacked(given["x"])
    if x is None:
        return None
    kind = kinds.without(x, _axes(given["axis"], x.rank), bool(given.get("keepdims")))
    return LINEAR if kind == VALUES else kind


def _op_sum(given, shape):
    x = _stacked(given["x"])
    if x is None:
        return None
    axes = _axes(given["axis"], x.rank)
    kind = kinds.without(x, axes, bool(given.get("keepdims")))
    if kind is not None and kind.is_free:
        return LINEAR
    sizes = [x.shape[axis] for axis in axes]
    return None if None in sizes else kinds.scaled(kind, float(np.prod(sizes)))


def _op_average(given, shape):
    weights = given.get("weights")
    if isinstance(weights, Value) or (weights is not None and not (np.asarray(weights) >= 0).all()):
        return None
    return _op_mean(given, shape)


def _op_largest(given, shape):
    kind = given["x"].kind
    return kind if kind is None or kind.axis is None else None


def _op_extreme(given, shape):
    values = [given["x1"], given["x2"]]
    if not all(isinstance(value, Value) for value in values):
        return kinds.free([value for value in values if isinstance(value, Value)])
    return _extreme(Site(None, tuple(values), shape))


def _op_where(given, shape):
    values = [given["x1"], given["x2"]]
    if not all(isinstance(value, Value) for value in values):
        return None
    found = {value.kind for value in values}
    return found.pop() if len(found) == 1 and values[0].kind in (LINEAR, SIGMOID, VALUES) else None


def _op_reshape(given, shape):
    return kinds.reshaped(given["x"], shape)


def _op_transpose(given, shape):
    return _transposed(given["x"], given.get("axes"))


def _op_swapaxes(given, shape):
    axes = list(range(given["x"].rank))
    one, other = given["axis1"] % len(axes), given["axis2"] % len(axes)
    axes[one], axes[other] = axes[other], axes[one]
    return _transposed(given["x"], axes)


def _op_moveaxis(given, shape):
    rank = given["x"].rank
    axes = np.moveaxis(np.empty(range(1, rank + 1)), given["source"], given["destination"]).shape
    return _transposed(given["x"], [size - 1 for size in axes])


def _op_expand_dims(given, shape):
    kind = given["x"].kind
    return kinds.moved(kind, _opened(kind, _axes(given["axis"], len(shape))))


def _op_squeeze(given, shape):
    x, axis = given["x"], given.get("axis")
    if axis is None or axis == []:
        axis = [place for place, size in enumerate(x.shape) if size == 1]
    return kinds.without(x, _axes(axis, x.rank))


def _op_broadcast_to(given, shape):
    return kinds.broadcast(given["x"], shape)


def _op_tile(given, shape):
    x, repeats = given["x"], given["repeats"]
    kind = x.kind
    if kind is None or kind.axis is None:
        return kind
    try:
        repeats = [int(one) for one in np.asarray(repeats).ravel()]
    except (TypeError, ValueError):
        return None
    fits = len(repeats) == x.rank and repeats[kind.axis] == 1
    return kind if fits else None


def _along(given, default=None):
    """Return the kind of values taken, repeated or cut along one axis other than the class axis."""
    x, axis = given["x"], given.get("axis", default)
    kind = x.kind
    if kind is None or kind.axis is None:
        return kind
    return kind if axis is not None and kind.axis not in _axes(axis, x.rank) else None


def _op_along(given, shape):
    return _along(given)


def _op_split(given, shape):
    return _along(given, default=0)


def _op_flip(given, shape):
    return given["x"].kind


def _op_unstack(given, shape):
    return kinds.without(given["x"], [given.get("axis") or 0])


def _op_take(given, shape):
    kind = _along(given)
    if kind is None or kind.axis is None:
        return kind
    axis = _axes(given["axis"], given["x"].rank)[0]
    return kinds.moved(kind, kind.axis + (len(shape) - given["x"].rank) * (axis < kind.axis))


def _op_concatenate(given, shape):
    return kinds.joined(list(given["xs"]), given["axis"] % len(shape))


def _op_stack(given, shape):
    stacked = _stacked(given.get("x", given.get("xs")), given.get("axis") or 0)
    return stacked and stacked.kind


def _op_pad(given, shape):
    return kinds.free([given["x"]]) and given["x"].kind


def _op_get_item(given, shape):
    x, key = given["x"], given["key"]
    kind = x.kind
    if kind is None or kind.axis is None:
        return kind
    key = list(key) if isinstance(key, tuple) else [key]
    if not all(k is None or k is Ellipsis or isinstance(k, (int, slice, np.integer)) for k in key):
        return None
    used = sum(k is not None and k is not Ellipsis for k in key)
    places = [place for place, k in enumerate(key) if k is Ellipsis] or [len(key)]
    key[places[0] : places[0] + 1] = [slice(None)] * (x.rank - used)
    axis, place = 0, 0  # of the operand, of the result
    for k in key:
        if k is None:
            place += 1
            continue
        if axis == kind.axis:
            return kinds.moved(kind, place) if _is_whole(k, x.shape[axis]) else None
        axis, place = axis + 1, place + isinstance(k, slice)
    return None


def _is_whole(key, size) -> bool:
    """Tell whether a slice takes every class, in either direction."""
    if not isinstance(key, slice):
        return False
    bounds = (key.start, key.stop, key.step)
    if any(isinstance(bound, Value) for bound in bounds):
        return False
    if size is None:
        return key.start in (None, 0) and key.stop is None and key.step in (None, 1)
    return len(range(*key.indices(size))) == size


_OPERATIONS: dict[str, Callable] = {
    "softmax": _op_softmax,
    "sigmoid": _op_sigmoid,
    **dict.fromkeys(_BENDING, _op_bend),
    "add": _op_add,
    "add_n": _op_add_n,
    "subtract": _op_subtract,
    "multiply": _op_multiply,
    "divide": _op_divide,
    "negative": _op_negative,
    "copy": _op_keep("x"),
    "stop_gradient": _op_keep("variable"),
    "flip": _op_flip,
    "cast": _op_cast,
    "clip": _op_clip,
    "mean": _op_mean,
    "sum": _op_sum,
    "average": _op_average,
    **dict.fromkeys(["max", "min"], _op_largest),
    **dict.fromkeys(["maximum", "minimum"], _op_extreme),
    "where": _op_where,
    **dict.fromkeys(["reshape", "ravel"], _op_reshape),
    "transpose": _op_transpose,
    "swapaxes": _op_swapaxes,
    "moveaxis": _op_moveaxis,
    "expand_dims": _op_expand_dims,
    "squeeze": _op_squeeze,
    "broadcast_to": _op_broadcast_to,
    "tile": _op_tile,
    "repeat": _op_along,
    "split": _op_split,
    "unstack": _op_unstack,
    "take": _op_take,
    "concatenate": _op_concatenate,
    "stack": _op_stack,
    "pad": _op_pad,
    "get_item": _op_get_item,
}
