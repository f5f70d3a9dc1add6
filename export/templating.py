"""Filling in templates: the files in a folder's `templates/`, as one Jinja environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


def environment(folder: str, **options: Any) -> jinja2.Environment:
    """Return the Jinja environment of a folder of `export/`; an undefined name raises.

    Args:
        folder: The name of the folder, whose `templates/` is read.
        **options: Further arguments of `jinja2.Environment`.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(f"tfkd.export.{folder}"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        **options,
    )
