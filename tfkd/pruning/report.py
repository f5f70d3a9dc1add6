"""The layers that pruning left as they were, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfkd._renamed import OldDict
from tfkd.errors import InputError
from tfkd.model import reports
from tfkd.tables import Printed, aligned

if TYPE_CHECKING:
    from tfkd._typing import AnyModel


@dataclasses.dataclass(frozen=True)
class PruningReport(Printed):
    """The layers that `prune_channels`, `prune_weights` or `cluster_weights` left, and why.

    Attributes:
        not_pruned: Name of each layer that was left as it was → why.
        blocks: The residual blocks that `prune_channels` removed whole, each as the names of its
            layers with weights.
    """

    not_pruned: Mapping[str, str]
    blocks: tuple[tuple[str, ...], ...] = ()

    def describe(self) -> str:
        """Return a table as text, a line per layer."""
        rows = [(name, f"not pruned: {why}") for name, why in self.not_pruned.items()]
        rows += [(", ".join(block), "gone: a block that added nothing") for block in self.blocks]
        if not rows:
            return "Every layer that can be pruned was."
        return "\n".join(aligned([("layer", ""), *rows], left=2))


def describe(model: AnyModel) -> PruningReport:
    """Report which layers of a model pruning or clustering left as they were, and why.

    Args:
        model: A model that `prune_channels`, `prune_weights` or `cluster_weights` returned in this
            process: the report is not saved.

    Returns:
        A `PruningReport`; print it for a table.

    Raises:
        InputError: if the model does not come from one of these.

    Example:
        >>> import keras, tfkd
        >>> layers = [keras.layers.Dense(16), keras.layers.Softmax(), keras.layers.Dense(16)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(2)])
        >>> list(tfkd.pruning.describe(tfkd.prune_channels(model, 0.5)).not_pruned.values())
        ['softmax sees all channels at once']
    """
    found = reports.find(model, PruningReport)
    if found is None:
        raise InputError(
            "The model does not come from prune_channels, prune_weights or cluster_weights in this "
            "process."
        )
    return found


def keep(model: AnyModel, report: PruningReport) -> None:
    """Keep a report of a model for `describe`."""
    reports.keep(model, report)
    # Bypasses `__setattr__`, which both Kerases track.
    vars(model)["tfkd_whole"] = OldDict(
        report.not_pruned, "tfkd_whole is tfkd.pruning.describe(model).not_pruned now"
    )
