"""The distillation step, which TensorFlow traces, for either Keras.

data ─► answers of the teacher, outputs of the student ─► objective ─► loss ─► checks ─► update
"""

from __future__ import annotations

import concurrent.futures
from typing import Any

import keras
import tensorflow as tf

from tfkd.distillation import lessons, teachers, validation
from tfkd.distillation.compiled import Compiled
from tfkd.losses import balance
from tfkd.losses import features as feature_losses
from tfkd.model import graph, replicas


class Step(Compiled):
    """The distillation step, written once for both Keras flavours.

    A subclass adds the flavour's `Model` and two hooks: `_total_loss` and `_apply`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the student's outputs."""
        if isinstance(inputs, teachers.TeacherBatch):
            inputs = inputs.x
        if self._settings["student_inputs"] is not None:
            inputs = self._settings["student_inputs"](inputs)
        outputs, self._untracked.features = self._student_tap(inputs, training)
        return outputs

    @property
    def metrics(self):
        """The three losses and the compiled metrics; `loss` is what is minimised."""
        ours = list(self._trackers.values())[: 1 if self._untracked.hides_hard_and_soft else None]
        compiled = [m for m in super().metrics if m.name not in self._trackers]
        return [ours[0], *compiled, *ours[1:]]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Run one optimizer step on `L = alpha · hard + (1 − alpha) · soft (+ regularizers)`."""
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        x, answers, features = self._lesson(x)
        batch = self._objective().batch(y, sample_weight, checked=not self._is_jitted)
        with tf.GradientTape(persistent=self._feature_means is not None) as tape:
            y_pred = self(x, training=True)
            hard, extras = self._hard_loss_and_extras(x, batch, y_pred, True)
            soft = self._soft_loss(answers, features, batch, y_pred, hard, tape)
            alpha = tf.convert_to_tensor(self._alpha)
            loss = alpha * hard + (1.0 - alpha) * soft + extras
        checks = self._assertions(
            loss, inputs=x, labels=y, teacher_answers=answers, outputs_of_the_student=y_pred
        )
        with tf.control_dependencies(checks):
            self._apply(loss, tape)
        self._track(x, loss=loss, hard_loss=hard, soft_loss=soft)
        return self._logs(x, batch, y_pred)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate the student on the hard loss; the teacher runs if `evaluate_teacher`.

        Where there are no labels or no hard loss, the loss is the soft loss.
        """
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        objective = self._objective()
        with_teacher = self._evaluates_teacher(labelled=y is not None)
        if with_teacher:
            x, answers, features = self._lesson(x)
        elif isinstance(x, teachers.TeacherBatch):
            x = x.x
        batch = objective.batch(y, sample_weight, checked=not self._is_jitted)
        y_pred = self(x, training=False)
        hard, loss = self._hard_loss_and_extras(x, batch, y_pred, False)
        loss = loss + hard
        if with_teacher:
            soft = self._soft_loss(answers, features, batch, y_pred, hard, None)
            self._track(x, hard_loss=hard, soft_loss=soft)
            alone = objective.is_soft_alone(labelled=y is not None)
            alpha = 0.0 if alone else tf.convert_to_tensor(self._alpha)
            loss += (1.0 - alpha) * (soft - hard)
        self._track(x, loss=loss)
        logs = self._logs(x, batch, y_pred)
        hidden = () if with_teacher else ("hard_loss", "soft_loss")
        return {name: value for name, value in logs.items() if name not in hidden}

    def _lesson(self, x):
        """Return the inputs, the teacher's answers and its features."""
        if isinstance(x, teachers.TeacherBatch):
            return (x.x, *self._objective().answers_in(x.answers))
        return (x, *self._ask(x))

    def _ask(self, x):
        """Return the teacher's answers for a batch, per output of the student."""
        objective = self._objective()
        return self._teacher().ask(
            x, objective.tasks, objective.shapes, objective.outputs, objective.axes
        )

    def _evaluates_teacher(self, labelled: bool) -> bool:
        """Tell whether evaluation reports the soft loss, which needs the teacher's answers."""
        return self._settings["evaluate_teacher"] or self._objective().is_soft_alone(labelled)

    @property
    def _is_jitted(self) -> bool:
        return getattr(self, "jit_compile", False) is True

    def _assertions(self, loss, **values) -> list:
        """Return the assertions that must hold before a step changes a weight."""
        if self._is_jitted or self._untracked.ends_on_nan:
            return []
        values["weights_of_the_student"] = self.student.trainable_weights
        return [validation.assert_finite(loss, **values)]

    def _hard_loss_and_extras(self, x, batch, y_pred, training):
        """Return the compiled loss, and separately regularizers and `add_loss` terms."""
        extras = _per_replica(_sum(self.losses))
        objective = self._objective()
        if batch.labels is None or not objective.has_hard:
            return 0.0, extras
        y, outputs, weights = objective.hard_terms(batch, y_pred)
        total = tf.cast(self._total_loss(x, y, outputs, weights, training), tf.float32)
        total = tf.reduce_mean(total) - extras  # a loss without reduction has one value per example
        # The mean over a replica without examples is NaN.
        some = tf.shape(next(graph.leaves(y_pred)))[0] > 0
        return tf.where(some, total, tf.zeros_like(total)), extras

    def _soft_loss(self, answers, features, batch, y_pred, hard, tape):
        """Return the sum over outputs and features of weighted means over the batch."""
        objective = self._objective()
        total = objective.soft(answers, batch, y_pred, self._temperature)
        ours, self._untracked.features = self._untracked.features, None
        values = []
        for one, adapter in zip(self._features, self._adapters, strict=True):
            feature, weight = ours[one.student_layer], batch.weight(0)
            mask = getattr(feature, "_keras_mask", None)
            theirs, feature = features[one.teacher_layer], adapter(feature)
            if one.mixes_examples:
                parts = (theirs, feature, mask, weight)
                theirs, feature, mask, weight = map(replicas.whole_batch, parts)
            more = {"mask": mask} if feature_losses.takes_mask(one) else {}
            each = one(theirs, feature, **more)
            values.append(lessons.weighted_mean(each, weight, None))
        reference = total if objective.has_soft else hard
        weights = balance.weights_of(
            self._features, values, reference, ours, self._feature_means, tape
        )
        for weight, value in zip(weights, values, strict=True):
            total += weight * value
        return _per_replica(total)

    def _logs(self, x, batch, y_pred):
        if batch.labels is None:
            return {name: tracker.result() for name, tracker in self._trackers.items()}
        terms = self._objective().metric_terms(batch, y_pred)
        self._build_metrics(*terms)
        return self.compute_metrics(x, *terms)

    def _build_metrics(self, y, y_pred, weight):
        """Create the metrics' variables; if a trace created them, TensorFlow would trace again."""
        if (
            self._untracked.has_built_metrics
            or tf.executing_eagerly()
            or tf.distribute.has_strategy()
        ):
            return
        self._untracked.has_built_metrics = True

        def build():
            zeros = keras.tree.map_structure(_zeros_like, (y, y_pred, weight))
            self.compute_metrics(None, *zeros)

        def reset():
            for metric in self.metrics:
                if metric.name not in self._trackers:
                    metric.reset_state()

        # A trace does not extend to other threads. Unlike in `tf.init_scope`, variables made
        # there belong to no function.
        with concurrent.futures.ThreadPoolExecutor(1) as outside:
            # Ignore an error that a metric raises for zeros: the step raises it again.
            outside.submit(build).exception()
            outside.submit(reset).result()

    def _track(self, x, **values):
        batch = tf.shape(next(graph.leaves(x)))[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in values.items():
            self._trackers[name].update_state(value * replicas, sample_weight=batch)


def _zeros_like(value):
    """Return zeros of a traced tensor's shape and dtype, two along a free axis."""
    if value is None:
        return None
    return tf.zeros([2 if size is None else size for size in value.shape], value.dtype)


def _per_replica(value):
    """Divide by the number of replicas, since their gradients are summed."""
    return value / tf.distribute.get_strategy().num_replicas_in_sync


def _sum(values):
    return tf.add_n([tf.cast(tf.reduce_sum(v), tf.float32) for v in values]) if values else 0.0
