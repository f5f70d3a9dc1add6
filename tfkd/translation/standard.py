"""Operations as standard layers, for tools that know only layers.

`chain` is a pure function of an operation and the shapes around it. If no standard layer computes
the same, it returns `None`, and the operation stays an operation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tfkd.model.graph import Tensor, leaves
from tfkd.translation.operations import Operation


class Chain(NamedTuple):
    """Layers that, one after the other, compute an operation.

    Attributes:
        inputs: The operation's arguments that go into the first layer.
        layers: Class and settings of each layer, as Keras 3 names them.
    """

    inputs: tuple[str, ...]
    layers: tuple[tuple[str, dict[str, Any]], ...]


def chain(operation: Operation, out: Tensor) -> Chain | None:
    """Return the standard layers that compute an operation, or `None`.

    Args:
        operation: The operation, with `Tensor`s among its arguments.
        out: Its output. Only floating results become layers: a layer computes in its dtype policy,
            and integers have none.
    """
    rule = _RULES.get(operation.name)
    if rule is None or not _floating(out):
        return None
    return rule(operation.arguments, out)


def _one(kind: str, **settings) -> Chain:
    return Chain(("x",), ((kind, settings),))


def _floating(*tensors) -> bool:
    return all("float" in tensor.dtype for tensor in tensors)


def _mergeable(*tensors) -> bool:
    """Tell whether merging layers broadcast these shapes as the operation does."""
    ranks = {len(tensor.shape) for tensor in tensors}
    batches = {tensor.shape[:1] for tensor in tensors}
    return _floating(*tensors) and len(ranks) == 1 and min(ranks) > 1 and len(batches) == 1


def _constant(value, tensor: Tensor, out: Tensor):
    """Return a constant operand as a float or nested list of floats; `None` if it can't be."""
    array = np.asarray(value, dtype="float64")
    if array.size == 1:
        return array.item() if tensor.shape == out.shape else None
    fits = array.ndim < len(out.shape) or (array.ndim == len(out.shape) and array.shape[0] == 1)
    return array.tolist() if fits and tensor.shape == out.shape else None


def _arithmetic(merge: str | None, second, first):
    """Make the rule of a binary operation.

    Args:
        merge: The layer for two tensors.
        second: Function from a constant on the right to scale and offset; `None` if none exist.
        first: The same for a constant on the left.
    """

    def rule(arguments, out):
        x1, x2 = arguments["x1"], arguments["x2"]
        if isinstance(x1, Tensor) and isinstance(x2, Tensor):
            fits = merge and _mergeable(x1, x2)
            return Chain(("x1", "x2"), ((merge, {}),)) if fits else None
        name, value = ("x1", x2) if isinstance(x1, Tensor) else ("x2", x1)
        constant = _constant(value, arguments[name], out)
        affine = second if name == "x1" else first
        found = None if constant is None else affine(constant)
        if found is None:
            return None
        scale, offset = found
        return Chain((name,), (("Rescaling", {"scale": scale, "offset": offset}),))

    return rule


def _negated(constant):
    return (-np.asarray(constant)).tolist()


def _inverse(constant):
    array = np.asarray(constant)
    return None if (array == 0).any() else ((1.0 / array).tolist(), 0.0)


def _extreme(merge: str, is_relu: bool):
    def rule(arguments, out):
        x1, x2 = arguments["x1"], arguments["x2"]
        if isinstance(x1, Tensor) and isinstance(x2, Tensor):
            return Chain(("x1", "x2"), ((merge, {}),)) if _mergeable(x1, x2) else None
        name, value = ("x1", x2) if isinstance(x1, Tensor) else ("x2", x1)
        if is_relu and np.size(value) == 1 and _constant(value, arguments[name], out) == 0.0:
            return Chain((name,), (("ReLU", {}),))
        return None

    return rule


def _square(arguments, out):
    x = arguments["x"]
    return Chain(("x", "x"), (("Multiply", {}),)) if _mergeable(x) else None


def _power(arguments, out):
    x, exponent = arguments["x1"], arguments["x2"]
    fits = isinstance(x, Tensor) and not isinstance(exponent, Tensor) and np.size(exponent) == 1
    if not fits or float(np.asarray(exponent)) != 2.0 or not _mergeable(x):
        return None
    return Chain(("x1", "x1"), (("Multiply", {}),))


def _clip(arguments, out):
    low, high = arguments["x_min"], arguments["x_max"]
    plain = not any(isinstance(v, Tensor) for v in (low, high)) and np.size([low, high]) == 2
    if not plain or not _floating(arguments["x"]) or float(low) != 0.0 or float(high) < 0.0:
        return None
    return _one("ReLU", max_value=float(high))


def _activation(name: str, **required):
    """Make the rule of an activation function with these arguments."""

    def rule(arguments, out):
        given = {key: arguments.get(key, value) for key, value in required.items()}
        fits = given == required and _floating(arguments["x"]) and len(out.shape) > 1
        return _one("Activation", activation=name) if fits else None

    return rule


def _softmax(arguments, out):
    axis, rank = arguments["axis"], len(out.shape)
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    if axis % rank == rank - 1:
        return _one("Activation", activation="softmax")
    return _one("Softmax", axis=axis)


def _reduction(pool: str):
    """Make the rule of a reduction that pooling computes if it covers all positions."""

    def rule(arguments, out):
        x, axis = arguments["x"], arguments["axis"]
        rank = len(x.shape)
        if axis is None or not _floating(x) or arguments.get("initial") is not None:
            return None
        axes = sorted(a % rank for a in np.atleast_1d(axis).tolist())
        if rank not in (3, 4, 5) or axes != list(range(1, rank - 1)):
            return None
        kind = f"Global{pool}Pooling{rank - 2}D"
        keepdims = bool(arguments["keepdims"])
        return _one(kind, keepdims=keepdims, data_format="channels_last")

    return rule


def _pooling(pool: str):
    def rule(arguments, out):
        rank = len(arguments["inputs"].shape)
        if rank not in (3, 4, 5):
            return None
        settings = {
            key: arguments[key] for key in ("pool_size", "strides", "padding", "data_format")
        }
        return Chain(("inputs",), ((f"{pool}Pooling{rank - 2}D", settings),))

    return rule


def _reshaped(x: Tensor, out: Tensor) -> tuple | None:
    """Return the target shape of a Reshape layer; `None` if the batch would change."""
    sizes, wanted = x.shape[1:], out.shape[1:]
    if None in sizes or None in wanted or not out.shape or math.prod(sizes) != math.prod(wanted):
        return None
    return wanted


def _reshape(arguments, out):
    target = _reshaped(arguments["x"], out)
    return None if target is None else _one("Reshape", target_shape=target)


def _transpose(arguments, out):
    axes = arguments["axes"]
    if axes is None or isinstance(axes, Tensor):
        return None
    axes = tuple(int(a) % len(out.shape) for a in axes)
    return _one("Permute", dims=axes[1:]) if axes[0] == 0 and len(axes) > 1 else None


def _swapped(arguments, out):
    axes = list(range(len(out.shape)))
    a, b = arguments["axis1"], arguments["axis2"]
    axes[a], axes[b] = axes[b], axes[a]
    return _transpose({"axes": axes}, out)


def _axes_moved(arguments, out):
    rank = len(out.shape)
    source, target = (
        [int(a) % rank for a in np.atleast_1d(arguments[key])] for key in ("source", "destination")
    )
    axes = [axis for axis in range(rank) if axis not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        axes.insert(place, axis)
    return _transpose({"axes": axes}, out)


def _concatenate(arguments, out):
    tensors, rank = arguments["xs"], len(out.shape)
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        return None
    axis = int(arguments["axis"])
    if axis % rank == 0 or not _mergeable(*tensors) or len(tensors) < 2:
        return None
    return Chain(("xs",), (("Concatenate", {"axis": axis}),))


def _pad(arguments, out):
    x, value = arguments["x"], arguments.get("constant_values")
    widths = arguments["pad_width"]
    if arguments["mode"] != "constant" or value not in (None, 0) or isinstance(widths, Tensor):
        return None
    rank = len(x.shape)
    widths = np.broadcast_to(np.asarray(widths), (rank, 2)).tolist()
    if rank not in (3, 4, 5) or widths[0] != [0, 0] or widths[-1] != [0, 0]:
        return None
    return _spatial("ZeroPadding", "padding", widths[1:-1])


def _spatial(kind: str, setting: str, widths) -> Chain:
    pairs = tuple(map(tuple, widths))
    return _one(f"{kind}{len(pairs)}D", **{setting: pairs[0] if len(pairs) == 1 else pairs})


def _get_item(arguments, out):
    """Return cropping for slices of positions, with a reshape for removed or new axes."""
    x, key = arguments["x"], arguments["key"]
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(isinstance(leaf, Tensor) for leaf in leaves([key])):
        return None
    taken = sum(item is not None and item is not Ellipsis for item in key)
    whole = [slice(None)] * (len(x.shape) - taken)
    at = next((i for i, item in enumerate(key) if item is Ellipsis), len(key))
    key = key[:at] + whole + key[at + 1 :]
    crops, cropped, drops = [], [], len(key) != len(x.shape)
    for item, size in zip((item for item in key if item is not None), x.shape, strict=True):
        crop, drop = _crop(item, size)
        if crop is None:
            return None
        drops = drops or drop
        crops.append(crop)
        cropped.append(size if size is None else size - sum(crop))
    layers = ()
    if any(crop != (0, 0) for crop in crops):
        if len(crops) not in (3, 4, 5) or crops[0] != (0, 0) or crops[-1] != (0, 0):
            return None
        layers = _spatial("Cropping", "cropping", crops[1:-1]).layers
    if drops:
        target = _reshaped(Tensor(-1, "", tuple(cropped), x.dtype), out)
        if target is None:
            return None
        layers = (*layers, ("Reshape", {"target_shape": target}))
    return Chain(("x",), layers) if layers else None


def _crop(item, size: int | None) -> tuple[tuple[int, int] | None, bool]:
    """Return how much one axis loses at its ends (`None` if more), and whether it is removed."""
    if item == slice(None):
        return (0, 0), False
    if size is None or not isinstance(item, (int, slice)):
        return None, False
    if isinstance(item, int):
        return (item % size, size - 1 - item % size), True
    start, stop, step = item.indices(size)
    return ((start, size - stop), False) if step == 1 and start < stop else (None, False)


def _resize(arguments, out):
    channels_last = arguments.get("data_format") in (None, "channels_last")
    special = [
        arguments.get(key) for key in ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
    ]
    if len(out.shape) != 4 or any(special) or not channels_last:
        return None
    height, width = arguments["size"]
    settings = {"height": height, "width": width, "interpolation": arguments["interpolation"]}
    return Chain(("images",), (("Resizing", settings),))


_RULES = {
    "add": _arithmetic("Add", lambda c: (1.0, c), lambda c: (1.0, c)),
    "subtract": _arithmetic("Subtract", lambda c: (1.0, _negated(c)), lambda c: (-1.0, c)),
    "multiply": _arithmetic("Multiply", lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "divide": _arithmetic(None, _inverse, lambda c: None),
    "negative": lambda arguments, out: _one("Rescaling", scale=-1.0),
    "maximum": _extreme("Maximum", True),
    "minimum": _extreme("Minimum", False),
    "square": _square,
    "power": _power,
    "clip": _clip,
    "relu": lambda arguments, out: _one("ReLU"),
    "relu6": lambda arguments, out: _one("ReLU", max_value=6.0),
    "leaky_relu": lambda arguments, out: _one(
        "LeakyReLU", negative_slope=float(arguments["negative_slope"])
    ),
    "elu": lambda arguments, out: _one("ELU", alpha=float(arguments.get("alpha", 1.0))),
    "exp": _activation("exponential"),
    "gelu": _activation("gelu", approximate=False),
    "hard_sigmoid": _activation("hard_sigmoid"),
    "hard_silu": _activation("hard_silu"),
    "hard_tanh": _activation("hard_tanh"),
    "log_sigmoid": _activation("log_sigmoid"),
    "log_softmax": _activation("log_softmax", axis=-1),
    "selu": _activation("selu"),
    "sigmoid": _activation("sigmoid"),
    "silu": _activation("silu"),
    "softplus": _activation("softplus"),
    "softsign": _activation("softsign"),
    "tanh": _activation("tanh"),
    "softmax": _softmax,
    "mean": _reduction("Average"),
    "max": _reduction("Max"),
    "max_pool": _pooling("Max"),
    "average_pool": _pooling("Average"),
    "reshape": _reshape,
    "expand_dims": _reshape,
    "squeeze": _reshape,
    "transpose": _transpose,
    "swapaxes": _swapped,
    "moveaxis": _axes_moved,
    "concatenate": _concatenate,
    "pad": _pad,
    "get_item": _get_item,
    "image.resize": _resize,
}
