"""Repairs of the converter's mistakes, on files that have them."""

import keras
import numpy as np
import pytest
import zoo

from tfkd.export import to_tflite
from tfkd.export.conversion import repairs
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.schema import LEAST_CELL_SCALE, LSTM_CELL


def test_a_file_with_nothing_to_repair_is_left_as_it_is(files):
    data = files["int8"].data
    assert repairs.repaired(data) is data
    inputs, outputs = (
        [i.name for i in part] for part in (files["int8"].inputs, files["int8"].outputs)
    )
    assert repairs.repaired(data, inputs, outputs) is data


def test_a_bytes_object_is_parsed_once_and_packed_at_most_once(files, monkeypatch):
    calls = []

    def counted(name, function):
        def call(*args):
            calls.append(name)
            return function(*args)

        return call

    parsed = schema.parse(files["int8"].data)
    parsed.subgraphs[0].tensors[0].name = b"a;b;c;d;e;f"
    data = writer.pack(parsed)
    monkeypatch.setattr(schema, "parse", counted("parse", schema.parse))
    monkeypatch.setattr(writer, "pack", counted("pack", writer.pack))
    assert repairs.repaired(data) != data
    assert calls == ["parse", "pack"]
    assert schema.parse(repairs.repaired(data)).subgraphs[0].tensors[0].name == b"a"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("conv/conv/Conv2D", "conv/Conv2D"),
        ("act/act/Relu;outer/conv/conv/Conv2D1", "act/Relu;outer/conv/Conv2D1"),
        ("same/same/same/Relu", "same/same/Relu"),  # a layer in a model of its name
        ("conv/convolution/Conv2D", "conv/convolution/Conv2D"),
        ("lstm/lstm/while/MatMul", "lstm/lstm/while/MatMul"),
    ],
)
def test_a_name_says_its_scope_once(files, name, wanted):
    parsed = schema.parse(files["int8"].data)
    for tensor in parsed.subgraphs[0].tensors[:2]:
        tensor.name = name.encode()
    changed = schema.parse(repairs.repaired(writer.pack(parsed)))
    found = [tensor.name.decode() for tensor in changed.subgraphs[0].tensors[:2]]
    assert found == ([name, name] if wanted == name else [wanted, f"{wanted}.1"])


class Cell:
    """A graph of one fused LSTM whose cell has a scale."""

    def __init__(self, scale):
        quantization = schema_object("QuantizationParameters", scale=np.float32([scale]))
        self.tensor = schema_object("Tensor", quantization=quantization)
        inputs = np.zeros(LSTM_CELL + 1, int)
        operator = schema_object("Operator", opcodeIndex=0, inputs=inputs)
        graph = schema_object("SubGraph", tensors=[self.tensor], operators=[operator])
        code = schema_object("OperatorCode", builtinCode=44, deprecatedBuiltinCode=44)
        self.model = schema_object("Model", subgraphs=[graph], operatorCodes=[code])


def schema_object(kind, **values):
    from ai_edge_litert import schema_py_generated

    made = getattr(schema_py_generated, f"{kind}T")()
    for name, value in values.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def test_cells_get_the_least_scale_of_their_kernel_and_larger_ones_stay():
    small, large = Cell(LEAST_CELL_SCALE / 8), Cell(LEAST_CELL_SCALE * 8)
    assert repairs.raise_cell_scales(small.model)
    assert small.tensor.quantization.scale == np.float32(LEAST_CELL_SCALE)
    assert not repairs.raise_cell_scales(large.model)
    assert large.tensor.quantization.scale == np.float32(LEAST_CELL_SCALE * 8)


def test_a_fused_lstm_has_the_same_bytes_in_each_conversion():
    """Buffers that nothing refers to held numbers that no two conversions share."""
    model = zoo.build(keras, "lstm")
    first, second = (
        to_tflite(model, "int8", zoo.inputs_for(model), recurrent="fused").data for _ in range(2)
    )
    assert first == second
    parsed = schema.parse(first)
    held = {tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors}
    held |= {entry.buffer for entry in parsed.metadata}
    full = {i for i, one in enumerate(parsed.buffers) if one.data is not None and len(one.data)}
    assert full <= held
