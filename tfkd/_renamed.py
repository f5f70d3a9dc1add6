"""Names that were public before, served for one release with the name to use now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
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
