"""`tfkd compress`, `tfkd distill` and `tfkd prune`: what they write, print and return."""

import importlib.util
import json
import logging

import keras
import numpy as np
import pytest

import tfkd
from tfkd.cli import training
from tfkd.cli.parser import main
from tfkd.compression.recipe import Call
from tfkd.compression.settings import trained_by
from tfkd.loading.models import load_model


@pytest.fixture(autouse=True)
def quiet():
    """The commands silence TensorFlow's loggers."""
    levels = {name: logging.getLogger(name).level for name in ("tensorflow", "absl")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a teacher that knows everything, a student, and data."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    teacher.set_weights([10 * np.eye(5, 3, dtype="float32"), np.zeros(3, "float32")])
    teacher.save(folder / "teacher.keras")
    hidden = keras.layers.Dense(24, activation="relu")
    student = keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(3)])
    student.save(folder / "student.keras")
    x = np.random.default_rng(0).normal(size=(300, 5)).astype("float32")
    y = x[:, :3].argmax(1)
    np.savez(folder / "data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    one = {"y_train": 0 * y[:200], "y_test": 0 * y[200:]}
    np.savez(folder / "one.npz", x_train=x[:200], x_test=x[200:], **one)
    return folder


@pytest.fixture
def typed(files, monkeypatch, tmp_path):
    """Run a command in an empty folder; words that name a file of `files` become its path."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        words = [str(files / w) if (files / w).exists() else w for w in line.split()]
        try:
            return main(words)
        except SystemExit as end:  # of the parser
            return end.code

    return run


SHORT = "--data data.npz --epochs 3 --batch-size 16 --learning-rate 0.03"
COMPRESS = f"compress teacher.keras --student student.keras {SHORT} --formats float32 --quiet"


def test_compress_says_by_its_status_whether_the_target_is_met(typed, capsys, tmp_path):
    assert typed(f"{COMPRESS} --max-drop 60% --out a") == 0
    assert (tmp_path / "a" / "report.html").exists()
    assert typed(f"{COMPRESS} --max-drop 0 --out a") == 1
    assert "the target is not met" in capsys.readouterr().err


def test_compress_prints_the_verdict_and_json(typed, capsys):
    assert typed(f"{COMPRESS} --out a".replace(" --quiet", "")) == 0
    printed = capsys.readouterr()
    assert "no target was given" in printed.out and "report.html are in a/" in printed.out
    assert "distilling the student" in printed.err
    assert typed(f"{COMPRESS} --out a --json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "tfkd.report/1" and report["verdict"]["met"] is None
    [command] = report["commands"]
    assert command.startswith("tfkd compress ") and command.endswith("--quiet --out a --json")


def test_compress_runs_a_recipe_again(typed, capsys, tmp_path):
    assert typed(f"{COMPRESS} --max-drop 50% --alpha 0.4 --out a") == 0
    again = "compress teacher.keras --student student.keras --data data.npz --quiet"
    assert typed(f"{again} --recipe a/recipe.yaml --out b") == 0
    first, second = (
        json.loads((tmp_path / name / "report.json").read_text())["settings"] for name in "ab"
    )
    assert first == second and first["alpha"] == 0.4 and first["target"] == {"drop": 0.5}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{COMPRESS} --board tricorder", "No board is called 'tricorder'"),
        (f"{COMPRESS} --budget soon", "budget must be"),
        (f"{COMPRESS} --max-drop much", "--max-drop: must be a number such as 0.5%"),
        (f"{COMPRESS} --max-bytes some", "--max-bytes: must be a number > 0"),
        (f"{COMPRESS} --max-drop 500%", "A drop of 5 allows any accuracy"),
        (f"{COMPRESS} --recipe none.yaml", "Cannot read 'none.yaml'"),
        (f"{COMPRESS} --max-bytes 100", "can't meet the target, whatever its weights"),
        (f"compress none.keras {SHORT}", "There is no teacher at 'none.keras'"),
        (f"distill teacher.keras --student none.keras {SHORT}", "no student"),
        (f"distill teacher.keras --student student.keras {SHORT} --out a.h5", "a .keras file"),
        (
            "distill teacher.keras --student student.keras --data one.npz --out a.keras",
            "labels of the training part are 0, so there is nothing to tell apart",
        ),
        (f"prune teacher.keras {SHORT}", "--max-macs, --max-parameters, --max-bytes"),
        (f"prune student.keras {SHORT} --max-macs 1 --quiet", "the least that can stay"),
        (f"prune student.keras {SHORT} --max-drop 1", "A drop of 1 allows any accuracy: 0.05"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(typed, capsys, line, said):
    assert typed(line) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ")
    assert said in errors[0] and "=" not in errors[0].split("got")[0].replace("--", "")


def test_distill_writes_the_better_student(typed, capsys, tmp_path, files):
    line = f"distill teacher.keras --student student.keras {SHORT} --out a.keras"
    assert typed(f"{line} --json --quiet") == 0
    told = json.loads(capsys.readouterr().out)
    data = np.load(files / "data.npz")
    answers = load_model(tmp_path / "a.keras").predict(data["x_test"], verbose=0)
    right = float((answers.argmax(-1) == data["y_test"]).mean())
    assert told["test"]["student"] == pytest.approx(right) and told["test"]["teacher"] == 1.0
    assert told["teaching"]["kept"] in ("taught", "alone")
    assert typed(line) == 2 and "--force" in capsys.readouterr().err
    assert typed(f"{line} --force") == 0
    assert "on the test part: teacher 1.0000, student" in capsys.readouterr().out


def test_a_teacher_of_other_classes_is_a_warning_on_stderr(typed, capsys, tmp_path):
    teacher = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    teacher.set_weights([10 * np.eye(5, 3)[:, [1, 2, 0]], np.zeros(3)])
    teacher.save(tmp_path / "other.keras")
    assert typed(f"distill other.keras --student student.keras {SHORT} --out a.keras") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "confuses classes" in line]
    assert len(told) == 1 and told[0].startswith("warning: The teacher's ")


def test_windows_of_a_csv_are_forecast(typed, capsys, tmp_path):
    series = np.random.default_rng(3).normal(size=(200, 2)).astype("float32").cumsum(0)
    lines = [f"{i},{a!r},{b!r}" for i, (a, b) in enumerate(series.tolist())]
    (tmp_path / "series.csv").write_text("\n".join(["hour,load,oil", *lines]))
    keras.utils.set_random_seed(0)
    for name in ("t.keras", "s.keras"):
        flat, dense = keras.layers.Flatten(), keras.layers.Dense(3)
        keras.Sequential([keras.Input((4, 2)), flat, dense]).save(name)
    line = "distill t.keras --student s.keras --data series.csv --features load oil --epochs 1"
    options = "--label oil --length 4 --horizon 3 --json --quiet"
    assert typed(f"{line} {options} --out a.keras") == 0
    told = json.loads(capsys.readouterr().out)["test"]["teacher"]
    data = tfkd.windows(series, length=4, horizon=3, targets=1)
    answers, y = load_model(tmp_path / "t.keras").predict(data.test.x, verbose=0), data.test.y
    unexplained = np.square(answers - y).mean() / np.square(y - y.mean(0)).mean()
    assert told == pytest.approx(1 - unexplained)
    assert typed(f"{line} --label oil --horizon 3 --out b.keras") == 2
    assert "error: --horizon needs --length" in capsys.readouterr().err


def test_prune_says_by_its_status_whether_the_target_is_met(typed, capsys, tmp_path, files):
    line = f"prune student.keras {SHORT} --step 0.4 --round-to 1 --format float32 --quiet"
    assert typed(f"{line} --max-macs 0.7 --out a") == 0
    small = load_model(tmp_path / "a" / "student.keras")
    whole = load_model(files / "student.keras")
    assert small.count_params() < whole.count_params()
    assert typed(f"{line} --max-macs 0.4 --rounds 1 --out b") == 1
    assert "the target is not met: 1 rounds were made" in capsys.readouterr().err


def test_tensorboard_is_missed_before_anything_is_read(typed, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert typed(f"{COMPRESS} --tensorboard logs") == 2
    assert "pip install tensorboard" in capsys.readouterr().err


def test_a_recipe_of_a_run_with_tensorboard_runs_again(tmp_path, monkeypatch):
    """It named a function that the command line can't be given."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    recipe = tfkd.Recipe(epochs=2, callbacks=training._tensorboard("logs"))
    path = Call(recipe).save(tmp_path / "recipe.yaml")
    assert Call.load(path).recipe == tfkd.Recipe(epochs=2)
    assert trained_by(recipe) == trained_by(tfkd.Recipe(epochs=2))


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)
def test_curves_for_tensorboard(typed, tmp_path):
    assert typed(f"{COMPRESS} --out a --tensorboard logs") == 0
    assert {one.name for one in (tmp_path / "logs").iterdir()} == {"baseline", "student"}
