"""How each output of a student is taught."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfkd import losses
from tfkd.distillation.teachers import readable_activation
from tfkd.errors import InputError, argument
from tfkd.losses import soft as soft_losses
from tfkd.losses.outputs import key_of
from tfkd.model import binding, graph
from tfkd.output_kind import OutputKind, output_kinds

#: Losses that are a mean of element losses over the last axis, with a label for each element.
_PER_LABEL = {"meansquarederror", "mse", "meanabsoluteerror", "mae", "huber", "logcosh"}
_PER_LABEL |= {"binarycrossentropy", "binaryfocalcrossentropy"}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """How one output learns.

    Attributes:
        name: The output's name.
        shape: Its shape, batch included.
        task: One of `losses.SOFT_TASKS`.
        activation: `"linear"`, `"softmax"` or `"sigmoid"`: how the output becomes logits.
        axis: The axis of the classes, counted from the front; the compiled loss says which.
        soft: The soft loss, or `None` if the output learns from labels alone.
        hard: The compiled loss, or `None` if it learns from the teacher alone.
        weight: Factor of the output's losses.
        unlabeled: The label that marks a missing one, or `None`.
        ignored: The loss's `ignore_class`, or `None`.
    """

    name: str
    shape: tuple
    task: str
    activation: str
    axis: int
    soft: Any
    hard: Any
    weight: float
    unlabeled: float | None = None
    ignored: int | None = None

    @property
    def asked(self) -> str | None:
        """The task that the teacher answers; `None` if it isn't asked."""
        return self.task if self.soft is not None else None

    @property
    def per_label(self) -> bool:
        """Whether each value of an example has a label and a loss of its own."""
        return key_of(self.hard) in _PER_LABEL

    @property
    def is_custom(self) -> bool:
        """Whether the compiled loss is the user's own, with labels as it wants them."""
        return self.hard is not None and losses.task_of_loss(self.hard)[0] is None

    @property
    def reads_labels(self) -> bool:
        """Whether a loss of the output reads labels."""
        return self.hard is not None or getattr(self.soft, "needs_labels", False)

    @property
    def classes(self) -> int | None:
        """Number of entries along the class axis."""
        return self.shape[self.axis]


def plan(
    student, outputs: binding.Slots, loss, loss_weights, settings: Mapping
) -> tuple[Lesson, ...]:
    """Decide from the compiled losses how each output learns from the teacher.

    Args:
        student: The student.
        outputs: Its outputs.
        loss: The compiled losses, one per output.
        loss_weights: Factors, one per output.
        settings: `soft_loss`, `from_logits` and `unlabeled` of the distiller.

    Returns:
        A `Lesson` per output.

    Raises:
        InputError: where a soft loss does not fit, a loss takes logits and gets
            probabilities (or the reverse), or the two can't be told apart.
    """
    soft = _soft_of(outputs, settings["soft_loss"])
    unlabeled = per_output(settings["unlabeled"], outputs, "unlabeled")
    kinds = output_kinds(student) if graph.has_graph(student) else [OutputKind(None)] * len(outputs)
    return tuple(
        _lesson(
            student.name, slot, kinds[i], loss[i], loss_weights[i], soft[i], unlabeled[i],
            settings["from_logits"], len(outputs),
        )
        for i, slot in enumerate(outputs.entries)
    )  # fmt: skip


_ALONE = object()  # marks a soft loss of `None` for one output


def _soft_of(outputs: binding.Slots, given) -> list:
    """Return the soft loss requested for each output; `_ALONE` for none."""
    if isinstance(given, Mapping) and not is_config(given):
        return outputs.bind(_none_as_alone(given), "soft_loss", missing=True)
    given = _none_as_alone(given)
    return per_output(given, outputs, "soft_loss")


def _none_as_alone(given):
    """Return soft losses with `_ALONE` for `None`, in the same lists and dicts."""
    if isinstance(given, Mapping) and not is_config(given):
        return {name: _none_as_alone(value) for name, value in given.items()}
    if isinstance(given, (list, tuple)):
        return [_none_as_alone(value) for value in given]
    return _ALONE if given is None else given


def _lesson(student, slot, kind, hard, weight, wanted, unlabeled, from_logits, outputs) -> Lesson:
    name, shape = slot.label, slot.shape
    task, loss_from_logits = losses.task_of_loss(hard) if hard is not None else (None, None)
    alone = wanted is _ALONE
    chosen = None if alone else soft_losses.get(wanted)
    axis = len(shape) - 1
    if alone or (hard is None and wanted is None):
        task, chosen = task or "regression", None
    else:
        # If other outputs have named losses, an output without one gets Hinton's.
        chosen = chosen or losses.default_for(task, wanted or "hinton", shape[-1])
        task = soft_losses.check_task(chosen, task)
        chosen = chosen.for_task(task)
    if task == "categorical":
        axis = losses.option_of(hard, "axis", -1)
        # Dice and Tversky sum over several axes; the last is that of the classes.
        axis = (axis if isinstance(axis, int) else -1) % len(shape)
        if shape[axis] == 1:
            raise InputError(
                f"The output {name!r} has one unit and a loss for classes, which is 0 whatever the "
                "unit returns; use BinaryCrossentropy, or one unit per class."
            )
    fits = kind.is_last if axis == len(shape) - 1 else kind.class_axis in (None, axis)
    seen = kind.activation if fits else None
    said = from_logits
    if said is None and seen is None and loss_from_logits:
        said = True  # set in the loss object, and not Keras's default
    if chosen is None:
        activation = seen or "linear"
    else:
        activation = readable_activation("student", student, seen, task, said)
    if (
        chosen is not None
        and loss_from_logits is not None
        and loss_from_logits != (activation == "linear")
    ):
        gives = "logits" if activation == "linear" else "probabilities"
        raise InputError(
            f"The loss has {argument('from_logits', loss_from_logits)}, but the student "
            f"{student!r} gives {gives}; pass the loss object with "
            f"{argument('from_logits', not loss_from_logits)}."
        )
    class_weights = getattr(chosen, "class_weights", None)
    if class_weights is not None and len(class_weights) != shape[axis]:
        raise InputError(
            f"class_weights has {len(class_weights)} entries, but the output {name!r} has "
            f"{shape[axis]} classes."
        )
    return Lesson(
        name, shape, task, activation, axis, chosen, hard, weight, unlabeled,
        losses.option_of(hard, "ignore_class"),
    )  # fmt: skip


def is_config(given) -> bool:
    """Tell whether a dict is a serialized object and not one thing per output."""
    return isinstance(given, Mapping) and {"class_name", "config"} <= set(given)


def per_output(given, outputs: binding.Slots, what: str) -> list:
    """Return one thing, a list, or a dict by output name, as one thing per output."""
    if isinstance(given, Mapping) and not is_config(given):
        return outputs.bind(given, what, missing=True)
    if isinstance(given, (list, tuple)):
        if len(given) != len(outputs) and not outputs.is_nested(given):
            raise InputError(f"{what} has {len(given)} entries for the {len(outputs)} outputs.")
        return outputs.bind(given, what, missing=True)
    return [given] * len(outputs)


@dataclasses.dataclass(frozen=True)
class Labels:
    """One output's labels in a batch, missing ones apart.

    Attributes:
        y: The labels, with a class or number in the place of missing ones that the loss takes.
        present: Boolean tensor of the elements that have one: of `y`'s shape where each
            value has its own label, otherwise that of the output without its class axis.
            `None` where none can be missing, or the loss itself leaves them out.
        known: The same for soft losses that read labels: without the loss's `ignore_class` too.
    """

    y: Any
    present: Any = None
    known: Any = None


def shaped(y, lesson: Lesson):
    """Return labels with the shape that the compiled loss prescribes, if the batch has none.

    tf_keras's generators and `Sequence`s leave the number of classes open, `tf.py_function` the
    rank too; then the loss alone tells rows of classes from class numbers.

    Args:
        y: Labels of a batch, or `None`.
        lesson: How the output learns.
    """
    if lesson.task != "categorical" or lesson.hard is None or lesson.is_custom:
        return y
    if not tf.is_tensor(y) or isinstance(y, tf.SparseTensor) or y.shape.is_fully_defined():
        return y
    if not losses.takes_numbers(lesson.hard):
        return tf.ensure_shape(y, (None, *lesson.shape[1:]))
    if y.shape.rank == len(lesson.shape) and y.shape[-1] is None:
        return tf.ensure_shape(y, (*y.shape[:-1], 1))
    if y.shape.rank is None and None not in lesson.shape[1:]:
        kept = [size for axis, size in enumerate(lesson.shape) if axis not in (0, lesson.axis)]
        return tf.reshape(y, (-1, *kept))
    return y


def labels_of(y, lesson: Lesson) -> Labels:
    """Split an output's labels into what the hard loss may read and which elements have one.

    Args:
        y: Labels of a batch: numbers (batch, ...), rows (batch, ..., classes) or values.
        lesson: How the output learns.
    """
    if y is None or (lesson.unlabeled is None and lesson.ignored is None):
        return Labels(y)
    y = tf.convert_to_tensor(y)
    missing = is_value(y, lesson.ignored)
    if lesson.unlabeled is None:  # Keras's own loss already leaves out the class that it ignores
        return Labels(y, None, tf.logical_not(_elements_without_label(missing, lesson)))
    missing |= is_value(y, lesson.unlabeled)
    # Except the class that the loss ignores, which would be left out twice.
    filled = tf.ones_like(y) if lesson.ignored == 0 else tf.zeros_like(y)
    present = tf.logical_not(_elements_without_label(missing, lesson))
    return Labels(tf.where(missing, filled, y), present, present)


def _elements_without_label(missing, lesson: Lesson):
    """Return which elements have no label, from which values of the labels are missing."""
    if missing.shape.rank == len(lesson.shape) and not lesson.per_label:
        axis = lesson.axis if missing.shape[lesson.axis] == lesson.classes else -1
        return tf.reduce_any(missing, axis=axis)
    return missing


def is_value(y, value):
    """Return where labels are a value; nowhere if their dtype can't hold it.

    Args:
        y: Tensor of labels.
        value: A number, NaN, or `None`.
    """
    nowhere = tf.zeros_like(y, tf.bool)
    if value is None or y.dtype == tf.bool:
        return nowhere
    if value != value:
        return tf.math.is_nan(y) if y.dtype.is_floating else nowhere
    if y.dtype.is_integer and not (y.dtype.min <= value <= y.dtype.max and value == int(value)):
        return nowhere
    return tf.equal(y, tf.cast(value, y.dtype))


def hard_terms(labels: Labels, output, lesson: Lesson, sample_weight):
    """Return the arguments with which Keras's loss is the mean over the labelled elements.

    As Keras does for masks, weights multiply, and the mean is over elements that are labelled and
    not masked.

    Args:
        labels: The output's labels.
        output: The student's output.
        lesson: How it learns.
        sample_weight: The user's weights of the output, or `None`.

    Returns:
        Labels, output and weights for the compiled loss.
    """
    if labels.present is None:
        return labels.y, output, with_value_axes(sample_weight, lesson, labels.y, output)
    y, present = labels.y, labels.present
    mask = getattr(output, "_keras_mask", None)
    logits = losses.logits_of(output, lesson.activation)
    plain = tf.identity(output)  # without Keras's mask, which would apply the mask twice
    if lesson.per_label and y.shape.rank == len(lesson.shape):
        # With a last axis of size 1, Keras's mean over it has no effect: each label has a weight.
        y, plain, logits = y[..., None], plain[..., None], logits[..., None]
    if lesson.activation != "linear":
        plain._keras_logits = logits  # Keras's losses look for it, as after a softmax
    if mask is not None:
        present &= expanded(mask, present.shape.rank)
    weight = tf.cast(present, tf.float32)
    if losses.option_of(lesson.hard, "reduction") not in ("sum", "none"):
        weight *= tf.math.divide_no_nan(
            tf.cast(tf.size(present), tf.float32), tf.reduce_sum(weight)
        )
    if sample_weight is not None:
        weight *= fitted(tf.cast(sample_weight, tf.float32), weight.shape.rank)
    return y, plain, weight


def with_value_axes(weight, lesson: Lesson, y, output):
    """Return weights with an axis of one for each axis that the compiled loss's values have more.

    A weight per example then weighs all of an example's steps or pixels. Plain Keras 3.15
    multiplies (batch,) with losses (batch, steps) as they are: that is an error, or weighs the
    steps where there are as many as examples.

    Args:
        weight: Weights of an output, or `None`.
        lesson: How it learns.
        y: Its labels.
        output: The student's output.
    """
    if weight is None or not weight.shape.rank or weight.shape.rank >= len(lesson.shape) - 1:
        return weight
    return with_element_axes(weight, lesson, _rank_of_values(lesson, y, output))


def _rank_of_values(lesson: Lesson, y, output) -> int | None:
    """Return how many axes the values of a compiled loss have; `None` if that is unknown.

    Most have one value per step or pixel; Dice and users' own losses may have any number of axes.
    """
    loss = getattr(lesson.hard, "call", lesson.hard)
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    with contextlib.suppress(Exception):  # Keras reports what is missing
        return loss(tf.cast(y[:1], output.dtype), output[:1]).shape.rank
    return None


def with_element_axes(weight, lesson: Lesson, rank: int | None):
    """Return weights with axes of one up to those of the elements.

    Args:
        weight: Weights of an output, or `None`.
        lesson: How it learns.
        rank: Axes of the values of the loss or metric. Where it is not known, there may be a
            value per example, which an axis of one still fits, and two do not.
    """
    if weight is None or not weight.shape.rank:
        return weight
    return expanded(weight, min(len(lesson.shape) - 1, 2 if rank is None else rank))


def weighted_mean(values, sample_weight, mask):
    """Reduce a loss per element as Keras does: weights multiply, masked elements don't count.

    Args:
        values: Float tensor (batch,) or (batch, ...); an empty one gives 0.
        sample_weight: Tensor that broadcasts to it from the left, or with further axes, over
            which its mean is taken; or `None`.
        mask: Boolean tensor of the leading axes of `values`, or `None`.
    """
    count = tf.cast(tf.size(values), values.dtype)
    if mask is not None and mask.shape.rank <= values.shape.rank:
        mask = tf.broadcast_to(expanded(mask, values.shape.rank), tf.shape(values))
        values = tf.where(mask, values, tf.zeros_like(values))
        count = tf.reduce_sum(tf.cast(mask, values.dtype))
    if sample_weight is not None:
        values *= fitted(tf.cast(sample_weight, values.dtype), values.shape.rank)
    return tf.math.divide_no_nan(tf.reduce_sum(values), count)


def fitted(weight, rank: int):
    """Return weights of a rank: axes of one are added, the mean over further ones is taken."""
    if weight.shape.rank is not None and weight.shape.rank > rank:
        weight = tf.reduce_mean(weight, axis=list(range(rank, weight.shape.rank)))
    return expanded(weight, rank)


def expanded(tensor, rank: int):
    """Return a tensor with axes of one at the end, up to a rank."""
    while tensor.shape.rank < rank:
        tensor = tensor[..., None]
    return tensor
