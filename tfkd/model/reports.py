"""What tfkd reports about the models that it made, kept beside them and not in them."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

_Report = TypeVar("_Report")
_kept: weakref.WeakKeyDictionary[Any, dict[type, Any]] = weakref.WeakKeyDictionary()


def keep(model: Any, report: Any) -> None:
    """Keep a report of a model for as long as the model lives; one of each class."""
    _kept.setdefault(model, {})[type(report)] = report


def find(model: Any, kind: type[_Report]) -> _Report | None:
    """Return a model's report of a class, or `None`."""
    try:
        return _kept.get(model, {}).get(kind)
    except TypeError:  # the model can't be a key
        return None
