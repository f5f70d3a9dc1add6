"""Logits, probabilities or values: what a model's outputs are by its last layers."""

from __future__ import annotations

from tfkd import graph
from tfkd.errors import UnsupportedError


def output_activations(model) -> list[str | None]:
    """Tell what each output of a model is by its last layer.

    Returns:
        Per output `"softmax"`, `"sigmoid"` or `"linear"`; `None` where it can't be told
        (another activation, a custom layer, a subclassed model).
    """
    try:
        source = graph.walk(model)
    except UnsupportedError:
        return [None] * len(getattr(model, "outputs", None) or [None])
    return [activation_behind(source, tensor) for tensor in source.output_list]


_WRAPPERS = ("QuantizeWrapperV2", "PruneLowMagnitude", "ClusterWeights", "ClusterWeightsRNN")
_WRAPPERS += ("TimeDistributed",)
_SHAPE_ONLY = frozenset({"Reshape", "Flatten", "Dropout", "Permute", "QuantizeLayer", "Identity"})
# Layers whose outputs are free values unless an activation follows.
_LINEAR = frozenset(
    {
        "Dense",
        "EinsumDense",
        "Conv1D",
        "Conv2D",
        "Add",
        "Average",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "BatchNormalization",
        "Rescaling",
    }
)


def activation_behind(source: graph.Graph, tensor: graph.Tensor) -> str | None:
    """Return the activation of one output of a graph, as `output_activations` does."""
    call = source.producer(tensor)
    if call is None:
        return None
    layer = call.layer
    while type(layer).__name__ in _WRAPPERS:
        layer = layer.layer
    kind = type(layer).__name__
    if kind in _SHAPE_ONLY:
        return activation_behind(source, call.inputs[0])
    if kind == "Softmax":
        return "softmax"
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # tfmot's QuantizeAwareActivation
    name = getattr(activation, "__name__", None)
    if kind == "Activation" and name == "linear":
        return activation_behind(source, call.inputs[0])
    if name in ("softmax", "sigmoid") or (name in (None, "linear") and kind in _LINEAR):
        return name or "linear"
    return None
