"""Metadata follows the official schema, and the file computes as before.

`Table` reads flatbuffers with nothing but `struct`; the numbers of fields in the tests are counted
in metadata_schema.fbs 1.5.0 of tflite-support, by hand.
"""

import io
import struct
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfkd.errors import InputError
from tfkd.export import TFLiteModel
from tfkd.export.tflite import writer
from tfkd.export.tflite.metadata import read_metadata, with_metadata

DIGITS = ["zero", "one", "two", "drei", "四", "cinq", "шесть", "🙂", "eight's", 'n"ine\\']


class Table:
    """A flatbuffer's table, read by field numbers."""

    def __init__(self, data, at=None):
        self.data = data
        self.at = self.number("<I", 0) if at is None else at

    def number(self, form, at):
        return struct.unpack_from(form, self.data, at)[0]

    def place(self, field):
        layout = self.at - self.number("<i", self.at)
        size = self.number("<H", layout)
        offset = self.number("<H", layout + 4 + 2 * field) if 4 + 2 * field < size else 0
        return self.at + offset if offset else None

    def follow(self, at):
        return at + self.number("<I", at)

    def scalar(self, field, form):
        return 0 if self.place(field) is None else self.number(form, self.place(field))

    def text(self, field):
        if self.place(field) is None:
            return None
        at = self.follow(self.place(field))
        return self.data[at + 4 : at + 4 + self.number("<I", at)].decode()

    def table(self, field):
        return Table(self.data, self.follow(self.place(field)))

    def _list(self, field):
        if self.place(field) is None:
            return []
        at = self.follow(self.place(field))
        return [at + 4 + 4 * i for i in range(self.number("<I", at))]

    def tables(self, field):
        return [Table(self.data, self.follow(at)) for at in self._list(field)]

    def floats(self, field):
        return [self.number("<f", at) for at in self._list(field)]


def parsed(file):
    return schema.ModelT.InitFromPackedBuf(file.data, 0)


def entries(file):
    model = parsed(file)
    return {entry.name: model.buffers[entry.buffer].data.tobytes() for entry in model.metadata}


def changed(file, change):
    model = parsed(file)
    change(model)
    return TFLiteModel(writer.pack(model))


def metadata(file):
    data = entries(file)[b"TFLITE_METADATA"]
    assert data[4:8] == b"M001"
    return Table(data)


@pytest.fixture(scope="module")
def full(files):
    return with_metadata(
        files["int8"],
        name="Digits",
        description="Reads digits.",
        class_names=DIGITS,
        preprocessing={"scale": 1 / 16, "offset": -0.5},
        version="v3",
        author="the tests",
        license="Apache-2.0",
    )


def test_an_independent_reader_finds_everything(full):
    model = metadata(full)
    assert [model.text(i) for i in (0, 1, 2, 4, 5, 7)] == [
        *("Digits", "Reads digits.", "v3", "the tests", "Apache-2.0", "1.0.0")
    ]
    (graph,) = model.tables(3)
    (image,), (answer,) = graph.tables(2), graph.tables(3)
    assert (image.text(0), answer.text(0)) == (full.inputs[0].name, full.outputs[0].name)
    content = image.table(3)
    assert content.scalar(0, "<B") == 2  # ContentProperties.ImageProperties
    assert content.table(1).scalar(0, "<b") == 2  # ColorSpaceType.GRAYSCALE
    assert [content.table(1).table(1).scalar(i, "<I") for i in (0, 1)] == [8, 8]
    (unit,) = image.tables(4)
    assert unit.scalar(0, "<B") == 1  # ProcessUnitOptions.NormalizationOptions
    # raw / 16 - 0.5 = (raw - 8) / 16
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([8.0], [16.0])
    assert answer.table(3).scalar(0, "<B") == 1  # FeatureProperties
    (labels,) = answer.tables(6)
    assert (labels.text(0), labels.scalar(2, "<b")) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    for info, tensor in ((full.inputs[0], image), (full.outputs[0], answer)):
        reach = info.dequantize(np.array([127, -128], np.int8))
        np.testing.assert_allclose([*tensor.table(5).floats(0), *tensor.table(5).floats(1)], reach)


def test_any_unzip_finds_the_labels_in_order(full, tmp_path):
    path = full.save(tmp_path / "digits.tflite")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.testzip() is None
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode().split("\n") == [*DIGITS, ""]


def test_our_reader_says_the_same(full, files):
    found = read_metadata(full)
    assert {key: found[key] for key in ("name", "version", "min_parser_version")} == {
        "name": "Digits",
        "version": "v3",
        "min_parser_version": "1.0.0",
    }
    assert found["outputs"][0]["labels"] == DIGITS
    assert found["inputs"][0]["normalization"] == {"mean": [8.0], "std": [16.0]}
    assert (found["inputs"][0]["size"], found["inputs"][0]["color_space"]) == ((8, 8), "gray")
    assert read_metadata(files["int8"]) == {}


@pytest.mark.parametrize("engine", ["xnnpack", "reference", "tflm"])
def test_the_file_answers_as_before(full, files, digits, engine):
    if engine == "tflm":
        pytest.importorskip("tflite_micro")
    x = digits.test.x[:40]
    want = files["int8"].predict(x, engine=engine)
    np.testing.assert_array_equal(full.predict(x, engine=engine), want)


@pytest.mark.parametrize("format", ["float32", "float16", "dynamic", "int8"])
def test_weights_and_other_metadata_stay_and_are_aligned(files, format):
    before = files[format]
    after = with_metadata(before, name="Digits", class_names=DIGITS)

    def weights(file):
        model = parsed(file)
        tensors = [t for graph in model.subgraphs for t in graph.tensors]
        data = [model.buffers[t.buffer].data for t in tensors]
        return [None if d is None else bytes(d) for d in data]

    assert weights(after) == weights(before)
    others = entries(after)
    del others[b"TFLITE_METADATA"]
    assert others == entries(before) and b"min_runtime_version" in others
    model = schema.Model.GetRootAs(after.data, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert len(starts) > 5 and all(start % 16 == 0 for start in starts)


def test_a_second_time_replaces_all_of_the_first(full, files):
    again = with_metadata(full, name="Other", class_names=DIGITS[::-1])
    assert again.data == with_metadata(files["int8"], name="Other", class_names=DIGITS[::-1]).data
    assert len(parsed(again).metadata) == len(parsed(files["int8"]).metadata) + 1
    assert read_metadata(again)["outputs"][0]["labels"] == DIGITS[::-1]
    without = with_metadata(full, name="Other")
    assert not zipfile.is_zipfile(io.BytesIO(without.data))
    assert read_metadata(without)["outputs"][0]["labels"] is None


@pytest.mark.parametrize(
    ("last", "least", "most"),
    [
        ("SOFTMAX", [0.0], [1.0]),
        ("LOGISTIC", [0.0], [1.0]),
        ("TANH", [-1.0], [1.0]),
        ("FULLY_CONNECTED", None, None),
    ],
)
def test_what_values_lie_between_is_told_where_it_is_known(files, last, least, most):
    def end_with(model):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, last)
        model.subgraphs[0].operators[-1].opcodeIndex = len(model.operatorCodes)
        model.operatorCodes.append(code)

    found = read_metadata(with_metadata(changed(files["float32"], end_with), name="Digits"))
    assert (found["inputs"][0]["min"], found["inputs"][0]["max"]) == (None, None)
    assert (found["outputs"][0]["min"], found["outputs"][0]["max"]) == (least, most)


@pytest.mark.parametrize(
    ("preprocessing", "mean", "std"),
    [
        ({"mean": [127.5], "std": [127.5]}, [127.5], [127.5]),
        ({"std": 255}, [0.0], [255.0]),
        ({"mean": np.float32(3)}, [3.0], [1.0]),
        ({"scale": 1 / 255, "offset": 0}, [0.0], [255.0]),
        ({"offset": 2.0}, [-2.0], [1.0]),
        ({"image": {"scale": 0.5, "offset": [1.0]}}, [-2.0], [2.0]),
    ],
)
def test_preprocessing_in_every_form(files, preprocessing, mean, std):
    name = files["int8"].inputs[0].name
    if "image" in preprocessing:
        preprocessing = {name: preprocessing["image"]}
    found = read_metadata(with_metadata(files["int8"], name="n", preprocessing=preprocessing))
    assert found["inputs"][0]["normalization"] == {"mean": mean, "std": std}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": DIGITS[:9]}, "gives 10 values, got 9 class names"),
        ({"class_names": [*DIGITS[:9], "one"]}, r"\['one'\] more than once"),
        ({"class_names": [*DIGITS[:9], 9]}, r"must be strings, got \[9\]"),
        ({"class_names": [*DIGITS[:9], "a\nb"]}, "one line of text"),
        ({"class_names": [*DIGITS[:9], "a\u2028b"]}, "one line of text"),
        ({"class_names": [*DIGITS[:9], " nine"]}, "one line of text"),
        ({"class_names": [*DIGITS[:9], ""]}, "one line of text"),
        ({"class_names": [*DIGITS[:9], "\ud800"]}, "one line of text"),
        ({"class_names": "0123456789"}, "must be a list of strings"),
        (
            {"class_names": {"nothing": DIGITS}},
            "the unknown names 'nothing'; the outputs",
        ),
        ({"preprocessing": {"std": 0.0}}, "not 0"),
        ({"preprocessing": {"scale": 1e-60}}, "finite"),
        ({"preprocessing": {"mean": np.nan}}, "finite"),
        ({"preprocessing": {"mean": [1.0, 2.0]}}, "one number as mean, or 1"),
        ({"preprocessing": {"mean": 1.0, "scale": 2.0}}, "keys mean and std, or scale and offset"),
        (
            {"preprocessing": {"nothing": {"mean": 1.0}}},
            "the unknown names 'nothing'; the inputs",
        ),
        ({"preprocessing": {"std": "wide"}}, "could not convert"),
        ({"preprocessing": 255}, "must be"),
        ({"input_names": ["a", "b"]}, "has 1 inputs, got 2"),
        ({"input_names": "pixels"}, "list of strings"),
        ({"name": None}, "name must be text"),
        ({"version": 3}, "version must be text"),
    ],
)
def test_what_does_not_fit_is_refused(files, arguments, message):
    with pytest.raises(InputError, match=message):
        with_metadata(files["int8"], **{"name": "Digits", **arguments})


def test_an_input_can_be_called_otherwise(files):
    found = read_metadata(with_metadata(files["int8"], name="n", input_names=["pixels"]))
    assert found["inputs"][0]["name"] == "pixels"


def test_weights_behind_the_flatbuffer_are_not_moved(files):
    def elsewhere(model):
        model.buffers[-1].offset, model.buffers[-1].size = 4096, 16

    with pytest.raises(InputError, match="weights outside of its flatbuffer"):
        with_metadata(changed(files["int8"], elsewhere), name="n")


def test_a_file_too_large_for_a_flatbuffer_is_refused(files, monkeypatch):
    monkeypatch.setattr("tfkd.export.tflite.metadata._LARGEST", files["int8"].size - 1)
    with pytest.raises(InputError, match="too large"):
        with_metadata(files["int8"], name="n")


def test_damaged_metadata_is_refused_or_read_never_a_crash(full, rng):
    whole = entries(full)[b"TFLITE_METADATA"]
    refusals = []
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)

        def damage(model, data=bytes(data)):
            model.buffers[model.metadata[-1].buffer].data = np.frombuffer(data, np.uint8)

        try:
            read_metadata(changed(full, damage))
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all("metadata is damaged" in refusal for refusal in refusals)


def test_labels_that_are_named_but_not_packed_are_refused(full):
    alone = TFLiteModel(full.data[: full.data.index(b"PK\x03\x04")])
    with pytest.raises(InputError, match=r"labels\.txt"):
        read_metadata(alone)


def test_tables_shared_a_million_times_are_refused(full):
    builder = flatbuffers.Builder(1024)

    def table(fields, offsets):
        builder.StartObject(fields)
        for number, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
        return builder.EndObject()

    def repeated(offset):
        builder.StartVector(4, 400, 4)
        for _ in range(400):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    tensor = table(7, {4: repeated(table(2, {}))})
    graph = table(5, {2: repeated(tensor)})
    builder.Finish(table(8, {3: repeated(graph)}), b"M001")

    def replace(model):
        data = np.frombuffer(bytes(builder.Output()), np.uint8)
        model.buffers[model.metadata[-1].buffer].data = data

    with pytest.raises(InputError, match="more tables than bytes"):
        read_metadata(changed(full, replace))


def test_the_official_reader_agrees(full, tmp_path):
    official = pytest.importorskip(
        "tensorflow_lite_support.metadata.python.metadata", exc_type=ImportError
    )
    path = full.save(tmp_path / "digits.tflite")
    shown = official.MetadataDisplayer.with_model_file(str(path))
    assert shown.get_packed_associated_file_list() == ["labels.txt"]
    assert '"min_parser_version": "1.0.0"' in shown.get_metadata_json()
    assert shown.get_associated_file_buffer("labels.txt").decode().splitlines() == DIGITS
