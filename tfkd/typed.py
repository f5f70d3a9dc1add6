"""Values from outside, converted to the types that a function or data class is annotated with."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any


def as_type(value, wanted):
    """Return a plain value as the annotated type, or raise.

    Args:
        value: `None`, bool, int, float, str, bytes, arrays; lists, tuples and dicts of these.
        wanted: A type, data class or `TypedDict`; `X | Y`, `list[X]`, `dict[X, Y]`,
            `Mapping[X, Y]`, `tuple[X, Y]` or `tuple[X, ...]` of these; or `Any`. A data class or
            `TypedDict` is made from a dict of its fields, a tuple from a list too, a float from an
            int.

    Raises:
        ValueError: if it is something else.

    Example:
        >>> as_type([1, "a"], tuple[float, str])
        (1.0, 'a')
    """
    origin, of = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for one in of:
            try:
                return as_type(value, one)
            except ValueError:
                continue
    elif wanted in (None, type(None)):
        if value is None:
            return None
    elif dataclasses.is_dataclass(wanted) or typing.is_typeddict(wanted):
        kinds = typing.get_type_hints(wanted)
        if isinstance(value, dict) and set(value) == set(kinds):
            return wanted(**{name: as_type(value[name], kind) for name, kind in kinds.items()})
    elif origin is tuple and isinstance(value, (list, tuple)):
        kinds = of[:1] * len(value) if of[1:] == (...,) else of
        if len(value) == len(kinds):
            return tuple(map(as_type, value, kinds))
    elif origin is list and isinstance(value, list):
        return [as_type(one, of[0]) for one in value]
    elif origin in (dict, Mapping) and isinstance(value, dict):
        return {as_type(key, of[0]): as_type(one, of[1]) for key, one in value.items()}
    elif wanted is float:
        if type(value) in (int, float):
            return float(value)
    elif origin is None and type(value) is wanted:
        return value
    raise ValueError(f"it holds a {type(value).__name__} in place of {_named(wanted)}")


def _named(wanted) -> str:
    return wanted.__name__ if isinstance(wanted, type) else str(wanted)
