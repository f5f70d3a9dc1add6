"""Labels of several outputs, by name: the same work on the labels of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tfkd.errors import InputError, argument

#: Labels (examples, ...) of one output, or a dict of them by output name.
Labels: TypeAlias = "np.ndarray | Mapping[str, np.ndarray]"


def each(function: Callable[..., Any], *labels: Any) -> Any:
    """Return a function's result for labels of one output, or its results by name for several.

    Args:
        function: Takes as many arrays as there are `labels`.
        *labels: Arrays, or dicts of arrays with the same names.
    """
    first = labels[0]
    if not isinstance(first, Mapping):
        return function(*labels)
    return {name: function(*(one[name] for one in labels)) for name in first}


def end_to_end(*labels: Any) -> Any:
    """Return the labels of several batches as those of one.

    Args:
        *labels: Arrays, or dicts of arrays with the same names.
    """
    return each(lambda *arrays: np.concatenate(arrays), *labels)


def names_of(labels: Any) -> tuple[str, ...]:
    """Return the names of the outputs that have labels; empty for labels of one output."""
    return tuple(labels) if isinstance(labels, Mapping) else ()


def listed(labels: Any) -> list[Any]:
    """Return the labels of each output, in the order of `names_of`."""
    return list(labels.values()) if isinstance(labels, Mapping) else [labels]


def named(names: Sequence[str], values: Sequence[Any]) -> Any:
    """Return values in the form of labels with these names, the reverse of `listed`."""
    return dict(zip(names, values, strict=True)) if names else values[0]


def shown(names: Sequence[str]) -> str:
    """Return a list of outputs as text for a message; no names mean labels of one output."""
    return " and ".join(map(repr, names)) or "one output"


def spelled(labels: Any) -> list[tuple[str, Any]]:
    """Return the labels of each output with their name in messages: `y`, `y['kind']`."""
    if not isinstance(labels, Mapping):
        return [("y", labels)]
    return [(f"y[{name!r}]", values) for name, values in labels.items()]


def check_names(labels: Any) -> None:
    """Raise an `InputError` for a dict of labels that does not name several outputs."""
    if not isinstance(labels, Mapping):
        return
    wrong = [name for name in labels if not isinstance(name, str)]
    if wrong:
        raise InputError(f"A dict of labels must have output names as keys, got {wrong[0]!r}.")
    if len(labels) == 1:
        raise InputError(
            f"y names one output, {next(iter(labels))!r}: give its array without a dict."
        )
    if not labels:
        raise InputError("y is an empty dict: give the labels of each output.")


def no_class_weights(names: Sequence[str]) -> str:
    """Return why labels of several outputs have no class weights."""
    return (
        f"{argument('class_weight')} is for one output, but the labels are for {shown(names)}: "
        "leave it out."
    )
