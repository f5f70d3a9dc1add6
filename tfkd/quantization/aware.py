"""`quantize_aware`: a model whose forward pass rounds as the int8 file will."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfkd import translation
from tfkd.errors import InputError, argument, raise_all
from tfkd.model import backends, graph, reports
from tfkd.model.layer_kinds import QUANTIZING, kind_of, remade
from tfkd.quantization import registry
from tfkd.quantization.report import QuantizationReport
from tfkd.quantization.rewriting import Rewriter
from tfkd.translation.copies import copy_of

if TYPE_CHECKING:
    import tf_keras

    from tfkd._typing import AnyModel, Arrays, Names


def quantize_aware(
    model: AnyModel,
    *,
    skip: Names = (),
    per_layer: Mapping[str, Any] | None = None,
    preserve: Literal["sparsity", "clusters"] | None = None,
    freeze_batch_norm: bool = False,
    bits: Literal[4, 8, "auto"] | Mapping[str, Literal[4, 8]] = 8,
    target: Any = None,
    data: Arrays | None = None,
) -> tf_keras.Model:
    """Return a copy of a model that trains with 8-bit rounding in its forward pass.

    Choose it when post-training int8 loses accuracy: fake-quantization of weights and
    activations (Jacob et al. 2018, https://arxiv.org/abs/1712.05877) with
    tensorflow-model-optimization's wrappers, and tfkd's own scheme, which covers what tfmot's
    default scheme refuses or leaves float (`tfkd.quantization.table`). The result is a student like
    any other, `Distiller(quantize_aware(student), teacher)`, and `to_tflite(qat, "int8")` turns it
    into a file that computes what it does. `strip_quantization` gives the trained weights back to
    the float model.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not
            changed. A Keras 3 model is translated first (see `translate`).
        skip: Names or paths (`backbone/conv1`) of layers to leave in floating point, or regular
            expressions that match a whole name or path.
        per_layer: Name, path or regular expression likewise → a
            `tfmot.quantization.keras.QuantizeConfig` to use for these layers instead of the table's
            rule.
        preserve: `"sparsity"` keeps zero weights at zero (after pruning), `"clusters"` keeps equal
            weights equal and zeros at zero (after clustering, also of pruned weights). tfmot calls
            this collaborative optimization; its own schemes support only its default layers.
        freeze_batch_norm: Whether batch normalization uses its moving statistics from the
            start and trains none of its weights.
        bits: Bits of the weights in the file: 8 or 4, or name, path or regular expression of layers
            → such a number; activations have 8. Two weights of 4 bits take a byte. Dense layers
            then have one scale, the others one per channel. Layers for which no engine has a kernel
            with 4 bits keep 8, and `describe` names them. `"auto"` uses the choice of
            `tfkd.choose_bits`.
        target: For `"auto"`, a `tfkd.Target` with the bytes of the file.
        data: For `"auto"`, 100 to 500 examples as for `calibrate`.

    Returns:
        A `tf_keras.Model`, uncompiled, with the weights of `model`. Train it for at least an epoch:
        it learns the activation ranges from the batches it sees, and before the first batch only
        the weights are rounded.

    Raises:
        UnsupportedError: naming every layer that has no rule, and why.
        InputError: for a pattern that matches no layer, a wrong `preserve` or `bits`, or a
            `target` that is too small.

    Example:
        >>> import keras, tfkd
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
        >>> qat = tfkd.quantize_aware(student)
        >>> qat.compile("adam", "mse")
    """
    backends.tfmot()
    if preserve not in (None, "sparsity", "clusters"):
        raise InputError(f"preserve must be 'sparsity', 'clusters' or None, got {preserve!r}.")
    if bits == "auto":
        bits = _chosen_bits(model, data, target, skip)
    elif target is not None or data is not None:
        raise InputError(f"target and data are only for {argument('bits', 'auto')}.")
    other = translation.other_precision(model)
    rewriter, _ = rewriter_of(model, skip, per_layer, preserve, bits=bits)
    if other:
        warnings.warn(other, stacklevel=2)
    quantized = rewriter.run()
    if isinstance(bits, Mapping):
        wide = [name for name, width in rewriter.widths.items() if width == 8]
        if wide:
            warnings.warn(
                f"The weights of {', '.join(map(repr, wide))} keep 8 bits: there is no kernel for "
                "4 that gives the same numbers; describe(...) shows every layer.",
                stacklevel=2,
            )
    for wrapper in quantized.layers:
        for weight, quantizer, variables in getattr(wrapper, "_weight_vars", ()):
            if isinstance(quantizer, rewriter.parts.WeightRounding):
                quantizer.fix(weight, variables)
    for layer in quantized.layers:
        if freeze_batch_norm and kind_of(layer) == "BatchNormalization":
            layer.trainable = False
    quantized._trainable = model.trainable  # of the model only; its layers have their own
    order = [layer.name for _, layer in rewriter.source.layers]
    reports.keep(quantized, QuantizationReport(tuple(rewriter.report[name] for name in order)))
    return quantized


def describe(qat: tf_keras.Model) -> QuantizationReport:
    """Report what `quantize_aware` did with each layer of a model.

    Args:
        qat: A model that `quantize_aware` returned in this process: the report is not saved.

    Returns:
        A `QuantizationReport`; print it for a table.

    Raises:
        InputError: if the model does not come from `quantize_aware`.
    """
    found = reports.find(qat, QuantizationReport)
    if found is None:
        raise InputError("The model does not come from quantize_aware in this process.")
    return found


def strip_quantization(qat: tf_keras.Model, model: AnyModel) -> AnyModel:
    """Return a copy of the float model with the weights from quantization-aware training.

    Choose it to continue with the student where QAT left it: prune it, distil it further, or export
    it as float. The weights are the trained floats, before rounding.

    Args:
        qat: A model made by `quantize_aware(model)`, trained since, or loaded again.
        model: The float model it was made from, Keras 3 or tf_keras; it is not changed.

    Returns:
        A model of the same class, structure and Keras as `model`.

    Raises:
        InputError: if `qat` was not made from such a model.
    """
    from tfkd.quantization import quantizers

    held, floats = {}, {}
    for layer in qat.layers:
        # The layer that returns an output has its name; the layer with the weights keeps its own.
        if isinstance(layer, quantizers.LeftFloat):
            floats[layer.layer.name] = _all_weights(layer.layer)
        elif layer.weights and kind_of(layer) != "QuantizeLayer":
            inner = layer.layer if _is_wrapper(layer) else layer
            held[inner.name] = _all_weights(layer)
    rewriter, names = rewriter_of(model, (), None, None, floats=floats)
    rewriter.run()
    missing, weights = [], {}
    for name, origin in rewriter.origins.items():
        if name in floats:
            weights[name] = floats[name]
            continue
        missing += [wanted for wanted in origin.layers if wanted not in held]
        if not missing:
            weights[name] = origin.back(*[held[wanted] for wanted in origin.layers])
    if missing:
        raise InputError(
            f"The quantize-aware model has no layer {missing[0]!r}: it was "
            "not made from this model."
        )
    stripped = copy_of(model)
    layers, copies = (graph.walk(one).layers for one in (model, stripped))
    for (_, layer), (path, copy) in zip(layers, copies, strict=True):
        trained = weights.get(names.get(id(layer)))
        if trained is None:
            continue
        places = backends.weights_in_order(copy)
        if [w.shape for w in trained] != [tuple(w.shape) for w in places]:
            raise InputError(
                f"The weights of {path!r} have different shapes: the quantize-aware model was not "
                "made from this model."
            )
        for place, value in zip(places, trained, strict=True):
            place.assign(np.asarray(value, getattr(place.dtype, "as_numpy_dtype", place.dtype)))
    return stripped


def _is_wrapper(layer) -> bool:
    return kind_of(layer) in QUANTIZING


def _all_weights(layer) -> list[np.ndarray]:
    """Return a layer's own weights in the order of `weights_in_order`, also inside a wrapper."""
    layer = unwrapped(layer) if _is_wrapper(layer) else layer
    return [variable.numpy() for variable in backends.weights_in_order(layer)]


def unwrapped(wrapper, rounded: bool = False):
    """Return a layer like the one in a wrapper, with its weights.

    Args:
        wrapper: A tfmot wrapper whose configuration is tfkd's `RoundedWeights`.
        rounded: Whether to take the weights of the forward pass, on the int8 grid.
    """
    from tfkd.quantization import quantizers

    inner = wrapper.layer
    # The inner name may be the name of an output.
    copy = remade(inner, name=wrapper.name)
    copy.build(wrapper.get_input_shape_at(0))
    quantized = {id(variable): (q, held) for variable, q, held in wrapper._weight_vars}
    values = {}
    for (path, _, _), (variable, quantizer, held) in zip(
        wrapper.quantize_config.weights, wrapper._weight_vars, strict=True
    ):
        value = quantizer(variable, False, weights=held) if rounded else variable
        target = quantizers._owner(copy, path)[2]
        values[id(target)] = np.asarray(value)
    # tfmot replaces the layer's quantized variables by tensors: the others remain.
    others = iter([w for w in inner.weights if id(w) not in quantized])
    copy.set_weights(
        [values[id(w)] if id(w) in values else np.asarray(next(others)) for w in copy.weights]
    )
    return copy


def _chosen_bits(model, data, target, skip) -> dict[str, int]:
    from tfkd import choose_bits

    if data is None or target is None:
        raise InputError(
            f"{argument('bits', 'auto')} needs {argument('target')} with the bytes of the file and "
            f"{argument('data')} with examples to try layers on."
        )
    return choose_bits(model, data, target, skip=skip).bits


def _bits_by_name(names, bits) -> dict[str, int]:
    """Return the bits of the weights of each named layer, or of all layers if none was named."""
    by_pattern = bits if isinstance(bits, Mapping) else {"every layer": bits}
    raise_all(
        f"{argument('bits')} takes 4 or 8, got {width!r} for {pattern!r}"
        for pattern, width in by_pattern.items()
        if isinstance(width, bool) or width not in (4, 8)
    )
    if not isinstance(bits, Mapping):
        return dict.fromkeys(names, bits)
    return {
        name: width
        for pattern, width in bits.items()
        for name in graph.matching(names, [pattern], "bits")
    }


def rewriter_of(model, skip, per_layer, preserve, floats=None, bits=8):
    """Return the `Rewriter` of a model, and its layers' names by the ids of `model`'s layers.

    With the names of `floats`, it skips these layers, and all that have no rule.
    """
    from tfkd.quantization import quantizers

    translated, names_of = translation.counterparts(model, float32=True)
    source = graph.walk(translated)
    translation.check_frozen(model)
    names = translation.aliases(model, source, names_of)
    skipped = graph.matching(names, skip, "skip")
    configs = {}
    for pattern, config in (per_layer or {}).items():
        if not isinstance(config, backends.tfmot().quantization.keras.QuantizeConfig):
            raise InputError(
                f"per_layer[{pattern!r}] must be a tfmot.quantization.keras.QuantizeConfig, got "
                f"{type(config).__name__}; to leave layers in floating point use "
                f"{argument('skip')}."
            )
        configs.update(dict.fromkeys(graph.matching(names, [pattern], "per_layer"), config))
    if floats is not None:
        every = [layer for _, layer in source.layers]
        skipped = [la.name for la in every if la.name in floats or registry.rule_of(la) is None]
    rewriter = Rewriter(
        source,
        registry.rule_of,
        skip=skipped,
        configs=configs,
        preserve=preserve,
        bits=_bits_by_name(names, bits),
        wrap=quantizers.QuantizeWrapperV2,
    )
    return rewriter, names_of
