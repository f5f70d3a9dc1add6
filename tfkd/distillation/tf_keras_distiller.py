"""The tf_keras twin of `Distiller`; `Distiller(student, ...)` gives it for a tf_keras student.

Importing this module imports tf_keras: do it inside functions only.
"""

from __future__ import annotations

import warnings

from tfkd.distillation.fitting import Fitting
from tfkd.model import backends

tf_keras = backends.tf_keras()


@tf_keras.saving.register_keras_serializable("tfkd", "Distiller")
class Distiller(Fitting, tf_keras.Model):
    """Train a tf_keras student on the labels and on a teacher's answers: see `tfkd.Distiller`."""

    _keras = tf_keras

    def make_train_function(self, force=False):
        """Build the optimizer, then make what `fit` calls for each step."""
        build = getattr(self.optimizer, "build", None)  # which legacy optimizers lack
        if build is not None and self.trainable_variables:
            # Slot variables created inside the step would make TensorFlow trace it twice.
            build(self.trainable_variables)
        return super().make_train_function(force)

    def _total_loss(self, x, y, y_pred, sample_weight, training):
        del training
        return self.compute_loss(x, y, y_pred, sample_weight)

    def _apply(self, loss, tape):
        if not self.trainable_variables:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
            return
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
