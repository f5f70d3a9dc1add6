"""Fitting models of either Keras the same way on the same data."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from tfkd import backends, outputs
from tfkd.data import Data, is_one_hot
from tfkd.errors import InputError, UnsupportedError

#: What a `Trainer` steps with; `"sgd"` has a Nesterov momentum of 0.9.
OPTIMIZERS = ("adam", "sgd")
#: `progress(stage, done, total)` is told how far a stage is.
Progress = Callable[[str, int, int], None]


class Trainer:
    """Fits models of either Keras the same way on the same data.

    A cosine decay to zero, and the loss that `loss_for` gives.

    Args:
        data: Split three ways; the test part is not looked at.
        batch_size: Examples per step.
        seed: Of everything random; set anew before each fit.
        augment: Function from a batch of `x` to one of the same shape, in TensorFlow
            operations, applied to the training part.
        optimizer: One of `OPTIMIZERS`.
        progress: Called as `progress(stage, epochs_done, epochs)`.
    """

    def __init__(
        self,
        data: Data,
        *,
        batch_size: int = 32,
        seed: int = 0,
        augment: Callable | None = None,
        optimizer: str = "adam",
        progress: Progress | None = None,
    ):
        self.data, self.batch_size, self.seed, self.augment = data, batch_size, seed, augment
        self.optimizer = optimizer
        self.progress = progress or (lambda stage, done, total: None)
        self.classification = is_classification(data.train.y)
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
        activation = outputs.output_activations(student)[0]
        units, y = student.output_shape[-1], self.data.train.y
        loss = loss_for(package, activation, units, y)
        metrics = ["accuracy"] if is_classification(y, units) else ["mae"]
        if self.optimizer == "sgd":
            optimizer = package.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
        else:
            optimizer = package.optimizers.Adam(schedule)
        model.compile(optimizer, loss, metrics=metrics)

    def _batches(self):
        train = self.data.train
        if self.augment is None:
            return {"x": train.x, "y": train.y, "batch_size": self.batch_size}
        import tensorflow as tf

        examples = tf.data.Dataset.from_tensor_slices((train.x, train.y))
        batches = examples.shuffle(len(train), seed=self.seed).batch(self.batch_size)
        return {"x": batches.map(lambda x, y: (self.augment(x), y)).prefetch(2)}


def is_classification(y, units: int | None = None) -> bool:
    """Tell whether labels are class numbers (integers) or one-hot rows.

    Args:
        y: Labels (examples, ...).
        units: Numbers an example the output has, if known: of a single one integers are
            classes only if they are 0 and 1, as `tfkd.export.metrics.task_of` has it.
    """
    y = np.asarray(y)
    if units == 1:
        return y.dtype.kind in "biu" and bool(((y == 0) | (y == 1)).all())
    return y.dtype.kind in "biu" or is_one_hot(y)


def loss_for(package, activation: str | None, units: int, y):
    """Return the loss that fits a model's output and its labels.

    Args:
        package: The Keras of the model.
        activation: Of the output: `"softmax"`, `"sigmoid"`, `"linear"` or `None`.
        units: Numbers an example the output has.
        y: Labels (examples, ...): class numbers, one-hot rows, or values.

    Returns:
        Cross-entropy for classes (binary for a single unit), mean squared error for values.

    Raises:
        InputError: for classes and an output of which it can't be told what it is.
    """
    if not is_classification(y, units):
        return package.losses.MeanSquaredError()
    squash = "sigmoid" if units == 1 else "softmax"
    if activation not in (squash, "linear"):
        raise InputError(
            f"An output of {units} {'number' if units == 1 else 'classes'} must end in {squash} "
            f"or be logits, and this one's activation is {activation or 'not known'}: end the "
            "model in such a layer, or give a loss where there is an argument for it."
        )
    logits = activation == "linear"
    if units == 1:
        return package.losses.BinaryCrossentropy(from_logits=logits)
    if is_one_hot(y):
        return package.losses.CategoricalCrossentropy(from_logits=logits)
    return package.losses.SparseCategoricalCrossentropy(from_logits=logits)


def copy_flags(source, target) -> None:
    """Set `trainable` in a layer or model, and in all that is in it, to what it is in another.

    Raises:
        UnsupportedError: if the two don't have the same parts.
    """
    before, after = list(source._flatten_layers()), list(target._flatten_layers())
    if [type(one) for one in before] != [type(one) for one in after]:
        raise UnsupportedError(
            f"{source.name!r} ({type(source).__name__}) has other layers inside it when it is "
            "built again from its configuration."
        )
    for one, other in zip(before, after, strict=True):  # outer ones set all that is in them
        other.trainable = one.trainable


def copy_of(model):
    """Return a model of the same structure, weights and `trainable` flags."""
    copy = package_of(model).models.clone_model(model)
    copy_flags(model, copy)  # tf_keras orders weights by them
    copy.set_weights(model.get_weights())
    return copy


def package_of(model):
    """Return the Keras that a model belongs to."""
    return backends.tf_keras() if backends.flavour(model) == "tf_keras" else keras
