"""How far `tfkd.export.benchmark` can be relied on, and what it costs.

    python benchmarks/latency_harness.py same --runs 20 --busy
    python benchmarks/latency_harness.py known --runs 10 --busy
    python benchmarks/latency_harness.py peers --runs 15
    python benchmarks/latency_harness.py overhead
    python benchmarks/latency_harness.py forms

`same` measures a file against itself: the ratio's interval should hold 1 in 19 runs of 20.
`known` measures a network against one with 2 and 4 times its layers. `peers` gives the same
seconds of timed calls to a loop in the style of tutorials and to the `litert-benchmark` of the
ai-edge-litert wheel. `forms` compares formats of a CNN and forms of recurrent networks.

`--busy` runs another program on a second core meanwhile.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from tfkd.export import benchmark, to_tflite

_LOOP = """
import sys, time, numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1])
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
interpreter.set_tensor(detail["index"], np.random.random(detail["shape"]).astype(detail["dtype"]))
for _ in range(5):
    interpreter.invoke()
times = []
for _ in range(int(sys.argv[2])):
    start = time.time()
    interpreter.invoke()
    times.append(time.time() - start)
print(np.mean(times) * 1e6)
"""


def network(layers, width=32, size=16):
    """Return `layers` equal convolutions, so that the time goes with their number."""
    inputs = keras.Input((size, size, width))
    x = inputs
    for _ in range(layers):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, x)


def small():
    """Return a network of some 10 µs."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 4)),
            layers.Conv2D(8, 3),
            layers.Conv2D(8, 3),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def same(options):
    """Measure files against themselves."""
    files = {"10 µs": to_tflite(small()), "3 ms": to_tflite(network(4, 64, 32))}
    for name, file in files.items():
        ratios = []
        for run in range(options.runs):
            found = benchmark({"a": file, "b": file}, min_seconds=options.seconds, seed=run)
            ratios.append(found.ratios[0])
        covered = sum(ratio.ci95[0] <= 1 <= ratio.ci95[1] for ratio in ratios)
        alike = sum(ratio.verdict == "no difference seen" for ratio in ratios)
        width = np.mean([(r.ci95[1] - r.ci95[0]) / 2 for r in ratios])
        spread = np.std([math.log(r.ratio) for r in ratios])
        print(
            f"{name}: interval holds 1 in {covered} of {options.runs}, no difference seen in "
            f"{alike}; half width {width:.2%} on average, ratio scatters by {spread:.2%}, at most "
            f"{max(abs(r.ratio - 1) for r in ratios):.2%} off",
            flush=True,
        )


def known(options):
    """Measure networks whose times are known multiples of each other."""
    files = {f"{n} layers": to_tflite(network(n)) for n in (4, 8, 16)}
    for run in range(options.runs):
        found = benchmark(files, min_seconds=options.seconds, seed=run)
        for ratio, true in zip(found.ratios, (2, 4), strict=True):
            low, high = ratio.ci95
            print(
                f"{ratio.name} over 4: {ratio.ratio:.3f} ({low:.3f}–{high:.3f}), "
                f"{ratio.ratio / true - 1:+.1%}",
                flush=True,
            )


def peers(options):
    """Give every harness the same files and the same seconds."""
    models = {"10 µs": small(), "0.2 ms": network(4), "0.4 ms": network(8)}
    files = {name: to_tflite(model) for name, model in models.items()}
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            name: file.save(pathlib.Path(folder) / f"{i}.tflite")
            for i, (name, file) in enumerate(files.items())
        }
        calls = {r.name: int(options.seconds * 1e6 / r.median) for r in benchmark(files)}
        for run in range(options.runs):
            for harness in (_ours, _loop, _litert_benchmark):
                start = time.perf_counter()
                times = harness(files, paths, calls, options.seconds, run)
                found.setdefault(harness.__name__[1:], []).append(times)
                found.setdefault("seconds", {}).setdefault(harness.__name__[1:], []).append(
                    time.perf_counter() - start
                )
    seconds = found.pop("seconds")
    reference = {name: np.median([t[name] for t in found["ours"]]) for name in files}
    for harness, runs in found.items():
        cells = []
        for name in files:
            values = np.array([run[name] for run in runs])
            cells.append(
                f"{name} {np.median(values):.2f} µs ("
                f"{np.median(values) / reference[name] - 1:+.1%}, scatters {_scatter(values):.1%})"
            )
        ratios = np.array(
            [run.get("ratio", run["0.4 ms"] / run["0.2 ms"]) for run in runs], dtype=float
        )
        cells.append(f"ratio {np.median(ratios):.3f}, scatters {_scatter(ratios):.1%}")
        print(f"{harness}: {'; '.join(cells)}; {np.mean(seconds[harness]):.0f} s", flush=True)


def _scatter(values):
    """Return the standard deviation over the mean."""
    return np.std(values, ddof=1) / np.mean(values)


def _ours(files, paths, calls, seconds, run):
    result = benchmark(files, min_seconds=seconds, seed=run, baseline="0.2 ms")
    ratio = next(one.ratio for one in result.ratios if one.name == "0.4 ms")
    return {**{one.name: one.median for one in result}, "ratio": ratio}


def _loop(files, paths, calls, seconds, run):
    return {
        name: float(_output(sys.executable, "-c", _LOOP, str(path), str(calls[name])))
        for name, path in paths.items()
    }


def _litert_benchmark(files, paths, calls, seconds, run):
    times = {}
    for name, path in paths.items():
        target = f"{path}.json"
        tool = pathlib.Path(sys.executable).with_name("litert-benchmark")
        arguments = (f"--model={path}", f"--num_runs={calls[name]}", f"--result_json={target}")
        _output(str(tool), *arguments)
        times[name] = json.loads(pathlib.Path(target).read_text())["latency"]["avg_ms"] * 1e3
    return times


def _output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def overhead(options):
    """Measure a model that does next to nothing, and one of some 10 µs."""
    tiny = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    files = {"one dense unit": to_tflite(tiny), "10 µs": to_tflite(small())}
    for run in range(options.runs):
        found = benchmark(files, min_seconds=options.seconds, seed=run)
        for result in found:
            low, high = result.ci95
            print(
                f"{result.name}: {result.median:.3f} µs ({low:.3f}–{high:.3f}, "
                f"±{(high - low) / 2 / result.median:.1%}), fastest {result.min:.3f}; two readings "
                f"of the clock {found.machine['clock_us']:.3f} µs",
                flush=True,
            )


def forms(options):
    """Compare formats of a CNN, and forms of recurrent networks."""
    layers, rng = keras.layers, np.random.default_rng(0)
    images = rng.random((200, 32, 32, 3), np.float32)
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        x = layers.ReLU()(layers.BatchNormalization()(x))
        shortcut = layers.Conv2D(width, 1, strides=stride, padding="same")(x)
        x = layers.Conv2D(width, 3, strides=stride, padding="same", activation="relu")(x)
        x = layers.Add()([layers.Conv2D(width, 3, padding="same")(x), shortcut])
    x = layers.Dense(10)(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    cnn = keras.Model(inputs, x)
    files = {name: to_tflite(cnn, name) for name in ("float32", "float16", "dynamic")}
    files["int8"] = to_tflite(cnn, "int8", images)
    print(benchmark({**files, "keras": cnn}, min_seconds=options.seconds).describe(), "\n")
    print(benchmark(files, engine="reference", min_seconds=options.seconds).describe(), "\n")
    sequences = rng.normal(size=(200, 32, 16)).astype("float32")
    for layer, kinds in (
        (layers.LSTM, ("fused", "unrolled", "loop")),
        (layers.GRU, ("unrolled", "loop")),
    ):
        model = keras.Sequential([keras.Input((32, 16)), layer(32), layers.Dense(8)])
        files = {}
        for name, samples in (("float32", None), ("int8", sequences)):
            for kind in (*kinds, "step"):
                label = f"{name} {kind}" + " (1 of 32)" * (kind == "step")
                files[label] = to_tflite(model, name, samples, recurrent=kind)
        print(layer.__name__)
        print(benchmark(files, min_seconds=options.seconds).describe(), "\n", flush=True)


@contextlib.contextmanager
def _another_program(wanted: bool):
    """Keep a core busy."""
    if not wanted:
        yield
        return
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


if __name__ == "__main__":
    parts = {part.__name__: part for part in (same, known, peers, overhead, forms)}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timed calls, each model")
    parser.add_argument("--busy", action="store_true", help="another program on a second core")
    given = parser.parse_args()
    with _another_program(given.busy):
        parts[given.part](given)
