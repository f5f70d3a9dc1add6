"""Step files give the same over a sequence as Keras; layers without a step form are named."""

import keras
import numpy as np
import pytest
import tf_keras
import zoo
from tiny_models import predicted

from tfkd.data import Samples
from tfkd.errors import InputError, UnsupportedError
from tfkd.export import benchmark, to_tflite, verify
from tfkd.export.conversion.recurrent import choice
from tfkd.export.conversion.recurrent.step import can_loop
from tfkd.export.runtime.interpreter import open_interpreter

STEPS, FEATURES = 12, 5


@pytest.fixture(scope="module")
def series():
    return np.random.default_rng(0).normal(size=(60, STEPS, FEATURES)).astype("float32")


def _tagger(la, x):
    y = la.LayerNormalization()(la.TimeDistributed(la.Dense(6, activation="relu"))(x))
    y = la.Add()([y, la.GRU(6, return_sequences=True)(y)])
    return la.Dense(3, activation="softmax")(la.LSTM(5, return_sequences=True)(y))


BUILDS = {
    "LSTM": lambda la, x: la.Dense(3)(la.LSTM(6)(x)),
    "GRU": lambda la, x: la.Dense(3)(la.GRU(6)(x)),
    "GRU, reset before": lambda la, x: la.GRU(6, reset_after=False)(x),
    "SimpleRNN": lambda la, x: la.Dense(3)(la.SimpleRNN(6)(x)),
    "stacked": lambda la, x: la.Dense(3)(la.GRU(5)(la.LSTM(6, return_sequences=True)(x))),
    "output at each step": _tagger,
}
BOUNDS = {"float32": 1e-4, "float16": 5e-3, "int8": 0.05, "int16x8": 0.015}


@pytest.mark.parametrize("format", BOUNDS)
@pytest.mark.parametrize("name", BUILDS)
def test_a_step_file_over_a_sequence_is_the_model(name, format, series):
    model = zoo.over_series(keras, BUILDS[name])
    if (name, format) == ("output at each step", "int16x8"):
        pytest.skip("layer normalization has no 16-bit form")
    data = series if format.startswith("int") else None
    file = to_tflite(model, format, data, recurrent="step")
    want = predicted(model, series)
    for engine in ("xnnpack", "reference"):
        got = file.predict(series, engine=engine)
        assert got.shape == want.shape
        assert np.abs(got - want).mean() <= BOUNDS[format] * want.std()
    assert not file.keeps_state
    assert len(file.states) == {"stacked": 3, "LSTM": 2, "output at each step": 3}.get(name, 1)


def test_a_state_goes_in_with_the_scale_with_which_it_comes_out(series):
    """An application copies bytes, by the names; nothing of ours is needed to run the file."""
    model = zoo.over_series(tf_keras, BUILDS["stacked"])
    file = to_tflite(model, "int8", series, recurrent="step")
    infos = {info.name: info for info in (*file.inputs, *file.outputs)}
    for given, made in file.states:
        assert infos[given].scale == infos[made].scale
        assert infos[given].zero_point == infos[made].zero_point
    interpreter = open_interpreter(file.data, "reference")
    details = interpreter.get_input_details(), interpreter.get_output_details()
    at, out = (
        {info.name: detail["index"] for info, detail in zip(infos_, of, strict=True)}
        for infos_, of in zip((file.inputs, file.outputs), details, strict=True)
    )
    (answer,) = out.keys() - {made for _, made in file.states}
    answers = []
    for example in series[:8]:
        for given, _ in file.states:
            zeros = np.full(infos[given].shape, infos[given].zero_point, "int8")
            interpreter.set_tensor(at[given], zeros)
        for step in infos["step_series"].quantize(example):
            interpreter.set_tensor(at["step_series"], step[None, None])
            interpreter.invoke()
            for given, made in file.states:
                interpreter.set_tensor(at[given], interpreter.get_tensor(out[made]))
        answers.append(interpreter.get_tensor(out[answer])[0])
    got = infos[answer].dequantize(np.array(answers))
    np.testing.assert_array_equal(got, file.predict(series[:8], engine="reference"))


def test_any_length(series):
    model = zoo.over_series(keras, BUILDS["GRU"], steps=None)
    with pytest.raises(UnsupportedError, match="free number of steps.*recurrent='step'"):
        to_tflite(model, "int8", series)
    file = to_tflite(model, "int8", series, recurrent="step")
    long = np.random.default_rng(3).normal(size=(20, 40, FEATURES)).astype("float32")
    for x in (series[:, :1], series, long):
        want = predicted(model, x)
        assert np.abs(file.predict(x) - want).mean() <= 0.05 * want.std()


def test_a_sequence_of_numbers_and_a_single_input(rng):
    la = keras.layers
    words, facts = keras.Input((STEPS,), dtype="int32", name="words"), keras.Input((4,), name="f")
    y = la.LSTM(6)(la.Embedding(20, 4)(words))
    model = keras.Model([words, facts], la.Dense(2)(la.Concatenate()([y, facts])))
    x = {"words": rng.integers(0, 20, (40, STEPS)), "f": rng.normal(size=(40, 4))}
    want = predicted(model, x)
    file = to_tflite(model, "int8", x, recurrent="step")
    named = {"step_words": x["words"], "f": x["f"]}
    assert np.abs(file.predict(named) - want).mean() <= 0.05 * want.std()


def test_stateful_layers(series):
    model = tf_keras.Sequential(
        [tf_keras.Input((STEPS, FEATURES), batch_size=1), tf_keras.layers.GRU(4, stateful=True)]
    )
    with pytest.raises(UnsupportedError, match=r"stateful=True.*recurrent='step'"):
        to_tflite(model, "int8", series)
    file = to_tflite(model, "float32", recurrent="step")
    want = predicted(model, series[:1])
    np.testing.assert_allclose(file.predict(series[:1]), want, atol=1e-5)


def _remembers(package, steps=1, batch=1):
    """Return a stateful LSTM that forgets little: its cell grows over many steps."""
    package.utils.set_random_seed(0)
    i = package.Input((steps, FEATURES), batch_size=batch)
    memory = package.layers.LSTM(6, stateful=True)
    model = package.Model(i, package.layers.Dense(2)(memory(i)))
    kernel, recurrent, bias = memory.get_weights()
    bias[6:12] += 2.0
    memory.set_weights([kernel, recurrent, bias])
    return model, memory


@pytest.mark.parametrize("given", ["sequences", "rows", "rows of a batch"])
def test_a_stateful_step_is_calibrated_on_what_its_states_become(given, package, series):
    """From zero states alone, as it was, a cell of 9 was cut off at 1: 60 % of the spread off."""
    series = series + 0.5
    batch = 4 if given == "rows of a batch" else 1
    model, _ = _remembers(package, batch=batch)
    data = {
        "sequences": series,
        "rows": series[:20].reshape(-1, 1, FEATURES),
        "rows of a batch": series[:4].swapaxes(0, 1).reshape(-1, 1, FEATURES),
    }[given]
    file = to_tflite(model, "int16x8", data, recurrent="step")
    assert any("in a row" in note for note in file.notes) == (given != "sequences")
    plain, memory = _remembers(package)
    want = []
    for sequence in series[:6]:
        memory.reset_states() if package is tf_keras else memory.reset_state()
        want.append([np.asarray(plain(step[None, None]))[0] for step in sequence][-1])
    assert np.abs(file.predict(series[:6]) - want).mean() < 0.03 * np.std(want)


def test_states_that_the_data_can_not_tell(series):
    model, _ = _remembers(keras, batch=16)
    rows = series.reshape(-1, 1, FEATURES)
    for data, words in (
        (rows[:16], "keeps its state .* whole sequences"),
        (Samples(rows, np.zeros(len(rows), int)), "drawn at random: give whole sequences"),
    ):
        with pytest.raises(InputError, match=words):
            to_tflite(model, "int8", data, recurrent="step")
    single = zoo.over_series(keras, BUILDS["GRU"], steps=1)
    with pytest.raises(InputError, match="keeps its state from call to call: give whole sequences"):
        to_tflite(single, "int8", rows, recurrent="step")


@pytest.mark.parametrize("format", ["float32", "int8"])
def test_a_kept_state_goes_into_no_other_form(format, series):
    model, _ = _remembers(keras, steps=STEPS)
    with pytest.raises(UnsupportedError, match=r"stateful=True.*recurrent='step'"):
        to_tflite(model, format, series if format == "int8" else None)
    i = keras.Input((STEPS, FEATURES), batch_size=1)
    both = keras.layers.Bidirectional(keras.layers.GRU(3, stateful=True), name="both")
    with pytest.raises(UnsupportedError, match="'both' .*stateful=False"):
        to_tflite(keras.Model(i, both(i)))


def test_verify_and_benchmark_take_step_files(series):
    model = zoo.over_series(keras, BUILDS["GRU"])
    file = to_tflite(model, "int8", series, recurrent="step")
    result = verify(file, model, series, threshold=0.8)
    assert result.passed and result.samples == len(series)
    (latency,) = benchmark({"step": file}, series, min_runs=5, min_seconds=0.01)
    assert latency.median > 0


REFUSED = {
    "Bidirectional": (lambda la, x: la.Bidirectional(la.GRU(4))(x), "from its end"),
    "backwards": (lambda la, x: la.LSTM(4, go_backwards=True)(x), "from its end"),
    "convolution": (lambda la, x: la.GRU(4)(la.Conv1D(4, 3)(x)), "more of the sequence"),
    "pooled": (
        lambda la, x: la.GlobalAveragePooling1D()(la.GRU(4, return_sequences=True)(x)),
        "more of the sequence",
    ),
    "across steps": (
        lambda la, x: la.GRU(4)(la.LayerNormalization(axis=1)(x)),
        "more of the sequence",
    ),
    "masked": (lambda la, x: la.GRU(4)(la.Masking()(x)), "mask|more of the sequence"),
    "encoder and decoder": (
        lambda la, x: la.GRU(4)(la.RepeatVector(3)(la.LSTM(5)(x))),
        "another recurrent layer returns after its last step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_step_form(name, package):
    build, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        to_tflite(zoo.over_series(package, build), recurrent="step")


def test_sequences_that_do_not_step_together(package, series):
    """A loop ran over as many steps as the first input has, and carried a decoder's state on."""
    la = package.layers
    a, b = package.Input((40, 3), name="a"), package.Input((20, 2), name="b")
    two = package.Model([a, b], la.Concatenate()([la.GRU(3)(a), la.GRU(3)(b)]))
    with pytest.raises(UnsupportedError, match="'a' has 40, 'b' has 20.*recurrent='unrolled'"):
        to_tflite(two, recurrent="step")
    decoder = zoo.over_series(package, REFUSED["encoder and decoder"][0], steps=40)
    for model in (two, decoder):
        assert not can_loop(model)
        assert choice.automatic(model, "int8") == "unrolled"


def test_data_of_different_lengths(rng):
    la = keras.layers
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 2), name="b")
    model = keras.Model([a, b], la.Concatenate()([la.GRU(3)(a), la.GRU(3)(b)]))
    data = [rng.normal(size=(20, 8, 3)), rng.normal(size=(20, 6, 2))]
    with pytest.raises(InputError, match=r"have \[6, 8\] steps: give all sequences of an example"):
        to_tflite(model, "int8", data, recurrent="step")


def test_a_model_without_recurrence_has_no_form():
    with pytest.raises(UnsupportedError, match="has no recurrent layer"):
        to_tflite(zoo.build(keras, "mlp"), recurrent="step")
