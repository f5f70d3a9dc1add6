"""Operations that are not layers, in the one vocabulary of `keras.ops`.

A Keras 3 graph holds `keras.ops` operations (`x * 2`), a tf_keras graph TensorFlow
functions (`TFOpLambda`). `read` returns either as the name of a function in `keras.ops` with its
arguments; `call` creates it in either package.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
import re
from typing import Any

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model import backends
from tfkd.model.graph import Tensor, leaves, map_structure
from tfkd.model.layer_kinds import kind_of


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation with all its arguments.

    Attributes:
        name: The function of `keras.ops`, for example `"mean"`.
        arguments: Its arguments, by the names of that function's parameters.
    """

    name: str
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A line of the table.

    Attributes:
        symbols: TensorFlow's names for it; calls use the first.
        arguments: `keras.ops` parameter → TensorFlow's parameter. An unlisted parameter
            must have its default value.
        promotes: Whether `keras.ops` first casts all operands to the result's dtype.
        required: Parameters whose `None` means something else in TensorFlow.
        fixed: TensorFlow's arguments for the same result as `keras.ops`.
    """

    symbols: tuple[str, ...]
    arguments: dict[str, str]
    promotes: bool = False
    required: tuple[str, ...] = ()
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)


def _unary(*symbols, x="x", **arguments):
    return _Entry(symbols, {"x": x, **arguments})


def _binary(*symbols):
    return _Entry(symbols, {"x1": "x", "x2": "y"}, promotes=True)


def _reduction(*symbols):
    arguments = {"x": "input_tensor", "axis": "axis", "keepdims": "keepdims"}
    return _Entry(symbols, arguments, promotes=True)


def _position(symbol):
    arguments = {"x": "input", "axis": "axis"}
    return _Entry((symbol,), arguments, required=("axis",), fixed={"output_type": "int32"})


_TABLE = {
    # Elementwise
    "absolute": _unary("math.abs"),
    "ceil": _unary("math.ceil"),
    "copy": _unary("identity", x="input"),
    "cos": _unary("math.cos"),
    "erf": _unary("math.erf"),
    "exp": _unary("math.exp"),
    "floor": _unary("math.floor"),
    "log": _unary("math.log"),
    "log1p": _unary("math.log1p"),
    "logical_not": _unary("math.logical_not"),
    "negative": _unary("math.negative"),
    "reciprocal": _unary("math.reciprocal"),
    "round": _unary("math.round"),
    "rsqrt": _unary("math.rsqrt"),
    "sign": _unary("math.sign"),
    "sin": _unary("math.sin"),
    "sqrt": _unary("math.sqrt"),
    "square": _unary("math.square"),
    "stop_gradient": _Entry(("stop_gradient",), {"variable": "input"}),
    "clip": _unary("clip_by_value", x="t", x_min="clip_value_min", x_max="clip_value_max"),
    "cast": _unary("cast", dtype="dtype"),
    "add": _binary("math.add", "__operators__.add"),
    "subtract": _binary("math.subtract"),
    "multiply": _binary("math.multiply"),
    "divide": _binary("math.truediv", "math.divide", "divide"),
    "floor_divide": _binary("math.floordiv", "compat.v1.floor_div"),
    "mod": _binary("math.floormod", "math.mod"),
    "power": _binary("math.pow", "pow"),
    "maximum": _binary("math.maximum"),
    "minimum": _binary("math.minimum"),
    "equal": _Entry(("math.equal", "__operators__.eq"), {"x1": "x", "x2": "y"}),
    "not_equal": _Entry(("math.not_equal", "__operators__.ne"), {"x1": "x", "x2": "y"}),
    "greater": _Entry(("math.greater",), {"x1": "x", "x2": "y"}),
    "greater_equal": _Entry(("math.greater_equal",), {"x1": "x", "x2": "y"}),
    "less": _Entry(("math.less",), {"x1": "x", "x2": "y"}),
    "less_equal": _Entry(("math.less_equal",), {"x1": "x", "x2": "y"}),
    "logical_and": _Entry(("math.logical_and",), {"x1": "x", "x2": "y"}),
    "logical_or": _Entry(("math.logical_or",), {"x1": "x", "x2": "y"}),
    "where": _Entry(("where",), {"condition": "condition", "x1": "x", "x2": "y"}),
    # Activations
    "relu": _unary("nn.relu", x="features"),
    "relu6": _unary("nn.relu6", x="features"),
    "leaky_relu": _unary("nn.leaky_relu", x="features", negative_slope="alpha"),
    "elu": _unary("nn.elu", x="features"),
    "selu": _unary("nn.selu", x="features"),
    "gelu": _unary("nn.gelu", x="features", approximate="approximate"),
    "silu": _unary("nn.silu", x="features"),
    "sigmoid": _unary("math.sigmoid"),
    "log_sigmoid": _unary("math.log_sigmoid"),
    "tanh": _unary("math.tanh"),
    "softplus": _unary("math.softplus", x="features"),
    "softsign": _unary("nn.softsign", x="features"),
    "softmax": _Entry(("nn.softmax",), {"x": "logits", "axis": "axis"}, required=("axis",)),
    "log_softmax": _Entry(("nn.log_softmax",), {"x": "logits", "axis": "axis"}, required=("axis",)),
    # No function of TensorFlow, only standard layers (see `standard`).
    "hard_sigmoid": _unary(),
    "hard_silu": _unary(),
    "hard_tanh": _unary(),
    "max_pool": _Entry((), {"inputs": ""}),
    "average_pool": _Entry((), {"inputs": ""}),
    # Reductions
    "mean": _reduction("math.reduce_mean"),
    "sum": _reduction("math.reduce_sum"),
    "max": _reduction("math.reduce_max"),
    "min": _reduction("math.reduce_min"),
    "prod": _reduction("math.reduce_prod"),
    "std": _reduction("math.reduce_std"),
    "var": _reduction("math.reduce_variance"),
    "logsumexp": _reduction("math.reduce_logsumexp"),
    "any": _Entry(
        ("math.reduce_any",), {"x": "input_tensor", "axis": "axis", "keepdims": "keepdims"}
    ),
    "all": _Entry(
        ("math.reduce_all",), {"x": "input_tensor", "axis": "axis", "keepdims": "keepdims"}
    ),
    "argmax": _position("math.argmax"),
    "argmin": _position("math.argmin"),
    "cumsum": _Entry(("math.cumsum",), {"x": "x", "axis": "axis"}, required=("axis",)),
    # Shapes
    "reshape": _unary("reshape", x="tensor", newshape="shape"),
    "transpose": _unary("transpose", "compat.v1.transpose", x="a", axes="perm"),
    "expand_dims": _unary("expand_dims", x="input", axis="axis"),
    "squeeze": _unary("squeeze", "compat.v1.squeeze", x="input", axis="axis"),
    "broadcast_to": _unary("broadcast_to", x="input", shape="shape"),
    "tile": _unary("tile", x="input", repeats="multiples"),
    "repeat": _Entry(
        ("repeat",), {"x": "input", "repeats": "repeats", "axis": "axis"}, required=("axis",)
    ),
    "concatenate": _Entry(("concat",), {"xs": "values", "axis": "axis"}, promotes=True),
    "stack": _Entry(("stack",), {"x": "values", "axis": "axis"}, promotes=True),
    "unstack": _unary("unstack", x="value", num="num", axis="axis"),
    "flip": _Entry(("reverse",), {"x": "tensor", "axis": "axis"}, required=("axis",)),
    "slice": _Entry(("slice",), {"inputs": "input_", "start_indices": "begin", "shape": "size"}),
    # Written as a transposition, by standard layers only.
    "swapaxes": _unary(),
    "moveaxis": _unary(),
    "split": _unary("split", x="value", indices_or_sections="num_or_size_splits", axis="axis"),
    "take": _Entry(
        ("gather", "compat.v1.gather"),
        {"x": "params", "indices": "indices", "axis": "axis"},
        required=("axis",),
    ),
    "get_item": _unary("__operators__.getitem", x="tensor", key="slice_spec"),
    "pad": _unary(
        "pad",
        "compat.v1.pad",
        x="tensor",
        pad_width="paddings",
        mode="mode",
        constant_values="constant_values",
    ),
    "image.resize": _Entry(
        ("image.resize",),
        {
            "images": "images",
            "size": "size",
            "interpolation": "method",
            "antialias": "antialias",
        },
    ),
    # Products
    "matmul": _Entry(("linalg.matmul",), {"x1": "a", "x2": "b"}, promotes=True),
    "einsum": _Entry(("einsum",), {"subscripts": "equation", "operands": "inputs"}),
}

_BY_SYMBOL = {symbol: name for name, entry in _TABLE.items() for symbol in entry.symbols}

# The parameters of `keras.ops` that are numbers rather than settings.
_OPERANDS = ("x", "x1", "x2", "xs", "operands")

# Keras 3's class of an operation → its function, if not the class's name in snake case.
_BY_CLASS = {"TrueDivide": "divide", "Resize": "image.resize", "Amax": "max", "Amin": "min"}


def is_operation(layer) -> bool:
    """Tell whether a call is of an operation and not of a layer."""
    return backends.flavour(layer) is None or kind_of(layer) in (
        "TFOpLambda",
        "SlicingOpLambda",
    )


def is_known(layer) -> bool:
    """Tell whether `read` knows an operation."""
    if backends.flavour(layer) is None:
        return _name_in_keras(layer) is not None
    return layer.symbol in _BY_SYMBOL


def name_of(layer) -> str | None:
    """Return the name of the `keras.ops` function that an operation in a graph is, if any."""
    if not is_operation(layer):
        return None
    if backends.flavour(layer) is None:
        return _name_in_keras(layer)
    return _BY_SYMBOL.get(layer.symbol)


def described(layer) -> str:
    """Return the name of a layer or an operation in messages."""
    symbol = getattr(layer, "symbol", None)
    return f"operation tf.{symbol}" if symbol and is_operation(layer) else type(layer).__name__


def twin(layer):
    """Return a copy of an operation for another model of the same Keras."""
    if backends.flavour(layer) is None:
        made = copy.copy(layer)
        made._inbound_nodes, made._outbound_nodes = [], []
        return made
    return type(layer)(layer.function)


def read(layer, args, kwargs) -> Operation:
    """Return a call of an operation in the vocabulary of `keras.ops`.

    Raises:
        UnsupportedError: if it is not in the table, or uses something that `keras.ops` lacks.
    """
    if backends.flavour(layer) is None:
        found = _read_keras(layer, args, kwargs)
    else:
        found = _read_tensorflow(layer, args, kwargs)
    for leaf in _constants(found):
        if hasattr(leaf, "assign"):
            raise UnsupportedError(
                f"the operation {found.name} uses a variable that no layer owns; make it a "
                "weight of a layer"
            )
    return found


def call(operation: Operation, to: str, out: Tensor):
    """Make an operation of the target package.

    Args:
        operation: The operation, with the target's symbolic tensors among its arguments.
        to: `"keras"` or `"tf_keras"`.
        out: What the first output must match; `keras.ops` and TensorFlow differ in dtypes.

    Returns:
        What the operation returns.

    Raises:
        UnsupportedError: if the target has no such function.
    """
    arguments = operation.arguments
    if _TABLE[operation.name].promotes:
        arguments = {
            key: map_structure(lambda leaf: _promoted(leaf, out.dtype, to), value)
            if key in _OPERANDS
            else value
            for key, value in arguments.items()
        }
    function, arguments = _function(operation.name, arguments, to)
    result = _invoke(function, arguments)
    first = next(leaves(result))
    if dtype(first) != out.dtype and len(list(leaves(result))) == 1:
        return call(Operation("cast", {"x": first, "dtype": out.dtype}), to, out)
    return result


def check(operation: Operation, to: str) -> None:
    """Raise `UnsupportedError` if `call` could not make the operation in the target."""
    _function(operation.name, operation.arguments, to)


def _get_item(x, key):
    return x[key]


def _promoted(leaf, wanted: str, to: str):
    """Cast an operand to the dtype in which `keras.ops` computes."""
    if isinstance(leaf, np.ndarray) or hasattr(leaf, "numpy"):
        return np.asarray(leaf).astype(wanted)
    if isinstance(leaf, int) and "float" in wanted:
        return float(leaf)
    if hasattr(leaf, "_keras_history") and dtype(leaf) != wanted:
        function, arguments = _function("cast", {"x": leaf, "dtype": wanted}, to)
        return _invoke(function, arguments)
    return leaf


def dtype(tensor) -> str:
    """Return the name of a symbolic tensor's dtype in either package."""
    return getattr(tensor.dtype, "name", None) or str(tensor.dtype)


def _function(name: str, arguments: dict, to: str):
    """Return the target's function, and the arguments under its parameters' names."""
    if name == "get_item":
        return _get_item, arguments
    entry = _TABLE[name]
    keras_function = operator.attrgetter(name)(backends.keras().ops)
    if to == "keras":
        known = inspect.signature(keras_function).parameters
        _check_rest(name, keras_function, {k: v for k, v in arguments.items() if k not in known})
        return keras_function, arguments
    if not entry.symbols:
        raise UnsupportedError(f"TensorFlow has no {name} with these arguments")
    for required in entry.required:
        if arguments.get(required) is None:
            raise UnsupportedError(f"the operation {name} without {required} has no counterpart")
    if name == "split":
        arguments = {**arguments, "indices_or_sections": _sizes(arguments)}
    if name == "take":
        arguments = {**arguments, "indices": _from_the_start(arguments)}
    if name == "flip":
        arguments = {**arguments, "axis": np.atleast_1d(arguments["axis"]).tolist()}
    _check_rest(
        name, keras_function, {k: v for k, v in arguments.items() if k not in entry.arguments}
    )
    import tensorflow as tf

    function = operator.attrgetter(entry.symbols[0])(tf)
    known = {entry.arguments[k]: v for k, v in arguments.items() if k in entry.arguments}
    return function, {**known, **entry.fixed}


def _sizes(arguments):
    """Return TensorFlow's argument for a split: the number of parts, or the size of each."""
    at = arguments["indices_or_sections"]
    if isinstance(at, int):
        return at
    size = arguments["x"].shape[arguments["axis"]]
    if size is None or any(hasattr(leaf, "_keras_history") for leaf in leaves(at)):
        raise UnsupportedError("split at indices needs an axis of fixed size and fixed indices")
    return np.diff([0, *np.asarray(at).tolist(), size]).tolist()


def _from_the_start(arguments):
    """Return the places that `take` reads, counted from the start: TensorFlow knows no others."""
    places = arguments["indices"]
    if any(isinstance(one, Tensor) or hasattr(one, "_keras_history") for one in leaves(places)):
        return places
    counted = np.asarray(places)
    if (counted >= 0).all():
        return places
    size = arguments["x"].shape[arguments["axis"]]
    if size is None:
        raise UnsupportedError("take at a place counted from the end needs an axis of fixed size")
    return np.where(counted < 0, counted + size, counted).tolist()


def _check_rest(name: str, function, rest: dict):
    """Raise if an argument that the target lacks does not have its default."""
    parameters = inspect.signature(function).parameters
    for key, value in rest.items():
        default = parameters[key].default if key in parameters else None
        if value not in (None, False, {}) and value != default:
            raise UnsupportedError(f"the operation {name} with {key}={value!r} has no counterpart")


def _invoke(function, arguments: dict):
    signature = inspect.signature(function)
    # `None` leaves an argument at the function's own default.
    ordered = {k: arguments[k] for k in signature.parameters if arguments.get(k) is not None}
    bound = inspect.BoundArguments(signature, ordered)
    return function(*bound.args, **bound.kwargs)


def _read_keras(operation, args, kwargs) -> Operation:
    name = _name_in_keras(operation)
    if name is None:
        raise UnsupportedError(f"the operation {type(operation).__name__} has no counterpart")
    bound = inspect.signature(operation.call).bind(*args, **kwargs)
    bound.apply_defaults()
    settings = {
        key: getattr(operation, key)
        for key in inspect.signature(type(operation).__init__).parameters
        if key not in ("self", "name") and hasattr(operation, key)
    }
    return Operation(name, {**settings, **bound.arguments})


def _name_in_keras(operation) -> str | None:
    kind = type(operation).__name__
    name = _BY_CLASS.get(kind) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
    own = type(operation).__module__.startswith("keras.")
    return name if own and name in _TABLE else None


def _read_tensorflow(layer, args, kwargs) -> Operation:
    name = _BY_SYMBOL.get(layer.symbol)
    if name is None:
        raise UnsupportedError(f"the operation tf.{layer.symbol} has no counterpart")
    bound = inspect.signature(layer.function).bind(*args, **kwargs)
    bound.apply_defaults()
    parameters = {theirs: ours for ours, theirs in _TABLE[name].arguments.items()}
    rest = {
        key: value
        for key, value in bound.arguments.items()
        if key not in parameters and key != "name" and key not in _TABLE[name].fixed
    }
    for key, value in rest.items():
        default = inspect.signature(layer.function).parameters[key].default
        if value is not None and value != {} and value != default:
            raise UnsupportedError(
                f"the operation tf.{layer.symbol} with {key}={value!r} has no counterpart"
            )
    arguments = {
        parameters[key]: _from_tensorflow(value)
        for key, value in bound.arguments.items()
        if key in parameters
    }
    if name == "pad":
        arguments["mode"] = arguments["mode"].lower()
        if arguments["mode"] != "constant":
            del arguments["constant_values"]
    if name == "split" and not isinstance(arguments["indices_or_sections"], int):
        sizes = list(leaves([arguments["indices_or_sections"]]))
        if not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise UnsupportedError("split needs parts of fixed sizes")
        arguments["indices_or_sections"] = np.cumsum(sizes[:-1]).tolist()
    if name in ("softmax", "log_softmax") and arguments["axis"] is None:
        arguments["axis"] = -1
    return Operation(name, arguments)


def _from_tensorflow(value):
    """Convert a TensorFlow argument to the form of `keras.ops`."""
    if isinstance(value, dict):  # tf_keras keeps slices as dicts
        return slice(value["start"], value["stop"], value["step"])
    if isinstance(value, tuple) or type(value).__name__ == "ListWrapper":
        return tuple(_from_tensorflow(item) for item in value)
    if isinstance(value, list):
        return [_from_tensorflow(item) for item in value]
    if hasattr(value, "as_numpy_dtype"):
        return value.name
    return value


def _constants(operation: Operation):
    for leaf in leaves(operation.arguments):
        if not isinstance(leaf, Tensor) and not hasattr(leaf, "_keras_history"):
            yield leaf
