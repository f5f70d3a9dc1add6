"""`calibrate`: ranges without training, and rounding that preserves each layer's output.

    examples ─► layer's inputs ─► which errors of its weights cancel ─► weights on the grid ─► next

Rounding to the nearest value treats every weight by itself. Here the weights that are rounded later
compensate for the error of a weight, as far as the layer's inputs are correlated (GPTQ, Frantar et
al. 2022, https://arxiv.org/abs/2210.17323). The error that remains in the mean of an output goes
into the bias (Nagel et al. 2019, https://arxiv.org/abs/1906.04721).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import numpy as np
import tensorflow as tf

from tfkd.errors import InputError
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.quantization import export_form

if TYPE_CHECKING:
    import tf_keras

    from tfkd._typing import Arrays

# Fraction of the diagonal's mean to add to the diagonal, as in GPTQ.
_DAMPING = 0.01


def calibrate(
    qat: tf_keras.Model,
    data: Arrays,
    batch_size: int = 64,
    rounding: Literal["nearest", "gptq"] = "nearest",
) -> tf_keras.Model:
    """Set the ranges of a quantize-aware model from data, without training it.

    Choose it for post-training int8 of layers that the converter would leave float (layer
    normalization, ELU): `to_tflite(calibrate(quantize_aware(model), x), "int8")`; or to start
    quantization-aware training with ranges of more than one batch.

    Args:
        qat: A model from `quantize_aware`; its ranges are set.
        data: 100 to 500 examples, preprocessed as in training: arrays (examples, ...), a list or
            dict of them for several inputs, or whatever else `to_tflite` takes as
            `representative_data`, a `tf.data.Dataset` of batches for one, of which 500 examples
            are drawn.
        batch_size: Examples at a time, at least 1.
        rounding: How to round weights of 4 bits. `"nearest"` leaves them to be rounded to the
            nearest value. `"gptq"` puts them on their grid so that the output of each layer stays
            near the float output for these examples (Frantar et al. 2022,
            https://arxiv.org/abs/2210.17323) and sets its bias for the same mean; for a file
            without training. Recurrent kernels are not changed.

    Returns:
        `qat`.

    Raises:
        InputError: if `data` is empty or does not fit the inputs, or the model does not come
            from `quantize_aware`.
    """
    from tfkd.quantization import quantizers
    from tfkd.quantization.representative_data import representative_samples

    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
    if rounding not in ("nearest", "gptq"):
        raise InputError(f"rounding must be 'nearest' or 'gptq', got {rounding!r}.")
    rounders = [
        layer
        for layer in qat.layers
        if isinstance(getattr(layer, "quantizer", None), quantizers.RangeRounding)
    ]
    if not rounders:
        raise InputError("The model does not come from quantize_aware.")
    whole = isinstance(data, (list, tuple, dict)) or hasattr(data, "__array__")
    arrays = representative_samples(qat, data, limit=sys.maxsize if whole else 500)
    for layer in rounders:
        layer.quantizer_vars["seen"].assign(0.0)
    batches = in_batches(arrays, batch_size)
    low, high = np.zeros(len(rounders)), np.zeros(len(rounders))
    for values in tensor_values(qat, [layer.input for layer in rounders], batches):
        low = np.minimum(low, [np.min(value) for value in values])
        high = np.maximum(high, [np.max(value) for value in values])
    for layer, least, most in zip(rounders, low, high, strict=True):
        layer.quantizer_vars["min_var"].assign(least)
        layer.quantizer_vars["max_var"].assign(most)
        layer.quantizer_vars["seen"].assign(1.0)
    if rounding == "gptq":
        round_by_output(qat, batches)
    return qat


def round_by_output(qat, batches) -> list[str]:
    """Put the weights of fewer than 8 bits on their grid.

    Args:
        qat: A model of `quantize_aware` whose ranges are known; its weights and biases are set.
        batches: Batches of examples, an array for each input.

    Returns:
        Names of the layers that were rounded in this way. Recurrent kernels, whose inputs are not
        seen from outside, and clustered and frozen ones keep their weights.
    """
    from tfkd.quantization import quantizers

    wrappers = [
        wrapper
        for wrapper in export_form.narrow_wrappers(qat)
        if kind_of(wrapper.layer) in _ROWS
        and wrapper.quantize_config.preserve != "clusters"  # equal weights stay equal
        and wrapper.trainable
        and wrapper.layer.trainable
    ]
    if not wrappers:
        return []
    with quantizers.unrounded(qat):
        wanted = _means(qat, wrappers, batches)
    for wrapper, want in zip(wrappers, wanted, strict=True):
        _round(qat, wrapper, batches)
        (got,) = _means(qat, [wrapper], batches)
        _correct(graph.walk(qat), wrapper, want - got)
    return [wrapper.name for wrapper in wrappers]


def in_batches(arrays, batch_size: int) -> list[list[np.ndarray]]:
    """Return the batches of examples, an array for each input of a model."""
    return [
        [values[start : start + batch_size] for values in arrays]
        for start in range(0, len(arrays[0]), batch_size)
    ]


def tensor_values(qat, tensors, batches):
    """Yield the values of tensors of the model, a list for each batch."""
    probe = backends.tf_keras().Model(qat.inputs, tensors)
    for batch in batches:
        yield list(graph.leaves(probe(batch if len(batch) > 1 else batch[0], training=False)))


def _means(qat, wrappers, batches) -> list[np.ndarray]:
    """Return the mean of each channel of layers' outputs."""
    totals, counts = [0.0] * len(wrappers), [0] * len(wrappers)
    outputs = [
        (place, wrapper.get_output_at(i))
        for place, wrapper in enumerate(wrappers)
        for i in range(len(wrapper._inbound_nodes))
    ]
    for values in tensor_values(qat, [tensor for _, tensor in outputs], batches):
        for (place, _), value in zip(outputs, values, strict=True):
            rows = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
            totals[place] = totals[place] + rows.sum(0)
            counts[place] += len(rows)
    return [total / count for total, count in zip(totals, counts, strict=True)]


def _round(qat, wrapper, batches) -> None:
    """Put a layer's kernel on its grid."""
    layer = wrapper.layer
    ((kernel, quantizer, held),) = wrapper._weight_vars
    rows_of, to_groups, from_groups = _ROWS[kind_of(layer)]
    inputs = [wrapper.get_input_at(i) for i in range(len(wrapper._inbound_nodes))]
    products = 0.0
    for values in tensor_values(qat, inputs, batches):
        for value in values:
            rows = np.asarray(rows_of(layer, value), np.float64)
            products = products + rows.transpose(0, 2, 1) @ rows
    weights = kernel.numpy()
    if quantizer.preserve == "sparsity":
        weights *= held["sparsity"].numpy()
    scales = np.broadcast_to(quantizer.scale(tf.convert_to_tensor(weights)), weights.shape)
    codes = nearest_output(
        to_groups(layer, weights.astype(np.float64)),
        to_groups(layer, scales.astype(np.float64)),
        products,
        quantizer.most,
        zeros=None if quantizer.preserve is None else to_groups(layer, weights == 0),
    )
    kernel.assign(from_groups(layer, codes) * scales)


def nearest_output(weights, scales, products, most: int, zeros=None) -> np.ndarray:
    """Return places on the grid with which a product is near that with the weights.

    Args:
        weights: (groups, inputs, outputs).
        scales: Size of a step of the grid, likewise; the same for all inputs of an output.
        products: (groups, inputs, inputs), the sum of `x xᵀ` over examples.
        most: The last place of the grid, on both sides.
        zeros: Which weights stay zero, in the shape of `weights`; `None` for none.

    Returns:
        Whole numbers from `-most` to `most`, in the shape of `weights`. In each output the largest
        weight is at an end of the grid if it was nearest to it before.
    """
    weights = weights.copy()
    count = weights.shape[1]
    nearest = np.clip(np.rint(weights / scales), -most, most)
    # Inputs that are always zero have no influence; the weights of the largest are rounded first.
    diagonal = np.diagonal(products, axis1=1, axis2=2)
    spread = diagonal.mean(1, keepdims=True)
    damped = products + np.eye(count) * np.maximum(_DAMPING * spread, 1e-12)[..., None]
    codes = np.empty_like(weights)
    ends = np.abs(weights).argmax(1)
    for group in range(len(weights)):
        order = np.argsort(-diagonal[group], kind="stable")
        inverse = np.linalg.inv(damped[group][np.ix_(order, order)])
        # Row i: how much the later weights compensate for an error of weight i.
        factor = np.linalg.cholesky(inverse).T
        for i, place in enumerate(order):
            step, wanted = scales[group, place], weights[group, place]
            code = np.clip(np.rint(wanted / step), -most, most)
            # The weight from which the file derives the scale stays in place.
            code = np.where(ends[group] == place, nearest[group, place], code)
            if zeros is not None:
                code = np.where(zeros[group, place], 0.0, code)
            codes[group, place] = code
            error = (wanted - code * step) / factor[i, i]
            weights[group, order[i + 1 :]] -= np.outer(factor[i, i + 1 :], error)
    return codes


def _correct(source, wrapper, shift) -> None:
    """Add the shift of a layer's mean output to its bias or the batch normalization after it."""
    bias = getattr(wrapper.layer, "bias", None)
    if bias is not None:
        bias.assign_add(shift.astype(np.float32))
        return
    calls = [call for call in source.calls if call.layer is wrapper]
    readers = source.consumers(calls[0].outputs[0])
    if len(calls) > 1 or len(readers) > 1 or not readers:
        return
    norm = readers[0].layer
    alone = sum(call.layer is norm for call in source.calls) == 1
    if kind_of(norm) == "BatchNormalization" and alone and norm.trainable:
        norm.moving_mean.assign_sub(shift.astype(np.float32))


# --- a layer as products of rows with a matrix ---------------------------------------------


def _dense_rows(layer, x):
    return tf.reshape(x, (1, -1, x.shape[-1]))


def _same(layer, kernel):
    return kernel[None]


def _first(layer, groups):
    return groups[0]


def _patches(layer, x):
    """Return patches (batch, height, width, places of the kernel, channels)."""
    sizes = [layer.kernel_size, layer.strides, layer.dilation_rate]
    padding = layer.padding
    if len(x.shape) == 3:
        x = x[:, :, None]
        sizes = [(*size, 1) for size in sizes]
        if padding == "causal":
            before = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
            x, padding = tf.pad(x, [(0, 0), (before, 0), (0, 0), (0, 0)]), "valid"
    kernel, strides, rates = ([1, *size, 1] for size in sizes)
    found = tf.image.extract_patches(x, kernel, strides, rates, padding.upper())
    return tf.reshape(found, (*found.shape[:3], -1, x.shape[-1]))


def _conv_rows(layer, x):
    found = _patches(layer, x)
    parts = layer.groups
    apart = tf.reshape(found, (-1, found.shape[3], parts, found.shape[4] // parts))
    rows = tf.transpose(apart, (2, 0, 1, 3))
    return tf.reshape(rows, (parts, rows.shape[1], -1))


def _conv_groups(layer, kernel):
    parts = layer.groups
    matrix = kernel.reshape(-1, parts, kernel.shape[-1] // parts)
    return matrix.transpose(1, 0, 2)


def _conv_kernel(layer, groups):
    return groups.transpose(1, 0, 2).reshape(layer.kernel.shape)


def _depthwise_rows(layer, x):
    found = _patches(layer, x)
    rows = tf.reshape(found, (-1, *found.shape[3:]))
    return tf.transpose(rows, (2, 0, 1))


def _depthwise_groups(layer, kernel):
    matrix = kernel.reshape(-1, *kernel.shape[-2:])
    return matrix.transpose(1, 0, 2)


def _depthwise_kernel(layer, groups):
    return groups.transpose(1, 0, 2).reshape(layer.depthwise_kernel.shape)


_CONV = (_conv_rows, _conv_groups, _conv_kernel)
_DEPTHWISE = (_depthwise_rows, _depthwise_groups, _depthwise_kernel)
# Kind of layer → its inputs as (groups, rows, inputs), its kernel as (groups, inputs, outputs),
# and back.
_ROWS = {
    "Dense": (_dense_rows, _same, _first),
    "Conv1D": _CONV,
    "Conv2D": _CONV,
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
}
