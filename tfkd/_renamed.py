"""Old public names, which work for one more release and warn with the new name."""

from __future__ import annotations

import functools
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from tfkd.errors import InputError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_UNTIL = "will be removed in tfkd 0.3."


def with_old_names(
    package: str, current: Callable[[str], Any] | None, old: dict[str, str]
) -> Callable[[str], Any]:
    """Return a package's `__getattr__` that also knows its old names.

    Args:
        package: The package's `__name__`.
        current: Its `__getattr__` for the current names; `None` if it has none.
        old: Old name → its current module, or the `module:name` of its replacement.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in old:
            if current is None:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return current(name)
        now = old[name].replace(":", ".")
        warnings.warn(
            f"{package}.{name} is now {now}; the old name {_UNTIL}",
            DeprecationWarning,
            stacklevel=2,
        )
        return pkgutil.resolve_name(old[name])

    return __getattr__


class OldDict(dict):  # type: ignore[type-arg]
    """A dictionary in its old place: reading it warns with its new place.

    Args:
        values: Its content.
        advice: Its new place.
    """

    def __init__(self, values: Mapping[Any, Any], advice: str):
        super().__init__(values)
        self._advice = advice


def _warning(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def read(self: OldDict, *args: Any) -> Any:
        warnings.warn(f"{self._advice}; the old name {_UNTIL}", DeprecationWarning, stacklevel=2)
        return method(self, *args)

    return read


for _name in ("__getitem__", "__iter__", "__len__", "__contains__", "__eq__"):
    setattr(OldDict, _name, _warning(_name))
for _name in ("get", "items", "keys", "values"):
    setattr(OldDict, _name, _warning(_name))


def old_attribute(owner: str, old: str, now: str) -> property:
    """Return a property that serves an attribute under its old name.

    Args:
        owner: The class.
        old: The old name.
        now: The new name.
    """

    def read(self: Any) -> Any:
        warnings.warn(
            f"{owner}.{old} is now {owner}.{now}; the old name {_UNTIL}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(self, now)

    read.__doc__ = f"The old name of `{now}`, served until tfkd 0.3."
    return property(read)


def with_old_keywords(**old: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that lets a function take old names of its keyword arguments.

    Args:
        **old: Old name → new name.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name_of_call = function.__qualname__.removesuffix(".__init__").split(".")[-1]

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for name in old.keys() & kwargs.keys():
                now = old[name]
                if now in kwargs:
                    raise InputError(
                        f"{name} is the old name of {now}, and both were given: give only {now}."
                    )
                warnings.warn(
                    f"{name_of_call}({name}=...) is now {now}=...; the old name {_UNTIL}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[now] = kwargs.pop(name)
            return function(*args, **kwargs)

        return call

    return decorate
