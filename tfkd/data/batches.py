"""A batch of a `Stream`: examples, labels and weights as arrays, or why it is none, or unfit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfkd.data.outputs import check_names, each, listed, spelled
from tfkd.errors import InputError

#: The end of messages about the batches of a stream.
WANTED = (
    "give a tf.data.Dataset, a PyDataset, or a function that returns a new generator, with batches "
    "(x, y) or (x, y, weights)"
)
#: Part of the largest value by which two reads of the same examples may differ by rounding.
_CLOSE = 1e-3


def kind_of(source) -> str | None:
    """Return the kind of a stream's source, or `None` for what can't be one.

    Raises:
        InputError: for a generator, which can be read once only.
    """
    if hasattr(source, "element_spec") and hasattr(source, "cardinality"):
        return "tf.data.Dataset"
    if hasattr(source, "__next__"):
        raise InputError(
            f"A {type(source).__name__} is used up after one pass, and several are needed: give "
            "the function that returns it, without calling it."
        )
    if hasattr(source, "__getitem__") and hasattr(source, "on_epoch_end"):
        return "PyDataset"
    is_function = callable(source) and not isinstance(source, type)
    return "function" if is_function and not hasattr(source, "__getitem__") else None


def check_spec(spec) -> None:
    """Raise for the elements of a dataset that are no batches (x, y)."""
    parts = spec if isinstance(spec, tuple) else (spec,)
    if len(parts) not in (2, 3):
        raise InputError(f"The dataset yields {_named(spec)}; {WANTED}.")
    _check_weights(*parts[2:])
    leaves = [part for _, part in _leaves(parts)]
    if any(not hasattr(getattr(leaf, "shape", None), "rank") for leaf in leaves):
        raise InputError(
            f"The dataset yields {_named(spec)}; {WANTED}, each with one input; for several "
            "outputs, y is a dict {output: labels, ...}."
        )
    if any(leaf.shape.rank == 0 for leaf in leaves):
        raise InputError("The dataset yields single examples, not batches: give dataset.batch(32).")


def _check_weights(*weights) -> None:
    """Raise for weights by output, which a stream does not take."""
    if weights and isinstance(weights[0], Mapping):
        raise InputError(
            f"The stream yields weights as a dict of {', '.join(map(repr, weights[0]))}: give one "
            "array, a weight for each example, or train with weights by output in a Distiller."
        )


def _leaves(batch) -> list[tuple[str, Any]]:
    """Return (name in messages, array) for each part of a batch, with the labels of each output."""
    x, y, *weights = batch
    return [("x", x), *spelled(y), *zip(("weights",), weights, strict=False)]


def form_of(batch) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return the shape of an example and the type of each array of a batch."""
    return {name: (values.shape[1:], values.dtype) for name, values in _leaves(batch)}


def outermost(values: np.ndarray) -> np.ndarray:
    """Return the rows with the least and with the largest value."""
    if not values.size:
        return values[:0]
    return values[[at // values[0].size for at in (values.argmin(), values.argmax())]]


def _named(spec) -> str:
    if isinstance(spec, Mapping):
        return f"dicts of {', '.join(map(str, spec))}"
    if isinstance(spec, tuple):
        return f"tuples of {len(spec)}" + (" with several arrays each" if len(spec) < 4 else "")
    return "x without labels"


def checked(batch) -> tuple[Any, ...]:
    """Return a batch as arrays; labels of several outputs are a dict of arrays.

    Raises:
        InputError: for a batch of another form.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise InputError(f"The stream yields {_named(batch)} ({type(batch).__name__}); {WANTED}.")
    check_names(batch[1])
    _check_weights(*batch[2:])
    if isinstance(batch[0], Mapping):
        raise InputError(
            f"The stream yields x as a dict of {', '.join(map(repr, batch[0]))}, but a stream has "
            "one input: give one array."
        )
    if isinstance(batch[1], (tuple, list)) and any(np.ndim(one) for one in batch[1]):
        raise InputError(
            f"The stream yields labels as a {type(batch[1]).__name__} of arrays: give one array, "
            "or a dict {output: labels, ...} for several outputs."
        )
    try:
        x, y, *weights = batch
        arrays = (np.asarray(x), each(np.asarray, y), *map(np.asarray, weights))
    except ValueError as error:
        raise InputError(f"A batch of the stream is not an array ({error}); {WANTED}.") from None
    for name, values in _leaves(arrays):
        if values.dtype.kind not in "biufc" or values.ndim == 0:
            raise InputError(
                f"{name} of the stream has dtype {values.dtype} and shape {values.shape}; give "
                "numbers of shape (batch, ...)."
            )
        if values.dtype.kind == "f" and name != "x" and not np.isfinite(values).all():
            raise InputError(f"{name} of the stream holds NaN or infinite values.")
    if len({len(values) for _, values in _leaves(arrays)}) > 1:
        shapes = " and ".join(str(values.shape) for _, values in _leaves(arrays))
        raise InputError(
            f"The stream yields x and y of shapes {shapes}, with different numbers of examples: "
            "give each batch arrays of shape (batch, ...)."
        )
    return arrays


def in_words(form) -> str:
    """Return a form as text for a message."""
    return " and ".join(
        f"{name} {dtype} of shape {(None, *shape)}" for name, (shape, dtype) in form.items()
    )


def check_finite(x: np.ndarray, called: str, count: int, size: int) -> None:
    """Raise for examples that hold NaN or infinite values.

    Args:
        x: The examples of a batch.
        called: The name of the stream in the message.
        count: The number of examples before the batch.
        size: The number of examples in a batch of the source.
    """
    if x.dtype.kind not in "fc" or (finite := np.isfinite(x)).all():
        return
    row = count + int(finite.reshape(len(x), -1).all(1).argmin())
    raise InputError(
        f"x of {called} holds NaN or infinite values, first in example {row}, which is in batch "
        f"{row // size} if each has {size} examples (both counted from 0): leave such examples "
        "out, or fill them in."
    )


def odd_weight(batch) -> tuple[int, float] | None:
    """Return the row and the weight of the first example whose weight is not 1, if any."""
    x, _, *weights = batch
    if not weights or not (odd := weights[0] != 1).any():
        return None
    return int(odd.reshape(len(x), -1).any(1).argmax()), float(weights[0][odd][0])


def not_scored(called: str, row: int, weight: float) -> str:
    """Return why weights are refused where a stream is scored.

    Args:
        called: The name of the stream.
        row: The number of an example.
        weight: Its weight.
    """
    return (
        f"The weights of {called} are not all 1 (example {row}, counted from 0, has {weight:g}), "
        "but scores count all examples alike: leave out the examples of weight 0, and give batches "
        "(x, y). Only the training part may have weights."
    )


def different(one, other) -> str | None:
    """Return what differs in two reads of (x, y): `"Labels"`, `"Examples"` or `None`."""
    count = min(len(one[0]), len(other[0]))
    for before, after in zip(listed(one[1]), listed(other[1]), strict=True):
        if not np.array_equal(before[:count], after[:count]):
            return "Labels"
    x, again = one[0][:count], other[0][:count]
    close = _CLOSE * float(np.abs(x).max(initial=0))
    return None if np.allclose(x, again, rtol=0, atol=close) else "Examples"
