"""The integer loop gives the same as its step file, and is hardly larger."""

import keras
import numpy as np
import pytest
import tf_keras
import zoo
from tiny_models import predicted

from tfkd.errors import UnsupportedError
from tfkd.export import to_tflite
from tfkd.export.micro import evaluation

STEPS = 12
BUILDS = {
    "LSTM": lambda la, x: la.Dense(3)(la.LSTM(6)(x)),
    "GRU": lambda la, x: la.Dense(3)(la.GRU(6)(x)),
    "SimpleRNN": lambda la, x: la.SimpleRNN(6)(x),
    "stacked": lambda la, x: la.Dense(3)(la.GRU(5)(la.LSTM(6, return_sequences=True)(x))),
    "with its state": lambda la, x: la.Concatenate()(la.GRU(5, return_state=True)(x)),
}


@pytest.fixture(scope="module")
def series():
    return np.random.default_rng(0).normal(size=(60, STEPS, 5)).astype("float32")


@pytest.mark.parametrize("format", ["int8", "int16x8"])
@pytest.mark.parametrize("name", BUILDS)
def test_a_loop_is_its_steps(name, format, series):
    model = zoo.over_series(keras, BUILDS[name])
    step, loop = (to_tflite(model, format, series, recurrent=f) for f in ("step", "loop"))
    assert loop.ops["WHILE"] == 1 and loop.integer_only and not loop.keeps_state
    assert loop.states == () and loop.inputs[0].name == "series"
    for engine in ("reference", "xnnpack"):
        got = loop.predict(series, engine=engine)
        np.testing.assert_array_equal(got, step.predict(series, engine=engine))
    want = predicted(model, series)
    assert np.abs(got - want).mean() <= 0.05 * want.std()


def test_the_file_does_not_grow_with_the_steps():
    sizes = {}
    for steps in (10, 40):
        x = np.random.default_rng(0).normal(size=(30, steps, 5)).astype("float32")
        model = zoo.over_series(keras, BUILDS["GRU"], steps)
        sizes[steps] = {
            form: to_tflite(model, "int8", x, recurrent=form).size for form in ("loop", "unrolled")
        }
    assert abs(sizes[40]["loop"] - sizes[10]["loop"]) <= 64
    assert sizes[40]["unrolled"] > 2.5 * sizes[10]["unrolled"]
    assert sizes[40]["loop"] < 0.25 * sizes[40]["unrolled"]


def test_on_a_microcontroller_it_is_the_choice_and_runs(series):
    pytest.importorskip("tflite_micro")
    model = zoo.over_series(tf_keras, BUILDS["GRU"])
    file = to_tflite(model, "int8", series, micro=True)
    assert "WHILE" in file.ops and "chose the loop" in file.notes[0]
    want = file.predict(series, engine="reference")
    got = file.predict(series, engine="tflm")
    assert np.abs(got - want).max() <= 4.01 * file.outputs[0].scale
    unrolled = to_tflite(model, "int8", series)
    assert evaluation.least_arena(file) < 0.5 * evaluation.least_arena(unrolled)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_indices_are_looked_up_before_the_loop(dtype, rng):
    """TFLM has no GATHER of indices: in the loop, the file was refused."""
    pytest.importorskip("tflite_micro")
    la = keras.layers
    words, facts = keras.Input((STEPS,), dtype=dtype, name="words"), keras.Input((STEPS, 3))
    tables = [la.Embedding(20, width, embeddings_initializer="normal") for width in (6, 4)]
    y = la.Concatenate()([*(table(words) for table in tables), facts])
    model = keras.Model([words, facts], la.Dense(2)(la.GRU(6)(y)))
    for table in tables:
        table.set_weights([rng.normal(size=w.shape) for w in table.get_weights()])
    x = [rng.integers(0, 20, (60, STEPS)).astype(dtype), rng.normal(size=(60, STEPS, 3))]
    file = to_tflite(model, "int8", x, micro=True)
    assert "WHILE" in file.ops and file.inputs[0].dtype == "int32"
    assert file.inputs[0].name == "words"
    want = predicted(model, x)
    for engine in ("tflm", "reference"):
        assert np.abs(file.predict(x, engine=engine) - want).mean() <= 0.05 * want.std()


def test_float_ends_and_a_fixed_input(rng):
    la = keras.layers
    words, facts = keras.Input((STEPS,), dtype="int32", name="words"), keras.Input((4,), name="f")
    gate = la.Dense(6, activation="sigmoid")(facts)
    y = la.GRU(6)(la.Embedding(20, 6)(words))
    model = keras.Model([words, facts], la.Dense(2)(la.Multiply()([y, gate])))
    x = {"words": rng.integers(0, 20, (40, STEPS)), "f": rng.normal(size=(40, 4))}
    want = predicted(model, x)
    for float_io in (False, True):
        file = to_tflite(model, "int8", x, recurrent="loop", float_io=float_io)
        assert np.abs(file.predict(x) - want).mean() <= 0.12 * want.std()  # values are tiny
        assert file.outputs[0].dtype == ("float32" if float_io else "int8")


def test_what_has_no_loop(series):
    every = zoo.over_series(keras, lambda la, x: la.GRU(4, return_sequences=True)(x))
    with pytest.raises(UnsupportedError, match="at every step.*'unrolled' or 'step'"):
        to_tflite(every, "int8", series, recurrent="loop")
    with pytest.raises(UnsupportedError, match="free number of steps"):
        to_tflite(zoo.over_series(keras, BUILDS["GRU"], None), "int8", series, recurrent="loop")
    backwards = zoo.build(keras, "bilstm")
    with pytest.raises(UnsupportedError, match="from its end"):
        to_tflite(backwards, "int8", zoo.inputs_for(backwards), recurrent="loop")


def test_auto_takes_no_loop_that_can_not_be(series):
    pytest.importorskip("tflite_micro")
    every = zoo.over_series(keras, lambda la, x: la.GRU(4, return_sequences=True)(x))
    file = to_tflite(every, "int8", series, micro=True)
    assert "WHILE" not in file.ops and "chose unrolled" in file.notes[0]
