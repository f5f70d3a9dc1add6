"""A teacher with less depth or resolution: without some blocks, or behind averaged images.

shallower   x ── block ── block ── block ──    →   x ── block ── block ──
coarser     image (2h, 2w, c) ── teacher       →   image ── 2×2 averages (h, w, c) ── teacher
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfkd.errors import UnsupportedError
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.pruning.structured import blocks
from tfkd.translation import copies

if TYPE_CHECKING:
    from tfkd._typing import AnyModel

#: Layers that can be left out if their output has the shape of their input.
_REPEATED = ("Conv1D", "Conv2D", "Dense", "LSTM", "GRU", "SimpleRNN", "Bidirectional")
#: Images with fewer places per side keep their resolution.
_LEAST_SIDE = 16


def depth(teacher: AnyModel) -> int:
    """Return the number of blocks that `shallower` can choose from.

    Args:
        teacher: A model of either Keras with a graph.
    """
    return len(_blocks(graph.walk(teacher)))


def shallower(teacher: AnyModel, left: int) -> AnyModel | None:
    """Return the teacher with a number of its blocks, with their weights.

    Blocks are the parts that residual connections bypass; in a model without residual connections,
    layers whose output has the shape of their input. A block with a layer in its connection changes
    the shape: such blocks go last, and then the layer in the connection stays. The blocks that stay
    are spread evenly and include the first of their kind.

    Args:
        teacher: A model of either Keras with a graph; it is not changed.
        left: How many of the blocks stay, from 0 up to `depth`.

    Returns:
        A new model of the same Keras; `None` if it would have all blocks.

    Raises:
        UnsupportedError: if a layer can't be built from its configuration, or a block can't be left
            out beside the others.
    """
    walked = graph.walk(teacher)
    found = _blocks(walked)
    sides = collections.Counter(block.add.name for block in blocks.find(walked))
    changing = [name for name in found if sides[name] > 1]
    others = [name for name in found if name not in changing]
    kept = min(left, len(changing))
    stay = {*_spread(changing, kept), *_spread(others, left - kept)}
    gone = [name for name in found if name not in stay]
    if not gone:
        return None
    for name in gone:
        walked = _without(walked, name)
    return _rebuilt(walked)


def coarser(teacher: AnyModel, factor: int) -> AnyModel | None:
    """Return the teacher behind averages of its images, with its weights.

    Args:
        teacher: A model of either Keras with a graph; it is not changed.
        factor: Factor by which each side has fewer places.

    Returns:
        A new model of the same Keras and inputs. `None` for inputs that are no images, or small
        ones, and if outputs or weights depend on the resolution, as after a `Flatten`.

    Raises:
        UnsupportedError: if a layer can't be built from its configuration.
    """
    walked = graph.walk(teacher)
    inputs = walked.input_list
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    sides = inputs[0].shape[1:3]
    if any(side is None or side % factor or side // factor < _LEAST_SIDE for side in sides):
        return None
    layers = walked.package.layers
    first = [layers.AveragePooling2D(factor, name="coarse")]
    if "float" not in inputs[0].dtype:  # TensorFlow has no averages of integers
        first.insert(0, layers.Rescaling(1.0, name="coarse_float"))
    made = _rebuilt(walked, first)
    if made is None:
        return None
    before, after = (
        [tuple(tensor.shape) for tensor in one.output_list] for one in (walked, graph.walk(made))
    )
    return made if before == after else None


def _blocks(walked: graph.Graph) -> dict[str, blocks.Block | graph.Call]:
    """Return the blocks that can be left out by name: residual ones, else repeated layers.

    What makes an output of the model stays, and so does a layer that is called several times. Of
    blocks within blocks, only the innermost are returned.
    """
    outputs = {tensor.index for tensor in walked.output_list}
    times = collections.Counter(call.name for call in walked.calls)

    def stays(call: graph.Call) -> bool:
        return times[call.name] > 1 or any(one.index in outputs for one in call.outputs)

    found: dict[str, blocks.Block | graph.Call] = {}
    for block in blocks.find(walked):
        if stays(block.add):
            continue
        # Of the two parts that meet in an Add, the shorter one is the connection.
        other = found.get(block.add.name)
        if other is None or len(block.layers) > len(other.layers):
            found[block.add.name] = block
    around = [
        name
        for name, block in found.items()
        if any(call.name in found for call in block.calls if call.name != name)
    ]
    for name in around:
        del found[name]
    return found or {
        call.name: call for call in walked.calls if _is_repeated(call) and not stays(call)
    }


def _spread(names: list[str], count: int) -> list[str]:
    """Return a number of names, spread evenly from the first on."""
    return [names[i * len(names) // count] for i in range(count)]


def _is_repeated(call: graph.Call) -> bool:
    same = len(call.inputs) == len(call.outputs) == 1
    return (
        same and call.inputs[0].shape == call.outputs[0].shape and kind_of(call.layer) in _REPEATED
    )


def _without(walked: graph.Graph, name: str) -> graph.Graph:
    """Return the graph without one of its blocks."""
    block = _blocks(walked).get(name)
    if block is None:
        raise UnsupportedError(f"Without other blocks, {name!r} is no block that can be left out.")
    if isinstance(block, blocks.Block):
        return blocks.without(walked, block)
    return blocks.bypassed(walked, [block], {block.outputs[0].index: block.inputs[0]})


def _rebuilt(walked: graph.Graph, first: Sequence[Any] = ()) -> AnyModel | None:
    """Return a model of new layers, placed behind other layers if there are any."""
    package = walked.package
    made: dict[int, Any] = {}
    names = {layer.name for layer in first}

    def unused(path: str) -> str:
        """Return a unique name for a layer, which may be in a nested model."""
        name = path.replace("/", "_")
        while name in names:
            name += "_"
        names.add(name)
        return name

    def apply(call: graph.Call, args, kwargs):
        if not isinstance(call.layer, package.layers.Layer):
            return call.layer(*args, **kwargs)  # an operation of Keras 3
        if id(call.layer) not in made:
            name = unused(call.name)
            made[id(call.layer)] = copies.again(
                call.layer, call.name, lambda config: config.update(name=name)
            )
        return made[id(call.layer)](*args, **kwargs)

    inputs = graph.symbolic_inputs(walked, package)
    fed = inputs
    for layer in first:
        fed = [layer(fed[0])]
    try:
        outputs = graph.replay(walked, fed, apply)
    except ValueError:  # a layer does not accept fewer places
        return None
    model = package.Model(graph.as_structured(walked, inputs), outputs, name=walked.name)
    for _, layer in walked.layers:
        if id(layer) not in made:
            continue
        new = made[id(layer)]
        ours, its = (backends.variables_of(one) for one in (layer, new))
        if [tuple(w.shape) for w in ours] != [tuple(w.shape) for w in its]:
            return None
        copies.copy_flags(layer, new)
        copies.set_weights(new, copies.weights_of(layer))
    return model
