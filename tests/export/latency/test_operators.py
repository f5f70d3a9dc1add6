"""Work is counted as `tfkd.model.cost` counts it; times are those of its operators."""

import ctypes
import dataclasses
import functools
import importlib.metadata
import json
import os
import random
import sys

import flatbuffers
import keras
import numpy as np
import pytest
import zoo
from ai_edge_litert import schema_py_generated as schema

from tfkd.errors import InputError, MissingDependencyError, TfkdError, UnsupportedError, WorkerError
from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.latency import litert_profiler
from tfkd.export.latency.litert_profiler import Step
from tfkd.export.latency.operators import Operator, macs, operators
from tfkd.export.latency.profiler import operators_of_kernels, profile
from tfkd.export.runtime import worker as sandbox
from tfkd.model import cost

RELEASE = importlib.metadata.version("ai-edge-litert")
profiled = pytest.mark.skipif(
    RELEASE not in litert_profiler.RELEASES, reason=f"no profiler in ai-edge-litert {RELEASE}"
)
OPS = schema.BuiltinOperator


@functools.cache
def model(name):
    return zoo.build(keras, name)


@functools.cache
def converted(name, format="float32", recurrent="auto", batch=1):
    data = zoo.inputs_for(model(name)) if format == "int8" else None
    return to_tflite(model(name), format, data, recurrent=recurrent, batch=batch)


def changed(file, change):
    """Return the file after `change(model)`."""
    parsed = schema.ModelT.InitFromPackedBuf(file.data, 0)
    change(parsed)
    return packed(parsed)


def made(kind, **values):
    """Return one of the schema's objects; older ones take no arguments."""
    thing = getattr(schema, f"{kind}T")()
    for name, value in values.items():
        assert hasattr(thing, name)
        setattr(thing, name, value)
    return thing


def packed(parsed):
    builder = flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return TFLiteModel(bytes(builder.Output()))


@pytest.mark.parametrize(
    ("name", "format", "recurrent"),
    [
        ("mlp", "dynamic", "auto"),
        ("cnn", "float32", "auto"),
        ("cnn", "int8", "auto"),
        ("conv1d", "float32", "auto"),
        ("ds_cnn", "int8", "auto"),
        ("autoencoder", "float32", "auto"),
        ("lstm", "float32", "fused"),
        ("lstm", "float32", "loop"),
        ("gru", "int8", "loop"),
    ],
)
def test_macs_are_those_of_the_keras_model(name, format, recurrent):
    assert macs(converted(name, format, recurrent)) == cost.measure(model(name)).macs


def test_macs_and_bytes_by_hand():
    file = converted("cnn")
    ops = operators(file)
    assert [(op.index, op.op, op.macs) for op in ops] == [
        (0, "CONV_2D", 10 * 10 * 16 * (3 * 3 * 2)),
        (1, "MAX_POOL_2D", 0),
        (2, "CONV_2D", 3 * 3 * 16 * (3 * 3 * 16)),
        (3, "RESHAPE", 0),
        (4, "FULLY_CONNECTED", 3 * 3 * 16 * 3),
        (5, "SOFTMAX", 0),
    ]
    assert "conv2d" in ops[0].name
    assert ops[0].weight_bytes == 4 * (3 * 3 * 2 * 16 + 16)
    assert ops[0].activation_bytes == 4 * (12 * 12 * 2 + 10 * 10 * 16)
    assert ops[1].weight_bytes == 0
    small = operators(converted("cnn", "int8"))[0]
    assert small.weight_bytes == 3 * 3 * 2 * 16 + 4 * 16  # biases have 32 bits
    assert small.activation_bytes == 12 * 12 * 2 + 10 * 10 * 16


def test_what_the_converter_leaves_out_is_not_counted():
    # An unrolled layer begins with a state of zeros, which nothing is multiplied with.
    gru = cost.measure(model("gru")).macs
    assert macs(converted("gru", "float32", "unrolled")) == gru - zoo.UNITS * 3 * zoo.UNITS
    # A step file does one of the steps.
    one = (zoo.FEATURES + zoo.UNITS) * 3 * zoo.UNITS + zoo.UNITS * 3
    assert macs(converted("gru", "float32", "step")) == one


def test_a_batch_counts_for_each_example_and_a_free_one_for_one():
    single = cost.measure(model("cnn")).macs
    assert macs(converted("cnn", batch=4)) == 4 * single
    assert macs(converted("cnn", batch=None)) == single


def test_free_sizes_are_not_known():
    def free(parsed, **signatures):
        for tensor in parsed.subgraphs[0].tensors:
            # A batch that is free, but where it says otherwise.
            shape = [-1, *tensor.shape[1:]]
            if tensor.buffer and parsed.buffers[tensor.buffer].data is None:
                tensor.shapeSignature = signatures.get(tensor.name.decode().split(":")[0], shape)

    def image(parsed):
        free(parsed)
        graph = parsed.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = [-1, -1, -1, 2]

    def merged(parsed):
        free(parsed)
        flat = parsed.subgraphs[0].operators[3].outputs[0]
        parsed.subgraphs[0].tensors[flat].shape = [1, 48]

    file = converted("cnn")
    assert macs(changed(file, free)) == macs(file)
    assert [op.macs for op in operators(changed(file, image))] == [None, 0, None, 0, None, 0]
    assert [op.macs for op in operators(changed(file, merged))] == [28800, 0, 20736, 0, None, 0]


def test_loops_are_counted_where_the_file_tells_their_turns():
    file = converted("lstm", "float32", "loop")
    (loop,) = [op for op in operators(file) if op.op == "WHILE"]
    assert loop.macs == zoo.STEPS * (zoo.FEATURES + zoo.UNITS) * 4 * zoo.UNITS
    assert loop.weight_bytes > 4 * (zoo.FEATURES + zoo.UNITS) * 4 * zoo.UNITS

    def sooner(parsed):  # `t < 4` in the condition
        graph = parsed.subgraphs[1]
        (end,) = {int(op.inputs[1]) for op in graph.operators[:2]}
        parsed.buffers[graph.tensors[end].buffer].data = np.array([4, 0, 0, 0], np.uint8)

    def otherwise(parsed):
        for code in parsed.operatorCodes:
            if code.builtinCode == OPS.LESS:
                code.builtinCode = code.deprecatedBuiltinCode = OPS.NOT_EQUAL

    def itself(parsed):
        for op in parsed.subgraphs[0].operators:
            if hasattr(op.builtinOptions, "bodySubgraphIndex"):
                op.builtinOptions.bodySubgraphIndex = 0

    assert operators(changed(file, sooner))[loop.index].macs == loop.macs * 4 // zoo.STEPS
    for change in (otherwise, itself):
        ops = operators(changed(file, change))
        assert [op.op for op in ops if op.macs is None] == ["WHILE"]
        assert macs(changed(file, change)) is None


LSTM = {0: (2, 5, 3)} | dict.fromkeys(range(1, 5), (4, 3)) | dict.fromkeys(range(5, 9), (4, 4))
LSTM_MACS = 2 * 5 * (4 * 3 * 4 + 4 * 4 * 4)


@pytest.mark.parametrize(
    ("code", "inputs", "output", "options", "expected"),
    [
        ("BATCH_MATMUL", {0: (2, 3, 4), 1: (2, 4, 5)}, (2, 3, 5), None, 2 * 3 * 4 * 5),
        (
            "BATCH_MATMUL",
            {0: (2, 4, 3), 1: (2, 4, 5)},
            (2, 3, 5),
            made("BatchMatMulOptions", adjX=True),
            2 * 3 * 4 * 5,
        ),
        ("CONV_2D", {0: (1, 6, 6, 4), 1: (8, 3, 3, 2)}, (1, 4, 4, 8), None, 16 * 8 * 9 * 2),
        ("CONV_3D", {0: (1, 4, 4, 4, 2), 1: (3, 3, 3, 2, 5)}, (1, 2, 2, 2, 5), None, 8 * 5 * 54),
        ("SVDF", {0: (2, 7), 1: (6, 7), 2: (6, 9)}, (2, 3), None, 2 * (6 * 7 + 6 * 9)),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", LSTM, (2, 5, 4), None, LSTM_MACS),
        # Input and forget gate are one, and the result is projected.
        (
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            {i: shape for i, shape in LSTM.items() if i not in (1, 5)} | {16: (2, 4)},
            (2, 5, 2),
            None,
            LSTM_MACS * 3 // 4 + 2 * 5 * 2 * 4,
        ),
        (
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            LSTM | {i + 17: shape for i, shape in LSTM.items() if i},
            (2, 5, 4),
            None,
            2 * LSTM_MACS,
        ),
        (
            "LSTM",
            {0: (2, 3), 1: (2, 4), 2: (16, 7), 3: (16,), 4: (2, 4)},
            (2, 4),
            made("LSTMOptions", kernelType=1),
            2 * 16 * 7,
        ),
        ("RNN", {0: (2, 3), 1: (4, 3), 2: (4, 4), 3: (4,)}, (2, 4), None, 2 * (12 + 16)),
        ("ADD", {0: (2, 3), 1: (2, 3)}, (2, 3), None, 0),
        ("CUSTOM", {0: (2, 3)}, (2, 3), None, None),
    ],
)
def test_macs_of_one_operator(code, inputs, output, options, expected):
    shapes = [*inputs.values(), output]
    places = list(inputs)
    indices = [places.index(i) if i in inputs else -1 for i in range(max(inputs) + 1)]
    result = len(inputs)
    number = getattr(OPS, code)
    name = type(options).__name__.removesuffix("T") if options is not None else "NONE"
    graph = made(
        "SubGraph",
        tensors=[made("Tensor", shape=list(shape), name=b"t") for shape in shapes],
        inputs=[0],
        outputs=[result],
        operators=[
            made(
                "Operator",
                inputs=indices,
                outputs=[result],
                builtinOptions=options,
                builtinOptionsType=getattr(schema.BuiltinOptions, name),
            )
        ],
    )
    kind = made(
        "OperatorCode",
        builtinCode=number,
        deprecatedBuiltinCode=min(127, number),
        customCode=b"Mine" if code == "CUSTOM" else None,
    )
    parsed = made(
        "Model", version=3, operatorCodes=[kind], buffers=[made("Buffer")], subgraphs=[graph]
    )
    (op,) = operators(packed(parsed))
    assert (op.op, op.macs) == ("Mine" if code == "CUSTOM" else code, expected)


@pytest.fixture(scope="module")
def lopsided():
    """A network with one layer that is far larger than the others."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return to_tflite(
        keras.Sequential(
            [
                keras.Input((24, 24, 4)),
                layers.Conv2D(32, 1, activation="relu"),
                layers.Conv2D(48, 5, name="huge"),
                layers.DepthwiseConv2D(3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3),
            ]
        )
    )


@profiled
@pytest.mark.parametrize("engine", litert_profiler.ENGINES)
def test_the_largest_layer_takes_the_most_time(lopsided, engine):
    found = profile(lopsided, engine=engine, runs=40)
    assert (found.engine, found.threads, found.runs, found.release) == (engine, 1, 40, RELEASE)
    largest = max(found.rows, key=lambda row: row.us)
    assert "huge" in largest.name and largest.operator.op == "CONV_2D"
    assert largest.share > 0.6 and largest.macs == 20 * 20 * 48 * 5 * 5 * 32
    assert largest.macs_per_second == pytest.approx(largest.macs / largest.us * 1e6)
    # All of the work is in the rows, and nearly all of the time.
    assert sum(row.macs for row in found.rows) == macs(lopsided)
    kernels = [row.operator.op for row in found.rows if row.macs]
    assert kernels == ["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert sum(row.us for row in found.rows) == pytest.approx(found.total_us, rel=0.6)
    assert found.rest_us == pytest.approx(found.total_us - sum(row.us for row in found.rows))
    if engine == "builtin":
        assert [row.op for row in found.rows] == [op.op for op in operators(lopsided)]


@profiled
def test_the_table_and_its_figures(files, digits):
    found = profile(files["int8"], digits.test.x, engine="builtin", threads=2, runs=20)
    figures = json.loads(json.dumps(found.to_json()))
    assert figures["threads"] == 2 and figures["rest_us"] == found.rest_us
    assert [row["file_op"] for row in figures["rows"]] == [op.op for op in operators(files["int8"])]
    lines = found.describe().splitlines()
    assert len(lines) == len(found.rows) + 3 and max(map(len, lines)) <= 100
    assert "builtin, 2 threads, 20 runs" in lines[0]


@profiled
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_threads_are_used_and_a_free_batch_is_one_example():
    file = converted("cnn", batch=None)
    indices = [int(i) for i in schema.ModelT.InitFromPackedBuf(file.data, 0).subgraphs[0].inputs]
    counts = []
    with sandbox.Worker() as worker:
        for threads in (1, 3):
            arguments = (file.data, file.inputs, indices, 0, None, "xnnpack", threads, 2)
            trace = worker.call(litert_profiler.run, *arguments)
            assert (trace.runs, len(trace.steps)) == (
                2,
                len(operators(file)) + 1,
            )  # XNNPACK reshapes twice
            counts.append(len(worker.call(os.listdir, "/proc/self/task")))
    assert counts[1] >= counts[0] + 2


@profiled
def test_the_table_of_many_rows_is_cut():
    found = profile(converted("gru", "float32", "unrolled"), engine="builtin", runs=5)
    lines = found.describe().splitlines()
    assert len(lines) == 25 + 4 and max(map(len, lines)) <= 100
    assert f"{len(found.rows) - 25} others" in lines[-2]
    xnnpack = profile(converted("mlp", "dynamic"), runs=20)
    short = tuple(dataclasses.replace(row, us=0.0) for row in xnnpack.rows)  # below a microsecond
    assert "engine='builtin'" in dataclasses.replace(xnnpack, rows=short).describe()


@profiled
@pytest.mark.parametrize("format", ["float32", "int8"])
def test_a_file_that_keeps_state(format):
    found = profile(converted("lstm", format, "fused"), runs=20)
    row = max(found.rows, key=lambda row: row.us)
    assert row.op == "UNIDIRECTIONAL_SEQUENCE_LSTM"
    assert row.macs == zoo.STEPS * (zoo.FEATURES + zoo.UNITS) * 4 * zoo.UNITS
    assert sum(row.macs for row in found.rows) == cost.measure(model("lstm")).macs


@profiled
def test_rows_inside_a_loop_have_all_its_turns():
    file = converted("gru", "int8", "loop")
    found = profile(file, engine="builtin", runs=20)
    calls = {row.op: row.calls for row in found.rows}
    assert calls["GATHER"] == zoo.STEPS and calls["LESS"] == zoo.STEPS + 1
    assert "WHILE" not in calls
    assert sum(row.macs for row in found.rows) == macs(file)


def step(tag, index=None):
    return Step(graph=0, tag=tag, index=index, calls=1, us=1.0)


def file_ops(*kinds):
    zero = ("MUL", "RESHAPE")
    return [Operator(i, op, "", 0 if op in zero else 9, 0, 0) for i, op in enumerate(kinds)]


def test_what_xnnpack_runs_is_told_only_where_it_is_certain():
    ops = file_ops("CONV_2D", "MUL", "BATCH_MATMUL", "FULLY_CONNECTED")
    conv, dense = step("Convolution (NHWC, F32) IGEMM"), step("Fully Connected (NC, F32) GEMM")
    product, other = step("BATCH_MATMUL", 2), step("Multiply (ND)")

    def told(*steps, ops=ops):
        kernels, own = operators_of_kernels(dict(enumerate(steps)), ops)
        return kernels and list(kernels), {i: op.index for i, op in own.items()}

    assert told(conv, other, product, dense) == ([0, 3], {0: 0, 3: 3})
    # A kernel more or less than the file has; one that can't do it; parts in another order.
    assert told(conv, other, product) == (None, {})
    assert told(conv, conv, other, product, dense) == (None, {})
    assert told(dense, other, product, conv) == ([0, 3], {})
    assert told(conv, dense, product) == ([0, 1], {})
    # A dense layer can be either kind of kernel's neighbour, but a convolution is none of it.
    assert told(dense, product, dense) == ([0, 2], {0: 0, 2: 3})


@profiled
def test_bad_input(files, digits):
    file = files["float32"]
    with pytest.raises(InputError, match="no reference kernels; use engine='builtin'"):
        profile(file, engine="reference")
    with pytest.raises(InputError, match="engine must be one of"):
        profile(file, engine="gpu")
    for name in ("threads", "runs"):
        with pytest.raises(InputError, match=f"{name} must be an integer of at least 1, got 0"):
            profile(file, **{name: 0})
    with pytest.raises(InputError, match="takes arrays of shape"):
        profile(file, digits.test.x[:, :4])
    for function in (operators, macs, profile):
        with pytest.raises(InputError, match="must be a TFLiteModel, got bytes"):
            function(file.data)
    with pytest.raises(WorkerError, match="Profiling this file failed.*within 0.01 s"):
        profile(file, timeout=0.01)


@profiled
def test_files_that_can_not_be_profiled_are_named():
    def custom(parsed):
        for code in parsed.operatorCodes:
            code.builtinCode = code.deprecatedBuiltinCode = OPS.CUSTOM
            code.customCode = b"Unknown"

    def free(parsed):
        parsed.subgraphs[0].tensors[parsed.subgraphs[0].inputs[0]].shapeSignature = [-1, -1, 12, 2]

    def elsewhere(parsed):
        (signature,) = parsed.signatureDefs
        signature.subgraphIndex, signature.inputs, signature.outputs = 1, [], []

    with pytest.raises(TfkdError, match=r"refuses this file.*Unknown"):
        profile(changed(converted("cnn"), custom), runs=2)
    with pytest.raises(UnsupportedError, match="has a free size"):
        profile(changed(converted("cnn"), free), runs=2)
    with pytest.raises(UnsupportedError, match="No signature"):
        profile(changed(converted("gru", "int8", "loop"), elsewhere), runs=2)


@profiled
def test_damaged_files_end_as_errors():
    rng = random.Random(4)
    data = converted("cnn", "int8").data
    outcomes = []
    while len(outcomes) < 5:
        damaged = bytearray(data)
        for _ in range(8):
            damaged[-rng.randrange(1, 3000)] = rng.randrange(256)
        try:
            file = TFLiteModel(bytes(damaged))
        except InputError:
            continue
        try:
            outcomes.append(profile(file, runs=2, timeout=20).describe())
        except TfkdError as error:
            outcomes.append(str(error))
    assert all(outcomes)


def test_other_releases_are_refused(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(litert_profiler, "RELEASES", ("9.9.9",))
        with pytest.raises(MissingDependencyError, match=f"{RELEASE} reports no time.*9.9.9 do"):
            litert_profiler._Library()
    monkeypatch.setattr(litert_profiler, "RELEASES", (RELEASE,))
    monkeypatch.setitem(litert_profiler._FUNCTIONS, "NoSuchFunction", ())
    with pytest.raises(MissingDependencyError, match="reports no time"):
        litert_profiler._Library()


@pytest.mark.skipif(RELEASE in litert_profiler.RELEASES, reason="this release has a profiler")
def test_this_release_is_refused(files):
    with pytest.raises(MissingDependencyError, match=f"{RELEASE} reports no time per operator"):
        profile(files["float32"])


def test_what_can_not_be_is_no_profile():
    names = {text: ctypes.create_string_buffer(text) for text in (b"Invoke", b"ADD", b"\x01", b"")}

    def events(*rows):
        made = np.zeros(len(rows), litert_profiler._EVENT)
        for one, (tag, kind, us, index) in zip(made, rows, strict=True):
            one["tag"] = ctypes.addressof(names[tag]) if tag is not None else 0
            one["kind"], one["us"], one["index"] = kind, us, index
        return made

    good = events((b"Invoke", 1, 30, 0), (b"ADD", 2, 4, 0), (b"ADD", 2, 7, 1))
    layout = litert_profiler._Layout(good)
    assert layout.contents == [(0, "ADD", 0), (0, "ADD", 1)]
    assert layout.times(good, 40.0).tolist() == [4, 7]
    with pytest.raises(
        WorkerError, match="operators of 11 µs in a call of 5 µs, which is impossible"
    ):
        layout.times(good, 5.0)
    with pytest.raises(WorkerError, match="other operators than in the first run"):
        layout.times(events((b"Invoke", 1, 30, 0), (b"ADD", 2, 4, 0), (b"ADD", 2, 7, 2)), 40.0)
    # Twice the same graph, and another operator in it.
    with pytest.raises(WorkerError, match="instead of"):
        litert_profiler._Layout(
            events((b"Invoke", 1, 9, 0), (b"ADD", 2, 4, 0), (b"Invoke", 1, 9, 0), (b"ADD", 2, 4, 1))
        )
    for tag in (b"\x01", b"", None):
        with pytest.raises(WorkerError, match="an event called"):
            litert_profiler._Layout(events((tag, 2, 4, 0)))
