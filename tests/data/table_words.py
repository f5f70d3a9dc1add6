"""The words of the quantization table about an int8 file, as a test on its operators.

The table is written by hand; a file is what the converter made of the rules. `disagreements`
holds the one against the other.
"""

import dataclasses

import numpy as np

from tfkd.export.tflite import schema

#: Operators that put numbers elsewhere, or take the largest, and round nothing.
MOVE = {
    *("RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MAX_POOL_2D", "STRIDED_SLICE", "SLICE", "SPLIT"),
    *("SPLIT_V", "GATHER", "UNPACK", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"),
    *("REDUCE_MAX", "REDUCE_MIN", "EXPAND_DIMS", "SQUEEZE"),
}
KERNELS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
RELUS = {"RELU", "RELU6", "RELU_0_TO_1"}


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator: its name, and the scales of what it reads and makes.

    Attributes:
        name: In LiteRT's schema.
        read: Scales of each quantized activation that it reads.
        weights: Scales of each quantized constant.
        made: Scale and zero point of each quantized result.
        behind: Names of the operators that made what it reads.
    """

    name: str
    read: tuple
    weights: tuple
    made: tuple
    behind: tuple

    @property
    def keeps_scale(self):
        """Whether all that it makes has the scale of all that it reads."""
        scales = [*self.read, *(scale for scale, _ in self.made)]
        return len(scales) > 1 and np.allclose(scales, scales[0], rtol=1e-6)


def operators(file):
    """Return the operators of a file's first subgraph."""
    model = schema.parse(file.data)
    graph, names = model.subgraphs[0], schema.op_names(model)
    found, makers = [], {}
    for op in graph.operators:
        read, weights, made = [], [], []
        behind = tuple(makers[i] for i in op.inputs if i in makers)
        for i in op.inputs:
            tensor = graph.tensors[i] if i >= 0 else None
            if tensor is None or schema.scale_of(tensor) is None:
                continue
            if schema.is_constant(tensor, model):
                weights.append(tuple(tensor.quantization.scale))
            else:
                read.append(schema.scale_of(tensor))
        for tensor in (graph.tensors[i] for i in op.outputs):
            if schema.scale_of(tensor) is not None:
                made.append((schema.scale_of(tensor), int(tensor.quantization.zeroPoint[0])))
        name = names[op.opcodeIndex]
        makers |= dict.fromkeys(op.outputs.tolist(), name)
        found.append(Operator(name, tuple(read), tuple(weights), tuple(made), behind))
    return found


def _has(*names):
    return lambda ops: set(names) <= {op.name for op in ops}


def _has_one_of(*names):
    return lambda ops: bool(set(names) & {op.name for op in ops})


def _has_none_of(*names):
    return lambda ops: not set(names) & {op.name for op in ops}


def _keep(*names):
    def check(ops):
        there = [op for op in ops if op.name in names and op.read]
        return bool(there) and all(op.keeps_scale for op in there)

    return check


def _makes(scale, zero_point):
    return lambda ops: any((scale, zero_point) in op.made for op in ops)


def _per_channel(ops):
    kernels = [op for op in ops if op.name in KERNELS and op.weights]
    return bool(kernels) and all(len(op.weights[0]) > 1 for op in kernels)


def _per_tensor(name):
    return lambda ops: (
        all(len(op.weights[0]) == 1 for op in ops if op.name == name)
        and any(op.name == name for op in ops)
    )


def _fused(ops):
    """Tell whether no ReLU comes after an operator that could have done it."""
    fusing = {*KERNELS, "ADD", "SUB", "MUL"}
    return not any(op.name in RELUS and fusing & set(op.behind) for op in ops)


def _rounds(ops):
    return any(op.made and op.name not in MOVE and not op.keeps_scale for op in ops)


#: Words of the table → what they say of the operators of a file with such a layer.
WORDS = {
    "moves values": _keep(*MOVE),
    "in the scale of its input": _keep("AVERAGE_POOL_2D"),
    "inputs share the output's range": _keep("CONCATENATION"),
    "as Concatenate": _keep("PACK", "CONCATENATION"),
    "output rounded": _rounds,
    "each rounded": _rounds,
    "kernel per channel": _per_channel,
    "embeddings per tensor": _per_tensor("GATHER"),
    "alpha per tensor": _per_tensor("PRELU"),
    "acts in training only": _has_none_of("RANDOM_UNIFORM", "BUCKETIZE", "SELECT_V2", "GREATER"),
    "fused into the operation before it": _fused,
    "ReLU after it fused": _fused,
    "folded into the layer before it": _has_none_of("MUL", "ADD", "SUB", "RSQRT", "DIV"),
    "additions and one multiplication": lambda ops: (
        [op.name for op in ops if op.name in ("ADD", "MUL", "DIV")] == ["ADD", "ADD", "MUL"]
    ),
    "a + relu(b - a)": _has("SUB", "ADD"),
    "a - relu(a - b)": lambda ops: [op.name for op in ops].count("SUB") == 2,
    "rewritten with exp": _has("EXP"),
    "with exp and log": _has("EXP", "LOG"),
    "with exp, log and tanh": _has("EXP", "LOG", "TANH"),
    "sigmoid and product": _has("LOGISTIC", "MUL"),
    "HARD_SWISH": _has("HARD_SWISH"),
    "add 3, ReLU6, divide by 6": _has("ADD", "MUL"),
    "in [0, 1) by 1/256": _makes(1 / 256, -128),
    "in [-1, 1) by 1/128": _makes(1 / 128, 0),
    "mean, variance, inverse root, products": _has("MEAN", "RSQRT", "MUL"),
    "as LayerNormalization": _has("MEAN", "RSQRT", "MUL"),
    "depthwise, then pointwise": _has("DEPTHWISE_CONV_2D", "CONV_2D"),
    "rewritten: depthwise 1x1 convolution": _has("DEPTHWISE_CONV_2D"),
    "multiply, add, or depthwise 1x1 convolution": _has_one_of("MUL", "ADD", "DEPTHWISE_CONV_2D"),
    "rewritten as UpSampling2D": _has("RESIZE_NEAREST_NEIGHBOR"),
    "Dense over the last axis": _has("FULLY_CONNECTED"),
    "slice of negative strides": lambda ops: (
        _has("STRIDED_SLICE")(ops) and _has_none_of("REVERSE_V2")(ops)
    ),
    "of bytes to float: nothing": _has_none_of("CAST"),
}


def disagreements(how, file):
    """Return the words in a row of the table that are not true of a file."""
    ops = operators(file)
    return [words for words, is_true in WORDS.items() if words in how and not is_true(ops)]
