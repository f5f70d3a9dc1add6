"""Names that were public before, served for one release with the name to use now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def with_old_names(
    package: str, current: Callable[[str], Any], old: dict[str, str]
) -> Callable[[str], Any]:
    """Return a package's `__getattr__` that knows its old names too.

    Args:
        package: The package's `__name__`.
        current: Its `__getattr__` for the names of today.
        old: Old name → full name of the module that it is now.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in old:
            return current(name)
        warnings.warn(
            f"{package}.{name} is {old[name]} now; the old name goes with tfkd 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        return importlib.import_module(old[name])

    return __getattr__


class OldDict(dict):  # type: ignore[type-arg]
    """A dictionary where it was before: reading it warns with its place of today.

    Args:
        values: What is in it.
        advice: Where it is now.
    """

    def __init__(self, values: Mapping[Any, Any], advice: str):
        super().__init__(values)
        self._advice = advice


def _warning(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def read(self: OldDict, *args: Any) -> Any:
        warnings.warn(
            f"{self._advice}; the old name goes with tfkd 0.3.", DeprecationWarning, stacklevel=2
        )
        return method(self, *args)

    return read


for _name in ("__getitem__", "__iter__", "__len__", "__contains__", "__eq__"):
    setattr(OldDict, _name, _warning(_name))
for _name in ("get", "items", "keys", "values"):
    setattr(OldDict, _name, _warning(_name))
