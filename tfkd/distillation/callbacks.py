"""Callbacks for training with a `Distiller`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import keras

from tfkd.errors import InputError, argument

if TYPE_CHECKING:
    from tfkd._typing import AnyModel


#: Endings of the names of values that should grow or shrink: tf_keras's metrics don't say it.
_MODES = {
    "max": ("acc", "accuracy", "auc", "precision", "recall"),
    "min": ("loss", "error", "mae", "mse"),
}


class _ForBothKerases:
    """What Keras 3's callbacks lack to serve a distiller of either Keras."""

    _distiller = None  # if it is not `self.model`

    def _set_monitor_op(self):
        """Take the direction of the distiller's metric; Keras 3 looks at `self.model` alone."""
        if self.mode == "auto":
            self.mode = _mode_of(self.monitor, (self._distiller or self.model).metrics)
        super()._set_monitor_op()

    def _implements_train_batch_hooks(self):
        return False

    def _implements_test_batch_hooks(self):
        return False

    def _implements_predict_batch_hooks(self):
        return False


class StudentCheckpoint(_ForBothKerases, keras.callbacks.ModelCheckpoint):
    """Save the student alone, as Keras's `ModelCheckpoint` saves a model.

    Choose it over `ModelCheckpoint` to save the model that will be exported: the file loads as the
    student, without the distiller, its adapters or its optimizer. To resume an interrupted
    training, use Keras's `BackupAndRestore` on the distiller itself. Works with students of both
    Keras flavours.

    Args:
        filepath: Path of a `.keras` file, with `{epoch}` and metric names if wanted. `to_tflite`
            and `tfkd.loading.models.load_model` read the file of a quantize-aware student.
        **kwargs: As for `keras.callbacks.ModelCheckpoint`: `monitor`, `save_best_only`,
            `save_weights_only`, `mode`, ...

    Example:
        >>> import tfkd
        >>> callback = tfkd.StudentCheckpoint("best.keras", save_best_only=True)
    """

    def set_model(self, model: AnyModel) -> None:
        """Point the checkpoint at the distiller's student."""
        super().set_model(model.student)
        self._distiller = model

    def _implements_train_batch_hooks(self):
        return self.save_freq != "epoch"


class StopDistillation(_ForBothKerases, keras.callbacks.EarlyStopping):
    """Let the teacher teach in the first part of training, and the labels alone after that.

    Sets the distiller's `alpha` to 1 after a number of epochs, when a validation value stops
    improving, or whichever comes first. A small student that can't reach its teacher profits from
    the teacher early and is held back by it late (Cho and Hariharan 2019, "On the Efficacy of
    Knowledge Distillation", https://arxiv.org/abs/1910.01348). Feature losses stop too. The teacher
    still runs in every step: `cache_teacher=True` saves that time. `alpha` stays 1 after `fit`.
    Works with students of both Keras flavours.

    For any other schedule move `alpha` or `temperature` in a callback of your own: both are
    variables, and assigning a number causes no new trace.

    Args:
        after: Number of epochs with the teacher; `None` for as long as `monitor` improves.
        monitor: Name of the value to watch, such as `"val_loss"`; `None` for none.
        patience: Number of epochs without improvement after which distillation stops.
        min_delta: Smallest change that counts as an improvement.
        mode: `"min"`, `"max"`, or `"auto"` for a loss or a metric of Keras.
        start_from_epoch: First epoch that is watched.

    Attributes:
        stopped_epoch: Number of the last epoch with the teacher, from 0; `None` before it ends.

    Raises:
        InputError: without `after` and `monitor`, for a negative number, or at the start of
            training if no loss is compiled: labels alone would teach nothing.

    Example:
        >>> import tfkd
        >>> callback = tfkd.StopDistillation(after=30, monitor="val_loss", patience=5)
    """

    def __init__(
        self,
        after: int | None = None,
        monitor: str | None = None,
        patience: int = 0,
        min_delta: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
        start_from_epoch: int = 0,
    ):
        if after is None and monitor is None:
            raise InputError(
                f"StopDistillation needs {argument('after')}, a number of epochs, or "
                f"{argument('monitor')}, a name."
            )
        for name, value in (("after", after or 0), ("patience", patience)):
            if value < 0:
                raise InputError(f"{name} must be >= 0, got {value}.")
        super().__init__(
            monitor or "val_loss", min_delta=min_delta, patience=patience, mode=mode,
            start_from_epoch=start_from_epoch,
        )  # fmt: skip
        self.after, self.watches = after, monitor is not None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check that labels can take over."""
        super().on_train_begin(logs)
        self.stopped_epoch = None
        if not self.model._objective().has_hard:
            raise InputError(
                "Once StopDistillation acts, the student learns from labels alone, but no loss is "
                "compiled: give compile(loss=...)."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop distillation if its number of epochs is over."""
        del logs
        if self.after is not None and epoch >= self.after:
            self._stop(epoch - 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop distillation if the watched value has stopped improving."""
        if not self.watches or self.stopped_epoch is not None:
            return
        stops = self.model.stop_training  # of another callback
        super().on_epoch_end(epoch, logs)
        if self.stopped_epoch is not None:
            self.model.stop_training = stops
            self._stop(epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing; training was not stopped."""

    def _stop(self, epoch: int):
        if self.stopped_epoch in (None, epoch):
            self.stopped_epoch = epoch
            self.model.alpha = 1.0


def _mode_of(monitor: str, metrics: list) -> str:
    """Return `"min"` or `"max"` for a value that `fit` reports; `"auto"` if that is not known."""
    held = [one for metric in metrics for one in getattr(metric, "metrics", None) or [metric]]
    for metric in held:
        if f"_{monitor}".endswith(f"_{metric.name}") and hasattr(metric, "_direction"):
            return "max" if metric._direction == "up" else "min"
    return next((mode for mode, ends in _MODES.items() if monitor.endswith(ends)), "auto")
