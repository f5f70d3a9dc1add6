"""An int8 `.tflite` file in exact arithmetic: each operation in float64, rounded once.

The difference between this result and a kernel's is the kernel's own rounding; the difference from
the quantize-aware graph is due to the converter.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfkd.export.tflite import schema

_RELU, _RELU6 = 1, 3


class Exact:
    """Runs the operations of a file's main subgraph on integers.

    Args:
        data: The file.
    """

    def __init__(self, data: bytes):
        self.model = schema.parse(data)
        self.graph = self.model.subgraphs[0]
        self.kinds = schema.op_names(self.model)

    def run(self, x) -> dict[int, np.ndarray]:
        """Return every result by the number of its tensor.

        Args:
            x: The integers of the one input, with a batch of 1.
        """
        values = {int(self.graph.inputs[0]): x}
        for op in self.graph.operators:
            for i, result in zip(op.outputs, self.results(op, values), strict=True):
                values[int(i)] = result.reshape([int(n) for n in self.graph.tensors[i].shape])
        return values

    def results(self, op, values) -> list[np.ndarray]:
        """Return what one operation gives for `values`, by number; its constants are known."""
        method = getattr(self, f"_{self.kinds[op.opcodeIndex].lower()}", None)
        if method is None:
            raise NotImplementedError(self.kinds[op.opcodeIndex])
        inputs = [int(i) for i in op.inputs]
        given = [None if i < 0 else self._constant(i, values) for i in inputs]
        real = [None if v is None else self._real(i, v) for i, v in zip(inputs, given, strict=True)]
        found = method(op.builtinOptions, given, real)
        found = found if isinstance(found, list) else [found]
        return [
            value if value.dtype == np.int8 else self._rounded(int(i), value)
            for i, value in zip(op.outputs, found, strict=True)
        ]

    def _constant(self, i, values):
        tensor = self.graph.tensors[i]
        if not schema.is_constant(tensor, self.model):
            return values[i]
        data = bytes(self.model.buffers[tensor.buffer].data)
        return np.frombuffer(data, schema.dtype_of(tensor)).reshape(tensor.shape)

    def _real(self, i, value):
        tensor = self.graph.tensors[i]
        if schema.scale_of(tensor) is None:
            return value
        held, shape = tensor.quantization, [1] * value.ndim
        if len(held.scale) > 1:
            shape[held.quantizedDimension] = -1
        scale, zero = (np.reshape(one, shape) for one in (held.scale, held.zeroPoint))
        return (value - zero.astype(np.float64)) * scale.astype(np.float64)

    def _rounded(self, i, value):
        held = self.graph.tensors[i].quantization
        steps = value / float(held.scale[0])
        steps = np.trunc(steps + np.copysign(0.5, steps)) + int(held.zeroPoint[0])
        return np.clip(steps, -128, 127).astype(np.int8)

    def _conv_2d(self, o, given, real):
        kernel, strides = np.transpose(real[1], (1, 2, 3, 0)), (1, o.strideH, o.strideW, 1)
        return _ended(o, tf.nn.conv2d(real[0], kernel, strides, _padding(o)).numpy(), real[2:])

    def _depthwise_conv_2d(self, o, given, real):
        kernel, strides = np.transpose(real[1], (1, 2, 3, 0)), (1, o.strideH, o.strideW, 1)
        made = tf.nn.depthwise_conv2d(real[0], kernel, strides, _padding(o)).numpy()
        return _ended(o, made, real[2:])

    def _fully_connected(self, o, given, real):
        return _ended(o, real[0].reshape(-1, real[1].shape[1]) @ real[1].T, real[2:])

    def _concatenation(self, o, given, real):
        return np.concatenate(real, o.axis)

    def _mean(self, o, given, real):
        return real[0].mean(tuple(given[1].ravel()), keepdims=o.keepDims)

    def _reduce_max(self, o, given, real):
        return given[0].max(tuple(given[1].ravel()), keepdims=o.keepDims)

    def _max_pool_2d(self, o, given, real):
        made = tf.nn.max_pool2d(given[0].astype("float32"), *_window(o))
        return made.numpy().astype(np.int8)

    def _average_pool_2d(self, o, given, real):
        return tf.nn.avg_pool2d(real[0], *_window(o)).numpy()

    def _softmax(self, o, given, real):
        grown = np.exp(real[0] - real[0].max(-1, keepdims=True))
        return grown / grown.sum(-1, keepdims=True)

    def _strided_slice(self, o, given, real):
        masks = {"begin_mask": o.beginMask, "end_mask": o.endMask, "ellipsis_mask": o.ellipsisMask}
        masks |= {"new_axis_mask": o.newAxisMask, "shrink_axis_mask": o.shrinkAxisMask}
        return tf.strided_slice(*given, **masks).numpy()

    def _split_v(self, o, given, real):
        return [one.numpy() for one in tf.split(given[0], given[1], int(given[2].item()))]

    def _split(self, o, given, real):
        return [one.numpy() for one in tf.split(given[1], o.numSplits, int(given[0].item()))]

    def _unpack(self, o, given, real):
        return [one.numpy() for one in tf.unstack(given[0], axis=o.axis)]

    def _pad(self, o, given, real):
        # Zero is the zero point, which is that of the result, too.
        return np.pad(real[0], given[1])

    def _leaky_relu(self, o, given, real):
        return np.where(real[0] > 0, real[0], o.alpha * real[0])

    def _resize_nearest_neighbor(self, o, given, real):
        made = tf.image.resize(given[0].astype("float32"), given[1], "nearest")
        return made.numpy().astype(np.int8)

    _quantize = staticmethod(lambda o, given, real: real[0])
    _mul = staticmethod(lambda o, given, real: _ended(o, real[0] * real[1], ()))
    _add = staticmethod(lambda o, given, real: _ended(o, real[0] + real[1], ()))
    _logistic = staticmethod(lambda o, given, real: 1.0 / (1.0 + np.exp(-real[0])))
    _tanh = staticmethod(lambda o, given, real: np.tanh(real[0]))
    _relu = staticmethod(lambda o, given, real: np.maximum(real[0], 0.0))
    _reshape = staticmethod(lambda o, given, real: given[0])
    _pack = staticmethod(lambda o, given, real: np.stack(given, o.axis))
    _transpose = staticmethod(lambda o, given, real: np.transpose(given[0], given[1]))
    _reverse_v2 = staticmethod(lambda o, given, real: np.flip(given[0], tuple(given[1].ravel())))
    _slice = staticmethod(lambda o, given, real: tf.slice(*given).numpy())


def _padding(options) -> str:
    return "SAME" if options.padding == 0 else "VALID"


def _window(options) -> tuple:
    size = options.filterHeight, options.filterWidth
    return size, (options.strideH, options.strideW), _padding(options)


def _ended(options, values, bias):
    """Add a bias, where there is one, and apply the fused activation."""
    if bias and bias[0] is not None:
        values = values + bias[0]
    kind = options.fusedActivationFunction
    if kind in (_RELU, _RELU6):
        values = np.clip(values, 0.0, 6.0 if kind == _RELU6 else None)
    return values


def compare(file, x) -> dict:
    """Return how far the reference kernels are from exact arithmetic, and exact outputs.

    Args:
        file: A `TFLiteModel` with one input and a batch of 1.
        x: Examples (n, ...), real values.

    Returns:
        `"kernel_max"`: of any operation on its own inputs in the file, in steps of its result;
        `"outputs"`: of the file in exact arithmetic, as real values.
    """
    exact = Exact(file.data)
    steps = file.inputs[0].quantize(np.asarray(x))
    interpreter = Interpreter(
        model_content=file.data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    worst, outputs = 0, []
    for row in steps:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        read = {int(i) for op in exact.graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
        values = {
            i: interpreter.get_tensor(i)
            for i in read
            if not schema.is_constant(exact.graph.tensors[i], exact.model)
        }
        for op in exact.graph.operators:
            for i, due in zip(op.outputs, exact.results(op, values), strict=True):
                gap = values[int(i)].astype(int).ravel() - due.astype(int).ravel()
                worst = max(worst, int(np.abs(gap).max()))
        made = exact.run(row[None])
        outputs.append([made[int(i)] for i in exact.graph.outputs])
    joined = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
    return {
        "kernel_max": worst,
        "outputs": [
            info.dequantize(values) for info, values in zip(file.outputs, joined, strict=True)
        ],
    }
