"""A `Trainer` compiles the loss that fits the labels, and its step is traced once."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_models import dense, predicted

import tfkd
from tfkd.compression.trainer import Trainer
from tfkd.errors import InputError, UnsupportedError
from tfkd.translation.copies import copy_of

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


@pytest.mark.parametrize("units", [4, 6])
def test_a_class_without_training_examples_is_said(units, rng):
    x, y = rng.normal(size=(60, 4)).astype("float32"), NUMBERS.copy()
    parts = [tfkd.Samples(x, y), tfkd.Samples(x, y), tfkd.Samples(x, np.where(y == 1, 3, y))]
    rows = [tfkd.Samples(x, np.eye(units)[one.y]) for one in parts]
    for three in (parts, rows):
        trainer = Trainer(tfkd.Data("data", *three), tfkd.Training(epochs=1))
        with pytest.warns(UserWarning, match="training part has no example of class 3, which"):
            trainer.check(dense(keras, units))


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


@pytest.mark.parametrize(
    ("y", "units", "shown"),
    [
        (np.full(60, 2), 3, "2"),
        (np.eye(3, dtype="float32")[np.full(60, 2)], 3, r"\[0.0, 0.0, 1.0\]"),
        (np.zeros((60, 1), int), 1, "0"),
    ],
    ids=["class numbers", "one-hot rows", "two classes"],
)
def test_labels_of_one_class_are_refused(y, units, shown, rng):
    """They were learned: the student answered the one class, and its accuracy was 1."""
    x = rng.normal(size=(60, 4)).astype("float32")
    student = dense(keras, units)
    both = np.roll(y, 1, -1) if y.ndim > 1 and units > 1 else 1 - np.minimum(y, 1)
    y_test = np.where(np.arange(60).reshape(-1, *[1] * (y.ndim - 1)) % 2, y, both)
    held_out = tfkd.Samples(x, y_test)
    data = tfkd.Data("one", tfkd.Samples(x, y), held_out, held_out)
    with pytest.raises(InputError, match=rf"All 60 labels of the training part are {shown}, so"):
        Trainer(data, tfkd.Training(epochs=1)).check(student)
    Trainer(tfkd.Data("two", *[held_out] * 3), tfkd.Training(epochs=1)).check(student)


def test_examples_that_a_model_does_not_take(rng):
    x = rng.normal(size=(60, 6)).astype("float32")
    trainer = Trainer(tfkd.split(x, NUMBERS), tfkd.Training(epochs=1))
    with pytest.raises(InputError, match=r"have the shape \(6,\), but the student .* takes \(4,\)"):
        trainer.check(dense(keras, 3))
    inputs = [keras.Input((6,)), keras.Input((6,))]
    several = keras.Model(inputs, keras.layers.Add()(inputs), name="both")
    with pytest.raises(InputError, match="teacher 'both' takes several inputs"):
        trainer.check_inputs(several, "teacher")
    for shape in ((6,), (None,)):
        model = keras.Sequential([keras.Input(shape), keras.layers.ReLU()])
        trainer.check_inputs(model, "student")


@pytest.mark.parametrize(
    ("given", "taken", "fix"),
    [((6,), (6, 1), r"x\[..., None\]"), ((6, 1), (6,), r"x\[..., 0\]"), ((6, 1), (1,), "data of")],
)
def test_a_last_axis_of_one_is_asked_for(given, taken, fix, rng):
    """Keras adds and removes it; a file does not, which was known after all training."""
    trainer = Trainer(tfkd.split(rng.normal(size=(60, *given)), NUMBERS), tfkd.Training(epochs=1))
    with pytest.raises(InputError, match=f"teacher 'a' takes .*: give {fix}"):
        trainer.check_inputs(
            keras.Sequential([keras.Input(taken), keras.layers.ReLU()], name="a"), "teacher"
        )


def test_a_copy_computes_the_same(package, rng):
    """The statistics of a Normalization, and the function of a Lambda, in a nested model too."""
    layers = package.layers
    x = rng.normal(7, 3, (60, 4)).astype("float32")
    outer, inner = layers.Normalization(), layers.Normalization()
    outer.adapt(x), inner.adapt(x**2)
    body = package.Sequential([package.Input((4,)), inner, layers.Lambda(lambda z: z / 2)])
    inputs = package.Input((4,))
    z = layers.Lambda(lambda z: z**2)(inputs)
    z = layers.Concatenate()([outer(inputs), body(z)])
    model = package.Model(inputs, layers.Dense(3)(z))
    model.compile("sgd", loss=lambda y, z: (z - y) ** 2, metrics=[lambda y, z: abs(z - y)])
    copy = copy_of(model)
    np.testing.assert_allclose(predicted(copy, x), predicted(model, x), rtol=1e-6, atol=1e-6)
    assert [type(one) for one in copy.layers] == [type(one) for one in model.layers]
    assert getattr(copy, "optimizer", None) is None
    model.evaluate(x, np.zeros((60, 3)), verbose=0)  # it is compiled as before


@pytest.mark.parametrize("kind", ["TimeDistributed", "RNN"])
def test_a_copy_has_the_users_own_functions_in_wrapped_layers(kind, package, rng):
    """By its name, `tanh`, Keras would take its own."""

    def tanh(x):
        return 1.7159 * tf.tanh(0.6667 * x)

    layers = package.layers
    made = {
        "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3, activation=tanh)),
        "RNN": lambda: layers.RNN(layers.SimpleRNNCell(3, activation=tanh)),
    }[kind]()
    model = package.Sequential([package.Input((5, 4)), made])
    x = rng.normal(size=(6, 5, 4)).astype("float32")
    np.testing.assert_allclose(predicted(copy_of(model), x), predicted(model, x), rtol=1e-5)


@pytest.mark.parametrize("mode", ["int", "tf_idf"])
def test_a_copy_knows_the_same_words(mode, package):
    look = package.layers.StringLookup(output_mode=mode)
    words = tf.constant([["a", "b"], ["b", "c"], ["b", "a"]])
    look.adapt(words)
    model = package.Sequential([package.Input((2,), dtype="string"), look])
    np.testing.assert_allclose(predicted(copy_of(model), words), predicted(model, words))


def test_a_copy_of_a_layer_without_a_configuration_is_refused(package):
    class Applied(package.layers.Layer):
        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)
            self.function = function

        def call(self, x):
            return self.function(x)

    layer = Applied(lambda x: x + 1, name="own")
    model = package.Sequential([package.Input((4,)), layer, package.layers.Dense(2)])
    with pytest.raises(UnsupportedError, match=r"layer 'own' \(Applied\).* no get_config") as error:
        copy_of(model)
    assert error.value.code == "layer-configuration"


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_answers_with_a_mask_are_refused(package, rng):
    """Their padding was scored too, and made any two students alike."""
    layers = package.layers
    x, y = rng.integers(0, 4, (60, 5)), rng.integers(0, 3, (60, 5))
    for steps in (True, False):
        table = layers.Embedding(4, 4, mask_zero=True)
        last = [layers.LSTM(3, return_sequences=steps), layers.Dense(3)]
        model = package.Sequential([package.Input((5,), dtype="int32"), table, *last])
        trainer = Trainer((x, y if steps else y[:, 0]), tfkd.Training(epochs=1))
        if steps:
            with pytest.raises(UnsupportedError, match="masks padding in its answers"):
                trainer.check(model)
        else:
            trainer.check(model)


def test_labels_of_anomalies_teach_nothing(rng):
    x = rng.normal(size=(60, 4)).astype("float32")
    trainer = Trainer((x, NUMBERS % 2), tfkd.Training(epochs=1), task="anomaly")
    with pytest.raises(InputError, match=r"their own labels, \(x, x\)"):
        trainer.check(dense(keras, 4))


@pytest.mark.parametrize("who", ["teacher", "student"])
@pytest.mark.parametrize("cast", [False, True])
def test_numbers_that_an_embedding_does_not_have_are_refused(cast, who, package, rng):
    """TensorFlow's error came after all training if only the test part had one."""
    inputs = package.Input((5,), dtype="int64" if cast else "int32")
    cast_to = keras.ops.cast if package is keras else tf.cast
    tokens = cast_to(inputs, "int32") if cast else inputs
    x = package.layers.Flatten()(package.layers.Embedding(20, 4)(tokens))
    model = package.Model(inputs, package.layers.Dense(3)(x), name="words")
    good = rng.integers(0, 20, (60, 5))
    for bad, part in ((20, "test"), (-1, "train"), (25, "validation")):
        parts = {name: (good.copy(), NUMBERS) for name in ("train", "validation", "test")}
        trainer = Trainer(parts, tfkd.Training(epochs=1))
        trainer.check_inputs(model, who)
        parts[part][0][7, 3] = bad
        said = rf"{part} part holds {bad} in .* number 7, but the {who} 'words'.* from 0 to 19:"
        with pytest.raises(InputError, match=said):
            Trainer(parts, tfkd.Training(epochs=1)).check_inputs(model, who)


def test_numbers_that_only_a_stream_shows_end_in_one_line(package, rng):
    """The first examples are checked, and the others when they are read."""
    x = rng.integers(0, 20, (320, 5))
    model = package.Sequential(
        [
            package.Input((5,), dtype="int32"),
            package.layers.Embedding(20, 4),
            package.layers.Flatten(),
            package.layers.Dense(3),
        ]
    )
    for row, said in ((2, "number 2, but"), (300, r"looked up the number 25 .* from 0 to 19:")):
        bad = x.copy()
        bad[row] = 25
        batches = tf.data.Dataset.from_tensor_slices((bad, np.arange(320) % 3)).batch(64)
        held_out = (x, np.arange(320) % 3)
        data = {"train": batches, "validation": held_out, "test": held_out}
        trainer = Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3))
        step = trainer.check if row == 2 else functools.partial(trainer.fit, "student")
        with pytest.raises(InputError, match=said):
            step(model)
