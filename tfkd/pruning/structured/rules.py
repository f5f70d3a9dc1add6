"""What each layer does to labels: `rule(channels, call, labels of its inputs) → of its output`.

A rule says which channel each slice of the layer's weights belongs to, and binds the labels that
must go together; a rule that can't reason about a call raises `NotPrunable`. Only the libraries'
own classes have rules: a user's own class may do anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfkd.model import graph
from tfkd.model.layer_kinds import LIBRARIES, kind_of
from tfkd.pruning.structured.labels import NotPrunable, of_last

# Activations that mix channels, so that a removed one changes others; and those that don't.
_MIXING = ("softmax", "log_softmax", "sparsemax")
_ELEMENTWISE = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish"),
    *("sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "tanh", "mish"),
    *("softplus", "softsign", "exponential", "log_sigmoid", "tanh_shrink", "sparse_plus"),
)


def of_call(call: graph.Call) -> Callable:
    """Return the rule of a call; `_unknown` if there is none."""
    kind = call.kind
    if not hasattr(call.layer, "add_weight") and kind not in _OPERATIONS:
        return _unknown
    return STANDARD.get(kind, _unknown)


def mixing_activation(layer) -> str | None:
    """Return the activation of a layer that mixes channels, if one does.

    Raises:
        NotPrunable: if the layer has an unknown activation.
    """
    inner = [getattr(layer, n, None) for n in ("layer", "forward_layer", "backward_layer")]
    for one in (layer, *inner):
        for attribute in ("activation", "recurrent_activation"):
            function = getattr(one, attribute, None)
            if function is None:
                continue
            name = getattr(function, "__name__", type(function).__name__)
            if name in _MIXING:
                return name
            library = getattr(function, "__module__", "").split(".")[0] in LIBRARIES
            if name not in _ELEMENTWISE or not library:
                raise NotPrunable(
                    f"its activation {name} is not known to treat each channel by itself"
                )
    return None


def _unknown(channels, call, inputs):
    """Leave the layer whole."""
    raise NotPrunable(f"{type(call.layer).__name__} has no rule")


def _same(channels, call, inputs):
    """Return the labels unchanged, for a layer that works element by element."""
    return inputs[0]


def _dropout(channels, call, inputs):
    shape = getattr(call.layer, "noise_shape", None)
    if shape is not None:
        *others, _ = inputs[0].shape  # the last axis has channels, whatever its size
        for noise, size in zip(reversed(tuple(shape)), (2, *reversed(others)), strict=False):
            if noise not in (None, 1) and size > 1:
                raise NotPrunable("its noise_shape counts channels")
    return inputs[0]


def _softmax(channels, call, inputs):
    raise NotPrunable("softmax sees all channels at once")


def _rescaling(channels, call, inputs):
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise NotPrunable("it has a number for each channel")
    return inputs[0]


def _convolution(channels, call, inputs):
    layer = call.layer
    _check_last(layer)
    given = channels.of_input(call)
    groups = getattr(layer, "groups", 1)
    if 1 < groups == layer.filters == len(given):  # a depthwise convolution
        channels.counts[id(layer)] = {"filters": given, "groups": given}
        channels.slices(layer.kernel, -1, given)
        channels.slices(layer.bias, 0, given)
        return channels.as_output(call, given)
    out = channels.counted(layer, "filters")
    if groups > 1:
        if layer.kernel.shape[-2] == 1:
            raise NotPrunable("each of its groups has one channel")
        # Every group loses the same channel, so that the groups stay equal.
        for labels in (given, out):
            rows = labels.reshape(groups, -1)
            channels.bind(rows, rows[0])
        given = given[: layer.kernel.shape[-2]]
    transposed = "Transpose" in kind_of(layer)
    channels.slices(layer.kernel, -2 if not transposed else -1, given)
    channels.slices(layer.kernel, -1 if not transposed else -2, out)
    channels.slices(layer.bias, 0, out)
    return channels.as_output(call, out)


def _depthwise(channels, call, inputs):
    layer = call.layer
    _check_last(layer)
    given = channels.of_input(call)
    out = np.repeat(given, layer.depth_multiplier)
    channels.slices(_depthwise_kernel(layer), -2, given)
    channels.slices(layer.bias, 0, out)
    return channels.as_output(call, out)


def _separable(channels, call, inputs):
    layer = call.layer
    _check_last(layer)
    given = channels.of_input(call)
    out = channels.counted(layer, "filters")
    channels.slices(layer.depthwise_kernel, -2, given)
    channels.slices(layer.pointwise_kernel, -2, np.repeat(given, layer.depth_multiplier))
    channels.slices(layer.pointwise_kernel, -1, out)
    channels.slices(layer.bias, 0, out)
    return channels.as_output(call, out)


def _dense(channels, call, inputs):
    return _dense_weights(channels, call.layer, call, inputs)


def _dense_weights(channels, layer, call, inputs):
    if getattr(layer, "lora_enabled", False):
        raise NotPrunable("it has low-rank adapters")
    given = channels.of_input(call)
    out = channels.counted(layer, "units")
    channels.slices(layer.kernel, 0, given)
    channels.slices(layer.kernel, 1, out)
    channels.slices(layer.bias, 0, out)
    return channels.as_output(call, out)


def _embedding(channels, call, inputs):
    out = channels.counted(call.layer, "output_dim")
    channels.slices(call.layer.embeddings, 1, out)
    return channels.as_output(call, out)


def _batch_normalization(channels, call, inputs):
    layer, tensor = call.layer, call.inputs[0]
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    if axis not in (-1, len(tensor.shape) - 1):
        raise NotPrunable("it does not normalize the last axis")
    given = channels.of_input(call)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        channels.slices(getattr(layer, name), 0, given)
    return inputs[0]


def _prelu(channels, call, inputs):
    alpha = call.layer.alpha
    if alpha.shape[-1] > 1:
        given = channels.of_input(call)
        channels.slices(alpha, len(alpha.shape) - 1, given)
    return inputs[0]


def _attention(channels, call, inputs):
    """Prune heads independently (Michel et al. 2019), and also inputs and outputs."""
    layer = call.layer
    if len(call.outputs) > 1:
        raise NotPrunable("its scores are an output")
    given = dict(zip(("query", "value", "key"), call.args, strict=False)) | call.kwargs
    given = {name: one for name, one in given.items() if isinstance(one, graph.Tensor)}
    if getattr(layer, "_use_gate", False) or set(given) - {"query", "value", "key"}:
        raise NotPrunable("it has a gate, or a mask that is computed")
    projection = layer._output_dense
    if len(projection.kernel.shape) != 3:
        raise NotPrunable("its output has several axes")
    given.setdefault("key", given["value"])
    heads = channels.counted(layer, "num_heads", projection.kernel.shape[0])
    for name, tensor in given.items():
        inner = getattr(layer, f"_{name}_dense")
        labels = of_last(channels.tensors[tensor.index], tensor.shape[-1])
        channels.slices(inner.kernel, 0, labels)
        channels.slices(inner.kernel, 1, heads)
        channels.slices(inner.bias, 0, heads)
    out = channels.counted(layer, "output_shape", projection.kernel.shape[-1])
    channels.slices(projection.kernel, 0, heads)
    channels.slices(projection.kernel, 2, out)
    channels.slices(projection.bias, 0, out)
    return channels.as_output(call, out)


def _recurrent(channels, call, inputs):
    if len(inputs) > 1 or call.layer.return_state:
        raise NotPrunable("its state is an input or an output")
    out = _recurrent_weights(channels, call.layer, call, inputs)
    return channels.as_output(call, out)


def _recurrent_weights(channels, layer, call, inputs):
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}.get(kind_of(layer))
    if gates is None:
        raise NotPrunable(f"{type(layer).__name__} has no rule")
    given = channels.of_input(call)
    out = channels.counted(layer, "units")
    of_gates = np.tile(out, gates)
    cell = layer.cell
    channels.slices(cell.kernel, 0, given)
    channels.slices(cell.kernel, 1, of_gates)
    channels.slices(cell.recurrent_kernel, 0, out)
    channels.slices(cell.recurrent_kernel, 1, of_gates)
    if cell.bias is not None:
        channels.slices(cell.bias, len(cell.bias.shape) - 1, of_gates)
    return out


def _bidirectional(channels, call, inputs):
    layer = call.layer
    if len(inputs) > 1 or layer.forward_layer.return_state:
        raise NotPrunable("its state is an input or an output")
    parts = [
        _recurrent_weights(channels, one, call, inputs)
        for one in (layer.forward_layer, layer.backward_layer)
    ]
    if layer.merge_mode == "concat":
        out = np.concatenate(parts)
    elif layer.merge_mode in ("sum", "mul", "ave"):
        channels.bind(*parts)
        out = parts[0]
    else:
        raise NotPrunable("its two directions are outputs of their own")
    # Both directions are built from one configuration.
    if layer.forward_layer.units == layer.backward_layer.units:
        channels.bind(*parts)
    return channels.as_output(call, out)


def _time_distributed(channels, call, inputs):
    inner = call.layer.layer
    if kind_of(inner) != "Dense":
        raise NotPrunable(f"TimeDistributed of {type(inner).__name__} has no rule")
    return _dense_weights(channels, inner, call, inputs)


def _spatial(channels, call, inputs):
    """Keep the channels of padding, cropping, pooling and resizing."""
    _check_last(call.layer)
    return channels.as_output(call, channels.of_input(call))


def _reshape(channels, call, inputs):
    """Move the labels as Flatten, Reshape, Permute and RepeatVector move values."""
    tensor, result = call.inputs[0], call.outputs[0]
    if None in tensor.shape[1:] or None in result.shape[1:]:
        raise NotPrunable("a size is free")
    _check_last(call.layer)
    full = np.broadcast_to(inputs[0], tensor.shape[1:])
    kind = kind_of(call.layer)
    if kind == "Permute":
        return full.transpose([axis - 1 for axis in call.layer.dims])
    if kind == "RepeatVector":
        return full[None]
    full = full.reshape(result.shape[1:])
    if full.ndim > 1:
        # The rest must be a box: remove a channel at each of its places.
        rows = full.reshape(-1, full.shape[-1])
        channels.bind(rows, rows[0])
        full = channels.as_output(call, rows[0])
    if kind == "Reshape":
        labels = full.reshape(-1)
        channels.bind(channels.shapes.setdefault(id(call.layer), labels), labels)
    return full


def _merge(channels, call, inputs):
    """Bind channels that Add, Multiply and similar layers combine: they are removed together."""
    shapes = [tensor.shape[1:] for tensor in call.inputs]
    result = call.outputs[0].shape[1:]
    full = []
    for labels, shape in zip(inputs, shapes, strict=True):
        if len(shape) != len(result):
            raise NotPrunable("its inputs have different ranks")
        if shape[-1] == result[-1]:
            full.append(labels)
        else:  # a number combined with every channel belongs to none
            channels.keep(labels)
    for labels in full[1:]:
        channels.bind(full[0], labels)
    return np.broadcast_arrays(*full)[0]


def _concatenate(channels, call, inputs):
    rank = len(call.outputs[0].shape)
    axis = call.layer.axis % rank - 1
    if axis < 0:
        raise NotPrunable("it joins examples")
    full = []
    for labels, tensor in zip(inputs, call.inputs, strict=True):
        shape = list(labels.shape)
        if tensor.shape[axis + 1] is None:
            raise NotPrunable("a size is free")
        shape[axis] = tensor.shape[axis + 1]
        full.append(np.broadcast_to(labels, shape))
    others = [max(one.shape[i] for one in full) for i in range(rank - 1)]
    full = [
        np.broadcast_to(one, [*others[:axis], one.shape[axis], *others[axis + 1 :]]) for one in full
    ]
    joined = np.concatenate(full, axis)
    if joined.size > joined.shape[axis]:  # channels on another axis: those of all inputs match
        rows = np.moveaxis(joined, axis, 0)
        channels.bind(rows, rows[0])
    return joined


def _check_last(layer):
    if getattr(layer, "data_format", "channels_last") not in (None, "channels_last"):
        raise NotPrunable("its channels are not on the last axis")


def _depthwise_kernel(layer):
    # Keras 3 keeps it as `kernel`; tf_keras names it in full.
    kernel = getattr(layer, "depthwise_kernel", None)
    return layer.kernel if kernel is None else kernel


def _named(rule, *names):
    return dict.fromkeys(names, rule)


# Operations of Keras 3 that compute the same as the layers with these names.
_ACTIVATIONS = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "Sigmoid", "Tanh"),
    *("HardSigmoid", "HardSilu", "HardTanh", "Softplus", "Softsign", "Abs", "Negative"),
)
_OPERATIONS = {"Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Softmax"}
_OPERATIONS |= set(_ACTIVATIONS)
STANDARD = {
    **_named(_depthwise, "DepthwiseConv1D", "DepthwiseConv2D"),
    **_named(_separable, "SeparableConv1D", "SeparableConv2D"),
    **_named(
        _convolution,
        *("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    ),
    **_named(_dense, "Dense"),
    **_named(_embedding, "Embedding"),
    **_named(_batch_normalization, "BatchNormalization"),
    **_named(_prelu, "PReLU"),
    **_named(_attention, "MultiHeadAttention"),
    **_named(_recurrent, "LSTM", "GRU", "SimpleRNN"),
    **_named(_bidirectional, "Bidirectional"),
    **_named(_time_distributed, "TimeDistributed"),
    **_named(
        _spatial,
        *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
        *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
        *(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
        "Resizing",
    ),
    **_named(_reshape, "Flatten", "Reshape", "Permute", "RepeatVector"),
    **_named(_merge, "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
    **_named(_concatenate, "Concatenate"),
    **_named(
        _same,
        *("ReLU", "LeakyReLU", "ELU", "Activation", "ActivityRegularization", "Identity"),
        *("GaussianNoise", "GaussianDropout"),
        *(f"SpatialDropout{n}D" for n in (1, 2, 3)),
        *_ACTIVATIONS,
    ),
    **_named(_dropout, "Dropout", "AlphaDropout"),
    **_named(_softmax, "Softmax"),
    **_named(_rescaling, "Rescaling"),
}
