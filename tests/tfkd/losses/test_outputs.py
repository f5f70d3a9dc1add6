"""The meaning of outputs, and logits from probabilities."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfkd import losses


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


@pytest.mark.parametrize("through", [tf.identity, lambda p: tf.cast(p, tf.float64)])
def test_logits_inside_a_graph_are_exact_where_probabilities_have_underflowed(through):
    @tf.function
    def there_and_back(z):
        return losses.logits_of(through(tf.nn.softmax(z)), "softmax")

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
    assert losses.task_of_loss(name) == want


def test_task_of_objects_and_functions(package):
    objects = package.losses
    assert losses.task_of_loss(objects.SparseCategoricalCrossentropy(from_logits=True)) == (
        "categorical",
        True,
    )
    assert losses.task_of_loss(objects.BinaryCrossentropy()) == ("binary", False)
    assert losses.task_of_loss(objects.Huber()) == ("regression", None)
    assert losses.task_of_loss(objects.categorical_crossentropy) == ("categorical", False)
