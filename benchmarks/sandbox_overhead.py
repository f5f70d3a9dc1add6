"""What it costs that the converter runs in a child: `to_tflite` over the plain converter.

Both trace the same small CNN, write a SavedModel and convert it. The plain converter does so in
this process, as TensorFlow's documentation says, and `to_tflite` in its warm worker, with its
checks and the file's first run. They take turns in every round. The script reports the ratio within
a round, its median and 95 % interval (bootstrap over rounds), and the times of the parts of one
`to_tflite`.

`--fresh` does the same from the start: new processes that import what they need, build the
network, convert it to int8 and write the file, in turns, in wall-clock and in processor time of
the process and its child. The ratios are of neighbours.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from tfkd.export import to_tflite
from tfkd.export.conversion import tracing
from tfkd.export.runtime import worker

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "data"))
from tiny_models import cnn

_BEGIN = """
import sys
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
from tiny_models import cnn
samples = np.random.default_rng(0).random((int(sys.argv[2]), 8, 8, 1), "float32")
model = cnn(keras)
"""
_FRESH = {
    "to_tflite": """
from tfkd.export import to_tflite
to_tflite(model, "int8", samples).save(sys.argv[3])
""",
    "plain": """
import tensorflow as tf
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row[None]] for row in samples)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
with open(sys.argv[3], "wb") as file:
    file.write(converter.convert())
""",
}


def fresh(rounds, samples):
    """Print what a first conversion takes from the start of a process to the file."""

    def used():
        of = resource.getrusage(resource.RUSAGE_CHILDREN)
        return np.array([time.perf_counter(), of.ru_utime + of.ru_stime])

    seconds = {name: [] for name in _FRESH}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(-1, rounds):  # the first brings the files into memory
            for name in sorted(_FRESH, reverse=bool(i % 2)):
                arguments = [sys.path[0], str(samples), os.path.join(folder, "model.tflite")]
                start = used()
                subprocess.run(
                    [sys.executable, "-c", _BEGIN + _FRESH[name], *arguments],
                    env=environment,
                    check=True,
                    capture_output=True,
                )
                if i >= 0:
                    seconds[name].append(used() - start)
    for i, what in enumerate(("wall clock", "processor")):
        of = {name: np.array(values)[:, i] for name, values in seconds.items()}
        ratios = of["to_tflite"] / of["plain"]
        times = ", ".join(f"{name} {np.median(v):.2f} s" for name, v in of.items())
        print(
            f"{what}: {np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}]× "
            f"({times}; {rounds} rounds, least and most)"
        )
    return {name: np.array(values).tolist() for name, values in seconds.items()}


def plain(model, format, samples):
    """Convert in this process."""
    with tempfile.TemporaryDirectory() as folder:
        spec = tf.TensorSpec((1, 8, 8, 1), tf.float32, name="pixels")
        module = tf.Module()
        module.weights = [weight.value for weight in model.variables]
        module.forward = tf.function(
            lambda x: {"logits": model(x, training=False)}, input_signature=[spec], autograph=False
        )
        tf.saved_model.save(module, folder, signatures=module.forward)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if format == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([row[None]] for row in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


@contextlib.contextmanager
def timed(owner, name, seconds):
    """Add up what a function takes."""
    function = getattr(owner, name)

    def measured(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            first = next((a for a in args if callable(a) and hasattr(a, "__name__")), function)
            seconds[first.__name__] = seconds.get(first.__name__, 0.0) + time.perf_counter() - start

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, function)


def parts_of(convert):
    """Return what tracing and the two calls of the worker take in one conversion."""
    seconds, start = {}, time.perf_counter()
    with timed(tracing, "save_model", seconds), timed(worker.Worker, "call", seconds):
        convert()
    return {**seconds, "all": time.perf_counter() - start}


def interval(values, seed=0):
    draws = np.random.default_rng(seed).choice(values, (4000, len(values)))
    return float(np.median(values)), *np.percentile(np.median(draws, axis=1), [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    if options.fresh:
        results = fresh(options.rounds, options.samples)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2))
        return
    samples = np.random.default_rng(0).random((options.samples, 8, 8, 1), "float32")
    model, results = cnn(keras), {}
    for format in ("float32", "int8"):
        data = samples if format == "int8" else None
        contenders = {
            "to_tflite": lambda format=format, data=data: to_tflite(model, format, data),
            "plain": lambda format=format: plain(model, format, samples),
        }
        seconds = {name: [] for name in contenders}
        with contextlib.redirect_stdout(io.StringIO()):
            for i in range(-1, options.rounds):  # the first is a warm-up
                for name in sorted(contenders, reverse=bool(i % 2)):
                    start = time.perf_counter()
                    contenders[name]()
                    if i >= 0:
                        seconds[name].append(time.perf_counter() - start)
            parts = [parts_of(contenders["to_tflite"]) for _ in range(5)]
        middle, low, high = interval(np.divide(seconds["to_tflite"], seconds["plain"]))
        times = ", ".join(f"{name} {np.median(v):.3f} s" for name, v in seconds.items())
        print(f"{format}: {middle:.2f} [{low:.2f}, {high:.2f}]× ({times}; {options.rounds} rounds)")
        for name in parts[0]:
            print(f"  {name:12} {np.median([part[name] for part in parts]):.3f} s")
        results[format] = {"seconds": seconds, "parts": parts}
    if options.out:
        options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
