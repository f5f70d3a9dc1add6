"""`score`: what outputs are worth against labels, by scikit-learn's definitions."""

from __future__ import annotations

import warnings

import numpy as np

from tfkd.errors import InputError

#: What outputs and labels can be about; `task_of` tells which.
TASKS = ("classification", "binary", "anomaly", "regression")


def score(
    outputs: np.ndarray,
    y: np.ndarray,
    x: np.ndarray | None = None,
    *,
    logits: bool | None = None,
    task: str | None = None,
) -> dict[str, float]:
    """Score outputs against labels.

    - classification: outputs (n, ..., classes), y class numbers (n, ...) or one-hot rows:
      accuracy, precision, recall, f1.
    - binary: outputs (n, ..., 1) or (n,), y 0 and 1 of an integer or bool dtype: auc, and with
      `logits` known also the four.
    - anomaly: outputs of the shape of `x`, y 0 and 1 (n,): auc of the mean squared
      reconstruction error.
    - regression: outputs (n, ...), y values of the same shape: mae, rmse.

    Precision, recall and f1 are macro averages over the classes that occur in labels or
    answers; for a binary output they are those of class 1. What has no positives counts 0.
    Positions of a sequence or an image count as examples of their own. Where only one of two
    classes occurs there is no auc and it is left out.

    Args:
        outputs: Float array of shape (n, ...).
        y: Labels of shape (n, ...), see the list; an extra last axis of 1 is ignored.
        x: The input (n, ...), where the outputs are reconstructions of it.
        logits: Of a binary output, whether it is a logit (class 1 above 0) or a probability
            (above 0.5). `None`: not known, and nothing that depends on it is given.
        task: One of `TASKS`, where it does not follow from shapes and dtypes, see `task_of`.

    Returns:
        Metric name → value.

    Raises:
        InputError: for labels that do not fit the outputs, class numbers out of range, NaN.

    Example:
        >>> score(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))["accuracy"]
        0.5
    """
    outputs, y = _numbers("outputs", outputs), _numbers("labels", y)
    x = None if x is None else _numbers("inputs", x)
    if len(y) != len(outputs):
        raise InputError(f"There are {len(outputs)} outputs but {len(y)} labels.")
    if task not in (None, *TASKS):
        raise InputError(f"task must be one of {TASKS}, got {task!r}.")
    task = task or task_of(outputs, y, x)
    if task == "classification":
        return _classification(outputs, y)
    if task == "binary":
        return _binary(outputs, y, logits)
    if task == "anomaly":
        return _anomaly(outputs, y, x)
    if y.shape != outputs.shape:
        y = y.reshape(outputs.shape) if _squeezed(y) == _squeezed(outputs) else _refuse(outputs, y)
    error = outputs.astype(np.float64) - y
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}


def task_of(outputs: np.ndarray, y: np.ndarray, x: np.ndarray | None = None) -> str:
    """Tell from shapes and dtypes what outputs and labels are about.

    Args:
        outputs: Array of shape (n, ...).
        y: Labels of shape (n, ...).
        x: The input; with it, outputs of its shape and labels 0 and 1 (n,) are an anomaly
            detector's, but for two numbers an example: these are a classifier's.

    Returns:
        One of `TASKS`.

    Raises:
        InputError: for labels 0 and 1 that are neither class numbers nor one-hot.
    """
    integer = y.dtype.kind in "biu"
    zero_one = bool(((y == 0) | (y == 1)).all())
    several = outputs.ndim > 1 and outputs.shape[-1] > 1
    if not several:
        fits = _squeezed(y) == _squeezed(outputs)
        if integer and zero_one and fits:
            return "binary"
    reconstructs = x is not None and x.shape == outputs.shape and outputs[0].size > 2
    if integer and zero_one and reconstructs and _squeezed(y) == (len(y),):
        return "anomaly"
    if not several:
        return "regression"
    if integer and y.shape in (outputs.shape[:-1], (*outputs.shape[:-1], 1)):
        return "classification"
    if y.shape == outputs.shape and zero_one:
        if (y.sum(-1) == 1).all():
            return "classification"
        if integer:
            raise InputError(
                f"Labels of shape {y.shape} hold 0 and 1, but are not one-hot: several labels an "
                "example are not scored. Give one column at a time, or float labels for mae and "
                "rmse."
            )
    return "regression"


def _numbers(what: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise InputError(f"The {what} must be numbers, got an array of {values.dtype}.")
    if values.ndim == 0 or values.size == 0:
        raise InputError(f"The {what} must have the shape (examples, ...), got {values.shape}.")
    if values.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise InputError(
                f"{bad} of {values.size} {what} are NaN or infinite; they can't be scored: find "
                "where they come from."
            )
    return values


def _squeezed(values) -> tuple[int, ...]:
    shape = values.shape
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def _refuse(outputs, y):
    classes = f"class numbers (integers) of shape {outputs.shape[:-1]}, one-hot rows or "
    raise InputError(
        f"Labels of shape {y.shape} and dtype {y.dtype} do not fit outputs of shape "
        f"{outputs.shape}: give {classes if outputs.ndim > 1 and outputs.shape[-1] > 1 else ''}"
        f"values of shape {outputs.shape}."
    )


def _classification(outputs, y) -> dict[str, float]:
    classes = outputs.shape[-1]
    if outputs.ndim < 2 or classes < 2:
        raise InputError(f"Classification needs outputs (n, ..., classes), got {outputs.shape}.")
    if y.shape == outputs.shape:
        y = y.argmax(-1)
    elif _integers(y) and y.size == outputs.size // classes:
        y = y.reshape(outputs.shape[:-1])
    else:
        _refuse(outputs, y)
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"For outputs of {classes} classes the class numbers run from 0 to {classes - 1}, got "
            f"{low} to {high}; number the classes from 0."
        )
    return _four(y, outputs.argmax(-1), "macro")


def _binary(outputs, y, logits) -> dict[str, float]:
    if _squeezed(y) != _squeezed(outputs):
        _refuse(outputs, y)
    _check_zero_one(y)
    y, outputs = y.ravel().astype(int), outputs.ravel()
    scores = _auc(y, outputs)
    if logits is not None:
        scores |= _four(y, (outputs > (0.0 if logits else 0.5)).astype(int), "binary")
    return scores


def _anomaly(outputs, y, x) -> dict[str, float]:
    if x is None or x.shape != outputs.shape or _squeezed(y) != (len(outputs),):
        given = "no x" if x is None else f"x of shape {x.shape}"
        raise InputError(
            "Anomaly detection needs reconstructions of x and labels (n,), got outputs of shape "
            f"{outputs.shape}, labels of shape {y.shape} and {given}."
        )
    _check_zero_one(y)
    error = np.square(outputs.astype(np.float64) - x).reshape(len(x), -1).mean(1)
    return _auc(y.ravel().astype(int), error)


def _integers(y) -> bool:
    return y.dtype.kind in "biu" or bool((y == np.round(y)).all())


def _check_zero_one(y):
    if not ((y == 0) | (y == 1)).all():
        raise InputError(f"The labels must be 0 and 1, got {y.min():g} to {y.max():g}.")


def _auc(y, values) -> dict[str, float]:
    from sklearn import metrics

    if y.min() == y.max():
        return {}
    return {"auc": float(metrics.roc_auc_score(y, values))}


def _four(y, answers, average) -> dict[str, float]:
    from sklearn import metrics

    y, answers = y.ravel(), answers.ravel()
    with warnings.catch_warnings():
        # scikit-learn takes many classes among few examples for a mistake.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            y, answers, average=average, zero_division=0
        )
    return {
        "accuracy": float(np.mean(y == answers)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }
