"""The verdict on a file for a microcontroller agrees with its runtime, run alone."""

import json
import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import zoo
from two_ends import INPUTS, OUTPUTS, drawn, forms, two_ended

from tfkd.errors import ConversionError, InputError, MissingDependencyError, WorkerError
from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.micro import evaluation
from tfkd.export.runtime import worker as sandbox
from tfkd.export.tflite import schema

pytestmark = pytest.mark.skipif(not evaluation.is_installed(), reason="needs tflite-micro")

STEPS = 12
# Uses nothing of ours: the runtime as its own documentation says, in a process of its own.
ALONE = """
import os, pickle, sys
pipe = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # some builds print to stdout, too
from tflite_micro.python.tflite_micro import runtime
data, arena, tensors, outputs = pickle.load(sys.stdin.buffer)
interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena)
for i, tensor in enumerate(tensors):
    interpreter.set_input(tensor, i)
interpreter.invoke()
answers = [interpreter.get_output(i) for i in range(outputs)]
interpreter.print_allocations()
pickle.dump(answers, pipe)
"""


def alone(file, arena, tensors):
    """Run a file once; return its answers, or `None` if it did not run, and the process."""
    given = pickle.dumps((file.data, arena, list(tensors), len(file.outputs)))
    done = subprocess.run([sys.executable, "-c", ALONE], input=given, capture_output=True)
    return (pickle.loads(done.stdout) if done.returncode == 0 else None), done


@pytest.fixture(scope="module")
def series():
    return np.random.default_rng(0).normal(size=(40, STEPS, 5)).astype("float32")


@pytest.fixture(scope="module")
def cases(files, digits, series):
    """Files of each kind, with data and class numbers."""
    y = np.arange(len(series)) % 3
    lstm = zoo.over_series(keras, lambda la, x: la.Dense(3)(la.LSTM(6)(x)))
    gru = zoo.over_series(keras, lambda la, x: la.Dense(3)(la.GRU(6)(x)))
    return {
        "int8": (files["int8"], digits.test.x, digits.test.y),
        "float32": (files["float32"], digits.test.x, digits.test.y),
        "fused": (to_tflite(lstm, "int8", series, recurrent="fused"), series, y),
        "step": (to_tflite(gru, "int8", series, recurrent="step"), series, y),
    }


NAMES = ("int8", "float32", "fused", "step")


@pytest.fixture(scope="module")
def proofs(cases):
    return {name: evaluation.evaluate_on_tflm(*case, samples=30) for name, case in cases.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_arena_is_enough_and_one_step_less_is_not(name, cases, proofs):
    file, proof = cases[name][0], proofs[name]
    assert proof.arena_bytes % 16 == 0
    got, done = alone(file, proof.arena_bytes, proof.golden_inputs)
    assert got is not None
    for answer, golden in zip(got, proof.golden_outputs, strict=True):
        assert answer.dtype == golden.dtype
        np.testing.assert_array_equal(answer, golden)
    printed = dict(re.findall(r"allocation (head|tail) (\d+) bytes", done.stderr.decode()))
    assert {"head": str(proof.head_bytes), "tail": str(proof.tail_bytes)} == printed
    assert proof.head_bytes >= file.activation_bytes
    assert proof.head_bytes + proof.tail_bytes <= proof.arena_bytes
    for less in (16, 1024):
        assert alone(file, proof.arena_bytes - less, proof.golden_inputs)[0] is None


def test_least_arena_is_the_same(cases, proofs):
    assert evaluation.least_arena(cases["int8"][0]) == proofs["int8"].arena_bytes


def test_head_and_tail_can_be_less_than_what_is_needed(proofs):
    proof = proofs["step"]
    assert proof.head_bytes + proof.tail_bytes < proof.arena_bytes - 256


def test_the_golden_tensors_are_of_the_first_example(cases, proofs):
    for name in ("int8", "float32", "fused"):
        file, x, _ = cases[name]
        (tensor,) = proofs[name].golden_inputs
        np.testing.assert_array_equal(tensor, file.inputs[0].quantize(x[:1]))
        want = file.predict(x[:1], engine="tflm")
        (answer,) = proofs[name].golden_outputs
        np.testing.assert_array_equal(file.outputs[0].dequantize(answer), want)


def test_those_of_a_step_file_are_one_step_from_a_state_of_zero(cases, proofs):
    file, x, _ = cases["step"]
    given = dict(zip([i.name for i in file.inputs], proofs["step"].golden_inputs, strict=True))
    made = dict(zip([i.name for i in file.outputs], proofs["step"].golden_outputs, strict=True))
    info = {i.name: i for i in (*file.inputs, *file.outputs)}
    ((state_in, state_out),) = file.states
    assert given[state_in].shape == (1, 6) and (given[state_in] == info[state_in].zero_point).all()
    step = info["step_series"].quantize(x[:1, :1])
    np.testing.assert_array_equal(given["step_series"], step)
    assert made[state_out].shape == (1, 6) and len(np.unique(made[state_out])) > 1
    (answer,) = made.keys() - {state_out}
    want = file.predict(x[:1, :1], engine="tflm")
    np.testing.assert_array_equal(info[answer].dequantize(made[answer]), want)


@pytest.mark.parametrize("name", NAMES)
def test_parity_and_scores_are_those_of_predict(name, cases, proofs):
    file, x, y = cases[name]
    proof = proofs[name]
    rows = np.linspace(0, len(x) - 1, 30).round().astype(int)
    got, want = (file.predict(x[rows], engine=engine) for engine in ("tflm", "reference"))
    difference = np.abs(got.astype(float) - want).max()
    assert proof.samples == 30
    assert proof.max_abs_diff == pytest.approx(difference)
    scale = file.outputs[0].scale
    assert proof.max_lsb == (None if scale is None else round(difference / scale))
    assert proof.argmax_agreement == np.mean(got.argmax(-1) == want.argmax(-1))
    assert proof.metrics["accuracy"] == np.mean(got.argmax(-1) == y[rows])


def test_the_digits_are_still_read(proofs):
    assert proofs["int8"].metrics["accuracy"] > 0.8 and proofs["int8"].argmax_agreement > 0.95


@pytest.fixture
def answered(monkeypatch):
    """Let the two engines answer what a test says."""

    def answer(tflm, reference):
        results = {"tflm": tflm, "reference": reference}

        def run(self, arrays, engine, threads):
            answer.arrays = arrays
            return results[engine]

        monkeypatch.setattr(TFLiteModel, "_run", run)

    return answer


def test_parity_by_hand(cases, answered):
    file, x, _ = cases["int8"]
    tflm, reference = np.zeros((2, 4, 10), np.int8)
    tflm[0, 3], reference[0, 3] = 9, 5  # the same class, four steps apart
    tflm[1, 7], reference[1, 2] = 127, 1  # another class, 127 steps apart
    tflm[2, 0], reference[2, 0] = -128, 127  # 255 steps: more than int8 can count
    tflm[3, 4] = reference[3, 4] = 3
    answered([tflm], [reference])
    figures = evaluation.compared_with_reference(file, x[:4], np.array([3, 2, 1, 4]), 4)
    assert figures["samples"] == 4 and figures["max_lsb"] == 255
    assert figures["max_abs_diff"] == pytest.approx(255 * file.outputs[0].scale)
    assert figures["argmax_agreement"] == 0.5  # of the third, 0 and the first of the others
    assert figures["metrics"]["accuracy"] == 0.75  # the second is wrong


def test_examples_are_taken_from_everywhere(cases, answered):
    file, x, _ = cases["int8"]
    answered([np.zeros((5, 10), np.int8)], [np.zeros((5, 10), np.int8)])
    figures = evaluation.compared_with_reference(file, x[:101], None, 5)
    want = file.inputs[0].quantize(x[[0, 25, 50, 75, 100]])
    np.testing.assert_array_equal(answered.arrays[0], want)
    assert figures["samples"] == 5 and figures["argmax_agreement"] == 1.0
    assert figures["max_lsb"] == 0 and figures["metrics"] == {}


def test_a_sigmoid_is_a_probability_and_a_reconstruction_has_no_class(rng):
    x = rng.normal(size=(60, 8)).astype("float32")
    y = (x[:, 0] > 0).astype(int)
    la, i = keras.layers, keras.Input((8,))
    keras.utils.set_random_seed(0)
    model = keras.Model(i, [la.Dense(1, "sigmoid", name="p")(i), la.Dense(8, name="copy")(i)])
    file = to_tflite(model, "int8", x)
    sizes = {info.shape[-1]: info.name for info in file.outputs}
    got = file.predict(x, engine="tflm")
    p = next(values for values in got if values.shape[-1] == 1)
    reference = file.predict(x, engine="reference")
    q = next(values for values in reference if values.shape[-1] == 1)
    proof = evaluation.evaluate_on_tflm(file, x, {sizes[1]: y})
    assert proof.metrics[f"{sizes[1]}.accuracy"] == np.mean((p[:, 0] > 0.5) == y)
    assert proof.argmax_agreement == np.mean((p > 0.5) == (q > 0.5))
    other = -x  # of another class everywhere, if these were classes
    assert evaluation.class_agreement(x, other, None, x, False) is None
    assert evaluation.class_agreement(x, other, None, None, False) == 0.0
    labels = [y if info.name == sizes[1] else None for info in file.outputs]
    assert evaluation.evaluate_on_tflm(file, x, labels).metrics == proof.metrics
    with pytest.raises(InputError, match="has 2 outputs .*give a list of 2 .* or a dict"):
        evaluation.evaluate_on_tflm(file, x, y)
    with pytest.raises(InputError, match="y has the unknown names 'other'"):
        evaluation.evaluate_on_tflm(file, x, {"other": y})


def test_equal_inputs_and_outputs_are_not_crossed(rng):
    model, x = two_ended(keras), drawn(rng)
    file = to_tflite(model, "int8", x)
    answers = file.predict(x, engine="tflm")
    y = [answers[0].argmax(-1), rng.integers(0, 3, 24)]
    due = {
        f"{name}.accuracy": np.mean(values.argmax(-1) == labels)
        for name, values, labels in zip(OUTPUTS, answers, y, strict=True)
    }
    assert due["second.accuracy"] == 1.0 > due["first.accuracy"]
    inputs, labels = forms(x, INPUTS), forms(y, OUTPUTS)
    for form in inputs:
        metrics = evaluation.compared_with_reference(file, inputs[form], labels[form], 24)[
            "metrics"
        ]
        assert {name: metrics[name] for name in due} == due, form
    only = evaluation.compared_with_reference(file, x, {"first": y[1]}, 24)["metrics"]
    assert only["first.accuracy"] == due["first.accuracy"]
    assert not any(name.startswith("second") for name in only)


def test_lists_of_numbers_are_arrays_of_the_one_input(cases):
    file, x, y = cases["int8"]
    due = evaluation.compared_with_reference(file, x[:5], y[:5], 5)
    for given, labels in ((x[:5].tolist(), y[:5].tolist()), (list(x[:5]), {"logits": y[:5]})):
        assert evaluation.compared_with_reference(file, given, labels, 5) == due
    np.testing.assert_array_equal(evaluation._only(file, x[:5].tolist()), x[:5])


def test_without_data_there_is_an_arena_and_a_golden_call(cases, proofs):
    for name in ("int8", "step"):
        file = cases[name][0]
        proof, again = evaluation.evaluate_on_tflm(file), evaluation.evaluate_on_tflm(file)
        assert proof.arena_bytes == proofs[name].arena_bytes
        assert (proof.samples, proof.metrics) == (0, {})
        assert proof.max_lsb is proof.max_abs_diff is proof.argmax_agreement is None
        assert len(np.unique(proof.golden_inputs[0])) > 1
        for one, other in zip(proof.golden_inputs, again.golden_inputs, strict=True):
            np.testing.assert_array_equal(one, other)
        got, _ = alone(file, 1 << 20, proof.golden_inputs)
        for answer, golden in zip(got, proof.golden_outputs, strict=True):
            np.testing.assert_array_equal(answer, golden)
        for info, tensor in zip(file.inputs, proof.golden_inputs, strict=True):
            if info.name.startswith("state_in_"):
                assert (tensor == info.zero_point).all()


def test_what_is_told(proofs):
    proof = proofs["int8"]
    assert proof.recommended_bytes == proof.arena_bytes + proof.margin_bytes
    told = json.loads(json.dumps(proof.to_json()))
    assert told["arena_bytes"] == proof.arena_bytes and "golden_inputs" not in told
    assert "64-bit host build of tflite-micro 0." in proof.basis
    text = proof.describe()
    assert f"{proof.arena_bytes:,} bytes" in text and f"{proof.recommended_bytes:,} rec" in text
    assert "30 examples" in text and "accuracy: " in text


def test_the_margin_by_hand(cases):
    # The larger convolution: 3×3×8 = 72 bytes, up to 80, four times; sums of ten units.
    assert evaluation.margin_for(cases["int8"][0]) == 1024 + 4 * 80 + 48  # 40, up to 48
    assert evaluation.margin_for(cases["float32"][0]) == 1024


def test_the_margin_by_the_kernels_own_conditions(rng):
    la, one, some, many = keras.layers, (9, 8, 1), (9, 8, 8), (9, 8, 300)
    branches = [
        # As many channels out as in: an image of the field, in 16 bits or for 124 channels.
        (many, la.DepthwiseConv2D((3, 5)), 15 * 2 * 300),
        (some, la.DepthwiseConv2D((3, 5)), 15 * 4 * 124),
        # Others need none, but for one channel, which Helium convolves.
        (some, la.DepthwiseConv2D(3, depth_multiplier=2), 0),
        (one, la.DepthwiseConv2D((5, 4), depth_multiplier=6), 4 * 32 + 20 * 6),
        (some, la.Conv2D(6, 1), 4 * 8),
        (some, la.Conv2D(6, 1, strides=2), 0),
        (some, la.Conv2D(6, 3), 4 * 80),
        (some, la.AveragePooling2D(3), 4 * 8),
        (many, la.Conv2DTranspose(4, 3, strides=2), 4 * 2704 + 9 * 300 * 4),
        (some, la.Conv2DTranspose(4, 3, strides=2), 4 * 4 * 3 * (7 * 2 + 3)),
        (some, la.Dense(10), 4 * 8 + 8 * 10),
    ]
    inputs = {shape: keras.Input(shape) for shape in (one, some, many)}
    outputs = [layer(inputs[shape]) for shape, layer, _ in branches]
    x = [rng.normal(size=(100, *shape)).astype("float32") for shape in inputs]
    file = to_tflite(keras.Model(list(inputs.values()), outputs), "int8", x)
    model = schema.parse(file.data)
    graph, names = model.subgraphs[0], schema.op_names(model)
    makers = {int(op.outputs[0]): op for op in graph.operators}
    for tensor, (shape, layer, wanted) in zip(graph.outputs, branches, strict=True):
        op = makers[int(tensor)]
        scratch, kept = evaluation._CMSIS_NN[names[op.opcodeIndex]](
            evaluation._Operation(graph, op)
        )
        assert (scratch, kept) == (wanted, 0), (shape, layer.name)
    assert evaluation.margin_for(file) == 1024 + 4 * 2704 + 9 * 300 * 4


@pytest.mark.parametrize("start", [16, 1488, 2000, 2016, 5008])
def test_the_search_finds_the_border_from_anywhere(start):
    tried = []

    def fits(size):
        tried.append(size)
        assert size % 16 == 0
        return size >= 2000

    assert evaluation.least_size(fits, start, 1 << 20) == 2000
    assert {1984, 2000} <= set(tried) and len(tried) < 40


def test_the_search_is_not_taken_in_by_luck():
    """A size that happens to run below sizes that do not is no arena."""
    assert evaluation.least_size(lambda size: size >= 2400 or size == 1504, 1504, 1 << 20) == 2400
    assert (
        evaluation.least_size(lambda size: size >= 2400 or 1504 <= size < 1600, 1504, 1 << 20)
        == 2400
    )
    assert evaluation.least_size(lambda size: False, 1504, 4096) == 4096  # known to fit


def test_a_file_that_dies_in_small_arenas_is_searched_through(cases, proofs, monkeypatch):
    file, proof = cases["fused"][0], proofs["fused"]
    sizes = [proof.arena_bytes - less for less in range(512, 2048, 256)]
    runs = ((size, alone(file, size, proof.golden_inputs)[1]) for size in sizes)
    deadly = next((size for size, done in runs if done.returncode == -11), None)
    assert deadly, "this version of the runtime no longer dies: the test says nothing"
    with sandbox.Worker() as worker, pytest.raises(WorkerError, match="SIGSEGV"):
        worker.call(evaluation._answer, file.data, deadly, list(proof.golden_inputs), 1)
    search = evaluation.least_size
    monkeypatch.setattr(
        evaluation, "least_size", lambda fits, _, enough: search(fits, deadly, enough)
    )
    assert evaluation.least_arena(file) == proof.arena_bytes


class Fake:
    """A worker whose process is damaged by each refusal and dies of the call after it."""

    border, timed_out = 2000, False

    def __enter__(self):
        self.damaged = False
        return self

    def __exit__(self, *exception):
        pass

    def call(self, function, data, size, *args, timeout):
        if self.timed_out and size < self.border:
            raise WorkerError("too slow", timed_out=True)
        if self.damaged:
            self.damaged = False
            raise WorkerError("died", signal=11)
        if size < self.border:
            self.damaged = True
            raise ConversionError("too small")
        return [np.zeros((1, 10), np.int8)], 256, 256


def test_a_death_after_a_refusal_is_tried_again(cases, monkeypatch):
    monkeypatch.setattr(evaluation.sandbox, "Worker", Fake)
    assert evaluation.least_arena(cases["int8"][0]) == 2000
    monkeypatch.setattr(Fake, "timed_out", True)
    with pytest.raises(WorkerError, match="too slow"):
        evaluation.least_arena(cases["int8"][0])


def test_float16_is_refused_in_the_runtimes_words(files):
    with pytest.raises(ConversionError) as caught:
        evaluation.evaluate_on_tflm(files["float16"])
    text = str(caught.value)
    assert text.startswith("TensorFlow Lite for Microcontrollers refuses this file: ")
    assert "DEQUANTIZE" in text and "convert to 'int8', 'int16x8' or 'float32'" in text
    with pytest.raises(ConversionError, match="Hybrid.*convert to 'int8'"):
        evaluation.least_arena(files["dynamic"])


def test_what_does_not_fit_is_told(cases):
    file, x, y = cases["int8"]
    with pytest.raises(InputError, match="without their data"):
        evaluation.evaluate_on_tflm(file, y=y)
    with pytest.raises(InputError, match="at least 1, got 0"):
        evaluation.evaluate_on_tflm(file, x, samples=0)
    with pytest.raises(InputError, match="5 examples but 4 labels"):
        evaluation.evaluate_on_tflm(file, x[:5], y[:4])
    with pytest.raises(InputError, match=r"arrays of shape .*8, 8, 1"):
        evaluation.evaluate_on_tflm(file, x[:, :4])


def test_without_the_runtime(cases, tmp_path, monkeypatch):
    (tmp_path / "tflite_micro.py").write_text("raise ImportError('taken away')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingDependencyError, match=r"taken away.*pip install --upgrade 'tfkd\[micro\]'"
    ):
        evaluation.evaluate_on_tflm(cases["int8"][0])


def test_a_runtime_of_another_interface_is_one_error(cases, tmp_path, monkeypatch):
    folder = tmp_path / "tflite_micro" / "python" / "tflite_micro"
    folder.mkdir(parents=True)
    (folder / "runtime.py").write_text("class Other: pass\n")
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match="no attribute 'Interpreter'.*that tfkd is"):
        evaluation.evaluate_on_tflm(cases["int8"][0])
