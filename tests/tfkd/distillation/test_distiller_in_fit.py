"""`fit` accepts all that Keras's `fit` accepts, for students of both Keras flavours."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import crossentropy, dense, predicted

from tfkd import Distiller, losses, quantize_aware
from tfkd.errors import InputError


def compiled(student, teacher, package, eagerly=False, **kwargs):
    distiller = Distiller(student, teacher, soft_loss="kl", **kwargs)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=eagerly)
    return distiller


def logs_of(distiller, *args, **kwargs):
    history = distiller.fit(*args, verbose=0, **kwargs).history
    return {name: values[-1] for name, values in history.items()}


def test_arrays_datasets_generators_and_pydatasets_agree(batch, package):
    x, y = batch
    distiller = compiled(dense(package), dense(keras), package)

    def generate():
        while True:
            for i in range(0, 32, 8):
                yield x[i : i + 8], y[i : i + 8]

    class Sequence(keras.utils.PyDataset if package is keras else tf_keras.utils.Sequence):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    want = logs_of(distiller, x, y, batch_size=8)
    for got in (
        logs_of(distiller, dataset),
        logs_of(distiller, Sequence()),
        logs_of(distiller, generate(), steps_per_epoch=4),
        logs_of(distiller, dataset.repeat(), steps_per_epoch=4),
    ):
        assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("numbers", [False, True])
def test_labels_of_open_shapes(numbers, batch, package):
    """tf_keras's generators leave the number of classes open, `tf.numpy_function` the rank."""
    x, classes = batch
    y = classes if numbers else np.eye(3, dtype="float32")[classes]
    name = "SparseCategoricalCrossentropy" if numbers else "CategoricalCrossentropy"
    distiller = Distiller(dense(package), dense(keras), soft_loss="dkd")  # reads labels
    loss = getattr(package.losses, name)(from_logits=True)
    distiller.compile(package.optimizers.SGD(0.0), loss)

    def unranked(x, y):
        return x, tf.numpy_function(lambda y: y, [y], y.dtype)

    want = logs_of(distiller, x, y, batch_size=8)
    generator = ((x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8))
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    for got in (
        logs_of(distiller, generator, steps_per_epoch=4),
        logs_of(distiller, dataset.map(unranked)),
    ):
        assert got == pytest.approx(want, rel=1e-5)


def test_class_weight_weighs_both_losses(batch, package):
    x, y = batch
    class_weight = {0: 0.5, 1: 1.0, 2: 3.0}
    weights = np.array([class_weight[c] for c in y])
    distiller = compiled(dense(package), dense(keras), package, eagerly=True)
    got = logs_of(distiller, x, y, batch_size=32, class_weight=class_weight)
    want = logs_of(distiller, x, y, batch_size=32, sample_weight=weights)
    plain = logs_of(distiller, x, y, batch_size=32)
    assert got == pytest.approx(want, rel=1e-5)
    assert got["soft_loss"] != pytest.approx(plain["soft_loss"], rel=1e-2)


def two_headed(package):
    a, b = package.Input((4,), name="a"), package.Input((3,), name="b")
    both = package.layers.Concatenate()([a, b])
    return package.Model(
        {"a": a, "b": b},
        {
            "kind": package.layers.Dense(3, name="kind")(both),
            "size": package.layers.Dense(1, name="size")(both),
        },
    )


def test_dicts_of_inputs_and_outputs_with_weights(package, rng):
    x = {"a": rng.normal(size=(16, 4)).astype("float32"), "b": rng.random((16, 3), "float32")}
    y = {"kind": rng.integers(0, 3, 16), "size": rng.random((16, 1), "float32")}
    student, teacher = two_headed(package), two_headed(keras)
    s, t = predicted(student, x), predicted(teacher, x)
    named = {"kind": "kl", "size": "mse"}
    distiller = Distiller(student, teacher, temperature=2.0, soft_loss=named)
    distiller.compile(
        "sgd",
        loss={"kind": crossentropy(package), "size": "mse"},
        loss_weights={"kind": 1.0, "size": 0.5},
        metrics={"kind": ["accuracy"]},
    )
    logs = logs_of(distiller, x, y, batch_size=16)
    kl = rel_entr(softmax(t["kind"] / 2, -1), softmax(s["kind"] / 2, -1)).sum(-1)
    soft = 4 * kl.mean() + 0.5 * np.square(t["size"] - s["size"]).mean()
    hard = -log_softmax(s["kind"], -1)[np.arange(16), y["kind"]].mean()
    hard += 0.5 * np.square(s["size"] - y["size"]).mean()
    assert logs["soft_loss"] == pytest.approx(soft, rel=1e-4)
    assert logs["hard_loss"] == pytest.approx(hard, rel=1e-4)
    assert any("accuracy" in name for name in logs)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_an_output_without_a_loss_learns_nothing(package, rng):
    x = {"a": rng.normal(size=(16, 4)).astype("float32"), "b": rng.random((16, 3), "float32")}
    y = {"kind": rng.integers(0, 3, 16), "size": rng.random((16, 1), "float32")}
    student, teacher = two_headed(package), two_headed(keras)
    s, t = predicted(student, x), predicted(teacher, x)
    distiller = Distiller(student, teacher, temperature=1.0, soft_loss={"kind": "kl", "size": None})
    loss = {"kind": crossentropy(package), "size": None}
    distiller.compile("sgd", loss=loss, run_eagerly=True)
    logs = logs_of(distiller, x, y, batch_size=16)
    kl = rel_entr(softmax(t["kind"], -1), softmax(s["kind"], -1)).sum(-1).mean()
    assert logs["soft_loss"] == pytest.approx(kl, rel=1e-4)


def test_unlabelled_data(batch, package):
    x, y = batch
    distiller = Distiller(dense(package), dense(keras), alpha=0.3, soft_loss="kl")
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package))
    want = logs_of(distiller, x, y, batch_size=32)["soft_loss"]
    for data in (x, tf.data.Dataset.from_tensor_slices(x).batch(32)):
        logs = logs_of(distiller, data, **({"batch_size": 32} if data is x else {}))
        assert logs["soft_loss"] == pytest.approx(want, rel=1e-5)
        assert logs["hard_loss"] == 0
        assert logs["loss"] == pytest.approx(0.7 * want, rel=1e-5)


@pytest.mark.parametrize("missing", [-1, math.nan])
def test_partly_labelled_data(missing, package, rng):
    x = rng.normal(size=(32, 4)).astype("float32")
    if missing == -1:
        y, student, teacher = rng.integers(0, 3, 32), dense(package), dense(keras)
        s = predicted(student, x)
        hard = -log_softmax(s, -1)[np.arange(32), y]
        loss, soft, metric = crossentropy(package), "kl", "accuracy"
        score = np.mean((s.argmax(-1) == y)[:20])
    else:
        y = rng.normal(size=(32, 1)).astype("float32")
        student, teacher = dense(package, 1), dense(keras, 1)
        s = predicted(student, x)
        hard = np.square(s - y).mean(-1)
        loss, soft, metric = package.losses.MeanSquaredError(), "mse", "mae"
        score = np.abs(s - y)[:20].mean()
    known = np.arange(32) < 20
    y = np.where(known if y.ndim == 1 else known[:, None], y, missing).astype(y.dtype)
    distiller = Distiller(student, teacher, soft_loss=soft, unlabeled=missing)
    distiller.compile(package.optimizers.SGD(0.0), loss, metrics=[metric])
    logs = logs_of(distiller, x, y, batch_size=32)
    assert logs["hard_loss"] == pytest.approx(hard[known].mean(), rel=1e-4)
    assert logs[metric] == pytest.approx(score, rel=1e-4)
    full = Distiller(student, teacher, soft_loss=soft)
    full.compile(package.optimizers.SGD(0.0), loss, run_eagerly=True)
    plain = np.where(np.isnan(y) | (y == -1), 0, y)
    assert logs["soft_loss"] == pytest.approx(
        logs_of(full, x, plain, batch_size=32)["soft_loss"], rel=1e-5
    )


def test_no_hard_loss_at_all(batch, package):
    distiller = Distiller(dense(package), dense(keras), soft_loss="kl", from_logits=True)
    distiller.compile(package.optimizers.Adam(0.1))
    history = distiller.fit(batch[0], epochs=20, verbose=0).history
    assert history["soft_loss"][-1] < 0.1 * history["soft_loss"][0]


def test_add_loss_and_activity_regularizers(batch, package):
    x, y = batch
    student = package.Sequential([
        package.Input((4,)),
        package.layers.Dense(5, activity_regularizer=package.regularizers.L2(0.1), name="a"),
        package.layers.Dense(3, bias_regularizer=package.regularizers.L1(0.1)),
    ])  # fmt: skip
    student.layers[-1].set_weights([student.layers[-1].get_weights()[0], np.ones(3)])
    # What Keras itself adds to the student's loss; releases differ in how they scale it.
    student.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=True)
    plain = student.fit(x, y, batch_size=32, verbose=0).history["loss"][0]
    hard = -log_softmax(predicted(student, x), -1)[np.arange(32), y].mean()
    extra = plain - hard
    assert extra > 0.3
    distiller = compiled(student, dense(keras), package)
    logs = logs_of(distiller, x, y, batch_size=32)
    total = 0.1 * logs["hard_loss"] + 0.9 * logs["soft_loss"] + extra
    assert logs["loss"] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("features", [False, True])
def test_one_forward_pass_of_each_model_per_step(features, batch, package):
    """Batch norm's statistics move once per step, and not at all in validation."""

    def net(p):
        la = p.layers
        return p.Sequential([
            p.Input((4,)), la.Dense(4, name="h"), la.BatchNormalization(momentum=0.9, name="bn"),
            la.Dense(3),
        ])  # fmt: skip

    x, y = batch
    student, teacher = net(package), net(keras)
    chosen = [losses.Hint("bn", "bn")] if features else []
    distiller = Distiller(student, teacher, features=chosen)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package))
    kernel, bias = student.get_layer("h").get_weights()
    mean = (x @ kernel + bias).mean(0)
    distiller.fit(x, y, batch_size=32, epochs=1, validation_data=(x, y), verbose=0)
    moved = student.get_layer("bn").get_weights()[2]
    np.testing.assert_allclose(moved, 0.1 * mean, rtol=1e-4, atol=1e-6)
    before = teacher.get_layer("bn").get_weights()
    np.testing.assert_array_equal(before[2], 0)


def test_validation_runs_the_teacher_only_when_asked(batch, package):
    x, y = batch
    calls = []

    def teacher(batch):
        calls.append(len(batch))
        return np.zeros((len(batch), 3), "float32")

    for asked in (False, True):
        distiller = Distiller(
            dense(package), teacher, teacher_from_logits=True, evaluate_teacher=asked
        )
        distiller.compile("sgd", crossentropy(package), run_eagerly=not asked)
        calls.clear()
        history = distiller.fit(x, y, batch_size=32, validation_data=(x, y), verbose=0).history
        # The first examples, each once in training and in the sample of validation examples.
        assert sum(calls) == 2 + 32 + 32 + (32 if asked else 0)
        assert ("val_soft_loss" in history) is asked
    want = distiller.alpha * history["val_hard_loss"][0]
    want += (1 - distiller.alpha) * history["val_soft_loss"][0]
    assert history["val_loss"][0] == pytest.approx(float(want), rel=1e-5)


def test_several_steps_per_execution_and_eager(batch, package):
    x, y = batch
    student, teacher = dense(package), dense(keras)
    results = []
    for options in ({}, {"steps_per_execution": 4}, {"run_eagerly": True}):
        distiller = Distiller(student, teacher, soft_loss="kl")
        distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), **options)
        results.append(logs_of(distiller, x, y, batch_size=8))
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    assert results[0] == pytest.approx(results[2], rel=1e-5)


@pytest.mark.parametrize("jit", [True, False])
def test_jit_compile(batch, package, jit):
    x, y = batch
    student, teacher = dense(package), dense(keras)
    want = logs_of(compiled(student, teacher, package, eagerly=True), x, y)
    distiller = Distiller(student, teacher, soft_loss="kl")
    distiller.compile("adam", crossentropy(package), jit_compile=jit)  # one step moves the weights
    assert logs_of(distiller, x, y) == pytest.approx(want, rel=1e-5)


def test_jit_and_a_python_teacher(batch):
    x, y = batch
    distiller = Distiller(dense(keras), lambda b: np.zeros((len(b), 3)), teacher_from_logits=True)
    distiller.compile("adam", crossentropy(keras), jit_compile=True)
    with pytest.raises(InputError, match="jit_compile=True needs a teacher that runs in TensorFl"):
        distiller.fit(x, y, verbose=0)
    assert np.isfinite(logs_of(distiller, x, y, cache_teacher=True)["loss"])


def test_nothing_is_retraced_per_step(batch, package):
    x, y = batch
    traces = []

    class Counted(package.layers.Layer):
        def call(self, inputs):
            if not tf.executing_eagerly():  # as it does where the student is scored
                traces.append(1)
            return inputs

    def no_zeros(y_true, y_pred):
        tf.debugging.assert_none_equal(y_pred, 0.0)
        return y_pred[:, 0]

    student = package.Sequential([package.Input((4,)), Counted(), package.layers.Dense(3)])
    distiller = Distiller(student, dense(keras))
    metrics = ["accuracy", no_zeros, package.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), metrics=metrics)
    traces.clear()
    first = distiller.fit(x, y, batch_size=8, epochs=1, verbose=0).history
    assert len(traces) == 1  # and not twice for the variables of the optimizer and the metrics
    later = distiller.fit(x, y, batch_size=8, epochs=3, verbose=0).history
    assert len(traces) == 1
    ranked = predicted(student, x).argsort(-1)
    top2 = (ranked[:, 1:] == y[:, None]).any(-1).mean()
    for value in (*first["top2"], *later["top2"]):
        assert value == pytest.approx(top2)
    assert first["accuracy"] == pytest.approx([(ranked[:, -1] == y).mean()])
    assert first["no_zeros"] == pytest.approx([predicted(student, x)[:, 0].mean()], abs=1e-6)
    distiller.compile("sgd", crossentropy(package), metrics=["accuracy"])
    distiller.evaluate(x, y, batch_size=8, verbose=0)
    assert len(traces) == 2


@pytest.mark.parametrize("half", ["student", "teacher", "both"])
def test_mixed_precision_on_either_side(half, batch, package):
    x, y = batch

    def net(p, mixed):
        policy = "mixed_float16" if mixed else "float32"
        la = p.layers
        body = [p.Input((4,)), la.Dense(8, activation="tanh", dtype=policy)]
        return p.Sequential([*body, la.Dense(3, dtype="float32")])

    student = net(package, half in ("student", "both"))
    teacher = net(keras, half in ("teacher", "both"))
    distiller = Distiller(student, teacher, soft_loss="kl")
    distiller.compile(package.optimizers.Adam(0.02), crossentropy(package))
    scaled = type(distiller.optimizer).__name__.startswith("LossScale")
    assert scaled is (half != "teacher")
    history = distiller.fit(x, y, epochs=30, verbose=0).history["soft_loss"]
    assert history[-1] < 0.7 * history[0]


def test_a_schedule_moves_alpha(batch, package):
    x, y = batch
    distiller = compiled(dense(package), dense(keras), package)

    class Schedule(package.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.alpha = epoch / 2

    history = distiller.fit(x, y, epochs=3, verbose=0, callbacks=[Schedule()]).history
    for epoch, alpha in enumerate((0.0, 0.5, 1.0)):
        total = alpha * history["hard_loss"][epoch] + (1 - alpha) * history["soft_loss"][epoch]
        assert history["loss"][epoch] == pytest.approx(total, rel=1e-5)


def test_tfmots_pruning_callback_reaches_the_wrappers(batch):
    from tfkd.model import backends

    sparsity = backends.tfmot().sparsity.keras
    schedule = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=1)
    student = sparsity.prune_low_magnitude(dense(tf_keras, 8, inputs=4), schedule)
    head = tf_keras.layers.Dense(3)
    student = tf_keras.Model(student.input, head(student.output))
    distiller = Distiller(student, dense(keras))
    distiller.compile("adam", crossentropy(tf_keras))
    distiller.fit(*batch, epochs=3, verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    kernel = next(w for w in student.weights if "kernel" in w.name and w.shape == (4, 8))
    assert np.mean(kernel.numpy() == 0) == pytest.approx(0.5, abs=0.05)


def test_quantize_aware_softmax_students(batch):
    student = quantize_aware(dense(keras, activation="softmax"))
    distiller = Distiller(student, dense(keras), soft_loss="kl")
    distiller.compile(tf_keras.optimizers.Adam(0.05), crossentropy(tf_keras, False))
    history = distiller.fit(*batch, epochs=30, verbose=0).history["soft_loss"]
    assert history[-1] < 0.5 * history[0]


def test_bad_data(batch, package):
    x, y = batch
    distiller = compiled(dense(package), dense(keras), package)
    for arguments, message in [
        ((x[:0], y[:0]), "no examples"),
        ((tf.data.Dataset.from_tensor_slices((x[:0], y[:0])).batch(4),), "dataset is empty"),
        ((x, y[:5]), "different numbers of examples"),
        ((x, y + 1), "labels go up to 3, but the output .* has 3 classes"),
    ]:
        with pytest.raises(InputError, match=message):
            distiller.fit(*arguments, verbose=0)
    regression = Distiller(dense(package, 1), dense(keras, 1))
    regression.compile("sgd", "mse")
    with pytest.raises(InputError, match="they would broadcast"):
        regression.fit(x, np.zeros((32, 5)), verbose=0)
    regression.fit(x, np.zeros(32), verbose=0)
    needy = Distiller(dense(package), dense(keras), soft_loss="dkd")
    needy.compile("sgd", crossentropy(package))
    with pytest.raises(InputError, match="DKD needs labels"):
        needy.fit(x, verbose=0)


def test_bad_settings(package):
    other = tf_keras if package is keras else keras
    distiller = Distiller(dense(package), dense(keras))
    with pytest.raises(InputError, match=f"optimizer= is a {other.__name__} object"):
        distiller.compile(other.optimizers.Adam(), crossentropy(package))
    with pytest.raises(InputError, match=f"loss= is a {other.__name__} object"):
        distiller.compile("adam", crossentropy(other))
    with pytest.raises(InputError, match="class_weights has 2 entries.* 3 classes"):
        Distiller(
            dense(package), dense(keras), soft_loss=losses.KLDivergence(class_weights=[1, 2])
        ).compile("adam", crossentropy(package))
    with pytest.raises(InputError, match="is for regression outputs"):
        Distiller(dense(package), dense(keras), soft_loss="mse").compile(
            "adam", crossentropy(package)
        )
    with pytest.raises(InputError, match="has no teacher"):
        Distiller(dense(package)).fit(np.zeros((2, 4)), np.zeros(2), verbose=0)
