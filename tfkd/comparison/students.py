"""The students of a comparison: the same untrained one for every method of a seed."""

from __future__ import annotations

from typing import Any

import keras

from tfkd.errors import InputError, UnsupportedError
from tfkd.model import backends, graph
from tfkd.translation import copies


class Students:
    """Gives every method of a seed the same untrained student.

    Args:
        given: A model (the first seed starts from its weights), or a function that returns a new
            one.
        first: The first seed.
    """

    def __init__(self, given, first: int):
        self.is_factory = not hasattr(given, "layers") and callable(given)
        self.first, self._given = first, given
        self._initial: dict[int, Any] = {}
        self.example = self.copy(first)
        self.package = backends.package_of(self.example)

    def copy(self, seed: int):
        """Return the student of a seed, to be trained."""
        if seed not in self._initial:
            self._initial[seed] = self._new(seed)
        initial = self._initial[seed]
        backends.package_of(initial).utils.set_random_seed(seed)
        return copies.copy_of(initial)

    def _new(self, seed: int):
        if self.is_factory:
            keras.utils.set_random_seed(seed)
            return _checked(self._given())
        given = _checked(self._given)
        return given if seed == self.first else copies.with_new_weights(given, seed)


def _checked(student):
    if backends.flavour(student) is None or not hasattr(student, "layers"):
        raise InputError(
            "The student must be a Keras 3 or tf_keras model, or a function without arguments that "
            f"returns a new one, got {type(student).__name__}."
        )
    if backends.is_quantize_aware(student):
        raise InputError(
            f"The student {student.name!r} is quantize-aware: compare with the float student, then "
            "quantize the best."
        )
    if not graph.has_graph(student) or len(graph.walk(student).output_list) != 1:
        raise UnsupportedError(
            f"compare copies its student and decides by one score: {student.name!r} must be a "
            "Functional or a built Sequential model with one output. For several outputs, use "
            "compress, which trains the student with and without its teacher."
        )
    return student
