"""Labels and weights per example, step, pixel and label against NumPy; errors for wrong ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import crossentropy, dense, predicted

from tfkd import Distiller, losses
from tfkd.errors import InputError


def logs_of(distiller, *args, **kwargs):
    history = distiller.fit(*args, verbose=0, shuffle=False, **kwargs).history
    return {name: values[-1] for name, values in history.items()}


def compiled(student, teacher, package, loss=None, metrics=None, eagerly=True, **kwargs):
    """Return a distiller; where nothing depends on a traced step, one that needs no trace."""
    loss = crossentropy(package) if loss is None else loss
    if losses.task_of_loss(loss)[0] == "categorical":
        kwargs.setdefault("soft_loss", "kl")
    distiller = Distiller(student, teacher, temperature=1.0, **kwargs)
    distiller.compile(package.optimizers.SGD(0.0), loss, metrics=metrics, run_eagerly=eagerly)
    return distiller


def recurrent(package, seed):
    package.utils.set_random_seed(seed)
    layers = package.layers
    rnn = layers.SimpleRNN(5, return_sequences=True, name="rnn")
    return package.Sequential([package.Input((7, 3)), layers.Masking(), rnn, layers.Dense(4)])


@pytest.fixture
def steps(rng):
    """Six padded sequences of seven steps, a label a step, some of them missing."""
    x = rng.normal(size=(6, 7, 3)).astype("float32")
    x[0, 4:] = x[3, 2:] = 0
    y = rng.integers(0, 4, (6, 7))
    return x, y, np.where(rng.random((6, 7)) < 0.3, -1, y), (x != 0).any(-1)


def terms(student, teacher, x, y):
    s, t = (predicted(model, x) for model in (student, teacher))
    hard = -np.take_along_axis(log_softmax(s, -1), y[..., None], -1)[..., 0]
    return hard, rel_entr(softmax(t, -1), softmax(s, -1)).sum(-1)


def test_steps_with_masks_missing_labels_and_weights(steps, package, rng):
    x, y, partly, valid = steps
    student, teacher = recurrent(package, 0), recurrent(keras, 1)
    hard, soft = terms(student, teacher, x, y)
    weights = rng.random((6, 7)).astype("float32")
    known = valid & (partly >= 0)
    plain = compiled(student, teacher, package)
    missing = compiled(student, teacher, package, unlabeled=-1, metrics=["accuracy"], eagerly=False)
    logs = logs_of(plain, x, y, batch_size=6)
    assert logs["hard_loss"] == pytest.approx(hard[valid].mean(), rel=1e-4)
    assert logs["soft_loss"] == pytest.approx(soft[valid].mean(), rel=1e-4)
    logs = logs_of(missing, x, partly, batch_size=6)
    assert logs["hard_loss"] == pytest.approx(hard[known].mean(), rel=1e-4)
    assert logs["soft_loss"] == pytest.approx(soft[valid].mean(), rel=1e-4)
    right = (predicted(student, x).argmax(-1) == y)[partly >= 0].mean()
    assert logs["accuracy"] == pytest.approx(right, rel=1e-5)
    logs = logs_of(missing, x, partly, batch_size=6, sample_weight=weights)
    assert logs["hard_loss"] == pytest.approx((hard * weights)[known].sum() / known.sum(), rel=1e-4)
    assert logs["soft_loss"] == pytest.approx((soft * weights)[valid].sum() / valid.sum(), rel=1e-4)


def pearson(a, b, axis):
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    return (a * b).sum(axis) / np.sqrt((a * a).sum(axis) * (b * b).sum(axis))


def test_masked_steps_mix_with_none(steps, package):
    x, y, _, valid = steps
    student, teacher = recurrent(package, 0), recurrent(keras, 1)
    s, t = (softmax(predicted(m, x), -1)[valid] for m in (student, teacher))
    want = (1 - pearson(t, s, -1)).mean() + (1 - pearson(t, s, 0)).mean()
    got = logs_of(compiled(student, teacher, package, soft_loss="dist"), x, y, batch_size=6)
    assert got["soft_loss"] == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(
    "kind", [losses.Hint, losses.AttentionTransfer, losses.SimilarityPreserving]
)
def test_features_of_masked_steps(kind, steps, package):
    """Labels in the padding do not count, and weights per step are the example's mean."""
    x, y, _, valid = steps
    student, teacher = recurrent(package, 0), recurrent(keras, 1)
    loss = kind("rnn", "rnn")
    base = compiled(student, teacher, package)
    traced = kind is losses.SimilarityPreserving
    featured = compiled(student, teacher, package, features=[loss], eagerly=not traced)
    weights = np.linspace(0, 1, 42).reshape(6, 7).astype("float32")
    for weight in (None, weights):
        kwargs = {} if weight is None else {"sample_weight": weight}
        got = logs_of(featured, x, y, batch_size=6, **kwargs)["soft_loss"]
        got -= logs_of(base, x, y, batch_size=6, **kwargs)["soft_loss"]
        s, t = (m.get_layer("rnn")(x, **({"mask": valid})).numpy() for m in (student, teacher))
        s, t = s * valid[..., None], t * valid[..., None]  # zeros are what no loss counts
        if kind is losses.Hint:
            values = np.square(s - t).mean(-1).sum(-1) / valid.mean() / 7
        elif kind is losses.AttentionTransfer:
            q = [np.square(f).mean(-1) for f in (s, t)]
            q = [a / np.linalg.norm(a, axis=-1, keepdims=True) for a in q]
            values = np.square(q[0] - q[1]).sum(-1)
        else:
            g = [f.reshape(6, -1) @ f.reshape(6, -1).T for f in (s, t)]
            g = [a / np.linalg.norm(a, axis=-1, keepdims=True) for a in g]
            values = np.square(g[0] - g[1]).sum(-1) / 6
        want = (values * (1 if weight is None else weight.mean(-1))).mean()
        assert got == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_labels_of_several_per_example(package, rng):
    x = rng.normal(size=(32, 4)).astype("float32")
    missing = rng.random((32, 6)) < 0.4
    weights = rng.random(32).astype("float32")
    for activation in ("sigmoid", None):
        student, teacher = dense(package, 6, activation), dense(keras, 6)
        p = predicted(student, x)
        p = p if activation else 1 / (1 + np.exp(-p))
        y = rng.integers(0, 2, (32, 6)).astype("float32")
        hard = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        loss = package.losses.BinaryCrossentropy(from_logits=activation is None)
        metric = package.metrics.BinaryAccuracy(threshold=0.5 if activation else 0.0, name="a")
        eagerly = activation is None
        distiller = compiled(student, teacher, package, loss, [metric], eagerly, unlabeled=-1)
        given = np.where(missing, -1, y).astype("float32")
        logs = logs_of(distiller, x, given, batch_size=32)
        assert logs["hard_loss"] == pytest.approx(hard[~missing].mean(), rel=1e-4)
        assert logs["a"] == pytest.approx(((p > 0.5) == y)[~missing].mean(), rel=1e-5)
        logs = logs_of(distiller, x, given, batch_size=32, sample_weight=weights)
        want = (hard * weights[:, None])[~missing].sum() / (~missing).sum()
        assert logs["hard_loss"] == pytest.approx(want, rel=1e-4)


def test_targets_of_several_values(package, rng):
    x, y = rng.normal(size=(32, 4)).astype("float32"), rng.normal(size=(32, 3)).astype("float32")
    missing = rng.random((32, 3)) < 0.3
    student = dense(package)
    s = predicted(student, x)
    distiller = compiled(student, dense(keras), package, "mse", ["mae"], unlabeled=float("nan"))
    logs = logs_of(distiller, x, np.where(missing, np.nan, y).astype("float32"), batch_size=32)
    assert logs["hard_loss"] == pytest.approx(np.square(s - y)[~missing].mean(), rel=1e-4)
    assert logs["mae"] == pytest.approx(np.abs(s - y)[~missing].mean(), rel=1e-4)


@pytest.mark.parametrize("values", [1, 3])
def test_a_soft_loss_of_labels_counts_the_rows_that_have_all_of_theirs(values, package, rng):
    x, y = rng.normal(size=(32, 4)).astype("float32"), rng.normal(size=(32, values))
    missing = rng.random((32, values)) < 0.3
    student, teacher = dense(package, values), dense(keras, values)
    ours, theirs = (np.square(predicted(model, x) - y).mean(-1) for model in (student, teacher))
    want = np.where(ours > theirs, ours, 0)[~missing.any(-1)].mean()
    given = np.where(missing, np.nan, y).astype("float32")
    for loss in ("teacher_bounded", losses.WeightedSum([("teacher_bounded", 1.0)])):
        distiller = compiled(
            student, teacher, package, "mse", unlabeled=float("nan"), soft_loss=loss
        )
        for labels in (given, given[:, 0])[: 2 if values == 1 else 1]:
            logs = logs_of(distiller, x, labels, batch_size=32)
            assert logs["soft_loss"] == pytest.approx(want, rel=1e-4)


def test_a_saturated_student_gets_the_gradient_of_its_labelled_elements(package):
    """Behind a missing label's weights, Keras's losses still see the logits of a softmax."""
    student = package.Sequential(
        [package.Input((4,)), package.layers.Dense(3, "softmax", use_bias=False)]
    )
    kernel = np.zeros((4, 3), "float32")
    kernel[:, 0] = 30.0  # logits of 120: every other probability is 0 in float32
    student.set_weights([kernel])
    distiller = Distiller(student, dense(keras), alpha=1.0, unlabeled=-1)
    distiller.compile(package.optimizers.SGD(1.0), crossentropy(package, False))
    logs = logs_of(distiller, np.ones((8, 4), "float32"), np.array([1, -1] * 4), batch_size=8)
    assert logs["hard_loss"] == pytest.approx(120, rel=1e-4)
    np.testing.assert_allclose(student.get_weights()[0] - kernel, [[-1, 1, 0]] * 4, atol=1e-4)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_saturated_softmax_is_the_same_eagerly(eagerly, package):
    student = package.Sequential(
        [package.Input((4,)), package.layers.Dense(3, "softmax", use_bias=False)]
    )
    kernel = np.zeros((4, 3), "float32")
    kernel[:, 0] = 40.0
    student.set_weights([kernel])
    answers = np.array([[0.0, 0.0, 0.0]] * 8, "float32")
    distiller = Distiller(
        student, answers, alpha=0.0, temperature=1.0, soft_loss="kl", teacher_from_logits=True
    )
    distiller.compile(
        package.optimizers.SGD(1.0), crossentropy(package, False), run_eagerly=eagerly
    )
    logs = logs_of(distiller, np.ones((8, 4), "float32"), np.zeros(8, int), batch_size=8)
    assert logs["soft_loss"] == pytest.approx(160 * 2 / 3 - np.log(3), rel=1e-4)
    moved = student.get_weights()[0] - kernel
    np.testing.assert_allclose(moved, [[-2 / 3, 1 / 3, 1 / 3]] * 4, atol=1e-4)


def test_void_pixels_and_classes_on_another_axis(package, rng):
    x = rng.random((4, 3, 5, 5), "float32")
    la = package.layers

    def first(p):
        i = p.Input((3, 5, 5))
        last = p.layers.Dense(3)(p.layers.Permute((2, 3, 1))(i))
        return p.Model(i, p.layers.Softmax(axis=1)(p.layers.Permute((3, 1, 2))(last)))

    student, teacher = first(package), first(keras)
    s, t = (predicted(model, x) for model in (student, teacher))
    y = np.moveaxis(np.eye(3, dtype="float32")[rng.integers(0, 3, (4, 5, 5))], -1, 1)
    loss = package.losses.CategoricalCrossentropy(axis=1)
    logs = logs_of(compiled(student, teacher, package, loss), x, y, batch_size=4)
    assert logs["hard_loss"] == pytest.approx(-(y * np.log(s)).sum(1).mean(), rel=1e-4)
    assert logs["soft_loss"] == pytest.approx(rel_entr(t, s).sum(1).mean(), rel=1e-4)
    void = rng.integers(0, 3, (4, 5, 5))
    void[:, :2] = 255
    student = package.Sequential([package.Input((5, 5, 3)), la.Conv2D(3, 1)])
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    student.compile("sgd", loss, run_eagerly=True)
    images = np.moveaxis(x, 1, -1)
    want = student.evaluate(images, void, verbose=0)
    teacher = keras.Sequential([keras.Input((5, 5, 3)), keras.layers.Conv2D(3, 1)])
    logs = logs_of(compiled(student, teacher, package, loss), images, void, batch_size=4)
    assert logs["hard_loss"] == pytest.approx(want, rel=1e-5)
    s, t = (softmax(predicted(model, images), -1) for model in (student, teacher))
    assert logs["soft_loss"] == pytest.approx(rel_entr(t, s).sum(-1).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, r"labels go (up to 7|past the last).*3 classes, 0 to 2"),
        (-1, "are negative"),
        (np.nan, "NaN or infinite"),
        (0.5, "class numbers with a fraction"),
    ],
)
def test_wrong_labels_are_told_with_their_row_in_any_form(value, message, package, rng):
    x, y = rng.normal(size=(24, 4)).astype("float32"), rng.integers(0, 3, 24).astype("float32")
    y[20] = value
    distiller = compiled(dense(package), dense(keras), package, eagerly=value not in (7, -1))

    def batches():
        for i in range(0, 24, 8):
            yield x[i : i + 8], y[i : i + 8]

    before = distiller.student.get_weights()
    with pytest.raises(InputError, match=f"{message}.*row 20|{message}.*row 4 of the batch"):
        distiller.fit(x, y, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    for data in (dataset, batches()):
        with pytest.raises(InputError, match=f"(?s){message}.*row 4 of the batch"):
            distiller.fit(data, verbose=0)
    with pytest.raises(InputError, match=message):
        distiller.fit(x[:8], y[:8], validation_data=(x, y), verbose=0)
    with pytest.raises(InputError, match=message):
        distiller.fit(x[:8], y[:8], validation_data=dataset, verbose=0)
    with pytest.raises(InputError, match=message):
        distiller.evaluate(x, y, verbose=0)
    for a, b in zip(before, distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)  # SGD(0): and no NaN got in


def test_what_is_not_finite_stops_the_step_before_a_weight_moves(package, rng):
    x, y = rng.normal(size=(16, 4)).astype("float32"), rng.integers(0, 3, 16)
    x[12, 1] = np.nan
    layers = [package.layers.Dense(8, "relu"), package.layers.Dense(3)]
    student = package.Sequential([package.Input((4,)), *layers])
    distiller = Distiller(student, dense(keras))
    distiller.compile(package.optimizers.SGD(0.1), crossentropy(package))
    distiller.fit(x[:8], y[:8], batch_size=8, verbose=0)
    before = student.get_weights()
    said = r"is NaN.*These are not finite: inputs in 1 of 8 rows of the batch \(the first is \d\);"
    with pytest.raises(InputError, match=said + ".*not taken"):
        distiller.fit(x[8:], y[8:], batch_size=8, verbose=0)
    for a, b in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    distiller.compile(package.optimizers.SGD(1e30), crossentropy(package))
    with pytest.raises(
        InputError, match=r"These are not finite: outputs of the student.*learning rate"
    ):
        distiller.fit(x[:8], y[:8], epochs=9, batch_size=8, verbose=0)
    callbacks = [package.callbacks.TerminateOnNaN()]
    student.set_weights(before)
    with pytest.warns(UserWarning, match="student's weights hold NaN"):
        distiller.fit(x[:8], y[:8], epochs=9, batch_size=8, verbose=0, callbacks=callbacks)


def test_a_soft_loss_of_nothing_is_said(package, rng):
    x, y = rng.normal(size=(16, 4)).astype("float32"), rng.integers(0, 3, 16)
    student = dense(package)
    teacher = package.models.clone_model(student)
    teacher.set_weights(student.get_weights())
    with pytest.warns(UserWarning, match="soft loss was exactly 0 in every epoch"):
        compiled(student, teacher, package).fit(x, y, verbose=0)
    with pytest.raises(InputError, match="one unit and a loss for classes, which is 0"):
        compiled(dense(package, 1), dense(keras, 1), package)


def test_missing_labels_in_dtypes_that_cannot_hold_their_mark(package, rng):
    x, flags = rng.normal(size=(12, 4)).astype("float32"), rng.random((12, 3)) > 0.5
    student, teacher = dense(package, 3, "sigmoid"), dense(keras, 3)
    distiller = compiled(student, teacher, package, "binary_crossentropy", unlabeled=-1)
    want = logs_of(distiller, x, flags.astype("float32"), batch_size=12)["hard_loss"]
    assert logs_of(distiller, x, flags, batch_size=12)["hard_loss"] == pytest.approx(want, rel=1e-5)
    student = dense(package, 256)
    y = rng.integers(250, 256, 12).astype("uint8")  # 255 is a class here, and not -1
    hard = -log_softmax(predicted(student, x), -1)[np.arange(12), y].mean()
    for mark in (-1, float("inf"), float("nan"), 0.5):
        distiller = compiled(student, dense(keras, 256), package, unlabeled=mark)
        assert logs_of(distiller, x, y, batch_size=12)["hard_loss"] == pytest.approx(hard, rel=1e-5)


def test_labels_beyond_int64_are_too_large_and_not_negative(package, rng):
    x, y = rng.normal(size=(12, 4)).astype("float32"), np.full(12, 2**63 + 5, "uint64")
    distiller = compiled(dense(package), dense(keras), package)
    for data in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(4),)):
        with pytest.raises(InputError, match="labels go (up to 9223372036854775813|past the last)"):
            distiller.fit(*data, verbose=0)


def test_a_class_that_is_ignored_beside_missing_labels(package, rng):
    x, y = rng.normal(size=(12, 4)).astype("float32"), rng.integers(0, 3, 12)
    y[:3] = -1
    student, teacher = dense(package), dense(keras)
    logs = log_softmax(predicted(student, x), -1)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    distiller = compiled(student, teacher, package, loss, unlabeled=-1)
    want = -logs[np.arange(12), y][y > 0].mean()
    assert logs_of(distiller, x, y, batch_size=12)["hard_loss"] == pytest.approx(want, rel=1e-5)
    # A soft loss that reads labels leaves out what the hard loss ignores.
    y = rng.integers(0, 3, 12)
    y[3:6] = 255
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    got = logs_of(compiled(student, teacher, package, loss, soft_loss="dkd"), x, y, batch_size=12)[
        "soft_loss"
    ]
    plain = compiled(student, teacher, package, soft_loss="dkd")
    want = logs_of(plain, x[y < 255], y[y < 255], batch_size=12)["soft_loss"]
    assert got == pytest.approx(want, rel=1e-5)


def test_metrics_of_rows_see_the_rows_that_have_all_their_labels(package, rng):
    x, y = rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 2, (32, 3)) * 1.0
    y[0], y[5, 1] = np.nan, np.nan
    student = dense(package, 3, "sigmoid")

    def metrics():
        auc = package.metrics.AUC(multi_label=True, num_labels=3, name="auc")
        return [auc, package.metrics.F1Score(threshold=0.5, average="macro", name="f1")]

    distiller = compiled(
        student, dense(keras, 3), package, "binary_crossentropy", metrics(), eagerly=False,
        unlabeled=float("nan"),
    )  # fmt: skip
    logs = logs_of(distiller, x, y.astype("float32"), batch_size=32)
    student.compile("sgd", "binary_crossentropy", metrics=metrics(), run_eagerly=True)
    whole = ~np.isnan(y).any(-1)
    _, auc, f1 = student.evaluate(x[whole], y[whole], verbose=0)
    assert (logs["auc"], logs["f1"]) == (pytest.approx(auc, rel=1e-5), pytest.approx(f1, rel=1e-5))


def test_a_loss_without_a_reduction_counts_as_its_mean(batch, package):
    student, teacher = dense(package), dense(keras)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    got = logs_of(compiled(student, teacher, package, loss), *batch, batch_size=32)
    want = logs_of(compiled(student, teacher, package), *batch, batch_size=32)
    assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_saturated_softmax_keeps_its_gradient_behind_a_reshape(eagerly, package):
    la = package.layers
    i = package.Input((4,))
    h = la.Permute((1, 2))(la.Reshape((1, 3))(la.Softmax()(la.Dense(3)(i))))
    student = package.Model(i, la.Flatten()(h))
    student.set_weights([np.zeros((4, 3)), np.array([0.0, 150.0, 0.0])])
    answers = np.zeros((8, 3), "float32")
    distiller = Distiller(
        student, answers, alpha=0.0, temperature=1.0, soft_loss="kl", teacher_from_logits=True
    )
    distiller.compile(
        package.optimizers.SGD(1.0), crossentropy(package, False), run_eagerly=eagerly
    )
    logs = logs_of(distiller, np.ones((8, 4), "float32"), np.zeros(8, int), batch_size=8)
    assert logs["soft_loss"] == pytest.approx(100 - np.log(3), rel=1e-4)
    np.testing.assert_allclose(
        student.get_weights()[1] - [0, 150, 0], [1 / 3, -2 / 3, 1 / 3], atol=1e-4
    )


@pytest.mark.parametrize("examples", [7, 6])  # as many as steps, and others
def test_a_weight_per_example_weighs_all_its_steps(examples, package, rng):
    x = rng.normal(size=(examples, 7, 3)).astype("float32")
    x[0, 4:] = x[3, 2:] = 0
    y, valid = rng.integers(0, 4, (examples, 7)), (x != 0).any(-1)
    weights = np.linspace(0, 2, examples).astype("float32")
    student, teacher = recurrent(package, 0), recurrent(keras, 1)
    each = np.stack(terms(student, teacher, x, y)) * weights[:, None]
    hard, soft = (one[valid].mean() for one in each)
    right = (predicted(student, x).argmax(-1) == y) * weights[:, None] * valid
    accuracy = right.sum() / (weights[:, None] * valid).sum()
    distiller = Distiller(student, teacher, alpha=0.5, temperature=1.0, soft_loss="kl")
    distiller.compile(
        package.optimizers.SGD(0.0), crossentropy(package), weighted_metrics=["accuracy"]
    )
    fitted = logs_of(
        distiller, x, y, sample_weight=weights, validation_data=(x, y, weights), batch_size=8
    )
    once = distiller.train_on_batch(x, y, weights, return_dict=True)
    for got in (fitted, once):
        assert got["hard_loss"] == pytest.approx(hard, rel=1e-4)
        assert got["soft_loss"] == pytest.approx(soft, rel=1e-4)
        assert got["accuracy"] == pytest.approx(accuracy, rel=1e-5)
    evaluated = distiller.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert evaluated == pytest.approx({"loss": hard, "accuracy": accuracy}, rel=1e-4)
    assert {name: fitted[f"val_{name}"] for name in evaluated} == pytest.approx(evaluated)


@pytest.mark.parametrize("own", [False, True])
def test_a_weight_per_image_or_row_weighs_all_its_pixels(own, package, rng):
    x = rng.normal(size=(4, 4, 4, 2)).astype("float32")
    y = rng.integers(0, 2, (4, 4, 4, 1)).astype("float32")

    def model(seed):
        package.utils.set_random_seed(seed)
        return package.Sequential(
            [package.Input((4, 4, 2)), package.layers.Conv2D(1, 1, activation="sigmoid")]
        )

    def of_examples(y, p):
        return tf.reduce_mean(tf.square(y - tf.cast(p, y.dtype)), axis=[1, 2, 3])

    student, teacher = model(0), model(1)
    p = predicted(student, x)
    hard = np.square(y - p) if own else -(y * np.log(p) + (1 - y) * np.log(1 - p))
    for weights in (np.linspace(0, 2, 4), np.linspace(0, 2, 16).reshape(4, 4)):
        if own and weights.ndim > 1:
            continue  # one loss per example has no rows
        broad = weights.reshape(*weights.shape, *[1] * (4 - weights.ndim)) * np.ones_like(y)
        metrics = [of_examples] if own else ["mse", package.metrics.Precision(name="precision")]
        distiller = Distiller(student, teacher, 1.0, soft_loss=None if own else "auto")
        loss = of_examples if own else package.losses.BinaryCrossentropy()
        distiller.compile(
            package.optimizers.SGD(0.0), loss, weighted_metrics=metrics, run_eagerly=True
        )
        logs = logs_of(distiller, x, y, sample_weight=weights.astype("float32"))
        assert logs["hard_loss"] == pytest.approx((hard * broad).mean(), rel=1e-4)
        if own:
            assert logs["of_examples"] == pytest.approx((hard * broad).sum() / broad.sum(), 1e-4)
        else:
            mse, yes = np.square(y - p), (p > 0.5) * broad
            assert logs["mse"] == pytest.approx((mse * broad).sum() / broad.sum(), rel=1e-4)
            assert logs["precision"] == pytest.approx((yes * y).sum() / yes.sum(), rel=1e-4)


def test_a_weight_per_image_goes_with_whatever_values_a_loss_has(package, rng):
    """As many rows as examples: a weight per row would not be noticed."""
    x = rng.normal(size=(4, 4, 3, 2)).astype("float32")
    y = rng.integers(0, 3, (4, 4, 3))
    weights = np.arange(1.0, 5.0, dtype="float32")
    package.utils.set_random_seed(0)
    student = package.Sequential([package.Input((4, 3, 2)), package.layers.Conv2D(3, 1)])
    p = predicted(student, x)

    def of_pixels(y, p):
        return package.losses.sparse_categorical_crossentropy(y, p, from_logits=True)

    def of_rows(y, p):
        return tf.reduce_mean(of_pixels(y, p), axis=-1)

    def of_examples(y, p):
        return tf.reduce_mean(of_pixels(y, p), axis=[1, 2])

    hard = np.log(np.exp(p).sum(-1)) - np.take_along_axis(p, y[..., None], -1)[..., 0]
    want = (hard * weights[:, None, None]).mean()
    for loss in (of_pixels, of_rows, of_examples):
        distiller = Distiller(student, package.models.clone_model(student), 1.0, soft_loss=None)
        distiller.compile(package.optimizers.SGD(0.0), loss)
        logs = logs_of(distiller, x, y, sample_weight=weights, batch_size=4)
        assert logs["hard_loss"] == pytest.approx(want, rel=1e-4), loss.__name__


def test_a_loss_over_several_axes_has_a_value_per_example(rng):
    x = rng.normal(size=(4, 4, 3, 2)).astype("float32")
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, (4, 4, 3))]
    keras.utils.set_random_seed(0)
    student = keras.Sequential([keras.Input((4, 3, 2)), keras.layers.Conv2D(3, 1)])
    student.add(keras.layers.Softmax())
    for loss in (keras.losses.Dice(axis=(1, 2, 3)), keras.losses.Tversky(axis=(1, 2, 3))):
        student.compile("sgd", loss)
        distiller = Distiller(student, keras.models.clone_model(student), 1.0, soft_loss="kl")
        distiller.compile(keras.optimizers.SGD(0.0), loss)
        for weights in (None, np.arange(1.0, 5.0, dtype="float32")):
            want = student.evaluate(x, y, sample_weight=weights, batch_size=4, verbose=0)
            logs = logs_of(distiller, x, y, sample_weight=weights, batch_size=4)
            assert logs["hard_loss"] == pytest.approx(want, rel=1e-5)


def test_class_weights_of_steps_are_refused_with_the_weights_that_do_it(steps, package):
    x, y, _, valid = steps
    class_weight = {0: 1.0, 1: 2.0, 2: 0.5, 3: 3.0}
    student, teacher = recurrent(package, 0), recurrent(keras, 1)
    distiller = compiled(student, teacher, package)
    said = r"one class per example.*'dense.*\(6, 7\).*=np.vectorize.*instead, with classes = y\."
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    for call in (
        lambda: distiller.fit(x, y, class_weight=class_weight),
        lambda: distiller.fit(batches.map(lambda x, y: (x, y)), class_weight=class_weight),
        lambda: distiller.train_on_batch(x, y, class_weight=class_weight),
    ):
        with pytest.raises(InputError, match=said.replace("6, 7", "[26], 7")):
            call()
    hard, _ = terms(student, teacher, x, y)
    weights = np.vectorize(class_weight.get)(y)
    got = logs_of(distiller, x, y, sample_weight=weights.astype("float32"), batch_size=6)
    want = (hard * weights)[valid].mean()
    assert got["hard_loss"] == pytest.approx(want, rel=1e-4)
    # tf_keras finds the class of each step in rows of classes.
    rows = compiled(
        student, teacher, package, package.losses.CategoricalCrossentropy(from_logits=True)
    )
    if package is keras:
        with pytest.raises(InputError, match=r"with classes = y.argmax\(-1\)"):
            rows.fit(x, np.eye(4)[y], class_weight=class_weight)
    else:
        got = logs_of(rows, x, np.eye(4)[y], class_weight=class_weight, batch_size=6)
        assert got["hard_loss"] == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(
    ("task", "form"), [("classes", "arrays"), ("yes/no", "dataset"), ("values", "validation")]
)
def test_what_weighs_nothing_counts_nowhere(task, form, package, rng):
    """In no mean of a batch, and not in the teacher's score: its labels and answers may be any."""
    units = 1 if task == "yes/no" else 3
    loss = {
        "classes": crossentropy(package),
        "yes/no": package.losses.BinaryCrossentropy(from_logits=True),
        "values": "mse",
    }[task]
    x, answers = rng.normal(size=(40, 4, 3)), rng.normal(size=(40, 4, units))
    y = {"classes": answers.argmax(-1), "yes/no": answers > 0, "values": answers + 0.1}[task]
    weights = (rng.random((40, 4)) < 0.3).astype("float32")

    def run(x, answers, y):
        package.utils.set_random_seed(0)
        student = package.Sequential([package.Input((4, 3)), package.layers.Dense(units)])
        teacher = keras.Sequential([keras.Input((4, units)), keras.layers.Activation("linear")])
        both, y = np.concatenate([x, answers], -1).astype("float32"), y.astype("float32")
        data = (both, y, weights)
        distiller = Distiller(
            student, teacher, teacher_from_logits=True, from_logits=True,
            student_inputs=lambda x: x[..., :3], teacher_inputs=lambda x: x[..., 3:],
        )  # fmt: skip
        distiller.compile(package.optimizers.SGD(0.1), loss, run_eagerly=True)
        if form == "dataset":
            logs = logs_of(distiller, tf.data.Dataset.from_tensor_slices(data).batch(20))
        else:
            more = {"validation_data": data} if form == "validation" else {}
            logs = logs_of(distiller, both, y, sample_weight=weights, batch_size=20, **more)
        (score,) = distiller.teacher_scores
        return logs, score, distiller.student.get_weights()

    logs, score, trained = run(x, answers, y)
    labels = units if task == "values" else 1  # a score of values counts each
    assert score.count == weights.sum() * labels and score.value > 0.9 and logs["soft_loss"] > 0
    other, light = rng.permutation(40), weights == 0
    answers[light], y[light] = -9 * answers[other][light], y[other][light]
    again, same_score, same = run(x, answers, y)
    assert again == pytest.approx(logs, rel=1e-5) and same_score.value == score.value
    for one, two in zip(trained, same, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
