"""State that a teacher keeps from call to call, and that its answers depend on."""

from __future__ import annotations

import re

from tfkd.model.layer_kinds import stateful_layers

#: Descriptions of the state that a function keeps.
ASSIGNED = "a variable that it assigns"
_ASSIGNS = re.compile(r"Assign(Add|Sub)?(VariableOp)?|Resource(Scatter|StridedSliceAssign)\w*")


def assigns(function) -> bool:
    """Tell whether a traced function changes a variable."""
    graph_def = function.graph.as_graph_def()
    bodies = [graph_def.node, *(one.node_def for one in graph_def.library.function)]
    return any(_ASSIGNS.fullmatch(node.op) for body in bodies for node in body)


def message(name: str, memory: str) -> str:
    """Return the message for a teacher that keeps a state."""
    fix = (
        "export it without this variable"
        if memory == ASSIGNED
        else "teach with a copy that is built with stateful=False and has the same weights "
        "(copy.set_weights(teacher.get_weights()))"
    )
    return (
        f"The teacher {name!r} keeps a state from batch to batch ({memory}), so its answers "
        f"depend on earlier batches: {fix}."
    )


def stateful_layer(model) -> str:
    """Return which layer of a model or layer is stateful, in words; empty for none."""
    stateful = stateful_layers(model)
    return f"the layer {stateful[0].name!r}" if stateful else ""
