"""`compare`: paired runs, a choice on validation, a report on test, resumed after a kill."""

import dataclasses
import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.stats
import tf_keras

import tfkd
from tfkd import sealed
from tfkd.cli.parser import main
from tfkd.comparison import methods, runs, spelling, study
from tfkd.comparison.store import Store
from tfkd.comparison.students import Students
from tfkd.errors import InputError, MissingDependencyError, UnsupportedError
from tfkd.export.latency import statistics
from tfkd.model import metrics

TRUTH = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
QUICK = {"budget": {"epochs": 1, "batch_size": 45, "learning_rate": 0.3}, "seeds": 2}


def linear(package=keras, units=3, activation=None, name="student", dtype=None):
    layers = [package.Input((4,)), package.layers.Dense(units, activation=activation, name="d")]
    return package.Sequential(layers, name=name)


def knowing(package=keras, units=3, activation=None):
    """Return a teacher that knows the truth."""
    model = linear(package, units, activation, name="teacher")
    model.set_weights([3 * TRUTH[:, :units], np.zeros(units, "float32")])
    return model


def made(label):
    rng = np.random.default_rng(0)
    parts = []
    for count in (90, 40, 50):
        x = rng.normal(size=(count, 4)).astype("float32")
        parts.append(tfkd.Samples(x, label(x @ TRUTH)))
    return tfkd.Data("made", *parts)


@pytest.fixture(scope="module")
def data():
    return made(lambda values: values.argmax(-1))


@pytest.fixture(scope="module")
def kinds(data):
    """Task → data and student."""
    return {
        "categorical": (data, linear()),
        "binary": (made(lambda v: (v[:, 0] > 0).astype(int)), linear(units=1)),
        "multilabel": (made(lambda v: (v > 0).astype(int)), linear()),
        "regression": (made(lambda v: v[:, :1]), linear(units=1)),
    }


@pytest.fixture
def trained(monkeypatch):
    """Replace training by the truth and as much noise as `trained.noise` says of a method."""

    def train(self, method, seed, tick):
        trained.done.append((method.name, seed))
        student = self.students.copy(seed)
        trained.start.setdefault(seed, []).append(student.get_weights())
        kernel = TRUTH[:, : student.output_shape[-1]]
        noise = np.random.default_rng(seed).normal(size=kernel.shape).astype("float32")
        bias = np.zeros(kernel.shape[1], "float32")
        student.set_weights([kernel + trained.noise(method) * noise, bias])
        tick("", self.budget.epochs, self.budget.epochs)
        return student

    def trained():
        raise AssertionError

    trained.done, trained.start = [], {}
    trained.noise = lambda method: {"alone": 1.0, "kl": 0.2}.get(method.name, 2.0)
    monkeypatch.setattr(runs.Runner, "train", train)
    return trained


# --- training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(data):
    """A comparison that was trained, what its callable teacher was asked, and its progress."""
    asked, progress = [], []

    def teacher(x):
        asked.append(np.array(x))
        return 3 * x @ TRUTH

    student = linear()
    before = student.get_weights()
    result = tfkd.compare(
        student,
        teacher,
        data,
        methods=["kl", "label_smoothing"],
        teacher_from_logits=True,
        progress=lambda *told: progress.append(told),
        **QUICK,
    )
    for ours, theirs in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return result, asked, progress


def test_every_method_runs_with_every_seed(real):
    result, _, progress = real
    assert [one.name for one in result.methods] == ["alone", "kl", "label_smoothing"]
    assert all(len(one.validation) == 2 for one in result.methods)
    assert progress[-1] == ("label_smoothing", 2, 2)
    assert {stage for stage, *_ in progress} == {"alone", "kl", "label_smoothing"}
    scores = {one.validation for one in result.methods}
    assert len(scores) > 1  # they did not all do the same


def test_the_teacher_is_asked_once_about_each_example(real, data):
    asked = np.concatenate(real[1])
    everything = np.concatenate([data.train.x, data.validation.x, data.test.x])
    assert asked.shape == everything.shape
    np.testing.assert_array_equal(np.sort(asked, axis=0), np.sort(everything, axis=0))


def test_the_teacher_stands_beside(real):
    assert real[0].teacher == {"validation": 1.0, "test": 1.0}


@pytest.fixture(scope="module")
def runner(data):
    students = Students(linear(), 0)
    budget = runs.budget_of(QUICK["budget"])
    runner = runs.Runner(students, knowing(), data, budget, None, None, {}, Store(), None)
    runner.check([methods.named("kl")])
    runner.prepare(True)
    return runner


@pytest.mark.parametrize("name", ["alone", "kl", "label_smoothing"])
def test_the_call_repeats_the_run(runner, data, name):
    method = methods.named(name)
    runner.run(method, 0, name, 0, 1)
    student = runner.students.copy(0)
    before = student.get_weights()
    names = {"student": student, "teacher": knowing(), "data": data}
    exec(spelling.call(runner, method, 0).replace("epochs=1", "epochs=1, verbose=0"), names)
    for ours, theirs in zip(names["model"].get_weights(), runner.weights(method, 0), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[0], names["model"].get_weights()[0])


def test_tf_keras_students_and_sgd(data):
    budget = {"epochs": 1, "batch_size": 45, "optimizer": "sgd", "learning_rate": 0.1}
    result = tfkd.compare(
        lambda: linear(tf_keras), knowing(), data, methods=["kl"], seeds=[3], budget=budget
    )
    assert isinstance(result.student, tf_keras.Model)
    names = {"student": lambda: linear(tf_keras), "teacher": knowing(), "data": data}
    exec(result.call.replace("epochs=1", "epochs=1, verbose=0"), names)
    assert isinstance(names["model"], tf_keras.Model)
    assert "tf_keras.optimizers.SGD(" in result.call and "keras.utils.set_random_seed(3)" in (
        result.call
    )


def test_features_come_out_of_the_one_cache(data, monkeypatch):
    def deep(name, width):
        hidden = keras.layers.Dense(width, activation="relu", name="hidden")
        return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3)], name=name)

    teacher, student = deep("teacher", 6), deep("student", 2)
    hint = {"soft_loss": "kl", "features": [tfkd.losses.Hint("hidden", "hidden")]}
    # The teacher is untrained, and `fit` says so.
    with pytest.warns(UserWarning, match="teacher"):
        result = tfkd.compare(
            student, teacher, data, methods={"hint": hint}, seeds=1, budget=QUICK["budget"]
        )
    assert result["hint"].validation[0] >= 0
    assert "Hint(student_layer='hidden'" in result["hint"].settings


def test_an_array_teaches_and_is_not_scored(data):
    answers = 3 * data.train.x @ TRUTH
    result = tfkd.compare(
        linear(), answers, data, methods=["kl"], teacher_from_logits=True, **QUICK | {"seeds": 1}
    )
    assert result.teacher is None and "teacher" not in result.describe().splitlines()[3]
    assert result["kl"].gain.interval is None and "cache_teacher" not in result.call


# --- choice and report ------------------------------------------------------------------------


def test_the_best_on_validation_is_reported_on_test(trained, data):
    result = tfkd.compare(linear(), knowing(), data, methods=["dist", "kl"], **QUICK | {"seeds": 4})
    assert result.best == "kl" and result.higher_is_better
    alone, dist, best = (result[name] for name in ("alone", "dist", "kl"))
    assert dist.test is None and dist.test_gain is None and len(alone.test) == 4
    assert best.mean == pytest.approx(np.mean(best.validation)) and best.mean > alone.mean
    for gain, part in ((best.gain, "validation"), (best.test_gain, "test")):
        pairs = getattr(best, part), getattr(alone, part)
        interval = scipy.stats.ttest_rel(*pairs).confidence_interval()
        assert gain.interval == pytest.approx((interval.low, interval.high))
        assert gain.mean == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
    order = sorted(range(4), key=lambda i: best.validation[i])
    outputs = result.student.predict(data.validation.x, verbose=0)
    score = metrics.score(outputs, data.validation.y)["accuracy"]
    assert score == pytest.approx(best.validation[order[1]])
    with pytest.raises(InputError, match="the methods are alone, dist, kl"):
        result["mse"]


def test_a_choice_on_test_would_be_another_one(trained, data):
    """The test part is of other labels, so that what is best there is worst on validation."""
    other = tfkd.Samples(data.test.x, (-data.test.x @ TRUTH).argmax(-1))
    turned = tfkd.Data("turned", data.train, data.validation, other)
    result = tfkd.compare(linear(), knowing(), turned, methods=["kl"], **QUICK)
    assert result.best == "kl" and result["kl"].test_gain.mean < 0


def test_less_is_better_where_the_score_is_an_error(trained, kinds):
    data, student = kinds["regression"]
    teacher = knowing(units=1)
    trained.noise = lambda method: {"alone": 1.0, "auto": 0.1}.get(method.name, 3.0)
    result = tfkd.compare(student, teacher, data, **QUICK)
    assert (result.best, result.metric, result.higher_is_better) == ("auto", "rmse", False)
    assert result["auto"].mean < result["alone"].mean and result["auto"].gain.mean > 0
    assert result["teacher_bounded"].gain.mean < 0
    assert set(result.left_out) == {"kl", "standardized_kl", "dist", "label_smoothing"}
    assert result.left_out["kl"] == "it is for categorical outputs, and this one is regression"


def test_nothing_better_than_alone_is_said_plainly(trained, data):
    trained.noise = lambda method: 0.1 if method.name == "alone" else 1.0
    result = tfkd.compare(linear(), knowing(), data, methods=["kl"], **QUICK)
    assert result.best == "alone" and result["kl"].test is None
    assert "No method has a better mean over 2 seeds" in str(result)
    assert "model.compile(" in result.call and "Distiller" not in result.call
    trained.noise = lambda method: 0.5  # a draw
    assert tfkd.compare(linear(), knowing(), data, methods=["kl"], **QUICK).best == "alone"


def test_the_verdict_follows_the_interval_on_test(trained, data):
    trained.noise = lambda method: 1.5 if method.name == "alone" else 0.01
    result = tfkd.compare(linear(), knowing(), data, methods=["kl"], **QUICK)
    low, high = result["kl"].test_gain.interval
    assert low < 0 < high and result.verdict.endswith(": no difference is shown.")
    for interval, words in (((0.01, 0.2), ": it helps."), ((-0.2, -0.01), ": it harms.")):
        gain = dataclasses.replace(result["kl"].test_gain, interval=interval)
        kl = dataclasses.replace(result["kl"], test_gain=gain)
        other = dataclasses.replace(result, methods=(result["alone"], kl))
        assert other.verdict.endswith(words)


def test_all_methods_of_a_seed_start_from_the_same_weights(trained, data):
    student = linear()
    tfkd.compare(student, knowing(), data, methods=["kl", "dist"], **QUICK)
    for weights in trained.start.values():
        assert len(weights) == 3
        for other in weights[1:]:
            np.testing.assert_array_equal(weights[0][0], other[0])
    np.testing.assert_array_equal(trained.start[0][0][0], student.get_weights()[0])
    assert not np.allclose(trained.start[0][0][0], trained.start[1][0][0])


def test_layers_that_are_not_trained_keep_their_weights(package):
    package.utils.set_random_seed(5)  # none that a copy is drawn from
    layers = package.layers
    scale, frozen, last = layers.Normalization(), layers.Dense(5), layers.Dense(3)
    model = package.Sequential([package.Input((4,)), scale, frozen, last])
    x = np.random.default_rng(0).normal(3, 2, size=(50, 4)).astype("float32")
    scale.adapt(x)
    frozen.trainable = False
    students = Students(model, 0)
    first, second = students.copy(0), students.copy(1)
    for index, same in ((0, True), (1, True), (2, False)):
        pair = [one.layers[index].get_weights()[0] for one in (first, second)]
        assert np.allclose(*pair) is same
    np.testing.assert_array_equal(second.get_weights()[-2], students.copy(1).get_weights()[-2])
    for student in (first, second):
        np.testing.assert_allclose(student.layers[0](x), scale(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "metric"), [("binary", "accuracy"), ("multilabel", "auc"), ("categorical", "f1")]
)
def test_scores_are_of_the_task(trained, kinds, task, metric):
    data, student = kinds[task]
    units = student.output_shape[-1]
    given = "f1" if task == "categorical" else None
    result = tfkd.compare(student, knowing(units=units), data, metric=given, **QUICK)
    assert (result.task, result.metric) == (task, metric)
    outputs = result.student.predict(data.validation.x, verbose=0)
    score = metrics.score(outputs, data.validation.y, activation="linear")[metric]
    assert score == pytest.approx(min(result[result.best].validation))
    if task != "categorical":
        assert set(result.left_out) == {"kl", "standardized_kl", "dist"}


def test_two_classes_have_no_pattern_to_standardize():
    reason = methods.unfit(methods.named("standardized_kl"), "categorical", 2)
    assert reason == "two standardized logits are +1 and −1, whatever the teacher answers"
    assert methods.unfit(methods.named("standardized_kl"), "categorical", 3) is None
    assert methods.unfit(methods.named("binary_kl"), "multilabel", 3) is None
    balanced = methods.Method("b", {"soft_loss": tfkd.losses.Balanced("standardized_kl")})
    assert methods.unfit(balanced, "categorical", 2) == reason
    scaled = tfkd.losses.Balanced("mse")
    assert not methods.Method("m", {"soft_loss": scaled}).uses_temperature("regression")
    assert methods.named("kl").uses_temperature("categorical")


def test_a_method_that_fails_is_left_out_with_the_reason(trained, data):
    def noise(method):
        if method.name == "dist":
            raise InputError("The loss is NaN.")
        return 0.5

    trained.noise = noise
    result = tfkd.compare(linear(), knowing(), data, methods=["dist", "kl"], **QUICK)
    assert result.left_out == {"dist": "it failed with seed 0: The loss is NaN."}
    assert [one.name for one in result.methods] == ["alone", "kl"]
    assert trained.done.count(("dist", 0)) == 1 and ("dist", 1) not in trained.done


def test_smoothed_labels_are_those_of_keras(data):
    logits = np.random.default_rng(0).normal(size=(90, 3)).astype("float32")
    rows = keras.utils.to_categorical(data.train.y, 3)
    wanted = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(
        rows, logits
    )
    for labels in (data.train.y, rows, data.train.y[:, None]):
        smooth = runs.smoothed(labels, (None, 3), "categorical", 0.2)
        found = keras.losses.CategoricalCrossentropy(from_logits=True)(smooth, logits)
        assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    many = (logits > 0).astype(int)
    wanted = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)(many, logits)
    smooth = runs.smoothed(many, (None, 3), "multilabel", 0.2)
    found = keras.losses.BinaryCrossentropy(from_logits=True)(smooth, logits)
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    steps = np.stack([rows, rows], 1)  # of a model whose number of steps is free
    smooth = runs.smoothed(steps, (None, None, 3), "categorical", 0.2)
    np.testing.assert_allclose(smooth, 0.8 * steps + 0.2 / 3, rtol=1e-6)


def test_the_interval_of_a_mean_is_students():
    values = [0.3, -0.1, 0.4, 0.2]
    mean, interval = statistics.mean(values)
    wanted = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert mean == pytest.approx(0.2) and interval == pytest.approx((wanted.low, wanted.high))
    assert statistics.mean([0.5]) == (0.5, None)


# --- what is written --------------------------------------------------------------------------


def test_the_table_the_page_and_the_files(trained, data, tmp_path):
    named = {"kl": {"soft_loss": "kl", "alpha": 0.3}, "<b>": {"soft_loss": "dist"}}
    result = tfkd.compare(linear(), knowing(), data, methods=named, **QUICK)
    header, alone, kl, *_ = str(result).splitlines()
    words = "method settings validation accuracy gain 95 % interval test"
    assert " ".join(header.split()) == words
    assert alone.split()[:3] == ["alone", "no", "teacher"]
    assert kl.split()[:4] == ["kl", "*", "alpha", "0.3"]
    assert f"{100 * result['kl'].mean:.2f} %" in kl
    assert f"{100 * result['kl'].gain.mean:+.2f}" in kl and str(result).endswith(result.call)
    assert result._repr_html_().count("<tr>") == 5 and "&lt;b&gt;" in result._repr_html_()
    assert result.save(tmp_path / "there") == tmp_path / "there"
    written = json.loads((tmp_path / "there" / "compare.json").read_text())
    assert written == result.to_json() and written["methods"][1]["gain"]["interval"]
    assert (tmp_path / "there" / "compare.svg").read_text() == result.picture
    assert "<svg" in result.picture
    loaded = keras.models.load_model(tmp_path / "there" / "student.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], result.student.get_weights()[0])
    result.plot(tmp_path / "there.png")
    assert (tmp_path / "there.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="Cannot write"):
        result.save(tmp_path / "file")


def test_what_has_no_literal_is_read_from_methods():
    class Own(tfkd.losses.SoftLoss):
        tasks = ("categorical",)

    assert spelling.spelled(np.float32(0.5), "x") == "0.5"
    assert spelling.spelled(Own(), "methods['own']['soft_loss']") == "methods['own']['soft_loss']"
    hint = tfkd.losses.Hint("a", "b", weight=2.0)
    assert eval(spelling.spelled([hint], "x"))[0].get_config() == hint.get_config()


# --- going on after a kill --------------------------------------------------------------------


def test_a_killed_comparison_goes_on(trained, data, tmp_path, monkeypatch):
    arguments = {"methods": ["kl"], "folder": tmp_path / "f", **QUICK | {"seeds": 3}}
    student, teacher = linear(), knowing()
    train, killed = runs.Runner.train, KeyboardInterrupt

    def dies(self, method, seed, tick):
        if len(trained.done) == 3:
            raise killed
        return train(self, method, seed, tick)

    monkeypatch.setattr(runs.Runner, "train", dies)
    with pytest.raises(killed):
        tfkd.compare(student, teacher, data, **arguments)
    first = list(trained.done)
    assert not (tmp_path / "f" / "compare.json").exists()
    monkeypatch.setattr(runs.Runner, "train", train)
    result = tfkd.compare(student, teacher, data, **arguments)
    assert len(first) == 3 and len(set(trained.done)) == len(trained.done) == 6
    told = []
    asked = runs.Runner.prepare
    monkeypatch.setattr(runs.Runner, "prepare", lambda self, p: (told.append(p), asked(self, p)))
    again = tfkd.compare(student, teacher, data, **arguments)
    assert again == result and len(trained.done) == 6 and told == [False]
    # Further methods and seeds add runs; a name is no part of what a run is.
    more = {"kl again": {"soft_loss": "kl", "alpha": 0.1, "temperature": 4.0}, "auto": {}}
    tfkd.compare(student, teacher, data, **arguments | {"methods": more})
    assert trained.done[6:] == [("auto", seed) for seed in range(3)]


def test_a_folder_of_another_comparison_is_refused(trained, data, tmp_path):
    student, teacher = linear(), knowing()
    arguments = {"methods": ["kl"], "folder": tmp_path / "f", "seeds": 1}
    tfkd.compare(student, teacher, data, budget=1, **arguments)
    held = (tmp_path / "f" / "runs.json").read_text()
    with pytest.raises(InputError, match="budget was .*'epochs': 1.* and is now .*'epochs': 2"):
        tfkd.compare(student, teacher, data, budget=2, **arguments)
    with pytest.raises(InputError, match="teacher was .*; name another folder|holds a different"):
        tfkd.compare(student, linear(name="teacher"), data, budget=1, **arguments)
    frozen = linear()
    frozen.set_weights(student.get_weights())
    frozen.layers[-1].trainable = False
    with pytest.raises(InputError, match="student was .* and is now"):
        tfkd.compare(frozen, teacher, data, budget=1, **arguments)
    assert (tmp_path / "f" / "runs.json").read_text() == held
    weights = next((tmp_path / "f" / "runs").iterdir())
    other = io.BytesIO()
    np.savez(other, np.zeros(3))  # weights, and not those
    for damage in (b"half", other.getvalue()):
        weights.write_bytes(damage)
        with pytest.raises(InputError, match=r"npz' is damaged: its bytes have changed since they"):
            tfkd.compare(student, teacher, data, budget=1, **arguments)
    unsealed = {name: one for name, one in json.loads(held).items() if name != "blake2b"}
    old = {"schema": "tfkd.comparison.runs/1", "settings": {}, "runs": {}}
    for content, message in (
        (old, "has the format None, and this version of tfkd reads 'tfkd.comparison.runs/2'"),
        (unsealed | {"runs": {"a": {"validation": "x"}}}, "damaged: it holds a dict in place of"),
        (unsealed | {"runs": []}, "damaged: it holds a list in place of"),
    ):
        sealed.write(tmp_path / "f" / "runs.json", content)
        with pytest.raises(InputError, match=message):
            tfkd.compare(student, teacher, data, budget=1, **arguments)
    (tmp_path / "f" / "runs.json").write_text(held.replace('"seconds": ', '"seconds": 1'))
    with pytest.raises(InputError, match="runs.json' is damaged, or was changed"):
        tfkd.compare(student, teacher, data, budget=1, **arguments)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    with pytest.raises(InputError, match="is not empty and holds no comparison"):
        tfkd.compare(student, teacher, data, **arguments | {"folder": tmp_path / "mine"})


# --- search -----------------------------------------------------------------------------------


def test_the_search_finds_a_better_alpha(trained, data, tmp_path):
    pytest.importorskip("optuna")

    def noise(method):
        if method.settings is None:
            return 1.0
        return 0.2 + 2 * abs(method.settings["alpha"] - 0.6)

    student, teacher = linear(), knowing()
    arguments = {"methods": ["auto", "kl", "logit_mse"], "search": 5, "folder": tmp_path / "f"}
    trained.noise = lambda method: 1.0 if method.name in ("alone", "auto") else noise(method)
    result = tfkd.compare(student, teacher, data, **arguments, **QUICK)
    assert len(result.trials) == 5 and {one.method for one in result.trials} <= {
        *arguments["methods"]
    }
    assert all(one.temperature is None for one in result.trials if one.method == "logit_mse")
    best = max(result.trials, key=lambda one: one.validation)
    found = result.methods[-1]
    assert found.name == f"{best.method} (search)" == result.best
    assert found.validation[0] == best.validation and len(found.validation) == 2
    assert f"alpha={best.alpha}" in result.call
    assert "5 trials with seed 0" in str(result)
    count = len(trained.done)
    again = tfkd.compare(student, teacher, data, **arguments, **QUICK)
    assert again == result and len(trained.done) == count


def test_a_search_in_memory_is_that_in_a_folder(trained, data, tmp_path):
    pytest.importorskip("optuna")
    trained.noise = lambda method: 1 - (method.settings or {}).get("alpha", 0)
    student, teacher = linear(), knowing()
    found = [
        tfkd.compare(student, teacher, data, methods=["kl"], search=3, folder=folder, **QUICK)
        for folder in (None, tmp_path / "f")
    ]
    assert found[0].trials == found[1].trials and found[0].call == found[1].call
    for one, other in zip(*(result.methods for result in found), strict=True):
        assert one.validation == other.validation and one.test == other.test


def test_a_trial_that_fails_does_not_end_the_search(trained, data):
    pytest.importorskip("optuna")

    def noise(method):
        if method.settings and method.settings.get("alpha") not in (None, 0.1) and trained.fails:
            trained.fails -= 1
            raise InputError("The loss is NaN.")
        return 0.5

    trained.noise, trained.fails = noise, 2
    result = tfkd.compare(linear(), knowing(), data, methods=["kl"], search=3, **QUICK)
    assert [one.validation is None for one in result.trials] == [True, True, False]
    assert "3 trials with seed 0, 2 of which failed" in str(result)
    trained.fails = 99
    with pytest.raises(InputError, match="All 2 trials of the search failed: The loss is NaN"):
        tfkd.compare(linear(), knowing(), data, methods=["kl"], search=2, **QUICK)


def test_without_optuna_only_the_search_is_refused(trained, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tfkd\[compare\]'"):
        tfkd.compare(linear(), knowing(), data, search=1)
    assert not trained.done
    assert tfkd.compare(linear(), knowing(), data, methods="kl", **QUICK).best == "kl"


# --- the door ---------------------------------------------------------------------------------


def part_without_labels(data):
    return tfkd.Data("d", data.train, None, data.test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["kl", "klx"]}, "there is no 'klx'. The known methods are alone, auto"),
        ({"methods": ["mse", "binary_kl"]}, "'mse' does not fit: .*'binary_kl' does not fit"),
        ({"methods": 3}, "methods must be a list of names"),
        ({"methods": {"a": "kl"}}, r"methods\['a'\] must be a dict"),
        ({"methods": {"alone": {"alpha": 0.5}}}, "'alone' can't be the name"),
        ({"methods": {"a": {"alfa": 1}}}, "can't set 'alfa'.* may set alpha, temperature"),
        ({"methods": {"a": {"alpha": 2}}}, r"methods\['a'\]: alpha"),
        ({"methods": {"a": {"soft_loss": "x"}}}, r"methods\['a'\]: soft_loss must be"),
        ({"methods": {"a": {"label_smoothing": 1}}}, "label_smoothing must lie between"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"seeds": []}, "seeds must be different whole numbers"),
        ({"seeds": [1, 1]}, "seeds must be different whole numbers"),
        ({"seeds": "3"}, "seeds must be a number of at least 1"),
        ({"budget": 0}, "budget: epochs must be a whole number of at least 1, got 0"),
        ({"budget": 1.5}, "budget: epochs must be"),
        ({"budget": {"steps": 3}}, "budget has no 'steps'. It takes epochs, batch_size"),
        ({"budget": {"learning_rate": 0}}, "learning_rate must be a number > 0"),
        ({"budget": {"optimizer": "lion"}}, "optimizer must be one of"),
        ({"search": -1}, "search must be a number of trials"),
        ({"metric": "rmse"}, "can't be scored by 'rmse': its labels allow only accuracy"),
        ({"task": "anomaly"}, "does not score anomaly detectors"),
        ({"data": lambda d: d.train.x}, "A ndarray .* without labels is not valid data. Give"),
        ({"data": part_without_labels}, "data.validation must be a tfkd.Samples"),
        (
            {"data": lambda d: tfkd.Data("d", d.train, d.validation, tfkd.Samples(
                d.test.x, d.test.y + 7))},
            "class numbers run from 0 to 2",
        ),
        (
            {"data": lambda d: tfkd.Data("d", d.train, tfkd.Samples(
                d.validation.x[:, :3], d.validation.y), d.test)},
            r"can't take the validation examples, of shape \(40, 3\)",
        ),
        ({"student": "student.keras"}, "The student must be a Keras 3 or tf_keras model"),
        ({"student": lambda: None}, "The student must be a Keras 3 or tf_keras model"),
        ({"teacher": lambda: linear(units=2)}, r"must be equal"),
        ({"teacher": lambda: "none.keras"}, "There is no teacher at 'none.keras'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_trained(trained, data, change, message):
    given = {"student": linear(), "teacher": knowing(), "data": data, "budget": 1} | change
    if "teacher" in change:
        given["teacher"] = change["teacher"]()
    if "data" in change:
        given["data"] = change["data"](data)
    with pytest.raises(InputError, match=message):
        tfkd.compare(**given)
    assert not trained.done


def test_a_teacher_that_breaks_is_one_line(trained, data):
    def broken(x):
        raise RuntimeError("no\nluck")

    with pytest.raises(
        InputError, match=r"can't take the train examples, of shape \(90, 4\) .*no luck"
    ):
        tfkd.compare(linear(), broken, data, methods=["kl"], teacher_from_logits=True, **QUICK)
    assert not trained.done


def test_students_that_cannot_be_compared(data):
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedError, match="Functional or a built Sequential"):
        tfkd.compare(Own(), knowing(), data)
    with pytest.raises(InputError, match="is quantize-aware: compare with the float student"):
        tfkd.compare(tfkd.quantize_aware(linear()), knowing(), data)


# --- the command line -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory, data):
    """A folder of a user's."""
    place = tmp_path_factory.mktemp("compare")
    parts = {"train": data.train, "test": data.test}
    arrays = {f"{a}_{name}": getattr(part, a) for name, part in parts.items() for a in "xy"}
    np.savez(place / "d.npz", **arrays)
    linear().save(place / "s.keras")
    knowing().save(place / "t.keras")
    linear(units=2).save(place / "two.keras")
    return place


@pytest.fixture
def command(place, monkeypatch, capsys):
    """Run `tfkd compare` in the user's folder."""
    monkeypatch.chdir(place)

    def run(line):
        try:
            status = main(["compare", *line.split()])
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return run


GIVEN = "t.keras --student s.keras --data d.npz "


def test_the_command_prints_the_table_and_the_call(command, trained, place):
    line = GIVEN + "--methods kl dist --seeds 2 --epochs 1 --out made"
    status, out, err = command(line)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("method ") and lines[2].startswith("kl * ")
    assert "best: kl, by its mean over 2 seeds" in out
    assert "student, teacher = load_model('s.keras'), 't.keras'" in out
    assert lines[-1] == "compare.json, compare.svg and student.keras are in made"
    assert {"compare.json", "compare.svg", "student.keras"} <= {
        path.name for path in (place / "made").iterdir()
    }
    count = len(trained.done)
    status, out, err = command(line + " --json")
    told = json.loads(out)
    assert (status, err, len(trained.done)) == (0, "", count)
    assert told["best"] == "kl" and told["seeds"] == [0, 1] and "load_npz('d.npz')" in told["call"]
    assert command(line + " --quiet") == (0, "", "")


def test_the_printed_call_runs(command, place):
    status, out, _ = command(GIVEN + "--methods kl --seeds 1 --epochs 1 --json")
    told, names = json.loads(out), {}
    exec(told["call"].replace("epochs=1", "epochs=1, verbose=0"), names)
    outputs = names["model"].predict(names["data"].test.x, verbose=0)
    tests = {one["name"]: one["test"] for one in told["methods"]}
    score = metrics.score(outputs, names["data"].test.y)["accuracy"]
    assert (status, score) == (0, pytest.approx(tests[told["best"]][0]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none --student s.keras --data d.npz", "There is no teacher at 'none'."),
        ("t.keras --student none.keras --data d.npz", "There is no student at 'none.keras'."),
        ("t.keras --student s.keras --data none", "There is no file 'none' for --data."),
        ("t.keras --student s.keras", "required: --data"),
        ("t.keras --student two.keras --data d.npz", "class numbers run from 0 to 1, got 0 to 2"),
        (GIVEN + "--methods klx", "methods: there is no 'klx'. The known methods are alone"),
        (GIVEN + "--methods mse", "'mse' does not fit: it is for regression outputs"),
        (GIVEN + "--seeds 0", "--seeds: must be a whole number of at least 1"),
        (GIVEN + "--epochs 0", "--epochs: must be a whole number of at least 1"),
        (GIVEN + "--learning-rate 0", "learning_rate must be a number > 0, got 0.0"),
        (GIVEN + "--metric rmse", "can't be scored by 'rmse'"),
        (GIVEN + "--task sorting", "task must be one of"),
        (GIVEN + "--out d.npz", "'d.npz' is a file; name a folder."),
        (GIVEN + "--out .", "'.' is not empty and holds no comparison"),
    ],
)
def test_bad_words_are_one_line_and_status_2(command, trained, line, message):
    status, out, err = command(line)
    assert (status, out) == (2, "") and not trained.done
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_ctrl_c_says_where_the_runs_are(command, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(study.Runner, "run", interrupted)
    status, out, err = command(GIVEN + "--out later")
    assert (status, out) == (130, "")
    assert err == (
        "interrupted; the finished runs are in later/, and the same command continues from them\n"
    )
    status, out, err = command(GIVEN)
    assert (status, err) == (130, "interrupted; nothing was written\n")


def test_help_imports_no_tensorflow():
    line = [sys.executable, "-X", "importtime", "-m", "tfkd", "compare", "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "--methods" in done.stdout and "tensorflow" not in done.stderr
    assert "numpy" not in done.stderr
