"""The dicts and nested lists of a model's inputs and outputs, kept in its file.

A `.tflite` file has flat lists. `put` writes the model's own structure into the file's
metadata as JSON, with the names of the signature as leaves, for example
`{"outputs": {"species": "head", "boxes": ["box", "box_2"]}}`. Runtimes do not read it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tfkd.model import graph

_ENTRY = b"tfkd_structures"


def of(structure) -> Any:
    """Return the plain form of a structure: dicts and lists with `None` for every leaf.

    Args:
        structure: Nested tuples, lists and dicts, as of `graph.Graph.outputs`.

    Returns:
        The form; `None` for a single tensor and for a flat list, which need none.
    """
    form = graph.map_structure(lambda _: None, structure)
    flat = isinstance(form, (list, tuple)) and all(part is None for part in form)
    return None if flat else form


def put(model, forms: dict[str, Any]) -> None:
    """Write forms into a parsed file.

    Args:
        model: A `schema.ModelT`.
        forms: By kind, with the names of the tensors as leaves, see `filled`.
    """
    from ai_edge_litert import schema_py_generated as schema

    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = _ENTRY, len(model.buffers)
    buffer.data = np.frombuffer(json.dumps(forms).encode(), np.uint8)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


def read(model) -> dict[str, Any]:
    """Return the forms that `put` wrote into a file; empty if there are none that can be read.

    Args:
        model: A `schema.ModelT`.
    """
    for entry in model.metadata or []:
        if entry.name == _ENTRY and 0 < entry.buffer < len(model.buffers):
            data = model.buffers[entry.buffer].data
            try:
                forms = json.loads(b"" if data is None else bytes(data))
                return forms if isinstance(forms, dict) else {}
            except (ValueError, RecursionError):
                return {}
    return {}


def names(form) -> dict[str, str | None]:
    """Return the name of each tensor → its keys joined by `/`, `None` outside of any dict.

    Args:
        form: As from `read`.
    """

    def visit(part, path):
        if isinstance(part, dict):
            for key, value in part.items():
                yield from visit(value, (*path, key))
        elif isinstance(part, list):
            for i, value in enumerate(part):
                yield from visit(value, (*path, str(i)) if path else path)
        else:
            yield str(part), "/".join(path) or None

    return dict(visit(form, ()))


def filled(form, values: list):
    """Return a form with values in place of its leaves, in their order."""
    rest = iter(values)
    return graph.map_structure(lambda _: next(rest), form)
