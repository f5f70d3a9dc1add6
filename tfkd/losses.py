"""Soft-target losses: what the student is told of the teacher's answer.

A soft loss is an object called as `loss(teacher, student, temperature)` that returns one
value per example (shape: that of the outputs without their last axis), so that sample
weights and masks apply to it as they do to any Keras loss. For classification both
arguments are logits; `logits_of` turns a recognised softmax or sigmoid output back into
them. The distiller multiplies by nothing: a loss carries its own T².
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfkd.errors import InputError

#: What an output means, and with it what the soft loss compares.
TASKS = ("categorical", "binary", "regression")


class KLDivergence:
    """Kullback-Leibler divergence between softened class distributions, times T².

    ``T² · Σ_c p_c (log p_c − log q_c)`` with ``p = softmax(teacher / T)`` and
    ``q = softmax(student / T)``; the factor keeps the gradient's size independent of T
    (Hinton, Vinyals and Dean 2015, https://arxiv.org/abs/1503.02531). Taken on
    log-softmax, so a confidently wrong student still gets its full gradient.

    Call it with float tensors of shape (..., classes), both logits, and a scalar
    temperature; it returns shape (...), float32.
    """

    task = "categorical"

    def __call__(self, teacher, student, temperature):
        """Return one divergence per example, in nats times T²."""
        temperature = tf.cast(temperature, tf.float32)
        log_p = tf.nn.log_softmax(tf.cast(teacher, tf.float32) / temperature)
        log_q = tf.nn.log_softmax(tf.cast(student, tf.float32) / temperature)
        return temperature**2 * tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


class BinaryKLDivergence:
    """The same divergence for independent yes/no outputs (binary, multi-label), times T².

    ``T² · mean_k KL(Bernoulli(σ(t_k / T)) ‖ Bernoulli(σ(s_k / T)))``; the mean over
    labels is that of Keras's `BinaryCrossentropy`, so alpha weighs like with like.

    Call it with float logits of shape (..., labels); it returns shape (...), float32.
    """

    task = "binary"

    def __call__(self, teacher, student, temperature):
        """Return one divergence per example, in nats times T²."""
        temperature = tf.cast(temperature, tf.float32)
        teacher = tf.cast(teacher, tf.float32) / temperature
        student = tf.cast(student, tf.float32) / temperature
        cross = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(teacher), student)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(teacher), teacher)
        return temperature**2 * tf.reduce_mean(cross - entropy, axis=-1)


class MeanSquaredError:
    """Squared distance to the teacher's values, for regression; the temperature plays no part.

    ``mean_k (s_k − t_k)²``. Call it with float tensors of shape (..., values); it returns
    shape (...), float32.
    """

    task = "regression"

    def __call__(self, teacher, student, temperature):
        """Return one mean square per example."""
        del temperature
        difference = tf.cast(student, tf.float32) - tf.cast(teacher, tf.float32)
        return tf.reduce_mean(tf.square(difference), axis=-1)


_BY_TASK = {loss.task: loss for loss in (KLDivergence, BinaryKLDivergence, MeanSquaredError)}
_BY_NAME = {"kl": KLDivergence, "binary_kl": BinaryKLDivergence, "mse": MeanSquaredError}


def get(identifier, task: str | None):
    """Return the soft loss for an identifier.

    Args:
        identifier: `"auto"` (the loss that fits the task), `"kl"`, `"binary_kl"`, `"mse"`,
            or an object with `task` and `__call__(teacher, student, temperature)`.
        task: One of `TASKS`, or `None` where it could not be told.

    Raises:
        InputError: for an unknown name, or a loss made for another task.
    """
    if identifier == "auto":
        if task is None:
            raise InputError(
                "The task can't be told from the compiled loss; name the soft loss, "
                f"soft_loss={' or '.join(map(repr, _BY_NAME))}."
            )
        return _BY_TASK[task]()
    if isinstance(identifier, str):
        if identifier not in _BY_NAME:
            raise InputError(
                f"Unknown soft_loss {identifier!r}; allowed: 'auto', "
                f"{', '.join(map(repr, _BY_NAME))}, or an object."
            )
        loss = _BY_NAME[identifier]()
    elif callable(identifier) and getattr(identifier, "task", None) in TASKS:
        loss = identifier
    else:
        raise InputError(
            f"soft_loss must be a name or a callable with a `task` out of {TASKS}, "
            f"got {identifier!r}."
        )
    if task is not None and loss.task != task:
        raise InputError(
            f"soft_loss {type(loss).__name__} is for {loss.task} outputs, but the compiled loss "
            f"is for {task} ones."
        )
    return loss


def logits_of(outputs, activation: str):
    """Turn a model's outputs into logits.

    Where `outputs` is the direct result of a softmax or sigmoid op in the graph being
    traced, its input is taken, which is exact for any magnitude; otherwise the logarithm
    of the probabilities, with values below the smallest float32 counted as that.

    Args:
        outputs: Float tensor (..., classes).
        activation: `"linear"` (they are logits already), `"softmax"` or `"sigmoid"`.

    Returns:
        Float32 logits of the same shape; for softmax up to a constant per row, which
        no softmax notices.
    """
    if activation == "linear":
        return tf.cast(outputs, tf.float32)
    if tf.is_symbolic_tensor(outputs) and outputs.op.type.lower() == activation:
        return tf.cast(outputs.op.inputs[0], tf.float32)
    outputs = tf.cast(outputs, tf.float32)
    tiny = np.finfo(np.float32).tiny
    logits = tf.math.log(tf.maximum(outputs, tiny))
    if activation == "sigmoid":
        logits -= tf.math.log(tf.maximum(1.0 - outputs, tiny))
    return logits


def task_of(loss) -> tuple[str | None, bool | None]:
    """Tell what kind of output a Keras loss is made for.

    Args:
        loss: A Keras 3 or tf_keras loss: a name, a function or an object.

    Returns:
        The task (one of `TASKS`, `None` where unknown) and whether the loss takes logits
        (`None` where the question does not arise or can't be answered).
    """
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    key = name.replace("_", "").lower()
    if key in ("mse", "mae", "mape", "msle", "huber", "logcosh") or key.startswith("mean"):
        return "regression", None
    from_logits = getattr(loss, "from_logits", None)
    if from_logits is None and hasattr(loss, "get_config"):
        from_logits = loss.get_config().get("from_logits")
    if from_logits is None and (isinstance(loss, str) or callable(loss)):
        from_logits = False  # Keras's own default for the name and for the bare function.
    if key in (
        "sparsecategoricalcrossentropy",
        "categoricalcrossentropy",
        "categoricalfocalcrossentropy",
    ):
        return "categorical", bool(from_logits)
    if key in ("binarycrossentropy", "binaryfocalcrossentropy"):
        return "binary", bool(from_logits)
    return None, None
