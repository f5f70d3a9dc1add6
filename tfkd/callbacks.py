"""Callbacks that know of a `Distiller`."""

from __future__ import annotations

import keras


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """Save the student alone, as Keras's `ModelCheckpoint` saves a model.

    Choose it over `ModelCheckpoint` when what is kept is what will be exported: the file
    loads as the student, without the distiller, its adapters or its optimizer. To resume
    training after a kill use Keras's `BackupAndRestore` on the distiller itself. Serves
    students of both Keras flavours.

    Args:
        filepath: Path of a `.keras` file, with `{epoch}` and metric names if wanted.
        **kwargs: As for `keras.callbacks.ModelCheckpoint`: `monitor`, `save_best_only`,
            `save_weights_only`, `mode`, ...

    Example:
        >>> import tfkd
        >>> callback = tfkd.StudentCheckpoint("best.keras", save_best_only=True)
    """

    def set_model(self, model):
        """Point the checkpoint at the distiller's student."""
        super().set_model(model.student)

    # What tf_keras's `fit` asks of a callback and Keras 3's does not have.
    def _implements_train_batch_hooks(self):
        return self.save_freq != "epoch"

    def _implements_test_batch_hooks(self):
        return False

    def _implements_predict_batch_hooks(self):
        return False
