"""Damaged files soon give a result or an error of tfkd, and this process survives."""

import collections
import json
import math
import os
import pathlib
import time
import traceback
import warnings

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from tflite_mutants import mutant
from tiny_models import cnn, dense

from tfkd.errors import ConversionError, InputError, TfkdError, WorkerError
from tfkd.export import TFLiteModel, micro_bundle, to_tflite, verify
from tfkd.export.latency.operators import operators
from tfkd.export.latency.profiler import profile
from tfkd.export.micro import evaluation
from tfkd.export.runtime import worker as sandbox
from tfkd.export.tflite import model as artifact
from tfkd.export.tflite.metadata import data_inputs
from tfkd.loading.models import load_model
from tfkd.pruning import sparsity

FILES, SAVED = 2000, 200
# Which structural mutants: "2000", or "500-1000" for a part of them; each is drawn by its number.
MUTANTS = os.environ.get("TFKD_MUTANTS", "60")
# What a damaged file may take of a child's memory, of ours, and of time.
CHILD_BYTES, OUR_BYTES, SECONDS = 512 << 20, 256 << 20, 1.5
HUGE = (-1, 0, 2**31 - 1, -(2**31), 2**30, 2**28, 2**24, 2**16, 4096, 255)


def flip(data, rng):
    """Other bytes in some places."""
    damaged = bytearray(data)
    for position in rng.integers(8, len(data), size=rng.choice([1, 2, 4, 8, 16, 30])):
        damaged[position] = rng.integers(256)
    return bytes(damaged)


def truncate(data, rng):
    return data[: rng.integers(len(data))]


def block(data, rng):
    """A block put in, doubled, taken out or copied elsewhere."""
    size = int(rng.choice([1, 4, 16, 64, 256, 1024]))
    source, target = (int(i) for i in rng.integers(8, len(data), size=2))
    kind = rng.integers(4)
    middle = [rng.bytes(size), data[source : source + size], b"", data[source : source + size]][
        kind
    ]
    return data[:target] + middle + data[target + (size if kind > 1 else 0) :]


def huge(data, rng):
    """Small integers, wherever they stand, made extreme: lengths, offsets, indices, options."""
    words = np.frombuffer(bytearray(data[: len(data) // 4 * 4]), "<i4").copy()
    small = np.flatnonzero(np.abs(words) < 2**16)
    for position in rng.choice(small[small >= 2], size=rng.integers(1, 4)):
        words[position] = rng.choice(HUGE)
    return words.tobytes() + data[len(data) // 4 * 4 :]


def field(data, rng):
    """Numbers and lengths of shapes, scales and lists of tensors made extreme."""
    damaged = bytearray(data)
    start = np.frombuffer(damaged, np.uint8).ctypes.data
    model = schema.ModelT.InitFromPackedBuf(damaged, 0)
    graph = model.subgraphs[rng.integers(len(model.subgraphs))]
    vectors = [graph.inputs, graph.outputs]
    for tensor in graph.tensors:
        vectors += [tensor.shape, tensor.shape, tensor.shapeSignature]
        if tensor.quantization is not None:
            vectors += [tensor.quantization.scale, tensor.quantization.zeroPoint]
    for op in graph.operators:
        vectors += [op.inputs, op.outputs]
    vectors = [vector for vector in vectors if vector is not None and len(vector)]
    for i in rng.integers(len(vectors), size=rng.integers(1, 3)):
        places = [vectors[i].ctypes.data - start + 4 * n for n in range(-1, len(vectors[i]))]
        place = rng.choice(places)
        damaged[place : place + 4] = int(rng.choice(HUGE)).to_bytes(4, "little", signed=True)
    return bytes(damaged)


KINDS = (flip, truncate, block, huge, field)


class Remembered(keras.Model):
    """A model that says at once what it said first."""

    def predict(self, x, **kwargs):
        if not hasattr(self, "said"):
            self.said = super().predict(x, **kwargs)
        return self.said


@pytest.fixture(scope="module")
def whole():
    """Name → bytes, model and data, of each kind of file."""
    rng = np.random.default_rng(0)
    images = rng.random((100, 8, 8, 1), "float32")
    sequences = rng.normal(size=(100, 6, 3)).astype("float32")

    def recurrent(layer):
        inputs = keras.Input((6, 3))
        return Remembered(inputs, keras.layers.Dense(2)(layer(inputs)))

    inputs = keras.Input((8, 8, 1), name="pixels")
    net = Remembered(inputs, cnn(keras)(inputs))
    lstm, gru = recurrent(keras.layers.LSTM(4)), recurrent(keras.layers.GRU(4))
    made = {
        "CNN int8": (net, images, "int8", {}),
        "CNN float32": (net, images, "float32", {}),
        "fused LSTM": (lstm, sequences, "int8", {"recurrent": "fused"}),
        "loop": (gru, sequences, "float32", {"recurrent": "loop"}),
        "step": (gru, sequences, "int8", {"recurrent": "step"}),
    }
    files = {
        name: to_tflite(model, format, x if format == "int8" else None, **options)
        for name, (model, x, format, options) in made.items()
    }
    return {name: (files[name].data, model, x[:9]) for name, (model, x, _, _) in made.items()}


@pytest.fixture(scope="module")
def structures(whole, tmp_path_factory):
    """The same of more kinds of files, whose structure is changed."""
    import tensorflow as tf

    class TwoSignatures(tf.Module):
        one = tf.TensorSpec((1, 3))

        @tf.function(input_signature=[one])
        def double(self, x):
            return {"y": x * 2.0}

        @tf.function(input_signature=[one, one])
        def add(self, a, b):
            return {"sum": a + b, "less": a - b}

        def answer(self, x):
            return {"sum": x["a"] + x["b"], "less": x["a"] - x["b"]}

    rng = np.random.default_rng(0)
    net, images = whole["CNN float32"][1:]
    x = rng.random((9, 6, 3), "float32")
    inputs = keras.Input((6, 3))
    lstm = Remembered(inputs, keras.layers.Dense(2)(keras.layers.LSTM(4)(inputs)))
    made = {
        "CNN dynamic": (to_tflite(net, "dynamic").data, net, images),
        "CNN float16": (to_tflite(net, "float16").data, net, images),
        "LSTM loop": (to_tflite(lstm, "float32", recurrent="loop").data, lstm, x),
    }
    inputs = keras.Input((16,))
    sparse = Remembered(inputs, keras.layers.Dense(32)(inputs))
    held = np.kron(rng.random((4, 8)) > 0.7, np.ones((4, 4)))
    sparse.set_weights([w * held if w.ndim > 1 else w for w in sparse.get_weights()])
    converter = tf.lite.TFLiteConverter.from_keras_model(sparse)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    made["sparse"] = (converter.convert(), sparse, rng.random((9, 16), "float32"))
    two = TwoSignatures()
    folder = tmp_path_factory.mktemp("two")
    tf.saved_model.save(two, folder, signatures={"double": two.double, "add": two.add})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["double", "add"]
    )
    pair = [rng.random((9, 3), "float32") for _ in "ab"]
    made["two signatures"] = (converter.convert(), two.answer, {"a": pair[0], "b": pair[1]})
    return {**whole, **made}


class Kept:
    """A worker that the next call takes up again: a process of its own for each takes seconds."""

    def __init__(self, worker):
        self.worker = worker

    def __enter__(self):
        return self.worker

    def __exit__(self, *exception):
        pass


@pytest.fixture
def limited(monkeypatch):
    """A worker with little memory and little time for what runs in it."""
    with sandbox.Worker(memory_bytes=CHILD_BYTES) as worker:
        monkeypatch.setattr(sandbox, "_shared", worker)
        monkeypatch.setattr(artifact, "_PREDICT_SECONDS", SECONDS)
        yield worker


def outcome(data, model, x):
    """Inspect and verify a file; say what came of it, and the error's message."""
    try:
        file = TFLiteModel(data)
    except InputError as error:
        return "refused when read", str(error)
    assert file.describe()
    assert json.dumps(file.to_json())
    try:
        return "passed" if verify(file, model, x).passed else "failed", ""
    except InputError as error:
        return "does not fit", str(error)
    except ConversionError as error:
        return "refused by the interpreter", str(error)
    except WorkerError as error:
        return "ended the child", str(error)


@pytest.mark.slow
def test_damaged_tflite_files(whole, limited):
    resource = pytest.importorskip("resource")
    rng, counts, longest = np.random.default_rng(0), collections.Counter(), 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(FILES):
        name = list(whole)[i % len(whole)]
        data, model, x = whole[name]
        kind = KINDS[i // len(whole) % len(KINDS)]
        damaged = kind(data, rng)
        start = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "VERIFICATION FAILED")
                what, message = outcome(damaged, model, x)
        except Exception:  # not one of tfkd's own
            print(f"file {i}: {name}, {kind.__name__}")
            raise
        assert bool(message) == (what not in ("passed", "failed")) and "\n" not in message
        counts[kind.__name__, what] += 1
        longest = max(longest, time.monotonic() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) << 10
    totals = collections.Counter()
    for (kind, what), count in sorted(counts.items()):
        print(f"{kind:10}{what:28}{count:5}")
        totals[what] += count
    print(f"{dict(totals)}; the longest took {longest:.1f} s; {grown >> 20} MB more here")
    assert sum(totals.values()) == FILES
    # How many end the child depends on the interpreter; here two in a thousand.
    assert set(totals) - {"ended the child"} == {
        "refused when read",
        "does not fit",
        "refused by the interpreter",
        "failed",
        "passed",
    }
    assert {kind for kind, _ in counts} == {kind.__name__ for kind in KINDS}
    assert longest < 4 * SECONDS + 10  # two runs, and what a loaded machine adds
    assert grown < OUR_BYTES


def numbers(file):
    """Return drawn data that a file's inputs say they take."""
    rng = np.random.default_rng(0)
    shapes = [(5, *info.shape[1:]) for info in data_inputs(file)]
    small = [shape if math.prod(shape) < 2**20 else (5, 1) for shape in shapes]
    return [rng.random(shape, "float32") for shape in small]


def calls(data, model, x, folder):
    """Return what is called on a file: name → function."""
    file = TFLiteModel(data)
    return {
        "describe": lambda: (str(file.describe()), json.dumps(file.to_json())),
        "select": lambda: [file.select(name).describe() for name in file.signatures],
        "operators": lambda: operators(file),
        "sparsity": lambda: sparsity(file).describe(),
        "predict": lambda: file.predict(numbers(file)),
        "verify": lambda: verify(file, model, x),
        "micro_bundle": lambda: micro_bundle(file, folder, "m").describe(),
        "profile": lambda: profile(file, runs=1, timeout=SECONDS).describe(),
    }


def kind_of(error):
    if isinstance(error, WorkerError):
        if error.timed_out:
            return "took too long"
        return "exception in the child" if error.signal is None else "ended the child"
    return type(error).__name__


def children():
    """Return the ids of this process's children (Linux)."""
    found = []
    for path in pathlib.Path("/proc/self/task").glob("*/children"):
        found += path.read_text().split()
    return set(found)


@pytest.mark.slow
def test_structural_mutants(structures, limited, monkeypatch, tmp_path):
    """Whatever a file's structure says, each call ends soon, by an answer or tfkd's own error."""
    first, _, last = MUTANTS.rpartition("-")
    monkeypatch.setattr(evaluation, "_TRIAL_SECONDS", SECONDS)
    counts, raw, slow, before = collections.Counter(), [], [], children()
    with sandbox.Worker(memory_bytes=CHILD_BYTES) as other:
        monkeypatch.setattr(sandbox, "Worker", lambda: Kept(other))
        for number in range(int(first or 0), int(last)):
            rng = np.random.default_rng((19, number))
            name = list(structures)[number % len(structures)]
            data, model, x = structures[name]
            data, what = mutant(data, rng)

            def attempt(call, function, about=(number, name, what)):
                start = time.monotonic()
                try:
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", "VERIFICATION FAILED")
                        result = function()
                    counts[call, "answered"] += 1
                    return result
                except TfkdError as error:
                    counts[call, kind_of(error)] += 1
                    if not str(error) or "\n" in str(error):
                        raw.append((*about, call, str(error)))
                    print(*about, call, kind_of(error), str(error)[:300], flush=True)
                except Exception:
                    counts[call, "RAW"] += 1
                    raw.append((*about, call, traceback.format_exc(limit=-3)))
                    print(*raw[-1], flush=True)
                finally:
                    if time.monotonic() - start > 4 * SECONDS + 10:
                        slow.append((*about, call, time.monotonic() - start))
                        print(*slow[-1], flush=True)
                return {}

            folder = tmp_path / str(number)
            opened = attempt("read", lambda d=data, m=model, x=x, f=folder: calls(d, m, x, f))
            for call, function in opened.items():
                attempt(call, function)
        running = {str(one._process.pid) for one in (limited, other) if one.alive}
        assert children() <= before | running
    for (call, what), count in sorted(counts.items()):
        print(f"{call:14}{what:28}{count:5}")
    assert not raw
    assert not slow


def test_truncated_keras_files(tmp_path, rng):
    """Each is an `InputError`, or was whole: an .h5 file may end in unused bytes."""
    counts = collections.Counter()
    for package, suffix in ((p, s) for p in (keras, tf_keras) for s in (".keras", ".h5")):
        for model in (cnn(package), dense(package)):
            path = tmp_path / f"whole{suffix}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of .h5 being a legacy format
                model.save(path)
            data, want = path.read_bytes(), model.get_weights()
            for _ in range(SAVED // 8):
                part = tmp_path / f"part{suffix}"
                part.write_bytes(truncate(data, rng))
                try:
                    got = load_model(part).get_weights()
                    for a, b in zip(want, got, strict=True):
                        np.testing.assert_array_equal(a, b)
                    counts[suffix, "loaded"] += 1
                except InputError as error:
                    message = str(error)
                    counts[suffix, "refused"] += "can't be read" in message
                    assert "\n" not in message
    print(dict(counts))
    assert sum(counts.values()) == SAVED
    assert counts[".keras", "refused"] == SAVED // 2
    assert counts[".h5", "refused"] > SAVED // 4
