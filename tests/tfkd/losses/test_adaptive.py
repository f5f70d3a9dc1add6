"""`Balanced`: the teacher's pull at the logits against the labels', by hand and by step."""

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tf_keras
from scipy.special import expit, log_softmax, softmax

import tfkd
from tfkd import losses

RNG = np.random.default_rng(0)
T, S = (RNG.normal(scale=3, size=(16, 5)).astype("float32") for _ in range(2))
Y = RNG.integers(0, 5, 16)


def pull(values, at, step=1e-3):
    """Numerical gradient of the sum of `values(at)`, float64."""
    at = at.astype("float64")
    gradient = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (values(up).sum() - values(down).sum()) / (2 * step)
    return gradient


def rms(gradient, rows=slice(None)):
    return np.sqrt((gradient[rows] ** 2).sum(-1).mean())


def kl(student, teacher=T, temperature=2.0):
    p, q = (softmax(z.astype("float64") / temperature, -1) for z in (teacher, student))
    return temperature**2 * (p * np.log(p / q)).sum(-1)


def cross_entropy(student):
    return -np.log(softmax(student, -1)[np.arange(len(Y)), Y])


def test_classes():
    found = losses.Balanced("kl", 2.0, trusting=True)(
        tf.constant(T), tf.constant(S), 2.0, tf.constant(Y)
    )
    scale = 2.0 * rms(pull(cross_entropy, S)) / rms(pull(kl, S))
    np.testing.assert_allclose(found, scale * kl(S), rtol=1e-4)


def test_the_pull_is_the_labels_pull_times_the_ratio():
    for inner in ("kl", "standardized_kl", "dist", "dkd"):
        student = tf.Variable(S)
        with tf.GradientTape() as tape:
            values = losses.Balanced(inner, trusting=True)(
                tf.constant(T), student, 1.0, tf.constant(Y)
            )
        found = rms(tape.gradient(values, student).numpy())
        assert found == pytest.approx(rms(pull(cross_entropy, S)), rel=1e-4)


def test_yes_and_no():
    y = (RNG.random((16, 5)) < 0.4).astype("float32")

    def hard(z):
        return -(y * np.log(expit(z)) + (1 - y) * np.log(expit(-z))).mean(-1)

    def soft(z):
        p, q = expit(T.astype("float64")), expit(z)
        return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)

    found = losses.Balanced("binary_kl", trusting=True)(
        tf.constant(T), tf.constant(S), 1.0, tf.constant(y)
    )
    expected = rms(pull(hard, S)) / rms(pull(soft, S)) * soft(S.astype("float64"))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_values():
    y = RNG.normal(size=(16, 5)).astype("float32")
    found = losses.Balanced("mse", trusting=True)(
        tf.constant(T), tf.constant(S), 1.0, tf.constant(y)
    )
    hard, soft = (S - y) / 5, 2 * (S - T) / 5
    expected = rms(hard) / rms(soft) * ((S - T) ** 2).mean(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_masked_and_unlabeled_elements():
    mask, known = RNG.random(16) < 0.7, RNG.random(16) < 0.6
    found = losses.Balanced("kl", trusting=True)(
        tf.constant(T), tf.constant(S), 2.0, tf.constant(Y), tf.constant(mask), tf.constant(known)
    ).numpy()
    scale = rms(pull(cross_entropy, S), mask & known) / rms(pull(kl, S), mask)
    np.testing.assert_allclose(found[known], (scale * kl(S))[known], rtol=1e-4)
    np.testing.assert_allclose(found[~known], kl(S)[~known], rtol=1e-4)


def test_without_labels_it_is_the_other_loss():
    plain = losses.KLDivergence()(tf.constant(T), tf.constant(S), 2.0)
    np.testing.assert_array_equal(
        losses.Balanced("kl", trusting=True)(T, tf.constant(S), 2.0), plain
    )


def test_a_student_that_equals_its_teacher_or_its_labels():
    same = losses.Balanced("kl", trusting=True)(tf.constant(T), tf.constant(T), 1.0, tf.constant(Y))
    sure = tf.constant(1e4 * np.eye(5, dtype="float32")[Y])
    done = losses.Balanced("kl", trusting=True)(tf.constant(T), sure, 1.0, tf.constant(Y))
    assert np.isfinite(same).all() and np.all(done.numpy() < 1e-2)


def test_bad_input():
    with pytest.raises(tfkd.InputError, match="one kind of output"):
        losses.Balanced("logit_mse")
    with pytest.raises(tfkd.InputError, match="ratio"):
        losses.Balanced("kl", ratio=0)


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_in_a_distiller_saved_and_loaded(package, tmp_path):
    student = package.Sequential([package.Input((4,)), package.layers.Dense(5)])
    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    x = RNG.normal(size=(16, 4)).astype("float32")
    distiller = tfkd.Distiller(student, teacher, 0.25, 2.0, losses.Balanced("kl", 1.5, True))
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(package.optimizers.SGD(0.0), hard)
    logits = student(x).numpy()
    history = distiller.fit(x, Y, batch_size=16, verbose=0).history
    scale = 1.5 * rms(pull(cross_entropy, logits))
    own = lambda z: kl(z, teacher(x).numpy())  # noqa: E731
    expected = (scale / rms(pull(own, logits)) * own(logits)).mean()
    assert history["soft_loss"][0] == pytest.approx(expected, rel=1e-4)
    distiller.save(tmp_path / "d.keras")
    again = package.models.load_model(tmp_path / "d.keras")
    assert again.get_config()["soft_loss"] == distiller.get_config()["soft_loss"]


# --- trust --------------------------------------------------------------------------------


def trust_of(kappa, ahead, sure=0.5):
    return np.clip(kappa / sure, 0, 1) ** 2 * np.clip(1 - ahead / 0.1, 0, 1)


@pytest.mark.parametrize(("right", "ahead"), [(0.9, -1), (0.6, 0.05), (0.4, -1)])
def test_a_teacher_counts_where_and_as_far_as_it_is_right(right, ahead):
    count = 200
    y = RNG.integers(0, 5, count)
    teacher = RNG.normal(size=(count, 5)).astype("float32")
    teacher += 9 * np.eye(5, dtype="float32")[y] * (np.arange(count) < right * count)[:, None]
    is_right = teacher.argmax(1) == y
    student = RNG.normal(size=(count, 5)).astype("float32")
    if ahead > 0:  # right a little more often than the teacher
        wins = np.arange(count) < round((is_right.mean() + ahead) * count)
        student = 9 * np.eye(5, dtype="float32")[np.where(wins, y, (y + 1) % 5)]
        student += RNG.normal(size=(count, 5)).astype("float32")
    found = losses.Balanced("kl")(
        tf.constant(teacher), tf.constant(student), 2.0, tf.constant(y)
    ).numpy()
    kappa = sklearn.metrics.cohen_kappa_score(y, teacher.argmax(1))
    gap = (student.argmax(1) == y).mean() - is_right.mean()
    soft = kl(student, teacher)
    hard = softmax(student.astype("float64"), -1) - np.eye(5)[y]
    gradient = 2 * (softmax(student / 2.0, -1) - softmax(teacher / 2.0, -1))
    scale = trust_of(kappa, gap) * rms(hard) / rms(gradient, is_right)
    labels = -log_softmax(student.astype("float64"), -1)[np.arange(count), y]
    follow = trust_of(kappa, gap) * is_right
    want = np.where(is_right, scale * soft, 0) + (1 - follow) * labels
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5)
    assert (scale > 0) == (gap < 0.1)


def test_labels_of_yes_no_outputs_count_one_by_one():
    y = (RNG.random((64, 3)) < 0.5).astype("float32")
    wrong = RNG.random((64, 3)) < 0.2
    teacher = (3 * (2 * y - 1) * np.where(wrong, -1, 1)).astype("float32")
    student = tf.Variable(RNG.normal(size=(64, 3)).astype("float32"))
    with tf.GradientTape() as tape:
        values = losses.Balanced("binary_kl")(tf.constant(teacher), student, 1.0, tf.constant(y))
    gradient = tape.gradient(values, student).numpy()
    labels = (expit(student.numpy()) - y) / 3
    np.testing.assert_allclose(gradient[wrong], labels[wrong], rtol=1e-4)
    taught = gradient[~wrong] / labels[~wrong]  # of the teacher's answer, 0.95, and its size
    assert np.abs(taught - 1).min() > 1e-3


@pytest.mark.parametrize("size", [1e-7, 1e-5])
def test_next_to_nothing_is_not_made_loud(size):
    teacher = tf.constant(size * np.eye(5, dtype="float32")[Y])  # right, and as good as constant
    student = tf.Variable(S)
    with tf.GradientTape() as tape:
        soft = losses.default_for("categorical")(teacher, student, 1.0, tf.constant(Y))
    labels = softmax(S.astype("float64"), -1) - np.eye(5)[Y]
    assert soft.numpy().max() < 1000
    gap = tape.gradient(soft, student).numpy() - labels
    assert rms(gap) < 1.5 * rms(labels)
    parts = [(losses.Balanced("dist"), tf.zeros_like(teacher)), (losses.Balanced("kl"), student)]
    for loss, constant in parts:  # DIST of what does not vary, KL of the student's own answers
        value = loss(constant, student, 1.0, tf.constant(Y))
        assert np.all(value.numpy() < 1000), loss


@pytest.mark.parametrize("knows", [1.0, 0.3, 0.0])
def test_values_go_by_the_share_that_is_explained(knows):
    y = RNG.normal(size=(400, 1)).astype("float32")
    noise = RNG.normal(size=(400, 1)).astype("float32")
    teacher = knows * y + (1 - knows) * noise
    student = np.zeros((400, 1), "float32")
    found = losses.Balanced("mse")(tf.constant(teacher), tf.constant(student), 1.0, tf.constant(y))
    explained = sklearn.metrics.r2_score(y, teacher)
    gap = sklearn.metrics.r2_score(y, student) - explained
    scale = trust_of(explained, gap, sure=0.2) * rms(student - y) / rms(2 * (student - teacher))
    labels = (1 - trust_of(explained, gap, sure=0.2)) * 0.5 * y[:, 0] ** 2
    np.testing.assert_allclose(found, scale * teacher[:, 0] ** 2 + labels, rtol=1e-3, atol=1e-6)


def test_a_batch_of_one_class_does_not_tell():
    y = np.zeros(16, int)
    teacher = np.tile([5.0, 0, 0, 0, 0], (16, 1)).astype("float32")
    found = losses.Balanced("kl")(tf.constant(teacher), tf.constant(S), 1.0, tf.constant(y))
    assert np.all(found.numpy() > 0)


def test_what_has_no_label_is_taught_as_far_as_the_teacher_is_right_elsewhere():
    known = np.arange(16) < 8
    teacher = T + 20 * np.eye(5, dtype="float32")[Y]
    arguments = [tf.constant(teacher), tf.constant(S), 1.0, tf.constant(np.where(known, Y, 0))]
    found = losses.Balanced("kl")(*arguments, known=tf.constant(known)).numpy()
    np.testing.assert_allclose(found[8:], kl(S, teacher, 1.0)[8:], rtol=1e-4)
    arguments[0] = tf.constant(T + 20 * np.eye(5, dtype="float32")[(Y + 1) % 5])
    found = losses.Balanced("kl")(*arguments, known=tf.constant(known)).numpy()
    labels = -log_softmax(S.astype("float64"), -1)[np.arange(16), Y]
    np.testing.assert_allclose(found, np.where(known, labels, 0), rtol=1e-4, atol=1e-6)


def test_a_teacher_that_is_never_right_leaves_training_on_the_labels():
    """The pull of the two losses together is that of the labels alone, whatever alpha is."""
    wrong = tf.constant(20 * np.eye(5, dtype="float32")[(Y + 1) % 5])
    student = tf.Variable(S)
    with tf.GradientTape() as tape:
        soft = losses.default_for("categorical")(wrong, student, 1.0, tf.constant(Y))
        hard = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, student)
        loss = tf.reduce_sum(0.3 * hard + 0.7 * soft)
    want = softmax(S.astype("float64"), -1) - np.eye(5)[Y]
    np.testing.assert_allclose(tape.gradient(loss, student), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["kl", "binary_kl", "mse"])
def test_a_batch_without_any_label_is_taught(name):
    y = np.zeros(16, int) if name == "kl" else np.zeros((16, 5), "float32")
    known = tf.zeros(16, tf.bool)
    found = losses.Balanced(name)(tf.constant(T), tf.constant(S), 1.0, tf.constant(y), known=known)
    np.testing.assert_allclose(found, losses.get(name)(T, S, 1.0), rtol=1e-6)


@pytest.mark.parametrize("task", losses.SOFT_TASKS)
def test_the_default_of_every_task_is_serializable(task):
    loss = losses.default_for(task)
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config() and again.tasks == (task,)


def test_of_two_classes_no_example_is_louder_than_the_others():
    """Two standardized logits are +1 and −1: their KL pulled at a few examples alone."""
    teacher, student = (RNG.normal(scale=2, size=(1000, 2)).astype("float32") for _ in range(2))
    y, z = teacher.argmax(-1), tf.Variable(student)
    with tf.GradientTape() as tape:
        values = losses.default_for("categorical", classes=2)(teacher, z, 1.0, tf.constant(y))
    square = np.sort((tape.gradient(values, z).numpy() ** 2).sum(-1))
    assert square[-10:].sum() < 0.1 * square.sum()
    labels = softmax(student.astype("float64"), -1) - np.eye(2)[y]
    assert np.sqrt(square.mean()) == pytest.approx(0.5 * rms(labels), rel=1e-3)


def test_of_two_classes_dist_is_that_of_one_probability(rng):
    teacher, student = (rng.normal(scale=2, size=(50, 2)).astype("float32") for _ in range(2))
    found = losses.DIST()(teacher, student, 2.0)
    gaps = [np.diff(logits, axis=-1) for logits in (teacher, student)]
    np.testing.assert_allclose(found, losses.DIST(independent=True)(*gaps, 2.0), rtol=1e-5)
    p, q = (expit(gap[:, 0] / 2) for gap in gaps)
    np.testing.assert_allclose(found, 4 * (1 - np.corrcoef(p, q)[0, 1]), rtol=1e-4)
