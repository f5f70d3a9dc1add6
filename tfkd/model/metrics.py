"""`score`: scores of outputs against labels, by scikit-learn's definitions."""

from __future__ import annotations

import warnings

import numpy as np

from tfkd.errors import InputError
from tfkd.model import task as tasks

#: Metrics of which more is better; of any other, an error, less is.
_GAINS = ("accuracy", "precision", "recall", "f1", "auc", "r2")


def less_is_better(metric: str) -> bool:
    """Tell whether a metric is an error.

    Args:
        metric: Its name, also with words before it, such as `"val_accuracy"` or, for one of several
            outputs, `"output.rmse"`.

    Example:
        >>> less_is_better("rmse"), less_is_better("output.auc")
        (True, False)
    """
    return not metric.endswith(_GAINS)


def score(
    outputs: np.ndarray,
    y: np.ndarray,
    x: np.ndarray | None = None,
    *,
    logits: bool | None = None,
    task: str | None = None,
    activation: str | None = None,
) -> dict[str, float]:
    """Score outputs against labels.

    - categorical: outputs (n, ..., classes), y class numbers (n, ...), one-hot or soft rows:
      accuracy, precision, recall, f1.
    - binary: outputs (n, ..., 1) or (n,), y 0 and 1 of an integer or bool dtype: auc, and with
      `logits` known also the four.
    - multilabel: outputs (n, ..., labels), y 0 and 1 of the same shape, any number of ones a
      row: auc, and with `logits` known also the four; accuracy is that of each label by itself.
    - anomaly: outputs of the shape of `x`, y 0 and 1 (n,): auc of the mean squared
      reconstruction error.
    - regression: outputs (n, ...), y values of the same shape: mae, rmse.

    Precision, recall and f1 are macro averages over the classes that occur in labels or
    answers, or over the labels of a multilabel output; for a binary output they are those of
    class 1. A class or label without positives counts 0. Positions of a sequence or an image count
    as examples of their own. If only one of two classes occurs, auc is undefined and left out; for
    several labels it is the mean over the labels that have both.

    Args:
        outputs: Float array of shape (n, ...).
        y: Labels of shape (n, ...), see the list; an extra last axis of 1 is ignored.
        x: The input (n, ...), if the outputs are reconstructions of it.
        logits: For a binary or multilabel output, whether it is a logit (class 1 above 0) or a
            probability (above 0.5). Defaults to what `activation` says. If both are `None`, this is
            not known, and metrics that depend on it are left out.
        task: One of `tfkd.model.task.TASKS` (or `"classification"`, the same as
            `"categorical"`), if it does not follow from labels and outputs, see
            `tfkd.model.task.task_of`.
        activation: The activation of the outputs, if known: `"softmax"`, `"sigmoid"` or `"linear"`.

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
    if task is None:
        task = tasks.task_of(y, outputs.shape, x, activation)
    task = tasks.canonical(task)
    if logits is None:
        logits = {"linear": True, "sigmoid": False}.get(activation)
    if task == "categorical":
        return _categorical(outputs, y)
    if task == "binary":
        return _binary(outputs, y, logits)
    if task == "multilabel":
        return _multilabel(outputs, y, logits)
    if task == "anomaly":
        return _anomaly(outputs, y, x)
    error = outputs.astype(np.float64) - _as(outputs, y)
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}


def _numbers(what: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise InputError(f"The {what} must be numbers, got an array of {values.dtype}.")
    if values.ndim == 0 or values.size == 0:
        raise InputError(f"The {what} must have the shape (examples, ...), got {values.shape}.")
    if values.dtype.kind == "f":
        bad = ~np.isfinite(values)
        if bad.any():
            row = int(np.argmax(bad.reshape(len(bad), -1).any(1)))
            raise InputError(
                f"{int(bad.sum())} of {values.size} {what} are NaN or infinite, the first in row "
                f"{row}; they can't be scored: find where they come from."
            )
    return values


def _as(outputs, y):
    """Return labels reshaped like the outputs, or raise."""
    if tasks.squeezed(y.shape) != tasks.squeezed(outputs.shape):
        tasks.refuse(y, outputs.shape)
    return y.reshape(outputs.shape)


def _categorical(outputs, y) -> dict[str, float]:
    classes = outputs.shape[-1]
    if outputs.ndim < 2 or classes < 2:
        raise InputError(f"Classification needs outputs (n, ..., classes), got {outputs.shape}.")
    if y.shape == outputs.shape:
        y = y.argmax(-1)
    elif _integers(y) and y.size == outputs.size // classes:
        y = y.reshape(outputs.shape[:-1])
    else:
        tasks.refuse(y, outputs.shape)
    tasks.check_classes(y, classes)
    return _classification_scores(y.ravel(), outputs.argmax(-1).ravel(), "macro")


def _binary(outputs, y, logits) -> dict[str, float]:
    y = _as(outputs, y)
    _check_zero_one(y)
    y, outputs = y.ravel().astype(int), outputs.ravel()
    scores = _auc(y, outputs)
    if logits is not None:
        scores |= _classification_scores(
            y, (outputs > (0.0 if logits else 0.5)).astype(int), "binary"
        )
    return scores


def _multilabel(outputs, y, logits) -> dict[str, float]:
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise InputError(f"Several labels need outputs (n, ..., labels), got {outputs.shape}.")
    y = _as(outputs, y)
    _check_zero_one(y)
    y, outputs = (values.reshape(-1, values.shape[-1]) for values in (y.astype(int), outputs))
    aucs = [_auc(*columns).get("auc") for columns in zip(y.T, outputs.T, strict=True)]
    aucs = [auc for auc in aucs if auc is not None]
    scores = {"auc": float(np.mean(aucs))} if aucs else {}
    if logits is not None:
        scores |= _classification_scores(
            y, (outputs > (0.0 if logits else 0.5)).astype(int), "macro"
        )
    return scores


def _anomaly(outputs, y, x) -> dict[str, float]:
    if x is None or x.shape != outputs.shape or tasks.squeezed(y.shape) != (len(outputs),):
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


def _classification_scores(y, answers, average) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 of class numbers (n,) or of labels (n, labels)."""
    from sklearn import metrics

    with warnings.catch_warnings():
        # scikit-learn warns about many classes among few examples.
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
