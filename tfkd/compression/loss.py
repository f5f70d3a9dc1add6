"""The loss that fits a model's output and its labels, and the metric beside it."""

from __future__ import annotations

import numpy as np

from tfkd.errors import InputError
from tfkd.model import task as tasks


def metric_for(package, task: str, activation: str | None, loss):
    """Return the metric to report with the loss: accuracy, or for values the mean absolute error.

    It is a metric object and not a name, because variables created inside the step would make
    TensorFlow trace it twice.
    """
    metrics = package.metrics
    if task == "regression":
        return metrics.MeanAbsoluteError(name="mae")
    if task == "categorical":
        numbers = isinstance(loss, package.losses.SparseCategoricalCrossentropy)
        kind = metrics.SparseCategoricalAccuracy if numbers else metrics.CategoricalAccuracy
        return kind(name="accuracy")
    return metrics.BinaryAccuracy("accuracy", threshold=0.0 if activation == "linear" else 0.5)


def _likely_shape(y: np.ndarray, units: int) -> tuple[int, ...]:
    """Return the shape of an output with `units` numbers that these labels fit."""
    lead = y.shape[:-1] if y.ndim > 1 and y.shape[-1] in (1, units) else y.shape
    return (*lead, units)


def loss_for(
    package,
    activation: str | None,
    units: int,
    y,
    *,
    shape: tuple[int | None, ...] | None = None,
    task: str | None = None,
):
    """Return the loss that fits a model's output and its labels.

    Args:
        package: The Keras of the model.
        activation: Activation of the output: `"softmax"`, `"sigmoid"`, `"linear"` or `None`.
        units: Size of the output's last dimension.
        y: Labels (examples, ...): class numbers, one-hot or soft rows, rows of 0 and 1, or
            values.
        shape: Shape of the output, batch included, if it is known; sizes may be `None`. It
            distinguishes a class number per step from a label per unit.
        task: One of `tfkd.model.task.TASKS`. Defaults to what the other arguments imply.

    Returns:
        Cross-entropy for classes (binary for a single unit and for several labels per example),
        mean squared error for values.

    Raises:
        InputError: for classes with an output of unknown kind, for class numbers out of range,
            and for labels that don't fit the output or the task.
    """
    y = np.asarray(y)
    shape = shape or _likely_shape(y, units)
    if task:
        task = tasks.canonical(task)
        tasks.check(task, y, shape)
    else:
        task = tasks.task_of(y, shape, activation=activation)
    if task in ("regression", "anomaly"):
        return package.losses.MeanSquaredError()
    squash = "softmax" if task == "categorical" else "sigmoid"
    if activation not in (squash, "linear"):
        count = "1 number" if units == 1 else f"{units} classes"
        count = f"{units} labels" if task == "multilabel" else count
        raise InputError(
            f"An output of {count} must end in {squash} or be logits, but its activation is "
            f"{activation or 'not known'}: end the model in {squash} or in a layer without an "
            "activation, or pass a loss to a function that takes one."
        )
    logits = activation == "linear"
    if task != "categorical":
        return package.losses.BinaryCrossentropy(from_logits=logits)
    if y.shape == tasks.filled(shape, y):
        return package.losses.CategoricalCrossentropy(from_logits=logits)
    tasks.check_classes(y, units)
    return package.losses.SparseCategoricalCrossentropy(from_logits=logits)
