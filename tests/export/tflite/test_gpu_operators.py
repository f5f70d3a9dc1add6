"""Operators that LiteRT's GPU delegate refuses, in unchanged and in changed files."""

import keras
import numpy as np
import pytest
import zoo
from ai_edge_litert import schema_py_generated as builtin

from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.gpu_operators import OPERATORS, cpu_operators


def left(file) -> set[tuple[str, int, str]]:
    return {(one.op, one.count, one.reason) for one in cpu_operators(file)}


def test_every_operator_of_the_table_is_one_of_tflites():
    assert not OPERATORS - schema.op_names_known()


@pytest.mark.parametrize("format", ["float32", "float16", "dynamic", "int8"])
def test_the_gpu_takes_all_of_a_cnn(files, format):
    assert cpu_operators(files[format]) == ()


def test_recurrent_files(loop, gru_step):
    assert left(loop) == {("WHILE", 1, "the GPU has no such operator")}
    assert left(gru_step) == set()
    fused = to_tflite(zoo.build(keras, "lstm"), "float32", recurrent="fused")
    assert left(fused) == {
        ("STRIDED_SLICE", 1, "it removes an axis (shrink_axis_mask)"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", 1, "the GPU has no such operator"),
    }


def test_conditions():
    """One file with operators that are left for different reasons, and some that are not."""
    x, words = keras.Input((12,), batch_size=1), keras.Input((6,), batch_size=1, dtype="int32")
    calls = [
        lambda x: keras.ops.argmax(x, -1),
        lambda x: keras.ops.log1p(keras.ops.abs(x)),
        lambda x: keras.ops.cast(x, "int64"),
        lambda x: keras.ops.pad(x, [(0, 0), (1, 1)]),
        lambda x: keras.ops.reshape(x, (1, 1, 2, 2, 3)),
        lambda x: x[:, ::-2],
        lambda x: x[:, 3],
    ]
    outputs = [keras.layers.Lambda(call)(x) for call in calls]
    model = keras.Model([x, words], [*outputs, keras.layers.Embedding(9, 4)(words)])
    file = to_tflite(model, "float32")
    assert {"ARG_MAX", "ABS", "LOG"} <= set(file.ops)
    assert left(file) == {
        ("CAST", 1, "it does not make int64 of float32"),
        ("GATHER", 1, "its indices must have one axis, and have 2"),
        ("PAD", 1, "it pads 2 axes, not 3 or 4"),
        ("RESHAPE", 1, "a tensor has more than four axes"),
        ("STRIDED_SLICE", 1, "it goes backwards"),
        ("STRIDED_SLICE", 1, "it removes an axis (shrink_axis_mask)"),
    }


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
    assert left(TFLiteModel(writer.pack(model))) == {("SOFTMAX", 1, "its beta is not 1")}
    for tensor in graph.tensors:
        if not schema.is_constant(tensor, model):
            tensor.type = builtin.TensorType.INT16
    assert ("CONV_2D", 2, "it takes no int16") in left(TFLiteModel(writer.pack(model)))
