"""`windows` of a series, split by time so that no step is in two parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfkd.data import labels as labels_
from tfkd.data.samples import PARTS, Data, Samples
from tfkd.errors import InputError, argument, raise_all


def windows(
    series: np.ndarray | Sequence[np.ndarray],
    length: int,
    horizon: int = 1,
    *,
    targets: int | Sequence[int] | None = None,
    labels: np.ndarray | Sequence[np.ndarray] | None = None,
    stride: int = 1,
    test: float = 0.2,
    validation: float = 0.2,
    name: str = "series",
    class_names: Sequence[str] = (),
) -> Data:
    """Cut a series into windows, to forecast its next steps or to label its steps.

    The first steps are the training part, the next ones the validation part, the last ones the
    test part. Each window lies within one part, together with the steps that it is to forecast.
    Compute what depends on the values, such as a normalization, from the training part.

    Args:
        series: Array of shape (steps,) or (steps, features), in the order of time; or a list of
            such arrays, each split by its own time.
        length: Steps in a window.
        horizon: Steps to forecast. With `labels`, the number of steps from the last step of the
            window to the labelled step; 0 for the last step itself.
        targets: Which features to forecast. Defaults to all.
        labels: Array of shape (steps, ...), a label for each step (a list of arrays for a list of
            series). Each window gets the label of one step. Without it, labels are the steps to
            forecast.
        stride: Steps from the start of a window to the start of the next.
        test: Fraction of the steps held out for reporting.
        validation: Fraction of the steps held out for choices.
        name: What to call the data in a report.
        class_names: One per class, in label order.

    Returns:
        `x` float of shape (windows, length, features); `y` the labels, or values of shape
        (windows, horizon) for one feature, (windows, features) for one step, else (windows,
        horizon, features).

    Raises:
        InputError: for arguments out of range, or a part that is shorter than one window.

    Example:
        >>> data = windows(np.arange(20.0), length=3, horizon=1)
        >>> data.train.x[0, :, 0].tolist(), data.train.y[0].tolist()
        ([0.0, 1.0, 2.0], [3.0])
        >>> len(data.train), len(data.validation), len(data.test)
        (9, 1, 1)
    """
    many = isinstance(series, (list, tuple)) and np.ndim(series[0] if series else 0) > 0
    every = list(series) if many else [series]
    labelled = [None] * len(every) if labels is None else list(labels) if many else [labels]
    least = 0 if labels is not None else 1
    problems = [
        f"{which} must be a whole number of at least {low}, got {value!r}"
        for which, value, low in (("length", length, 1), ("horizon", horizon, least),
                                  ("stride", stride, 1))
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < low
    ]  # fmt: skip
    if not (0 < test < 1 and 0 < validation < 1 and test + validation < 1):
        problems.append(
            f"{argument('test', test)} and {argument('validation', validation)} must be fractions "
            "> 0 that leave some steps to train on"
        )
    if len(labelled) != len(every):
        problems.append(f"there are {len(every)} series but labels for {len(labelled)}")
    raise_all(problems)
    found: dict[str, list[tuple]] = {part: [] for part in PARTS}
    for values, steps in zip(every, labelled, strict=True):
        values = _values(values, steps, targets)
        ends = [
            0,
            *np.round(len(values) * np.array([1 - test - validation, 1 - test, 1])).astype(int),
        ]
        for part, start, end in zip(PARTS, ends, ends[1:], strict=False):
            rows = slice(start, end)
            labels_there = None if steps is None else np.asarray(steps)[rows]
            found[part].append(_cut(values[rows], labels_there, length, horizon, stride, targets))
    parts, names = {}, tuple(class_names)
    for part, pieces in found.items():
        x, y = (np.concatenate(each) for each in zip(*pieces, strict=True))
        if not len(x):
            raise InputError(
                f"The {part} part has fewer steps than a window and its horizon "
                f"({length} + {horizon}): give a longer series, or shorter windows."
            )
        if y.dtype.kind in "US" and not names:
            names = tuple(
                map(str, np.unique(np.concatenate([np.ravel(each) for each in labelled])))
            )
        y, names = labels_.read(y, names)
        parts[part] = Samples(x, y)
    return Data(name, *parts.values(), names)


def _values(values, steps, targets) -> np.ndarray:
    """Return a series as numbers (steps, features)."""
    try:
        values = np.asarray(values)
    except ValueError:
        values = np.empty(0, object)
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
        raise InputError(
            "series must be an array of numbers of shape (steps,) or (steps, features), or a list "
            f"of such arrays, got {values.dtype} of shape {values.shape}."
        )
    if steps is not None and len(steps) != len(values):
        raise InputError(f"The series has {len(values)} steps but {len(steps)} labels.")
    values = values[:, None] if values.ndim == 1 else values
    wrong = [
        i for i in np.ravel([] if targets is None else targets) if not 0 <= i < values.shape[1]
    ]
    if wrong:
        raise InputError(
            f"targets names feature {wrong[0]}, but the series has {values.shape[1]}, numbered "
            "from 0."
        )
    return values


def _cut(values, labels, length, horizon, stride, targets) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of some steps, and the target of each."""
    starts = np.arange(0, max(0, len(values) - length - horizon + 1), stride)
    x = values[starts[:, None] + np.arange(length)]
    if labels is not None:
        return x, labels[starts + length - 1 + horizon]
    chosen = np.arange(values.shape[1]) if targets is None else np.ravel(targets)
    y = values[(starts + length)[:, None] + np.arange(horizon)][..., chosen]
    if len(chosen) == 1:
        return x, y[..., 0]
    return x, y[:, 0] if horizon == 1 else y
