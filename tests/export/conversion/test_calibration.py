"""Representative data is read from every kind of source, and refused if it does not fit."""

import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_models import cnn, crossentropy, dense
from two_ends import INPUT_KEYS, INPUTS, drawn, forms, two_ended

from tfkd import quantize_aware
from tfkd.data import Samples, representative
from tfkd.errors import InputError, UnsupportedError
from tfkd.export import to_tflite
from tfkd.model import binding
from tfkd.quantization.representative_data import representative_samples

X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
Y = np.arange(40) % 3


@pytest.fixture
def model(package):
    return dense(package, inputs=6)


@pytest.fixture
def two(package):
    """A model of the inputs b and a, in this order, `a` of whole numbers."""
    a, b = package.Input((2,), name="a", dtype="int32"), package.Input((3,), name="b")
    long = package.layers.Embedding(5, 3)(a)
    both = package.layers.Concatenate()([b, package.layers.Flatten()(long)])
    return package.Model([b, a], package.layers.Dense(2)(both))


A, B = np.tile([[0, 1], [2, 3]], (20, 1)), X[:, :3]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]


class OldBatches(tf_keras.utils.Sequence):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]


class Indexed:
    """A PyDataset of a Keras in which it was not iterable."""

    num_batches = None

    def __getitem__(self, i):
        return X[i : i + 1]


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


ONE = {
    "array": lambda: X,
    "float64": lambda: X.astype("float64"),
    "tensor": lambda: tf.constant(X),
    "list": lambda: [X],
    "dict": lambda: {"x": X},
    "dataset of x": lambda: dataset(X).batch(7),
    "dataset of (x, y)": lambda: dataset(X, Y).batch(16),
    "dataset of (x, y, w)": lambda: dataset(X, Y, Y).batch(16),
    "dataset of dicts": lambda: dataset({"x": X}, Y).batch(16),
    "unbatched dataset": lambda: dataset(X, Y),
    "endless dataset": lambda: dataset(X, Y).batch(20).repeat(),
    "PyDataset": Batches,
    "Sequence": OldBatches,
    "indexed": Indexed,
    "TFLite's generator": lambda: lambda: ([row[None]] for row in X),
    "generator of examples": lambda: (row for row in X),
    "endless generator": lambda: ((row[None], 0) for row in itertools.cycle(X)),
    "function that returns a dataset": lambda: lambda: dataset(X).batch(8),
    "batches as lists": lambda: iter([[X[:25], Y[:25]], [X[25:], Y[25:]]]),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_input(model, kind):
    (got,) = representative_samples(model, ONE[kind](), limit=40)
    assert got.dtype == "float32"
    np.testing.assert_array_equal(got, X)


TWO = {
    "list": lambda: [B, A],
    "tuple": lambda: (B, A),
    "dict": lambda: {"a": A, "b": B},
    "generator of lists": lambda: ([b[None], a[None]] for b, a in zip(B, A, strict=True)),
    "generator of examples": lambda: ((b, a) for b, a in zip(B, A, strict=True)),
    "dataset of ((b, a), y)": lambda: tf.data.Dataset.from_tensor_slices(((B, A), Y)).batch(9),
    "dataset of (b, a)": lambda: dataset(B, A).batch(9),
    "dataset of (dict, y)": lambda: dataset({"a": A, "b": B}, Y).batch(9),
    "dataset of dicts": lambda: dataset({"a": A, "b": B}),
}


@pytest.mark.parametrize("kind", TWO)
def test_two_inputs_in_the_order_of_the_model(two, kind):
    b, a = representative_samples(two, TWO[kind]())
    assert a.dtype == "int32" and b.dtype == "float32"
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(b, B)


@pytest.mark.parametrize("keyed", [False, True])
def test_equal_inputs_are_not_crossed(package, keyed, rng):
    model, x = two_ended(package, keyed), drawn(rng)
    flat = x[::-1] if keyed else x  # as Keras flattens its dict
    for form, given in forms(x, INPUTS, INPUT_KEYS if keyed else None).items():
        names = isinstance(given, dict)

        def rows(given=given, names=names):
            for i in range(len(x[0])):
                one = [values[i : i + 1] for values in (given.values() if names else given)]
                yield dict(zip(given, one, strict=True)) if names else one

        for data in (given, rows, ((one, 0) for one in rows())):
            got = representative_samples(model, data)
            for values, due in zip(got, flat, strict=True):
                np.testing.assert_array_equal(values, due, err_msg=form)
    if keyed:
        for data in (x, iter([tuple(x)])):
            with pytest.raises(InputError, match="'day', 'night'.* is a list, .*give a dict"):
                representative_samples(model, data)


def test_lists_of_numbers_and_of_examples(model):
    for data in (X.tolist(), list(X), [X.tolist()], {"x": X.tolist()}):
        (got,) = representative_samples(model, data)
        np.testing.assert_array_equal(got, X)


def test_ranges_belong_to_the_inputs_they_were_read_from(package, rng):
    x = drawn(rng)
    for keyed in (False, True):
        given = (
            dict(zip(INPUT_KEYS, x, strict=True)) if keyed else dict(zip(INPUTS, x, strict=True))
        )
        file = to_tflite(two_ended(package, keyed), "int8", given)
        for info, values in zip(file.inputs, x, strict=True):
            assert info.scale == pytest.approx(np.ptp(values) / 255, rel=0.02), info.name


def test_no_more_is_drawn_than_needed(model):
    source = iter(np.split(np.tile(X, (5, 1)), 20))
    (got,) = representative_samples(model, source, limit=25)
    assert len(got) == 25
    assert len(list(source)) == 17


def test_long_arrays_are_drawn_from_alike_and_in_order(two):
    a = np.stack([np.arange(1000), np.arange(1000)], -1)
    b = np.repeat(a, 3, -1)[:, :3] + 0.5
    b, a = representative_samples(two, [b, a])
    assert len(a) == 500
    assert (np.diff(a[:, 0]) > 0).all()
    np.testing.assert_array_equal(b[:, 0], a[:, 0] + 0.5)
    assert 450 < a[:, 0].mean() < 550


def test_of_a_data_set_the_training_split_is_taken(digits):
    model = cnn(keras)
    (got,) = representative_samples(model, digits)
    np.testing.assert_array_equal(got, representative(digits.train, 200))
    (got,) = representative_samples(model, Samples(digits.test.x, digits.test.y), limit=50)
    np.testing.assert_array_equal(got, representative(digits.test, 50))


def test_a_signature_names_its_inputs_too():
    class Signature:
        name = "saved"
        tensors = (("x", (None, 6), "float32"),)
        slots = binding.named(["x"], "input", "model 'saved'", ordered=True)

    np.testing.assert_array_equal(representative_samples(Signature, {"x": X})[0], X)
    Signature.tensors = (("text", (None,), "string"),)
    with pytest.raises(UnsupportedError, match="'text' of 'saved' takes strings"):
        representative_samples(Signature, ["a", "b"])


BAD = [
    ((X, Y), r"looks like \(x, y\); give x alone"),
    ([X, np.eye(3)[Y], Y], r"looks like \(x, y\)"),
    (({"x": X}, Y), r"looks like \(x, y\)"),
    ([X, X], "takes one input, got data for 2; give one array of examples"),
    (([X, X], Y), r"looks like \(x, y\)"),
    ([], "one input, got data for 0"),
    ({"y": X}, "has the unknown names 'y'; the inputs of .* are 'x'"),
    (X[:, :5], r"input 'x' must have the shape \(None, 6\), got \(40, 5\); prepare"),
    (X[0], r"must have the shape \(None, 6\), got \(6,\): a single example"),
    (Y, r"got \(40,\): these look like labels"),
    (Y[:, None], r"got \(40, 1\): these look like labels"),
    (np.eye(3)[Y], r"got \(40, 3\): these look like labels"),
    (dataset(Y).batch(8), r"got \(8,\): these look like labels"),
    (X[:0], "is empty; give 100 to 500"),
    (iter([]), "is empty, or was used up"),
    (iter([X, X[:0]]), "is empty"),
    (np.where(X > 2, np.nan, X), "NaN or infinite"),
    (np.where(X > 2, 1e300, X.astype("float64")), r"must fit float32, got float64 from .* 1e\+300"),
    (X.astype(str), "must be numbers .float32., got <U"),
    (X.astype("complex64"), "must be numbers .float32., got complex64"),
    ([[[1.0] * 6, [2.0]]], "holds list, which is not an array"),
    ("x_train.npy", "can't be text .'x_train.npy'.; give arrays"),
    (3, "can't be int; give arrays .examples, ...., a list"),
    (iter([(X, Y, Y, Y)]), "got 4 parts"),
    (tf.data.Dataset.zip((dataset(X), dataset(Y), dataset(Y), dataset(Y))), "got 4 parts"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_does_not_fit_one_input(data, message):
    with pytest.raises(InputError, match=message):
        representative_samples(dense(keras, inputs=6), data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (B, "has 2 inputs .'b', 'a'., but .* holds one .ndarray.: give a list of 2"),
        ([B, A, Y], "holds 3 values"),
        (((B, A), Y), r"looks like \(x, y\)"),
        ({"a": A}, "lacks 'b'; it has 'a', and the inputs"),
        ({"a": A, "b": B, "c": Y}, "has the unknown names 'c'; the inputs"),
        ([B, A[:30]], "different numbers of examples .40 for 'b', 30 for 'a'."),
        ([B, A + 0.5], "'a' must fit int32, got float64 from 0.5 to 3.5"),
        ([B, A + 2**40], "'a' must fit int32, got int64"),
        ([B, np.where(A == 0, np.nan, A)], "NaN"),
    ],
)
def test_what_does_not_fit_two_inputs(two, data, message):
    with pytest.raises(InputError, match=message):
        representative_samples(two, data)


def test_images_without_channels_and_sequences_of_several_lengths():
    with pytest.raises(InputError, match=r"last axis is missing; give x\[..., None\]"):
        representative_samples(cnn(keras), np.zeros((20, 8, 8)))
    free = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(1)])
    with pytest.raises(InputError, match=r"the shapes \(4, 3\) and \(5, 3\); pad or cut"):
        representative_samples(free, iter([np.zeros((2, 5, 3)), np.zeros((2, 4, 3))]))
    with pytest.raises(InputError, match="limit must be"):
        representative_samples(free, np.zeros((2, 5, 3)), limit=0)


def test_too_little_is_warned_of(model, two):
    with pytest.warns(UserWarning, match="ranges come from 9 examples") as caught:
        representative_samples(model, X[:9])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="All 40 examples .* input 'b' are equal"):
        representative_samples(two, [np.ones_like(B), A])


# What is far from the training data


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def trained(request, digits):
    """Return a CNN trained on pixels times a factor."""
    package = {"keras": keras, "tf_keras": tf_keras}[request.param]
    made = {}

    def train(factor, nested=False):
        if (factor, nested) not in made:
            package.utils.set_random_seed(1)
            model = cnn(package)
            if nested:
                inputs = package.Input((8, 8, 1))
                model = package.Model(inputs, package.layers.Softmax()(model(inputs)))
            model.compile("adam", crossentropy(package, from_logits=not nested))
            x = digits.train.x * factor
            model.fit(x, digits.train.y, epochs=3, batch_size=32, verbose=0)
            made[factor, nested] = model
        return made[factor, nested]

    return train


def test_no_alarm_on_what_it_was_trained_on(trained, digits):
    for factor in (1.0, 255.0):
        model, x, y = trained(factor), digits.train.x * factor, digits.train.y
        representative_samples(model, representative(Samples(x, y), 100))
        representative_samples(model, x[:10])
        for label in range(10):  # poor data, but on the right scale
            representative_samples(model, x[y == label])


@pytest.mark.parametrize(
    ("factor", "wrong"),
    [
        (1.0, lambda x: x * 255),
        (1.0, lambda x: x / 255),
        (255.0, lambda x: x),
        (1.0, lambda x: x + 10),
        (255.0, lambda x: x * 255 * 255),
    ],
)
def test_another_scale_is_warned_of(trained, digits, factor, wrong):
    with pytest.warns(UserWarning, match="at the layer 'batch_norm.* as in training") as caught:
        representative_samples(trained(factor), wrong(representative(digits.train, 100)))
    assert len(caught) == 1 and caught[0].filename == __file__


def test_nested_models_and_the_caller_keeps_its_model(trained, digits):
    model = trained(1.0, nested=True)
    before = model.get_weights()
    representative_samples(model, digits)
    with pytest.warns(UserWarning, match="at the layer 'student/batch_norm"):
        representative_samples(model, digits.train.x * 255)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_normalization_layers_and_every_input_of_several(package):
    layers = package.layers
    image, facts = package.Input((8, 8, 3), name="image"), package.Input((4,), name="facts")
    rng = np.random.default_rng(1)
    x = [rng.normal(5, 2, (200, 8, 8, 3)), rng.normal([1, 9, 90, 900], [1, 3, 9, 27], (200, 4))]
    normal = [layers.Normalization(name="of_image"), layers.Normalization(name="of_facts")]
    for layer, values in zip(normal, x, strict=True):
        layer.adapt(values)
    flat = layers.GlobalAveragePooling2D()(normal[0](image))
    both = layers.Concatenate()([flat, normal[1](facts)])
    model = package.Model([image, facts], layers.Dense(2)(layers.BatchNormalization()(both)))
    representative_samples(model, [x[0][:30], x[1][:30]])
    with pytest.warns(UserWarning, match="'of_facts' they are 0.*, in training 4"):
        representative_samples(model, [x[0], (x[1] - x[1].mean(0)) / x[1].std(0)])
    with pytest.warns(UserWarning, match="'of_image'"):
        representative_samples(model, [x[0] / 255, x[1]])


def test_what_a_layer_was_not_taught_by_the_data_counts_for_less(package, digits):
    inputs = package.Input((8, 8, 1))
    scaled = package.layers.Normalization(mean=0.5, variance=0.25)(inputs)
    model = package.Model(inputs, package.layers.Dense(1)(scaled))
    representative_samples(model, 0.5 + digits.train.x / 8)
    with pytest.warns(UserWarning, match="at the layer 'normali"):
        representative_samples(model, digits.train.x * 255)
    untrained = cnn(package)
    representative_samples(untrained, digits.train.x * 255)
    frozen = package.Sequential([package.Input((8, 8, 1)), package.layers.BatchNormalization()])
    frozen.layers[-1].moving_mean.assign([6.0])
    frozen.trainable = False  # a backbone that learned from other pictures
    representative_samples(frozen, digits.train.x)


def test_numbers_that_an_embedding_does_not_have(package):
    layers = package.layers
    model = package.Sequential(
        [package.Input((4,), dtype="int32"), layers.Embedding(9, 3), layers.BatchNormalization()]
    )
    model.layers[-1].moving_mean.assign([0.1] * 3)
    with pytest.raises(InputError, match=r"can't run on representative_data: .*not in \[0, 9\)"):
        representative_samples(model, np.full((12, 4), 9) - np.eye(12, 4, dtype=int))


def test_small_activations_after_few_steps_and_rare_features(package):
    # 0.99^300 = 5 % of the variance it started with is left, the data's own is 0.0001.
    def model_of(shape, mean, variance):
        layer = package.layers.BatchNormalization()
        model = package.Sequential([package.Input(shape), layer])
        size = np.ones(shape)
        layer.set_weights([size, 0 * size, size * mean, size * variance])
        return model

    rng = np.random.default_rng(0)
    deviations = np.geomspace(0.003, 0.03, 16)
    few = model_of((16,), 0.0, 0.05 + 0.95 * deviations**2)
    x = rng.normal(0, deviations, (100, 16))
    representative_samples(few, x)
    with pytest.warns(UserWarning, match="at the layer"):
        representative_samples(few, x * 255)
    rates = np.geomspace(1e-4, 0.1, 2000)
    words = rng.random((100, 2000)) < rates
    rare = model_of((2000,), rates, rates * (1 - rates))
    representative_samples(rare, words)
    for factor in (255, 1 / 255):
        with pytest.warns(UserWarning, match="at the layer"):
            representative_samples(rare, words * factor)


def test_stateful_layers_keep_their_state_and_fixed_batches_their_size(package):
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((5, 3), batch_size=4),
            layers.LSTM(2, stateful=True, name="lstm"),
            layers.BatchNormalization(name="bn"),
        ]
    )
    model.get_layer("bn").moving_mean.assign([9.0, 9.0])
    x = np.random.default_rng(0).normal(size=(30, 5, 3))
    representative_samples(model, x)
    assert not any(np.any(state.numpy()) for state in model.get_layer("lstm").states)
    model = package.Sequential(
        [package.Input((6,), batch_size=7), layers.Reshape((6,)), layers.BatchNormalization()]
    )
    model.layers[-1].moving_mean.assign(np.full(6, 9.0))
    with pytest.warns(UserWarning, match="they are -?0.* in training 9 ± 1"):
        representative_samples(model, X)


def test_a_quantize_aware_model_knows_the_range_of_its_input(rng):
    x = rng.random((64, 5, 3)).astype("float32")
    gru = keras.Sequential([keras.Input((5, 3)), keras.layers.GRU(4), keras.layers.Dense(1)])
    model = quantize_aware(gru)
    representative_samples(model, x * 255)  # not trained: nothing is known
    model.compile("adam", "mse")
    model.fit(x, np.ones((64, 1)), epochs=1, verbose=0)
    representative_samples(model, x)
    for wrong in (x * 255, x / 255, x * -2 - 1):
        with pytest.warns(UserWarning, match="at the layer .* they go from .* in training from 0"):
            representative_samples(model, wrong)


def test_models_that_remember_nothing_say_nothing(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        representative_samples(model, X * 1e6)
