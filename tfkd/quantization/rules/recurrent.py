"""Rules of recurrent layers: training rounds kernels, and the export calibrates gates and state."""

from __future__ import annotations

from tfkd.errors import UnsupportedError
from tfkd.model.layer_kinds import CELLS_IN_TIME, kind_of
from tfkd.quantization.rewriting import Value


def recurrent(net, layer, x):
    """Round the kernels of the layer, or of both directions."""
    bits, weights = net.bits_of_weights(), []
    for path, cell in _cells(layer):
        for name in ("kernel", "recurrent_kernel"):
            weights.append((f"{path}.{name}", *_scales(cell, bits)))
    wrapped = net.weighted(net.copy, weights, bits=bits)
    net.note("int8", "kernels rounded; gates and state by calibration at export")
    outputs = wrapped(net.rounded(x), **net.mode)
    return [Value(t, layer.name) for t in net.tensors(outputs)]


def _cells(layer):
    if kind_of(layer) != "Bidirectional":
        _check_recurrent(layer)
        return [("cell", layer.cell)]
    for inner in (layer.forward_layer, layer.backward_layer):
        if kind_of(inner) not in CELLS_IN_TIME:
            raise UnsupportedError(f"Bidirectional({type(inner).__name__}) has no rule")
        _check_recurrent(inner)
    return [
        ("forward_layer.cell", layer.forward_layer.cell),
        ("backward_layer.cell", layer.backward_layer.cell),
    ]


def _check_recurrent(layer):
    if layer.stateful:
        raise UnsupportedError("stateful=True can't be trained in 8 bits; use stateful=False")


def _scales(cell, bits):
    """Return (channels, columns): each separate tensor in the file has a scale.

    In 8 bits each gate has one, since the fused LSTM keeps gates apart. In 4 bits each group of
    gates that is multiplied at once has one.
    """
    kind, units = kind_of(cell), cell.units
    if bits == 8:
        return ((), (units,) * 4) if kind == "LSTMCell" else ((1,), None)
    return ((), (2 * units, units)) if kind == "GRUCell" else ((), None)
