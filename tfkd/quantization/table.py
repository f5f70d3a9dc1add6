"""The table: how each layer class is trained with 8-bit rounding.

`RULES` maps a tf_keras class name to a `Rule`; docs/layers.md prints the table from here, and so
does `python -m tfkd.quantization.table`.
"""

from __future__ import annotations

from collections.abc import Callable

from tfkd.model.layer_kinds import kind_of
from tfkd.quantization.rewriting import Rule
from tfkd.quantization.rules import (
    activations,
    arithmetic,
    kernels,
    moves,
    normalization,
    recurrent,
)
from tfkd.quantization.rules.activations import ACTIVATIONS
from tfkd.quantization.without_rule import EXPLAINED, reason
from tfkd.translation import operations

_PER_CHANNEL = "kernel per channel, output after fused batch normalization and ReLU"
_ROUNDED = "output rounded; ReLU after it fused"

RULES: dict[str, Rule] = {
    "Conv1D": Rule(_PER_CHANNEL, kernels.kernel("kernel", (-1,), (-1,))),
    "Conv2D": Rule(_PER_CHANNEL, kernels.kernel("kernel", (-1,), (-1,))),
    "Dense": Rule(_PER_CHANNEL, kernels.kernel("kernel", (-1,), ())),
    "DepthwiseConv1D": Rule(_PER_CHANNEL, kernels.kernel("depthwise_kernel", (1, 2), (1, 2))),
    "DepthwiseConv2D": Rule(_PER_CHANNEL, kernels.kernel("depthwise_kernel", (2, 3), (2, 3))),
    "Conv2DTranspose": Rule(_PER_CHANNEL, kernels.kernel("kernel", (2,))),
    "Conv1DTranspose": Rule(_PER_CHANNEL, kernels.kernel("kernel", (1,))),
    "SeparableConv1D": Rule(
        "rewritten: depthwise, then pointwise, each rounded", kernels.separable
    ),
    "SeparableConv2D": Rule(
        "rewritten: depthwise, then pointwise, each rounded", kernels.separable
    ),
    "TimeDistributed": Rule(
        "of a Dense: rewritten as Dense over the last axis", kernels.time_distributed
    ),
    "Embedding": Rule("embeddings per tensor (no masks)", kernels.embedding),
    "PReLU": Rule("alpha per tensor, output rounded", kernels.prelu),
    "LSTM": Rule("kernels per gate; state and gates calibrated at export", recurrent.recurrent),
    "GRU": Rule("kernels per channel; state and gates calibrated at export", recurrent.recurrent),
    "SimpleRNN": Rule("kernels per channel; state calibrated at export", recurrent.recurrent),
    "Bidirectional": Rule("of LSTM, GRU, SimpleRNN: as these", recurrent.recurrent),
    "BatchNormalization": Rule(
        "folded into the layer before it; elsewhere after a depthwise 1x1 convolution of ones",
        normalization.batch_norm,
    ),
    "LayerNormalization": Rule(
        "rewritten: mean, variance, inverse root, products, each rounded", normalization.layer_norm
    ),
    "GroupNormalization": Rule(
        "rewritten: as LayerNormalization, over groups", normalization.group_norm
    ),
    "LayerScale": Rule("rewritten: depthwise 1x1 convolution", normalization.layer_scale),
    "Rescaling": Rule(
        "rewritten: multiply, add, or depthwise 1x1 convolution", normalization.rescaling
    ),
    "Normalization": Rule(
        "rewritten: depthwise 1x1 convolution, fixed weights", normalization.normalization
    ),
    "Add": Rule(f"pairwise; {_ROUNDED}", arithmetic.chain("Add")),
    "Subtract": Rule(_ROUNDED, arithmetic.chain("Subtract")),
    "Multiply": Rule(f"pairwise; {_ROUNDED}", arithmetic.chain("Multiply")),
    "Average": Rule("rewritten: additions and one multiplication", arithmetic.average),
    "Maximum": Rule("rewritten: a + relu(b - a)", arithmetic.extremum(+1)),
    "Minimum": Rule("rewritten: a - relu(a - b)", arithmetic.extremum(-1)),
    "Concatenate": Rule(
        "inputs share the output's range where only it reads them", arithmetic.concatenate
    ),
    "Dot": Rule("output rounded", arithmetic.dot),
    "Activation": Rule("see the activations", activations.activation_layer),
    "ReLU": Rule(activations.FUSED, activations.relu_layer),
    "LeakyReLU": Rule(
        "output rounded",
        lambda net, layer, x: activations.leaky(float(layer.alpha))(net, layer.name, x),
    ),
    "ELU": Rule(
        "rewritten with exp; the converter keeps ELU in float",
        lambda net, layer, x: activations.elu(net, layer.name, x, alpha=float(layer.alpha)),
    ),
    "Softmax": Rule("output in [0, 1) by 1/256", activations.softmax_layer),
    "UpSampling1D": Rule("rewritten as UpSampling2D; moves values", moves.repeats),
    "RepeatVector": Rule("rewritten as UpSampling2D; moves values", moves.repeats),
    **{kind: Rule("moves values", moves.moves) for kind in moves.MOVING},
    **{kind: Rule("in the scale of its input", moves.pools) for kind in moves.POOLING},
    **{
        kind: Rule("output rounded", moves.global_average)
        for kind in ("GlobalAveragePooling1D", "GlobalAveragePooling2D")
    },
    **{kind: Rule("acts in training only", moves.only_in_training) for kind in moves.IN_TRAINING},
    **{
        kind: Rule("acts in training only, before the input is rounded", moves.before_rounding)
        for kind in moves.AUGMENTING
    },
}


#: Operations that are not layers and don't become layers, by their names in `keras.ops`.
OPERATIONS: dict[str, Rule] = {
    **{name: Rule("moves values", moves.moving_operation) for name in moves.MOVING_OPERATIONS},
    "copy": Rule("nothing", moves.copies),
    "flip": Rule("rewritten as a slice of negative strides", moves.flip),
    "cast": Rule("of bytes to float: nothing", moves.cast),
    "stack": Rule("as Concatenate", arithmetic.join_operation),
    "matmul": Rule("output rounded", arithmetic.operation),
    "mean": Rule("output rounded", arithmetic.operation),
    "absolute": Rule("output rounded", arithmetic.operation),
    "argmax": Rule("places of rounded values", arithmetic.operation),
    "argmin": Rule("places of rounded values", arithmetic.operation),
}


def rule_of(layer) -> Callable | None:
    """Return the function for a tf_keras layer or operation, or `None` if the table has no rule."""
    if operations.is_operation(layer):
        rule = OPERATIONS.get(operations.name_of(layer))
        return rule and rule.apply
    rule = RULES.get(kind_of(layer) or "")
    return rule and rule.apply


def markdown() -> str:
    """Return the tables as Markdown, for the documentation."""
    lines = ["| layer | in 8 bits |", "|---|---|"]
    lines += [f"| {kind} | {rule.how} |" for kind, rule in sorted(RULES.items())]
    lines += ["", "| operation | in 8 bits |", "|---|---|"]
    lines += [f"| `{name}` | {rule.how} |" for name, rule in sorted(OPERATIONS.items())]
    lines += ["", "| activation | in 8 bits |", "|---|---|"]
    lines += [f"| {kind} | {rule.how} |" for kind, rule in sorted(ACTIVATIONS.items())]
    lines += ["", "| layer without a rule | why |", "|---|---|"]
    lines += [f"| {kind} | {reason(kind)} |" for kind in sorted(EXPLAINED)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
