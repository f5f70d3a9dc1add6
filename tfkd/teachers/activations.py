"""Logits or probabilities: what a model's outputs are by its last layers."""

from __future__ import annotations

from tfkd import graph
from tfkd.errors import InputError, UnsupportedError


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
    return [_activation_behind(source, tensor) for tensor in source.output_list]


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


def _activation_behind(source: graph.Graph, tensor: graph.Tensor) -> str | None:
    call = source.producer(tensor)
    if call is None:
        return None
    layer = call.layer
    while type(layer).__name__ in ("QuantizeWrapperV2", "PruneLowMagnitude", "TimeDistributed"):
        layer = layer.layer
    kind = type(layer).__name__
    if kind in _SHAPE_ONLY:
        return _activation_behind(source, call.inputs[0])
    if kind == "Softmax":
        return "softmax"
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # tfmot's QuantizeAwareActivation
    name = getattr(activation, "__name__", None)
    if kind == "Activation" and name == "linear":
        return _activation_behind(source, call.inputs[0])
    if name in ("softmax", "sigmoid") or (name in (None, "linear") and kind in _LINEAR):
        return name or "linear"
    return None


def readable_activation(
    role: str, name: str, seen: str | None, task: str, from_logits: bool | None
) -> str:
    """Return how an output becomes logits for a task, or raise.

    Args:
        role: `"teacher"` or `"student"`, for the message.
        name: What to call it in the message.
        seen: What `output_activations` saw.
        task: One of `losses.TASKS`.
        from_logits: What the caller says, or `None`.

    Raises:
        InputError: where it can't be told, or the caller contradicts what was seen.
    """
    if task == "regression":
        return "linear"
    squash = {"categorical": "softmax", "binary": "sigmoid"}[task]
    argument = "from_logits" if role == "student" else "teacher_from_logits"
    if from_logits is None:
        if seen in ("linear", squash):
            return seen
        raise InputError(
            f"Whether the {role} {name!r} gives logits or probabilities can't be told from "
            f"its last layer ({seen or 'unknown'} output, {task} task); say {argument}=True for "
            f"logits or {argument}=False for {squash} probabilities."
        )
    said = "linear" if from_logits else squash
    if seen not in (None, said):
        raise InputError(
            f"{argument}={from_logits} contradicts the {role} {name!r}, whose output is "
            f"{seen}; leave {argument} out."
        )
    return said
