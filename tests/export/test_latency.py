"""The harness: equal files come out equal, a larger one slower, a broken one named."""

import dataclasses

import keras
import numpy as np
import pytest
from tfkd.export import TFLiteModel, benchmark, to_tflite
from tfkd.export.latency import _median_interval

from tfkd.errors import InputError, TfkdError


@pytest.fixture(scope="module")
def large():
    layers = keras.layers
    return to_tflite(
        keras.Sequential([keras.Input((16, 16, 8)), *(layers.Conv2D(32, 3) for _ in range(4))])
    )


def test_figures_are_consistent_and_ordered(files, large, digits):
    small, big = benchmark({"small": files["float32"], "large": large}, min_seconds=0.3)
    assert (small.name, big.name) == ("small", "large")
    assert big.median > 3 * small.median
    for timing in (small, big):
        assert timing.runs >= 50
        assert 0 < timing.min <= timing.p5 <= timing.median == timing.p50
        assert timing.p50 <= timing.p90 <= timing.p95 <= timing.p99 <= timing.max
        assert timing.ci95[0] <= timing.median <= timing.ci95[1]
        assert timing.init_us > 0 and timing.first_us > 0
        assert timing.runs * timing.mean / 1e6 >= 0.3
        assert 5e6 < timing.peak_rss_bytes < 5e8


def test_real_inputs_and_several_threads(files, digits):
    (timing,) = benchmark({"int8": files["int8"]}, digits.test.x, threads=2, min_seconds=0.1)
    assert timing.threads == 2


@pytest.mark.slow
def test_the_same_file_twice_is_the_same_within_a_tenth(files):
    one, other = benchmark({"a": files["float32"], "b": files["float32"]}, min_seconds=1.0)
    assert one.median == pytest.approx(other.median, rel=0.1)


def test_the_interval_covers_the_median_of_correlated_rounds():
    # Rounds share a level: an interval that took calls as independent would be far too narrow.
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(40):
        rounds = [
            (100_000 + rng.normal(0, 2000) + rng.normal(0, 300, 50)).astype(np.int64)
            for _ in range(30)
        ]
        low, high = _median_interval(rounds, seed, resamples=200)
        covered += low <= 100.0 <= high
    assert covered >= 34


def test_a_list_of_paths(files, tmp_path):
    path = files["int8"].save(tmp_path / "m.tflite")
    (timing,) = benchmark([path], min_seconds=0.05)
    assert timing.name == str(path)
    assert dataclasses.asdict(timing)["engine"] == "xnnpack"


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
