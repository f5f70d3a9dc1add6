"""The meaning of a model's output, logits from probabilities, and helpers that all losses share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd.errors import InputError

#: The kinds of tasks (of `tfkd.model.task.TASKS`) for soft losses: each of several labels counts as
#: binary, and reconstructions count as values.
SOFT_TASKS = ("categorical", "binary", "regression")


def logits_of(outputs: tf.Tensor, activation: str) -> tf.Tensor:
    """Turn a model's outputs into logits.

    Where Keras keeps the logits beside the probabilities (its softmax and sigmoid do), or
    `outputs` comes from a softmax or sigmoid op in the graph being traced through nothing but
    changes of shape and dtype, the function returns those logits, which are exact for any
    magnitude. Otherwise it takes the logarithm of the probabilities, and counts values below the
    smallest float32 as that number.

    Args:
        outputs: Float tensor (..., classes).
        activation: `"linear"` (they are logits already), `"softmax"` or `"sigmoid"`.

    Returns:
        Float32 logits of the same shape; for softmax up to a constant per row, which a softmax
        ignores.
    """
    if activation == "linear":
        return tf.cast(outputs, tf.float32)
    kept = getattr(outputs, "_keras_logits", None)
    if kept is not None and kept.shape.as_list() == outputs.shape.as_list():
        return tf.cast(kept, tf.float32)
    if tf.is_symbolic_tensor(outputs):
        behind = _behind(outputs, activation)
        if behind is not None:
            return tf.cast(behind, tf.float32)
    outputs = tf.cast(outputs, tf.float32)
    tiny = np.finfo(np.float32).tiny
    logits = tf.math.log(tf.maximum(outputs, tiny))
    if activation == "sigmoid":
        logits -= tf.math.log(tf.maximum(1.0 - outputs, tiny))
    return logits


def _behind(outputs, activation: str):
    """Return the input of the squashing op behind a symbolic tensor, in the tensor's shape."""
    op, moved = outputs.op, False
    while op.type in ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims"):
        moved = moved or op.type in ("Reshape", "Squeeze", "ExpandDims")
        op = op.inputs[0].op
    if op.type.lower() != activation:
        return None
    logits = op.inputs[0]
    if not moved:
        return logits
    # Losses compare softmax logits along the class axis: it has to be the last in both.
    if activation == "softmax" and logits.shape[-1] != outputs.shape[-1]:
        return None
    reshaped = tf.reshape(logits, tf.shape(outputs))
    reshaped.set_shape(outputs.shape)
    return reshaped


_CATEGORICAL = {
    "sparsecategoricalcrossentropy",
    "categoricalcrossentropy",
    "categoricalfocalcrossentropy",
}
_BINARY = {"binarycrossentropy", "binaryfocalcrossentropy"}
_REGRESSION = {"mse", "mae", "mape", "msle", "huber", "logcosh"}


def task_of_loss(loss: Any) -> tuple[str | None, bool | None]:
    """Return the task that a Keras loss is made for.

    Args:
        loss: A Keras 3 or tf_keras loss: a name, a function or an object.

    Returns:
        The task (one of `SOFT_TASKS`, `None` where unknown) and whether the loss takes logits
        (`None` where the question does not arise or can't be answered).
    """
    key = key_of(loss)
    if key in _REGRESSION or key.startswith("mean"):
        return "regression", None
    if key not in _CATEGORICAL | _BINARY:
        return None, None
    from_logits = getattr(loss, "from_logits", None)
    if from_logits is None and hasattr(loss, "get_config"):
        from_logits = loss.get_config().get("from_logits")
    # Keras's default, both for the name and for the plain function.
    return ("categorical" if key in _CATEGORICAL else "binary"), bool(from_logits)


def takes_numbers(loss: Any) -> bool:
    """Tell whether a Keras loss takes class numbers, and not rows of classes.

    Args:
        loss: A Keras 3 or tf_keras loss: a name, a function or an object.
    """
    return key_of(loss) == "sparsecategoricalcrossentropy"


def key_of(loss: Any) -> str:
    """Return the name of a Keras loss in one spelling, such as `"meansquarederror"`."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "").lower()


def option_of(loss: Any, name: str, default: Any = None) -> Any:
    """Return a setting of a compiled Keras loss, such as its `axis` or `ignore_class`.

    Args:
        loss: A Keras 3 or tf_keras loss: a name, a function or an object.
        name: Name of the constructor's argument.
        default: The value to return if the loss has no such setting.
    """
    value = getattr(loss, name, None)
    if value is None:
        value = getattr(loss, "_fn_kwargs", {}).get(name)
    return default if value is None else value


def checked_number(name: str, value: Any, positive: bool = False) -> float:
    """Return a finite number ≥ 0, or > 0.

    Args:
        name: Name of the argument, for the message.
        value: The given value.
        positive: Whether to refuse 0.

    Raises:
        InputError: if it is no such number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise InputError(f"{name} must be a number {'>' if positive else '>='} 0, got {value!r}.")
    return number


class Configured:
    """An object that is rebuilt from its constructor's arguments, kept as attributes."""

    def get_config(self):
        """Return the constructor's arguments."""
        return dict(vars(self))

    def __repr__(self):
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({given})"

    @classmethod
    def from_config(cls, config):
        """Make the loss from `get_config`'s result."""
        return cls(**config)
