"""The treatment of each layer of a model in quantization-aware training."""

from __future__ import annotations

import dataclasses

from tfkd.tables import Printed, aligned


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """The treatment of one layer.

    Attributes:
        name: The layer's name.
        kind: Its class.
        how: `"int8"`, `"rewritten"` (computes the same in other layers, int8) or
            `"float"`.
        detail: How it is rounded, into what it was rewritten, or why it is float.
    """

    name: str
    kind: str
    how: str
    detail: str


@dataclasses.dataclass(frozen=True)
class QuantizationReport(Printed):
    """The treatment of a model by `quantize_aware`, layer by layer; it prints as a table.

    Attributes:
        layers: One `LayerReport` per layer of the given model.
    """

    layers: tuple[LayerReport, ...]

    @property
    def float_layers(self) -> list[str]:
        """Names of the layers that stay in floating point."""
        return [layer.name for layer in self.layers if layer.how == "float"]

    def describe(self) -> str:
        """Return a table as text, a line per layer."""
        rows = [("layer", "class", "how", "")]
        rows += [dataclasses.astuple(layer) for layer in self.layers]
        return "\n".join(aligned(rows, left=4))
