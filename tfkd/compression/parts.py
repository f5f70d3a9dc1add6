"""A long training in parts of some epochs each, so that an interrupted one continues where it was.

Each part is a fit of its own, with its own seed: the result of a training depends on how it is
divided, and the division depends only on the model and the data. An interrupted training that
continues ends in the same weights as an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tfkd.errors import TfkdError
from tfkd.model import backends, cost

#: Multiply-accumulates of a part, forward and backward: about a minute on a CPU.
_WORK = 1e12
# Attributes with the strength of a layer's random draws; 0 in most recurrent layers.
_RATES = ("rate", "stddev", "dropout", "recurrent_dropout")


def ends(student: Any, examples: int, epochs: int) -> list[int]:
    """Return after how many epochs each part of a training ends; a short one has one part.

    Args:
        student: The model to train.
        examples: Number of examples per epoch.
        epochs: Epochs of the training.
    """
    if _draws(student):
        return [epochs]
    try:
        macs = cost.measure(student).macs
    except TfkdError:
        macs = None
    if not macs:
        return [epochs]
    length = math.ceil(_WORK / (3 * macs * examples))
    return [*range(length, epochs, length), epochs]


def _draws(student: Any) -> bool:
    """Tell whether a tf_keras model draws random numbers, whose position can't be saved."""
    if backends.package_of(student) is keras:
        return False  # the states of its random generators are variables
    for layer in student._flatten_layers():
        if hasattr(layer, "_random_generator"):
            rates = [getattr(layer, name) for name in _RATES if hasattr(layer, name)]
            if any(rates) or not rates:
                return True
    return False


class State:
    """Everything that a training changes: the weights of a learner and of its optimizer.

    Args:
        learner: The model to train.
        optimizer: Its optimizer, built.
    """

    def __init__(self, learner: Any, optimizer: Any):
        self._variables = [*learner.variables, *optimizer.variables]

    def get_weights(self) -> list[np.ndarray]:
        """Return them."""
        return [one.numpy() for one in self._variables]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Replace them."""
        for variable, values in zip(self._variables, weights, strict=True):
            variable.assign(values)
