"""`StopDistillation`: when the teacher's part ends, for students of both Keras flavours."""

import keras
import pytest
from tiny_models import crossentropy, dense

from tfkd import Distiller, StopDistillation, StudentCheckpoint
from tfkd.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The teacher's:UserWarning")  # it is untrained


def alphas(package, batch, callback, values=(), epochs=5, loss=True, **kwargs):
    """Return alpha in each epoch's steps, where `val_loss` takes the given values."""

    class Script(package.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(float(distiller.alpha.numpy()))

        def on_epoch_end(self, epoch, logs=None):
            if values:
                logs["val_loss"] = values[epoch]

    seen = []
    # Of one seed the first layers of both Kerases are alike.
    keras.utils.set_random_seed(3)
    distiller = Distiller(dense(package), dense(keras), alpha=0.25, soft_loss="kl")
    distiller.compile("sgd", crossentropy(package) if loss else None)
    x, y = batch
    callbacks = [Script(), *(callback if isinstance(callback, list) else [callback])]
    history = distiller.fit(
        x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=callbacks, **kwargs
    )
    # Those of the last epoch: the callback may move alpha after `Script` has looked.
    logs = {name: values[-1] for name, values in history.history.items()}
    return [*seen[1:], float(distiller.alpha.numpy())], logs


def test_after_a_number_of_epochs_the_loss_is_that_of_the_labels(package, batch):
    callback = StopDistillation(after=2)
    got, logs = alphas(package, batch, callback, epochs=4)
    assert got == [0.25, 0.25, 1.0, 1.0]
    assert callback.stopped_epoch == 1
    assert logs["loss"] == pytest.approx(logs["hard_loss"], rel=1e-6)
    assert logs["soft_loss"] > 0.1
    got, _ = alphas(package, batch, StopDistillation(after=2), initial_epoch=3)
    assert got == [1.0, 1.0]


def test_when_validation_stops_improving(package, batch):
    callback = StopDistillation(monitor="val_loss", patience=2)
    got, _ = alphas(package, batch, callback, [3.0, 2.0, 2.5, 2.1, 1.0, 0.5], epochs=6)
    # Two epochs without improvement, 2 and 3; training goes on to the end.
    assert got == [0.25, 0.25, 0.25, 1.0, 1.0, 1.0]
    assert callback.stopped_epoch == 3


def test_whichever_comes_first(package, batch):
    callback = StopDistillation(after=1, monitor="val_loss", patience=2)
    assert alphas(package, batch, callback, [3.0, 2.0, 1.0], epochs=3)[0] == [0.25, 1.0, 1.0]
    callback = StopDistillation(after=9, monitor="val_loss")
    assert alphas(package, batch, callback, [3.0, 4.0, 1.0], epochs=3)[0] == [0.25, 1.0, 1.0]


def test_the_stop_of_another_callback_is_left_alone(package, batch):
    class Stop(package.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    ours = StopDistillation(monitor="val_loss")
    got, _ = alphas(package, batch, [Stop(), ours], [3.0, 4.0, 1.0], epochs=3)
    assert got == [0.25, 1.0] and ours.stopped_epoch == 1


def test_the_direction_of_a_metric_is_known(package, batch, tmp_path):
    """The best accuracy is the largest one, in a name that Keras or the user gave to the metric."""
    keras.utils.set_random_seed(3)
    metrics = ["accuracy", package.metrics.SparseTopKCategoricalAccuracy(2, name="top_accuracy")]
    distiller = Distiller(dense(package), dense(keras), soft_loss="kl")
    distiller.compile("sgd", crossentropy(package), metrics=metrics)
    stops = StopDistillation(monitor="accuracy", patience=9)
    path = tmp_path / "{epoch}.keras"
    saves = StudentCheckpoint(path, monitor="val_top_accuracy", save_best_only=True)
    losses = StudentCheckpoint(path, monitor="val_hard_loss")
    callbacks = [stops, saves, losses]
    values = distiller.fit(
        *batch, validation_data=batch, epochs=2, verbose=0, callbacks=callbacks
    ).history
    assert [one.mode for one in (stops, saves, losses)] == ["max", "max", "min"]
    assert stops.best == max(values["accuracy"])
    assert saves.best == max(values["val_top_accuracy"])


def test_mistakes(batch):
    with pytest.raises(InputError, match="needs after=, a number of epochs, or monitor="):
        StopDistillation()
    with pytest.raises(InputError, match="patience must be >= 0"):
        StopDistillation(monitor="val_loss", patience=-1)
    distiller = Distiller(dense(keras), dense(keras), soft_loss="kl")
    distiller.compile("sgd")
    with pytest.raises(InputError, match="learns from labels alone, but no loss is compiled"):
        distiller.fit(batch[0], verbose=0, callbacks=[StopDistillation(after=1)])
