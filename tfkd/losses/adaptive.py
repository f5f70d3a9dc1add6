"""`soft_loss="auto"`: a soft loss that pulls at the logits as hard as the labels do, no harder.

Fixed factors between hard and soft loss fail because the two change at their own pace: the
gradient of cross-entropy fades as the labels are learned, that of a soft loss stays as large as
what is left between student and teacher, which a small student can never close. `Balanced`
compares the two where they meet, at the student's logits z, in every batch:

``soft · stop_gradient(ratio · rms_i ‖∂hard_i/∂z_i‖ / rms_i ‖∂soft_i/∂z_i‖)``

over the elements i of the batch. So alpha is the share of the labels in the pull, whatever the
loss, the temperature, the teacher's confidence and the phase of training. The same idea balances
the feature losses, see `balance`; between tasks it is GradNorm's (Chen et al. 2018,
https://arxiv.org/abs/1711.02257), between a reconstruction and an adversary that of Esser et al.
2021 (https://arxiv.org/abs/2012.09841, equation 7).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfkd.errors import InputError
from tfkd.losses import soft
from tfkd.losses.outputs import checked_number


@keras.saving.register_keras_serializable("tfkd")
class Balanced(soft.SoftLoss):
    """Another soft loss, scaled in each batch to the pull of the labels.

    The labels' pull is that of the cross-entropy, or of half the squared error for values, at
    the student's outputs; elements without a label keep the loss as it is, since nothing
    competes with it there. Without labels it is the other loss.

    Args:
        loss: What `soft_loss=` takes, for one kind of output.
        ratio: Pull of the teacher over that of the labels, before alpha. Defaults to 1.

    Raises:
        InputError: for a loss of several kinds of output, or a ratio that is not > 0.
    """

    mixes_elements = True
    knows_labels = True

    def __init__(self, loss, ratio: float = 1.0):
        self.loss = soft.get(loss)
        if self.loss is None or len(self.loss.tasks) != 1:
            raise InputError(
                f"Balanced needs a soft loss for one kind of output, got {loss!r}; name one such "
                "as 'dist', 'kl', 'binary_kl' or 'mse'."
            )
        self.ratio = checked_number("ratio", ratio, positive=True)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task of the loss."""
        return self.loss.tasks

    @property
    def needs_labels(self) -> bool:
        """Whether the loss itself reads labels."""
        return self.loss.needs_labels

    @property
    def class_weights(self) -> list[float] | None:
        """Those of the loss."""
        return getattr(self.loss, "class_weights", None)

    def __call__(self, teacher, student, temperature, y=None, mask=None, known=None):
        """Return one value per element.

        Args:
            teacher: Float tensor (..., classes): logits, or values for regression.
            student: Likewise.
            temperature: Scalar > 0.
            y: Labels, or `None`.
            mask: Boolean tensor (...): the elements that count, or `None`.
            known: Boolean tensor (...), or (..., labels): what has a label, or `None` for all.

        Returns:
            Float32 tensor (...).
        """
        more = {"mask": mask} if self.loss.mixes_elements else {}
        if y is None:
            return self.loss(teacher, student, temperature, y, **more)
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = self.loss(teacher, student, temperature, y, **more)
            total = tf.reduce_sum(_only(values, mask))
        pull = tape.gradient(total, student)
        labelled = mask
        if known is not None:
            known = tf.reduce_any(known, -1) if known.shape.rank == student.shape.rank else known
            labelled = known if mask is None else mask & known
        hard = _pull_of_labels(self.tasks[0], student, y)
        scale = self.ratio * tf.math.divide_no_nan(_rms(hard, labelled), _rms(pull, mask))
        scale = tf.stop_gradient(scale)
        return values * (scale if known is None else tf.where(known, scale, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the loss serialized."""
        return {"loss": keras.saving.serialize_keras_object(self.loss), "ratio": self.ratio}


def _pull_of_labels(task: str, student, y):
    """Return the gradient of the hard loss of each element at its outputs."""
    if task == "categorical":
        return tf.nn.softmax(student) - soft.one_hot(y, student)
    y = tf.reshape(tf.cast(y, tf.float32), tf.shape(student))
    share = 1.0 / student.shape[-1]
    return share * ((tf.sigmoid(student) if task == "binary" else student) - y)


def _only(values, mask):
    return values if mask is None else tf.where(mask, values, tf.zeros_like(values))


def _rms(gradient, mask):
    """Return the root mean square over elements of a gradient's length."""
    square = tf.reduce_sum(tf.square(gradient), axis=-1)
    if mask is None:
        return tf.sqrt(tf.reduce_mean(square))
    count = tf.reduce_sum(tf.cast(mask, tf.float32))
    return tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(_only(square, mask)), count))
