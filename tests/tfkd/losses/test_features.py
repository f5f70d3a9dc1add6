"""Feature losses against NumPy, and their adapters: trained, saved, not part of the student."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import pdist
from scipy.special import rel_entr, softmax
from tiny_models import crossentropy

from tfkd import Distiller, cache_teacher, losses
from tfkd.errors import InputError
from tfkd.losses import features as feature_losses


def np_attention(t, s):
    def q(f):
        a = np.square(f).mean(-1).reshape(len(f), -1)
        return a / np.linalg.norm(a, axis=-1, keepdims=True)

    return np.square(q(s) - q(t)).sum(-1).mean()


def np_similarity(t, s):
    def g(f):
        f = f.reshape(len(f), -1)
        m = f @ f.T
        return m / np.linalg.norm(m, axis=-1, keepdims=True)

    return np.square(g(t) - g(s)).sum() / len(t) ** 2


def np_hint(t, s):
    return np.square(s - t).mean()


def np_channel_wise(t, s, temperature=4.0):
    p, q = (softmax(f.reshape(len(f), -1, f.shape[-1]) / temperature, 1) for f in (t, s))
    return temperature**2 * rel_entr(p, q).sum(1).mean()


def np_relational(t, s, distance_weight=1.0, angle_weight=2.0):
    """Triplet by triplet, on difference vectors, as the paper writes it."""

    def huber(d):
        return np.where(np.abs(d) < 1, 0.5 * d * d, np.abs(d) - 0.5)

    t, s = t.reshape(len(t), -1), s.reshape(len(s), -1)
    a, b = (pdist(f) / pdist(f).mean() for f in (t, s))

    def cosine(f, i, j, k):
        left, right = f[i] - f[j], f[k] - f[j]
        arms = np.linalg.norm(left) * np.linalg.norm(right)
        return left @ right / arms if arms else 0.0  # as the authors' code has it

    triplets = list(itertools.permutations(range(len(t)), 3))
    angles = np.array([cosine(t, *ijk) - cosine(s, *ijk) for ijk in triplets])
    return distance_weight * huber(a - b).mean() + angle_weight * huber(angles).mean()


@pytest.mark.parametrize(
    ("kind", "reference", "shape_t", "shape_s"),
    [
        (losses.Hint, np_hint, (6, 4, 4, 3), (6, 4, 4, 3)),
        (losses.AttentionTransfer, np_attention, (6, 4, 4, 5), (6, 4, 4, 3)),
        (losses.AttentionTransfer, np_attention, (6, 9, 5), (6, 9, 2)),
        (losses.SimilarityPreserving, np_similarity, (6, 4, 4, 5), (6, 7)),
        (losses.ChannelWise, np_channel_wise, (6, 4, 4, 5), (6, 4, 4, 5)),
        (losses.ChannelWise, np_channel_wise, (6, 9, 5), (6, 9, 5)),
        (losses.RelationalKD, np_relational, (6, 5), (6, 7)),
        (losses.RelationalKD, np_relational, (6, 4, 4, 5), (6, 3)),
    ],
)
def test_value_equals_the_reference(kind, reference, shape_t, shape_s, rng):
    t, s = rng.normal(size=shape_t), rng.normal(size=shape_s)
    got = kind("a", "b")(tf.constant(t), tf.constant(s))
    assert got.shape == (6,)
    assert float(tf.reduce_mean(got)) == pytest.approx(reference(t, s), rel=1e-5)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_relational_kd_has_the_gradient_of_its_formula(offset, rng):
    t, s = rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    loss = losses.RelationalKD("a", "b", distance_weight=3.0, angle_weight=0.5)
    x = tf.Variable(s + offset, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(tf.constant(t), x))
    want = np.zeros_like(s)
    for at in np.ndindex(s.shape):
        step = np.zeros_like(s)
        step[at] = 1e-5
        ends = [np_relational(t, s + sign * step, 3.0, 0.5) for sign in (1, -1)]
        want[at] = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(tape.gradient(value, x), want, atol=1e-5 if offset == 0 else 1e-4)


def test_relational_kd_of_equal_examples_has_a_finite_gradient(rng):
    t, s = rng.normal(size=(6, 40)), rng.normal(size=(6, 30))
    t[1], s[1], s[3] = t[0], s[0], s[2]
    for features in ((t, s), (np.zeros_like(t), np.ones_like(s) * 0.1)):
        x = tf.Variable(features[1], dtype=tf.float32)
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(losses.RelationalKD("a", "b")(tf.constant(features[0]), x))
        assert np.isfinite(value) and np.isfinite(tape.gradient(value, x)).all()
    got = tf.reduce_mean(losses.RelationalKD("a", "b")(tf.constant(t), tf.constant(s)))
    assert float(got) == pytest.approx(np_relational(t, s), rel=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_relational_kd_of_too_few_examples_is_nothing(batch, rng):
    # Two examples have one distance, which is the mean; three make the first angle.
    x = tf.Variable(rng.normal(size=(batch, 3)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        got = losses.RelationalKD("a", "b")(tf.constant(rng.normal(size=(batch, 4))), x)
    np.testing.assert_allclose(got, np.zeros(batch), atol=1e-6)
    np.testing.assert_allclose(tape.gradient(got, x), np.zeros((batch, 3)), atol=1e-6)


def test_relational_kd_leaves_out_examples_that_are_all_masked(rng):
    t, s = rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 3, 2))
    mask = np.ones((5, 3), bool)
    mask[2], mask[0, 1:] = False, False
    got = losses.RelationalKD("a", "b")(tf.constant(t), tf.constant(s), tf.constant(mask))
    kept = [f[[0, 1, 3, 4]] * mask[[0, 1, 3, 4], :, None] for f in (t, s)]
    assert float(tf.reduce_mean(got)) == pytest.approx(np_relational(*kept), rel=1e-5)
    assert float(got[2]) == 0


def test_channel_wise_has_the_gradient_of_its_formula(rng):
    t, s = rng.normal(0, 5, (2, 3, 4, 4, 5))
    x = tf.Variable(s, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(losses.ChannelWise("a", "b", temperature=2.0)(tf.constant(t), x))
    # d/ds KL(softmax(t/T) ‖ softmax(s/T)) = (q − p) / T, times T²/C.
    p, q = (softmax(f.reshape(3, 16, 5) / 2, 1) for f in (t, s))
    want = 2.0 * (q - p).reshape(s.shape) / 5
    np.testing.assert_allclose(tape.gradient(value, x), want, rtol=1e-4, atol=1e-6)


def test_channel_wise_of_an_example_that_is_all_masked_is_nothing(rng):
    t, s = rng.normal(size=(2, 2, 6, 3))
    mask = tf.constant([[True] * 4 + [False] * 2, [False] * 6])
    x = tf.Variable(s, dtype=tf.float32)
    with tf.GradientTape() as tape:
        got = losses.ChannelWise("a", "b")(tf.constant(t), x, mask)
    assert float(got[0]) == pytest.approx(np_channel_wise(t[:1, :4], s[:1, :4]), rel=1e-5)
    assert float(got[1]) == 0
    assert np.abs(tape.gradient(got, x)[:, 4:]).max() == 0


@pytest.mark.parametrize(
    "loss",
    [
        losses.Hint("a", "b", weight="auto"),
        losses.ChannelWise("a", "b", 2.0, temperature=1.5),
        losses.RelationalKD("a", "b", "auto", distance_weight=25.0, angle_weight=50.0),
    ],
)
def test_serialization(loss):
    again = feature_losses.get(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    assert eval(repr(loss), vars(losses)).get_config() == loss.get_config()


def two(package, width, recurrent=False):
    la = package.layers
    if recurrent:
        body = [package.Input((5, 3)), la.GRU(width, name="mid")]
    else:
        body = [package.Input((5, 3)), la.Conv1D(width, 3, padding="same", name="mid"), la.ReLU(),
                la.GlobalAveragePooling1D()]  # fmt: skip
    return package.Sequential([*body, la.Dense(4, name="out")])


CASES = [
    (losses.Hint, False),
    (losses.Hint, True),
    (losses.AttentionTransfer, False),
    (losses.SimilarityPreserving, False),
    (losses.SimilarityPreserving, True),
    (losses.ChannelWise, False),
    (losses.RelationalKD, False),
    (losses.RelationalKD, True),
]


@pytest.mark.parametrize(("kind", "recurrent"), CASES)
def test_in_fit(kind, recurrent, package, rng):
    student, teacher = two(package, 3, recurrent), two(keras, 7, recurrent)
    x, y = rng.normal(size=(32, 5, 3)).astype("float32"), rng.integers(0, 4, 32)
    count = len(student.weights)
    distiller = Distiller(
        student, teacher, alpha=0.0, temperature=4.0, soft_loss="kl",
        features=[kind("mid", "mid", weight=10.0)],
    )  # fmt: skip
    distiller.compile(package.optimizers.Adam(0.02), crossentropy(package))
    extra = len(distiller.trainable_weights) - len(student.trainable_weights)
    assert extra == (2 if kind in (losses.Hint, losses.ChannelWise) else 0)
    before = [w.numpy() for w in distiller.trainable_weights]
    history = distiller.fit(x, y, batch_size=32, epochs=25, verbose=0).history["soft_loss"]
    assert history[-1] < 0.8 * history[0]
    moved = [
        np.abs(a - b.numpy()).max()
        for a, b in zip(before, distiller.trainable_weights, strict=True)
    ]
    assert min(moved) > 0  # the adapter too
    assert len(student.weights) == count


def test_adapters_and_optimizer_survive_saving(rng, tmp_path):
    x, y = rng.normal(size=(32, 5, 3)).astype("float32"), rng.integers(0, 4, 32)
    teacher = two(keras, 7)
    distiller = Distiller(two(keras, 3), teacher, features=[losses.Hint("mid", "mid")])
    distiller.compile("adam", crossentropy(keras))
    distiller.fit(x, y, epochs=2, verbose=0, shuffle=False)
    distiller.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    again.teacher = teacher
    a, b = (d.fit(x, y, epochs=2, verbose=0, shuffle=False).history for d in (distiller, again))
    assert sorted(a) == sorted(b)
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=1e-5)


@pytest.mark.parametrize("attached", [False, True])
def test_features_of_a_cache_teach_without_the_teacher(attached, package, rng):
    """The adapters are made for the cached features, and kept for a teacher of their widths."""
    x, y = rng.normal(size=(32, 5, 3)).astype("float32"), rng.integers(0, 4, 32)
    teacher, student, hint = two(keras, 7), two(package, 3), losses.Hint("mid", "mid")
    held = cache_teacher(x, teacher, dtype="float32", features=["mid"])
    data = held.attach(x) if attached else x
    kwargs = {"batch_size": 32, "verbose": 0} | ({} if attached else {"cache_teacher": held})
    alone = Distiller(student, features=[hint])
    alone.compile(package.optimizers.Adam(0.1), crossentropy(package))
    assert not alone._adapters
    alone.fit(data, y, **kwargs)
    before = [w.numpy().copy() for w in alone.trainable_weights]
    assert len(before) == len(student.trainable_weights) + 2
    want = alone.fit(data, y, **kwargs).history["soft_loss"][0]
    now = [w.numpy() for w in alone.trainable_weights]
    assert min(np.abs(a - b).max() for a, b in zip(before, now, strict=True)) > 0
    beside = Distiller(student, teacher, features=[hint])
    beside.compile(package.optimizers.SGD(0.0), crossentropy(package))
    for variable, value in zip(beside.trainable_weights, before, strict=True):
        variable.assign(value)
    got = beside.fit(x, y, batch_size=32, verbose=0).history["soft_loss"][0]
    assert got == pytest.approx(want, rel=1e-4)
    message = "'mid' has 6 channels, but the adapters of this distiller were made for 7"
    with pytest.raises(InputError, match=message):
        alone.teacher = two(keras, 6)
    other = Distiller(student, features=[hint, losses.SimilarityPreserving("mid", "mid")])
    other.teacher = two(keras, 3)
    with pytest.raises(InputError, match="made for 3"):
        other.teacher = teacher


def test_what_cannot_be_compared(rng):
    def image(size, name="c"):
        return keras.Sequential([
            keras.Input((size, size, 1)), keras.layers.Conv2D(2, 3, name=name),
            keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3),
        ])  # fmt: skip

    with pytest.raises(InputError, match=r"Hint can't compare 'c' .*of the same resolution"):
        Distiller(image(8), image(9), features=[losses.Hint("c", "c")])
    with pytest.raises(InputError, match="needs features with positions"):
        Distiller(two(keras, 3, True), two(keras, 3, True),
                  features=[losses.AttentionTransfer("mid", "mid")])  # fmt: skip
    with pytest.raises(InputError, match="ChannelWise can't compare .*features with several pos"):
        Distiller(two(keras, 3, True), two(keras, 3, True),
                  features=[losses.ChannelWise("mid", "mid")])  # fmt: skip
    with pytest.raises(InputError, match="with several positions .* of the same size"):
        Distiller(image(3), image(3), features=[losses.ChannelWise("c", "c")])  # one pixel is left
    with pytest.raises(InputError, match="has no layer 'convolution'; the nearest are"):
        Distiller(image(8), image(8), features=[losses.Hint("convolution", "c")])
    with pytest.raises(InputError, match="The teacher .* has no layer 'mod'; .*'mid'"):
        Distiller(two(keras, 3), two(keras, 3), features=[losses.Hint("mid", "mod")])
    with pytest.raises(InputError, match="needs teacher_layer"):
        losses.Hint("a", None)
    with pytest.raises(InputError, match="Feature losses need one teacher"):
        Distiller(two(keras, 3), [two(keras, 3)] * 2, features=[losses.Hint("mid", "mid")])
    with pytest.raises(InputError, match="weight must be"):
        losses.Hint("a", "b", weight=-1)
    with pytest.raises(InputError, match="weight must be a number >= 0, got 'much'"):
        losses.Hint("a", "b", weight="much")
    with pytest.raises(InputError, match="temperature must be a number > 0"):
        losses.ChannelWise("a", "b", temperature=0)
    with pytest.raises(InputError, match="angle_weight must be a number >= 0"):
        losses.RelationalKD("a", "b", angle_weight=float("nan"))
