"""Whole residual blocks: those of a model, those that add nothing, and the model without them.

    x ──┬───────────── Add ──        without the block:   x ──
        └─ the block ──┘

A block is the calls that reach only one input of an Add, if the shapes stay the same without them.
A block that adds nothing can be removed without loss (layer pruning).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.model import graph
from tfkd.model.layer_kinds import kind_of

# Layers that map zeros to zeros.
_ZERO_TO_ZERO = (
    *("ReLU", "LeakyReLU", "PReLU", "Dropout", "SpatialDropout1D", "SpatialDropout2D"),
    *("SpatialDropout3D", "Identity", "Flatten", "Reshape", "Permute"),
    *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
    *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    *("Relu", "Relu6", "LeakyRelu", "Silu", "Gelu", "Tanh"),
)
_ZERO_AT_ZERO = ("linear", "relu", "relu6", "tanh", "silu", "swish", "gelu", "elu", "selu")
_LINEAR = (
    *("Dense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose"),
    *("Conv3DTranspose", "DepthwiseConv1D", "DepthwiseConv2D"),
)


@dataclasses.dataclass(frozen=True)
class Block:
    """The calls that reach only one input of an Add.

    Attributes:
        add: The call of the Add.
        position: Which of its inputs.
        calls: The calls that go with the block, in order; at least one has weights.
    """

    add: graph.Call
    position: int
    calls: tuple[graph.Call, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights."""
        return tuple(call.name for call in self.calls if getattr(call.layer, "weights", ()))


def find(walked: graph.Graph) -> list[Block]:
    """Return the blocks of a model, in the order of their Adds."""
    found = []
    places = {id(call): place for place, call in enumerate(walked.calls)}
    outputs = {tensor.index for tensor in walked.output_list}
    for add in walked.calls:
        if kind_of(add.layer) != "Add" or len(add.inputs) < 2:
            continue
        for position in range(len(add.inputs)):
            calls = _only_for(walked, add, position, outputs)
            calls.sort(key=lambda call: places[id(call)])
            block = Block(add, position, tuple(calls))
            left = [one for i, one in enumerate(add.inputs) if i != position]
            same = any(one.shape == add.outputs[0].shape for one in left)  # no broadcasting
            if block.layers and same:
                found.append(block)
    return found


def _only_for(walked, add, position, outputs) -> list[graph.Call]:
    """Return the calls whose results reach only one input of an Add."""
    inside: dict[int, graph.Call] = {}
    makes_it = walked.producer(add.inputs[position])
    waiting = [makes_it]
    while waiting:
        call = waiting.pop()
        if call is None or any(tensor.index in outputs for tensor in call.outputs):
            continue
        of_call = [one for tensor in call.outputs for one in walked.consumers(tensor)]
        alone = call is makes_it and len(of_call) == 1
        if id(call) not in inside and (alone or all(id(one) in inside for one in of_call)):
            inside[id(call)] = call
            waiting += map(walked.producer, call.inputs)  # calls that nothing else reads now
    return list(inside.values())


def without(walked: graph.Graph, block: Block) -> graph.Graph:
    """Return the graph without a block; an Add with one remaining input is left out."""
    left = [one for i, one in enumerate(block.add.inputs) if i != block.position]
    if len(left) == 1:
        return bypassed(walked, [*block.calls, block.add], {block.add.outputs[0].index: left[0]})
    calls = tuple(
        dataclasses.replace(call, args=(left,), kwargs={}) if call is block.add else call
        for call in walked.calls
    )
    return bypassed(dataclasses.replace(walked, calls=calls), block.calls, {})


def bypassed(walked: graph.Graph, gone, replaced: dict[int, graph.Tensor]) -> graph.Graph:
    """Return the graph without some calls.

    Args:
        walked: The walk of a model.
        gone: The calls.
        replaced: Index of a tensor that they make → the tensor that its readers get instead.
    """

    def fill(leaf):
        return replaced.get(leaf.index, leaf) if isinstance(leaf, graph.Tensor) else leaf

    calls = []
    for call in walked.calls:
        if any(call is one for one in gone):
            continue
        args, kwargs = (graph.map_structure(fill, part) for part in (call.args, call.kwargs))
        calls.append(dataclasses.replace(call, args=args, kwargs=kwargs))
    return dataclasses.replace(
        walked, calls=tuple(calls), outputs=graph.map_structure(fill, walked.outputs)
    )


def without_nil(walked: graph.Graph, kept=()) -> tuple[graph.Graph, list[Block]]:
    """Remove the blocks that add nothing, whatever the input.

    Args:
        walked: The walk of a model.
        kept: Layers that stay, and with them the blocks they are in.

    Returns:
        The remaining graph, and the removed blocks.
    """
    gone = []
    while True:
        nil = [
            block
            for block in find(walked)
            if _is_zero(walked, block.add.inputs[block.position])
            and not any(call.layer is one for call in block.calls for one in kept)
        ]
        if not nil:
            return walked, gone
        gone.append(nil[0])
        walked = without(walked, nil[0])


def _is_zero(walked: graph.Graph, tensor: graph.Tensor) -> bool:
    """Tell from the layers' weights whether a tensor is zero for every input."""
    call = walked.producer(tensor)
    if call is None or not call.inputs:
        return False
    layer, kind = call.layer, kind_of(call.layer)

    def zero(weight):
        return weight is None or not np.asarray(weight).any()

    if kind in _ZERO_TO_ZERO:
        shifted = getattr(layer, "threshold", 0)  # of a ReLU
        return not shifted and _is_zero(walked, call.inputs[0])
    if kind == "Add":
        terms = list(graph.leaves((call.args, call.kwargs)))
        return all(isinstance(one, graph.Tensor) and _is_zero(walked, one) for one in terms)
    if kind == "Multiply":
        return any(_is_zero(walked, one) for one in call.inputs)
    if kind == "BatchNormalization":
        return layer.gamma is not None and zero(layer.gamma) and zero(layer.beta)
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in _ZERO_AT_ZERO:
        return False
    if kind == "Activation":
        return _is_zero(walked, call.inputs[0])
    if kind in _LINEAR:
        given = _is_zero(walked, call.inputs[0])
        kernel = next(w for w in layer.weights if len(w.shape) > 1)
        return zero(layer.bias) and (given or zero(kernel))
    return False
