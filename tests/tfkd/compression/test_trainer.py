"""A `Trainer` compiles what fits the labels, and its step is traced once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_models import dense, predicted

import tfkd
from tfkd.compression.trainer import Trainer
from tfkd.errors import InputError

NUMBERS = np.arange(60) % 3
# Labels, units of the output, and the metric beside the loss, of outputs as NumPy has it.
TASKS = {
    "class numbers": (NUMBERS, 3, "accuracy", lambda y, out: (out.argmax(-1) == y).mean()),
    "one-hot rows": (
        np.eye(3, dtype="float32")[NUMBERS],
        3,
        "accuracy",
        lambda y, out: (out.argmax(-1) == y.argmax(-1)).mean(),
    ),
    "two classes": (NUMBERS % 2, 1, "accuracy", lambda y, out: ((out[:, 0] > 0) == y).mean()),
    "values": (NUMBERS / 7, 1, "mae", lambda y, out: np.abs(out[:, 0] - y).mean()),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_metric_is_numpys_and_the_step_is_traced_once(task, package, rng):
    y, units, metric, want = TASKS[task]
    x = rng.normal(size=(60, 4)).astype("float32")
    data = tfkd.split(x, y, stratify=False)
    model, traces = dense(package, units), []
    step = model.train_step

    def counted(batch):
        traces.append(1)
        return step(batch)

    model.train_step = counted
    # A rate at which the weights stay as they are: 0 is refused.
    trainer = Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-30, batch_size=8))
    trainer.fit("student", model, validate=False)
    (value,) = trainer.histories["student"][metric]
    assert value == pytest.approx(want(data.train.y, predicted(model, data.train.x)), rel=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_weights_that_became_nan_end_the_training(package, rng):
    """The loss need not show it: with some releases' `relu`, NaN becomes zero in the answer."""
    x = rng.normal(size=(60, 3)).astype("float32")
    y = np.arange(60) % 2
    inputs = package.Input((3,))
    hidden = package.layers.Dense(4)(inputs)
    hidden = package.layers.Lambda(lambda z: tf.where(tf.math.is_nan(z), 0.0, z))(hidden)
    model = package.Model(inputs, package.layers.Dense(2)(hidden))
    data = tfkd.split(x, y, seed=0)
    data.train.x[4] = np.nan
    with pytest.raises(InputError, match=r"in 1 of 36 training examples \(the first is number 4"):
        Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3)).fit("student", model)


def test_class_weights_weigh_the_loss(package, rng):
    x = rng.normal(size=(60, 4)).astype("float32")
    weight = {0: 0.5, 1: 1.0, 2: 4.0}
    data = tfkd.as_data((x, NUMBERS), class_weight=weight)
    model = dense(package, 3)
    trainer = Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-30, batch_size=60))
    trainer.fit("student", model, validate=False)
    logits, y = predicted(model, data.train.x), data.train.y
    each = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(y)), y]
    want = np.mean(each * np.array([weight[label] for label in y]))
    assert trainer.histories["student"]["loss"] == [pytest.approx(want, rel=1e-5)]


def test_names_that_lack_a_class_of_the_model_are_refused(rng):
    """Texts without one class are numbered without it, and all after it mean another output."""
    x = rng.normal(size=(40, 4)).astype("float32")
    texts = np.array(["oak", "ash"] * 20)
    training = tfkd.Training(epochs=1, learning_rate=1e-3)
    with pytest.raises(InputError, match=r"3 outputs.* names 2 classes \('ash', 'oak'\)"):
        Trainer(tfkd.as_data((x, texts)), training).fit("student", dense(keras, 3))
    data = tfkd.as_data((x, texts), class_names=("ash", "fir", "oak"))
    Trainer(data, training).fit("student", dense(keras, 3))
    Trainer(tfkd.as_data((x, texts)), training).fit("student", dense(keras, 1))
