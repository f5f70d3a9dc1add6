"""Fitting models of either Keras the same way on the same data."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from tfkd import backends, teachers
from tfkd.data import Data

#: `progress(stage, done, total)` is told how far a stage is.
Progress = Callable[[str, int, int], None]


class Trainer:
    """Fits models of either Keras the same way on the same data.

    Adam with a cosine decay to zero; cross-entropy for integer labels, mean squared error
    otherwise.

    Args:
        data: Split three ways; the test part is not looked at.
        batch_size: Examples per step.
        seed: Of everything random; set anew before each fit.
        augment: Function from a batch of `x` to one of the same shape, in TensorFlow
            operations, applied to the training part.
        progress: Called as `progress(stage, epochs_done, epochs)`.
    """

    def __init__(
        self,
        data: Data,
        *,
        batch_size: int = 32,
        seed: int = 0,
        augment: Callable | None = None,
        progress: Progress | None = None,
    ):
        self.data, self.batch_size, self.seed, self.augment = data, batch_size, seed, augment
        self.progress = progress or (lambda stage, done, total: None)
        self.classification = np.issubdtype(np.asarray(data.train.y).dtype, np.integer)
        self.histories: dict[str, dict[str, list[float]]] = {}

    def fit(
        self,
        stage: str,
        model,
        student,
        epochs: int,
        learning_rate: float,
        validate: bool = True,
        **kwargs,
    ) -> None:
        """Train `model` (the student, or a Distiller around it) and keep its history.

        Args:
            stage: Name in `histories` and for `progress`.
            model: What `fit` is called on.
            student: The model that is trained.
            epochs: Passes over the data.
            learning_rate: At the start of the cosine.
            validate: Whether each epoch ends with the validation part.
            **kwargs: Passed on to `model.fit`.
        """
        keras.utils.set_random_seed(self.seed)
        steps = epochs * -(-len(self.data.train) // self.batch_size)
        self.compile(model, student, learning_rate, steps)
        self.progress(stage, 0, epochs)
        tick = package_of(student).callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self.progress(stage, epoch + 1, epochs)
        )
        validation = (self.data.validation.x, self.data.validation.y) if validate else None
        history = model.fit(
            **self._batches(),
            epochs=epochs,
            validation_data=validation,
            callbacks=[tick],
            verbose=0,
            **kwargs,
        )
        self.histories[stage] = {
            name: [float(value) for value in values] for name, values in history.history.items()
        }

    def compile(self, model, student, learning_rate: float, steps: int) -> None:
        """Compile `model` for a number of steps, as fits its student's output."""
        package = package_of(student)
        schedule = package.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(
            package.optimizers.Adam(schedule), self._loss(package, student), metrics=self._metrics()
        )

    def _loss(self, package, student):
        if not self.classification:
            return package.losses.MeanSquaredError()
        logits = teachers.output_activations(student)[0] == "linear"
        if student.output_shape[-1] == 1:
            return package.losses.BinaryCrossentropy(from_logits=logits)
        return package.losses.SparseCategoricalCrossentropy(from_logits=logits)

    def _metrics(self):
        return ["accuracy"] if self.classification else ["mae"]

    def _batches(self):
        train = self.data.train
        if self.augment is None:
            return {"x": train.x, "y": train.y, "batch_size": self.batch_size}
        import tensorflow as tf

        examples = tf.data.Dataset.from_tensor_slices((train.x, train.y))
        batches = examples.shuffle(len(train), seed=self.seed).batch(self.batch_size)
        return {"x": batches.map(lambda x, y: (self.augment(x), y)).prefetch(2)}


def package_of(model):
    """Return the Keras that a model belongs to."""
    return backends.tf_keras() if backends.flavour(model) == "tf_keras" else keras
