"""What LiteRT's GPU delegate hands back, of files as they are and of changed ones."""

import keras
import numpy as np
import pytest
import zoo
from ai_edge_litert import schema_py_generated as builtin

from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.gpu_operators import OPERATORS, cpu_operators


def left(file) -> dict[str, tuple[int, str]]:
    return {one.op: (one.count, one.reason) for one in cpu_operators(file)}


def layers(*made, shape):
    inputs = outputs = keras.Input(shape, batch_size=1)
    for layer in made:
        outputs = layer(outputs)
    return to_tflite(keras.Model(inputs, outputs), "float32")


def test_every_operator_of_the_table_is_one_of_tflites():
    assert not OPERATORS - schema.op_names_known()


@pytest.mark.parametrize("format", ["float32", "float16", "dynamic", "int8"])
def test_the_gpu_takes_all_of_a_cnn(files, format):
    assert cpu_operators(files[format]) == ()


@pytest.mark.parametrize(
    ("name", "recurrent", "want"),
    [
        ("lstm", "fused", {"UNIDIRECTIONAL_SEQUENCE_LSTM": (1, "the GPU has no such operator")}),
        ("lstm", "loop", {"WHILE": (1, "the GPU has no such operator")}),
        ("text", "unrolled", {"GATHER": (1, "its indices must have one axis, and have 2")}),
        ("gru", "step", {}),
    ],
)
def test_recurrent_files(name, recurrent, want):
    model = zoo.build(keras, name)
    file = to_tflite(model, "int8", zoo.inputs_for(model), recurrent=recurrent)
    got = left(file)
    slices = got.pop("STRIDED_SLICE", None)  # the fused one's last step
    assert slices in (None, (1, "it removes an axis (shrink_axis_mask)"))
    assert got == want and (slices is None) == (recurrent != "fused")


@pytest.mark.parametrize(
    ("made", "want"),
    [
        (lambda x: keras.ops.argmax(x, -1), {}),
        (
            lambda x: keras.ops.cast(x, "int64"),
            {"CAST": (1, "it does not make int64 of float32")},
        ),
        (lambda x: keras.ops.pad(x, [(0, 0), (1, 1)]), {"PAD": (1, "it pads 2 axes, not 3 or 4")}),
        (lambda x: keras.ops.reshape(x, (1, 1, 2, 2, 3)) * 2.0, {"MUL", "RESHAPE"}),
        (lambda x: x[:, ::-2], {"STRIDED_SLICE": (1, "it goes backwards")}),
        (lambda x: x[:, 3], {"STRIDED_SLICE": (1, "it removes an axis (shrink_axis_mask)")}),
        (lambda x: keras.ops.log1p(keras.ops.abs(x)), {}),
    ],
    ids=["argmax", "cast", "pad", "five axes", "reverse", "slice", "elementwise"],
)
def test_conditions(made, want):
    file = layers(keras.layers.Lambda(made), shape=(12,))
    got = left(file)
    assert (set(got) if isinstance(want, set) else got) == want


def test_an_int16_file_and_a_changed_softmax(files):
    model = schema.parse(files["float32"].data)
    graph = model.subgraphs[0]
    code = builtin.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin.BuiltinOperator.SOFTMAX
    model.operatorCodes.append(code)
    last = graph.operators[-1]
    operator = builtin.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.builtinOptionsType = builtin.BuiltinOptions.SoftmaxOptions
    operator.builtinOptions = builtin.SoftmaxOptionsT()
    operator.builtinOptions.beta = 2.0
    operator.inputs, operator.outputs = last.outputs, np.int32([len(graph.tensors)])
    tensor = builtin.TensorT()
    tensor.name, tensor.buffer = b"soft", 0
    tensor.shape = graph.tensors[int(last.outputs[0])].shape
    graph.tensors.append(tensor)
    graph.operators.append(operator)
    graph.outputs = operator.outputs
    model.signatureDefs = []
    assert left(TFLiteModel(writer.pack(model))) == {"SOFTMAX": (1, "its beta is not 1")}
    for tensor in graph.tensors:
        if not schema.is_constant(tensor, model):
            tensor.type = builtin.TensorType.INT16
    got = left(TFLiteModel(writer.pack(model)))
    assert got["CONV_2D"][1] == "it takes no int16"
