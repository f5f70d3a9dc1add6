"""Soft losses against NumPy and SciPy, and at logits where softmax saturates."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_softmax, rel_entr, softmax

from tfkd import losses
from tfkd.errors import InputError


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kl_equals_scipy(rng, temperature):
    t, s = rng.normal(0, 5, (2, 32, 7))
    want = rel_entr(softmax(t / temperature, -1), softmax(s / temperature, -1)).sum(-1)
    got = losses.KLDivergence()(t, s, temperature)
    np.testing.assert_allclose(got, temperature**2 * want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_binary_kl_equals_scipy(rng, temperature):
    t, s = rng.normal(0, 3, (2, 32, 5))
    p, q = expit(t / temperature), expit(s / temperature)
    want = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(-1)
    got = losses.BinaryKLDivergence()(t, s, temperature)
    np.testing.assert_allclose(got, temperature**2 * want, rtol=1e-5, atol=1e-5)


def test_mean_squared_error_ignores_the_temperature(rng):
    t, s = rng.normal(0, 3, (2, 32, 3))
    got = losses.MeanSquaredError()(t, s, 4.0)
    np.testing.assert_allclose(got, np.square(t - s).mean(-1), rtol=1e-5)


def test_kl_at_high_temperature_tends_to_centred_logit_mse(rng):
    # Hinton et al. 2015, section 2.1: the limit is half the squared logit distance over classes.
    t, s = rng.normal(0, 1, (2, 16, 6))
    centred = (t - t.mean(-1, keepdims=True)) - (s - s.mean(-1, keepdims=True))
    got = losses.KLDivergence()(tf.constant(t), tf.constant(s), 100.0)
    np.testing.assert_allclose(got, np.square(centred).mean(-1) / 2, rtol=0.05, atol=5e-3)


@pytest.mark.parametrize("loss", [losses.KLDivergence(), losses.BinaryKLDivergence()])
def test_a_confidently_wrong_student_gets_its_full_gradient(loss):
    t = tf.constant([[40.0, -40.0]])
    s = tf.Variable([[-40.0, 40.0]])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(t, s, 1.0))
    gradient = tape.gradient(value, s).numpy()
    assert np.isfinite(value) and value > 30
    # ∂/∂s KL = q − p: −1 for the class the teacher is sure of (over 2 labels for the mean).
    share = 0.5 if loss.task == "binary" else 1.0
    np.testing.assert_allclose(gradient, [[-share, share]], rtol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("inside_graph", [False, True])
def test_logits_come_back_from_probabilities(rng, activation, inside_graph):
    z = rng.normal(0, 4, (16, 5)).astype("float32")

    def there_and_back(z):
        return losses.logits_of(getattr(tf.nn, activation)(z), activation)

    got = (tf.function(there_and_back) if inside_graph else there_and_back)(tf.constant(z)).numpy()
    if activation == "softmax":
        got, z = log_softmax(got, -1), log_softmax(z, -1)
    np.testing.assert_allclose(got, z, rtol=1e-3, atol=1e-3)


def test_logits_inside_a_graph_are_exact_where_probabilities_have_underflowed():
    @tf.function
    def there_and_back(z):
        return losses.logits_of(tf.nn.softmax(z), "softmax")

    z = tf.constant([[200.0, -200.0]])
    np.testing.assert_array_equal(there_and_back(z), z)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("sparse_categorical_crossentropy", ("categorical", False)),
        ("categorical_crossentropy", ("categorical", False)),
        ("binary_crossentropy", ("binary", False)),
        ("mse", ("regression", None)),
        ("mean_absolute_error", ("regression", None)),
        ("huber", ("regression", None)),
        ("something_else", (None, None)),
    ],
)
def test_task_of_a_name(name, want):
    assert losses.task_of(name) == want


def test_task_of_objects_and_functions(package):
    objects = package.losses
    assert losses.task_of(objects.SparseCategoricalCrossentropy(from_logits=True)) == (
        "categorical",
        True,
    )
    assert losses.task_of(objects.BinaryCrossentropy()) == ("binary", False)
    assert losses.task_of(objects.Huber()) == ("regression", None)
    assert losses.task_of(objects.categorical_crossentropy) == ("categorical", False)


def test_get_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="allowed: 'auto'"):
        losses.get("nonsense", "categorical")
    with pytest.raises(InputError, match="for regression outputs"):
        losses.get("mse", "categorical")
    with pytest.raises(InputError, match="can't be told"):
        losses.get("auto", None)
