"""Feature losses against NumPy, and their adapters: trained, saved, no part of the student."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import crossentropy

from tfkd import Distiller, losses
from tfkd.errors import InputError


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


@pytest.mark.parametrize(
    ("kind", "reference", "shape_t", "shape_s"),
    [
        (losses.Hint, np_hint, (6, 4, 4, 3), (6, 4, 4, 3)),
        (losses.AttentionTransfer, np_attention, (6, 4, 4, 5), (6, 4, 4, 3)),
        (losses.AttentionTransfer, np_attention, (6, 9, 5), (6, 9, 2)),
        (losses.SimilarityPreserving, np_similarity, (6, 4, 4, 5), (6, 7)),
    ],
)
def test_value_equals_the_reference(kind, reference, shape_t, shape_s, rng):
    t, s = rng.normal(size=shape_t), rng.normal(size=shape_s)
    got = kind("a", "b")(tf.constant(t), tf.constant(s))
    assert got.shape == (6,)
    assert float(tf.reduce_mean(got)) == pytest.approx(reference(t, s), rel=1e-5)


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
]


@pytest.mark.parametrize(("kind", "recurrent"), CASES)
def test_in_fit(kind, recurrent, package, rng):
    student, teacher = two(package, 3, recurrent), two(keras, 7, recurrent)
    x, y = rng.normal(size=(32, 5, 3)).astype("float32"), rng.integers(0, 4, 32)
    count = len(student.weights)
    distiller = Distiller(student, teacher, alpha=0.0, features=[kind("mid", "mid", weight=10.0)])
    distiller.compile(package.optimizers.Adam(0.02), crossentropy(package))
    extra = len(distiller.trainable_weights) - len(student.trainable_weights)
    assert extra == (2 if kind is losses.Hint else 0)
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
