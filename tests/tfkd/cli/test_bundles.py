"""`tfkd export --micro`, `--android`, `--web`: the folders beside the file, and its verdict."""

import json
import zipfile

import keras
import numpy as np
import pytest

from tfkd.cli.parser import main
from tfkd.export import read_metadata, to_tflite
from tfkd.export.micro import evaluation
from tfkd.export.tflite.model import TFLiteModel

needs_tflm = pytest.mark.skipif(
    not evaluation.is_installed(), reason="tflite-micro is not installed"
)


@pytest.fixture
def place(student, digits, tmp_path, monkeypatch):
    """A folder of a user's: a model, data, names of the classes."""
    student.save(tmp_path / "student.keras")
    split = {"x_train": digits.train.x, "y_train": digits.train.y}
    np.savez(tmp_path / "d.npz", **split, x_test=digits.test.x[:50], y_test=digits.test.y[:50])
    (tmp_path / "classes.txt").write_text("".join(f"digit {i}\n" for i in range(10)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_tflm
def test_both_bundles_stand_beside_the_file(place, capsys):
    arguments = ["student.keras", "--data", "d.npz", "--micro", "--android", "--json"]
    more = ["--classes", "classes.txt", "--mean", "0", "--std", "16", "--board", "pico"]
    assert main(["export", *arguments, *more]) == 0
    told = json.loads(capsys.readouterr().out)
    config = (place / "student_int8_micro" / "student_int8_config.h").read_text()
    assert '"digit 9"' in config and "kPreprocessingStd" in config
    assert f"student_int8_ARENA_BYTES {told['micro']['arena_bytes']}" in config
    assert told["micro"]["proof"]["metrics"]["accuracy"] > 0.9
    assert [verdict["resource"] for verdict in told["fits"]] == ["flash", "ram"]
    android = place / "student_int8_android"
    labels = (android / "labels.txt").read_text().splitlines()
    assert labels == [f"digit {i}" for i in range(10)]
    for name in ("student_int8.tflite", "student_int8_float16.tflite"):
        with zipfile.ZipFile(android / name) as archive:
            assert archive.read("labels.txt").decode().splitlines() == labels
        assert "digit 3" in json.dumps(read_metadata(TFLiteModel.load(android / name)))


@needs_tflm
def test_the_arena_is_the_one_that_the_chip_was_measured_to_need(place, capsys):
    arguments = ["student.keras", "--data", "d.npz", "--micro", "--arena", "2k", "--ram", "2k"]
    assert main(["export", *arguments]) == 0
    out, err = capsys.readouterr()
    assert "warning: --arena 2048 is less than the" in err and "arena in the C++: 2,048" in out
    config = (place / "student_int8_micro" / "student_int8_config.h").read_text()
    assert "#define student_int8_ARENA_BYTES 2048\n" in config


@needs_tflm
def test_what_does_not_fit_is_status_1_and_is_written_all_the_same(place, capsys):
    arguments = ["student.keras", "--data", "d.npz", "--micro", "--ram", "1k", "--flash", "1M"]
    assert main(["export", *arguments]) == 1
    out, err = capsys.readouterr()
    assert "flash: fits" in out and "ram: DOES NOT FIT" in out
    assert "\non TensorFlow Lite for Microcontrollers, run here:\narena: " in out
    *_, last = out.splitlines()
    said = (
        "exit status 1: verification by xnnpack passed, and the model DOES NOT FIT; --engine tflm"
    )
    assert last == f"{said} verifies on TensorFlow Lite for Microcontrollers instead"
    assert "does not fit: ram" in err and "flash" not in err
    assert (place / "student_int8_micro" / "main.cc").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a"], "need --micro, --android or --web"),
        (["--flash", "1k"], "need --micro"),
        (["--android", "--arena", "4k"], "--arena needs --micro"),
        (["--micro", "--arena", "lots"], "got 'lots'"),
        (["--project", "cmake"], "--project cmake needs --micro"),
        (["--android", "--project", "cmake"], "--project cmake needs --micro"),
        (["--web", "--project", "gradle"], "--project gradle needs --android"),
        (["--micro", "--project", "platformio"], "PlatformIO builds for one board: give --board"),
        (
            ["--micro", "--project", "esp-idf", "--board", "pico"],
            "no name for Raspberry Pi Pico in",
        ),
        (["--micro", "--project", "stm32", "--board", "pico"], "has no STM32"),
        (["--micro", "--project", "arduino", "--name", "n" * 58], "but Arduino accepts library"),
        (["--micro", "--project", "cmake", "--board", "android-mpc-13"], "leave --board out"),
        (["--micro", "--flash", "much"], "much"),
        (["--micro", "--board", "abacus"], "abacus"),
        (["--android", "--classes", "none.txt"], "Cannot read the class names in 'none.txt'"),
        (["--android", "--classes", "nine.txt"], "9"),
        (["--android", "--name", "my-model"], "try 'my_model'"),
        (["--android", "--mean", "0", "--std", "0"], "--std above 0"),
        (["--micro"], "--micro writes into"),
    ],
)
def test_bad_input_is_one_line_and_status_2(place, capsys, arguments, message):
    if "--micro" in arguments and not evaluation.is_installed():
        pytest.skip("tflite-micro is not installed")
    (place / "nine.txt").write_text("a\nb\nc\nd\ne\nf\ng\nh\ni\n")
    (place / "student_int8_micro").mkdir()
    (place / "student_int8_micro" / "mine.txt").write_text("the user's")
    assert main(["export", "student.keras", "--data", "d.npz", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert (place / "student_int8_micro" / "mine.txt").read_text() == "the user's"
    assert not (place / "student_int8_android").exists()
    assert not list(place.glob("*_micro/main.cc"))


@needs_tflm
def test_a_project_for_a_board(place, capsys):
    arguments = ["student.keras", "--data", "d.npz", "--micro", "--project", "platformio"]
    assert main(["export", *arguments, "--board", "Pico", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["micro"]
    assert told["project"] == "platformio" and "src/main.cpp" in told["files"]
    assert "board = pico\n" in (place / "student_int8_micro" / "platformio.ini").read_text()
    more = ["--force", "--board", "nucleo-l073rz", "--ram", "1k"]
    assert main(["export", *arguments, *more]) == 1  # it fits the board, and not --ram
    assert "ram has 1,024 bytes" in capsys.readouterr().err


def test_an_app_and_a_page(place, capsys):
    more = ["--classes", "classes.txt", "--mean", "0", "--std", "16"]
    arguments = ["student.keras", "--data", "d.npz", "--web", "--android", "--project", "gradle"]
    assert main(["export", *arguments, *more]) == 0
    said = capsys.readouterr().out
    assert "a project for gradle" in said and "npm install && python -m http.server" in said
    app = place / "student_int8_android/app/src/main/assets"
    names = {"student_int8.tflite", "student_int8_float16.tflite", "labels.txt", "golden.json"}
    assert {path.name for path in app.iterdir()} == names
    told = json.loads((place / "student_int8_web/model.json").read_text())
    assert told["outputs"][0]["labels"][3] == "digit 3" and told["inputs"][0]["std"] == [16.0]
    fused = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(5), keras.layers.Dense(3)])
    fused.save(place / "lstm.keras")
    arguments = ["lstm.keras", "--format", "float32", "--recurrent", "fused", "--web"]
    assert main(["export", *arguments]) == 2
    assert "convert with --recurrent loop" in capsys.readouterr().err
    assert not (place / "lstm_float32_web").exists()


@needs_tflm
def test_after_a_failed_verification_each_readme_says_so_first(place, capsys, digits):
    """Ranges from other data than the model sees: the files are written, and lose it."""
    split = {"x_train": 1e-3 * digits.train.x, "y_train": digits.train.y}
    np.savez(place / "d.npz", **split, x_test=digits.test.x[:50], y_test=digits.test.y[:50])
    arguments = ["student.keras", "--data", "d.npz", "--micro", "--android", "--web", "--json"]
    assert main(["export", *arguments]) == 1
    (parity,) = json.loads(capsys.readouterr().out)["verification"]["outputs"]
    agreement = f"same class {parity['argmax_agreement']:.2%} (at least 98.00% wanted)"
    for kind in ("micro", "android", "web"):
        readme = (place / f"student_int8_{kind}" / "README.md").read_text()
        _, said, _ = readme.split("\n\n", 2)
        said = said.replace("\n", " ").replace("\\", "")
        assert (
            said.startswith("**VERIFICATION FAILED (xnnpack, 50 examples): ") and agreement in said
        )
    np.savez(
        place / "d.npz",
        **{**split, "x_train": digits.train.x},
        x_test=digits.test.x[:50],
        y_test=digits.test.y[:50],
    )
    assert main(["export", *arguments, "--force"]) == 0
    for kind in ("micro", "android", "web"):
        assert "FAILED" not in (place / f"student_int8_{kind}" / "README.md").read_text()


def test_the_folders_of_a_file_that_is_converted_already(place, files, capsys):
    (place / "made").mkdir()
    files["int8"].save(place / "made" / "net.tflite")
    more = ["--data", "d.npz", "--classes", "classes.txt", "--json"]
    kinds = ["--android", "--web", *(["--micro"] if evaluation.is_installed() else [])]
    assert main(["export", "made/net.tflite", *kinds, *more]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["format"], told["verification"]) == ("made/net.tflite", None, None)
    assert told["android"]["models"][0]["metrics"]["accuracy"] > 0.9
    folders = {path.name for path in place.iterdir() if path.is_dir()}
    assert folders == {"made", "net_android", "net_web"} | {"net_micro"} & folders
    assert ("net_micro" in folders) == evaluation.is_installed()
    assert not (place / "net.tflite").exists() and (place / "net_android/net.tflite").exists()
    assert main(["export", "made/net.tflite", "--web", "--out", "other.tflite"]) == 0
    assert "not verified: tfkd verify compares" in capsys.readouterr().out
    assert (place / "other.tflite").read_bytes() == files["int8"].data
    assert (place / "other_web" / "other.tflite").exists()


def test_labels_of_other_outputs_than_the_file_has_are_left_out_with_a_warning(place, capsys):
    x = inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(x)
    net = keras.Model(inputs, [keras.layers.Dense(10)(x), keras.layers.Dense(2)(x)])
    to_tflite(net, "float32").save(place / "two.tflite")
    assert main(["export", "two.tflite", "--web", "--data", "d.npz"]) == 0
    said = "warning: The labels are for one output, but the file has 2: the golden example has no"
    assert said in capsys.readouterr().err


def test_a_step_file_and_its_twin_for_the_gpu(place, capsys):
    inputs = keras.Input((6, 4))
    outputs = keras.layers.Dense(3)(keras.layers.GRU(5)(inputs))
    keras.Model(inputs, outputs).save(place / "my gru (1).keras")
    rows = np.random.default_rng(0).normal(size=(40, 6, 4)).astype("float32")
    labels = np.arange(40) % 3
    np.savez(place / "s.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    arguments = ["my gru (1).keras", "--data", "s.npz", "--recurrent", "step", "--android"]
    assert main(["export", *arguments]) in (0, 1)
    folder = place / "my gru (1)_int8_android"
    assert (folder / "my_gru_1_int8.tflite").exists()
    assert (folder / "my_gru_1_int8_float16.tflite").exists()


def test_a_quantize_aware_model_has_no_float16_twin(place, qat, capsys):
    with pytest.warns(UserWarning, match="HDF5"):
        qat.save(place / "qat.h5")
    assert main(["export", "qat.h5", "--android"]) == 0
    assert "warning: There is no float16 file for the GPU" in capsys.readouterr().err
    files = {path.name for path in (place / "qat_int8_android").glob("*.tflite")}
    assert files == {"qat_int8.tflite"}


@needs_tflm
def test_a_bundle_that_fails_takes_the_other_with_it_and_leaves_the_file(place, capsys):
    arguments = ["student.keras", "--data", "d.npz", "--micro", "--android"]
    (place / "few.txt").write_text("a\nb\n")
    assert main(["export", *arguments, "--classes", "few.txt"]) == 2
    assert "The file was written, but not the bundle" in capsys.readouterr().err
    made = {path.name for path in place.iterdir()}
    assert "student_int8.tflite" in made and not {
        n for n in made if n.endswith(("_micro", "_android"))
    }
    assert main(["export", *arguments, "--mean", "1", "2", "3", "--force"]) == 2


@needs_tflm
def test_old_bundles_are_replaced_when_asked(place):
    (place / "student_int8_micro").mkdir()
    (place / "student_int8_micro" / "main.cc").write_text("old")
    assert main(["export", "student.keras", "--data", "d.npz", "--micro", "--force"]) == 0
    assert "golden" in (place / "student_int8_micro" / "main.cc").read_text()
