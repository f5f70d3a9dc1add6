"""What a step minimises: labels, answers and outputs of a batch become the two losses.

y, weights ─► Batch ─┬─► hard_terms ─► Keras's compiled loss
answers ─────────────┼─► soft ───────► the soft losses, one weighted mean an output
outputs ─────────────┴─► metric_terms ► Keras's compiled metrics
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfkd import losses
from tfkd.distillation import lessons, teachers, validation
from tfkd.distillation.cache import cache_teacher
from tfkd.errors import InputError, argument
from tfkd.model import binding, graph, replicas


@dataclasses.dataclass(frozen=True)
class Batch:
    """Labels and weights of a batch, per output.

    Attributes:
        labels: `None` where the batch has none.
        weights: Sample weights; `None` where it has none.
    """

    labels: list[lessons.Labels] | None
    weights: list | None

    def weight(self, i: int):
        """Return the sample weights of output `i`, or `None`."""
        return None if self.weights is None else self.weights[i]


class Objective:
    """How a student with these outputs learns, once its losses are compiled.

    Args:
        student: The student.
        outputs: Its outputs.
        loss: The compiled losses: one, a list, or a dict by output.
        loss_weights: Factors, likewise.
        settings: `soft_loss`, `from_logits` and `unlabeled` of the distiller.

    Attributes:
        outputs: As given.
        lessons: How each output learns.
        metrics: The compiled metrics of each output, set by `compile`.

    Raises:
        InputError: as `lessons.plan` does.
    """

    def __init__(self, student, outputs: binding.Slots, loss, loss_weights, settings):
        weights = lessons.per_output(loss_weights, outputs, "loss_weights")
        self.outputs = outputs
        self.metrics: list[list] = [[] for _ in outputs.entries]
        self.lessons = lessons.plan(
            student,
            outputs,
            lessons.per_output(loss, outputs, "loss"),
            [1.0 if weight is None else float(weight) for weight in weights],
            settings,
        )

    @property
    def tasks(self) -> list[str | None]:
        """The teacher's task per output; `None` for an output that it isn't asked for."""
        return [lesson.asked for lesson in self.lessons]

    @property
    def axes(self) -> list[int]:
        """The class axis per output; -1 for the last, whatever rank Keras states."""
        return [
            -1 if lesson.axis == len(lesson.shape) - 1 else lesson.axis for lesson in self.lessons
        ]

    @property
    def shapes(self) -> list[tuple]:
        """The shape per output, batch included."""
        return [slot.shape for slot in self.outputs.entries]

    @property
    def has_soft(self) -> bool:
        """Whether any output learns from the teacher."""
        return any(lesson.soft is not None for lesson in self.lessons)

    @property
    def has_hard(self) -> bool:
        """Whether any output learns from labels."""
        return any(lesson.hard is not None for lesson in self.lessons)

    def is_soft_alone(self, labelled: bool) -> bool:
        """Tell whether the soft loss is the only loss to evaluate.

        Args:
            labelled: Whether the data has labels.
        """
        return self.has_soft and not (labelled and self.has_hard)

    def in_order(self, y, sample_weight):
        """Return labels and weights of arrays as Keras takes them: all in one structure.

        Args:
            y: Labels in any form that binds to the outputs, or `None`.
            sample_weight: Weights likewise, or one array for all outputs.
        """
        if y is None:
            return y, sample_weight
        labels = validation.bound_labels(y, self)
        some = next(label for label in labels if label is not None)
        if isinstance(sample_weight, (dict, list, tuple)):
            weights = self.outputs.bind(sample_weight, "sample_weight", missing=True)
            ones = np.ones(len(some), "float32")
            sample_weight = self.outputs.packed([ones if w is None else w for w in weights])
        filler = np.zeros(len(some), "float32")  # of outputs that learn only from the teacher
        return self.outputs.packed([filler if v is None else v for v in labels]), sample_weight

    def counted(self, sample_weight) -> list | None:
        """Return the elements of each output whose weight is not zero; `None` for all.

        Args:
            sample_weight: Arrays of weights as `fit` takes them, or `None`.
        """
        weights = self._weights_of(sample_weight)
        if weights is None:
            return None
        counted = []
        for weight, lesson in zip(weights, self.lessons, strict=True):
            heavy = None if weight is None else np.asarray(weight) != 0
            if heavy is not None:  # an element with several weights counts if one is not zero
                heavy = heavy.any(axis=tuple(range(len(lesson.shape) - 1, heavy.ndim)))
            counted.append(heavy)
        return counted

    def _weights_of(self, sample_weight) -> list | None:
        if isinstance(sample_weight, (dict, list, tuple)):
            return self.outputs.bind(sample_weight, "sample_weight", missing=True)
        return None if sample_weight is None else [sample_weight] * len(self.outputs)

    def batch(self, y, sample_weight, checked: bool) -> Batch:
        """Split a batch's labels and weights by output.

        Args:
            y: Labels as the pipeline gave them, or `None`.
            sample_weight: Weights likewise.
            checked: Whether labels that don't fit stop the step.
        """
        weights = self._weights_of(sample_weight)
        if y is None:
            return Batch(None, weights)
        labels = []
        for label, lesson in zip(validation.bound_labels(y, self), self.lessons, strict=True):
            label = lessons.shaped(label, lesson)
            if checked and label is not None and lesson.reads_labels and not lesson.is_custom:
                # Before the loss, where TensorFlow would raise its own error for such labels.
                with tf.control_dependencies(validation.assert_labels(label, lesson)):
                    label = tf.identity(label)
            labels.append(lessons.labels_of(label, lesson))
        return Batch(labels, weights)

    def hard_terms(self, batch: Batch, y_pred):
        """Return labels, outputs and weights for Keras's compiled loss."""
        terms = []
        for i, (lesson, output) in enumerate(zip(self.lessons, graph.leaves(y_pred), strict=True)):
            if lesson.hard is None:
                terms.append((tf.zeros(tf.shape(output)[:1]), output, None))
            else:
                terms.append(lessons.hard_terms(batch.labels[i], output, lesson, batch.weight(i)))
        return self._for_keras(*map(list, zip(*terms, strict=True)))

    def metric_terms(self, batch: Batch, y_pred):
        """Return labels, outputs and weights for Keras's metrics, for labelled elements only."""
        terms = []
        for i, (lesson, output) in enumerate(zip(self.lessons, graph.leaves(y_pred), strict=True)):
            labels, weight = batch.labels[i], batch.weight(i)
            if labels.y is None:
                terms.append((tf.zeros(tf.shape(output)[:1]), output, weight))
                continue
            y, present = labels.y, labels.present
            if present is not None:
                rank = present.shape.rank
                per_value = rank == len(lesson.shape)
                if per_value and not all(map(_is_per_value, self.metrics[i])):
                    # A metric of rows gets the rows that have all their labels.
                    present, rank, per_value = tf.reduce_all(present, axis=-1), rank - 1, False
                y, output = tf.boolean_mask(y, present), tf.boolean_mask(output, present)
                if per_value:
                    y, output = y[:, None], output[:, None]
                if weight is not None:
                    weight = tf.broadcast_to(lessons.fitted(weight, rank), tf.shape(present))
                    weight = tf.boolean_mask(weight, present)
            else:
                known = all(map(_is_known, self.metrics[i]))
                weight = lessons.with_element_axes(
                    weight, lesson, len(lesson.shape) if known else None
                )
            terms.append((y, output, weight))
        return self._for_keras(*map(list, zip(*terms, strict=True)))

    def soft(self, answers: list, batch: Batch, y_pred, temperature):
        """Return the soft losses of a batch: the sum over outputs of weighted means.

        Args:
            answers: The teacher's, per output.
            batch: Labels and weights.
            y_pred: The student's outputs, in its own structure.
            temperature: Scalar > 0.
        """
        total = 0.0
        for i, (lesson, output) in enumerate(zip(self.lessons, graph.leaves(y_pred), strict=True)):
            if lesson.soft is None:
                continue
            student = _classes_last(losses.logits_of(output, lesson.activation), lesson)
            labels = lessons.Labels(None) if batch.labels is None else batch.labels[i]
            label, mask = labels.y, getattr(output, "_keras_mask", None)
            if lesson.soft.needs_labels:
                mask = _labelled_and_unmasked(mask, labels.known, lesson)
            if label is not None and label.shape.rank == output.shape.rank:
                label = _classes_last(label, lesson)
            teacher, known, weight = (
                _classes_last(answers[i], lesson),
                labels.known,
                batch.weight(i),
            )
            if lesson.soft.mixes_elements:
                parts = (teacher, student, label, known, weight, mask)
                teacher, student, label, known, weight, mask = map(replicas.whole_batch, parts)
            if student.shape.rank == 1:  # one value per example, without a last axis
                student, teacher = student[:, None], teacher[:, None]
            more = {}
            if lesson.soft.mixes_elements:
                more["mask"] = _heavy(_mask_of_elements(mask, student), weight, student)
            if lesson.soft.knows_labels:
                more["known"] = known
                if (lesson.hard is None or lesson.is_custom) and not lesson.soft.needs_labels:
                    label = None  # no loss that it could read competes with the teacher
            values = lesson.soft(teacher, student, temperature, label, **more)
            total += lesson.weight * lessons.weighted_mean(values, weight, mask)
        return total

    def answers_in(self, encoded):
        """Return the cached answers that a batch carries, per output, and the features.

        Raises:
            InputError: if an output that the teacher should teach has none.
        """
        names = cache_teacher.names_of(encoded)
        held = binding.named(names, "output", _IN_THE_CACHE, ordered=True)
        heads = self._heads_in(held)
        classes: list[int | None] = [None] * len(held)
        for lesson, head in zip(self.lessons, heads, strict=True):
            if head is not None:
                classes[head] = lesson.classes
        held_answers, features = cache_teacher.decode(encoded, classes)
        answers = [None if head is None else held_answers[head] for head in heads]
        for i, answer in enumerate(answers):
            if answer is not None:
                teachers.check_sizes("in the cache", answer, self.outputs, i)
        return answers, features

    def check_cache(
        self, held: cache_teacher.About, layers: list[str], teacher: str | None
    ) -> None:
        """Raise unless cached answers are for this student, these losses and this teacher.

        Args:
            held: What is known of the answers.
            layers: The teacher's layers whose features are wanted.
            teacher: The fingerprint of the distiller's teacher, or `None`.

        Raises:
            InputError: naming what differs.
        """
        slots = binding.named(held.names, "output", _IN_THE_CACHE, ordered=True, shapes=held.shapes)
        heads = self._heads_in(slots)
        for slot, head, task in zip(self.outputs.entries, heads, self.tasks, strict=True):
            if head is not None and task is not None:
                teachers.check_shape("in the cache", slots.entries[head], self.outputs.owner, slot)
        self._check_tasks(held.tasks, heads)
        lacking = [layer for layer in layers if layer not in held.features]
        if lacking:
            raise InputError(
                f"The cache holds no features of {', '.join(map(repr, lacking))}; make it with "
                f"{argument('features', layers)}."
            )
        if None not in (teacher, held.teacher) and teacher != held.teacher:
            raise InputError(
                "The cache holds answers of a different teacher than this distiller's, or of the "
                "same teacher before it changed: make a new cache, or set distiller.teacher = None "
                "to learn from this one."
            )

    def _check_tasks(self, tasks: list[str | None], heads: list[int | None]) -> None:
        """Raise if cached answers are for other tasks than the outputs that they teach."""
        for head, task in zip(heads, self.tasks, strict=True):
            if head is not None and task is not None and tasks[head] not in (None, task):
                raise InputError(
                    f"The cached answers are for {tasks} outputs, but this distiller is "
                    f"compiled for {self.tasks}; make the cache again."
                )

    def _for_keras(self, y: list, outputs: list, weights: list):
        """Return lists for several outputs, or one output's value; weights for all or none."""
        if all(weight is None for weight in weights):
            weights = [None] if len(y) == 1 else None
        else:
            every = zip(weights, self.lessons, y, outputs, strict=True)
            weights = [
                lessons.with_value_axes(tf.ones(tf.shape(output)[:1]), lesson, labels, output)
                if weight is None
                else weight
                for weight, lesson, labels, output in every
            ]
        return (y[0], outputs[0], weights[0]) if len(y) == 1 else (y, outputs, weights)

    def _heads_in(self, held: binding.Slots) -> list[int | None]:
        heads = self.outputs.match(held)
        taught = [head is not None for head in heads]
        teachers.check_all_taught(taught, self.tasks, self.outputs, ["in the cache"], held.labels)
        return heads


_IN_THE_CACHE = "teacher 'in the cache'"


#: Metrics that are a mean or a count over single values, in any arrangement.
_PER_VALUE = {"accuracy", "acc", "binaryaccuracy", "binarycrossentropy", "bce", "crossentropy"}
_PER_VALUE |= {"meansquarederror", "mse", "meanabsoluteerror", "mae", "rootmeansquarederror"}
_PER_VALUE |= {"meanabsolutepercentageerror", "mape", "meansquaredlogarithmicerror", "msle"}
_PER_VALUE |= {"precision", "recall", "auc", "huber", "logcosh", "logcosherror"}
_PER_VALUE |= {"truepositives", "truenegatives", "falsepositives", "falsenegatives"}


def _is_per_value(metric) -> bool:
    name = metric if isinstance(metric, str) else type(metric).__name__
    name = getattr(metric, "__name__", name).replace("_", "").lower()
    return name in _PER_VALUE and not getattr(metric, "multi_label", False)


def _is_known(metric) -> bool:
    """Tell whether a metric is Keras's own."""
    if isinstance(metric, str):
        return True
    home = getattr(metric, "_fn", metric)
    home = home if hasattr(home, "__module__") else type(home)
    return home.__module__.split(".")[0] in ("keras", "tf_keras")


def _classes_last(values, lesson: lessons.Lesson):
    """Return values with the class axis at the end, as soft losses expect."""
    last = len(lesson.shape) - 1
    if lesson.axis == last:
        return values
    order = [axis for axis in range(last + 1) if axis != lesson.axis]
    return tf.transpose(values, [*order, lesson.axis])


def _labelled_and_unmasked(mask, present, lesson: lessons.Lesson):
    """Return which elements have all of their labels and are not masked."""
    if present is not None and present.shape.rank > max(1, len(lesson.shape) - 1):
        present = tf.reduce_all(present, axis=-1)
    if present is None or mask is None or mask.shape.rank > present.shape.rank:
        return mask if present is None else present
    return present & lessons.expanded(mask, present.shape.rank)


def _heavy(mask, weight, values):
    """Return which elements are not masked and have no weight of zero; `None` for all.

    Elements with a weight of zero take no part in a loss over the batch, like masked ones.
    """
    if weight is None:
        return mask
    heavy = tf.not_equal(lessons.fitted(weight, values.shape.rank - 1), 0)
    heavy = tf.broadcast_to(heavy, tf.shape(values)[:-1])
    return heavy if mask is None else mask & heavy


def _mask_of_elements(mask, values):
    """Return a mask of the shape of values without their last axis, or `None`."""
    if mask is None or mask.shape.rank > values.shape.rank - 1:
        return None
    mask = lessons.expanded(mask, values.shape.rank - 1)
    return tf.broadcast_to(mask, tf.shape(values)[:-1])
