"""`verify` says yes to a faithful file and no to another model's."""

import keras
import numpy as np
import pytest
from sklearn import metrics
from tfkd.export import to_tflite, verify
from tfkd.export.verification import score

from tfkd.errors import InputError


@pytest.mark.parametrize("engine", ["xnnpack", "reference"])
def test_a_faithful_file_passes(files, qat, digits, engine):
    result = verify(files["int8"], qat, digits.test.x, digits.test.y, engine=engine)
    assert result.passed and result.engine == engine and result.samples == 360
    assert result.argmax_agreement >= 0.99
    assert result.max_lsb < 4.5
    outputs = files["int8"].predict(digits.test.x, engine=engine)
    want = metrics.accuracy_score(digits.test.y, outputs.argmax(-1))
    assert result.metrics["accuracy"] == pytest.approx(want)
    assert result.model_metrics["accuracy"] > 0.9


def test_the_differences_are_what_numpy_says(files, student, digits):
    result = verify(files["int8_ptq"], student, digits.test.x)
    difference = np.abs(
        files["int8_ptq"].predict(digits.test.x) - student.predict(digits.test.x, verbose=0)
    )
    assert result.max_abs_diff == pytest.approx(difference.max(), rel=1e-5)
    assert result.mean_abs_diff == pytest.approx(difference.mean(), rel=1e-5)
    assert result.max_lsb == pytest.approx(
        difference.max() / files["int8_ptq"].outputs[0].scale, rel=1e-5
    )
    assert result.metrics == {}


def test_another_models_file_fails(files, digits, student):
    other = keras.models.clone_model(student)
    assert not verify(files["float32"], other, digits.test.x).passed


def test_a_model_that_says_the_same_of_everything_proves_nothing(digits):
    # Every file "agrees" with a collapsed model: the numbers behind the argmax decide.
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    one, other = (keras.Model(inputs, keras.layers.Dense(3, name="d")(flat)) for _ in range(2))
    for model, size in ((one, 0.01), (other, 0.02)):
        kernel = np.random.default_rng(0).normal(size=(64, 3)) * size
        model.set_weights([kernel, np.array([9.0, 0.0, 0.0])])
    result = verify(to_tflite(one), other, digits.test.x)
    assert result.argmax_agreement == 1.0
    assert not result.passed


def test_regression(rng, tmp_path):
    x = rng.normal(size=(64, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    y = model.predict(x, verbose=0) + 0.5
    path = to_tflite(model).save(tmp_path / "m.tflite")
    result = verify(path, model, x, y)
    assert result.passed and result.argmax_agreement is None
    assert result.metrics == pytest.approx({"mae": 0.5, "rmse": 0.5}, rel=1e-4)


@pytest.mark.parametrize("labels", ["numbers", "one-hot"])
def test_score(rng, labels):
    outputs = rng.normal(size=(50, 4))
    y = rng.integers(0, 4, 50)
    want = metrics.accuracy_score(y, outputs.argmax(-1))
    y = np.eye(4)[y] if labels == "one-hot" else y
    assert score(outputs, y) == {"accuracy": pytest.approx(want)}


def test_bad_input(files, student, digits):
    with pytest.raises(InputError, match="engine must be one of"):
        verify(files["int8"], student, digits.test.x, engine="gpu")
    with pytest.raises(InputError, match="360 outputs but 3 labels"):
        verify(files["int8"], student, digits.test.x, digits.test.y[:3])
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(InputError, match="was not made from this model"):
        verify(files["int8"], other, digits.test.x)
