"""What a model costs: parameters, multiply-accumulates and bytes, per layer."""

from __future__ import annotations

import dataclasses
import math

from tfkd import graph


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one example.

    Attributes:
        name: Path of the layer in the model.
        kind: Its class name.
        parameters: Number of weights, trained or not. Zero at a shared layer's later calls.
        macs: Multiply-accumulate operations for one example, or `None` where the size of
            the work is not known (a free spatial size, a layer without a rule).
    """

    name: str
    kind: str
    parameters: int
    macs: int | None


@dataclasses.dataclass(frozen=True)
class ModelCost:
    """What a model costs, layer by layer.

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
        a, b, c, d = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(f"{w:{a}}  {x:{b}}  {y:>{c}}  {z:>{d}}" for w, x, y, z in rows)


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
        >>> from tfkd import cost
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> cost.measure(model).parameters, cost.measure(model).macs
        (36, 32)
    """
    layers, seen = [], set()
    for call in graph.walk(model).calls:
        layer = call.layer
        parameters = 0
        if id(layer) not in seen and hasattr(layer, "count_params"):
            parameters = layer.count_params()
        seen.add(id(layer))
        inner = getattr(layer, "layer", layer) if "Quantize" in type(layer).__name__ else layer
        if inner is not layer:
            # A tfmot wrapper adds ranges and step counters of its own, and takes the kernels
            # it quantizes away from the layer inside.
            taken = [weight for weight, *_ in getattr(layer, "_weight_vars", [])]
            parameters = sum(math.prod(weight.shape) for weight in [*inner.weights, *taken])
        elif type(layer).__name__ == "QuantizeLayer":
            parameters = 0
        layers.append(LayerCost(call.name, type(inner).__name__, parameters, _macs(inner, call)))
    return ModelCost(tuple(layers))


def _macs(layer, call: graph.Call) -> int | None:
    kind = type(layer).__name__
    if kind in _KERNEL_ONCE_PER_OUTPUT:
        kernels = [_size(layer, name) for name in _KERNEL_ONCE_PER_OUTPUT[kind]]
        positions = _positions(call.outputs[0].shape, layer)
    elif kind in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"):
        kernels = [_size(layer, "kernel")]
        positions = _positions(call.inputs[0].shape, layer)
    elif kind == "Dense":
        kernels = [_size(layer, "kernel")]
        positions = _product(call.outputs[0].shape[1:-1])
    elif kind in ("LSTM", "GRU", "SimpleRNN"):
        kernels = [_size(layer.cell, "kernel"), _size(layer.cell, "recurrent_kernel")]
        positions = call.inputs[0].shape[1]
    elif kind in ("Bidirectional", "TimeDistributed", "MultiHeadAttention", "EinsumDense"):
        return None
    else:
        return 0
    return None if positions is None else positions * sum(kernels)


# Layers that apply each weight of these kernels once per output position.
_KERNEL_ONCE_PER_OUTPUT = {
    **{f"Conv{n}D": ("kernel",) for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": ("depthwise_kernel",) for n in (1, 2)},
    **{f"SeparableConv{n}D": ("depthwise_kernel", "pointwise_kernel") for n in (1, 2)},
}


def _size(owner, name: str) -> int:
    # Keras 3 keeps a depthwise kernel as `kernel`; tf_keras names it in full.
    weight = getattr(owner, name, None)
    if weight is None:
        weight = owner.kernel
    return math.prod(weight.shape)


def _positions(shape, layer) -> int | None:
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return _product(shape[1:-1] if last else shape[2:])


def _product(sizes) -> int | None:
    return None if None in sizes else math.prod(sizes)
