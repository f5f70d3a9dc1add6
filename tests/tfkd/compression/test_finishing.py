"""`compress` keeps the better of the student with and without its teacher."""

import dataclasses
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.compression import keys, search
from tfkd.compression.finishing import Finisher
from tfkd.compression.recipe import Recipe
from tfkd.compression.rehearsal import Goal, drop_of
from tfkd.compression.stages import Stages
from tfkd.compression.trainer import Trainer
from tfkd.distillation.fitting import Fitting
from tfkd.distillation.worth import Score
from tfkd.errors import InputError, TeacherWarning, UnsupportedError
from tfkd.quantization import describe

RECIPE = Recipe(
    alpha=0.05, temperature=1.0, epochs=4, qat_epochs=1, batch_size=16, learning_rate=0.03
)


def dense(kernel=None):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    if kernel is not None:
        model.set_weights([kernel, np.zeros(3, "float32")])
    return model


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(300, 5)).astype("float32")
    return tfkd.split(x, x[:, :3].argmax(1))


@pytest.mark.parametrize("helps", [True, False])
def test_the_better_student_is_kept(data, helps):
    keras.utils.set_random_seed(0)
    kernel = 10 * np.eye(5, 3, dtype="float32")
    teacher = dense(kernel if helps else kernel[:, [1, 2, 0]])
    trainer = Trainer(data, RECIPE)
    if helps:
        models, worth, *_ = Finisher(trainer, teacher).train(dense())
    else:
        with pytest.warns(TeacherWarning) as caught:
            models, worth, *_ = Finisher(trainer, teacher).train(dense())
        said = "\n".join(str(warning.message) for warning in caught)
        assert "The student trained without the teacher was kept" in said
        assert "confuses classes (labels 0 as 2, 1 as 0, 2 as 1)" in said
        np.testing.assert_equal(models["student"].get_weights(), models["baseline"].get_weights())
    assert worth.helps is helps
    plain = worth.to_json()
    assert plain["kept"] == ("taught" if helps else "alone")
    assert plain["ci95"][0] <= plain["difference"] <= plain["ci95"][1]
    x, y = data.validation.x, data.validation.y
    accuracy = (models["student"].predict(x, verbose=0).argmax(1) == y).mean()
    assert accuracy == pytest.approx(plain["taught" if helps else "alone"])
    assert ("soft_loss" in trainer.histories["student_qat"]) is helps


@pytest.mark.parametrize(("augment", "times"), [(None, 1), (lambda x: x + 0.1, 0)])
def test_the_teacher_is_asked_once_for_all_stages(data, monkeypatch, augment, times):
    """Of augmented examples it sees each view, in each step."""
    asked, ask = [], Fitting.cache_teacher

    def noted(self, x, *args):
        asked.append(len(x))
        return ask(self, x, *args)

    monkeypatch.setattr(Fitting, "cache_teacher", noted)
    kernel = 10 * np.eye(5, 3, dtype="float32")
    trainer = Trainer(data, dataclasses.replace(RECIPE, augment=augment))
    Finisher(trainer, dense(kernel)).train(dense())
    assert asked == [len(data.train)] * times


def test_what_can_not_be_rounded_is_known_before_training(data, monkeypatch):
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("trained"))
    teacher = dense(np.eye(5, 3, dtype="float32"))
    trainer = Trainer(data, dataclasses.replace(RECIPE, bits={"konv": 4}))
    with pytest.raises(InputError, match="konv"):
        Finisher(trainer, teacher).train(dense())
    odd = keras.Sequential([keras.Input((5,)), keras.layers.UnitNormalization(), dense()])
    with pytest.raises(UnsupportedError, match="UnitNormalization"):
        Finisher(Trainer(data, RECIPE), teacher).train(odd)


@pytest.mark.parametrize(("rate", "kept"), [(3e-4, "trained"), (30.0, "calibrated")])
def test_what_training_spoils_is_only_calibrated(data, rate, kept):
    teacher = dense(10 * np.eye(5, 3, dtype="float32"))
    recipe = dataclasses.replace(RECIPE, epochs=8, qat_learning_rate=rate, seed=1)
    finished = Finisher(Trainer(data, recipe), teacher).finished(dense())
    rounding, x, y = finished.rounding, data.validation.x, data.validation.y
    assert rounding.kept == kept and finished.models["student_qat"] is rounding.models[kept]
    for name in ("trained", "calibrated"):
        right = rounding.models[name].predict(x, verbose=0).argmax(1) == y
        assert getattr(rounding, name)[None].value == pytest.approx(right.mean())
    calibrated = rounding.to_json()["calibrated"]
    assert calibrated > 0.8 and f"the {kept} one is kept" in rounding.to_json()["summary"]
    right = finished.files["student_int8"].predict(x).argmax(1) == y
    assert right.mean() >= calibrated - 0.05


def test_where_the_file_is_not_its_model_the_other_one_is_tried(data, monkeypatch):
    tried, verifies = [], Finisher._verifies

    def first_fails(self, file, models, name):
        tried.append(models["student_qat"])
        return len(tried) > 1 and verifies(self, file, models, name)

    monkeypatch.setattr(Finisher, "_verifies", first_fails)
    teacher = dense(10 * np.eye(5, 3, dtype="float32"))
    recipe = dataclasses.replace(RECIPE, formats=("int8",), seed=1)
    finished = Finisher(Trainer(data, recipe), teacher).finished(dense())
    rounding = finished.rounding
    assert finished.verified and rounding.fails
    assert tried[1] is finished.models["student_qat"] is rounding.models[rounding.kept]
    assert tried[0] is not tried[1]
    assert "because the other's file does not compute" in rounding.to_json()["summary"]


@pytest.mark.parametrize("bits", [3, True, "4", {"a": 5}])
def test_other_bits_are_refused(bits):
    with pytest.raises(InputError, match="bits must be 4 or 8"):
        Recipe(bits=bits)


def test_its_bits_are_those_of_the_student(data):
    teacher = dense(10 * np.eye(5, 3, dtype="float32"))
    trainer = Trainer(data, dataclasses.replace(RECIPE, bits=4, seed=1))
    models, *_ = Finisher(trainer, teacher).train(dense())
    assert describe(models["student_qat"]).layers[0].detail.startswith("4 bits")


@pytest.mark.parametrize(
    ("settings", "rate"),
    [({}, 3e-4), ({"bits": 4}, 3e-3), ({"bits": 4, "qat_learning_rate": 1e-3}, 1e-3)],
)
def test_four_bits_learn_at_a_higher_rate(data, monkeypatch, settings, rate):
    rates, fit = {}, Trainer.fit

    def noted(self, stage, student, teach=None, training=None, **more):
        training = training or self.training
        rates[stage] = training.learning_rate
        return fit(self, stage, student, teach, dataclasses.replace(training, epochs=1), **more)

    monkeypatch.setattr(Trainer, "fit", noted)
    given = {"qat_learning_rate": None, "seed": 1, **settings}
    trainer = Trainer(data, dataclasses.replace(RECIPE, **given))
    Finisher(trainer, dense(10 * np.eye(5, 3, dtype="float32"))).train(dense())
    assert rates["student_qat"] == rate


def test_a_drop_of_values_is_of_their_errors():
    """Of equal labels R² is 0, whatever is answered: any student met any target."""

    def scored(errors):
        return Score("out", "r2", 0.0, None, 0.0, None, None, 2, hits=np.square(errors))

    assert drop_of(scored([2.0, 4.0]), scored([1.0, 2.0])) == pytest.approx(1.0)
    assert drop_of(scored([0.0, 0.0]), scored([0.0, 0.0])) == 0.0
    assert np.isfinite(drop_of(scored([1.0, 1.0]), scored([0.0, 0.0])))


@pytest.mark.parametrize(
    ("y", "shape", "end"),
    [
        (np.arange(60) % 3, (None, 3), "softmax"),
        (np.arange(60) % 2, (None, 1), "sigmoid"),  # it was a softmax of one unit
        (np.arange(120).reshape(60, 2) % 3, (None, 2, 3), "softmax"),  # it was "sigmoid"
        (np.full((60, 3), 1 / 3, "float32"), (None, 3), "softmax"),  # likewise
        (np.ones((60, 3), int), (None, 3), "sigmoid"),
    ],
    ids=["classes", "binary", "each step", "soft labels", "several labels"],
)
def test_students_end_in_the_probabilities_of_the_task(y, shape, end):
    part = tfkd.Samples(np.zeros((60, 5), "float32"), y)
    trainer = Trainer(tfkd.Data("x", part, part, part), RECIPE)
    teacher = dense().predict
    assert Finisher(trainer, teacher, teacher_from_logits=False).end_of(shape) == end
    assert Finisher(trainer, teacher).end_of(shape) is None


def test_a_run_that_goes_on_draws_the_same_dropout(data, tmp_path, monkeypatch):
    """Dropout draws its seed when it is made: copies in a run that goes on had others."""
    teacher = dense(10 * np.eye(5, 3, dtype="float32"))
    student = keras.Sequential([keras.Input((5,)), keras.layers.Dropout(0.5), dense()])
    recipe = dataclasses.replace(RECIPE, formats=("float32",), epochs=2)

    def run(folder):
        return Finisher(Trainer(data, recipe), teacher, stages=Stages(folder)).train(student)[0]

    whole = run(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(Finisher, "teach", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b")
    keras.utils.set_random_seed(77)  # another process
    for name, model in run(tmp_path / "b").items():
        for a, b in zip(whole[name].get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def killed(*_, **__):
    raise KeyboardInterrupt


def test_what_another_release_made_is_made_again(data, tmp_path, monkeypatch):
    made, teacher = [], dense(np.eye(5, 3, dtype="float32"))
    for version in ("2.20", "2.20", "2.21"):
        monkeypatch.setattr(keys.host, "versions", lambda v=version: {"tensorflow": v})
        finisher = Finisher(Trainer(data, RECIPE), teacher)
        inputs = finisher.keys.of(dense(teacher.get_weights()[0]))
        Stages(tmp_path).once("costs", inputs, lambda v=version: made.append(v) or {})
    assert made == ["2.20", "2.21"]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (np.zeros((180, 3), "float32"), "An array holds the teacher's answers"),
        (3, "A teacher must be"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), r"takes \(4,\)"),
    ],
    ids=["array", "number", "other shape"],
)
def test_what_can_not_teach_is_known_before_any_work(data, teacher, message):
    with pytest.raises(InputError, match=message):
        Finisher(Trainer(data, RECIPE), teacher).check(dense())
    with pytest.raises(InputError, match=message):
        search.smallest(Finisher(Trainer(data, RECIPE), teacher))


def test_a_drop_that_allows_any_accuracy_is_refused(data):
    teacher = dense(np.eye(5, 3, dtype="float32"))
    finisher = Finisher(Trainer(data, RECIPE), teacher, Goal({}, 5, None))
    with pytest.raises(InputError, match=r"drop of 5 allows any accuracy: 0.05 means 5 points"):
        finisher.check(dense())


def stages_of(folder, data, student, **settings):
    """Return the stages that are trained for a student in a folder, and the model made."""
    trained, teacher = [], dense(10 * np.eye(5, 3, dtype="float32"))
    trainer = Trainer(
        data,
        dataclasses.replace(RECIPE, **{"formats": ("float32",), "epochs": 2, **settings}),
        progress=lambda stage, done, total: done or trained.append(stage),
    )
    models, *_ = Finisher(trainer, teacher, stages=Stages(folder)).train(student)
    return trained, models["student"]


def test_a_frozen_student_is_another_one(data, tmp_path):
    """It computes the same: it got the weights of the run before."""

    def student(trainable=True):
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(8, activation="relu", trainable=trainable)
        return keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(3)])

    assert stages_of(tmp_path, data, student())[0] == ["baseline", "student"]
    trained, made = stages_of(tmp_path, data, student(trainable=False))
    assert trained == ["baseline", "student"]
    np.testing.assert_array_equal(made.get_weights()[0], student().get_weights()[0])


def test_other_callbacks_are_another_training(data, tmp_path):
    def settings(rate, watches=False):
        def callbacks(stage, package):
            return [package.callbacks.LearningRateScheduler(lambda epoch: rate)]

        callbacks.only_watches = watches
        return {"callbacks": callbacks, "schedule": "constant"}

    student = dense(np.ones((5, 3), "float32"))
    first, made = stages_of(tmp_path, data, student, **settings(0.05))
    assert first == ["baseline", "student"] and (made.get_weights()[0] != 1).all()
    assert stages_of(tmp_path, data, student, **settings(0.05))[0] == []
    again, made = stages_of(tmp_path, data, student, **settings(0.0))
    assert again == ["baseline", "student"] and (made.get_weights()[0] == 1).all()
    # Those of --tensorboard change no step.
    plain = {"schedule": "constant"}
    assert stages_of(tmp_path, data, student, **settings(0.0, watches=True))[0] == again
    assert stages_of(tmp_path, data, student, **plain)[0] == []


def test_callbacks_without_a_fingerprint_are_called_in_each_run(data, tmp_path):
    lock, called = threading.Lock(), []

    def callbacks(stage, package):
        with lock:
            called.append(stage)
        return []

    for times in (1, 2):
        stages_of(tmp_path, data, dense(np.ones((5, 3), "float32")), callbacks=callbacks)
        assert called == times * ["baseline", "student"]


def test_an_augmentation_is_known_by_its_state_before_the_run(data, tmp_path):
    """Each stage changes the state: a run that was repeated trained all over again."""

    def run():
        random = tf.random.Generator.from_seed(7)  # as at the start of a script

        def augment(batch):
            return batch + 0.01 * random.normal(tf.shape(batch))

        student = dense(np.ones((5, 3), "float32"))
        return stages_of(tmp_path, data, student, augment=augment, formats=("int8",))[0]

    assert run() == ["baseline", "student", "student_qat"]
    assert run() == []


def test_the_order_of_bits_decides(data, tmp_path):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, name="body"), keras.layers.Dense(3, name="head")]
    student = keras.Sequential([keras.Input((5,)), *layers])
    for bits, trained in (
        ({"head": 8, ".*": 4}, ["baseline", "student", "student_qat"]),
        ({".*": 4, "head": 8}, ["student_qat"]),
        ({".*": 4, "head": 8}, []),
    ):
        assert stages_of(tmp_path, data, student, bits=bits, formats=("int8",))[0] == trained
