"""The table of operators equals the runtime's; operators it lacks are refused with a way out."""

import copy
import importlib.metadata
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from ai_edge_litert import schema_py_generated as schema

from tfkd.errors import UnsupportedError
from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite import tflm_kernels, writer

HEADER = (
    pathlib.Path(__file__).parents[2]
    / "data/tflm_stub/tensorflow/lite/micro/micro_mutable_op_resolver.h"
)
layers, ops = keras.layers, keras.ops


def altered(file, change):
    """Return a file whose flatbuffer was changed by `change(model)`."""
    import flatbuffers

    model = flatbuffer.parse(file.data)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return TFLiteModel(bytes(builder.Output()))


def with_operator(file, name, custom=None):
    """Return the file with its FULLY_CONNECTED called something else."""

    def change(model):
        names = flatbuffer.op_names(model)
        code = model.operatorCodes[names.index("FULLY_CONNECTED")]
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = custom

    return altered(file, change)


def with_type(file, name, tensors=("inputs", "outputs")):
    """Return the file with inputs and outputs of another type."""

    def change(model):
        graph = model.subgraphs[0]
        for i in [i for which in tensors for i in getattr(graph, which)]:
            graph.tensors[i].type = getattr(schema.TensorType, name)

    return altered(file, change)


@pytest.fixture(scope="module")
def dense():
    """A float file of one dense layer, and what it is made of."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="scores")])
    return to_tflite(model)


def refusal(file, *args):
    with pytest.raises(UnsupportedError) as caught:
        tflm_kernels.check(file, *args)
    return str(caught.value)


def test_the_methods_are_those_of_the_header():
    methods = set(re.findall(r"OP\((Add\w+)\)", HEADER.read_text()))
    assert len(methods) > 100
    table = tflm_kernels.METHODS | tflm_kernels.CUSTOM_METHODS
    assert set(table.values()) == methods
    assert len(set(table.values())) == len(table)


def test_each_method_is_that_of_its_operator():
    for name, method in tflm_kernels.METHODS.items():
        assert method.lower() == "add" + name.replace("_", "").lower()
    for name, method in tflm_kernels.CUSTOM_METHODS.items():
        plain = name.replace("_", "").replace("-", "").removeprefix("Signal").removeprefix("TFLite")
        assert method.lower() == "add" + plain.lower()


def test_the_irregular_names_are_right():
    irregular = {
        "CUMSUM": "AddCumSum",
        "PADV2": "AddPadV2",
        "SVDF": "AddSvdf",
        "BATCH_MATMUL": "AddBatchMatMul",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
        "CONV_2D": "AddConv2D",
        "L2_POOL_2D": "AddL2Pool2D",
        "BATCH_TO_SPACE_ND": "AddBatchToSpaceNd",
    }
    assert irregular.items() <= tflm_kernels.METHODS.items()


def test_every_operator_is_in_the_schema():
    assert set(tflm_kernels.METHODS) <= flatbuffer.op_names_known()
    assert not set(tflm_kernels.CUSTOM_METHODS) & flatbuffer.op_names_known()


#: The newest nightly build that the table was held against.
_NEWEST = "0.dev20261023182759"


def test_the_installed_runtime_has_these_kernels_and_no_others():
    package = pytest.importorskip("tflite_micro")
    library = next(pathlib.Path(package.__file__).parent.rglob("_runtime*.so")).read_bytes()
    kernels = {name.decode() for name in re.findall(rb"\dRegister_([A-Z0-9_]+)Ev", library)}
    assert set(tflm_kernels.METHODS) <= kernels
    if importlib.metadata.version("tflite-micro") <= _NEWEST:  # later ones may have more
        assert kernels & flatbuffer.op_names_known() == set(tflm_kernels.METHODS)


def test_a_file_gets_the_methods_of_its_operators(files):
    for name in ("float32", "int8", "int8_ptq"):
        calls = tflm_kernels.resolver_calls(files[name])
        assert len(calls) == len(files[name].ops) and calls == sorted(calls)
        assert set(calls) == {tflm_kernels.METHODS[op] for op in files[name].ops}
    assert "AddConv2D" in calls and "AddFullyConnected" in calls


def test_the_operators_of_a_loop_s_body_count():
    model = zoo.over_series(keras, lambda la, i: la.Dense(2)(la.GRU(6)(i)))
    series = np.random.default_rng(0).normal(size=(40, 12, 5)).astype("float32")
    file = to_tflite(model, "int8", series, recurrent="loop")
    calls = tflm_kernels.resolver_calls(file)
    assert {"AddWhile", "AddLess", "AddTanh"} <= set(calls) and len(calls) == len(file.ops)


@pytest.mark.parametrize("name", ["float16", "dynamic"])
def test_narrow_weights_are_refused(files, name):
    said = refusal(files[name])
    assert "narrower than the arithmetic" in said and "convert to 'int8'" in said


@pytest.mark.parametrize(
    ("operator", "instead"),
    [
        ("GELU", "relu6 or silu"),
        ("ONE_HOT", "one-hot rows an input"),
        ("TILE", "concatenate"),
        ("TOPK_V2", "return all scores"),
        ("SELECT", "elu for selu"),
        ("BIDIRECTIONAL_SEQUENCE_LSTM", "as two LSTMs"),
        ("RNN", "to_tflite writes such a layer"),
        ("ATAN2", "replace the layer"),
    ],
)
def test_what_it_lacks_is_refused_with_a_way_out(dense, operator, instead):
    said = refusal(with_operator(dense, operator))
    assert f"it has no {operator} (at 'scores')" in said and instead in said


def test_no_replacement_is_offered_for_what_it_has():
    assert not set(tflm_kernels._INSTEAD) & set(tflm_kernels.METHODS)
    assert set(tflm_kernels._INSTEAD) <= flatbuffer.op_names_known()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (b"FlexErf", "TensorFlow's own operator FlexErf (at 'scores')"),
        (b"MyFilter", "the custom operator MyFilter (at 'scores')"),
    ],
)
def test_foreign_operators_are_refused(dense, code, said):
    assert said in refusal(with_operator(dense, "CUSTOM", code))


def test_its_own_custom_operators_are_not(dense):
    file = with_operator(dense, "CUSTOM", b"SignalPCAN")
    assert tflm_kernels.resolver_calls(file) == ["AddPCAN"]
    assert tflm_kernels.resolver_calls(with_operator(dense, "CUSTOM", b"ethos-u")) == ["AddEthosU"]


def test_what_its_own_operators_pass_to_each_other_may_be_of_any_type(dense):
    """The audio front end's FilterBank hands uint64 to its square root."""
    model = flatbuffer.parse(with_operator(dense, "CUSTOM", b"SignalFilterBank").data)
    graph = model.subgraphs[0]
    last = copy.deepcopy(graph.operators[-1])
    made = int(graph.operators[-1].outputs[0])
    result = copy.deepcopy(graph.tensors[made])
    last.inputs, last.outputs = [made], [len(graph.tensors)]
    graph.tensors.append(result)
    graph.tensors[made].type = schema.TensorType.UINT64
    graph.operators.append(last)
    graph.outputs = [len(graph.tensors) - 1]
    for signature in model.signatureDefs:
        signature.outputs[0].tensorIndex = len(graph.tensors) - 1
    assert tflm_kernels.resolver_calls(TFLiteModel(writer.pack(model))) == ["AddFilterBank"]


@pytest.mark.parametrize(
    ("type", "instead"),
    [("INT64", "use int32"), ("COMPLEX64", "float32"), ("STRING", "float32"), ("FLOAT16", "")],
)
def test_types_that_no_kernel_takes_are_refused(dense, type, instead):
    said = refusal(with_type(dense, type))
    assert f"do not compute with {type.lower()}" in said and instead in said
    assert "'scores'" in said


def test_sixteen_bits_can_be_looked_up_by_no_kernel():
    model = zoo.build(keras, "text")
    file = to_tflite(model, "int16x8", zoo.inputs_for(model, 20))
    assert file.ops["GATHER"] == 1  # and its int64 biases are no matter
    said = refusal(file)
    assert "its GATHER (at" in said and "has no 16-bit kernel" in said and "int64" not in said


def test_all_problems_are_told_at_once(files, dense):
    said = refusal(with_type(with_operator(dense, "TILE"), "COMPLEX64", ("inputs",)))
    assert "no TILE" in said and "complex64" in said
    assert said.count("TensorFlow Lite for Microcontrollers can't run") == 1


def test_layers_are_named_as_the_caller_does(dense):
    assert "(at 'head/scores')" in refusal(with_operator(dense, "TILE"), {"scores": "head/scores"})


def test_what_is_offered_instead_runs():
    """Of the operators that Keras's own functions become."""
    i = keras.Input((16,))
    x = layers.Dense(16, name="first")(i)
    refused = layers.Concatenate()(
        [
            keras.activations.gelu(x, approximate=True),
            keras.activations.selu(x),
            ops.tile(x, (1, 2)),
            ops.top_k(x, 3)[0],
        ]
    )
    said = refusal(to_tflite(keras.Model(i, refused)))
    assert all(f"it has no {name} (at" in said for name in ("GELU", "SELECT", "TILE", "TOPK_V2"))
    taken = layers.Concatenate()(
        [
            keras.activations.relu6(x),
            keras.activations.silu(x),
            x * ops.sigmoid(1.702 * x),
            x * (0.5 + 0.5 * ops.tanh(0.79788456 * x * (1.0 + 0.044715 * x * x))),
            keras.activations.elu(x),
            ops.maximum(x, 0.5 * x) - ops.minimum(x, 0.0),
            layers.Concatenate()([x, x]),
            ops.square(x) * ops.sqrt(ops.abs(x)),
            ops.max(x, axis=-1, keepdims=True),
        ]
    )
    file = to_tflite(keras.Model(i, taken))
    tflm_kernels.check(file)
    pytest.importorskip("tflite_micro")
    x = tf.random.stateless_normal((20, 16), (0, 1)).numpy()
    np.testing.assert_allclose(file.predict(x, engine="tflm"), file.predict(x), atol=1e-5)
