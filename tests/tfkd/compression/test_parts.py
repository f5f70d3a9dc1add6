"""A long training in parts resumes after a kill, and ends with the same weights."""

import keras
import numpy as np
import pytest
import tf_keras

import tfkd
from tfkd.compression import parts
from tfkd.compression.settings import Training
from tfkd.compression.stages import Stages
from tfkd.compression.trainer import Trainer
from tfkd.translation.copies import copy_of

TRAINING = Training(epochs=5, learning_rate=1e-2, batch_size=8)
RNG = np.random.default_rng(0)
PART = tfkd.Samples(RNG.normal(size=(24, 6)).astype("float32"), RNG.integers(0, 3, 24))
DATA = tfkd.Data("made", PART, PART, PART)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Let each part be of two epochs of these nets."""
    monkeypatch.setattr(parts, "_WORK", 2 * 3 * 24 * (6 * 4 + 4 * 3) - 1)


def net(package=keras, dropout=0.0):
    layers = package.layers
    package.utils.set_random_seed(3)
    hidden = [layers.Dense(4, activation="relu"), *([layers.Dropout(dropout)] if dropout else [])]
    return package.Sequential([layers.Input((6,)), *hidden, layers.Dense(3)])


def quantize_aware():
    return tfkd.quantize_aware(net(tf_keras))


class KilledError(Exception):
    """What ends a training in its middle."""


def trained(student, folder=None, *, die_at=None, teach=None):
    """Return a trained copy's weights, and the epochs of this call, which may end early."""
    epochs = []

    def progress(stage, done, total):
        epochs.append(done)
        if done == die_at:
            raise KilledError

    stages, student = Stages(folder), copy_of(student) if not _is_qat(student) else student
    trainer = Trainer(DATA, TRAINING, progress=progress)
    trainer.fit("student", student, teach, parts=stages.parts("student", {"of": "a test"}))
    return student.get_weights(), epochs, trainer.histories["student"]


def _is_qat(student):
    return any(layer.name.startswith("quant_") for layer in student.layers)


TEACH = {
    "alone": None,
    "taught": lambda one: tfkd.Distiller(one, net()),
}


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (net, "alone"),
        (lambda: net(dropout=0.3), "taught"),
        (lambda: net(tf_keras), "taught"),
        (quantize_aware, "alone"),
        (quantize_aware, "taught"),
    ],
)
def test_a_killed_training_ends_in_the_same_weights(make, how, tmp_path):
    whole, epochs, curves = trained(make(), tmp_path / "whole", teach=TEACH[how])
    assert epochs == [0, 1, 2, 3, 4, 5]
    with pytest.raises(KilledError):
        trained(make(), tmp_path / "killed", die_at=5, teach=TEACH[how])
    assert len(list((tmp_path / "killed").glob("*.npz"))) == 1  # the last part alone is kept
    again, epochs, joined = trained(make(), tmp_path / "killed", teach=TEACH[how])
    assert epochs == [0, 5]
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert joined == curves
    assert len(joined["loss"]) == 5


def test_a_damaged_part_is_trained_again(tmp_path):
    with pytest.raises(KilledError):
        trained(net(), tmp_path / "killed", die_at=3)
    [file] = (tmp_path / "killed").glob("*.npz")
    file.write_bytes(file.read_bytes()[:-40])
    again, epochs, _ = trained(net(), tmp_path / "killed")
    assert epochs == [0, 1, 2, 3, 4, 5]
    for one, other in zip(trained(net(), tmp_path / "whole")[0], again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_short_training_has_one_part(monkeypatch):
    assert parts.ends(net(), 24, 5) == [2, 4, 5]
    assert parts.ends(net(), 24, 4) == [2, 4]
    assert parts.ends(net(), 12, 5) == [4, 5]
    monkeypatch.undo()
    assert parts.ends(net(), 24, 5) == [5]


def test_what_draws_in_tf_keras_has_one_part():
    assert parts.ends(net(tf_keras, dropout=0.3), 24, 5) == [5]
    assert parts.ends(net(dropout=0.3), 24, 5) == [2, 4, 5]


@pytest.mark.parametrize("more", [{"patience": 3}, {"callbacks": lambda stage, package: []}])
def test_callbacks_are_not_divided(more, tmp_path):
    stages = Stages(tmp_path)
    trainer = Trainer(DATA, Training(epochs=5, learning_rate=1e-2, batch_size=8, **more))
    trainer.fit("student", net(), parts=stages.parts("student", {}))
    assert not list(tmp_path.glob("*"))


def test_what_keeps_no_parts_is_one_fit(monkeypatch):
    """`compare` prints a call of `fit` that repeats a run to the last bit."""
    long = trained(net())[0]
    monkeypatch.undo()
    for one, other in zip(long, trained(net())[0], strict=True):
        np.testing.assert_array_equal(one, other)
