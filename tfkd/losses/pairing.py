"""Choose the layers of feature losses by the shapes of their outputs."""

from __future__ import annotations

import math
from typing import Any, Literal

from tfkd.errors import InputError
from tfkd.losses.features import FeatureLoss, Hint
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import inner, kind_of

# Prefixes of the class names of layers.
_NOISE = ("Dropout", "SpatialDropout", "Gaussian", "AlphaDropout", "DropPath", "StochasticDepth")
_ARRANGING = ("Reshape", "Permute", "Identity", "ZeroPadding", "Cropping", "QuantizeLayer")
_PREPARING = ("Rescaling", "Normalization", "Random", "Resizing", "CenterCrop")
_NORMALIZING = ("BatchNormalization", "LayerNormalization", "GroupNormalization")
_LINEAR = ("Conv", "Dense", "DepthwiseConv", "SeparableConv", "EinsumDense")
_AFTER_HEAD = (*_ARRANGING, "Activation", "Softmax", "Sigmoid", "UpSampling", "Resizing")


def pair_layers(
    student: Any,
    teacher: Any,
    loss: type[FeatureLoss] = Hint,
    weight: float | Literal["auto"] = "auto",
    **arguments: Any,
) -> list[FeatureLoss]:
    """Pair the last layer of each resolution in the student with that in the teacher.

    A resolution is the shape between batch and channels: height and width of an image, steps of a
    sequence (a free number of steps equals another). For each resolution that both models have, the
    function takes the last layer in the order of the graph, and prefers one after an activation to
    the convolution before it. It leaves out outputs and the layers that compute them (the soft loss
    compares these), layers that are called several times, dropout, and layers before the first
    weights. Names play no part.

    Args:
        student: A Keras 3 or tf_keras model with a graph.
        teacher: Another, of any flavour.
        loss: Class of the losses. Defaults to `Hint`.
        weight: Weight of each loss. Defaults to `"auto"` (see `tfkd.losses.balance`).
        **arguments: Further arguments of the class, such as `temperature`.

    Returns:
        One loss per resolution, in the student's order: what `Distiller(features=)` takes.
        The list prints the names of the layers.

    Raises:
        InputError: if an argument is no model or not built, or if the models have no resolution in
            common; the message lists their resolutions.
        UnsupportedError: if a model has no graph.

    Example:
        >>> import keras, tfkd
        >>> def net(width, name):
        ...     return keras.Sequential([
        ...         keras.Input((8, 8, 1)), keras.layers.Conv2D(width, 3, padding="same"),
        ...         keras.layers.ReLU(name=name), keras.layers.Flatten(), keras.layers.Dense(3)])
        >>> tfkd.losses.pair_layers(net(2, "small"), net(9, "large"))
        [Hint(student_layer='small', teacher_layer='large', weight='auto')]
    """
    for role, model in (("student", student), ("teacher", teacher)):
        if backends.flavour(model) is None:
            raise InputError(
                f"Layers are paired between two Keras models; the {role} is "
                f"{type(model).__name__}. Load it first, or name the layers."
            )
    ours, theirs = _stages(student), _stages(teacher)
    shared = [sizes for sizes in ours if sizes in theirs]
    if not shared:
        raise InputError(
            f"No layers can be paired: the student {student.name!r} has {_listed(ours)}, the "
            f"teacher {teacher.name!r} {_listed(theirs)}. Give both inputs of the same size, or "
            "name the layers, as in tfkd.losses.SimilarityPreserving('mid', 'block4')."
        )
    return [loss(ours[sizes], theirs[sizes], weight=weight, **arguments) for sizes in shared]


def _stages(model) -> dict[tuple[int | None, ...], str]:
    """Return the layer that represents each resolution, in the order of the graph."""
    walked = graph.walk(model, ignore_call=True)
    names = [call.name for call in walked.calls]
    left_out = _heads(walked) | {name for name in names if names.count(name) > 1}
    activated: dict[tuple, str] = {}
    linear: dict[tuple, str] = {}
    learned: set[int] = set()  # tensors after a layer with weights
    for call in walked.calls:
        kind = _kind(call)
        has_weights = getattr(call.layer, "weights", None) and not kind.startswith(_PREPARING)
        if not has_weights and learned.isdisjoint(tensor.index for tensor in call.inputs):
            continue
        learned.update(tensor.index for tensor in call.outputs)
        if (
            call.name in left_out
            or kind.startswith((*_NOISE, *_ARRANGING))
            or not _is_map(call.outputs)
        ):
            continue
        stage = activated if _is_activated(walked, call) else linear
        stage[call.outputs[0].shape[1:-1]] = call.name
    found = linear | activated
    return dict(sorted(found.items(), key=lambda item: names.index(item[1])))


def _is_map(outputs: tuple[graph.Tensor, ...]) -> bool:
    """Tell whether a call returns one feature map, with several positions and known sizes."""
    shape = outputs[0].shape
    if len(outputs) > 1 or len(shape) < 3 or shape[-1] is None or "float" not in outputs[0].dtype:
        return False
    sizes = shape[1:-1]
    return len(sizes) == 1 if None in sizes else math.prod(sizes) > 1


def _heads(walked: graph.Graph) -> set[str]:
    """Return the layers that compute the outputs, or only squash or rearrange them."""
    found = set()
    for tensor in walked.output_list:
        call = walked.producer(tensor)
        while call is not None:
            found.add(call.name)
            if not _kind(call).startswith(_AFTER_HEAD):
                break
            call = walked.producer(call.inputs[0])
    return found


def _is_activated(walked: graph.Graph, call: graph.Call | None) -> bool:
    """Tell whether a feature is activated: not that of a linear layer, normalized or not."""
    while call is not None and _kind(call).startswith((*_NORMALIZING, *_NOISE, *_ARRANGING)):
        call = walked.producer(call.inputs[0])
    if call is None or not _kind(call).startswith(_LINEAR):
        return True
    function = getattr(inner(call.layer), "activation", None)
    while hasattr(function, "activation"):  # tfmot's wrapper
        function = function.activation
    name = getattr(function, "__name__", type(function).__name__)
    return name not in ("linear", "NoneType", "NoOpActivation")


def _kind(call: graph.Call) -> str:
    return kind_of(inner(call.layer)) or ""


def _listed(stages: dict[tuple[int | None, ...], str]) -> str:
    if not stages:
        return "none with positions (images, sequences) after its first layer with weights"
    return ", ".join(
        "×".join("any" if size is None else str(size) for size in sizes) + f" ({name!r})"
        for sizes, name in stages.items()
    )
