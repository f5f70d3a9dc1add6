"""Checks of a pair, its settings and its callbacks, for students of every kind."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy.special import log_softmax
from tiny_models import crossentropy, dense, predicted

import tfkd
from tfkd import Distiller, StudentCheckpoint, losses
from tfkd.distillation.validation import broken_layers, rows_of
from tfkd.errors import InputError, UnsupportedError


def compiled(student, teacher, package, loss=None, eagerly=False, **kwargs):
    distiller = Distiller(student, teacher, soft_loss="kl", **kwargs)
    loss = crossentropy(package) if loss is None else loss
    distiller.compile(package.optimizers.SGD(0.0), loss, run_eagerly=eagerly)
    return distiller


def test_a_student_that_would_move_its_teacher(package):
    la = package.layers
    i = package.Input((8,))
    hidden = la.Dense(16, name="trunk")
    norm = la.BatchNormalization(center=False, scale=False, name="norm")
    h = norm(hidden(i))
    teacher, student = (package.Model(i, la.Dense(3)(h)) for _ in range(2))
    with pytest.raises(InputError, match=r"shares trainable layers.*'norm', 'trunk'.*clone_model"):
        Distiller(student, teacher)
    with pytest.raises(InputError, match="is its own teacher"):
        Distiller(teacher, teacher)
    with pytest.raises(InputError, match="shares trainable layers"):
        Distiller(student, [dense(keras, inputs=8), teacher])
    hidden.trainable = norm.trainable = False  # a frozen trunk may be shared
    before = [w.copy() for w in teacher.get_weights()]
    distiller = Distiller(student, teacher)
    distiller.compile("sgd", crossentropy(package))
    x, y = np.random.default_rng(0).normal(size=(16, 8)).astype("float32"), np.arange(16) % 3
    distiller.fit(x, y, verbose=0)
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    hidden.trainable = True  # and thawed afterwards it is found again
    with pytest.raises(InputError, match="shares trainable layers"):
        distiller.fit(x, y, verbose=0)


def own_call(package):
    class Scaled(package.Model):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs * 3.0)

    i = package.Input((4,))
    hidden = package.layers.Dense(5, name="h")(i)
    return Scaled(i, package.layers.Dense(3, name="o")(hidden))


def test_a_call_of_ones_own_is_what_runs(batch, package):
    x, y = batch
    student, teacher = own_call(package), own_call(keras)
    s = student(x).numpy()
    hard = -log_softmax(s, -1)[np.arange(32), y].mean()
    h = [model.get_layer("h")(x * 3.0).numpy() for model in (student, teacher)]
    hint = losses.Hint("h", "h")
    plain, featured = (
        compiled(student, teacher, package, None, not f, features=f, teacher_from_logits=True).fit(
            x, y, batch_size=32, verbose=0
        ).history
        for f in ([], [hint])
    )  # fmt: skip
    for history in (plain, featured):
        assert history["hard_loss"][0] == pytest.approx(hard, rel=1e-5)
    want = plain["soft_loss"][0] + np.square(h[0] - h[1]).mean()
    assert featured["soft_loss"][0] == pytest.approx(want, rel=1e-4)
    assert "call" not in vars(student.get_layer("h"))  # listened to, and left as it was
    for needs_a_graph in (tfkd.quantize_aware, lambda m: tfkd.prune_channels(m, 0.5)):
        with pytest.raises(UnsupportedError, match="a `call` of its own"):
            needs_a_graph(student)


def subclassed(package):
    class Own(package.Model):
        def __init__(self):
            super().__init__(name="own")
            self.hidden = package.layers.Dense(8, activation="relu")
            self.out = package.layers.Dense(3)

        def call(self, inputs, training=None):
            return self.out(self.hidden(inputs))

    return Own()


@pytest.mark.parametrize("form", ["subclassed", "unbuilt"])
def test_students_without_a_graph_are_trained_on_outputs(form, batch, package):
    x, y = batch
    layers = [package.layers.Dense(8, activation="relu"), package.layers.Dense(3)]
    student = subclassed(package) if form == "subclassed" else package.Sequential(layers)
    distiller = Distiller(student, dense(keras), alpha=0.0, temperature=1.0, soft_loss="kl")
    loss = crossentropy(package)
    distiller.compile(package.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    history = distiller.fit(data, epochs=20, validation_data=data, verbose=0).history
    assert history["soft_loss"][-1] < 0.5 * history["soft_loss"][0]
    assert {"accuracy", "val_accuracy"} <= set(history)
    want = distiller.evaluate(x, verbose=0, batch_size=32, return_dict=True)["soft_loss"]
    again = distiller.fit(x, y, cache_teacher=True, verbose=0, batch_size=32).history
    assert again["soft_loss"][0] == pytest.approx(want, rel=1e-2)  # float16


@pytest.mark.parametrize("call", ["train_on_batch", "test_on_batch", "score", "score a stream"])
def test_a_student_that_is_not_built_is_called_first(call, batch, package):
    x, y = batch
    student, teacher = package.Sequential([package.layers.Dense(3)]), dense(keras)
    distiller = Distiller(student, teacher, alpha=1.0)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=True)
    if call.startswith("score"):
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(9)
        data = (tfkd.Stream(dataset),) if call.endswith("stream") else (x, y)
        value = distiller.score(*data)[0].value
        assert value == pytest.approx(np.mean(predicted(student, x).argmax(-1) == y))
    else:
        got = getattr(distiller, call)(x, y, return_dict=True)["loss"]
        want = crossentropy(package)(y, predicted(student, x))
        assert got == pytest.approx(float(want), rel=1e-5)


def test_where_a_graph_is_needed_the_way_out_works(batch, package):
    x, y = batch
    student = subclassed(package)
    student(x)
    with pytest.raises(UnsupportedError, match=r"'own' .*subclassed.*model.call\(inputs\)"):
        Distiller(student, dense(keras), features=[losses.Hint("hidden", "d")])
    with pytest.raises(UnsupportedError, match="subclassed"):
        tfkd.quantize_aware(student)
    distiller = Distiller(student, dense(keras))
    distiller.compile("sgd", crossentropy(package, False))
    with pytest.raises(
        InputError, match="does not show whether .* give from_logits=True for logits"
    ):
        distiller.fit(x, y, verbose=0)
    inputs = package.Input((4,))  # as the message has it
    functional = package.Model(inputs, student.call(inputs))
    np.testing.assert_allclose(functional(x), student(x), rtol=1e-6)
    assert tfkd.quantize_aware(functional) is not None


def test_a_frozen_student_gets_keras_own_warning(batch, package):
    student = dense(package)
    student.trainable = False
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        compiled(student, dense(keras), package).fit(*batch, verbose=0)


def test_callbacks_of_the_other_keras(batch, package, tmp_path):
    other = tf_keras if package is keras else keras

    class Own(other.callbacks.Callback):
        pass

    distiller = compiled(dense(package), dense(keras), package)
    for callback in (
        other.callbacks.EarlyStopping(monitor="loss"),
        other.callbacks.BackupAndRestore(str(tmp_path)),
        Own(),
    ):
        with pytest.raises(
            InputError, match=f"is from {other.__name__}, .*{package.__name__}.callb"
        ):
            distiller.fit(*batch, callbacks=[callback], verbose=0)
    checkpoint = StudentCheckpoint(tmp_path / "s.keras", monitor="loss")
    distiller.fit(*batch, callbacks=[checkpoint], verbose=0)
    assert (tmp_path / "s.keras").exists()


def test_losses_of_ones_own_class_belong_to_a_keras_too(package):
    other = tf_keras if package is keras else keras

    class Own(other.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    with pytest.raises(InputError, match=f"loss= is a {other.__name__} object"):
        Distiller(dense(package), dense(keras), soft_loss="kl").compile("sgd", Own())
    with pytest.raises(InputError, match=f"metrics= is a {other.__name__} object"):
        Distiller(dense(package), dense(keras)).compile(
            "sgd", crossentropy(package), metrics=[other.metrics.MeanSquaredError()]
        )


def test_fit_before_compile_and_inputs_of_another_size(batch, package):
    with pytest.raises(InputError, match=r"Call distiller.compile\(optimizer, loss\) before fit"):
        Distiller(dense(package), dense(keras)).fit(*batch)
    with pytest.raises(InputError, match=r"takes inputs of shape \(None, 7\).*teacher_inputs="):
        Distiller(dense(package), dense(keras, inputs=7))
    distiller = Distiller(dense(package), lambda x: x @ np.zeros((7, 3)), teacher_from_logits=True)
    distiller.compile("sgd", crossentropy(package))
    with pytest.raises(InputError, match="can't take the first examples.*teacher_inputs="):
        distiller.fit(*batch, verbose=0)


@pytest.mark.parametrize("value", [1e-30, 1e-4, 1e4, 1e30])
def test_temperatures_that_float32_cannot_hold(value, package):
    with pytest.raises(InputError, match="a number > 0 from 0.001 to 1000"):
        Distiller(dense(package), dense(keras), temperature=value)


@pytest.mark.parametrize("cached", [False, True])
def test_without_labels_the_validation_loss_is_the_soft_loss(cached, batch, package):
    x, _ = batch
    student, teacher = dense(package), dense(keras)
    distiller = Distiller(student, teacher, soft_loss="kl", temperature=1.0)
    distiller.compile(package.optimizers.SGD(0.0), run_eagerly=cached)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(32)
    for data, validation in ((x, (x,)), (dataset, dataset)):
        history = distiller.fit(
            data, validation_data=validation, verbose=0, cache_teacher=cached,
            **({"batch_size": 32} if data is x else {}),
        ).history  # fmt: skip
        assert history["val_loss"][0] == pytest.approx(history["soft_loss"][0], rel=1e-3)
        assert history["val_loss"][0] > 1e-3
    array = Distiller(dense(package), np.zeros((32, 3), "float32"), teacher_from_logits=True)
    array.compile("sgd", crossentropy(package))
    with pytest.raises(InputError, match="answers only for the training arrays of `fit`"):
        array.fit(x, validation_data=(x,), verbose=0)


@pytest.mark.parametrize("form", ["arrays", "dataset"])
def test_sparse_tensors(form, rng):
    x = rng.normal(size=(40, 4)).astype("float32") * (rng.random((40, 4)) > 0.5)
    y = rng.integers(0, 3, 40)
    sparse = keras.Input((4,), sparse=True)
    student = keras.Model(sparse, keras.layers.Dense(3)(sparse))
    teacher = dense(keras)
    found = []
    for given in (x, tf.sparse.from_dense(x)):
        distiller = compiled(student, teacher, keras, eagerly=True)
        data = (given, y)
        if form == "dataset":
            data = (tf.data.Dataset.from_tensor_slices(data).batch(20),)
        history = distiller.fit(*data, batch_size=20, shuffle=False, verbose=0).history
        found.append(history["soft_loss"][0])
        whole = form == "arrays" or given is x
        assert distiller.student_scores[0].count == (40 if whole else 20)
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_rows_of_a_sparse_tensor(rng):
    x = rng.normal(size=(23, 3, 2)) * (rng.random((23, 3, 2)) > 0.6)
    for chosen in (slice(5), slice(4, 90), slice(0, 21, 3), slice(2, 2), slice(1, 23, 7)):
        rows = rows_of(tf.sparse.from_dense(x), chosen)
        np.testing.assert_array_equal(tf.sparse.to_dense(rows), x[chosen])


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_weights_that_are_broken(package):
    class Masked(package.layers.Layer):
        def build(self, _):
            self.mask = self.add_weight(shape=(3,), trainable=False, name="mask")
            self.mask.assign([0.0, 0.0, -np.inf])

        def call(self, x):
            return x + self.mask

    inputs = package.Input((4,))
    hidden = package.layers.Dense(3, name="a", dtype="mixed_bfloat16")(inputs)
    half = package.layers.Dense(3, name="half", dtype="bfloat16")(hidden)
    model = package.Model(inputs, Masked()(package.layers.Dense(3, name="b")(half)))
    assert broken_layers(model) == []
    for name, value in (("a", np.inf), ("half", np.nan), ("b", np.nan)):
        layer = model.get_layer(name)
        kept = layer.get_weights()
        layer.set_weights([np.full_like(kept[0], value), *kept[1:]])
        assert broken_layers(model) == [name]
        layer.set_weights(kept)

    class Own(package.Model):
        def build(self, _):
            self.scale = self.add_weight(shape=(2,), name="scale")
            self.built = True

        def call(self, x):
            return x * self.scale

    own = Own(name="own")
    own.build((None, 2))
    own.scale.assign([1.0, np.nan])
    assert broken_layers(own) == ["own"]
