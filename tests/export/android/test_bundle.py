"""A bundle's Kotlin agrees with its files, and a bundle is written whole or not at all.

No Android device and no Kotlin compiler is needed: what the Kotlin files must match is read out
of them with regular expressions, and their arithmetic is done again in Python.
"""

import errno
import json
import pathlib
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from two_ends import INPUTS, drawn, forms, reversed_ends, two_ended

from tfkd.errors import ConversionError, InputError, UnsupportedError
from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.android import bundle as android
from tfkd.export.android.bundle import android_bundle
from tfkd.export.android.kotlin import literal
from tfkd.export.latency import android_device
from tfkd.export.tflite import writer

DIGITS = ["zero", "one", "two", "drei", "四", "cinq", "шесть", "🙂", "eight's", 'n"ine$']
RAW = {"mean": [8.0], "std": [4.0]}


@pytest.fixture(scope="module")
def bundle(files, digits, tmp_path_factory):
    return android_bundle(
        files["int8"],
        tmp_path_factory.mktemp("android") / "bundle",
        "digits",
        DIGITS,
        RAW,
        others={"float16": files["float16"]},
        x=digits.test.x,
        y=digits.test.y,
    )


def text(bundle, name):
    return (bundle.folder / name).read_text()


def signatures(path):
    """Return what LiteRT itself says that a file's signatures are."""
    return Interpreter(str(path)).get_signature_list()


def constants(kotlin):
    return dict(re.findall(r'const val (\w+) = "(.*)"', kotlin))


def quantized(kotlin):
    """Return scale and zero point of the one input that is quantized."""
    found = re.findall(r"quantize\(.*, (\S+)f, (-?\d+), (-?\d+), (-?\d+)\)\.toByte", kotlin)
    ((scale, zero_point, least, most),) = found
    assert (least, most) == ("-128", "127")
    return np.float32(scale), int(zero_point)


def test_python_runs_it_on_a_computer_without_tensorflow(bundle, files, digits, tmp_path):
    x = digits.test.x[:3] * 4.0 + 8.0  # what RAW makes the model's own numbers of
    np.save(tmp_path / "pixels.npy", x)
    program = bundle.folder / "run.py"
    assert max(map(len, program.read_text().splitlines())) <= 100
    done = subprocess.run(
        [sys.executable, program, "pixels.npy"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    model = TFLiteModel.load(bundle.folder / "digits.tflite")
    want = model.predict(digits.test.x[:3], engine="xnnpack")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    (name,) = (key for key in said[0] if not key.endswith(", label"))
    got = np.float32([one[name] for one in said]).reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=1.01 * model.outputs[0].scale)
    labels = text(bundle, "labels.txt").splitlines()
    assert [one[f"{name}, label"] for one in said] == [labels[i] for i in got.argmax(-1)]
    few = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert few.returncode == 1 and few.stderr == "give a .npy file for each of pixels\n"


def test_everything_is_there(bundle):
    want = {
        *("README.md", "run.py", "labels.txt", "digits.tflite", "digits_float16.tflite"),
        *("DigitsClassifier.kt", "DigitsInterpreter.kt"),
        *("DigitsFloat16Classifier.kt", "DigitsFloat16Interpreter.kt"),
    }
    assert {path.name for path in bundle.folder.iterdir()} == set(bundle.files) == want
    assert text(bundle, "labels.txt").split("\n") == [*DIGITS, ""]
    for model in bundle.models:
        path = bundle.folder / model.file
        assert (path.stat().st_size, TFLiteModel.load(path).digest) == (model.bytes, model.sha256)
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt") == (bundle.folder / "labels.txt").read_bytes()
    assert not [path for path in bundle.folder.parent.iterdir() if path != bundle.folder]


def test_the_files_answer_as_those_they_were_made_from(bundle, files, digits):
    x = digits.test.x[:50]
    for model, name in zip(bundle.models, ("int8", "float16"), strict=True):
        got = TFLiteModel.load(bundle.folder / model.file).predict(x)
        np.testing.assert_array_equal(got, files[name].predict(x))


@pytest.mark.parametrize("number", [0, 1])
def test_kotlin_has_the_names_of_its_file(bundle, number):
    model = bundle.models[number]
    ((key, names),) = signatures(bundle.folder / model.file).items()
    for source in model.kotlin:
        kotlin = text(bundle, source)
        assert f"class {source.removesuffix('.kt')}(" in kotlin
        assert constants(kotlin) == {"MODEL": model.file, "SIGNATURE": key}
        assert set(re.findall(r'getValue\("(.*)"\)', kotlin)) == {
            *names["inputs"],
            *names["outputs"],
        }
        assert 'context.assets.open("labels.txt")' in kotlin
        assert "check(labels.size == 10)" in kotlin
        assert not re.search(r"\{\{|\{%|None|True|False|Undefined", kotlin)
        assert kotlin.count("{") == kotlin.count("}")
        assert max(map(len, kotlin.splitlines())) <= 100


def test_kotlin_calculates_as_the_file_was_verified(bundle, files):
    image, answer = files["int8"].inputs[0], files["int8"].outputs[0]
    raw = np.arange(0, 17, dtype=np.float32)
    steps = np.arange(-128, 128, dtype=np.int8)
    for source in ("DigitsClassifier.kt", "DigitsInterpreter.kt"):
        kotlin = text(bundle, source)
        assert quantized(kotlin) == (np.float32(image.scale), image.zero_point)
        ((mean, std),) = re.findall(r"quantize\(\(\w+\[it\] - (\S+)f\) / (\S+)f,", kotlin)
        normalized = (raw - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(
            image.quantize(normalized), image.quantize((raw - np.float32(8)) / np.float32(4))
        )
        ((zero_point, scale),) = re.findall(r"\(.* - \(?(-?\d+)\)?\) \* (\S+)f\b", kotlin)
        np.testing.assert_array_equal(
            (steps.astype(np.float32) - int(zero_point)) * np.float32(scale),
            answer.dequantize(steps),
        )
    # The rounding of `quantize`: half away from zero, then clipped.
    assert "truncate(steps + 0.5 * sign(steps)) + zeroPoint" in kotlin
    assert ".coerceIn(least.toDouble(), most.toDouble()).toInt()" in kotlin
    # A float file is not quantized, but normalized.
    kotlin = text(bundle, "DigitsFloat16Classifier.kt")
    assert "quantize" not in kotlin and re.search(r"\w\[it\] - 8\.0f\) / 4\.0f", kotlin)


def test_who_is_sent_to_the_gpu(bundle):
    assert "prefer: Accelerator = Accelerator.CPU" in text(bundle, "DigitsClassifier.kt")
    assert "gpu: Boolean = false" in text(bundle, "DigitsInterpreter.kt")
    assert "gpu: Boolean = true" in text(bundle, "DigitsFloat16Interpreter.kt")
    compiled = text(bundle, "DigitsFloat16Classifier.kt")
    assert "prefer: Accelerator = Accelerator.GPU" in compiled
    # The GPU alone: together with the CPU, LiteRT 2.3 does not say that it fell back.
    assert "CompiledModel.Options(prefer)" in compiled
    assert "catch (error: LiteRtException)" in compiled
    assert "CompiledModel.CpuOptions(numThreads = threads)" in compiled
    interpreter = text(bundle, "DigitsFloat16Interpreter.kt")
    assert "isDelegateSupportedOnThisDevice" in interpreter
    assert "setNumThreads(threads)" in interpreter


def test_the_readme_has_the_figures_and_the_lines_to_copy(bundle, files, digits):
    page = text(bundle, "README.md")
    for model, name in zip(bundle.models, ("int8", "float16"), strict=True):
        accuracy = np.mean(files[name].predict(digits.test.x).argmax(-1) == digits.test.y)
        assert model.metrics["accuracy"] == pytest.approx(accuracy)
        (row,) = re.findall(rf"\| `{model.file}` \| [\d,]+ \|.*", page)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[2] == f"{model.bytes:,}" and cells[5] == f"{accuracy:.4g}"
        assert cells[4].startswith(f"{sum(model.ops.values())}: ")
    assert f"on {len(digits.test.x)} examples" in page
    for line in (*android.GRADLE["compiled_model"], *android.GRADLE["interpreter"]):
        assert f'implementation("{line}")' in page
    assert "November 2026" in page and 'noCompress += "tflite"' in page
    commands = android_device.as_shell(
        android_device.commands(["digits.tflite", "digits_float16.tflite"])
    )
    assert commands in page
    assert (
        android_device.as_shell(android_device.commands(["digits_float16.tflite"], engine="gpu"))
        in page
    )
    image = files["int8"].inputs[0]
    scale = np.format_float_positional(np.float32(image.scale), unique=True)
    assert f"| int8 | {scale} | {image.zero_point} | mean 8.0, std 4.0 |" in page
    assert "val answer = network.predict(" in page


def test_the_result_in_json_and_in_words(bundle):
    content = json.loads(json.dumps(bundle.to_json()))
    assert content["models"][0]["metadata"]["outputs"][0]["labels"] == DIGITS
    assert content["folder"] == str(bundle.folder) and content["looked_up"] == "November 2026"
    said = bundle.describe()
    assert all(len(line) <= 100 for line in said.splitlines())
    assert "digits.tflite" in said and "10 labels" in said and "DigitsClassifier.kt" in said


def test_a_fused_lstm_is_reset_before_each_call(fused, tmp_path):
    bundle = android_bundle(fused, tmp_path / "b", "gestures", ["a", "b", "c"])
    assert bundle.models[0].kotlin == ("GesturesInterpreter.kt",)
    kotlin = text(bundle, "GesturesInterpreter.kt")
    reset, call = kotlin.index("resetVariableTensors()"), kotlin.index("runSignature(")
    assert kotlin.index("fun predict(") < reset < call
    assert "GpuDelegate" not in kotlin  # which keeps no state
    page = text(bundle, "README.md")
    assert "resetVariableTensors" in page and "There is no" not in page
    assert "CompiledModel has no such call" in page
    assert 'implementation("com.google.ai.edge.litert:litert:1.4.2")' in page
    assert "use_gpu" not in page

    x = np.random.default_rng(0).normal(size=(3, *fused.inputs[0].shape[1:])).astype("float32")
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, bundle.folder / "run.py", tmp_path / "x.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (name,) = (one.name for one in fused.outputs)
    got = [json.loads(line)[name] for line in done.stdout.splitlines()]
    np.testing.assert_allclose(np.squeeze(got), fused.predict(x), atol=1e-5)


def test_a_step_file_carries_its_state(step, tmp_path):
    bundle = android_bundle(step, tmp_path / "b", "steps")
    ((_, names),) = signatures(bundle.folder / "steps.tflite").items()
    assert len(step.states) == 2
    for source in ("StepsRegressor.kt", "StepsInterpreter.kt"):
        kotlin = text(bundle, source)
        assert sorted(re.findall(r'^ +"(\S+)"', kotlin, re.MULTILINE)) == sorted(
            [*names["inputs"], *names["outputs"]]
        )
        after = kotlin[kotlin.index("SIGNATURE,\n" if "Inter" in source else "model.run(") :]
        start = kotlin[kotlin.index("fun reset()") :]
        for state_in, state_out in step.states:
            assert re.search(rf'"{state_in}"\)\.\w+\(\s*outputs\.getValue\("{state_out}"', after)
            info = next(info for info in step.inputs if info.name == state_in)
            zero = rf"\(?{info.zero_point}\)?\.toByte\(\)"
            assert re.search(rf'"{state_in}"\)(?s:.{{1,120}}?){zero}', start)
            assert f"repeat({info.shape[1]})" in start or f"ByteArray({info.shape[1]})" in start
        # An app gives the data of a step and nothing else.
        (given,) = re.findall(r"fun predict\((.*)\):", kotlin)
        assert given == "stepInputLayer: FloatArray" or re.fullmatch(r"step\w+: FloatArray", given)
        assert "reset()\n    }" in kotlin[: kotlin.index("fun predict(")]  # in init
    assert "`reset()` before each new sequence" in text(bundle, "README.md")


def test_steps_have_a_class_each(places, tmp_path):
    names = ["rest", "walk", "run"]
    bundle = android_bundle(places, tmp_path / "b", "moves", names)
    x = np.random.default_rng(0).normal(size=(6, 5, 2)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, bundle.folder / "run.py", tmp_path / "x.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = [json.loads(line)["label, label"] for line in done.stdout.splitlines()]
    assert got == [[names[i] for i in row] for row in places.predict(x).argmax(-1)]
    for source in ("MovesClassifier.kt", "MovesInterpreter.kt"):
        kotlin = text(bundle, source)
        assert "fun bestOfEach(values: FloatArray" in kotlin and "check(labels.size == 3)" in kotlin
        assert "fun scores(" not in kotlin and "class Score(" not in kotlin
    usage = "val best = network.bestOfEach(answer, network.labels)\n"
    assert usage in text(bundle, "README.md")


def test_several_inputs_and_outputs_go_by_name(several, tmp_path):
    labels = {"kind": ["a", "b", "c"]}
    bundle = android_bundle(several, tmp_path / "b", "pair", labels, {"left": {"std": 2}})
    kotlin = text(bundle, "PairClassifier.kt")
    # `val` is no name in Kotlin.
    assert "fun predict(left: FloatArray, val2: FloatArray): Result {" in kotlin
    assert 'inputs.getValue("val").writeFloat(val2)' in kotlin
    assert "(left[it] - 0.0f) / 2.0f" in kotlin
    assert 'val place = outputs.getValue("place").readFloat()' in kotlin
    assert re.search(r"return Result\((place, kind|kind, place)\)", kotlin)
    assert "network.scores(answer.kind, network.labels)" in text(bundle, "README.md")
    both = {"kind": ["a", "b", "c"], "place": ["x", "y"]}
    bundle = android_bundle(several, tmp_path / "c", "pair", both)
    assert text(bundle, "labels_place.txt") == "x\ny\n"
    assert 'context.assets.open("labels_place.txt")' in text(bundle, "PairClassifier.kt")


def test_data_goes_to_the_inputs_it_is_named_for(rng, tmp_path):
    model, x = two_ended(keras), drawn(rng)
    file = to_tflite(keras.Model(model.inputs, model.outputs[1], name="one_output"))
    others = {"turned": reversed_ends(file)}
    formats = {"": file, **others}
    for form, given in forms(x, INPUTS).items():
        data = android._data_by_format(formats, given)
        for got, due in ((data[""], x), (data["turned"], x[::-1])):
            for values, wanted in zip(got, due, strict=True):
                np.testing.assert_array_equal(values, wanted, err_msg=form)
    y = file.predict(x).argmax(-1)
    for labels in (y, y.tolist(), [y], {"first": y}):
        bundle = android_bundle(
            file, tmp_path / "b", "pair", others=others, x=x, y=labels, force=True
        )
        assert [one.metrics["accuracy"] for one in bundle.models] == [1.0, 1.0]
        assert "24 examples" in text(bundle, "README.md")
    with pytest.raises(InputError, match="lacks 'z'; it has 'a'"):
        android_bundle(file, tmp_path / "c", "pair", x={"a": x[1]})


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (["a", "b", "c"], "2 outputs .*: give class_names as a dict"),
        ({"kind": ["a"]}, "'kind' gives 3 values, got 1"),
    ],
)
def test_class_names_for_several_outputs(several, tmp_path, class_names, message):
    with pytest.raises(InputError, match=message):
        android_bundle(several, tmp_path / "b", "pair", class_names)


def changed(file, change):
    model = schema.ModelT.InitFromPackedBuf(file.data, 0)
    change(model)
    return TFLiteModel(writer.pack(model))


def test_a_file_without_a_signature_gets_one(files, digits, tmp_path):
    def strip(model):
        model.signatureDefs = []
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].name = b'my "$image\\:0'

    foreign = changed(files["int8"], strip)
    assert android.signature_of(foreign) is None
    bundle = android_bundle(foreign, tmp_path / "b", "foreign", x=digits.test.x)
    (names,) = signatures(bundle.folder / "foreign.tflite").values()
    kotlin = text(bundle, "ForeignRegressor.kt")
    assert constants(kotlin)["SIGNATURE"] == "serving_default"
    assert f'inputs.getValue("{names["inputs"][0]}")' in kotlin
    assert android.with_signature(files["int8"]) is files["int8"]


def test_a_signature_with_a_strange_key_is_kept_and_escaped(files, tmp_path):
    def rename(model):
        model.signatureDefs[0].signatureKey = b'a "$key\\'

    bundle = android_bundle(changed(files["float32"], rename), tmp_path / "b", "strange")
    assert list(signatures(bundle.folder / "strange.tflite")) == ['a "$key\\']
    assert r'const val SIGNATURE = "a \"\$key\\"' in text(bundle, "StrangeRegressor.kt")


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ("plain", '"plain"'),
        ('say "$x" \\', r'"say \"\$x\" \\"'),
        ("a\nb\t\x00", r'"a\u000ab\u0009\u0000"'),
        ("四🙂", '"四🙂"'),
        ("\U000e0001", r'"\udb40\udc01"'),
    ],
)
def test_kotlin_strings(value, want):
    assert literal(value) == want


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        *(("my model!", "my_model"), ("3d", "model_3d"), ("", "model"), ("a/../b", "a_b")),
        *(("größe", "gr_e"), ("x" * 80, "x" * 64), (None, "None")),
    ],
)
def test_a_name_that_is_no_identifier_gets_a_suggestion(files, tmp_path, name, suggestion):
    with pytest.raises(InputError, match=f"try '{suggestion}'"):
        android_bundle(files["int8"], tmp_path / "b", name)
    android_bundle(files["int8"], tmp_path / "b", suggestion)


def test_what_can_not_be_bundled_is_told(files, student, several, digits, tmp_path):
    out = tmp_path / "b"
    with pytest.raises(InputError, match="convert a Keras model with to_tflite"):
        android_bundle(student, out, "digits")
    (tmp_path / "m.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match="Convert a Keras model with to_tflite"):
        android_bundle(tmp_path / "m.keras", out, "digits")
    with pytest.raises(InputError, match=r"others\['small'\] is not the same network"):
        android_bundle(files["int8"], out, "digits", others={"small": several})
    others = {"f16": files["float16"], "F16": files["float32"]}
    with pytest.raises(InputError, match="the same Kotlin class"):
        android_bundle(files["int8"], out, "digits", others=others)
    with pytest.raises(InputError, match="y is given without x"):
        android_bundle(files["int8"], out, "digits", y=digits.test.y)
    x = {"left": np.zeros((2, 4)), "val": np.zeros((2, 6))}
    with pytest.raises(InputError, match="2 outputs, but y labels only one"):
        android_bundle(several, out, "pair", x=x, y=np.zeros(2))
    with pytest.raises(InputError, match="gives 10 values, got 2"):
        android_bundle(files["int8"], out, "digits", ["yes", "no"])

    def custom(model):
        code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"Mine"

    with pytest.raises(UnsupportedError, match="needs Mine"):
        android_bundle(changed(files["int8"], custom), out, "digits")

    def boolean(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].type = schema.TensorType.BOOL

    with pytest.raises(UnsupportedError, match="'bool'"):
        android_bundle(changed(files["float32"], boolean), out, "digits")
    assert not out.exists()


def test_a_file_that_would_answer_otherwise_does_not_leave(files, tmp_path, monkeypatch):
    monkeypatch.setattr(android, "with_metadata", lambda file, **_: files["int8_ptq"])
    with pytest.raises(ConversionError, match="does not give the same answers as the file without"):
        android_bundle(files["int8"], tmp_path / "b", "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing(files, tmp_path, monkeypatch, existing):
    out, written = tmp_path / "deep" / "b", []
    if existing:
        out.mkdir(parents=True)
        (out / "labels.txt").write_text("mine")

    def write(path, data):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return original(path, data)

    original = pathlib.Path.write_bytes
    monkeypatch.setattr(pathlib.Path, "write_bytes", write)
    with pytest.raises(InputError, match=r"Cannot write .*b': No space left on device"):
        android_bundle(files["int8"], out, "digits", DIGITS, force=existing)
    assert len(written) == 2
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert left == (["deep/b/labels.txt"] if existing else [])
    if existing:
        assert (out / "labels.txt").read_text() == "mine"


def test_a_folder_with_files_is_left_alone_unless_forced(files, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        android_bundle(files["int8"], tmp_path, "digits")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    bundle = android_bundle(files["int8"], tmp_path, "digits", force=True)
    assert (tmp_path / "notes.txt").exists() and (tmp_path / "digits.tflite").exists()
    assert "No normalization was given" in text(bundle, "README.md")
