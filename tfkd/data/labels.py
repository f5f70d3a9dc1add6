"""Labels as they are given → labels as they are trained on, or why they are no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfkd.data.outputs import Labels, check_names
from tfkd.data.samples import count_classes, is_one_hot
from tfkd.errors import InputError, argument

WANTED = (
    "Labels are class numbers from 0 or texts of shape (examples,), rows of 0 and 1 "
    "(examples, classes), or values (examples, ...)."
)


def numbers_of(y, class_names: Any = ()) -> tuple[Any, Any]:
    """Return labels of one output or of several as numbers, and the names of their classes.

    Args:
        y: Labels (examples, ...), as `read` takes them; for several outputs, a dict by name.
        class_names: One per class, in label order; for several outputs, a dict by name.

    Raises:
        InputError: for values that can't be labels, and names in the form of other labels.
    """
    if isinstance(y, Mapping):
        return of_outputs(y, class_names)
    if class_names and isinstance(class_names, Mapping):
        raise InputError(
            f"{argument('class_names', alone=True)} is a dict of output → names, but y is one "
            "array: give y as a dict too, or the names as a list."
        )
    return read(y, class_names)


def check_kind(part: str, y: Any, names: Any, known: Any, are_given: bool) -> None:
    """Raise if only one of a part and the training part has labels that are texts.

    Args:
        part: The part's name.
        y: Its labels as they were given, in a dict for several outputs; `None` for a stream.
        names: Names of the classes after its labels were read.
        known: Those before, from the caller or the training part.
        are_given: Whether the caller gave names, which number the texts of any part.
    """
    if part == "train" or y is None:
        return
    texts, numbers = bool(names) and names != known, bool(known) and not are_texts(y)
    if texts or (numbers and not are_given):
        here, there = ("texts", "numbers") if texts else ("numbers", "texts")
        raise InputError(
            f"its labels are {here}, but those of train are {there}: give both as texts, or both "
            f"as numbers, or the order of the classes with {argument('class_names', alone=True)}."
        )


def are_texts(y: Any) -> bool:
    """Tell whether labels, or those of any of several outputs, are texts."""
    several = y.values() if isinstance(y, Mapping) else [y]
    return any(np.asarray(one).dtype.kind in "SUO" for one in several)


def read(y, class_names: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as numbers, and the names of their classes.

    Args:
        y: Labels (examples, ...); texts become class numbers in the order of `class_names`, or
            else in alphabetical order.
        class_names: One per class, in label order.

    Raises:
        InputError: for values that can't be labels, naming the first row.
    """
    try:
        y = np.asarray(y)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"y is not an array ({error}). {WANTED}") from None
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"y holds bytes that are not UTF-8 ({error}). {WANTED}") from None
    if y.dtype == object and y.ndim == 1 and all(isinstance(label, str) for label in y):
        y = y.astype("U")
    if y.dtype.kind == "U" and y.ndim == 1 and y.size:
        return numbered(y, class_names)
    if y.dtype.kind not in "biuf" or y.ndim == 0:
        raise InputError(f"y has dtype {y.dtype} and shape {y.shape}. {WANTED}")
    if y.dtype.kind == "f" and y.size:
        bad = ~np.isfinite(y.reshape(len(y), -1)).all(1)
        if bad.any():
            raise InputError(
                f"y holds NaN or infinite labels in {bad.sum()} of {len(y)} rows, the first in "
                f"row {bad.argmax()}: leave these examples out."
            )
    return y, tuple(class_names)


def of_outputs(y: Mapping, class_names: Any = ()) -> tuple[dict, dict]:
    """Return the labels of several outputs as numbers, and the names of their classes.

    Args:
        y: Labels (examples, ...) by the outputs' names, each as `read` takes them.
        class_names: The class names of each output that has some.

    Raises:
        InputError: as `read`, with the output's name.
    """
    check_names(y)
    if class_names and not isinstance(class_names, Mapping):
        raise InputError(
            f"y names {len(y)} outputs: give {argument('class_names', alone=True)} as a dict of "
            "output → names."
        )
    numbers, names = {}, dict(class_names)
    for output, labels in y.items():
        try:
            numbers[output], found = read(labels, tuple(names.get(output, ())))
        except InputError as error:
            raise InputError(f"For the output {output!r}: {error}") from None
        if found:
            names[output] = found
    return numbers, names


def numbered(texts: np.ndarray, class_names: Sequence[str] = ()) -> tuple[np.ndarray, tuple]:
    """Return texts (examples,) as class numbers, and the names of the classes."""
    found = np.unique(texts)
    names = np.asarray(tuple(class_names) or found, "U")
    unknown = [str(name) for name in found if name not in names]
    if unknown:
        raise InputError(
            f"The labels hold {', '.join(map(repr, unknown[:3]))}, but class_names has only "
            f"{', '.join(map(repr, map(str, names)))} (without class_names, these are the classes "
            "of the training part)."
        )
    order = np.argsort(names, kind="stable")
    return order[np.searchsorted(names, texts, sorter=order)], tuple(map(str, names))


def are_classes(y: Labels) -> bool:
    """Tell whether labels are class numbers (examples,) or (examples, 1), or one-hot rows.

    Labels of several outputs are not, since an example has no single class.
    """
    if isinstance(y, Mapping):
        return False
    column = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    return is_one_hot(y) or (column and y.dtype.kind in "biu" and y.size > 0 and y.min() >= 0)


def class_numbers(y: np.ndarray) -> np.ndarray:
    """Return class numbers (examples,) of labels for which `are_classes` is true."""
    return y.argmax(-1) if is_one_hot(y) else y.reshape(len(y)).astype("int64")


def weights(y: np.ndarray, given: Mapping[int, float] | str | None) -> dict[int, float] | None:
    """Return the weight of each class.

    Args:
        y: Labels of the training part.
        given: Class number → weight, or `"balanced"`: as in scikit-learn, every class counts the
            same in total, and an example 1 on average.

    Raises:
        InputError: for weights that are no numbers above 0 or leave a class out, and for labels
            that are no classes.
    """
    if given is None:
        return None
    spelled = argument("class_weight")
    if not are_classes(y):
        raise InputError(
            f"{spelled} is for class numbers or one-hot rows, but the labels have dtype "
            f"{y.dtype} and shape {y.shape}: give classes as integers, or leave it out."
        )
    counts = np.bincount(class_numbers(y), minlength=count_classes(y))
    if isinstance(given, str) and given == "balanced":
        seen = np.flatnonzero(counts)
        return {int(i): float(counts.sum() / (len(seen) * counts[i])) for i in seen}
    if not isinstance(given, Mapping):
        raise InputError(
            f"{spelled} must be 'balanced' or a dict of class → weight, got {given!r}."
        )
    lacks = [int(i) for i in np.flatnonzero(counts) if i not in given]
    wrong = [
        f"{key!r}: {value!r}"
        for key, value in given.items()
        if not isinstance(value, (int, float, np.number)) or not 0 < value < np.inf
    ]
    if lacks or wrong:
        what = f"lacks the classes {lacks[:5]}" if lacks else f"has {', '.join(wrong[:3])}"
        raise InputError(
            f"{spelled} {what}: give every class a number above 0, such as "
            "{0: 1.0, 1: 3.0}, or 'balanced'."
        )
    return {int(key): float(value) for key, value in given.items()}
