"""Which channels of a model must go together.

A channel that is taken out of a layer is missing in every layer that reads it, and where two
branches are added the channels of both must go. This module finds those groups (Fang et al. 2023,
"DepGraph: Towards Any Structural Pruning"), with one idea for all layers: each number in a tensor
carries the label of the channel it belongs to, and the labels are moved as the layer moves the
numbers.

    Conv(4)  a b c d ──BN── a b c d ──┐
                                      Add: a=e b=f c=g d=h ── Flatten: a b c d a b c d ... ── Dense
    Conv(4)  e f g h ─────────────────┘                       its kernel's rows have these labels

Each weight axis that has channels carries a label per slice; pruning removes the slices of a group.
A layer that is not understood is left whole: its inputs and outputs are bound to the group that
stays, and `not_pruned` names it. `rules` defines what each layer does to labels.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.model import backends, graph
from tfkd.pruning.structured import registry, rules
from tfkd.pruning.structured.labels import KEPT, Channels, NotPrunable, kept


@dataclasses.dataclass(frozen=True)
class Dependencies:
    """The channels of a model and which of them belong together.

    Attributes:
        graph: The walk of the model.
        axes: Id of a variable → {axis: label of each slice}.
        counts: Id of a layer → {name in its configuration, such as `filters`: labels of what
            that number counts}.
        shapes: Id of a Reshape → labels of its result, flat and without the batch.
        roots: Label → group. Labels of one group go together; group 0 stays.
        tensors: Index of a tensor → its labels.
        not_pruned: Names of the layers that keep all their channels, and why.
    """

    graph: graph.Graph
    axes: dict[int, dict[int, np.ndarray]]
    counts: dict[int, dict[str, np.ndarray]]
    shapes: dict[int, np.ndarray]
    roots: np.ndarray
    tensors: dict[int, np.ndarray]
    not_pruned: dict[str, str]

    @property
    def reasons(self) -> str:
        """The layers that keep all their channels and why, in words."""
        return "; ".join(f"{name}: {why}" for name, why in self.not_pruned.items())

    @property
    def groups(self) -> np.ndarray:
        """Numbers of the groups that may go."""
        used = [labels for axes in self.axes.values() for labels in axes.values()]
        if not used:
            return np.array([], int)
        found = np.unique(self.roots[np.concatenate(used)])
        return found[found != self.roots[KEPT]]


def find(model) -> Dependencies:
    """Find the channels of a model that can be pruned, and their groups.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not changed.

    Returns:
        Its `Dependencies`.

    Raises:
        InputError: if it is no model, or not built.
        UnsupportedError: if it is subclassed.
    """
    return of_graph(graph.walk(model))


def of_graph(walked: graph.Graph) -> Dependencies:
    """Find the groups of a walk, as `find` does of a model."""
    channels, not_pruned = Channels(), {}
    tensors = channels.tensors
    for tensor in walked.input_list:
        tensors[tensor.index] = kept(tensor.shape)
    for call in walked.calls:
        inputs = [tensors[tensor.index] for tensor in call.inputs]
        try:
            mixing = rules.mixing_activation(call.layer)
            made = _follow(channels, call, inputs)
            if mixing:
                for labels in made:
                    channels.keep(labels)
                if not set(call.outputs) & set(walked.output_list):
                    not_pruned.setdefault(call.name, f"its {mixing} sees all channels at once")
        except NotPrunable as reason:
            not_pruned.setdefault(call.name, str(reason))
            for labels in (*inputs, *channels.of_layer(call.layer)):
                channels.keep(labels)
            made = [kept(tensor.shape) for tensor in call.outputs]
        for tensor, labels in zip(call.outputs, made, strict=True):
            tensors[tensor.index] = labels
    for tensor in walked.output_list:
        channels.keep(tensors[tensor.index])
    return Dependencies(
        walked,
        channels.axes,
        channels.counts,
        channels.shapes,
        channels.groups(),
        tensors,
        not_pruned,
    )


def _follow(channels: Channels, call: graph.Call, inputs) -> list[np.ndarray]:
    """Return the labels of a call's outputs, by the user's rule or that of the table."""
    leaves = graph.leaves((call.args, call.kwargs))
    if any(np.ndim(leaf) for leaf in leaves if not isinstance(leaf, graph.Tensor)):
        raise NotPrunable("it takes an array, whose channels would have to go, too")
    own = registry.rule_of(call.layer)
    if own is not None:
        return registry.follow(own, channels, call, inputs)
    labels = rules.of_call(call)(channels, call, inputs)
    _check_weights(call.layer, channels)
    made = []
    for tensor in call.outputs:
        same = len(tensor.shape) == len(call.outputs[0].shape)
        made.append(labels if same else kept(tensor.shape))
        if not same:
            channels.keep(labels)
    return made


def _check_weights(layer, channels: Channels) -> None:
    """Raise, to leave a layer whole, if its rule lacks a weight (of adapters, statistics)."""
    for weight in backends.variables_of(layer):
        if id(weight) not in channels.axes and max(weight.shape, default=1) > 1:
            raise NotPrunable(f"its weight {weight.name!r} has no rule")
