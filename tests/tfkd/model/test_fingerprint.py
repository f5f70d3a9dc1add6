"""Every example has its own key; models that compute different things differ in fingerprint."""

import ctypes
import dataclasses
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.data import Stream
from tfkd.errors import InputError
from tfkd.model import code, examples, fingerprint
from tfkd.model.examples import signature
from tfkd.model.fingerprint import example_keys, identity

ROWS = 10_000
RNG = np.random.default_rng(0)
COUNT = np.arange(ROWS)[:, None]


def bits(width, dtype):
    return ((COUNT >> np.arange(width)) & 1).astype(dtype)


def letters(width, alphabet="acgt"):
    digits = (COUNT // len(alphabet) ** np.arange(width)) % len(alphabet)
    return np.array(list(alphabet))[digits]


KINDS = {
    "one-hot float32": lambda: np.eye(2000, dtype="float32"),
    "one-hot float64": lambda: np.eye(1000),
    "one-hot uint8": lambda: np.eye(4000, dtype="uint8"),
    "0/1 bool": lambda: bits(14, bool),
    "0/1 int8": lambda: bits(14, "int8"),
    "0/1 int64": lambda: bits(14, "int64"),
    "0/1 float16": lambda: bits(14, "float16"),
    "0/1 float32": lambda: bits(14, "float32"),
    "0/1 float64": lambda: bits(64, "float64"),
    "0/1 bfloat16": lambda: tf.cast(bits(14, "float32"), tf.bfloat16),
    "numbers int32": lambda: COUNT.astype("int32"),
    "numbers uint16, one each": lambda: COUNT.astype("uint16")[:, 0],
    "numbers int64": lambda: COUNT * 2**40,
    "negative numbers": lambda: COUNT - 5000,
    "round float32": lambda: COUNT.astype("float32"),
    "round float64": lambda: COUNT * 1000.0,
    "halves": lambda: (COUNT % 2048 / 2 + 1024 * (COUNT // 2048)).astype("float32"),
    "powers of two": lambda: 2.0 ** np.arange(-1000, 1000)[:, None],
    "sparse counts": lambda: np.unique(RNG.poisson(0.05, (ROWS, 300)), axis=0).astype("float32"),
    "images 0..255": lambda: RNG.integers(0, 256, (ROWS, 8, 8, 3)).astype("float32"),
    "images, one pixel differs": lambda: (
        np.full((4096, 64, 64), 128.0, "float32")
        + np.eye(4096, dtype="float32").reshape(-1, 64, 64)
    )[:2000],
    "images uint8": lambda: RNG.integers(0, 256, (ROWS, 28, 28), "uint8"),
    "scaled images": lambda: (RNG.integers(0, 256, (ROWS, 64)) / 255).astype("float32"),
    "normal float64": lambda: RNG.normal(size=(ROWS, 3)),
    "DNA one-hot": lambda: (letters(7)[..., None] == np.array(list("acgt"))).astype("float32"),
    "DNA letters": lambda: letters(7),
    "text": lambda: np.array([f"sentence number {i} is here." for i in range(ROWS)]),
    "text, spaces move": lambda: np.array(
        [[" " * (i % 100), " " * (i // 100)] for i in range(ROWS)]
    ),
    "strings in 3 dimensions": lambda: np.array(
        [[[f"{i // 100}", "-"], ["-", f"{i % 100}"]] for i in range(ROWS)]
    ),
    "complex": lambda: COUNT * (1 + 2j),
    "nested dict": lambda: {"a": COUNT // 100, "b": {"c": (COUNT % 100).astype("float32")}},
    "nested list of equal shapes": lambda: [COUNT // 100, COUNT % 100],
    "nested, strings beside numbers": lambda: (
        {"id": np.array([str(i % 10) for i in range(ROWS)]), "x": (COUNT // 10, bits(3, "int8"))}
    ),
}


def slices(structure, rows):
    return tf.nest.map_structure(lambda leaf: leaf[rows], structure)


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_has_its_own_key(kind):
    x = KINDS[kind]()
    keys = example_keys(x).numpy()
    rows = len(tf.nest.flatten(x)[0])
    assert rows >= 1000 and keys.shape == (rows, 2) and keys.dtype == np.int64
    assert len(np.unique(keys[:, 0])) == len(np.unique(keys[:, 1])) == rows
    # The same for a few at a time, in a graph and in tf.data.
    few = slices(tf.nest.map_structure(tf.convert_to_tensor, x), slice(0, 100))
    np.testing.assert_array_equal(keys[:100], example_keys(few))
    np.testing.assert_array_equal(keys[:100], tf.function(example_keys)(few))
    given = tuple(few) if isinstance(few, list) else few
    data = tf.data.Dataset.from_tensor_slices(given).batch(30)
    data = data.map(lambda *x: example_keys(x if isinstance(given, tuple) else x[0]))
    np.testing.assert_array_equal(keys[:100], np.concatenate(list(data.as_numpy_iterator())))


def test_place_shape_and_dtype_are_part_of_the_key():
    one = np.arange(6).reshape(1, 6)
    variants = [
        one, one.reshape(1, 2, 3), one.reshape(1, 3, 2), one.astype("int32"), one.astype("uint64"),
        one.astype("float64"), [one], {"a": one}, {"b": one}, [one[:, :3], one[:, 3:]],
        [one[:, :2], one[:, 2:]], -one, np.zeros((1, 0)), np.zeros((1, 0, 2)),
        np.array([["a", "bc"]]), np.array([["ab", "c"]]), np.array([["abc"]]), np.array(["abc"]),
        np.zeros((1, 0), "f"), np.zeros((1, 0), "S1"), np.array([[0.0]]), np.array([[-0.0]]),
    ]  # fmt: skip
    keys = np.concatenate([example_keys(one) for one in variants])
    assert len(np.unique(keys[:, 0])) == len(np.unique(keys[:, 1])) == len(variants)
    assert example_keys(np.zeros((0, 3))).shape == (0, 2)
    assert example_keys(np.zeros((0,), "S1")).shape == (0, 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (tf.ragged.constant([[1], [2, 3]]), "a RaggedTensor.*Make it dense"),
        ({"a": tf.sparse.from_dense([[1]])}, "'a' is a SparseTensor.*to_dense"),
        (np.float32(1), "a single value"),
        (np.array([object()]), "can't be read as an array"),
        ({}, "no array in the data"),
    ],
)
def test_data_without_dense_examples(x, message):
    with pytest.raises(InputError, match=message):
        example_keys(x)


def test_signatures_fit():
    x = {"b": np.zeros((2, 3)), "a": np.zeros((2,), "int8")}
    found = signature(x)
    assert found == [["a", "int8", []], ["b", "float64", [3]]]
    assert examples.show_signature(found) == (
        "a: int8 of shape (batch,); b: float64 of shape (batch, 3)"
    )
    assert signature(tf.data.Dataset.from_tensor_slices(x).batch(2).element_spec) == found
    free = [["a", "int8", []], ["b", "float64", [None]]]
    assert examples.matches(free, found) and examples.matches(found, free)
    assert not examples.matches(found, signature(x | {"b": np.zeros((2, 4))}))
    assert not examples.matches(found, signature(x | {"b": np.zeros((2, 3, 1))}))


# -- What decides a result


def model_of(package, activation="relu", epsilon=1e-3, constant=2.0, body=lambda z: z + 1, seed=0):
    package.utils.set_random_seed(seed)
    inputs = package.Input((4,))
    x = package.layers.Dense(8, activation)(inputs)
    x = package.layers.BatchNormalization(epsilon=epsilon)(x) * constant
    return package.Model(inputs, package.layers.Dense(3)(package.layers.Lambda(body)(x)))


FACTOR = 3


def scaled(z):
    return z * FACTOR


def test_a_model_is_what_it_computes(package, monkeypatch):
    first = fingerprint.fingerprint(model_of(package))
    again = model_of(package)  # its layers are counted on: dense_3, dense_4
    assert fingerprint.fingerprint(again) == first
    again.compile("sgd", "mse")
    again.fit(np.zeros((2, 4)), np.zeros((2, 3)), epochs=1, verbose=0)
    again.set_weights(model_of(package).get_weights())
    assert fingerprint.fingerprint(again) == first
    others = [
        model_of(package, "tanh"), model_of(package, epsilon=1e-5), model_of(package, constant=3.0),
        model_of(package, body=lambda z: z + 2), model_of(package, body=lambda z: z - 1),
        model_of(package, seed=1), model_of(package, lambda z: z * 2),
        model_of(package, lambda z: z * 4), model_of(package, scaled),
    ]  # fmt: skip
    found = {first, *map(fingerprint.fingerprint, others)}
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 4)
    found.add(fingerprint.fingerprint(others[-1]))
    assert len(found) == len(others) + 2


def test_a_model_to_train_is_also_what_acts_in_its_training(package):
    def net(trainable=True, regularizer=None, constraint=None, seed=None):
        package.utils.set_random_seed(0)
        layers = package.layers
        cell = layers.LSTM(2, recurrent_regularizer=regularizer, return_sequences=True)
        hidden = layers.Dense(3, kernel_constraint=constraint)
        model = package.Sequential(
            [package.Input((5, 4)), cell, layers.Dropout(0.5, seed=seed), hidden]
        )
        hidden.trainable = trainable
        return model

    def far(weights):
        return tf.reduce_sum(tf.abs(weights) * FACTOR)

    regularizers, constraints = package.regularizers, package.constraints
    models = [
        net(), net(trainable=False), net(seed=3), net(regularizer=regularizers.L2(0.1)),
        net(regularizer=regularizers.L2(0.2)), net(regularizer=far),
        net(constraint=constraints.MaxNorm(1.0)), net(constraint=constraints.NonNeg()),
    ]  # fmt: skip
    trained = [fingerprint.fingerprint(fingerprint.trainee(model)) for model in models]
    assert len(set(trained)) == len(models)
    assert len(set(map(fingerprint.fingerprint, models))) == 1, "all compute the same"
    again = net(regularizer=regularizers.L2(0.2))
    assert fingerprint.fingerprint(fingerprint.trainee(again)) == trained[4]
    again.compile("sgd", "mse")
    again.fit(np.zeros((2, 5, 4)), np.zeros((2, 5, 3)), epochs=1, verbose=0)
    again.set_weights(models[4].get_weights())
    assert fingerprint.fingerprint(fingerprint.trainee(again)) == trained[4]
    makers = [fingerprint.fingerprint(fingerprint.trainee(one)) for one in (net, far)]
    assert makers[0] != makers[1]


def test_order_and_keys_of_inputs_and_outputs_matter(package):
    def net(inputs, outputs):
        package.utils.set_random_seed(0)
        a, b = package.Input((4,), name="p"), package.Input((4,), name="q")
        x = package.layers.Dense(3)(a) + package.layers.Dense(3)(package.layers.ReLU()(b))
        y = package.layers.Dense(2)(x)
        return fingerprint.fingerprint(package.Model(inputs(a, b), outputs(x, y)))

    forms = [
        (lambda a, b: [a, b], lambda x, y: [x, y]),
        (lambda a, b: [b, a], lambda x, y: [x, y]),
        (lambda a, b: [a, b], lambda x, y: [y, x]),
        (lambda a, b: [a, b], lambda x, y: {"x": x, "y": y}),
        (lambda a, b: [a, b], lambda x, y: {"x": y, "y": x}),
        (lambda a, b: {"p": a, "q": b}, lambda x, y: [x, y]),
    ]
    assert len({net(*form) for form in forms}) == len(forms)
    assert net(*forms[3]) == net(*forms[3])


def test_nested_wrapped_and_recurrent_layers(package):
    layers = package.layers

    def net(units=3, activation="tanh", seed=0):
        package.utils.set_random_seed(seed)
        inner = package.Sequential([package.Input((4,)), layers.Dense(2, activation)])
        model = package.Sequential(
            [
                package.Input((5, 4)),
                layers.TimeDistributed(inner),
                layers.Bidirectional(layers.SimpleRNN(units, return_sequences=True)),
                layers.Dropout(0.2),
                layers.RNN([layers.GRUCell(2), layers.SimpleRNNCell(3)]),
            ]
        )
        return fingerprint.fingerprint(model)

    first = net()
    assert first == net()
    assert len({first, net(2), net(activation="relu"), net(activation=scaled), net(seed=1)}) == 5


def test_subclassed_models_and_layers(package):
    def kind(by):
        class Net(package.Model):
            def __init__(self, scale=2.0, function=None, table=None):
                super().__init__()
                self.dense = package.layers.Dense(3, kernel_initializer="ones")
                self.scale, self.function, self.table = scale, function, table

            def call(self, x, training=None):
                return self.dense(x) * self.scale + by

        return Net

    def built(model):
        model(np.zeros((1, 4), "float32"))
        return model

    one = built(kind(1)())
    first = fingerprint.fingerprint(one)
    assert fingerprint.fingerprint(built(kind(1)())) == first
    weights = one.get_weights()
    one.compile("adam", "mse")
    one.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0)
    one.set_weights(weights)
    assert fingerprint.fingerprint(one) == first
    others = [kind(2)(), kind(1)(3.0), kind(1)(function=scaled), kind(1)(table=np.ones(3))]
    found = {first, *(fingerprint.fingerprint(built(model)) for model in others)}
    assert len(found) == 5
    with pytest.raises(InputError, match="no weights yet.*call it on a batch"):
        fingerprint.fingerprint(kind(1)())
    # Inside a Functional model, and one with a call of its own around a graph.
    around = []
    for inner in (built(kind(1)()), built(kind(1)()), built(kind(1)(4.0))):
        inputs = package.Input((4,))
        around.append(fingerprint.fingerprint(package.Model(inputs, inner(inputs))))
    assert around[0] == around[1] != around[2]

    def own_call(by):
        class Own(package.Model):
            def call(self, x, training=None, mask=None):
                return super().call(x * by)

        package.utils.set_random_seed(0)
        inputs = package.Input((4,))
        return fingerprint.fingerprint(Own(inputs, package.layers.Dense(2)(inputs)))

    assert own_call(1.0) == own_call(1.0) != own_call(2.0)


def test_functions_are_their_code_and_what_it_reads(monkeypatch, tmp_path):
    def times(n):
        return lambda x: x * n

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    hashed = fingerprint.fingerprint
    same = [
        (times(2), times(2)), (lambda x: x + 1, lambda x: x + 1), (times([1]), times([1])),
        (functools.partial(times, 2), functools.partial(times, 2)), (even, even),
    ]  # fmt: skip
    for one, other in same:
        assert hashed(one) == hashed(other)
    different = [
        times(2), times(3), times(2.0), times(True), times("2"), times(np.ones(2)), times(len),
        times(np.zeros(2)), times(tf.nn.relu), times(keras.activations.relu), lambda x: x + 1,
        lambda x: x + 2, lambda x: x - 1, lambda x, y=1: x + 1, lambda x, *, y=1: x + 1, even, odd,
        scaled, tf.function(scaled), math.sin, np.sin, tf.sin, functools.partial(scaled, 1),
        functools.partial(scaled, 2), "".join, "a".join, [].append, functools.lru_cache(scaled),
        np.random.default_rng(0).normal, np.random.default_rng(1).normal,
    ]  # fmt: skip
    assert len(set(map(hashed, different))) == len(different)
    before = hashed(scaled)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 4)
    assert hashed(scaled) != before
    # What is read of a user's module.
    helper = types.ModuleType("helper_of_a_user")
    helper.table, helper.__file__ = [1, 2], str(tmp_path / "helper_of_a_user.py")
    monkeypatch.setitem(sys.modules, "helper_of_a_user", helper)
    reads = eval("lambda x: helper.table[x]", {"helper": helper})
    before = hashed(reads)
    helper.table = [1, 3]
    assert hashed(reads) != before


class Plain:
    def __init__(self, value):
        self.value, self.me = value, self

    def __call__(self, x):
        return x + self.value


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


@dataclasses.dataclass
class Point:
    x: int = 1


@pytest.mark.parametrize(
    ("file", "installed"),
    [
        (keras.__file__, True),
        ("/opt/base/lib/python3.12/site-packages/keras/layers.py", True),
        ("/usr/lib/python3/dist-packages/keras/layers.py", True),
        ("/home/me/project/layers.py", False),
    ],
)
def test_what_is_installed_in_any_environment_is_known_by_name(file, installed):
    assert code.in_library(file) is installed


def test_values_and_objects():
    kinds = [
        None, 0, False, 0.0, -0.0, 1, 1.0, True, "1", b"1", "", (), [], {}, set(), frozenset(), [1],
        (1,), [[1], 2], [1, [2]], {"a": 1}, {"a": 2}, {1, 2}, {1, 3}, slice(1), range(3), 1j, ...,
        float("nan"), np.float32(1), np.float64(1), np.ones(1), np.ones(1, "i"), np.ones((1, 1)),
        np.array(["a"]), np.array(["a"], object), tf.constant(["a"]), tf.constant(1.5),
        tf.Variable(2.5), keras.Variable(3.5), tf.float32, np.dtype("float32"), tf.float16,
        Plain(1), Plain(2), Plain(1).__call__, Plain(2).__call__, Plain, Slotted(1), Slotted(2),
        Point(1), Point(2), Point, int, keras.layers.Dense, keras.losses.MeanSquaredError(),
        keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-4), tf.random.Generator.from_seed(1),
        tf.random.Generator.from_seed(2), np.random.default_rng(1), keras.layers.Rescaling(2.0),
        keras.layers.Rescaling(3.0), tf.TensorShape([1, None]), np, tf,
    ]  # fmt: skip
    found = list(map(fingerprint.fingerprint, kinds))
    assert len(set(found)) == len(kinds)
    assert found[:-20] == list(map(fingerprint.fingerprint, kinds))[:-20]
    assert fingerprint.fingerprint({"a": 1, "b": 2}) == fingerprint.fingerprint({"b": 2, "a": 1})
    assert fingerprint.fingerprint(pathlib.Path("a/b")) == fingerprint.fingerprint(
        pathlib.Path("a/b")
    )
    lock = threading.Lock()
    with open(__file__) as stream:
        refused = [
            threading.Lock(), (i for i in "a"), tf.data.Dataset.range(3), keras.Input((3,)), stream,
            lambda x, lock=lock: x, Plain(lock), lambda x: lock,
        ]  # fmt: skip
        for one in refused:
            with pytest.raises(InputError, match="could not be recognized in another process"):
                fingerprint.fingerprint(one)


def test_what_can_not_be_read_is_refused_in_a_line():
    """A ctypes pointer, as the models of other libraries hold, raises a ValueError."""
    with pytest.raises(InputError, match="pointer"):
        fingerprint.fingerprint([ctypes.c_void_p(1)])


def test_settings_stay_readable():
    plain = {"a": [1, 2.5, None, "x", True], "b": {"c": pathlib.Path("p")}, "d": (1, 2)}
    want = {"a": [1, 2.5, None, "x", True], "b": {"c": "p"}, "d": [1, 2]}
    assert identity(plain) == want == json.loads(json.dumps(identity(plain)))
    kind, digest = identity(scaled)
    assert kind == "scaled" and len(digest) == 64
    assert identity(functools.partial(scaled, 1))[0] == "scaled"
    assert identity(np.ones(3))[0] == "ndarray"
    assert identity(lambda x: x)[0].endswith("<lambda>")


def test_the_same_in_another_process(tmp_path, capsys):
    script = textwrap.dedent("""
        import functools, keras, numpy as np, tf_keras
        from tfkd.model.fingerprint import fingerprint
        FACTOR = {"b", "a", "c"}
        def scaled(z, names=frozenset("xyz")):
            return [z * 2 for name in FACTOR if name in {"a", "b", "q"}]
        class Kind:
            table = {"x": 1}
            def __init__(self): self.names = {"p", "q", "r"}
            def __call__(self, x): return super().__repr__()
        for package in (keras, tf_keras):
            package.utils.set_random_seed(0)
            inputs = package.Input((4,))
            x = package.layers.Lambda(lambda z: z * 3)(inputs * 2.0)
            print(fingerprint(package.Model(inputs, package.layers.Dense(2)(x))))
        print(fingerprint([scaled, Kind(), Kind().__call__, functools.partial(scaled, 1)]))
    """)
    file = tmp_path / "script.py"
    file.write_text(script)
    run = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},  # here sets of text are in another order
    )
    exec(compile(script, "elsewhere.py", "exec"), {"__name__": "elsewhere"})
    assert run.stdout == capsys.readouterr().out and run.stdout.count("\n") == 3, run.stderr


def test_the_contents_of_a_stream_are_its_examples_in_any_order():
    x, y = RNG.normal(size=(40, 3)).astype("float32"), np.arange(40)
    whole = tf.data.Dataset.from_tensor_slices((x, y))

    def contents(dataset):
        return fingerprint.contents(Stream(dataset.batch(7)))

    held = contents(whole)
    assert contents(whole.shuffle(40)) == held
    other = tf.data.Dataset.from_tensor_slices((x, np.where(y == 30, 31, y)))
    assert contents(other) != held
    swapped = tf.data.Dataset.from_tensor_slices((x[::-1], y))
    assert contents(swapped) != held and contents(whole.take(39)) != held
