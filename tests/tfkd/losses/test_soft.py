"""Soft losses: against SciPy, at saturated logits, and through one conformance table."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, rel_entr, softmax
from scipy.stats import pearsonr
from tiny_models import predicted

from tfkd import Distiller, losses
from tfkd.errors import InputError

T = 3.0


def np_kl(t, s, y):
    return T**2 * rel_entr(softmax(t / T, -1), softmax(s / T, -1)).sum(-1)


def np_reverse_kl(t, s, y):
    return np_kl(s, t, y)


WEIGHTS = [0.5, 1.0, 2.0, 1.0, 3.0, 1.0]


def np_weighted_kl(t, s, y):
    p, q = softmax(t / T, -1), softmax(s / T, -1)
    return T**2 * (np.array(WEIGHTS) * (p * np.log(p / q) - p + q)).sum(-1)


def np_binary(t, s, y):
    p, q = expit(t / T), expit(s / T)
    return T**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(-1)


def np_weighted_binary(t, s, y):
    p, q = expit(t / T), expit(s / T)
    return T**2 * (np.array(WEIGHTS) * (rel_entr(p, q) + rel_entr(1 - p, 1 - q))).mean(-1)


def np_standardized(t, s, y):
    def z(a):
        return (a - a.mean(-1, keepdims=True)) / a.std(-1, keepdims=True)

    return np_kl(z(t), z(s), y)


def np_dkd(t, s, y):
    rows = np.arange(len(y))
    p, q = softmax(t / T, -1), softmax(s / T, -1)
    p2 = np.stack([p[rows, y], 1 - p[rows, y]], -1)
    q2 = np.stack([q[rows, y], 1 - q[rows, y]], -1)
    keep = np.ones_like(p, bool)
    keep[rows, y] = False
    p_rest, q_rest = (softmax(a[keep].reshape(len(y), -1) / T, -1) for a in (t, s))
    return T**2 * (rel_entr(p2, q2).sum(-1) + 8 * rel_entr(p_rest, q_rest).sum(-1))


def np_dist(t, s, y):
    p, q = softmax(t / T, -1), softmax(s / T, -1)
    inter = np.array([1 - pearsonr(a, b)[0] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - pearsonr(a, b)[0] for a, b in zip(p.T, q.T, strict=True)])
    return T**2 * (inter + intra)


def np_logit_mse(t, s, y):
    d = s - t
    return np.square(d - d.mean(-1, keepdims=True)).mean(-1)


def np_bounded(t, s, y):
    ours, theirs = np.square(s - y).mean(-1), np.square(t - y).mean(-1)
    return np.where(ours + 0.1 > theirs, ours, 0.0)


TABLE = {
    "kl": (losses.KLDivergence(), np_kl),
    "reverse_kl": (losses.KLDivergence(reverse=True), np_reverse_kl),
    "weighted_kl": (losses.KLDivergence(class_weights=WEIGHTS), np_weighted_kl),
    "binary_kl": (losses.BinaryKLDivergence(), np_binary),
    "weighted_binary_kl": (losses.BinaryKLDivergence(class_weights=WEIGHTS), np_weighted_binary),
    "standardized_kl": (losses.StandardizedKLDivergence(), np_standardized),
    "dkd": (losses.DKD(), np_dkd),
    "dist": (losses.DIST(), np_dist),
    "logit_mse": (losses.LogitMeanSquaredError(), np_logit_mse),
    "mse": (losses.MeanSquaredError(), lambda t, s, y: np.square(t - s).mean(-1)),
    "teacher_bounded": (losses.TeacherBounded(margin=0.1), np_bounded),
}
NAMES = list(TABLE)


def example(name, rng, n=24, classes=6):
    t, s = rng.normal(0, 3, (2, n, classes))
    if name == "teacher_bounded":
        return t, s, rng.normal(0, 3, (n, classes))
    return t, s, rng.integers(0, classes, n)


@pytest.mark.parametrize("name", NAMES)
def test_value_equals_the_reference(name, rng):
    loss, reference = TABLE[name]
    t, s, y = example(name, rng)
    got = loss(tf.constant(t), tf.constant(s), T, tf.constant(y))
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, reference(t, s, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_student_equal_to_its_teacher_has_no_loss(name, rng):
    t, _, y = example(name, rng)
    got = TABLE[name][0](tf.constant(t), tf.constant(t), T, tf.constant(y))
    if name == "teacher_bounded":  # it is held to the labels while it is no better
        np.testing.assert_allclose(got, np.square(t - y).mean(-1), rtol=1e-5)
    else:
        np.testing.assert_allclose(got, 0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_serialization(name, rng):
    loss, _ = TABLE[name]
    config = keras.saving.serialize_keras_object(loss)
    again = losses.get(config)
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    t, s, y = example(name, rng)
    arguments = (tf.constant(t), tf.constant(s), T, tf.constant(y))
    np.testing.assert_array_equal(again(*arguments), loss(*arguments))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("mse", "teacher_bounded", "dist")])
def test_gradient_at_saturated_logits(name):
    """At ±40 a softmax in float32 has underflowed; the gradient must not."""
    t = np.array([[40.0, -40.0, -30.0, -20.0, -10.0, 0.0]])
    s = tf.Variable(-t, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(TABLE[name][0](tf.constant(t), s, 1.0, tf.constant([0])))
    gradient = tape.gradient(value, s).numpy()[0]
    assert np.isfinite(value)
    assert value > 1e-2
    assert np.isfinite(gradient).all()
    if name != "reverse_kl":  # a student that gives a class no mass gets no pull there from it
        assert gradient[0] < -1e-3  # towards the class the teacher is sure of


def test_kl_gradient_is_the_difference_of_probabilities():
    t, s = tf.constant([[40.0, -40.0]]), tf.Variable([[-40.0, 40.0]])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(losses.KLDivergence()(t, s, 1.0))
    np.testing.assert_allclose(tape.gradient(value, s), [[-1.0, 1.0]], rtol=1e-5)
    assert float(value) == pytest.approx(80.0, rel=1e-5)


@pytest.mark.parametrize(
    "name", ["kl", "reverse_kl", "standardized_kl", "dkd", "dist", "logit_mse"]
)
def test_a_constant_added_to_all_logits_changes_nothing(name, rng):
    loss, _ = TABLE[name]
    t, s, y = example(name, rng)
    a = loss(tf.constant(t), tf.constant(s), T, tf.constant(y))
    b = loss(tf.constant(t + 5), tf.constant(s - 7), T, tf.constant(y))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_standardized_kl_does_not_see_the_scale_of_the_logits(rng):
    t, s, _ = example("kl", rng)
    loss = losses.StandardizedKLDivergence()
    a, b = (loss(tf.constant(t), tf.constant(k * s), T) for k in (1.0, 0.2))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_kl_at_high_temperature_tends_to_centred_logit_mse(rng):
    # Hinton et al. 2015, section 2.1: T² KL → Σ (centred difference)² / 2C.
    t, s = rng.normal(0, 1, (2, 16, 6))
    got = losses.KLDivergence()(tf.constant(t), tf.constant(s), 200.0)
    want = losses.LogitMeanSquaredError()(tf.constant(t), tf.constant(s), 1.0) / 2
    np.testing.assert_allclose(got, want, rtol=0.05, atol=5e-3)


def test_dkd_with_the_teachers_own_weights_is_kl(rng):
    # Zhao et al. 2022, equation 6: KL = TCKD + (1 − p_target) NCKD.
    t, s, y = example("dkd", rng)
    target, rest = losses.DKD.parts(tf.constant(t), tf.constant(s), T, tf.constant(y))
    p = softmax(t / T, -1)[np.arange(len(y)), y]
    want = losses.KLDivergence()(tf.constant(t), tf.constant(s), T) / T**2
    np.testing.assert_allclose(target + (1 - p) * rest, want, rtol=1e-4, atol=1e-6)


def test_dkd_takes_one_hot_labels_and_two_classes(rng):
    t, s, y = example("dkd", rng)
    loss = losses.DKD()
    one_hot = tf.constant(np.eye(6)[y])
    np.testing.assert_allclose(
        loss(tf.constant(t), tf.constant(s), T, one_hot),
        loss(tf.constant(t), tf.constant(s), T, tf.constant(y)),
    )
    two = loss(tf.constant(t[:, :2]), tf.constant(s[:, :2]), T, tf.constant(y % 2))
    kl = losses.KLDivergence()(tf.constant(t[:, :2]), tf.constant(s[:, :2]), T)
    np.testing.assert_allclose(two, kl, rtol=1e-4, atol=1e-6)


def test_dkd_takes_the_largest_share_of_soft_labels_as_the_target(rng):
    t, s, y = example("dkd", rng)
    one_hot = np.eye(6)[y]
    want = np_dkd(t, s, y)
    for rows in (0.9 * one_hot + 0.1 / 6, 0.7 * one_hot + 0.3 * one_hot[::-1]):
        got = losses.DKD()(tf.constant(t), tf.constant(s), T, tf.constant(rows))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_logit_mse_is_centred_for_classes_alone(rng):
    t, s, _ = example("logit_mse", rng)
    loss = losses.get("logit_mse")
    mixed = losses.WeightedSum([(loss, 2.0)])
    for task, want in (
        ("categorical", np_logit_mse(t, s, 0)),
        ("binary", np.square(s - t).mean(-1)),
    ):
        for one, factor in ((loss, 1), (mixed, 2)):
            got = one.for_task(task)(tf.constant(t), tf.constant(s), T)
            np.testing.assert_allclose(got, factor * want, rtol=1e-5, atol=1e-5)
    x = rng.normal(size=(48, 4)).astype("float32")
    student, teacher = model_for("", keras), model_for("", keras)
    y = labels_for("binary", rng)
    distiller = Distiller(student, teacher, soft_loss="logit_mse")
    distiller.compile(keras.optimizers.SGD(0.0), hard_for("binary", keras), run_eagerly=True)
    want = np.square(predicted(student, x) - predicted(teacher, x)).mean()
    logs = distiller.fit(x, y, batch_size=48, verbose=0).history
    assert logs["soft_loss"][0] == pytest.approx(want, rel=1e-5)


def test_dist_does_not_see_a_linear_change_of_the_probabilities(rng):
    # Pearson's ρ is invariant to scale and shift (Huang et al. 2022, section 3).
    p = softmax(rng.normal(size=(24, 6)), -1)
    q = 0.5 * p + 0.5 / 6
    got = losses.DIST()(tf.math.log(p), tf.math.log(q), 1.0)
    np.testing.assert_allclose(got, 0, atol=1e-5)


# What a model that fits each loss looks like, and the hard loss beside it.
def model_for(name, package, dtype=None):
    layers = package.layers
    body = [package.Input((4,)), layers.Dense(8, activation="tanh", dtype=dtype)]
    return package.Sequential([*body, layers.Dense(6, dtype="float32")])


def hard_for(name, package):
    if "binary" in name:
        return package.losses.BinaryCrossentropy(from_logits=True)
    if name in ("mse", "teacher_bounded"):
        return package.losses.MeanSquaredError()
    return package.losses.SparseCategoricalCrossentropy(from_logits=True)


def labels_for(name, rng, n=48):
    if "binary" in name:
        return rng.integers(0, 2, (n, 6)).astype("float32")
    if name in ("mse", "teacher_bounded"):
        return rng.normal(size=(n, 6)).astype("float32")
    return rng.integers(0, 6, n)


@pytest.mark.parametrize("dtype", [None, "mixed_float16"])
@pytest.mark.parametrize("name", NAMES)
def test_in_fit_with_weights_and_mixed_precision(name, package, dtype, rng):
    """Both Keras flavours: the logged soft loss is the weighted mean of the reference."""
    loss, reference = TABLE[name]
    student, teacher = model_for(name, package, dtype), model_for(name, keras)
    x, y = rng.normal(size=(48, 4)).astype("float32"), labels_for(name, rng)
    weights = rng.uniform(0.2, 2, 48).astype("float32")
    s, t = predicted(student, x), predicted(teacher, x)
    distiller = Distiller(student, teacher, temperature=T, soft_loss=loss)
    # Every loss in a traced step too: that of the other policy.
    distiller.compile("sgd", hard_for(name, package), run_eagerly=dtype is None)
    before = student.get_weights()
    logs = distiller.fit(x, y, batch_size=48, sample_weight=weights, verbose=0).history
    want = np.mean(weights * reference(t.astype("float64"), s.astype("float64"), y))
    assert logs["soft_loss"][0] == pytest.approx(want, rel=2e-5 if dtype is None else 2e-2)
    if dtype is not None:  # the first steps may be skipped, until the loss scale fits
        distiller.fit(x, y, batch_size=8, epochs=4, verbose=0)
    changed = [np.abs(a - b).max() for a, b in zip(before, student.get_weights(), strict=True)]
    assert max(changed) > 0


@pytest.mark.parametrize("name", ["kl", "dkd", "dist", "standardized_kl", "logit_mse", "binary_kl"])
def test_masked_time_steps_do_not_count(name, package, rng):
    """A masked sequence gives the loss of its valid steps alone."""

    def tagger(p):
        la = p.layers
        return p.Sequential(
            [p.Input((5, 3)), la.Masking(), la.SimpleRNN(4, return_sequences=True), la.Dense(6)]
        )

    student, teacher = tagger(package), tagger(keras)
    x = rng.normal(size=(8, 5, 3)).astype("float32")
    x[:, 3:] = 0.0  # Masking takes these steps out
    y = rng.integers(0, 6, (8, 5))
    if name == "binary_kl":
        y = rng.integers(0, 2, (8, 5, 6)).astype("float32")
    s, t = predicted(student, x)[:, :3], predicted(teacher, x)[:, :3]
    distiller = Distiller(student, teacher, temperature=T, soft_loss=TABLE[name][0])
    eagerly = name not in ("kl", "dist")  # of a loss per step and of one over the batch
    distiller.compile("sgd", hard_for(name, package), run_eagerly=eagerly)
    logs = distiller.fit(x, y, batch_size=8, verbose=0).history
    flat = [a.reshape(24, -1).astype("float64") for a in (t, s)]
    want = TABLE[name][1](*flat, y[:, :3].reshape(24, -1).squeeze())
    if name == "dist":  # its second part is the batch's, masked steps included
        assert np.isfinite(logs["soft_loss"][0])
    else:
        assert logs["soft_loss"][0] == pytest.approx(want.mean(), rel=1e-4)


def test_names_and_mistakes():
    for name in ("kl", "reverse_kl", "binary_kl", "standardized_kl", "dkd", "dist", "logit_mse",
                 "mse", "teacher_bounded"):  # fmt: skip
        assert isinstance(losses.get(name), losses.SoftLoss)
    with pytest.raises(InputError, match="must be one of 'auto', 'adaptive', 'hinton', 'kl'"):
        losses.get("kullback")
    with pytest.raises(InputError, match="class_weights must be numbers > 0"):
        losses.KLDivergence(class_weights=[1.0, -1.0])
    with pytest.raises(InputError, match="does not show the task"):
        losses.default_for(None)


@pytest.mark.parametrize("labels", [1, 2, 6])
def test_dist_of_independent_outputs(labels, rng):
    t, s = rng.normal(0, 3, (2, 24, labels))
    p, q = expit(t / T), expit(s / T)
    want = np.mean([1 - pearsonr(a, b)[0] for a, b in zip(p.T, q.T, strict=True)])
    want = np.full(24, want)
    if labels > 2:
        want += [1 - pearsonr(a, b)[0] for a, b in zip(p, q, strict=True)]
    got = losses.get("binary_dist")(tf.constant(t), tf.constant(s), T)
    np.testing.assert_allclose(got, T**2 * want, rtol=1e-4)
    assert losses.DIST(independent=True).tasks == ("binary",)
