"""A model without some of its channels: smaller layers, with the remaining weights."""

from __future__ import annotations

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.pruning.structured.dependency import Dependencies
from tfkd.translation import copies, layers


def without(found: Dependencies, groups) -> object:
    """Build the model that is left when groups of channels are removed.

    Args:
        found: The dependencies of the model.
        groups: Numbers of the groups that go.

    Returns:
        A new Functional model of the same Keras; it contains the layers of nested
        models directly, named by their path.

    Raises:
        UnsupportedError: if a layer can't be built from its configuration.
    """
    gone = np.zeros(len(found.roots), bool)
    gone[np.asarray(groups, int)] = True
    gone = gone[found.roots]
    package = found.graph.package
    made: dict[int, object] = {}
    names = names_after(found.graph)

    def apply(call: graph.Call, args, kwargs):
        if not isinstance(call.layer, package.layers.Layer):
            return call.layer(*args, **kwargs)  # an operation of Keras 3
        if id(call.layer) not in made:
            name = names[call.name]
            made[id(call.layer)] = _smaller(call.layer, call.name, name, found, gone)
        smaller = made[id(call.layer)]
        try:
            result = smaller(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise UnsupportedError(
                f"The layer {call.name!r} ({type(call.layer).__name__}) refuses the remaining "
                f"channels of its input: {layers.reason(error)}",
                code="pruning-rule",
            ) from error
        _check_outputs(call, result, found, gone)
        return result

    model = graph.rebuild(found.graph, package, apply)
    for path, layer in found.graph.layers:
        if id(layer) in made:
            _carry_over(path, layer, made[id(layer)], found, gone)
    return model


def names_after(walked: graph.Graph) -> dict[str, str]:
    """Return the name that each layer has in a pruned model, by its path."""
    names: dict[str, str] = {}
    taken = {tensor.name for tensor in walked.input_list}
    for path, layer in walked.layers:
        if isinstance(layer, walked.package.layers.Layer):
            name = path.replace("/", "_")
            while name in taken:  # a/b of a nested model next to a layer a_b
                name += "_"
            taken.add(name)
            names[path] = name
        else:
            names[path] = layer.name  # an operation of Keras 3, used again
    return names


def _check_outputs(call: graph.Call, result, found: Dependencies, gone):
    """Raise for a layer whose output differs from what its rule says."""
    for tensor, made in zip(call.outputs, graph.leaves(result), strict=True):
        labels = found.tensors[tensor.index]
        stays = np.broadcast_to(~gone[labels], labels.shape)
        for axis, size in enumerate(tensor.shape[1:]):
            if labels.shape[axis] == size:
                size = int(stays.any(tuple(i for i in range(labels.ndim) if i != axis)).sum())
            if size not in (None, made.shape[axis + 1]) and made.shape[axis + 1] is not None:
                raise UnsupportedError(
                    f"The layer {call.name!r} ({type(call.layer).__name__}) returns an output "
                    f"of shape {tuple(made.shape)} after pruning, but the labels of its pruning "
                    f"rule have {size} for axis {axis + 1}.",
                    code="pruning-rule",
                )


def _smaller(layer, path: str, name: str, found: Dependencies, gone):
    kind = kind_of(layer)

    def change(config: dict):
        if kind == "Bidirectional":
            for key, inner in (
                ("layer", layer.forward_layer),
                ("backward_layer", layer.backward_layer),
            ):
                if config.get(key):
                    _resize_inner(config[key], inner, found, gone)
        elif kind == "TimeDistributed":
            _resize_inner(config["layer"], layer.layer, found, gone)
        else:
            _resize(config, layer, found, gone)
        if id(layer) in found.shapes:
            *rest, _ = layer.target_shape
            left = int((~gone[found.shapes[id(layer)]]).sum())
            config["target_shape"] = (*rest, left)
        config["name"] = name

    return copies.again(layer, path, change)


def _resize_inner(saved: dict, layer, found: Dependencies, gone):
    saved.pop("build_config", None)  # it has the old shapes
    _resize(saved["config"], layer, found, gone)


def _resize(config: dict, layer, found: Dependencies, gone):
    for key, labels in found.counts.get(id(layer), {}).items():
        left = int((~gone[labels]).sum())
        config[key] = (left,) if key == "output_shape" else left
    for key in ("query_shape", "key_shape", "value_shape"):  # old shapes of a tf_keras attention
        if config.get(key) is not None:
            kernel = getattr(layer, f"_{key.split('_')[0]}_dense").kernel
            left = int((~gone[found.axes[id(kernel)][0]]).sum())
            config[key] = [*list(config[key])[:-1], left]


def _carry_over(path: str, old, new, found: Dependencies, gone):
    copies.copy_flags(old, new)
    values = []
    for variable in backends.variables_of(old):
        value = variable.numpy()
        for axis, labels in found.axes.get(id(variable), {}).items():
            value = np.compress(~gone[labels], value, axis % value.ndim)
        values.append(value)
    shapes = [list(value.shape) for value in values]
    built = [list(weight.shape) for weight in new.weights]
    if shapes != built:
        raise UnsupportedError(
            f"The layer {path!r} ({type(old).__name__}) has weights of the shapes {built} when it "
            f"is built with the remaining channels, but its pruning rule leaves {shapes}.",
            code="pruning-rule",
        )
    copies.set_weights(new, values)
