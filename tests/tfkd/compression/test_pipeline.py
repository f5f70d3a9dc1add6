"""`compress` from end to end: its inputs, its files, and what remains after a failure."""

import dataclasses
import functools
import json
import warnings

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import predicted

import tfkd
from tfkd import Recipe, Target
from tfkd.compression import evidence, finishing, parts
from tfkd.compression.recipe import Call
from tfkd.compression.trainer import Trainer
from tfkd.errors import InputError, TfkdError, UnsupportedError
from tfkd.export import to_tflite
from tfkd.export.micro import evaluation
from tfkd.export.micro.board_table import BOARDS
from tfkd.loading.models import load_model

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.02, formats=("float32",))


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(300, 5)).astype("float32")
    return tfkd.split(x, x[:, :3].argmax(1))


def dense(package=keras, units=6, kernel=None):
    layers = [package.layers.Dense(units, activation="relu")] if units else []
    model = package.Sequential([package.Input((5,)), *layers, package.layers.Dense(3)])
    if kernel is not None:
        model.set_weights([kernel, np.zeros(3, "float32")])
    return model


@pytest.fixture(scope="module")
def teacher():
    return dense(units=0, kernel=10 * np.eye(5, 3, dtype="float32"))


def trained(monkeypatch):
    """Return the list to which the stages are added that train from now on."""
    stages, fit = [], Trainer.fit

    def noted(self, stage, *args, **kwargs):
        stages.append(stage)
        return fit(self, stage, *args, **kwargs)

    monkeypatch.setattr(Trainer, "fit", noted)
    return stages


def test_what_is_written_and_that_it_can_be_run_again(data, teacher, tmp_path, monkeypatch):
    stages = trained(monkeypatch)
    target = Target(bytes="8k", drop=0.9)
    made = tfkd.compress(
        teacher, data, student=dense(), out=tmp_path / "a", recipe=RECIPE, target=target
    )
    assert stages == ["baseline", "student"] and made.qat is None
    names = {one.name for one in made.folder.iterdir()}
    assert names == {
        *("recipe.yaml", "report.html", "report.json", "stages"),
        *("student.keras", "student_float32.tflite", "teacher.keras", "teacher_float32.tflite"),
    }
    assert made.reached is True and "The target is met" in str(made)
    verdict = json.loads((made.folder / "report.json").read_text())["verdict"]
    x, y = data.test.x, data.test.y
    right = [(model.argmax(-1) == y).mean() for model in (
        teacher.predict(x, verbose=0), made.files["float32"].predict(x)
    )]  # fmt: skip
    assert verdict["drop"] == pytest.approx(right[0] - right[1], abs=1e-6)
    np.testing.assert_allclose(
        load_model(made.folder / "student.keras").predict(x, verbose=0),
        made.student.predict(x, verbose=0),
        atol=1e-6,
    )
    call = Call.load(made.folder / "recipe.yaml")
    assert call.recipe == RECIPE and call.target == target
    keras.utils.set_random_seed(1)
    again = tfkd.compress(
        teacher, data, student=dense(), out=tmp_path / "b", recipe=call.recipe, target=call.target
    )
    assert again.verdict.problems == ()


def test_a_second_run_makes_only_what_changed(data, teacher, tmp_path, monkeypatch):
    stages, student = trained(monkeypatch), dense()
    run = functools.partial(tfkd.compress, teacher, data, student=student, out=tmp_path / "a")
    first = run(recipe=RECIPE)
    stages.clear()
    others = [tmp_path / "a" / name for name in ("student_int8.tflite", "student_int8_micro/x.cc")]
    for one in (*others, mine := tmp_path / "a" / "notes.txt"):
        one.parent.mkdir(exist_ok=True)
        one.write_text("of a run with other formats")
    second = run(recipe=RECIPE)
    assert stages == [] and mine.exists() and not any(one.exists() for one in others)
    assert second.files["float32"].data == first.files["float32"].data
    run(recipe=Recipe(**{**vars(RECIPE), "alpha": 0.7}))
    assert stages == ["student"]


def test_a_run_that_was_killed_goes_on_from_the_epoch(data, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_WORK", 1)  # a part an epoch
    seen, kill = [], []

    def progress(stage, done, total):
        seen.append((stage, done))
        if kill and (stage, done) == ("student", 2):
            raise KeyboardInterrupt

    student = dense()
    run = functools.partial(
        tfkd.compress, teacher, data, student=student, recipe=RECIPE, progress=progress
    )
    whole = run(out=tmp_path / "a")
    kill.append(True)
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "b")
    kill.clear(), seen.clear()
    again = run(out=tmp_path / "b")
    assert [done for stage, done in seen if stage == "student"] == [0, 2, 3]
    assert again.files["float32"].data == whole.files["float32"].data
    assert again.report.training == whole.report.training
    assert len(list((tmp_path / "b" / "stages").glob("*.npz"))) == 2  # of the whole stages


def test_what_was_finished_stays_when_a_later_stage_fails(data, teacher, tmp_path, monkeypatch):
    def full(*_, **__):
        raise InputError("The disk is full.")

    stages, student = trained(monkeypatch), dense()
    run = functools.partial(
        tfkd.compress, teacher, data, student=student, out=tmp_path / "a", recipe=RECIPE
    )
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "verify", full)
        with pytest.raises(InputError, match=r"disk is full\. The finished stages are kept in"):
            run()
    assert stages == ["baseline", "student"] and not (tmp_path / "a" / "report.json").exists()
    stages.clear()
    assert run().folder.joinpath("report.json").exists() and stages == []


def test_the_bytes_that_no_weights_can_meet_are_known_before_training(
    data, teacher, tmp_path, monkeypatch
):
    stages = trained(monkeypatch)
    with pytest.raises(InputError, match=r"can't meet the target, whatever its weights: bytes"):
        tfkd.compress(
            teacher, data, student=dense(), out=tmp_path / "a", recipe=RECIPE, target={"bytes": 90}
        )
    odd = keras.Sequential([keras.Input((5,)), keras.layers.UnitNormalization(), dense()])
    with pytest.raises(UnsupportedError, match="Quantization-aware training, which an int8 file"):
        tfkd.compress(teacher, data, student=odd, out=tmp_path / "a")
    assert stages == [] and not (tmp_path / "a").exists()


def test_a_file_that_is_not_its_model_meets_no_target(data, teacher, tmp_path, monkeypatch):
    def failed(*args, **kwargs):
        return dataclasses.replace(real(*args, **kwargs), passed=False)

    real = evidence.verify
    monkeypatch.setattr(evidence, "verify", failed)
    recipe = dataclasses.replace(RECIPE, formats=("int8",), qat_epochs=1)
    made = tfkd.compress(
        teacher, data, student=dense(), out=tmp_path / "a", recipe=recipe, target={"drop": 0.9}
    )
    assert made.reached is False and "verification failed" in str(made)
    if evaluation.is_installed():
        readme = (made.folder / evidence.MICRO / "README.md").read_text()
        assert "**VERIFICATION FAILED" in readme.splitlines()[2]


def test_a_target_that_is_missed(data, teacher, tmp_path):
    made = tfkd.compress(
        teacher, data, student=dense(units=1), out=tmp_path / "a", recipe=RECIPE, target={"drop": 0}
    )
    assert made.reached is False
    assert "NOT met" in str(made) and "drop: 0." in made.verdict.problems[0]


def test_a_drop_beside_a_teacher_at_chance_is_not_met(data, tmp_path):
    """Its classes are in another order than the labels': any student was as good."""
    crossed = dense(units=0, kernel=10 * np.eye(5, 3, dtype="float32")[:, [1, 2, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is warned of too
        made = tfkd.compress(
            crossed, data, student=dense(), out=tmp_path / "a", recipe=RECIPE, target={"drop": 0.1}
        )
    assert made.reached is False and "another order than the labels'" in str(made)


@pytest.mark.skipif(not evaluation.is_installed(), reason="tflite-micro is not installed")
@pytest.mark.parametrize("board", ["pico", "android-mpc-13"])
def test_a_board(data, teacher, tmp_path, board):
    recipe = Recipe(epochs=3, qat_epochs=1, batch_size=16, learning_rate=0.02, formats=("int8",))
    student = dense()
    student.set_weights([np.full_like(one, 0.1) for one in student.get_weights()])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no limit by itself")
        made = tfkd.compress(
            teacher, data, student=student, out=tmp_path / "a", recipe=recipe, board=board
        )
    report = json.loads((made.folder / "report.json").read_text())
    assert report["board"]["name"] == BOARDS[board].name
    assert made.reached is (True if board == "pico" else None)
    page = (made.folder / "report.html").read_text()
    assert ("fits the Raspberry Pi Pico" in page) is (board == "pico")
    assert report["answer"]["board"] == (BOARDS[board].name if board == "pico" else None)


@pytest.mark.parametrize("kind", ["path", "tf_keras", "function", "several", "tflite"])
def test_whatever_teaches_a_distiller(data, teacher, tmp_path, kind):
    kernel = teacher.get_weights()[0]
    given, more = teacher, {}
    if kind == "path":
        teacher.save(given := tmp_path / "teacher.keras")
    elif kind == "tflite":
        given = to_tflite(teacher, "float32").save(tmp_path / "teacher.tflite")
        more = {"teacher_from_logits": True}
    elif kind == "tf_keras":
        given = dense(tf_keras, 0, kernel)
    elif kind == "several":
        given = [teacher, dense(units=0, kernel=kernel)]
    else:
        given, more = (lambda x: np.asarray(x) @ kernel), {"teacher_from_logits": True}
    made = tfkd.compress(given, data, student=dense(), out=tmp_path / "a", recipe=RECIPE, **more)
    entry = made.report.entry("teacher")
    assert entry.metrics["accuracy"] == 1.0
    assert ("teacher_float32.tflite" in {one.name for one in made.folder.iterdir()}) is (
        kind in ("path", "tf_keras")
    )


@pytest.mark.parametrize("kind", ["tf_keras", "path"])
def test_whatever_is_a_student(data, teacher, tmp_path, kind):
    student = dense(tf_keras) if kind == "tf_keras" else dense()
    if kind == "path":
        student.save(student := tmp_path / "student.keras")
    made = tfkd.compress(teacher, data, student=student, out=tmp_path / "a", recipe=RECIPE)
    assert made.files["float32"].size > 0
    assert isinstance(made.student, tf_keras.Model if kind == "tf_keras" else keras.Model)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"board": "tricorder"}, "No board is called"),
        ({"budget": "soon"}, "budget must be"),
        ({"target": {"size": 3}}, "target must have keys of"),
        ({"teacher": "none.keras"}, "There is no teacher at 'none.keras'"),
        ({"student": "none.keras"}, "There is no student at 'none.keras'"),
        ({"recipe": {"epochs": 2}}, "recipe must be a tfkd.Recipe"),
        ({"student": 3}, "must be a Keras 3 or tf_keras model, or a file of one, got int"),
    ],
)
def test_words_for_what_is_wrong(data, teacher, tmp_path, more, message):
    given = {"teacher": teacher, "data": data, "student": dense(), "recipe": RECIPE, **more}
    with pytest.raises(InputError, match=message):
        tfkd.compress(given.pop("teacher"), given.pop("data"), out=tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_data_that_can_not_be_scored_is_known_before_training(
    data, teacher, tmp_path, monkeypatch, part
):
    stages = trained(monkeypatch)
    samples = getattr(data, part)
    x, y = samples.x.copy(), samples.y.copy()
    x[3, 2], y[5] = np.nan, 7
    for given, message in (
        ((x, samples.y), "NaN or infinite values in 1 of .*first is number 3"),
        ((samples.x, y), "class numbers run from 0 to 2, got 0 to 7"),
    ):
        wrong = dataclasses.replace(data, **{part: tfkd.Samples(*given)})
        with pytest.raises(InputError, match=message):
            tfkd.compress(teacher, wrong, student=dense(), out=tmp_path / "a", recipe=RECIPE)
    assert stages == []


def test_a_folder_with_something_else_is_left_alone(data, teacher, tmp_path):
    (tmp_path / "thesis.tex").write_text("all")
    with pytest.raises(InputError, match="not empty and holds no earlier run.*force=True"):
        tfkd.compress(teacher, data, student=dense(), out=tmp_path, recipe=RECIPE)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.tex"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tfkd.compress(teacher, data, student=dense(), out=tmp_path, recipe=RECIPE, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "all"


def test_a_teacher_without_a_file(data, teacher, tmp_path, monkeypatch):
    def refused(*_):
        raise TfkdError("No.")

    monkeypatch.setattr(finishing, "to_tflite", refused)  # that of the teacher alone
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = tfkd.compress(teacher, data, student=dense(), out=tmp_path / "a", recipe=RECIPE)
    assert "There is no file of the teacher: No." in [str(one.message) for one in caught]
    assert {entry.name for entry in made.report.models} >= {"teacher", "student_float32"}


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_a_subclassed_teacher_teaches_a_given_student(package, data, tmp_path):
    """It was refused for its costs, which nothing needed."""

    class Subclassed(package.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.kernel = package.layers.Dense(3)

        def call(self, x):
            return self.kernel(x)

    teacher = Subclassed(name="own")
    teacher(data.train.x[:2])
    teacher.set_weights([10 * np.eye(5, 3, dtype="float32"), np.zeros(3, "float32")])
    run = functools.partial(tfkd.compress, teacher, data, out=tmp_path / "a", recipe=RECIPE)
    with pytest.raises(UnsupportedError, match=r"'own' has no graph .* give student=, or build"):
        run()
    with pytest.raises(InputError, match="a fraction of the teacher's, which is not known"):
        run(student=dense(), target={"bytes": 0.5}, teacher_from_logits=True)
    made = run(student=dense(), teacher_from_logits=True)
    right = (predicted(teacher, data.test.x).argmax(-1) == data.test.y).mean()
    [entry] = [one for one in made.report.models if one.name == "teacher"]
    assert entry.metrics["accuracy"] == pytest.approx(right)
    assert "float32" in made.files and not (made.folder / "teacher.keras").exists()
