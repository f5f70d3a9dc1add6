"""Label smoothing as a baseline: Keras's loss in a `Distiller`, and a teacher of equal logits."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax
from tiny_models import dense

from tfkd import Distiller

pytestmark = pytest.mark.filterwarnings("ignore:The teacher's:UserWarning")  # it knows nothing
SMOOTHING = 0.2


def smoothed(package):
    return package.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING)


@pytest.mark.parametrize("soft_loss", [None, "kl"])
def test_keras_smooths_the_labels_of_the_hard_loss(soft_loss, package, batch):
    x, numbers = batch
    y = package.utils.to_categorical(numbers, 3)
    student = dense(package)
    log_q = log_softmax(np.asarray(student(x)), -1)
    want = -((1 - SMOOTHING) * log_q[np.arange(32), numbers] + SMOOTHING * log_q.mean(-1)).mean()
    distiller = Distiller(student, dense(keras), soft_loss=soft_loss)
    distiller.compile("sgd", smoothed(package), run_eagerly=True)
    logs = distiller.fit(x, y, batch_size=32, verbose=0).history
    assert logs["hard_loss"][0] == pytest.approx(want, rel=1e-5)
    assert (logs["soft_loss"][0] == 0) == (soft_loss is None)


def test_a_teacher_of_equal_logits_smooths_class_numbers(package, batch):
    """The same update as by Keras's loss on one-hot labels: the losses differ by a constant."""
    x, numbers = batch
    student, plain = dense(package), dense(package)
    plain.set_weights(student.get_weights())
    teacher = np.zeros((32, 3), "float32")
    distiller = Distiller(
        student, teacher, alpha=1 - SMOOTHING, temperature=1.0, soft_loss="kl",
        teacher_from_logits=True,
    )  # fmt: skip
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(package.optimizers.SGD(0.5), hard, run_eagerly=True)
    distiller.fit(x, numbers, batch_size=32, verbose=0)
    plain.compile(package.optimizers.SGD(0.5), smoothed(package), run_eagerly=True)
    plain.fit(x, package.utils.to_categorical(numbers, 3), batch_size=32, verbose=0)
    for ours, keras_own in zip(student.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=1e-6)
