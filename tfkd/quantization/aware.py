"""`quantize_aware`: a model whose forward pass rounds as the int8 file will."""

from __future__ import annotations

from tfkd import backends, graph, translation
from tfkd.errors import UnsupportedError, raise_all

_WAY_OUT = (
    "Replace these layers, or export without quantization-aware training: "
    "to_tflite(model, 'int8', representative_data=...)."
)


def quantize_aware(model):
    """Return a copy of a model that trains with 8-bit rounding in its forward pass.

    Choose it when post-training int8 loses accuracy: fake-quantization of weights and
    activations (Jacob et al. 2018, https://arxiv.org/abs/1712.05877) by
    tensorflow-model-optimization's default 8-bit scheme. The result is a student like any
    other, `Distiller(quantize_aware(student), teacher)`, and converts to an int8 file
    without representative data.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not
            changed. A Keras 3 model is translated first (see `translate`).

    Returns:
        A `tf_keras.Model`, uncompiled, with the weights of `model`. Train it for at least
        an epoch: the activation ranges are learned from the batches it sees.

    Raises:
        UnsupportedError: naming every layer that tfmot refuses, or whose weights it would
            leave float without a word.

    Example:
        >>> import keras, tfkd
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
        >>> qat = tfkd.quantize_aware(student)
        >>> qat.compile("adam", "mse")
    """
    tfmot = backends.tfmot()
    float_model = translation.translate(model)
    _check_supported(float_model)
    try:
        quantized = tfmot.quantization.keras.quantize_model(float_model)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"tfmot refused the model ({str(error).strip().splitlines()[0]}). {_WAY_OUT}"
        ) from error
    raise_all(
        [
            f"layer {wrapper.layer.name!r} ({type(wrapper.layer).__name__}) would keep its weights "
            "in floating point"
            for wrapper in quantized.layers
            if _keeps_float_weights(wrapper)
        ],
        UnsupportedError,
        fix="tfmot does so when an activation layer follows without batch normalization between; "
        "give the layer activation='relu' instead.",
    )
    return quantized


# What tfmot's layout transforms replace before its registry is asked.
_REWRITTEN = frozenset({"SeparableConv1D", "SeparableConv2D", "BatchNormalization"})
_BEFORE_BATCH_NORM = frozenset(
    {
        "Conv2D",
        "DepthwiseConv2D",
        "Dense",
        "SeparableConv2D",
        "SeparableConv1D",
        "Conv2DTranspose",
        "Reshape",
    }
)


def _check_supported(model) -> None:
    """Raise one error that names every layer tfmot's default scheme has no rule for."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry_module,
    )

    registry = registry_module.Default8BitQuantizeRegistry()
    source = graph.walk(model)
    problems = []
    for call in source.calls:
        kind = type(call.layer).__name__
        if kind == "BatchNormalization":
            before = source.producer(call.inputs[0])
            if before is None or type(before.layer).__name__ not in _BEFORE_BATCH_NORM:
                problems.append(f"layer {call.name!r} (BatchNormalization not after a convolution)")
        elif kind not in _REWRITTEN and not registry.supports(call.layer):
            problems.append(f"layer {call.name!r} ({kind})")
    if problems:
        problems[0] = f"tfmot's 8-bit scheme has no rule for {problems[0]}"
    raise_all(problems, UnsupportedError, fix=_WAY_OUT)


def _keeps_float_weights(wrapper) -> bool:
    inner = getattr(wrapper, "layer", None)
    has_kernel = any(hasattr(inner, name) for name in ("kernel", "depthwise_kernel"))
    return has_kernel and not getattr(wrapper, "_weight_vars", None)
