"""A rewritten file is the same file, with the alignment that kernels need."""

import flatbuffers
import keras
import numpy as np
import pytest
import zoo
from ai_edge_litert import schema_py_generated as schema
from tiny_models import predicted

from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite import writer


@pytest.fixture(scope="module")
def unrolled():
    model = zoo.build(keras, "gru")
    x = zoo.inputs_for(model)
    return model, x, to_tflite(model, "int8", x)


def unaligned(data):
    model = schema.Model.GetRootAs(data, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert starts
    return [start for start in starts if start % 16]


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_what_is_packed_is_what_was_parsed(files, digits, name):
    data = writer.pack(flatbuffer.parse(files[name].data))
    again = TFLiteModel(data)
    assert again.to_json() | {"sha256": 0, "bytes": 0, "gzip_bytes": 0} == (
        files[name].to_json() | {"sha256": 0, "bytes": 0, "gzip_bytes": 0}
    )
    x = digits.test.x[:20]
    np.testing.assert_array_equal(again.predict(x), files[name].predict(x))
    assert unaligned(data) == []  # the converter's own file is aligned to four bytes


def test_unrolled_files_have_short_names_and_their_layer_in_them(unrolled):
    model, x, file = unrolled
    names = [t.name.decode() for t in flatbuffer.parse(file.data).subgraphs[0].tensors]
    assert len(set(names)) == len(names)
    assert max(name.count(";") for name in names) < 4
    assert sum(map(len, names)) < 0.25 * file.size
    assert sum(name.startswith(f"{model.layers[1].name}/") for name in names) > 40
    assert unaligned(file.data) == []
    want = predicted(model, x)
    assert np.abs(file.predict(x) - want).mean() <= 0.05 * want.std()


def test_equal_vectors_are_written_once(files, digits):
    file = files["int8"]
    builder = flatbuffers.Builder(1024)
    builder.Finish(flatbuffer.parse(file.data).Pack(builder), b"TFL3")
    apart = TFLiteModel(bytes(builder.Output()))
    assert file.size < 0.97 * apart.size
    changed = {"sha256": 0, "bytes": 0, "gzip_bytes": 0}
    assert file.to_json() | changed == apart.to_json() | changed
    np.testing.assert_array_equal(file.predict(digits.test.x), apart.predict(digits.test.x))
