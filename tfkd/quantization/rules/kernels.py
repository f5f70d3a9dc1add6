"""Rules of layers with a kernel: weights are rounded per channel, outputs as late as possible."""

from __future__ import annotations

from tfkd.errors import UnsupportedError
from tfkd.model.layer_kinds import function_name, kind_of, remade
from tfkd.quantization.rewriting import Value
from tfkd.quantization.rules.activations import activation
from tfkd.quantization.rules.primitives import check_channels_last

#: What to do with an `Embedding` of floating-point values.
OWN_INPUT = "; give it its own Input(dtype='int32')"


def kernel(attribute, channels, narrow=None):
    """Return the rule of a layer with one kernel, with a scale per index of its axes `channels`.

    `narrow` gives these axes for 4 bits: `()` for one scale, `None` if no engine has a kernel.
    """

    def apply(net, layer, x):
        check_channels_last(layer)
        has_kernel = narrow is not None
        if has_kernel and not narrow:
            has_kernel = not _is_folded(net, layer.activation)
        bits = net.bits_of_weights(has_kernel)
        axes = channels if bits == 8 else narrow
        wrapped = net.weighted(
            lambda: net.copy(activation="linear"), [(attribute, axes, None)], bits=bits
        )
        net.note("int8", f"{attribute} per {'channel' if axes else 'tensor'}")
        value = Value(wrapped(net.rounded(x)), layer.name, "linear")
        return activation(net, layer.activation, value, layer.name)

    return apply


def _is_folded(net, activation) -> bool:
    """Tell whether batch normalization is folded into the weights of the current call.

    It scales channels, so that they no longer fit a scale that they share.
    """
    if function_name(activation) != "linear":
        return False

    def reads(tensor) -> bool:
        return any(
            call.kind == "BatchNormalization"
            or (function_name(getattr(call.layer, "activation", None)) == "linear"
                and call.kind == "Activation" and reads(call.outputs[0]))
            for call in net.source.consumers(tensor)
        )  # fmt: skip

    return reads(net.call.outputs[0])


def separable(net, layer, x):
    """Apply two convolutions, since the file rounds between them."""
    check_channels_last(layer)
    one_d = kind_of(layer) == "SeparableConv1D"
    layers = net.layers
    shared = {"data_format": layer.data_format, "activation": "linear"}
    depthwise_kernel, *rest = layer.get_weights()
    axes = (1, 2) if one_d else (2, 3)

    def depthwise():
        made = net.copy(
            layers.DepthwiseConv1D if one_d else layers.DepthwiseConv2D,
            f"{layer.name}_depthwise",
            kernel_size=layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            depthwise_regularizer=layer.depthwise_regularizer,
            depthwise_constraint=layer.depthwise_constraint,
            **shared,
        )
        made.build(layer.get_input_shape_at(0))
        made.set_weights([depthwise_kernel])
        return made

    def pointwise():
        made = net.copy(
            layers.Conv1D if one_d else layers.Conv2D,
            f"{layer.name}_pointwise",
            filters=layer.filters,
            kernel_size=1,
            use_bias=layer.use_bias,
            kernel_regularizer=layer.pointwise_regularizer,
            kernel_constraint=layer.pointwise_constraint,
            bias_regularizer=layer.bias_regularizer,
            bias_constraint=layer.bias_constraint,
            **shared,
        )
        made.build(
            (*[None] * (2 if one_d else 3), depthwise_kernel.shape[-2] * layer.depth_multiplier)
        )
        made.set_weights(rest)
        return made

    bits = net.bits_of_weights()
    first = net.weighted(depthwise, [("depthwise_kernel", axes, None)], "depthwise", bits)
    middle = Value(first(net.rounded(x)), f"{layer.name}_depthwise", "linear")
    second = net.weighted(pointwise, [("kernel", (-1,), None)], "pointwise", bits)
    net.keep_weights([_inner_name(first), _inner_name(second)], lambda one, two: [*one, *two])
    net.note("rewritten", "as a depthwise and a pointwise convolution, each rounded")
    value = Value(second(net.rounded(middle)), layer.name, "linear")
    return activation(net, layer.activation, value, layer.name)


def _inner_name(wrapper):
    return getattr(wrapper, "layer", wrapper).name


def embedding(net, layer, x):
    """Look up rows of a table, whose values are already rounded."""
    if x.tensor.dtype.is_floating and not _are_tokens(net):
        raise UnsupportedError(
            "looks up floating-point values that are computed, or that other layers read, too"
            f"{OWN_INPUT}"
        )
    # No layer reads the mask: tfkd refuses such models.
    wrapped = net.weighted(lambda: net.copy(mask_zero=False), [("embeddings", (), None)])
    net.note("int8", "embeddings per tensor")
    tensor = wrapped(x.tensor)
    return Value(tensor, layer.name, rounded=tensor)


def _are_tokens(net) -> bool:
    """Tell whether the current call reads an input that only embeddings read."""
    (tensor,) = net.call.inputs
    readers = [call.layer for call in net.source.consumers(tensor)]
    return tensor in net.source.input_list and all(
        kind_of(layer) == "Embedding" for layer in readers
    )


def time_distributed(net, layer, x):
    """Apply TimeDistributed(Dense) as one dense layer over the last axis, without a loop."""
    inner = layer.layer
    if kind_of(inner) != "Dense":
        raise UnsupportedError(
            f"TimeDistributed({type(inner).__name__}) has no rule, only TimeDistributed(Dense)"
        )

    def dense():
        made = remade(inner, name=net.name(layer.name), activation="linear")
        made.trainable = layer.trainable and inner.trainable
        made.build(layer.get_input_shape_at(0))
        made.set_weights(inner.get_weights())
        net.keep_weights([made.name], lambda weights: weights)
        return made

    bits = net.bits_of_weights(not _is_folded(net, inner.activation))
    axes = (1,) if bits == 8 else ()
    wrapped = net.weighted(dense, [("kernel", axes, None)], bits=bits)
    scales = "channel" if axes else "tensor"
    net.note("rewritten", f"as a dense layer over the last axis, kernel per {scales}")
    value = Value(wrapped(net.rounded(x)), layer.name, "linear")
    return activation(net, inner.activation, value, layer.name)


def prelu(net, layer, x):
    """Apply PReLU; its kernel has one scale for all slopes."""
    wrapped = net.weighted(net.copy, [("alpha", (), None)])
    net.note("int8", "alpha per tensor")
    return Value(wrapped(net.rounded(x)), layer.name)
