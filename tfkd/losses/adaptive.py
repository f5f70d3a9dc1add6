"""`soft_loss="adaptive"`: a soft loss that pulls at the logits as hard as the labels, no harder.

Fixed factors between hard and soft loss fail because the two change at their own pace: the
gradient of cross-entropy fades as the labels are learned, the gradient of a soft loss stays as
large as the gap between student and teacher, which a small student can never close. `Balanced`
compares the two where they meet, at the student's logits z, in every batch:

``soft · stop_gradient(ratio · rms_i ‖∂hard_i/∂z_i‖ / rms_i ‖∂soft_i/∂z_i‖)``

over the elements i of the batch. So alpha is the labels' share of the pull, whatever the loss, the
temperature, the teacher's confidence and the phase of training. The same idea balances the feature
losses, see `balance`; GradNorm (Chen et al. 2018, https://arxiv.org/abs/1711.02257) balances tasks
with it, and Esser et al. 2021 a reconstruction and an adversary (https://arxiv.org/abs/2012.09841,
equation 7).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfkd.errors import InputError, argument
from tfkd.losses import soft
from tfkd.losses.outputs import checked_number
from tfkd.losses.weighted import WeightedSum


@keras.saving.register_keras_serializable("tfkd")
class Balanced(soft.SoftLoss):
    """Another soft loss, scaled in each batch to the pull of the labels.

    The labels' pull is that of the cross-entropy, or of half the squared error for values, at
    the student's outputs. Elements without a label keep the loss unscaled, since nothing competes
    with it there. Without any labels, `Balanced` equals the wrapped loss.

    Args:
        loss: The loss to scale: what `soft_loss=` takes, for one kind of output.
        ratio: Pull of the teacher over that of the labels, before alpha. Defaults to 1.
        trusting: Whether to follow the teacher even where its answers are wrong. By default,
            classes and yes/no outputs count only where the teacher is right. Its pull weakens where
            it is hardly better than chance in the batch (Cohen's kappa below 0.5, R² below 0.2),
            and fades to nothing once the student is ahead of it by a tenth in accuracy (or R²). The
            labels replace the teacher as far as it is not followed, and where it pulls a thousand
            times less than the labels (its answers are constant): the loss then holds their
            cross-entropy, or half the squared error, so that no example pulls less than it would
            with a good teacher.

    Raises:
        InputError: for a loss for several kinds of output, or a ratio that is not > 0.
    """

    mixes_elements = True
    knows_labels = True

    def __init__(self, loss: Any, ratio: float = 1.0, trusting: bool = False):
        self.loss = soft.get(loss)
        if self.loss is None or len(self.loss.tasks) != 1:
            raise InputError(
                f"Balanced needs a soft loss for one kind of output, got {loss!r}; name one such "
                "as 'dist', 'kl', 'binary_kl' or 'mse'."
            )
        self.ratio = checked_number("ratio", ratio, positive=True)
        self.trusting = bool(trusting)

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
        """The class weights of the loss."""
        return getattr(self.loss, "class_weights", None)

    def __call__(self, teacher, student, temperature, y=None, mask=None, known=None):
        """Return one value per element.

        Args:
            teacher: Float tensor (..., classes): logits, or values for regression.
            student: Likewise.
            temperature: Scalar > 0.
            y: Labels, or `None`.
            mask: Boolean tensor (...): the elements that count, or `None`.
            known: Boolean tensor (...), or (..., labels), of what has a label; `None` for all.

        Returns:
            Float32 tensor (...).
        """
        more = {"mask": mask} if self.loss.mixes_elements else {}
        if y is None:
            return self.loss(teacher, student, temperature, y, **more)
        labels = _Labels(self.tasks[0], y, student, mask, known)
        trust, right = 1.0, None
        if not self.trusting:
            trust, right = labels.trust(teacher, student), labels.right(teacher)
            followed = right
            if right is not None and right.shape.rank == student.shape.rank:  # of each label
                teacher = tf.where(right, teacher, tf.stop_gradient(student))
                right = None
            elif right is not None and self.loss.mixes_elements:
                more["mask"] = right if mask is None else mask & right
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = self.loss(teacher, student, temperature, y, **more)
            if right is not None:
                values = tf.where(right, values, tf.zeros_like(values))
            total = tf.reduce_sum(_masked(values, mask))
        counted = right if mask is None else mask if right is None else mask & right
        pull = _rms(tape.gradient(total, student), counted)
        hard = _rms(labels.pull(student), labels.known)
        # A gradient close to zero, such as the rounding of a constant, must not be amplified.
        loud = tf.square(tf.math.divide_no_nan(_LOUDEST * pull, hard))
        trust *= tf.where(hard > _LOUDEST * pull, loud, tf.ones_like(loud))
        trust = tf.stop_gradient(trust)
        scale = tf.stop_gradient(self.ratio * trust * tf.math.divide_no_nan(hard, pull))
        if known is not None:
            scale = tf.where(labels.elements, scale, trust)
        if self.trusting:
            return scale * values
        instead = labels.loss(student, 1.0 - trust, followed)
        return scale * values + self.ratio * instead

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the loss serialized."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "ratio": self.ratio, "trusting": self.trusting}


#: The loss of `soft_loss="hinton"` for each task.
_HINTON = {"categorical": "kl", "binary": "binary_kl", "regression": "mse"}


def resolve(soft_loss: Any, temperature: float | None) -> Any:
    """Return a soft loss with `"auto"` resolved to a name.

    A temperature belongs to Hinton's loss: giving one selects that loss.

    Args:
        soft_loss: As `Distiller` takes it: one, or a list or dict by output.
        temperature: As the caller gave it, or `None`.

    Returns:
        The same with `"hinton"` for `"auto"` if a temperature is given, else `"adaptive"`.
    """
    if isinstance(soft_loss, str) and soft_loss == "auto":
        return "adaptive" if temperature is None else "hinton"
    if isinstance(soft_loss, (list, tuple)):
        return [resolve(one, temperature) for one in soft_loss]
    if isinstance(soft_loss, dict):  # by output; a serialized loss never contains "auto"
        return {name: resolve(one, temperature) for name, one in soft_loss.items()}
    return soft_loss


def default_for(
    task: str | None, name: str = "adaptive", classes: int | None = None
) -> soft.SoftLoss:
    """Return the loss that `soft_loss="adaptive"` or `"hinton"` means for a task.

    `"hinton"` is T² times KL for classes and for yes/no outputs, the squared distance for values.
    `"adaptive"` is for classes the mean of two losses, each balanced: KL of standardized logits
    (at T = 2 of their own unit) and DIST (at the distiller's temperature). Both compare the pattern
    of the teacher's answer and not its size, which a small student can't reach; KL compares logits,
    DIST probabilities. With two classes the KL half carries no information (two standardized logits
    are +1 and −1), so that only DIST is left, with half the pull. For yes/no outputs it is DIST of
    their probabilities, for values the squared distance, balanced likewise.

    Args:
        task: One of `losses.SOFT_TASKS`.
        name: `"adaptive"` or `"hinton"`.
        classes: Number of classes of an output, if known.

    Raises:
        InputError: if the compiled loss does not show the task.
    """
    if task is None:
        raise InputError(
            "The compiled loss does not show the task; name the soft loss, for example "
            f"{argument('soft_loss', 'kl')} (classes), 'binary_kl' (yes/no) or 'mse' (values), or "
            "None for an output that should not learn from the teacher."
        )
    if name == "hinton":
        return soft.get(_HINTON[task])
    if task == "categorical" and classes == 2:
        return Balanced("dist", ratio=0.5)
    if task == "categorical":
        parts = [(Balanced("standardized_kl"), 0.5, 2.0), (Balanced("dist"), 0.5)]
        return WeightedSum(parts)
    return Balanced({"binary": "binary_dist", "regression": "mse"}[task])


class _Labels:
    """The labels of a batch: their gradients, and where teacher and student are right.

    Args:
        task: One of `losses.SOFT_TASKS`.
        y: Labels in the form that `fit` takes.
        student: The student's outputs (..., classes).
        mask: Which elements count, or `None`.
        known: Boolean: which elements have a label, or `None`.

    Attributes:
        y: Float rows (..., classes).
        known: Boolean, which entries count and have a label: (...), for yes/no outputs and
            values (..., classes); or `None` for all.
        elements: The same per element, masked or not; `None` for all.
    """

    def __init__(self, task, y, student, mask, known):
        self.task, classes = task, student.shape[-1]
        if task == "categorical":
            self.y = soft.one_hot(y, student)
        else:
            self.y = tf.reshape(tf.cast(y, tf.float32), tf.shape(student))
        per_value = known is not None and known.shape.rank == student.shape.rank
        self.elements = tf.reduce_any(known, -1) if per_value else known
        if task == "categorical":
            self.known = self.elements if mask is None else mask
            if mask is not None and self.elements is not None:
                self.known = mask & self.elements
            return
        wide = [None if m is None else tf.repeat(m[..., None], classes, -1) for m in (mask, known)]
        wide[1] = known if per_value else wide[1]
        given = [one for one in wide if one is not None]
        self.known = given[0] & given[-1] if given else None

    def pull(self, student):
        """Return the gradient of each element's hard loss at the outputs (..., classes)."""
        if self.task == "categorical":
            return tf.nn.softmax(student) - self.y
        gap = (tf.sigmoid(student) if self.task == "binary" else student) - self.y
        gap = gap if self.known is None else tf.where(self.known, gap, tf.zeros_like(gap))
        return gap / student.shape[-1]

    def loss(self, student, share, followed):
        """Return each element's hard loss, to the extent that it replaces the teacher (...).

        Args:
            student: The student's outputs (..., classes).
            share: Its factor where the teacher is followed, a scalar.
            followed: Where the teacher is followed at all, as returned by `right`; elsewhere
                the factor is 1. Elements without a label have no loss.
        """
        if self.task == "categorical":
            values = tf.nn.softmax_cross_entropy_with_logits(self.y, student)
        elif self.task == "binary":
            values = tf.nn.sigmoid_cross_entropy_with_logits(self.y, student)
        else:
            values = 0.5 * tf.square(student - self.y)
        share *= tf.ones_like(values)
        if followed is not None:
            share = tf.where(followed, share, tf.ones_like(share))
        values = share * values
        if self.known is not None:
            values = tf.where(self.known, values, tf.zeros_like(values))
        return values if self.task == "categorical" else tf.reduce_mean(values, -1)

    def right(self, answers):
        """Return where answers are right; elements without a label count as right.

        Returns:
            Boolean tensor (...) for classes, (..., classes) for yes/no outputs, `None` for
            values: labels with noise in them don't show which of these are right.
        """
        if self.task == "categorical":
            right = tf.equal(tf.argmax(answers, -1), tf.argmax(self.y, -1))
            return right if self.elements is None else right | ~self.elements
        if self.task == "regression":
            return None
        right = tf.equal(answers > 0, self.y > 0.5)
        return right if self.known is None else right | ~self.known

    def trust(self, teacher, student):
        """Return how far to follow the teacher in this batch, a scalar in [0, 1]."""
        theirs, chance = self._score(teacher)
        above = tf.math.divide_no_nan(theirs - chance, 1.0 - chance) / _SURE[self.task]
        above = tf.clip_by_value(above, 0.0, 1.0)
        # A batch of one class, of equal values or without labels shows nothing of the teacher.
        silent = chance > 1.0 - 1e-6
        silent = silent if self.known is None else silent | ~tf.reduce_any(self.known)
        above = tf.where(silent, tf.ones_like(above), above)
        ahead = self._score(student)[0] - theirs
        return tf.square(above) * tf.clip_by_value(1.0 - ahead / _MARGIN, 0.0, 1.0)

    def _score(self, answers):
        """Return accuracy and the accuracy of chance, or R² and 0."""
        if self.task == "regression":
            spread = self._average(tf.square(self._mean() - self.y))
            error = self._average(tf.square(answers - self.y))
            flat = spread <= 1e-12
            return 1.0 - tf.math.divide_no_nan(error, spread), tf.where(flat, 1.0, 0.0)
        if self.task == "binary":
            said, true = tf.cast(answers > 0, tf.float32), tf.cast(self.y > 0.5, tf.float32)
            said_yes, yes = self._per_class(said), self._per_class(true)
            chance = tf.reduce_mean(said_yes * yes + (1.0 - said_yes) * (1.0 - yes))
            return self._average(tf.cast(tf.equal(said, true), tf.float32)), chance
        said = tf.one_hot(tf.argmax(answers, -1), answers.shape[-1])
        true = tf.one_hot(tf.argmax(self.y, -1), answers.shape[-1])
        chance = tf.reduce_sum(self._per_class(said) * self._per_class(true))
        return self._average(tf.reduce_sum(said * true, -1)), chance

    def _mean(self):
        return self._per_class(self.y)

    def _per_class(self, rows):
        """Return each class's mean over the entries that count (classes,)."""
        axes = list(range(rows.shape.rank - 1))
        if self.known is None:
            return tf.reduce_mean(rows, axes)
        known = self.known if self.known.shape.rank == rows.shape.rank else self.known[..., None]
        known = tf.cast(known, rows.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(rows * known, axes), tf.reduce_sum(known, axes))

    def _average(self, values):
        if self.known is None:
            return tf.reduce_mean(values)
        known = tf.cast(self.known, values.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(values * known), tf.reduce_sum(known))


#: Cohen's kappa, or R², from which a teacher is followed in full.
_SURE = {"categorical": 0.5, "binary": 0.5, "regression": 0.2}
#: The largest factor of a soft loss; a loss whose gradient needs more has less influence.
_LOUDEST = 1000.0
#: The lead in accuracy (or R²) at which a student ignores its teacher.
_MARGIN = 0.1


def _masked(values, mask):
    return values if mask is None else tf.where(mask, values, tf.zeros_like(values))


def _rms(gradient, mask):
    """Return the root mean square over elements of a gradient's length."""
    square = tf.reduce_sum(tf.square(gradient), axis=-1)
    if mask is None:
        return tf.sqrt(tf.reduce_mean(square))
    if mask.shape.rank > square.shape.rank:
        mask = tf.reduce_any(mask, -1)
    count = tf.reduce_sum(tf.cast(mask, tf.float32))
    return tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(_masked(square, mask)), count))
