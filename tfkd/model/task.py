"""The task of a model's outputs and labels, for losses, scores and checks."""

from __future__ import annotations

import numpy as np

from tfkd.errors import InputError, argument

#: Canonical names of the tasks: one of several classes, one of two (a single output), any of
#: several labels, values, and anomalies, which are inputs with a bad reconstruction.
TASKS = ("categorical", "binary", "multilabel", "regression", "anomaly")
#: Synonyms that are accepted everywhere.
ALIASES = {"classification": "categorical"}

#: Tolerance for the sum 1 of a row of soft labels; float16 rows of a thousand classes stay within.
_ROW_TOLERANCE = 1e-2


def canonical(task: str) -> str:
    """Return the canonical name of a task.

    Args:
        task: One of `TASKS` or of `ALIASES`.

    Raises:
        InputError: for any other.

    Example:
        >>> canonical("classification")
        'categorical'
    """
    known = ALIASES.get(task, task) if isinstance(task, str) else task
    if known not in TASKS:
        raise InputError(f"task must be one of {(*TASKS, *ALIASES)}, got {task!r}.")
    return known


def reported(task: str) -> str:
    """Return the word that reports use: `"classification"` for one of several or of two classes."""
    return "classification" if task in ("categorical", "binary") else task


def task_of(y, shape, x=None, activation: str | None = None) -> str:
    """Return the task of labels and outputs.

    Labels that are all 0 or 1 and have the outputs' shape, more than one a row, are several
    labels an example (`"multilabel"`), as integers, bools or floats alike, unless every row has
    a single 1: then they are one-hot classes. Rows that have a single 1 each by chance are still
    several labels if the output is known to be sigmoid. Floats that are not all 0 or 1 are values,
    except for rows that sum to 1 with a softmax output: these are soft labels of classes. A single
    output with integers 0 and 1 is binary; with floats 0.0 and 1.0 it is binary if it is a sigmoid,
    and may be a logit or a value if it is known to be linear.

    Args:
        y: Labels, numbers of shape (n, ...).
        shape: Shape of the outputs, (n, ...); sizes may be `None`, and the first is not looked at.
        x: The input, if the outputs may be its reconstruction: with outputs of its shape, labels 0
            and 1 (n,) belong to an anomaly detector, except with two numbers per example (a
            classifier).
        activation: The activation of the outputs, `"softmax"`, `"sigmoid"` or `"linear"`; `None` if
            it is not known.

    Returns:
        One of `TASKS`.

    Raises:
        InputError: for labels that don't fit the outputs' shape or kind, naming the row, and
            for floats that may be labels of classes or values: rows that sum to 1, or 0.0 and 1.0
            of a single output, where the output is linear.

    Example:
        >>> task_of(np.array([[1, 1, 0], [0, 0, 0]]), (2, 3))
        'multilabel'
        >>> task_of(np.array([2, 0]), (2, 3))
        'categorical'
    """
    y = _labels(y)
    shape = filled(shape, y)
    width = shape[-1] if len(shape) > 1 else 1
    whole = y.dtype.kind in "biu"
    zero_one = bool(((y == 0) | (y == 1)).all())
    fits = squeezed(y.shape) == squeezed(shape)
    if width == 1:
        if fits and zero_one and (whole or activation == "sigmoid"):
            return "binary"
        if fits and whole and activation == "sigmoid":
            _refuse_row(y, (y != 0) & (y != 1), "a sigmoid output separates 0 and 1")
        if fits and zero_one and activation == "linear" and y.size and y.min() < y.max():
            raise InputError(
                "The labels are the floats 0.0 and 1.0, and the output may be a logit or a value: "
                f"give {argument('task', 'binary')}, or {argument('task', 'regression')} for "
                "values, or labels as integers for two classes."
            )
    detects = whole and zero_one and squeezed(y.shape) == (len(y),)
    if detects and activation != "softmax" and _reconstructs(x, shape):
        return "anomaly"
    if width == 1:
        return "regression"
    if y.shape in (shape[:-1], (*shape[:-1], 1)) and (whole or _are_class_numbers(y, width)):
        return "categorical"
    if not fits:
        refuse(y, shape)
    y = y.reshape(shape)
    if activation == "softmax":
        _check_rows(y)
        return "categorical"
    if zero_one:
        one_hot = activation != "sigmoid" and bool((y.sum(-1) == 1).all())
        return "categorical" if one_hot else "multilabel"
    if whole and activation == "sigmoid":
        _refuse_row(y, (y != 0) & (y != 1), "several labels per example are 0 and 1")
    if activation == "linear" and _off_by(y).max() <= 1e-5 and y.min() >= 0:
        raise InputError(
            "The labels are rows that sum to 1, and the output may be logits or values: give "
            f"{argument('task', 'categorical')} for soft labels of classes or "
            f"{argument('task', 'regression')} for values."
        )
    return "regression"


def check(task: str, y, shape) -> None:
    """Raise if a given task does not match labels and outputs.

    Args:
        task: One of `TASKS`. Labels of anomalies are not looked at.
        y: Labels, numbers of shape (n, ...).
        shape: Shape of the outputs, (n, ...); sizes may be `None`, and the first is not looked at.

    Raises:
        InputError: with the task, and for labels the first row that does not fit it.

    Example:
        >>> check("regression", np.array([0.5, 2.0]), (None, 1))
    """
    if task == "anomaly":
        return
    y, width = _labels(y), shape[-1] if len(shape) > 1 else 1
    given, wants = argument("task", task), "one number" if task == "binary" else "several numbers"
    if task != "regression" and (width == 1) != (task == "binary"):
        raise InputError(
            f"{given} is for an output of {wants}, but this one has {width}: leave it out, or "
            "give the task of the output."
        )
    numbers = task == "categorical" and _have_shape(y, shape[:-1])
    if not numbers and not _have_shape(y, shape):
        raise InputError(
            f"{given} does not fit labels of shape {y.shape} and outputs of shape "
            f"{filled(shape, y)}: leave it out, or reshape the labels."
        )
    if numbers:
        bad, what = y != np.round(y), "class numbers"
    elif task == "categorical":
        bad = (y < 0) | (_off_by(y) > _ROW_TOLERANCE)[..., None]
        what = "rows that sum to 1"
    else:
        bad, what = (y < 0) | (y > 1), "labels from 0 to 1"
    if task != "regression" and bad.any():
        row = _first_row(bad)
        raise InputError(f"{given} needs {what}, but row {row} of the labels is {y[row]}.")


def without_labels(shape, x=None, activation: str | None = None) -> str:
    """Return the task of outputs without labels, as `task_of` does with labels."""
    width = shape[-1] if len(shape) > 1 else 1
    if activation == "softmax" and width > 1:
        return "categorical"
    if width == 1:
        return "binary" if activation == "sigmoid" else "regression"
    if x is not None and tuple(x.shape[1:]) == tuple(shape[1:]):
        return "regression"
    return "multilabel" if activation == "sigmoid" else "categorical"


def squeezed(shape) -> tuple[int, ...]:
    """Return a shape without a last axis of 1; (n, 1) and (n,) are the same labels."""
    shape = tuple(shape)
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def filled(shape, y) -> tuple[int | None, ...]:
    """Return the shape of outputs for some labels: free sizes, and the first, are those of labels.

    Example:
        >>> filled((None, None, 3), np.zeros((8, 20)))
        (8, 20, 3)
    """
    sizes = dict(enumerate(y.shape))
    rest = (sizes.get(i) if size is None else size for i, size in enumerate(shape[1:], 1))
    return (len(y), *rest)


def check_classes(y, classes: int) -> None:
    """Raise an `InputError` that names the first class number out of range.

    Args:
        y: Class numbers of shape (n, ...).
        classes: Number of classes.
    """
    y = np.asarray(y)
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        row = _first_row((y < 0) | (y >= classes))
        raise InputError(
            f"For outputs of {classes} classes the class numbers run from 0 to {classes - 1}, got "
            f"{low} to {high} (the first in row {row}); number the classes from 0."
        )


def refuse(y, shape) -> None:
    """Raise the `InputError` for labels whose shape does not fit the outputs'."""
    several = len(shape) > 1 and shape[-1] != 1
    classes = f"class numbers (integers) of shape {tuple(shape[:-1])}, one-hot rows or "
    raise InputError(
        f"Labels of shape {y.shape} and dtype {y.dtype} do not fit outputs of shape "
        f"{tuple(shape)}: give {classes if several else ''}values of shape {tuple(shape)}."
    )


def _labels(y) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise InputError(f"The labels must be numbers, got an array of {y.dtype}.")
    if y.ndim == 0 or y.size == 0:
        raise InputError(f"The labels must have the shape (examples, ...), got {y.shape}.")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        bad = ~np.isfinite(y)
        raise InputError(
            f"{int(bad.sum())} of {y.size} labels are NaN or infinite, the first in row "
            f"{_first_row(bad)}."
        )
    return y


def _reconstructs(x, shape) -> bool:
    return x is not None and tuple(x.shape[1:]) == tuple(shape[1:]) and np.prod(shape[1:]) > 2


def _have_shape(y, shape) -> bool:
    """Tell whether labels have a shape, ignoring its free sizes and a last axis of 1."""
    return squeezed(y.shape) == squeezed(filled(shape, y))


def _are_class_numbers(y, classes: int) -> bool:
    return bool(((y == np.round(y)) & (y >= 0) & (y < classes)).all())


def _off_by(y) -> np.ndarray:
    return np.abs(y.sum(-1, dtype="float64") - 1.0)


def _check_rows(y) -> None:
    """Raise for rows that are not distributions over classes."""
    bad = (_off_by(y) > _ROW_TOLERANCE) | (y < 0).any(-1)
    if bad.any():
        row = _first_row(bad)
        first = y[bad][0]
        raise InputError(
            "The output is a softmax, for exactly one class per example, but the labels of row "
            f"{row} sum to {float(first.sum()):g}: give class numbers, one-hot rows or soft "
            "labels that sum to 1; for several labels per example, end the model in a sigmoid."
        )


def _refuse_row(y, bad, why: str) -> None:
    raise InputError(
        f"The labels must be 0 and 1 ({why}), got {y[bad].flat[0]} in row {_first_row(bad)}."
    )


def _first_row(bad) -> int:
    return int(np.argmax(bad.reshape(len(bad), -1).any(1)))
