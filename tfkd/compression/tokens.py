"""Token numbers: inputs that a model looks up in the tables of its Embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfkd.data import Data
from tfkd.errors import InputError
from tfkd.model import graph
from tfkd.translation import operations


def tables(model: Any) -> list[Any]:
    """Return the Embeddings that read a whole input of a model, as it is or cast.

    Args:
        model: A model of either Keras; anything else, or a model without a graph, shows none.
    """
    if not graph.has_graph(model):
        return []
    walked, found = graph.walk(model), []
    whole = {tensor.index for tensor in walked.input_list}
    for call in walked.calls:
        if not call.inputs or call.inputs[0].index not in whole:
            continue
        if call.kind == "Embedding":
            found.append(call.layer)
        elif operations.name_of(call.layer) == "cast":
            whole |= {tensor.index for tensor in call.outputs}
    return found


def check(model: Any, who: str, data: Data) -> None:
    """Raise for examples with a number that a model's table does not have.

    Of a part that is not in memory, only the first examples are looked at.

    Args:
        model: A model of either Keras.
        who: Its name in messages: `"teacher"` or `"student"`.
        data: The data.

    Raises:
        InputError: naming the part, the example, the number and the range.
    """
    rows = min((table.input_dim for table in tables(model)), default=None)
    if rows is None:
        return
    for name, part in data.parts.items():
        x = np.asarray(part.x if part.in_memory else part.head(part.at_once()).x)
        if x.dtype.kind not in "biuf":
            continue
        outside = (x <= -1) | (x >= rows)  # not NaN, which has a message of its own
        if outside.any():
            example = int(np.argmax(outside.reshape(len(x), -1).any(1)))
            number = x[example][outside[example]].flat[0]
            raise InputError(
                f"x of the {name} part holds {number} in example number {example}, but the {who} "
                f"{model.name!r} looks it up in an Embedding for numbers from 0 to {rows - 1}: "
                "correct x, or give a model with a larger table."
            )
