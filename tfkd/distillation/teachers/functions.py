"""The answers of a user's function that teaches: arrays of numbers, or an error that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfkd.errors import InputError, TfkdError
from tfkd.model import graph


class RaisedInputError(InputError):
    """An error that the user's function raised; `__cause__` is what it raised.

    `assertions.as_input_errors` finds the end of its name in TensorFlow's text.
    """


def answers_of(function: Callable[[Any], Any], name: str, x: Any) -> Any:
    """Return a function's answers to a batch in its own structure, as float32 arrays.

    Args:
        function: The function.
        name: Its name in messages.
        x: The batch: an array, or a structure of arrays.

    Raises:
        RaisedInputError: if it raises.
        InputError: if it returns anything but numbers.
    """
    try:
        result = function(x)
    except TfkdError:
        raise
    except Exception as error:  # whatever the user's code raises
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        shapes = ", ".join(str(np.shape(leaf)) for leaf in graph.leaves(x))
        raise RaisedInputError(
            f"The teacher {name!r}, a function, raised {said} on a batch of shape {shapes}."
        ) from error
    if not list(graph.leaves(result)):
        raise _no_numbers(name, result)
    return graph.map_structure(lambda answer: _numbers(name, answer), result)


def cause_of(error: BaseException) -> BaseException:
    """Return what a user's function raised if the error wraps it, and otherwise the error."""
    if isinstance(error, RaisedInputError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _numbers(name: str, answer: Any) -> np.ndarray:
    try:
        array = np.asarray(answer)
        if answer is not None and array.dtype.kind not in "US":
            return array.astype(np.float32, copy=False)
    except Exception as error:  # whatever another library's array raises
        raise _no_numbers(name, answer) from error
    raise _no_numbers(name, answer)


def _no_numbers(name: str, answer: Any) -> InputError:
    """Return the error for an answer that is not made of numbers."""
    if isinstance(answer, np.ndarray):
        shown = f"one of {answer.dtype}"
    elif answer is None or isinstance(answer, (str, bytes, list, tuple, dict)):
        shown = repr(answer)[:80]
    else:
        shown = type(answer).__name__
    return InputError(
        f"The teacher {name!r}, a function, must return an array of numbers, got {shown}."
    )
