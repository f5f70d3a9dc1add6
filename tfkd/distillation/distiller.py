"""`Distiller`: a Keras model whose `fit` trains a student on labels and on a teacher.

One step body (`tfkd.distillation.step`) serves Keras 3 and tf_keras students, tfmot-wrapped ones
included; `Distiller(student, ...)` gives the class that fits the student.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

import keras

from tfkd.distillation.fitting import Fitting
from tfkd.errors import InputError
from tfkd.model import backends


class Distiller(Fitting, keras.Model):
    """Train a student on the labels and on a teacher's answers for the same examples.

    Minimises ``L = alpha · hard + (1 − alpha) · soft``: `hard` is the compiled loss, `soft` the
    soft losses of the outputs plus the feature losses, on logits: a softmax or sigmoid output
    is recognised and turned back into them. By default the soft loss is scaled in every batch
    so that the teacher pulls at the logits as hard as the labels do, and for classes it teaches the
    pattern of the teacher's logits and not their size (`losses.Balanced`, measured in
    docs/results/distillation.md); ``soft_loss="kl"`` is Hinton's ``T² · KL(teacher ‖ student)``
    (2015, https://arxiv.org/abs/1503.02531). Regularizers and `add_loss` terms are added in full.

    `evaluate` and `predict` are the student's own; `distiller.student` is the trained
    model. A tf_keras student, also one wrapped by tfmot for quantization-aware training, works
    under the same name: the call then returns a `tf_keras.Model` with the same methods. Saving,
    checkpoints and `variables` hold the student and never the teacher: after loading a saved
    distiller, set `distiller.teacher` again.

    Args:
        student: The model to train, Keras 3 or tf_keras. A subclassed or unbuilt one is trained
            on its outputs; feature losses need a graph. It may share frozen layers with the
            teacher, but no layers that are trained. It may be stateful; the teacher may not.
        teacher: A Keras 3 or tf_keras model or layer; the path of a `.keras`, `.h5`, SavedModel or
            `.tflite` file; a `TFLiteModel`; a loaded SavedModel, one of its signatures or another
            function of tensors; a callable from a NumPy batch to outputs; an array of outputs, a
            row per training example (a list or dict of them for several outputs); or a list of
            models, paths and callables, whose probabilities (or values) are averaged. Left exactly
            as it is. Its outputs teach the student's outputs of the same names, and in the declared
            order where they have no names; further outputs teach nothing.
        alpha: Weight of the hard loss, in [0, 1]. Defaults to 0.5 with the adaptive loss: labels
            and teacher then pull alike. With another it is 0.1, and 0.5 for a student from
            `quantize_aware`.
        temperature: Softening of both distributions, from 0.001 to 1000. It belongs to Hinton's
            loss: with `soft_loss="auto"`, giving a temperature selects `"hinton"`. Defaults to 1
            with the adaptive loss; with another it is 4, and 1 for a student from `quantize_aware`.
        soft_loss: `"auto"`: `"adaptive"`, or `"hinton"` if a temperature is given; each is a loss
            by the kind of output (see `losses.default_for`). Otherwise a name or object of
            `tfkd.losses`, `None` to learn from labels (and features) alone, or a list or dict (by
            output) of these. The soft loss counts every element that is not masked, labelled or
            not.
        features: `tfkd.losses.FeatureLoss` objects, or `"auto"` for a `Hint` at each resolution
            (`tfkd.losses.pair_layers`); both models then still run once a step.
        from_logits: Whether the student's outputs are logits. Needed where its graph does not
            show it.
        teacher_from_logits: The same for the teacher; in a list for those whose graph does not show
            it.
        student_inputs: Callable from a batch of `x` to what the student takes, in TensorFlow
            operations; `evaluate` and `predict` apply it too.
        teacher_inputs: The same for the teacher.
        unlabeled: Value that marks a missing label (`-1`, `float("nan")`), of an example, a step, a
            pixel or one of several labels; or a dict of them by output. Such elements learn from
            the teacher alone: the hard loss is the mean over the labelled ones, and metrics leave
            the others out. A loss's `ignore_class` is Keras's own, and does the same for the loss.
        evaluate_teacher: Whether `evaluate` and validation also report the soft loss, for
            which the teacher has to run. Defaults to `False`. Without labels or a hard loss
            the soft loss is the validation loss in any case.
        trusted: Whether a teacher's SavedModel may hold operations that act outside the model
            (read or write files, call Python); they run when it is read or asked.
        **kwargs: `name`, `dtype`: passed on to `keras.Model`.

    Raises:
        InputError: for an alpha or temperature out of range, something that can't teach or be
            taught, a teacher with stateful layers, unknown layers, inputs and outputs that neither
            names nor order match, outputs of different shapes, or a student that shares trained
            layers with its teacher.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> x = np.random.rand(64, 4).astype("float32")
        >>> y = x.argmax(1)  # the rule that the teacher knows
        >>> knows = keras.layers.Dense(4, kernel_initializer="identity")
        >>> teacher = keras.Sequential([keras.Input((4,)), knows])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
        >>> distiller = tfkd.Distiller(student, teacher)
        >>> distiller.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = distiller.fit(x, y, epochs=2, verbose=0)
        >>> distiller.teacher_scores[0].value
        1.0
        >>> sorted(history.history)
        ['hard_loss', 'loss', 'soft_loss']
    """

    _keras = keras

    if not TYPE_CHECKING:  # which must see the arguments of `__init__`

        def __new__(cls, student=None, *args, **kwargs):
            """Create an object of the class for the student's Keras."""
            if backends.flavour(student) == "tf_keras":
                from tfkd.distillation import tf_keras_distiller  # which imports tf_keras

                return tf_keras_distiller.Distiller(student, *args, **kwargs)
            if backends.flavour(student) is None or not hasattr(student, "layers"):
                raise InputError(
                    "The student must be a Keras 3 or tf_keras model, got "
                    f"{type(student).__name__}."
                )
            return super().__new__(cls, student, *args, **kwargs)

        __new__.__signature__ = inspect.signature(Fitting.__init__)

    def make_train_function(self, force=False):
        """Build the optimizer, then make what `fit` calls for each step."""
        if not self.optimizer.built and self.trainable_variables:
            # Slot variables created inside the step would make TensorFlow trace it twice.
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def _total_loss(self, x, y, y_pred, sample_weight, training):
        return self.compute_loss(x, y, y_pred, sample_weight, training=training)

    def _apply(self, loss, tape):
        with tape:
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        if not variables:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
            return
        gradients = tape.gradient(scaled, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))


keras.saving.register_keras_serializable("tfkd", "Distiller")(Distiller)
