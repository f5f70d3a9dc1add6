"""The harness: equal files come out equal, a larger one slower, a broken one named."""

import contextlib
import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from two_ends import INPUT_KEYS, INPUTS, drawn, forms, two_ended

from tfkd.errors import InputError, TfkdError, WorkerError
from tfkd.export import TFLiteModel, benchmark, to_tflite
from tfkd.export.latency import candidates
from tfkd.export.runtime import host
from tfkd.model import graph

QUICK = {"min_seconds": 0.05, "processes": 2}
ONCE = QUICK | {"processes": 1}  # TensorFlow is imported for seconds in each


@pytest.fixture(scope="module")
def large():
    layers = keras.layers
    return to_tflite(
        keras.Sequential([keras.Input((16, 16, 8)), *(layers.Conv2D(32, 3) for _ in range(4))])
    )


def test_figures_are_consistent_and_ordered(files, large, digits):
    found = benchmark({"small": files["float32"], "large": large}, min_seconds=0.3, processes=3)
    small, big = found
    assert (small.name, big.name) == ("small", "large")
    assert big.median > 3 * small.median
    for timing in (small, big):
        assert timing.runs >= 50
        assert 0 < timing.min <= timing.p5 <= timing.median == timing.p50
        assert timing.p50 <= timing.p90 <= timing.p95 <= timing.p99 <= timing.max
        assert timing.ci95[0] <= timing.median <= timing.ci95[1]
        assert timing.init_us > 0 and timing.first_us > 0
        assert timing.runs * timing.mean / 1e6 >= 0.1
        assert 5e6 < timing.peak_rss_bytes < 5e8
        assert timing.processes == 3 and timing.warm_up_runs > 100
        assert len(timing.round_medians) % 3 == 0 and len(timing.quantiles) == 101
        assert timing.quantiles[0] == timing.min and timing.quantiles[-1] == timing.max
    (ratio,) = found.ratios
    assert ratio.name == "large" and ratio.against == "small" and ratio.verdict == "slower"
    assert ratio.ratio == pytest.approx(big.median / small.median, rel=0.3)
    assert big.macs == sum(
        side * side * 9 * width * 32 for side, width in ((14, 8), (12, 32), (10, 32), (8, 32))
    )


def test_real_inputs_and_several_threads(files, digits):
    (timing,) = benchmark({"int8": files["int8"]}, digits.test.x, threads=2, min_seconds=0.1)
    assert timing.threads == 2


@pytest.mark.slow
def test_the_same_file_twice_shows_no_difference(files):
    # Once in a while the interval lies beside 1: two of three must hold it.
    found = [
        benchmark({"a": files["float32"], "b": files["float32"]}, min_seconds=0.5, seed=seed)
        for seed in range(3)
    ]
    ratios = [one.ratios[0] for one in found]
    assert sum(ratio.verdict == "no difference seen" for ratio in ratios) >= 2
    assert np.median([ratio.ratio for ratio in ratios]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_twice_the_layers_take_twice_the_time():
    def network(count):
        layers = [keras.layers.Conv2D(24, 3, padding="same") for _ in range(count)]
        return to_tflite(keras.Sequential([keras.Input((16, 16, 24)), *layers]))

    found = benchmark({"4": network(4), "8": network(8)}, min_seconds=0.5)
    assert found.ratios[0].ratio == pytest.approx(2.0, rel=0.1)


def test_a_list_of_paths(files, tmp_path):
    path = files["int8"].save(tmp_path / "m.tflite")
    (timing,) = benchmark([path], min_seconds=0.05)
    assert timing.name == str(path)
    assert dataclasses.asdict(timing)["engine"] == "xnnpack"


@pytest.mark.slow
def test_every_setting_is_measured_and_compared(files, digits):
    found = benchmark(
        {"a": files["float32"], "b": files["int8"]},
        digits.test.x,
        threads=(1, 2),
        engine=("xnnpack", "reference"),
        batch=(1, 4),
        **ONCE,
    )
    assert len(found) == 16
    assert {one.setting for one in found} == {
        (engine, threads, batch)
        for engine in ("xnnpack", "reference")
        for threads in (1, 2)
        for batch in (1, 4)
    }
    by_setting = {(one.name, *one.setting): one for one in found}
    plain, four = by_setting["a", "reference", 1, 1], by_setting["a", "reference", 1, 4]
    assert four.macs == 4 * plain.macs
    assert four.median > 2 * plain.median
    # Each of b against a in its setting, and each further setting against the first.
    across = [ratio for ratio in found.ratios if ratio.against == "a"]
    assert len(across) == 8 and all(ratio.name == "b" for ratio in across)
    within = [ratio for ratio in found.ratios if ratio.against != "a"]
    assert len(within) == 14
    words = {ratio.against for ratio in within}
    assert {"itself, 1 thread", "itself, xnnpack", "itself, batch 1, an example"} <= words
    # By the example a batch of four is no four times as slow.
    (of_batch,) = [
        ratio
        for ratio in within
        if (ratio.name, ratio.engine, ratio.threads, ratio.batch) == ("a", "xnnpack", 1, 4)
    ]
    assert of_batch.ratio < 2
    assert "batch 4" in found.describe()


@pytest.mark.slow
def test_a_keras_model_beside_its_file(files, student, qat, digits):
    found = benchmark(
        {"keras": student, "tf_keras": qat, "file": files["float32"]},
        digits.test.x,
        batch=3,
        baseline="file",
        **ONCE,
    )
    assert [one.engine for one in found] == ["keras", "keras", "xnnpack"]
    assert all(one.batch == 3 for one in found)
    assert found["keras"].macs == found["file"].macs > 0
    # TensorFlow needs tens of microseconds for any graph.
    assert all(ratio.ratio > 2 and ratio.baseline == "file" for ratio in found.ratios)
    assert len(found.ratios) == 2


def test_keras_models_from_paths(student, files, tmp_path):
    student.save(tmp_path / "m.keras")
    files["int8"].save(tmp_path / "m.tflite")
    found = benchmark([tmp_path / "m.keras", tmp_path / "m.tflite"], **ONCE)
    assert [one.engine for one in found] == ["keras", "xnnpack"]
    assert found[0].model_bytes == 4 * student.count_params()


def test_a_file_that_keeps_state_starts_from_zero_at_each_call(digits):
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(5), keras.layers.Dense(2)])
    rows = np.random.default_rng(0).normal(size=(40, 6, 4)).astype("float32")
    file = to_tflite(model, "int8", rows, recurrent="fused")
    assert file.keeps_state
    (timing,) = benchmark({"lstm": file}, rows, **QUICK)
    assert timing.runs >= 50
    # In the worker's own code: the answer after any number of calls is that of the first.
    from tfkd.export.latency import timed_calls

    opening = (file.data, file.first_call(rows), "xnnpack", 1, 1)
    timed_calls.open_file("reset", *opening, True)
    timed_calls.open_file("never reset", *opening, False)
    answers = {}
    for key in ("reset", "never reset"):
        interpreter = timed_calls._open[key].owner
        output = interpreter.get_output_details()[0]["index"]
        answers[key] = [interpreter.get_tensor(output).copy()]
        timed_calls.time_calls(key, 20, 1e6)
        answers[key].append(interpreter.get_tensor(output).copy())
        timed_calls.close(key)
    np.testing.assert_array_equal(*answers["reset"])
    assert not np.array_equal(*answers["never reset"])
    with pytest.raises(InputError, match="with a state runs with its own batch only, 1; export it"):
        benchmark({"lstm": file}, batch=2)


def test_one_process_for_all(files):
    found = benchmark({"a": files["float32"], "b": files["int8"]}, isolate=False, **QUICK)
    assert all(one.peak_rss_bytes is None and one.median > 0 for one in found)
    assert found.settings["isolate"] is False


def test_progress_goes_to_its_end(files):
    seen = []
    benchmark({"a": files["int8"]}, progress=lambda *said: seen.append(said), **QUICK)
    assert seen[-1][1] == seen[-1][2] == len(seen)
    assert {stage for stage, _, _ in seen} == {"benchmark"}


def test_what_speaks_against_a_measurement_is_told(files):
    threads = 1 + host.cores()
    with _another_program():
        found = benchmark({"a": files["int8"]}, threads=threads, **QUICK)
    assert any(f"{threads} threads on" in text for text in found.warnings)
    if found.machine["others"] is not None:
        assert any("Other programs used" in text for text in found.warnings)
    assert set(found.warnings) <= set(found.describe().replace("warning: ", "").splitlines())


@contextlib.contextmanager
def _another_program():
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A file whose loop never comes to its end."""
    import tensorflow as tf

    def forward(x):
        _, x = tf.while_loop(
            lambda i, x: tf.reduce_max(x) < 2.0, lambda i, x: (i + 1, x * 0.5), (0, x)
        )
        return x

    function = tf.function(forward, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    file = TFLiteModel(converter.convert())
    assert "WHILE" in file.ops
    return file


def test_a_model_that_hangs_is_ended_and_the_others_are_measured(files, endless):
    with pytest.warns(UserWarning, match="Not measured: .*'endless'.*max_seconds=1"):
        found = benchmark({"a": files["int8"], "endless": endless}, max_seconds=1, **QUICK)
    assert [one.name for one in found] == ["a"]
    ((name, error),) = found.failures.items()
    assert name.startswith("endless (xnnpack") and isinstance(error, WorkerError)
    assert error.timed_out
    with pytest.raises(WorkerError, match="'endless' failed"):
        found["endless"]


def test_batches_are_compared_by_the_example(files):
    dense = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    models = {"one": to_tflite(dense), "eight": to_tflite(dense, batch=8)}
    found = benchmark(models, **QUICK)
    (ratio,) = found.ratios
    assert ratio.against == "one, batch 1, an example" and ratio.batch == 8
    assert ratio.ratio == pytest.approx(found["eight"].median / 8 / found["one"].median, rel=0.5)


def test_one_process_is_told_to_be_too_few(files, large):
    found = benchmark({"a": files["int8"], "b": large}, min_seconds=0.1, processes=1)
    low, high = found.ratios[0].ci95
    assert low < high and found.warnings[0].startswith("One process")


def test_a_model_that_hangs_in_a_process_of_all_is_named_as_what_ended_it(files, endless):
    with pytest.raises(WorkerError, match="'endless' failed.*did not answer"):
        benchmark({"endless": endless, "a": files["int8"]}, isolate=False, max_seconds=1, **QUICK)


def test_what_can_not_be_read_does_not_take_the_others_with_it(files, tmp_path, digits):
    (tmp_path / "text.tflite").write_text("no model")
    models = {
        "good": files["int8"],
        "none": tmp_path / "none.tflite",
        "text": tmp_path / "text.tflite",
        "number": 7,
    }
    with pytest.warns(UserWarning, match="Not measured"):
        found = benchmark(models, digits.test.x, **QUICK)
    assert [one.name for one in found] == ["good"]
    assert "Cannot read" in str(found.failures["none"])
    assert "not a .tflite file" in str(found.failures["text"])
    assert "a TFLiteModel, a Keras model or a path" in str(found.failures["number"])
    with pytest.raises(InputError, match="Cannot read"):
        found["none"]


def test_inputs_for_each_model_and_of_the_wrong_shape(files, large, digits):
    images = np.zeros((3, 16, 16, 8), "float32")
    found = benchmark(
        {"a": files["int8"], "large": large}, {"a": digits.test.x, "large": images}, **QUICK
    )
    assert len(found) == 2
    with pytest.warns(UserWarning, match="'large' failed: Input .* takes arrays of shape"):
        found = benchmark({"a": files["int8"], "large": large}, digits.test.x, **QUICK)
    assert [one.name for one in found] == ["a"]


@pytest.mark.parametrize("keyed", [False, True])
def test_equal_inputs_are_not_crossed(package, keyed, rng):
    model, x = two_ended(package, keyed), drawn(rng, 3)
    flat = x[::-1] if keyed else x
    source, file = graph.walk(model), to_tflite(model)
    for form, given in forms(x, INPUTS, INPUT_KEYS if keyed else None).items():
        got = candidates._keras_arrays(source, given, 3, 0)
        for values, due in zip(got, flat, strict=True):
            np.testing.assert_array_equal(values, due, err_msg=form)
    for form, given in forms(x, INPUTS).items():
        for values, due in zip(candidates._arrays(file, given, 3, 0), x, strict=True):
            np.testing.assert_array_equal(values, due, err_msg=form)


def test_bad_input_of_keras_models(student, digits):
    with pytest.raises(InputError, match=r"takes arrays of shape \(examples, 8, 8, 1\), got"):
        benchmark({"m": student}, digits.test.x[:, :4])
    with pytest.raises(InputError, match=r"takes arrays of shape .* got \(2, 360"):
        benchmark({"m": student}, [digits.test.x] * 2)
    with pytest.raises(InputError, match="lacks 'pixels'; it has 'other'"):
        benchmark({"m": student}, {"other": digits.test.x})
    with pytest.raises(InputError, match="give isolate=True"):
        benchmark({"m": student}, threads=(1, 2), isolate=False)


def test_bad_input(files, tmp_path, digits):
    with pytest.raises(InputError, match="no model to benchmark"):
        benchmark({})
    with pytest.raises(InputError, match="Cannot read"):
        benchmark([tmp_path / "none.tflite"])
    with pytest.raises(InputError, match="threads must be an integer of at least 1"):
        benchmark({"a": files["int8"]}, threads=0)
    with pytest.raises(InputError, match="engine must be one of"):
        benchmark({"a": files["int8"]}, engine="gpu")
    with pytest.raises(InputError, match="takes arrays of shape"):
        benchmark({"a": files["int8"]}, digits.test.x[:, :4])
    with pytest.raises(InputError, match=r"baseline must be one of \['a'\], got 'b'"):
        benchmark({"a": files["int8"]}, baseline="b")
    with pytest.raises(InputError, match="'x.tflite' given more than once"):
        benchmark(["x.tflite", "x.tflite"])
    with pytest.raises(InputError, match="min_runs must.*; processes must.*; min_seconds must"):
        benchmark({"a": files["int8"]}, min_runs=1, processes=0, min_seconds=0)
    with pytest.raises(InputError, match="threads is empty"):
        benchmark({"a": files["int8"]}, threads=())
    batched = to_tflite(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), batch=4)
    with pytest.raises(InputError, match="multiple of the file's own, 4, got 6; export it"):
        benchmark({"a": batched}, batch=6)


def test_a_file_the_interpreter_refuses_is_named(files):
    from ai_edge_litert import schema_py_generated as schema

    # A file with every operator removed from its op-code table's builtin range.
    model = schema.ModelT.InitFromPackedBuf(files["float32"].data, 0)
    for code in model.operatorCodes:
        code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
        code.customCode = b"Unknown"
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    broken = TFLiteModel(bytes(builder.Output()))
    with pytest.raises(TfkdError, match="'broken'.*Unknown"):
        benchmark({"broken": broken})
