"""A student with large convolutions trains as its tf_keras twin, and stays the same student."""

import keras
import numpy as np
import pytest

import tfkd
from tfkd.compression.trainer import Trainer
from tfkd.compression.twin import twin_of


def convolutions(**options):
    """Return a Keras 3 net that normalizes 16,384 values an example."""
    inputs = x = keras.Input((32, 32, 1))
    # A bias before the norm has a gradient of rounding errors, which Adam makes a step of.
    x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv", **options)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = keras.layers.Dropout(0.1)(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


@pytest.fixture
def data(rng):
    x = rng.normal(size=(60, 32, 32, 1)).astype("float32")
    y = np.arange(60) % 3
    return tfkd.split(x + 0.3 * y[:, None, None, None].astype("float32"), y, seed=0)


def trained(data, teach=None, **options):
    keras.utils.set_random_seed(3)
    student = convolutions()
    student.get_layer("head").bias.assign([0.1, 0.2, 0.3])
    # One batch an epoch: the two Kerases shuffle the second epoch differently.
    how = tfkd.Training(epochs=4, learning_rate=1e-3, batch_size=36, **options)
    trainer = Trainer(data, how)
    trainer.fit("student", student, teach)
    return student, trainer.histories["student"]


def without_dropout(monkeypatch):
    """Two random generators would give two masks."""
    monkeypatch.setattr(keras.layers, "Dropout", lambda rate: keras.layers.Activation("linear"))


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "taught"])
def test_the_student_is_as_if_it_had_been_trained_itself(data, monkeypatch, taught):
    without_dropout(monkeypatch)
    keras.utils.set_random_seed(8)
    teacher = convolutions()

    def teach(student):
        return tfkd.Distiller(student, teacher)

    (ours, history), (plain, want) = (
        trained(data, teach if taught else None, twin=twin) for twin in (True, False)
    )
    assert isinstance(ours, keras.Model)
    for one, other in zip(ours.weights, plain.weights, strict=True):
        # One divides the variance by n - 1, the other by n = 36 · 32 · 32.
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=2e-3, atol=2e-4)
    assert history.keys() == want.keys()
    for name, values in history.items():
        np.testing.assert_allclose(values, want[name], rtol=2e-3)


def test_a_seed_repeats_the_run(data):
    first, again = (trained(data)[0].get_weights() for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_norm_over_small_maps_is_as_in_keras(data, monkeypatch):
    """With n values of a channel in a batch, the fused variance is larger by n / (n - 1)."""
    without_dropout(monkeypatch)
    body = convolutions()
    x = keras.layers.Reshape((1, 1, 3))(body.output)
    student = keras.Model(body.input, keras.layers.BatchNormalization(name="small")(x))
    model = twin_of(student).model
    x = data.train.x[:4]
    model(x, training=True)
    student(x, training=True)
    small = student.get_layer("small").moving_variance.numpy()
    np.testing.assert_allclose(model.get_layer("small").moving_variance, small, rtol=1e-5)


def test_what_was_learned_until_an_error_is_there(data):
    def stop(stage, done, total):
        if done == 1:
            raise KeyboardInterrupt

    student = convolutions()
    before = student.get_layer("head").kernel.numpy()
    how = tfkd.Training(epochs=2, learning_rate=1e-3)
    with pytest.raises(KeyboardInterrupt):
        Trainer(data, how, progress=stop).fit("student", student)
    assert (student.get_layer("head").kernel.numpy() != before).all()


def test_the_student_is_compiled_afterwards(data):
    student = convolutions()
    Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3)).fit("student", student)
    loss, accuracy = student.evaluate(data.test.x, data.test.y, verbose=0)
    assert np.isfinite(loss) and 0 <= accuracy <= 1


def test_operations_between_layers_train_in_the_twin_too(data):
    body = convolutions()
    student = keras.Model(body.input, body.output * 2.0 + 1.0)
    assert twin_of(student) is not None
    before = student.get_layer("head").kernel.numpy()
    Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3)).fit("student", student)
    assert (student.get_layer("head").kernel.numpy() != before).all()


def with_frozen_kernel():
    model = convolutions()
    model.get_layer("conv").kernel.trainable = False
    return model


def test_what_is_frozen_stays_as_it_is(data):
    student = convolutions()
    student.get_layer("conv").trainable = False
    before = student.get_layer("conv").get_weights()
    head = student.get_layer("head").kernel.numpy()
    assert twin_of(student) is not None
    Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3)).fit("student", student)
    for one, other in zip(before, student.get_layer("conv").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (student.get_layer("head").kernel.numpy() != head).all()


class Own(keras.layers.Layer):
    def call(self, x):
        return x * 2.0


def nested():
    inputs = keras.Input((32, 32, 1))
    return keras.Model(inputs, convolutions()(inputs))


def with_own_layer():
    model = convolutions()
    return keras.Model(model.input, Own()(model.output))


def half():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return convolutions()
    finally:
        keras.config.set_dtype_policy(before)


NONE = {
    "a tf_keras model": lambda: tfkd.translate(convolutions()),
    "a model in a model": nested,
    "a layer of one's own": with_own_layer,
    "a regularizer": lambda: convolutions(kernel_regularizer="l2"),
    "a constraint": lambda: convolutions(kernel_constraint=keras.constraints.NonNeg()),
    "half precision": half,
    "one frozen variable of a layer": with_frozen_kernel,
    "fewer values": lambda: keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization()]
    ),
    "no graph": lambda: type("Subclassed", (keras.Model,), {})(),
}


@pytest.mark.parametrize("why", NONE)
def test_what_would_not_be_the_same_has_no_twin(why):
    assert twin_of(NONE[why]()) is None
