"""`compress` keeps the better of the student with and without its teacher."""

import dataclasses

import keras
import numpy as np
import pytest

import tfkd
from tfkd.compression.finishing import Finisher
from tfkd.compression.recipe import Recipe
from tfkd.compression.trainer import Trainer
from tfkd.distillation.fitting import Fitting
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
        assert getattr(rounding, name) == pytest.approx(right.mean())
    assert rounding.calibrated > 0.8 and f"the {kept} one is kept" in rounding.to_json()["summary"]
    right = finished.files["student_int8"].predict(x).argmax(1) == y
    assert right.mean() >= rounding.calibrated - 0.05


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
    assert "since the other's file does not compute" in rounding.to_json()["summary"]


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
