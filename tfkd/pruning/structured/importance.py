"""How much a channel matters: a score for each group of channels that go together."""

from __future__ import annotations

import numpy as np

from tfkd.compression import loss as losses
from tfkd.errors import InputError, argument
from tfkd.model import binding, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.output_kind import activation_behind
from tfkd.pruning.structured.dependency import Dependencies

#: The criteria by which `prune_channels` can rank channels.
CRITERIA = ("l1", "l2", "bn_scale", "taylor", "random")


def scores(found: Dependencies, criterion, data=None, loss=None, seed: int = 0) -> np.ndarray:
    """Score the groups of a model's channels.

    The score of a group is the mean of the scores of its slices. Norms and changes are divided by
    the mean over the weight's slices, so that layers can be ranked together (Fang et al. 2023;
    Molchanov et al. 2017 for Taylor): a channel among many changes the loss less than one among
    few, and without this the widest layers would be emptied.

    Args:
        found: The dependencies.
        criterion: `"l1"` or `"l2"`, norms of the slices of kernels (Li et al. 2017); `"bn_scale"`,
            the size of batch normalization's scales (Liu et al. 2017); `"taylor"`, the squared
            first-order change of the loss, `(Σ w · ∂L/∂w)²` (Molchanov et al. 2019); `"random"`;
            or a function `f(layer, variable, axis, values) -> scores`, one per slice of `values`
            along `axis`.
        data: `(x, y)` for `"taylor"`.
        loss: A Keras loss for `"taylor"`; defaults to that of `compression.loss.loss_for`.
        seed: For `"random"`.

    Returns:
        A score for each of `found.groups`, in their order; `inf` for groups without a
        score, which stay.

    Raises:
        InputError: for an unknown criterion, missing data, or a model without batch normalization.
    """
    groups = found.groups
    if criterion == "random":
        return np.random.default_rng(seed).permutation(len(groups)).astype(float)
    changes = _changes(found, data, loss) if criterion == "taylor" else {}
    total, count = np.zeros(len(found.roots)), np.zeros(len(found.roots))
    for name, layer in found.graph.layers:
        for variable in getattr(layer, "weights", ()):
            for axis, labels in found.axes.get(id(variable), {}).items():
                values = variable.numpy()
                found_scores = _of_slices(criterion, layer, name, variable, axis, values, changes)
                if found_scores is None:
                    continue
                if not np.isfinite(found_scores).all():
                    raise InputError(
                        f"Channels of {name!r} have no score: its weights, or the gradients on "
                        "data, are NaN or infinite; find where they come from."
                    )
                if criterion in ("l1", "l2", "taylor") and found_scores.any():
                    found_scores = found_scores / found_scores.mean()
                np.add.at(total, found.roots[labels], found_scores)
                np.add.at(count, found.roots[labels], 1)
    if not count.any():
        raise InputError(
            "bn_scale ranks by the scales of batch normalization, but this model has none; use "
            f"{argument('criterion', 'l1')}."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, total / count, np.inf)[groups]


def _of_slices(criterion, layer, name, variable, axis, values, changes):
    """Return a score per slice of a weight along an axis, or `None` if it does not count."""
    axis = axis % values.ndim
    others = tuple(i for i in range(values.ndim) if i != axis)
    if callable(criterion):
        given = np.asarray(criterion(layer, variable, axis, values), float)
        if given.shape != (values.shape[axis],) or not np.isfinite(given).all():
            raise InputError(
                f"The criterion must return {values.shape[axis]} finite scores for axis {axis} of "
                f"a weight of {name!r}, got shape {given.shape}."
            )
        return given
    if criterion == "bn_scale":
        is_scale = kind_of(layer) == "BatchNormalization" and variable is layer.gamma
        return np.abs(values) if is_scale else None
    if not is_kernel(variable):
        return None
    if criterion == "l1":
        return np.abs(values).sum(others)
    if criterion == "l2":
        return np.sqrt(np.square(values).sum(others))
    return changes[id(variable), axis]


def is_kernel(variable) -> bool:
    """Tell whether a weight is multiplied with a layer's input."""
    name = variable.name.split("/")[-1].split(":")[0]
    return name.endswith("kernel") or name == "embeddings"


def check(criterion, data) -> None:
    """Raise an `InputError` for a criterion that is not known, or lacks its data."""
    if not callable(criterion) and criterion not in CRITERIA:
        raise InputError(f"criterion must be a function or one of {CRITERIA}, got {criterion!r}.")
    pair = isinstance(data, (tuple, list)) and len(data) == 2 and data[1] is not None
    if criterion == "taylor" and not pair:
        raise InputError(
            f"{argument('criterion', 'taylor')} needs the gradients on data: give "
            f"{argument('data', like='(x, y)')}."
        )


def _changes(found: Dependencies, data, loss, batch_size: int = 32) -> dict:
    """Return the mean over batches of each slice's squared first-order change of the loss.

    The changes are squared per batch: over all the data, a trained model's gradients cancel.

    Returns:
        Scores per slice, by the id of the weight and its axis.
    """
    import tensorflow as tf

    x, y = data
    inputs, y = _inputs(x, found.graph), np.asarray(y)
    if not len(y) or any(len(part) != len(y) for part in inputs):
        lengths = ", ".join(str(len(part)) for part in inputs)
        raise InputError(f"data must be (x, y) of equal length > 0, got {lengths} and {len(y)}.")
    loss = loss or _loss(found.graph, y)
    variables = [v for _, layer in found.graph.layers for v in getattr(layer, "weights", ())]
    variables = [v for v in variables if id(v) in found.axes]
    own = [v if isinstance(v, tf.Variable) else v.value for v in variables]
    found_changes: dict = {}

    def forward(call, args, kwargs):
        return graph.call_layer(call, args, kwargs, training=False)

    for start in range(0, len(y), batch_size):
        rows = slice(start, start + batch_size)
        with tf.GradientTape() as tape:
            batch = [tf.convert_to_tensor(part[rows]) for part in inputs]
            outputs = graph.replay(found.graph, batch, forward)
            labels = y[rows]
            if hasattr(outputs, "shape") and labels.size == np.prod(outputs.shape):
                labels = labels.reshape(outputs.shape)  # (examples,) for a single unit
            mean = tf.reduce_mean(loss(labels, outputs))
        for variable, gradient in zip(variables, tape.gradient(mean, own), strict=True):
            product = np.zeros(variable.shape)
            if gradient is not None:
                product = variable.numpy() * tf.convert_to_tensor(gradient).numpy()
            for axis in found.axes[id(variable)]:
                others = tuple(i for i in range(product.ndim) if i != axis % product.ndim)
                change = np.square(product.sum(others)) * len(y[rows]) / len(y)
                key = id(variable), axis % product.ndim
                found_changes[key] = found_changes.get(key, 0.0) + change
    return found_changes


def _inputs(x, walked: graph.Graph) -> list[np.ndarray]:
    """Return the arrays of the inputs in the order of the graph's inputs."""
    return [np.asarray(part) for part in binding.inputs_of(walked).bind(x, "data", arrays=True)]


def _loss(walked: graph.Graph, y):
    """Return the loss that fits the model's one output."""
    if len(walked.output_list) > 1:
        raise InputError(
            f"A model with several outputs has no default loss: give {argument('loss')}."
        )
    output = walked.output_list[0]
    activation = activation_behind(walked, output)
    units = output.shape[-1]
    try:
        return losses.loss_for(walked.package, activation, units, y, shape=output.shape)
    except InputError as error:
        raise InputError(
            f"{error} prune_channels takes the loss instead of a task: {argument('loss')}."
        ) from error
