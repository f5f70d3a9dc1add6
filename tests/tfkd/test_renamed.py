"""Old public names work, with a DeprecationWarning that states the new name."""

import importlib
import pkgutil

import keras
import numpy as np
import pytest

import tfkd
from tfkd.errors import InputError
from tfkd.model import backends
from tfkd.pruning.iterative.result import Measured, Spiral

#: Until tfkd 0.3.
NAMES = {
    "tfkd.Taught": "tfkd.distillation.teachers.TeacherBatch",
    "tfkd.distillation.teachers.Taught": "tfkd.distillation.teachers.teacher.TeacherBatch",
    "tfkd.distillation.teachers.raise_untaught": (
        "tfkd.distillation.teachers.teacher.check_all_taught"
    ),
    "tfkd.export.Proof": "tfkd.export.micro.evaluation.MicroEvaluation",
    "tfkd.export.prove": "tfkd.export.micro.evaluation.evaluate_on_tflm",
    "tfkd.losses.TASKS": "tfkd.losses.SOFT_TASKS",
    "tfkd.losses.task_of": "tfkd.losses.task_of_loss",
    "tfkd.quantization.frozen": "tfkd.quantization.export_form",
    "tfkd.quantization.parts": "tfkd.quantization.quantizers",
}
KEYWORDS = [
    ({"amount": 0.5, "of": "macs"}, {"amount": 0.5, "metric": "macs"}),
    ({"metric": "parameters", "to": 40}, {"metric": "parameters", "target": 40}),
    ({"amount": 0.5, "keep": "head"}, {"amount": 0.5, "skip": "head"}),
]


@pytest.fixture(scope="module")
def model():
    layers = [keras.layers.Dense(16, activation="relu", name="body"), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(8, name="head")])


@pytest.mark.parametrize(("old", "new"), NAMES.items())
def test_an_old_name_is_the_new_thing(old, new):
    backends.tfmot()  # whose own import warns
    package, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"^{old} is now {new}; .* tfkd 0.3"):
        thing = getattr(importlib.import_module(package), name)
    assert thing is pkgutil.resolve_name(new)


@pytest.mark.parametrize("package", ["tfkd", "tfkd.export", "tfkd.losses", "tfkd.quantization"])
def test_a_name_that_never_was_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(package).no_such_name


@pytest.mark.parametrize(("old", "new"), KEYWORDS, ids=["of", "to", "keep"])
def test_an_old_keyword_does_what_the_new_one_does(model, old, new):
    old, new = dict(old), dict(new)
    (gone,) = set(old) - set(new)
    with pytest.warns(
        DeprecationWarning, match=rf"^prune_channels\({gone}=\.\.\.\) is now \w+="
    ) as log:
        before = tfkd.prune_channels(model, round_to=1, **old)
    assert [one.filename for one in log] == [__file__]
    today = tfkd.prune_channels(model, round_to=1, **new)
    x = np.ones((3, 4), "float32")
    assert before.count_params() == today.count_params() < model.count_params()
    np.testing.assert_array_equal(before(x), today(x))


def test_both_keywords_at_once_are_refused(model):
    with pytest.raises(InputError, match="of is the old name of metric, and both were given"):
        tfkd.prune_channels(model, 0.5, of="macs", metric="bytes")


def test_the_old_keyword_of_spiral():
    with (
        pytest.warns(DeprecationWarning, match=r"^spiral\(keep=\.\.\.\) is now skip="),
        pytest.raises(InputError, match="step must lie between 0 and 1"),
    ):
        tfkd.spiral(None, None, keep="head", target={"macs": 0.5}, step=3)


def test_the_old_keywords_of_slimming_and_of_the_plot_of_a_spiral(tmp_path):
    with pytest.warns(DeprecationWarning, match=r"^Slimming\(of=\.\.\.\) is now weights=") as log:
        slimming = tfkd.Slimming(0.1, of="kernels")
    assert [one.filename for one in log] == [__file__]
    with pytest.warns(DeprecationWarning, match=r"^Slimming\.of is now Slimming\.weights"):
        assert slimming.of == slimming.weights == "kernels"
    one = Measured(parameters=10, macs=20, validation=0.5)
    made = Spiral(None, one, one, (), "accuracy", {"macs": 10.0}, None, True, "it is", 1)
    with pytest.warns(DeprecationWarning, match=r"^plot\(of=\.\.\.\) is now cost="):
        made.plot(tmp_path / "old.svg", of="parameters")
    made.plot(tmp_path / "new.svg", cost="parameters")
    made.plot(tmp_path / "macs.svg", "macs")
    text = [(tmp_path / f"{name}.svg").read_text() for name in ("old", "new", "macs")]
    assert ["parameters, as a part" in one for one in text] == [True, True, False]


def test_the_old_method_of_a_distiller(model):
    distiller = tfkd.Distiller(keras.models.clone_model(model), model, soft_loss="mse")
    distiller.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    with pytest.warns(DeprecationWarning, match="is now Distiller.cache_teacher"):
        cache = distiller.ask_teacher(x)
    before, today = (one.attach(x).answers for one in (cache, distiller.cache_teacher(x)))
    assert before.keys() == today.keys()
    for name in today:
        np.testing.assert_array_equal(before[name], today[name])
