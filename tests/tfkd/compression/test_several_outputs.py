"""`compress` with several outputs: labels, scores, drops and pages are bound by the outputs' names.

The heads `kind` (one of three classes) and `tags` (three labels) have equal shapes, the student
has its outputs in another order than the teacher, and the labels in a third.
"""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy import special
from sklearn import metrics

import tfkd
from tfkd.cli.parser import main
from tfkd.compression import evidence
from tfkd.compression.choice import Drop, Teaching
from tfkd.compression.finishing import Finisher
from tfkd.compression.outputs import answering, outputs_of
from tfkd.compression.recipe import Call
from tfkd.compression.rounding import Rounding
from tfkd.compression.trainer import Trainer
from tfkd.distillation.worth import Score, Worth
from tfkd.errors import InputError, UnsupportedError
from tfkd.export.micro import evaluation
from tfkd.export.report.answer import Answer
from tfkd.loading.models import load_model
from tfkd.model.fingerprint import fingerprint

RECIPE = tfkd.Recipe(
    epochs=3, qat_epochs=1, batch_size=16, learning_rate=0.02, formats=("float32", "int8")
)
X = np.random.default_rng(0).normal(size=(300, 6)).astype("float32")
NOISE = np.random.default_rng(1).normal(size=300).astype("float32")
LABELS = {
    "tags": (X[:, 3:] > 0).astype(int),
    "bright": X[:, 0] - X[:, 5] + 0.3 * NOISE,
    "kind": X[:, :3].argmax(1),
}


def net(package=keras, order=("kind", "tags", "bright"), form=dict, units=0, prefix="", names=None):
    """Return a model with the heads in an order; with a prefix keys and layers differ."""
    x = inputs = package.Input((6,))
    if units:
        x = package.layers.Dense(units, activation="relu")(x)
    called = names or {name: f"{prefix}{name}" for name in order}
    heads = {
        name: package.layers.Dense(1 if name == "bright" else 3, name=called[name])(x)
        for name in order
    }
    return package.Model(inputs, heads if form is dict else list(heads.values()))


@pytest.fixture(scope="module")
def data():
    return tfkd.as_data((X, LABELS), class_names={"kind": ["a", "b", "c"]})


@pytest.fixture(scope="module")
def teacher():
    model = net(prefix="head_")
    weights = {"kind": np.eye(6, 3), "tags": np.eye(6, 3, -3), "bright": np.eye(6)[:, :1]}
    weights["bright"] = np.array([[1.0], [0], [0], [0], [0], [-1.0]])
    for name, kernel in weights.items():
        scale = 1.0 if name == "bright" else 10.0
        model.get_layer(f"head_{name}").set_weights([scale * kernel, np.zeros(kernel.shape[1])])
    return model


@pytest.fixture(scope="module")
def made(data, teacher, tmp_path_factory):
    """A finished run, its report, and what student and teacher answer to the test part."""
    folder = tmp_path_factory.mktemp("made") / "a"
    student = net(order=("bright", "tags", "kind"), form=list, units=24)
    result = tfkd.compress(
        teacher, data, student=student, out=folder, recipe=RECIPE, target={"drop": 0.0}
    )
    report = json.loads((folder / "report.json").read_text())
    found = result.files["int8"].predict(data.test.x)
    answers = dict(zip(("bright", "tags", "kind"), found, strict=True))
    return result, report, answers, teacher.predict(data.test.x, verbose=0)


def figures(answers, labels):
    """Return accuracies and the RMSE as NumPy and scikit-learn have them."""
    return {
        "kind": metrics.accuracy_score(labels["kind"], answers["kind"].argmax(1)),
        "tags": ((answers["tags"] > 0) == labels["tags"]).mean(),
        "bright": metrics.root_mean_squared_error(labels["bright"], answers["bright"][:, 0]),
    }


KEYS = {"kind": "kind.accuracy", "tags": "tags.accuracy", "bright": "bright.rmse"}


def test_every_entry_has_the_scores_of_each_output(made, data):
    result, report, answers, of_teacher = made
    entries = {one["name"]: one["metrics"] for one in report["models"]}
    for name, given in (("student_int8", answers), ("teacher", of_teacher)):
        want = figures(given, data.test.y)
        assert {out: entries[name][key] for out, key in KEYS.items()} == pytest.approx(
            want, rel=1e-4
        )
    assert len(entries) == 7
    assert all(set(KEYS.values()) <= set(metrics) for metrics in entries.values())
    assert all(one["parity"]["passed"] for one in report["models"] if one["stage"] == "export")
    assert report["task"] == {
        "bright": "regression", "tags": "multilabel", "kind": "classification",
    }  # fmt: skip
    shown = [heading for heading, _ in tfkd.export.report.report.columns(result.report)]
    assert {"bright rmse", "tags accuracy", "kind accuracy"} <= set(shown)


def test_the_drop_is_the_worst_one_and_holds_for_every_output(made, data):
    result, report, answers, of_teacher = made
    own, other = figures(answers, data.test.y), figures(of_teacher, data.test.y)
    drops = {name: other[name] - own[name] for name in ("kind", "tags")}
    drops["bright"] = own["bright"] / other["bright"] - 1
    verdict = report["verdict"]
    assert verdict["drops"] == pytest.approx(drops, rel=1e-3)
    worst = max(drops, key=drops.get)
    assert verdict["output"] == worst and verdict["drop"] == pytest.approx(drops[worst], rel=1e-3)
    missed = {re.match("drop of '(.*?)'", line)[1] for line in verdict["problems"]}
    assert missed == {name for name, drop in drops.items() if drop > 1e-9} and not result.reached
    assert f"({worst!r}, its worst output)" in result.verdict.describe()
    answer = report["answer"]
    assert answer["output"] == worst and f"for {worst}, the worst output" in answer["sentence"]
    assert answer["taught"] is None  # of several outputs there is no one difference


def test_the_report_shows_each_output(made, data):
    result, report, _, _ = made
    assert set(report["teaching"]["outputs"]) == set(report["rounding"]["outputs"]) == set(KEYS)
    found = report["predictions"]
    assert [one["name"] for one in found["kind"]["classes"]] == ["a", "b", "c"]
    assert found["tags"]["confusion"] is None and found["bright"]["errors"] is not None
    assert sum(map(sum, found["kind"]["confusion"])) == len(data.test)
    page = (result.folder / "report.html").read_text()
    for name in KEYS:
        assert f"Training of {name}" in page and f"<h3>{name}</h3>" in page
    for curves in (report["training"][stage] for stage in ("baseline", "student", "student_qat")):
        assert {"val_kind_accuracy", "val_tags_accuracy", "val_bright_mae"} <= set(curves)
    assert report["data"]["class_names"] == {"kind": ["a", "b", "c"]}
    if evaluation.is_installed():
        sources = "".join(one.read_text() for one in (result.folder / evidence.MICRO).glob("*.h"))
        sources += "".join(one.read_text() for one in (result.folder / evidence.MICRO).glob("*.cc"))
        assert re.search('"a",\\s*"b",\\s*"c"', sources)
        (micro,) = [one["micro"] for one in report["models"] if one["micro"]]
        assert {"kind.accuracy", "tags.auc", "bright.rmse"} <= set(micro["metrics"])


def test_verify_takes_a_task_for_each_output(made, data):
    result, _, _, _ = made
    task = {"tags": "regression"}
    x, labels = data.test.x, data.test.y
    found = tfkd.export.verify(result.files["float32"], result.student, x, labels, task=task)
    assert "tags.rmse" in found.metrics and "kind.accuracy" in found.metrics
    with pytest.raises(InputError, match="task has the unknown names 'sort'"):
        tfkd.export.verify(result.files["float32"], result.student, x, task={"sort": "binary"})


@pytest.fixture
def files(data, teacher, tmp_path, monkeypatch):
    """A folder to work in, with both models, and data whose training part is in another order."""
    monkeypatch.chdir(tmp_path)
    teacher.save("teacher.keras")
    net(order=("tags", "bright", "kind"), units=12, prefix="own_").save("student.keras")
    arrays = {f"{name}_{part}": getattr(getattr(data, part), name)
              for part in ("train", "test") for name in "x"}  # fmt: skip
    for part, names in (
        ("train", ("kind", "bright", "tags")),
        ("test", ("tags", "kind", "bright")),
    ):
        for name in names:
            arrays[f"y_{part}_{name}"] = getattr(data, part).y[name]
    np.savez("data.npz", **arrays)


GIVEN = "teacher.keras --student student.keras --data data.npz --epochs 2 --batch-size 16"


@pytest.mark.slow  # a whole run, then `tfkd verify`
def test_the_command_line_takes_an_npz_of_several_outputs(files, capsys):
    line = f"compress {GIVEN} --formats float32 --budget 20min --max-drop 0 --out a --json"
    assert main(line.split()) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert set(report["verdict"]["drops"]) == set(KEYS) and "not met" in printed.err
    assert report["task"]["kind"] == "classification"
    file = "a/student_float32.tflite"
    assert main(f"verify {file} a/student.keras --data data.npz --json".split()) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    (entry,) = (one for one in report["models"] if one["name"] == "student_float32")
    assert found["own_kind.accuracy"] == pytest.approx(entry["metrics"]["kind.accuracy"])
    assert main(f"compress {GIVEN} --task binary --out b".split()) == 2
    assert "--task as a dict of output" in capsys.readouterr().err


def test_distill_says_the_score_of_each_output(files, data, teacher, capsys):
    assert main(f"distill {GIVEN} --out own.keras --json".split()) == 0
    told = json.loads(capsys.readouterr().out)
    student = load_model("own.keras")
    want = figures(student.predict(data.test.x, verbose=0), data.test.y)
    assert told["test"]["student"]["kind"] == pytest.approx(want["kind"])
    assert told["test"]["student"]["tags"] == pytest.approx(want["tags"])
    assert set(told["teaching"]["outputs"]) == set(told["test"]["teacher"]) == set(KEYS)


def test_a_run_can_be_repeated_and_what_is_done_is_kept(made, data, teacher, monkeypatch):
    result, _, _, _ = made
    call = Call.load(result.folder / "recipe.yaml")
    assert call.recipe == RECIPE and call.target == tfkd.Target(drop=0.0)
    student = load_model(result.folder / "student.keras")
    assert [one.shape[1:] for one in student.outputs] == [(1,), (3,), (3,)]
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    given = {name: data.train.y[name] for name in ("kind", "bright", "tags")}  # another order
    again = tfkd.Data("data", tfkd.Samples(data.train.x, given), data.validation, data.test)
    finisher = Finisher(Trainer(data, RECIPE), teacher)
    other = Finisher(Trainer(again, RECIPE), teacher)
    assert finisher.keys.shared["data"] == other.keys.shared["data"]


def test_other_names_of_outputs_are_another_training(data, teacher):
    """Labels and teacher bind by name: a student with corrected names got the old weights."""

    def heads(names=None):
        keras.utils.set_random_seed(0)
        return net(form=list, names=names)

    def key(student, taught_by=teacher):
        return fingerprint(Finisher(Trainer(data, RECIPE), taught_by).keys.of(student))

    swapped = {"kind": "tags", "tags": "kind", "bright": "bright"}
    keys = [key(heads()), key(heads(swapped))]
    keys += [key(heads(), taught_by=heads(names)) for names in (None, swapped)]
    assert len(set(keys)) == 4 and key(heads()) == keys[0]


def streamed(part, weights=None):
    """Return a part as a dataset of batches of 7."""
    arrays = (part.x, part.y) if weights is None else (part.x, part.y, weights)
    return tfkd.Stream(tf.data.Dataset.from_tensor_slices(arrays).batch(7))


def test_streams_end_in_the_files_of_arrays(data, teacher, tmp_path):
    """The training part is read in its order, and not shuffled; it is one batch here."""
    recipe = dataclasses.replace(RECIPE, epochs=2, batch_size=len(data.train))
    student, files = net(order=("bright", "tags", "kind"), form=list, units=4), []
    streams = {name: streamed(part) for name, part in data.parts.items()}
    for given in (data, streams):
        out = tmp_path / str(len(files))
        made = tfkd.compress(teacher, given, student=student, out=out, recipe=recipe)
        files.append(made.files["float32"].predict(data.test.x))
        assert set(made.report.teaching["outputs"]) == set(KEYS)
    for ours, theirs in zip(*files, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", [dict, list])
@pytest.mark.parametrize("way", ["memory", "augmented", "on disk", "stream", "weighted stream"])
def test_each_output_learns_from_its_own_labels(package, form, way, data, tmp_path):
    model = net(package, order=("tags", "kind", "bright"), form=form, units=4)
    if form is dict:  # the labels may have the layers' names, or the keys
        model = net(package, order=("tags", "kind", "bright"), units=4, prefix="head_")
    training = tfkd.Training(epochs=1, learning_rate=1e-30, batch_size=8)
    if way == "augmented":
        training = tfkd.Training(**{**vars(training), "augment": lambda x: x * 1.0})
    given = data
    if way == "on disk":
        np.save(tmp_path / "x.npy", X)
        given = tfkd.as_data((np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS))
    weights = np.ones(len(data.validation))
    if way == "stream":
        given = tfkd.Data("streams", *map(streamed, data.parts.values()))
    elif way == "weighted stream":
        weights = np.random.default_rng(0).uniform(0.2, 2, len(weights))
        given = dataclasses.replace(data, validation=streamed(data.validation, weights))
    trainer = Trainer(given, training)
    trainer.fit("student", model)
    x = np.asarray(data.validation.x)
    names = sorted(KEYS) if form is dict else ("tags", "kind", "bright")
    answers = keras.tree.flatten(model.predict(x, verbose=0))
    found = dict(zip(names, answers, strict=True))
    want, labels = figures(found, data.validation.y), data.validation.y
    curves = {name: values[-1] for name, values in trainer.histories["student"].items()}
    assert curves["val_kind_accuracy"] == pytest.approx(want["kind"], rel=1e-5)
    assert curves["val_tags_accuracy"] == pytest.approx(want["tags"], rel=1e-5)
    gaps = found["bright"][:, 0] - labels["bright"]
    assert curves["val_bright_mae"] == pytest.approx(np.abs(gaps).mean(), rel=1e-5)
    of_kind = special.log_softmax(found["kind"], 1)[np.arange(len(gaps)), labels["kind"]]
    of_tags = np.logaddexp(0, np.where(labels["tags"] > 0, -1, 1) * found["tags"]).mean(1)
    losses = np.square(gaps) + of_tags - of_kind  # equal weights of the outputs
    assert curves["val_loss"] == pytest.approx((weights * losses).mean(), rel=1e-4)


def score(name, value, metric="accuracy"):
    hits = np.arange(100) < 100 * value if metric == "accuracy" else np.full(100, value)
    return Score(name, metric, value, None, 0.1, 9.0, None, 100, hits=hits)


def scores(kind, bright):
    return {"kind": score("kind", kind), "bright": score("bright", bright**2, "r2")}


TEACHER = scores(0.9, 1.0)


@pytest.mark.parametrize(
    ("taught", "alone", "helps", "worst"),
    [
        ((0.88, 1.05), (0.80, 1.01), True, "bright"),  # 5 % more error is less than 10 points
        ((0.88, 1.25), (0.80, 1.01), False, "kind"),
        ((0.95, 1.10), (0.85, 1.09), False, "bright"),  # 10 points won do not make up for it
        ((0.88, 1.05), (0.88, 1.05), True, "bright"),  # a tie is the taught one's
    ],
)
def test_the_student_with_the_better_worst_output_is_kept(taught, alone, helps, worst):
    found = Teaching.of(TEACHER, scores(*alone), scores(*taught))
    kept = taught if helps else alone
    assert found.helps is helps
    plain = found.to_json()
    assert plain["kept"] == ("taught" if helps else "alone")
    assert Drop.of(scores(*kept), TEACHER).output == worst
    assert f"({worst!r}, its worst output); " in str(found)
    assert plain["drops"]["taught"] == pytest.approx(
        {"kind": 0.9 - taught[0], "bright": taught[1] - 1}
    )
    models = {"trained": 1, "calibrated": 2}
    rounding = Rounding(TEACHER, scores(*taught), scores(*alone), models)
    assert rounding.kept == ("trained" if helps else "calibrated")
    assert Rounding(TEACHER, scores(*taught), scores(*alone), models, True).kept != rounding.kept


def test_an_output_that_the_teacher_spoils_is_named():
    found = Teaching.of(TEACHER, scores(0.9, 1.5), scores(0.8, 1.1))
    assert found.helps and found.harms and "kind: accuracy on 100" in str(found)


def test_a_report_of_one_output_has_the_shape_that_it_had():
    one = {None: score("out", 0.9)}
    assert Teaching.of(one, one, one).to_json() == Worth(*3 * [one[None]]).to_json()
    assert str(Teaching.of(one, one, one)) == str(Worth(*3 * [one[None]]))
    rounding = Rounding(one, one, one, {}).to_json()
    assert list(rounding) == ["metric", "trained", "calibrated", "kept", "summary"]
    assert "has accuracy 0.900 after quantization-aware training and" in rounding["summary"]
    verdict = evidence.Verdict("a.tflite", 0.012, "accuracy", None, (), False)
    assert set(verdict.to_json()) == {
        *("file", "drop", "metric", "allowed", "problems", "asked", "met"),
    }  # fmt: skip
    assert verdict.describe().startswith("a.tflite: -1.2 points beside the teacher on the test")
    assert "output" not in Answer("a").to_json()


def test_students_are_looked_for_and_compared_by_their_worst_output(data, tmp_path):
    """The score of a trial is minus the worst drop, as NumPy has it from the answers."""
    keras.utils.set_random_seed(1)
    teacher = net(order=("tags", "bright", "kind"), units=48)
    recipe = dataclasses.replace(RECIPE, formats=("float32",), candidates=2, search_epochs=1)
    Trainer(data, recipe).fit("teacher", teacher)
    asked = {}

    def callbacks(stage, package):
        def kept(epoch, logs):
            answers = answering(callback.model.student, data.outputs)
            asked[stage] = data.validation.answered(answers)[0]

        callback = package.callbacks.LambdaCallback(on_epoch_end=kept)
        return [callback] if stage.startswith("search") else []

    result = tfkd.compress(
        teacher, data, out=tmp_path / "a", target={"drop": 0.5},
        recipe=dataclasses.replace(recipe, callbacks=callbacks),
    )  # fmt: skip
    front, labels = result.report.front, data.validation.y
    of_teacher = data.validation.answered(answering(teacher, data.outputs))[0]

    def mae(answers):
        return abs(answers["bright"][:, 0] - labels["bright"]).mean()

    for one in front.candidates:
        answers = asked[f"search {one.name}"]
        drops = {
            name: figures(of_teacher, labels)[name] - figures(answers, labels)[name]
            for name in ("kind", "tags")
        }
        drops["bright"] = mae(answers) / mae(of_teacher) - 1
        assert one.score == pytest.approx(max(drops.values()), abs=1e-5)
    assert front.metric == "worst drop" and len(front.candidates) == 2
    outputs = result.student(X[:2])
    assert {name: tuple(one.shape) for name, one in outputs.items()} == {
        "tags": (2, 3),
        "bright": (2, 1),
        "kind": (2, 3),
    }


@pytest.mark.parametrize("form", [dict, list])
def test_curves_are_those_of_their_outputs(package, form):
    """The layers have the names of other outputs; both Kerases call the metrics by other rules."""
    x = inputs = package.Input((6,))
    heads = {"kind": "tags", "tags": "bright"}  # key → layer
    outputs = {key: package.layers.Dense(3, name=name)(x) for key, name in heads.items()}
    model = package.Model(inputs, outputs if form is dict else list(outputs.values()))
    names = ("kind", "tags") if form is dict else ("tags", "bright")
    labels = dict(zip(names, (LABELS["kind"], (LABELS["kind"] + 1) % 3), strict=True))
    data = tfkd.as_data((X, labels))
    trainer = Trainer(data, dataclasses.replace(RECIPE, epochs=1, twin=False))
    trainer.fit("alone", model)
    answers = model.predict(data.validation.x, verbose=0)
    answers = list(answers.values()) if form is dict else answers
    for name, given in zip(names, answers, strict=True):
        wanted = metrics.accuracy_score(data.validation.y[name], given.argmax(1))
        assert trainer.histories["alone"][f"val_{name}_accuracy"] == [pytest.approx(wanted)]


def replaced(**labels):
    return {**LABELS, **labels}


BAD = {
    "lacks one": ({k: LABELS[k] for k in ("kind", "tags")}, {}, "lacks 'bright'"),
    "another name": ({**LABELS, "x": NOISE}, {}, "unknown names 'x'"),
    "no names": (LABELS["kind"], {"teacher": "one"}, "labels are one array: give a dict of them"),
    "out of range": (replaced(kind=LABELS["kind"] + 1), {}, "the output 'kind'.*0 to 2"),
    "all equal": (replaced(kind=0 * LABELS["kind"]), {}, "the output 'kind': All .* are 0"),
    "other shape": (replaced(tags=LABELS["tags"][:, :2]), {}, "the output 'tags': Labels of"),
    "one task": (LABELS, {"task": "multilabel"}, "give task as a dict of output → task"),
    "no such task": (LABELS, {"task": {"sort": "binary"}}, "an entry for 'sort'"),
    "wrong task": (LABELS, {"task": {"kind": "sorting"}}, "task must be one of"),
    "one head": (LABELS, {"student": "one"}, "has one output, but the labels are for"),
    "of one": (LABELS["kind"], {"student": "one"}, "teacher .* has 3 outputs, but the labels are"),
    "nested": (LABELS, {"student": "nested"}, "give them in one dict by name"),
    "other names": (LABELS, {"teacher": "other"}, "the unknown names 'tags', 'bright', 'kind'"),
    "no student": (LABELS, {"student": None}, "has at least as many parameters as the teacher"),
    "drop": (LABELS, {"target": {"drop": 5}}, "A drop of 5 allows any accuracy"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_can_not_be_bound_is_known_before_training(case, teacher, monkeypatch, tmp_path):
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("trained"))
    labels, options, said = BAD[case]
    inputs = keras.Input((6,))
    heads = [keras.layers.Dense(3, name=name)(inputs) for name in ("kind", "tags")]
    models = {
        "one": keras.Model(inputs, heads[0]),
        "nested": keras.Model(inputs, [heads, keras.layers.Dense(1, name="bright")(inputs)]),
        "other": net(names={"kind": "a", "tags": "b", "bright": "c"}, form=list),
        "good": net(units=4, form=list),
    }
    given = {"student": "good", **options}
    given["student"] = models.get(given["student"])
    teacher = models[given.pop("teacher")] if "teacher" in given else teacher
    with pytest.raises((InputError, UnsupportedError), match=said):
        tfkd.compress(teacher, (X, labels), out=tmp_path / "a", recipe=RECIPE, **given)


def test_what_goes_by_one_score_names_compress(data, teacher):
    one = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    for model in (teacher, one):
        with pytest.raises(UnsupportedError, match="train the pruned model with compress"):
            tfkd.spiral(model, data, target={"macs": 0.5})
    with pytest.raises(UnsupportedError, match="decides by one score.*use compress"):
        tfkd.compare(one, teacher, data)
    with pytest.raises(UnsupportedError, match="decides by one score.*use compress"):
        tfkd.compare(teacher, teacher, (X, LABELS["kind"]))


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_the_one_output_may_be_in_a_dict(package):
    """tf_keras keeps the dict in `output_shape`, and both in what they answer."""
    model = net(package, order=("kind",))
    (output,) = outputs_of(model, LABELS["kind"])
    assert (output.name, output.shape, output.task) == (None, (None, 3), "categorical")
    assert np.asarray(answering(model, ())(X[:5])).shape == (5, 3)


def test_a_task_that_is_not_that_of_the_labels_is_refused_before_training(teacher, tmp_path):
    task = {"kind": "regression"}
    with pytest.raises(InputError, match="the output 'kind': task='regression' does not fit"):
        tfkd.compress(
            teacher, (X, LABELS), student=net(), out=tmp_path / "a", recipe=RECIPE, task=task
        )
    assert not (tmp_path / "a").exists()


def test_answers_of_a_function_that_do_not_bind_are_refused_before_training(teacher, tmp_path):
    def nameless(x):
        return list(teacher(x, training=False).values())

    with pytest.raises(InputError, match="the order of a dict does not pair them"):
        tfkd.compress(
            nameless, (X, LABELS), student=net(), out=tmp_path / "a", recipe=RECIPE,
            teacher_from_logits=True,
        )  # fmt: skip
    assert not (tmp_path / "a").exists()
