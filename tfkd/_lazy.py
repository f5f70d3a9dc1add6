"""Names that a package offers, imported when first used, so that `import tfkd` is quick."""

from __future__ import annotations

import importlib


def attach(package: str, homes: dict[str, str]):
    """Make the module-level hooks (PEP 562) of a facade.

    Args:
        package: The package's `__name__`.
        homes: Public name → module of the package it lives in; a module's own name
            stands for the module.

    Returns:
        `__getattr__`, `__dir__` and `__all__` for the package.
    """

    def __getattr__(name):  # noqa: N807
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name]}")
        return module if homes[name] == name else getattr(module, name)

    def __dir__():  # noqa: N807
        return sorted(homes)

    return __getattr__, __dir__, sorted(homes)
