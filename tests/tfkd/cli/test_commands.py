"""`tfkd export`, `inspect` and `verify`: what they print, write and return."""

import json
import logging
import pathlib
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_models import dense

from tfkd.cli import commands, console, parser
from tfkd.cli.parser import main
from tfkd.errors import ConversionError, argument
from tfkd.export import RecurrentForm, TFLiteModel, to_tflite
from tfkd.export.conversion import form_costs, formats
from tfkd.export.conversion import to_tflite as conversion
from tfkd.export.conversion.recurrent import choice
from tfkd.export.runtime import interpreter

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture(autouse=True)
def loggers():
    """The commands silence TensorFlow's loggers; other tests listen to them."""
    names = ("tensorflow", "absl")
    levels = [logging.getLogger(name).level for name in names]
    yield
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits, student, files):
    """A folder of a user's: models, data and an int8 file."""
    place = tmp_path_factory.mktemp("place")
    arrays = {
        "x_train": digits.train.x,
        "y_train": digits.train.y,
        "x_test": digits.test.x,
        "y_test": digits.test.y,
    }
    np.savez(place / "digits.npz", **arrays)
    np.savez(place / "few.npz", **{**arrays, "x_train": arrays["x_train"][:6], "y_train": range(6)})
    np.savez(place / "shape.npz", **{**arrays, "x_train": arrays["x_train"][:, :4]})
    np.savez(place / "labels.npz", **{**arrays, "y_test": arrays["y_test"] + 50})
    np.savez(place / "text.npz", **{**arrays, "y_test": arrays["y_test"].astype(str)})
    np.savez(place / "none.npz", a=np.zeros(3))
    (place / "broken.npz").write_bytes((place / "digits.npz").read_bytes()[:5000])
    student.save(place / "student.keras")
    (place / "broken.keras").write_bytes((place / "student.keras").read_bytes()[:5000])
    files["int8_ptq"].save(place / "student.tflite")
    (place / "text.tflite").write_text("hello")
    (place / "text.txt").write_text("hello")
    student.export(place / "signature", verbose=False)
    inputs = [keras.Input((2,), name="a"), keras.Input((3,), name="b")]
    joined = keras.layers.Concatenate()(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(joined), name="two").save(place / "two.keras")
    return place


@pytest.fixture
def tfkd(place, monkeypatch, capsys):
    """Run a command in the user's folder; what it leaves there is put away afterwards."""
    monkeypatch.chdir(place)
    before = set(place.rglob("*"))

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code
        out, err = capsys.readouterr()
        run.written = {path.name for path in set(place.rglob("*")) - before}
        return status, out, err

    yield run
    for path in sorted(set(place.rglob("*")) - before, reverse=True):  # folders last
        path.rmdir() if path.is_dir() else path.unlink()


def test_the_choices_are_those_of_the_package():
    assert parser.FORMATS == formats.FORMATS
    assert parser.RECURRENT == choice.FORMS
    assert ("auto", *interpreter.ENGINES) == parser.ENGINES


def test_export_writes_the_file_and_says_what_it_is(tfkd):
    status, out, err = tfkd("export", "student.keras", "--data", "digits.npz")
    assert (status, err, tfkd.written) == (0, "", {"student_int8.tflite"})
    file = TFLiteModel.load("student_int8.tflite")
    assert file.integer_only
    lines = out.splitlines()
    assert lines[0] == "student_int8.tflite"
    assert out.startswith(f"student_int8.tflite\n{file.describe()}\npassed on 360 examples, run by")
    assert any(line.startswith("accuracy: 0.9") for line in lines)


def test_export_in_json(tfkd):
    status, out, err = tfkd(
        *("export", "student.keras", "--format", "float32", "--data", "digits.npz"),
        *("--out", "there.tflite", "--engine", "reference", "--batch", "2", "--json"),
    )
    assert (status, err, tfkd.written) == (0, "", {"there.tflite"})
    told = json.loads(out)
    assert (told["path"], told["format"], told["recurrent_forms"]) == (
        "there.tflite",
        "float32",
        [],
    )
    assert told["verification"]["passed"] and told["verification"]["engine"] == "reference"
    assert told["inputs"][0]["shape"] == [2, 8, 8, 1]
    file = json.loads(json.dumps(TFLiteModel.load("there.tflite").to_json()))
    assert {key: told[key] for key in file} == file


def test_export_quietly_over_an_old_file(tfkd):
    pathlib.Path("student_float16.tflite").write_text("old")
    arguments = ("export", "student.keras", "--format", "float16", "--quiet", "--force")
    assert tfkd(*arguments) == (0, "", "")
    assert pathlib.Path("student_float16.tflite").read_bytes() != b"old"


def test_the_file_of_a_link_has_the_name_of_the_link(tfkd, place):
    (place / "latest.keras").symlink_to("student.keras")
    assert tfkd("export", "latest.keras", "--format", "float32", "--quiet") == (0, "", "")
    assert tfkd.written == {"latest.keras", "latest_float32.tflite"}


def test_export_of_a_quantize_aware_h5_needs_no_data(tfkd, qat, files, tmp_path):
    qat.save(tmp_path / "qat.h5")
    status, out, err = tfkd("export", tmp_path / "qat.h5")
    assert (status, err, tfkd.written) == (0, "", {"qat_int8.tflite"})
    assert out.endswith("not verified: --data was not given\n")
    assert pathlib.Path("qat_int8.tflite").read_bytes() == files["int8"].data


def test_export_for_a_microcontroller_is_verified_by_its_engine(tfkd):
    pytest.importorskip("tflite_micro")
    arguments = ("--data", "digits.npz", "--micro", "--engine", "tflm", "--out", "o.tflite")
    status, out, err = tfkd("export", "student.keras", *arguments)
    assert (status, err) == (0, "")
    assert "passed on 360 examples, run by tflm" in out
    assert out.splitlines()[-1] == "exit status 0: verification by tflm passed"


def test_export_of_savedmodels(tfkd, tmp_path):
    status, out, err = tfkd("export", "signature/", "--data", "digits.npz")
    assert (status, err, tfkd.written) == (0, "", {"signature_int8.tflite"})
    assert "passed on 360 examples" in out
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 1)), tf_keras.layers.Flatten()])
    model.add(tf_keras.layers.Dense(10))
    model.save(tmp_path / "layers")
    status, out, _ = tfkd(
        "export", tmp_path / "layers", "--format", "float32", "--data", "digits.npz"
    )
    assert status == 0 and "passed on 360 examples" in out


def test_export_of_a_named_signature_is_verified_against_it(tfkd, tmp_path):
    spec = tf.TensorSpec((None, 8, 8, 1), tf.float32, "x")
    module = tf.Module()
    module.mean = tf.function(lambda x: {"y": tf.reduce_mean(x, (1, 2))}, input_signature=[spec])
    module.most = tf.function(lambda x: {"y": tf.reduce_max(x, (1, 2))}, input_signature=[spec])
    tf.saved_model.save(module, tmp_path / "two", {"mean": module.mean, "most": module.most})
    arguments = (tmp_path / "two", "--data", "digits.npz", "--signature", "most")
    status, out, _ = tfkd("export", *arguments, "--out", "most.tflite", "--engine", "reference")
    assert status == 0 and "passed on 360 examples, run by reference" in out
    assert tfkd("verify", "most.tflite", *arguments)[0] == 0
    assert tfkd("verify", "most.tflite", *arguments[:-1], "mean")[0] == 1
    status, _, err = tfkd("export", *arguments[:-1], "least")
    assert status == 2 and "has no signature 'least'; there are" in err


def test_a_free_size_is_given_by_shape(tfkd, tmp_path):
    keras.utils.set_random_seed(2)  # of some weights the answers hardly differ
    i = keras.Input((None, 8, 1), name="rows")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(10, 3)(i))
    keras.Model(i, pooled).save(tmp_path / "free.keras")
    arguments = ("export", tmp_path / "free.keras", "--data", "digits.npz", "--json")
    status, out, _ = tfkd(*arguments, "--shape", "rows=1,8,?,1", "--out", "free.tflite")
    assert status == 0 and json.loads(out)["inputs"][0]["shape"] == [1, 8, 8, 1]
    status, _, err = tfkd(*arguments, "--shape", "rows=1,9,8,1", "--out", "nine.tflite")
    assert (
        status == 2
        and "--shape gives 'rows' the sizes 1, 9, 8, 1, but x_train has the shape" in err
    )
    assert "free.tflite" in tfkd.written and "nine.tflite" not in tfkd.written


def test_export_leaves_layers_float(tfkd):
    arguments = ("--data", "digits.npz", "--out", "o.tflite", "--skip", "logits", "--json")
    status, out, _ = tfkd("export", "student.keras", *arguments)
    assert status == 0 and not json.loads(out)["integer_only"]


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory):
    """A model whose answers differ by less than a step of any int8 output, and its data."""
    folder = tmp_path_factory.mktemp("hopeless")
    model = dense(keras)
    model.set_weights([model.get_weights()[0], np.array([1e4, 1e4, 1e4], "float32")])
    model.save(folder / "m.keras")
    x = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    y = model.predict(x, verbose=0).argmax(-1)
    np.savez(folder / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder


@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_an_export_that_fails_to_verify_is_written_and_says_so(tfkd, hopeless, how):
    arguments = ("--data", hopeless / "d.npz", "--out", "o.tflite", how)
    status, out, err = tfkd("export", hopeless / "m.keras", *arguments)
    assert (status, tfkd.written) == (1, {"o.tflite"})
    assert err.startswith("verification failed: d: same class ") and err.count("\n") == 1
    assert err.endswith("; tfkd verify --layers shows which layer causes it\n")
    if how == "--json":
        assert json.loads(out)["verification"]["passed"] is False
    else:
        assert out == ""


@pytest.mark.slow
def test_export_tells_what_the_forms_of_recurrence_cost(tfkd, tmp_path):
    layers = [keras.Input((3, 2)), keras.layers.GRU(2, name="gru"), keras.layers.Dense(2)]
    keras.Sequential(layers).save(tmp_path / "gru.keras")
    arguments = ("export", tmp_path / "gru.keras", "--format", "float32")
    status, out, err = tfkd(*arguments)
    assert (status, err) == (0, "")
    assert "note   --recurrent auto chose loop for gru; recurrent_forms() in Python shows" in out
    table = out.splitlines()[out.splitlines().index(next(filter(_is_head, out.splitlines()))) :]
    assert [line.split()[0] for line in table[1:5]] == ["fused", "unrolled", "loop", "step"]
    assert table[1].endswith("  The layer 'gru' (GRU) has no fused kernel")
    assert table[3].startswith("loop (taken) ")
    status, out, err = tfkd(*arguments, "--out", "step.tflite", "--recurrent", "step", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["states"] == [["state_in_0", "state_out_0"]]
    assert json.loads(out)["recurrent_forms"] == []


def test_a_file_is_written_before_the_forms_of_recurrence_are_compared(tfkd, monkeypatch):
    def failing(*args, **kwargs):
        raise ConversionError("No form.")

    monkeypatch.setattr(form_costs, "recurrent_forms", failing)
    status, out, err = tfkd("export", "student.keras", "--format", "float32")
    assert (status, out, err) == (2, "", "error: No form.\n")
    assert tfkd.written == {"student_float32.tflite"}


def _is_head(line):
    return line.startswith("recurrence ")


def test_the_table_of_forms_stays_in_a_hundred_columns():
    long = "Converting 'm' to int8 left 9 tensors in floating point (" + 30 * "name, " + "...)"
    forms = [
        RecurrentForm("fused", True, 3, 123456789, 45678, 123456, True),
        RecurrentForm("loop", False, error=long),
        RecurrentForm(
            "step", False, error="The layer 'x' reads from its end, so the model has none; take it."
        ),
    ]
    head, fused, loop, step = commands._table_of_forms(forms).splitlines()
    assert head == "recurrence     ops        bytes  activations    arena  µs"
    assert fused.split("  ")[-1] == "keeps its state: reset it" and "123,456,789" in fused
    assert len(loop) == 100 and loop.endswith("…")
    assert step.endswith("  The layer 'x' reads from its end")
    assert commands._table_of_forms([]) == ""


def test_warnings_of_ours_are_lines_on_stderr(tfkd):
    arguments = ("export", "student.keras", "--data", "few.npz", "--force")
    _, out, err = tfkd(*arguments, "--json")
    json.loads(out)
    assert err.startswith(
        "warning: The ranges come from 5 examples of x_train of --data; give 100 to 500"
    )
    assert err.count("\n") == err.count("warning: ") + err.count("verification failed: ")
    _, _, err = tfkd(*arguments, "--quiet")
    assert "warning" not in err


def test_text_labels_are_scored_as_their_numbers_are(tfkd, place, digits):
    """Of these ten texts the alphabetical order is that of the numbers."""
    labels = {f"y_{part}": getattr(digits, part).y.astype(str) for part in ("train", "test")}
    np.savez(place / "texts.npz", x_train=digits.train.x, x_test=digits.test.x, **labels)
    verify = ("verify", "student.tflite", "student.keras", "--data")
    told = tfkd(*verify, "texts.npz")
    assert told == tfkd(*verify, "digits.npz") and "accuracy" in told[1]


def test_several_outputs_are_compared_and_not_scored(tfkd, tmp_path):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    outputs = [keras.layers.Dense(n, name=f"out{n}")(flat) for n in (2, 3)]
    keras.Model(inputs, outputs).save(tmp_path / "m.keras")
    to_tflite(tmp_path / "m.keras").save(tmp_path / "m.tflite")
    status, out, err = tfkd(
        "verify", tmp_path / "m.tflite", tmp_path / "m.keras", "--data", "digits.npz"
    )
    assert status == 0 and "out2: " in out and "out3: " in out
    assert err == "warning: Nothing is scored: y_test labels one output, but the model has 2.\n"


def test_inspect_a_tflite_file(tfkd, files):
    assert tfkd("inspect", "student.tflite") == (0, files["int8_ptq"].describe() + "\n", "")
    assert tfkd("inspect", "student.tflite", "--quiet") == (0, "", "")
    status, out, err = tfkd("inspect", "student.tflite", "--json")
    want = {"path": "student.tflite", **files["int8_ptq"].to_json()}
    assert (status, json.loads(out), err) == (0, json.loads(json.dumps(want)), "")


def test_signatures_are_listed_and_verified_against(tfkd):
    status, out, err = tfkd("inspect", "signature")
    assert (status, err) == (0, "") and "signature 'serving_default'\n  input  pixels f" in out
    told = json.loads(tfkd("inspect", "signature", "--json")[1])
    assert "serving_default" in told["signatures"]
    arguments = ("verify", "student.tflite", "signature", "--data", "digits.npz")
    status, out, err = tfkd(*arguments)
    assert (status, err) == (0, "") and out.startswith("passed on 360 examples")


def test_inspect_a_keras_model(tfkd, student, tmp_path):
    status, out, err = tfkd("inspect", "student.keras")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split() == ["layer", "class", "parameters", "MACs"]
    assert out.splitlines()[-1].split() == ["all", f"{student.count_params():,}", "23,200"]
    tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)]).save(tmp_path / "saved")
    status, out, err = tfkd("inspect", tmp_path / "saved", "--json")
    assert (status, json.loads(out)["parameters"], err) == (0, 10, "")


def test_inspect_a_tflite_file_is_quick_and_imports_no_tensorflow(place):
    command = [sys.executable, "-X", "importtime", "-m", "tfkd", "inspect", "student.tflite"]
    start = time.monotonic()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 3  # 0.2 s on an idle machine
    assert "CONV_2D" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "numpy" in imported and not {"tensorflow", "keras", "tf_keras"} & imported


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_verify(tfkd, engine):
    arguments = ("verify", "student.tflite", "student.keras", "--data", "digits.npz")
    status, out, err = tfkd(*arguments, "--engine", engine)
    ran = {"auto": "xnnpack"}.get(engine, engine)
    assert (status, err) == (0, "")
    assert out.startswith(f"passed on 360 examples, run by {ran}\nlogits: same class ")
    assert tfkd(*arguments, "--engine", engine, "--quiet") == (0, "", "")


def test_verify_layer_by_layer_speaks_of_options(tfkd, hopeless):
    arguments = ("verify", "student.tflite", "student.keras", "--data", "digits.npz", "--layers")
    status, out, err = tfkd(*arguments)
    assert (status, err) == (0, "")
    assert " clipped " in out and " CONV_2D " in out and "to_tflite" not in out
    arguments = ("--data", hopeless / "d.npz", "--out", "o.tflite", "--quiet")
    assert tfkd("export", hopeless / "m.keras", *arguments)[0] == 1
    arguments = ("o.tflite", hopeless / "m.keras", "--data", hopeless / "d.npz", "--layers")
    status, out, err = tfkd("verify", *arguments)
    assert status == 1 and "to_tflite" not in out and " --skip " in out


def test_verify_fails_with_another_model(tfkd, teacher, tmp_path):
    keras.utils.set_random_seed(9)
    other = keras.models.clone_model(teacher)
    other.save(tmp_path / "other.keras")
    arguments = ("verify", "student.tflite", tmp_path / "other.keras", "--data", "digits.npz")
    status, out, err = tfkd(*arguments)
    assert status == 1 and out.startswith("FAILED on 360 examples")
    assert err.startswith("verification failed: logits: same class ") and err.count("\n") == 1
    status, out, err = tfkd(*arguments, "--json")
    told = json.loads(out)
    assert (status, told["passed"], told["path"]) == (1, False, "student.tflite")


def test_a_threshold_is_the_users(tfkd, student, rng, tmp_path):
    near = keras.models.clone_model(student)
    near.set_weights([w + 0.03 * w.std() * rng.normal(size=w.shape) for w in student.get_weights()])
    near.save(tmp_path / "near.keras")
    arguments = ("verify", "student.tflite", tmp_path / "near.keras", "--data", "digits.npz")
    arguments = (*arguments, "--json")
    agreement = json.loads(tfkd(*arguments)[1])["argmax_agreement"]
    assert 0.8 < agreement < 1
    assert tfkd(*arguments, "--threshold", agreement)[0] == 0
    assert tfkd(*arguments, "--threshold", 1)[0] == 1


EXPORT = "export student.keras --format float32 --out new.tflite "
INT8 = "export student.keras --out new.tflite "
VERIFY = "verify student.tflite student.keras --data "


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("export none.keras --format float32", "There is no model at 'none.keras'."),
        ("export text.txt --format float32", "tfkd reads .keras, .h5, .hdf5 and SavedModel"),
        ("export student.tflite", "already converted: give --micro, --android or --web to"),
        ("export student.tflite --web --format int8 --skip a", "leave out --format, --skip, or"),
        ("export student.tflite --web --out student.keras", "'student.keras' exists; name"),
        ("export text.tflite --web", "'text.tflite' is not a .tflite file"),
        ("export none.tflite --web", "Cannot read 'none.tflite': No such file"),
        ("export broken.keras --format float32", "The model 'broken.keras' can't be read: "),
        ("export {empty} --format float32", "holds no SavedModel"),
        ("export student.keras --format int9", "--format: invalid choice: 'int9' (choose from"),
        (EXPORT + "--recurrent spun", "--recurrent: invalid choice: 'spun'"),
        (EXPORT + "--engine none", "--engine: invalid choice: 'none'"),
        (EXPORT + "--engine tflm", "--engine chooses the interpreter that verifies the file"),
        (
            "export signature --format float32 --engine tflm",
            "--engine chooses the interpreter that",
        ),
        (EXPORT + "--shape pixels", "--shape: must be an input's name and its sizes, the batch"),
        (EXPORT + "--shape pixels=1,0,8", "--shape: must be an input's name and its sizes"),
        (EXPORT + "--shape other=1,8,8,1", "--shape has the unknown names 'other'; the inputs"),
        (EXPORT + "--shape pixels=1,9,8,1", "--shape must give 'pixels' a size for each of"),
        (EXPORT + "--shape a=1 --shape a=2", "--shape gives the input 'a' several shapes"),
        ("verify student.tflite student.keras --data digits.npz --signature a", "--signature a is"),
        (EXPORT + "--batch 0", "--batch: must be a whole number of at least 1, got '0'"),
        (EXPORT + "--out {empty}", "is a folder; name a file."),
        (EXPORT + "--out none/x.tflite", "There is no folder"),
        (EXPORT + "--out /proc/x.tflite", "Cannot write '/proc/x.tflite'"),
        (EXPORT + "--out student.tflite", "'student.tflite' exists; name another file, or"),
        (EXPORT + "--out student.keras --force", "'student.keras' is an input file"),
        (INT8 + "--data digits.npz --out digits.npz --force", "'digits.npz' is an input file"),
        (EXPORT + "--float-io", "--float-io is for integer files"),
        (
            EXPORT + "--uint8-io",
            "--uint8-io is for int8 files, and not with --float-io; got float32",
        ),
        (INT8 + "--data digits.npz --skip (", "--skip '(' is not a regular expression"),
        (EXPORT + "--signature a", "'student.keras' has no signatures; --signature is for Saved"),
        (EXPORT + "--skip logits", "--skip leaves layers in float in int8 files only"),
        (
            EXPORT + "--recurrent fused",
            "--recurrent fused, but the model 'student' has no recurrent",
        ),
        (EXPORT + "--micro --allow-flex", "--micro takes TFLite's own operators only: leave"),
        ("export student.keras --format int4 --micro", "Microcontrollers run float32, int8 and"),
        (INT8, "int8 takes the range of every activation from examples: give --data"),
        (INT8 + "--data none", "There is no file 'none' for --data."),
        (INT8 + "--data {empty}", "for --data."),
        (INT8 + "--data none.npz", "none.npz has no array 'x_train'; "),
        (INT8 + "--data broken.npz", "Cannot read 'broken.npz' as .npz"),
        (INT8 + "--data text.txt", "Cannot read 'text.txt' as .npz"),
        (INT8 + "--data shape.npz", "x_train of --data for input 'pixels' must have"),
        (INT8 + "--data digits.npz --skip nothing", "--skip 'nothing' matches no layer; the"),
        (INT8 + "--data labels.npz", "class numbers run from 0 to 9, got 50 to 59"),
        ("export two.keras --data digits.npz", "'two' has 2 inputs (a, b), but an .npz file has"),
        ("inspect none.tflite", "Cannot read 'none.tflite': No such file"),
        ("inspect none.h5", "There is no model at 'none.h5'."),
        ("inspect text.tflite", "'text.tflite' is not a .tflite file"),
        ("inspect broken.keras", "The model 'broken.keras' can't be read: "),
        ("inspect {empty}", "holds no SavedModel"),
        (VERIFY + "labels.npz", "class numbers run from 0 to 9, got 50 to 59"),
        (VERIFY + "text.npz", "test in text.npz: its labels are texts, but those of train are nu"),
        (VERIFY + "none", "There is no file 'none' for --data."),
        (VERIFY + "digits.npz --threshold 2", "--threshold: must lie between 0 and 1, got '2'"),
        (VERIFY + "digits.npz --engine none", "--engine: invalid choice: 'none'"),
        ("verify student.tflite student.keras", "required: --data"),
        ("verify student.keras student.tflite --data digits.npz", "is not a .tflite file"),
        ("verify student.tflite two.keras --data digits.npz", "'two' has 2 inputs (a, b)"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(tfkd, line, message, tmp_path):
    status, out, err = tfkd(*line.format(empty=tmp_path).split())
    assert (status, out, tfkd.written) == (2, "", set())
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err
    # NumPy's own, that makes such a file, is Python for everybody.
    assert (
        not re.search(r"(?<![\w.-])[a-z]\w*=(?!\.\.\.|\d)", err)
        and "representative_data" not in err
    )


def test_an_unregistered_class_sends_to_python(tfkd, tmp_path):
    class Stranger(keras.layers.Layer):
        pass

    keras.Sequential([keras.Input((4,)), Stranger()]).save(tmp_path / "m.keras")
    status, _, err = tfkd("inspect", tmp_path / "m.keras")
    assert status == 2 and "class 'Stranger', which is not registered" in err
    assert err.endswith("(the command line imports no module: do it in Python).\n")


def test_ctrl_c_is_status_130_and_nothing_is_written(tfkd, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "to_tflite", interrupted)
    status, out, err = tfkd("export", "student.keras", "--format", "float32")
    assert (status, out, err) == (130, "", "interrupted; nothing was written\n")
    assert tfkd.written == set()


def test_a_conversion_that_fails_is_one_line_and_status_2(tfkd, monkeypatch):
    def failing(*args, **kwargs):
        assert kwargs["timeout"] == 7.0
        larger, step = argument("timeout"), argument("recurrent", "step")
        raise ConversionError(f"It failed. Give a larger {larger}, or {step}.")

    monkeypatch.setattr(conversion, "to_tflite", failing)
    status, out, err = tfkd("export", "student.keras", "--format", "float32", "--timeout", "7")
    assert (status, out, tfkd.written) == (2, "", set())
    assert err == "error: It failed. Give a larger --timeout, or --recurrent step.\n"


def test_json_has_no_nan(capsys):
    console.print_json({"a": [float("nan"), (1.5, float("-inf"))], "b": None, "c": 3})
    assert json.loads(capsys.readouterr().out) == {"a": [None, [1.5, None]], "b": None, "c": 3}


@pytest.mark.slow
def test_a_process_prints_the_json_and_nothing_else(place, tmp_path):
    """TensorFlow writes to the file descriptors, which the tests above don't see."""
    command = [sys.executable, "-m", "tfkd", "export", "student.keras", "--data", "digits.npz"]
    command += ["--out", str(tmp_path / "o.tflite"), "--json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["verification"]["passed"]
