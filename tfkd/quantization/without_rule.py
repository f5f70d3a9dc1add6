"""Layers without a rule: why, and what to do with a model that has one."""

from __future__ import annotations

from tfkd.errors import UnsupportedError, argument, raise_all
from tfkd.model import graph
from tfkd.model.layer_kinds import kind_of, takes_mask
from tfkd.translation import operations

#: Layers whose loop over time crashes the converter in every integer format.
LOOPS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "RNN")

_ATTENTION = ("MultiHeadAttention", "Attention", "AdditiveAttention")
#: Layers with a more specific reason than the missing rule.
EXPLAINED = (*LOOPS, *_ATTENTION, "Lambda")


def check(source: graph.Graph, rule_of, skip, configs) -> None:
    """Raise for what no rule can round in a model.

    Args:
        source: The graph of a tf_keras model.
        rule_of: Layer → its rule, or `None`.
        skip: Names of the layers to leave in floating point.
        configs: Names of the layers with a configuration of their own.

    Raises:
        UnsupportedError: naming every layer without a rule, and why.
    """
    raise_all(missed_masks(source), UnsupportedError, fix=no_masks(), code="recurrent-mask")
    loops, problems = False, []
    for path, layer in source.layers:
        if rule_of(layer) or layer.name in configs:
            continue
        loops = loops or is_loop(layer)
        if is_loop(layer) or layer.name not in skip:
            why = reason(kind_of(layer))
            why = f": {why}" if why else ""
            what = operations.described(layer)
            problems.append(f"layer {path!r} ({what}) has no rule for 8 bits{why}")
    problems += [
        f"layer {path!r} computes in {policy.compute_dtype} under the policy {policy.name!r}, "
        "but rounding is simulated in float32"
        for path, layer in source.layers
        if (policy := layer._dtype_policy).compute_dtype in ("float16", "bfloat16", "float64")
    ]
    raise_all(
        problems,
        UnsupportedError,
        fix=no_loops() if loops else way_out(),
        code="no-rule",
    )


def reason(kind: str | None) -> str:
    """Return why a layer class has no rule; an empty text if no reason is known."""
    if kind in LOOPS:
        return (
            f"its loop over time has no integer form; once it is unrolled, {argument('skip')} and "
            "post-training int8 work"
        )
    if kind in _ATTENTION:
        return (
            "it multiplies activations, which post-training int8 rounds well enough (in a small "
            "model the error was 2.3 % of the outputs' spread after to_tflite(model, 'int8', data) "
            f"and 1.6 % with {argument('skip')})"
        )
    if kind == "Lambda":
        return (
            "its Python code can't be rewritten: call keras.ops on the tensor instead, which has "
            "rules, or use a layer of the table"
        )
    return ""


def no_loops() -> str:
    """Return what to do with a model that has `LOOPS`."""
    return (
        "Build it with unroll=True, which takes the same weights, and leave it in float with "
        f"{argument('skip', of='quantize_aware')} or export it with "
        f"{argument('representative_data', like='...', of='to_tflite')}; or export to 'float32', "
        "'float16' or 'dynamic', which support the loop."
    )


def way_out() -> str:
    """Return what to do with layers that have no rule."""
    return (
        "Replace these layers, leave them in floating point with "
        f"{argument('skip', like='[...]')}, or export without quantization-aware training: "
        f"{argument('representative_data', like='...', of='to_tflite')}."
    )


def missed_masks(source: graph.Graph) -> list[str]:
    """Return a line for each layer and output whose mask would be lost."""
    readers = [
        f"layer {call.name!r} ({type(call.layer).__name__}) reads the mask of its input"
        for call in source.calls
        if takes_mask(call.layer)
        and any(tensor.masked is not False for tensor in call.inputs)
        and not _normalizes_alike(call)
    ]
    return readers + [
        f"the output {tensor.name!r} has a mask, with which losses and metrics ignore elements"
        for tensor in source.output_list
        if tensor.masked is not False
    ]


def _normalizes_alike(call: graph.Call) -> bool:
    """Tell whether a call is a batch normalization with fixed statistics, which ignores a mask."""
    is_fixed = call.kwargs.get("training") is False or not call.layer.trainable
    return kind_of(call.layer) == "BatchNormalization" and is_fixed


def no_masks() -> str:
    """Return what to do with a model whose layers read masks."""
    return (
        "Integer files carry no masks (mask_zero=True, Masking), nor do the layers that "
        f"{argument('skip', alone=True)} leaves in float: train with sequences of one length and "
        "without the mask (sample_weight can ignore steps of an output), or export to 'float32', "
        "'float16' or 'dynamic', which carry it."
    )


def is_loop(layer) -> bool:
    """Tell whether a layer is one of `LOOPS`, and not unrolled."""
    return kind_of(layer) in LOOPS and not getattr(layer, "unroll", False)
