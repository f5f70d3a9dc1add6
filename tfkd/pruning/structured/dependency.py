"""Which channels of a model must go together.

A channel that is taken out of a layer is missing in every layer that reads it, and where two
branches are added the channels of both must go. This finds those groups (Fang et al. 2023,
"DepGraph: Towards Any Structural Pruning"), with one idea for all layers: each number in a tensor
carries the label of the channel it belongs to, and the labels are moved as the layer moves the
numbers.

    Conv(4)  a b c d ──BN── a b c d ──┐
                                      Add: a=e b=f c=g d=h ── Flatten: a b c d a b c d ... ── Dense
    Conv(4)  e f g h ─────────────────┘                       its kernel's rows have these labels

Each axis of each weight that goes with channels has a label per slice; to prune is to take away
the slices of a group. What is not understood is left whole: its inputs and outputs are bound to
the group that stays, and it is named in `whole`. `rules` has what each layer does to labels.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.model import graph
from tfkd.pruning.structured import rules
from tfkd.pruning.structured.labels import KEPT, Register, Whole, kept


@dataclasses.dataclass(frozen=True)
class Dependencies:
    """The channels of a model and how they hang together.

    Attributes:
        graph: The walk of the model.
        axes: Id of a variable → {axis: label of each slice}.
        counts: Id of a layer → {name in its configuration, such as `filters`: labels of what
            that number counts}.
        shapes: Id of a Reshape → labels of its result, flat and without the batch.
        roots: Label → group. Labels of one group go together; group 0 stays.
        whole: Names of the layers that are left whole, and why.
    """

    graph: graph.Graph
    axes: dict[int, dict[int, np.ndarray]]
    counts: dict[int, dict[str, np.ndarray]]
    shapes: dict[int, np.ndarray]
    roots: np.ndarray
    whole: dict[str, str]

    @property
    def reasons(self) -> str:
        """What is left whole and why, in words."""
        return "; ".join(f"{name}: {why}" for name, why in self.whole.items())

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
    register, whole = Register(), {}
    tensors = register.tensors
    for tensor in walked.input_list:
        tensors[tensor.index] = kept(tensor.shape)
    for call in walked.calls:
        inputs = [tensors[tensor.index] for tensor in call.inputs]
        try:
            mixing = rules.mixing_activation(call.layer)
            made = rules.of_call(call)(register, call, inputs)
            _check_weights(call.layer, register)
            if mixing:
                register.keep(made)
                if not set(call.outputs) & set(walked.output_list):
                    whole.setdefault(call.name, f"its {mixing} sees all channels at once")
        except Whole as reason:
            whole.setdefault(call.name, str(reason))
            for labels in (*inputs, *register.of_layer(call.layer)):
                register.keep(labels)
            made = kept(call.outputs[0].shape)
        for tensor in call.outputs:
            same = len(tensor.shape) == len(call.outputs[0].shape)
            tensors[tensor.index] = made if same else kept(tensor.shape)
            if not same:
                register.keep(made)
    for tensor in walked.output_list:
        register.keep(tensors[tensor.index])
    return Dependencies(
        walked, register.axes, register.counts, register.shapes, register.groups(), whole
    )


def _check_weights(layer, register: Register) -> None:
    """Leave a layer whole that has more weights than its rule knows (adapters, statistics)."""
    for weight in getattr(layer, "weights", ()):
        if id(weight) not in register.axes and max(weight.shape, default=1) > 1:
            raise Whole(f"its weight {weight.name!r} has no rule")
