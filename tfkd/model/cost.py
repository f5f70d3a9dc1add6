"""The costs of a model: parameters, multiply-accumulates and bytes, per layer."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable

from tfkd.model import backends, graph
from tfkd.model.layer_kinds import CELLS_IN_TIME, QUANTIZING, SPARSIFYING, inner, kind_of
from tfkd.tables import Printed, aligned


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """The costs of one layer for one example.

    Attributes:
        name: Path of the layer in the model.
        kind: Its class name.
        parameters: Number of weights, trained or not. Zero at a shared layer's later calls.
        macs: Multiply-accumulate operations for one example, or `None` if they are not known (a
            free spatial size, a layer without a rule).
    """

    name: str
    kind: str
    parameters: int
    macs: int | None


@dataclasses.dataclass(frozen=True)
class ModelCost(Printed):
    """The costs of a model, layer by layer.

    Attributes:
        layers: One `LayerCost` per call of a layer.
    """

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one example; `None` if a layer's are not known."""
        macs = [layer.macs for layer in self.layers]
        return None if None in macs else sum(macs)

    @property
    def float32_bytes(self) -> int:
        """Bytes of the weights as float32."""
        return 4 * self.parameters

    def to_json(self) -> dict:
        """Return the figures as plain values."""
        layers = [dataclasses.asdict(layer) for layer in self.layers]
        return {
            "parameters": self.parameters,
            "macs": self.macs,
            "float32_bytes": self.float32_bytes,
            "layers": layers,
        }

    def describe(self) -> str:
        """Return a table as text: a line per layer, and the sums."""
        rows = [("layer", "class", "parameters", "MACs")]
        for one in (*self.layers, LayerCost("all", "", self.parameters, self.macs)):
            macs = "unknown" if one.macs is None else f"{one.macs:,}"
            rows.append((one.name, one.kind, f"{one.parameters:,}", macs))
        return "\n".join(aligned(rows, left=2))


def measure(model) -> ModelCost:
    """Count parameters and multiply-accumulates of a model.

    Only kernels count as MACs (convolutions, dense and recurrent layers), as is usual in
    the field (MLPerf Tiny, tf.profiler's FLOPs divided by two); element-wise work is zero.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras.

    Returns:
        A `ModelCost`.

    Example:
        >>> import keras
        >>> from tfkd.model import cost
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> cost.measure(model).parameters, cost.measure(model).macs
        (36, 32)
    """
    return count(graph.walk(model))


def count(walked: graph.Graph, shape_of: Callable | None = None) -> ModelCost:
    """Count the costs of a graph as if its weights had other shapes.

    Args:
        walked: The walk of a model.
        shape_of: Weight → its shape, as a tuple; defaults to the weight's own shape. It must not
            change the size of a spatial axis or a sequence.

    Returns:
        A `ModelCost`.
    """
    shape_of = shape_of or (lambda weight: tuple(weight.shape))
    layers, seen = [], set()
    for call in walked.calls:
        layer = call.layer
        held = inner(layer) if call.kind in _AROUND else layer
        weights = backends.variables_of(held)
        if held is not layer:
            # A tfmot wrapper adds ranges, masks and counters of its own, and takes the kernels
            # it rounds or clusters away from the layer inside.
            taken = getattr(layer, "original_clusterable_weights", {})
            weights += [weight for weight, *_ in getattr(layer, "_weight_vars", [])]
            weights += taken.values()
        if id(layer) in seen or call.kind == "QuantizeLayer":
            weights = []
        seen.add(id(layer))
        layers.append(
            LayerCost(
                call.name,
                type(held).__name__,
                sum(math.prod(shape_of(weight)) for weight in weights),
                _macs(held, call, shape_of),
            )
        )
    return ModelCost(tuple(layers))


def _macs(layer, call: graph.Call, shape_of: Callable) -> int | None:
    kind = kind_of(layer)
    inputs, outputs = [tensor.shape for tensor in call.inputs], call.outputs[0].shape
    if kind in _KERNEL_ONCE_PER_OUTPUT:
        kernels = [_kernel(layer, name) for name in _KERNEL_ONCE_PER_OUTPUT[kind]]
        positions = _positions(outputs, layer)
    elif kind in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"):
        kernels, positions = [layer.kernel], _positions(inputs[0], layer)
    elif kind == "Dense":
        kernels, positions = [layer.kernel], graph.entries_of(outputs[1:-1])
    elif kind == "TimeDistributed" and kind_of(layer.layer) == "Dense":
        kernels, positions = [layer.layer.kernel], graph.entries_of(outputs[1:-1])
    elif kind in (*CELLS_IN_TIME, "RNN") and all(map(_is_cell_in_time, _cells(layer))):
        kernels, positions = _recurrent_kernels(layer), inputs[0][1]
    elif kind == "Bidirectional" and kind_of(layer.forward_layer) in CELLS_IN_TIME:
        both = (layer.forward_layer, layer.backward_layer)
        kernels = [kernel for one in both for kernel in _recurrent_kernels(one)]
        positions = inputs[0][1]
    elif kind == "MultiHeadAttention":
        return _attention(layer, call, shape_of)
    elif kind == "SpectralNormalization":
        return _macs(layer.layer, call, shape_of)
    elif kind in _WITHOUT_KERNEL or not any(
        len(getattr(weight, "shape", ())) > 1 for weight in getattr(layer, "weights", ())
    ):
        return 0
    else:
        return None  # the use of its kernels is unknown
    once = sum(math.prod(shape_of(kernel)) for kernel in kernels)
    return None if positions is None else positions * once


def _attention(layer, call: graph.Call, shape_of) -> int | None:
    """Count four projections, the scores of each pair of positions, and their weighted sums."""
    names = inspect.signature(layer.call).parameters
    given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    asked, read = given["query"].shape, given["value"].shape
    if len(asked) != 3 or asked[1] is None or read[1] is None:
        return None
    query, key, value, output = (
        shape_of(getattr(layer, f"_{name}_dense").kernel)
        for name in ("query", "key", "value", "output")
    )
    queries, keys = asked[1], read[1]
    return (
        queries * (math.prod(query) + math.prod(output))
        + keys * (math.prod(key) + math.prod(value))
        + queries * keys * (math.prod(query[1:]) + math.prod(value[1:]))
    )


def _cells(layer) -> list:
    """Return the cells that a recurrent layer runs at each step."""
    return getattr(layer.cell, "cells", [layer.cell])


def _is_cell_in_time(cell) -> bool:
    return kind_of(cell) in {f"{kind}Cell" for kind in CELLS_IN_TIME}


def _recurrent_kernels(layer) -> list:
    cells = _cells(layer)
    return [kernel for cell in cells for kernel in (cell.kernel, cell.recurrent_kernel)]


# Wrappers that compute the same as the layer inside.
_AROUND = QUANTIZING | SPARSIFYING | {"LeftFloat"}

# Layers whose weights of several axes act element by element, or are looked up.
_WITHOUT_KERNEL = frozenset(
    {"BatchNormalization", "LayerNormalization", "RMSNormalization", "Normalization"}
    | {"Embedding", "PReLU"}
)

# Layers that apply each weight of these kernels once per output position.
_KERNEL_ONCE_PER_OUTPUT = {
    **{f"Conv{n}D": ("kernel",) for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": ("depthwise_kernel",) for n in (1, 2)},
    **{f"SeparableConv{n}D": ("depthwise_kernel", "pointwise_kernel") for n in (1, 2)},
}


def _kernel(owner, name: str):
    # Keras 3 keeps a depthwise kernel as `kernel`; tf_keras names it in full.
    weight = getattr(owner, name, None)
    return owner.kernel if weight is None else weight


def _positions(shape, layer) -> int | None:
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return graph.entries_of(shape[1:-1] if last else shape[2:])
