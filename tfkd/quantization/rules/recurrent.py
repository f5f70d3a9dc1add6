"""Rules of recurrent layers: kernels rounded, gates and state calibrated at export."""

from __future__ import annotations

from tfkd.errors import UnsupportedError
from tfkd.model.layer_kinds import CELLS_IN_TIME, kind_of
from tfkd.quantization.rewriting import Value


def recurrent(net, layer, x):
    """Rounds the kernels of the layer, or of both directions."""
    cells = _cells(layer)
    weights = []
    for path, cell in cells:
        for name in ("kernel", "recurrent_kernel"):
            weights.append((f"{path}.{name}", *_gate_scales(cell)))
    wrapped = net.weighted(net.copy, weights)
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


def _gate_scales(cell):
    """Return (channels, blocks): the file keeps an LSTM's gates as tensors of their own."""
    if kind_of(cell) == "LSTMCell":
        return (1,), (-1, 4, cell.units)
    return (1,), None
