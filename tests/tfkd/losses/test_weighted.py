"""`WeightedSum`: the sum of its parts by NumPy, and the properties it inherits from them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import rel_entr, softmax

from tfkd import Distiller, losses
from tfkd.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The teacher's:UserWarning")  # it is untrained


def np_kl(t, s, temperature):
    p, q = (softmax(a / temperature, -1) for a in (t, s))
    return temperature**2 * rel_entr(p, q).sum(-1)


def np_dist(t, s, temperature):
    p, q = (softmax(a / temperature, -1) for a in (t, s))
    inter = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (inter + intra)


PARTS = [("kl", 0.5, 2.0), (losses.DIST(), 1.5)]


def test_it_is_the_weighted_sum_and_survives_serialization(rng):
    t, s = rng.normal(0, 2, (2, 12, 6))
    loss = losses.WeightedSum(PARTS)
    want = 0.5 * np_kl(t, s, 2.0) + 1.5 * np_dist(t, s, 3.0)
    again = losses.get(keras.saving.serialize_keras_object(loss))
    assert repr(again) == repr(loss)
    for one in (loss, again, eval(repr(loss), vars(losses))):
        np.testing.assert_allclose(one(tf.constant(t), tf.constant(s), 3.0), want, rtol=1e-5)


def test_what_it_takes_over_from_its_parts():
    loss = losses.WeightedSum(PARTS)
    assert (loss.tasks, loss.needs_labels, loss.mixes_elements) == (("categorical",), False, True)
    loss = losses.WeightedSum([("dkd", 1.0), ("logit_mse", 0.1)])
    assert (loss.tasks, loss.needs_labels, loss.mixes_elements) == (("categorical",), True, False)
    loss = losses.WeightedSum([("binary_kl", 1.0), ("logit_mse", 0.1)])
    assert loss.tasks == ("binary",)
    weighted = losses.KLDivergence(class_weights=[1.0, 2.0, 3.0])
    assert losses.WeightedSum([("dist", 1.0), (weighted, 1.0)]).class_weights == [1.0, 2.0, 3.0]


def test_masked_steps_in_fit(package, rng):
    def tagger(p, seed):
        p.utils.set_random_seed(seed)
        la = p.layers
        return p.Sequential(
            [p.Input((5, 3)), la.Masking(), la.SimpleRNN(4, return_sequences=True), la.Dense(6)]
        )

    student, teacher = tagger(package, 0), tagger(keras, 1)
    x, y = rng.normal(size=(8, 5, 3)).astype("float32"), rng.integers(0, 6, (8, 5))
    x[:, 3:] = 0.0  # Masking takes these steps out
    t, s = (np.asarray(m(x))[:, :3].reshape(24, 6).astype("float64") for m in (teacher, student))
    distiller = Distiller(student, teacher, temperature=3.0, soft_loss=losses.WeightedSum(PARTS))
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss)
    logs = distiller.fit(x, y, batch_size=8, verbose=0).history
    want = 0.5 * np_kl(t, s, 2.0) + 1.5 * np_dist(t, s, 3.0)
    assert logs["soft_loss"][0] == pytest.approx(want.mean(), rel=1e-4)


def test_the_temperature_of_keras_distillation_stays_with_its_part():
    kl = keras.distillation.LogitsDistillation(temperature=7.0, loss=keras.losses.KLDivergence())
    assert losses.WeightedSum([(kl, 1.0), ("dist", 1.0)]).losses[0][2] == 7.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "needs a list"),
        ("kl", "needs a list"),
        ({"kl": 1.0}, "needs a list"),
        (["kl"], r"is \(loss, weight\)"),
        ([("auto", 1.0)], "must name its loss"),
        ([("kl", -1.0)], "weight must be a number >= 0"),
        ([("kl", 1.0, 0.0)], "temperature must be a number > 0"),
        ([("kl", 1.0), ("mse", 1.0)], r"same kind of output, got KLDivergence \(categorical\)"),
        ([("kull", 1.0)], "must be one of 'auto'"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(InputError, match=message):
        losses.WeightedSum(given)


def test_class_weights_are_held_against_the_output():
    weighted = [losses.KLDivergence(class_weights=[1.0] * n) for n in (3, 4)]
    with pytest.raises(InputError, match="differ in length"):
        losses.WeightedSum([(one, 1.0) for one in weighted])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    distiller = Distiller(model, other, soft_loss=losses.WeightedSum([(weighted[1], 1.0)]))
    with pytest.raises(InputError, match="class_weights has 4 entries, but .* 3 classes"):
        distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
