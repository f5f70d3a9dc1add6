"""FACTS' list of what `keras.distillation` gets wrong: each holds here, and fails there.

Every test runs twice, for tfkd and for `keras.distillation.Distiller` as its documentation
shows it; the second is expected to fail, strictly in the versions that were looked at: of a
later one that mends something the test reports XPASS.
"""

import keras
import numpy as np
import pytest
from scipy.special import rel_entr, softmax
from tiny_models import FAILS_IN_KERAS, crossentropy, predicted

import tfkd

if not hasattr(keras, "distillation"):
    pytest.skip("this Keras has no keras.distillation", allow_module_level=True)

L = keras.layers


class Ours:
    name = "tfkd"

    @staticmethod
    def make(student, teacher, weight=0.0, temperature=2.0, hint=None, scale=1.0):
        features = [] if hint is None else [tfkd.losses.Hint(hint, hint, weight=scale)]
        soft = "kl" if student.outputs[0].shape[-1] > 1 else "mse"
        return tfkd.Distiller(
            student, teacher, alpha=weight, temperature=temperature, soft_loss=soft,
            features=features,
        )  # fmt: skip


class Theirs:
    name = "keras.distillation"

    @staticmethod
    def make(student, teacher, weight=0.0, temperature=2.0, hint=None, scale=1.0):
        kd = keras.distillation
        parts, weights = [kd.LogitsDistillation(temperature)], [1.0]
        if hint is not None:
            parts.append(kd.FeatureDistillation("mse", hint, hint))
            weights.append(scale)
        return kd.Distiller(teacher, student, parts, weights, student_loss_weight=weight)


@pytest.fixture(
    params=[Ours, pytest.param(Theirs, marks=FAILS_IN_KERAS)],
    ids=lambda kind: kind.name,
)
def kind(request):
    return request.param


def dense(units=3, activation=None, inputs=4, **kwargs):
    layer = L.Dense(units, activation=activation, name="d", **kwargs)
    return keras.Sequential([keras.Input((inputs,)), layer])


@pytest.fixture
def data(rng):
    return rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 3, 32)


def run(distiller, x, y, lr=0.0, from_logits=True, loss=None, **kwargs):
    loss = crossentropy(keras, from_logits) if loss is None else loss
    distiller.compile(keras.optimizers.SGD(lr), loss)
    kwargs = {"batch_size": len(x), "verbose": 0, "shuffle": False, **kwargs}
    history = distiller.fit(x, y, **kwargs).history
    return float(history["loss" if "soft_loss" in history else "total_loss"][0])


def kl(student, teacher, x, temperature=2.0):
    t, s = (predicted(m, x) / temperature for m in (teacher, student))
    return temperature**2 * rel_entr(softmax(t, -1), softmax(s, -1)).sum(-1).mean()


def test_01_the_default_loss_is_kl_on_softmax_times_t_squared(kind, data):
    student, teacher = dense(), dense()
    want = kl(student, teacher, data[0])
    assert run(kind.make(student, teacher), *data) == pytest.approx(want, rel=1e-4)


def test_02_a_confidently_wrong_student_gets_its_gradient(kind, data):
    student, teacher = dense(use_bias=False), dense(use_bias=False)
    x = np.ones((8, 4), "float32")
    for model, sign in ((student, -1), (teacher, 1)):
        kernel = np.zeros((4, 3))
        kernel[:, 0] = 10.0 * sign
        model.set_weights([kernel])
    run(kind.make(student, teacher, temperature=1.0), x, np.zeros(8, int), lr=1.0)
    moved = student.get_weights()[0] - np.array([[-10.0, 0, 0]] * 4)
    np.testing.assert_allclose(moved[:, 0], 1.0, rtol=1e-3)  # p − q = 1 on inputs of 1


def test_03_probabilities_are_not_taken_for_logits_in_silence(kind, data):
    student, teacher = dense(activation="softmax"), dense(activation="softmax")
    t, s = (predicted(m, data[0]) for m in (teacher, student))
    want = 4 * rel_entr(softmax(np.log(t) / 2, -1), softmax(np.log(s) / 2, -1)).sum(-1).mean()
    got = run(kind.make(student, teacher), *data, from_logits=False)
    assert got == pytest.approx(want, rel=1e-3)


def test_04_named_layers_cost_no_second_pass_of_the_student(kind, data):
    x, y = data

    def net():
        bn = L.BatchNormalization(momentum=0.9, name="bn")
        return keras.Sequential([keras.Input((4,)), bn, L.Dense(3)])

    student = net()
    run(kind.make(student, net(), hint="bn"), x, y, validation_data=(x, y))
    mean = student.get_layer("bn").get_weights()[2]
    np.testing.assert_allclose(mean, 0.1 * x.mean(0), rtol=1e-4, atol=1e-6)


def test_05_sample_weights_and_regularizers_count(kind, data):
    x, y = data
    student = dense(kernel_regularizer=keras.regularizers.L2(0.5))
    weights = np.linspace(0, 2, 32).astype("float32")
    s = predicted(student, x)
    hard = -np.log(softmax(s, -1)[np.arange(32), y]) * weights
    want = hard.mean() + 0.5 * np.square(student.get_weights()[0]).sum()
    got = run(kind.make(student, dense(), weight=1.0), x, y, sample_weight=weights)
    assert got == pytest.approx(want, rel=1e-4)


# 06, two replicas: test_distiller_lasting.py, in a process of its own.


def test_07_save_load_fit(kind, data, tmp_path):
    teacher = dense()
    distiller = kind.make(dense(), teacher, weight=0.5)
    run(distiller, *data, lr=0.1)
    distiller.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    again.teacher = teacher
    a, b = (d.fit(*data, shuffle=False, verbose=0).history for d in (distiller, again))
    assert list(a.values())[-1] == pytest.approx(list(b.values())[-1], rel=1e-5)


def test_07_the_teacher_stays_trainable_and_out_of_the_checkpoint(kind, data):
    teacher = dense()
    distiller = kind.make(dense(), teacher)
    run(distiller, *data)
    assert teacher.trainable
    ours = {id(v) for v in distiller.variables}
    assert not ours & {id(v) for v in teacher.variables}


def two_layers(width):
    return keras.Sequential([keras.Input((4,)), L.Dense(width, name="h"), L.Dense(3, name="o")])


def test_08_a_feature_losss_own_weights_are_trained(kind, data):
    student, teacher = two_layers(3), two_layers(5)
    if kind is Theirs:

        class Projected(keras.distillation.DistillationLoss):
            teacher_layer_name = student_layer_name = "h"

            def __init__(self):
                self.adapter = L.Dense(5)
                self.adapter.build((None, 3))

            def validate_outputs(self, teacher_outputs, student_outputs):
                pass

            def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
                return keras.ops.mean((self.adapter(student_outputs) - teacher_outputs) ** 2)

        loss = Projected()
        distiller = keras.distillation.Distiller(teacher, student, loss, student_loss_weight=0.0)
        adapter = loss.adapter
    else:
        hint = tfkd.losses.Hint("h", "h")
        distiller = tfkd.Distiller(student, teacher, alpha=0.0, features=[hint])
        adapter = distiller._adapters[0]
    before = adapter.get_weights()[0].copy()
    run(distiller, *data, lr=0.1)
    assert np.abs(adapter.get_weights()[0] - before).max() > 0


def test_09_features_of_different_widths(kind, data):
    distiller = kind.make(two_layers(3), two_layers(5), hint="h")
    assert np.isfinite(run(distiller, *data))


def test_09_the_weight_of_a_single_loss_counts(kind, data):
    student, teacher = dense(), dense()
    if kind is Theirs:
        single = keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence())
        distiller = keras.distillation.Distiller(teacher, student, single, 5.0, 0.0)
        got = run(distiller, *data) / 5
    else:
        distiller = tfkd.Distiller(student, teacher, alpha=0.0, temperature=2.0, soft_loss="kl")
        distiller.compile(keras.optimizers.SGD(0.0), crossentropy(keras), loss_weights=[5.0])
        logs = distiller.fit(*data, batch_size=32, verbose=0).history
        got = logs["soft_loss"][0] / 5
    assert got == pytest.approx(kl(student, teacher, data[0]), rel=1e-3)


def test_09_shapes_do_not_broadcast_in_silence(kind, data):
    x = data[0]
    distiller = kind.make(dense(1), dense(1), weight=1.0)
    with pytest.raises(Exception, match=r"broadcast|shape"):
        run(distiller, x, np.zeros((32, 32), "float32"), loss="mse")


def test_10_teacher_and_student_may_take_different_inputs(kind, data):
    x, y = data
    student, teacher = dense(inputs=2), dense()
    if kind is Theirs:
        distiller = kind.make(student, teacher)
    else:
        distiller = tfkd.Distiller(student, teacher, student_inputs=lambda x: x[:, :2])
    assert np.isfinite(run(distiller, x, y))


def test_10_a_mixed_precision_student(kind, data):
    student = keras.Sequential([
        keras.Input((4,)), L.Dense(4, dtype="mixed_float16"), L.Dense(3, dtype="mixed_float16")
    ])  # fmt: skip
    distiller = kind.make(student, dense(), weight=0.5)
    run(distiller, *data, lr=0.1)
    assert (
        "LossScale" in type(distiller.optimizer).__name__ or distiller.optimizer.loss_scale_factor
    )


def test_11_alpha_moves_without_a_retrace(kind, data):
    distiller = kind.make(dense(), dense(), weight=1.0)
    first = run(distiller, *data)
    if kind is Theirs:
        distiller.student_loss_weight = 0.0
    else:
        distiller.alpha = 0.0
    history = distiller.fit(*data, batch_size=32, verbose=0).history
    second = history["loss" if kind is Ours else "total_loss"][0]
    assert second != pytest.approx(first, rel=1e-3)


def test_11_layers_inside_a_nested_backbone(kind, data):
    def nested():
        inner = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a")], name="backbone")
        return keras.Sequential([keras.Input((4,)), inner, L.Dense(3)])

    name = "backbone/a" if kind is Ours else "a"
    assert np.isfinite(run(kind.make(nested(), nested(), hint=name), *data))


def test_11_dict_metrics(kind, data):
    def named():
        x = keras.Input((4,))
        return keras.Model(x, {"kind": L.Dense(3, name="kind")(x)})

    distiller = kind.make(named(), named(), weight=0.5)
    distiller.compile("sgd", {"kind": crossentropy(keras)}, metrics={"kind": ["accuracy"]})
    history = distiller.fit(data[0], {"kind": data[1]}, verbose=0).history
    assert any("accuracy" in name for name in history)


def test_12_validation_does_not_run_the_teacher(kind, data):
    runs = []

    @keras.saving.register_keras_serializable("tests")
    class Counted(L.Layer):
        def call(self, x):
            runs.append(1)
            return x

    teacher = keras.Sequential([keras.Input((4,)), Counted(), L.Dense(3)])
    distiller = kind.make(dense(), teacher, weight=0.5)
    distiller.compile("sgd", crossentropy(keras))
    runs.clear()
    distiller.evaluate(*data, verbose=0)
    assert runs == []


def test_12_the_teacher_can_be_cached(kind, data):
    distiller = kind.make(dense(), dense())
    distiller.compile("sgd", crossentropy(keras))
    assert distiller.fit(*data, cache_teacher=True, verbose=0).history


def test_13_tf_keras_students(kind, data):
    import tf_keras

    student = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
    distiller = kind.make(student, dense())
    distiller.compile("sgd", crossentropy(tf_keras))
    assert distiller.fit(*data, verbose=0).history


# 14, tests that assert values: tests/tfkd/losses and test_distiller.py.


def test_a_sound_loss_of_theirs_is_taken_and_an_unsound_one_refused(data):
    kd = keras.distillation
    sound = kd.LogitsDistillation(2.0, keras.losses.KLDivergence())
    student, teacher = dense(), dense()
    want = kl(student, teacher, data[0])
    distiller = tfkd.Distiller(student, teacher, alpha=0.0, temperature=2.0, soft_loss=sound)
    assert run(distiller, *data) == pytest.approx(want, rel=1e-4)
    assert float(tfkd.Distiller(student, teacher, soft_loss=sound).temperature) == 2.0
    with pytest.raises(
        tfkd.InputError, match="has temperature=2.0, and the distiller is given 3.0"
    ):
        tfkd.Distiller(student, teacher, temperature=3.0, soft_loss=sound)
    with pytest.raises(tfkd.InputError, match="alpha is a LogitsDistillation.*student comes first"):
        tfkd.Distiller(teacher, student, sound)
    alone = tfkd.Distiller(student, teacher, alpha=0.0, soft_loss=None)
    assert run(alone, *data) == 0.0
    with pytest.raises(tfkd.InputError, match="on raw logits .*no softmax, no T²"):
        tfkd.Distiller(student, teacher, soft_loss=kd.LogitsDistillation(2.0)).compile(
            "sgd", crossentropy(keras)
        )
    hint = kd.FeatureDistillation("mse", "d", "d")
    assert isinstance(
        tfkd.Distiller(student, teacher, features=[hint])._features[0], tfkd.losses.Hint
    )
    with pytest.raises(tfkd.InputError, match="taken with loss='mse' and both layer names"):
        tfkd.Distiller(student, teacher, features=[kd.FeatureDistillation("mse", "d")])
