"""`weight="auto"`: gradients by hand, the unit of features, saving, replicas."""

import textwrap

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import rel_entr, softmax
from tiny_models import crossentropy

from tfkd import Distiller, losses
from tfkd.errors import InputError
from tfkd.losses import balance

pytestmark = pytest.mark.filterwarnings("ignore:The teacher's:UserWarning")  # it is untrained

PLAIN = {"soft_loss": "kl", "temperature": 4.0, "alpha": 0.1}
UNIT = 128.0  # a power of two: scaling by it loses no bit


def net(package, seed, unit=1.0, width=6):
    """A model whose feature has a unit that its output doesn't know of."""
    rng, la = np.random.default_rng(seed), package.layers
    model = package.Sequential([
        package.Input((4,)), la.Dense(width, activation="tanh"), la.Rescaling(unit, name="tap"),
        la.Rescaling(1 / unit), la.Dense(3),
    ])  # fmt: skip
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def distiller_of(
    package, unit=1.0, weight="auto", rate=0.05, kinds=(losses.Hint,), eager=True, **kwargs
):
    features = [kind("tap", "tap", weight=weight) for kind in kinds]
    distiller = Distiller(
        net(package, 0, unit), net(keras, 1, unit), features=features, **{**PLAIN, **kwargs}
    )
    distiller.compile(package.optimizers.SGD(rate), crossentropy(package), run_eagerly=eager)
    return distiller


def mean_square(gradients):
    return np.square(gradients).sum(-1).mean()


def test_weights_are_ratios_of_running_mean_squares_of_gradients(rng):
    chosen = [losses.Hint("a", "b", "auto"), losses.Hint("a", "b", 3.0),
              losses.AttentionTransfer("c", "d", "auto")]  # fmt: skip
    assert [balance.count_auto(some) for some in (chosen, chosen[1:2])] == [2, 0]
    running, means = tf.Variable(tf.zeros((2, 2))), np.zeros((2, 2))
    assert [float(w) for w in weights(chosen, {}, running, None)] == [0.0, 3.0, 0.0]
    for step in range(5):
        # Losses whose gradients are known: a·h for the soft one, k/2 ‖h − t‖² for the others.
        a, c, pull_a, pull_c = rng.normal(size=(4, 6, 3)) * (1 + step)
        first, last = a - 1.0, 50.0 * (c + 2.0)
        h = {"a": tf.Variable(a, dtype=tf.float32), "c": tf.Variable(c, dtype=tf.float32)}
        with tf.GradientTape(persistent=True) as tape:
            each = pull_a * h["a"] + pull_c * h["c"]
            soft = tf.reduce_mean(tf.reduce_sum(each, -1))
            values = [
                tf.reduce_mean(tf.reduce_sum(0.5 * (h["a"] - 1.0) ** 2, -1)),
                tf.reduce_mean(h["a"]),
                tf.reduce_mean(tf.reduce_sum(25.0 * (h["c"] + 2.0) ** 2, -1)),
            ]
            got = balance.weights_of(chosen, values, soft, h, running, tape)
            total = soft + got[0] * values[0]
        means = 0.99 * means + 0.01 * np.array(
            [[mean_square(pull_a), mean_square(pull_c)], [mean_square(first), mean_square(last)]]
        )
        want = balance.SHARE / 2 * np.sqrt(means[0] / means[1])
        np.testing.assert_allclose([float(w) for w in got], [want[0], 3.0, want[1]], rtol=1e-5)
        # The weight itself is a constant of the step.
        np.testing.assert_allclose(
            tape.gradient(total, h["a"]), (pull_a + want[0] * first) / 6, rtol=1e-4, atol=1e-5
        )
    with tf.GradientTape(persistent=True) as tape:
        soft = tf.reduce_mean(h["a"] + h["c"]) * np.inf
        values = [tf.reduce_mean(h["a"])] * 2 + [tf.reduce_mean(h["c"])]
        balance.weights_of(chosen, values, soft, h, running, tape)
    np.testing.assert_allclose(running, means, rtol=1e-5)  # what is not finite is not taken


def weights(chosen, features, running, tape):
    return balance.weights_of(chosen, [0.0] * len(chosen), None, features, running, tape)


def parts(package, batch, temperature):
    """Return by NumPy the losses of the models above, and their gradients at the tap."""
    x, y = batch
    student, teacher = net(package, 0), net(keras, 1)
    w1, b1, w2, b2 = student.get_weights()
    h = np.tanh(x @ w1 + b1)
    s = h @ w2 + b2
    v1, c1, v2, c2 = teacher.get_weights()
    k = np.tanh(x @ v1 + c1)
    p, q = (softmax(z / temperature, -1) for z in (k @ v2 + c2, s))
    soft = temperature**2 * rel_entr(p, q).sum(-1).mean()
    hard = -np.log(softmax(s, -1)[np.arange(len(y)), y]).mean()
    pulls = {
        "soft": temperature * (q - p) @ w2.T,
        "hard": (softmax(s, -1) - np.eye(3)[y]) @ w2.T,
        "hint": 2 * (h - k) / h.shape[-1],
    }
    return soft, hard, np.square(h - k).mean(), {n: mean_square(g) for n, g in pulls.items()}


@pytest.mark.parametrize("soft_loss", ["kl", None])
def test_in_fit_at_the_tapped_layer(soft_loss, package, batch):
    soft, hard, hint, pulls = parts(package, batch, 4.0)
    distiller = distiller_of(package, rate=0.0, soft_loss=soft_loss, evaluate_teacher=True)
    alone = 0.0 if soft_loss is None else soft
    want = balance.SHARE * np.sqrt(pulls["hard" if soft_loss is None else "soft"] / pulls["hint"])
    before = distiller.evaluate(*batch, batch_size=32, verbose=0, return_dict=True)
    logs = distiller.fit(*batch, batch_size=32, epochs=2, verbose=0).history
    after = distiller.evaluate(*batch, batch_size=32, verbose=0, return_dict=True)
    assert before["soft_loss"] == pytest.approx(alone, rel=1e-4)
    assert logs["soft_loss"] == pytest.approx([alone + want * hint] * 2, rel=1e-4)
    assert after["soft_loss"] == pytest.approx(alone + want * hint, rel=1e-4)
    assert logs["hard_loss"][0] == pytest.approx(hard, rel=1e-4)


def test_half_precision_does_not_lose_small_gradients(package, batch):
    x, y = (np.repeat(a, 64, axis=0) for a in batch)  # 1/2048 of each gradient is left

    def means(dtype):
        la = package.layers
        student = package.Sequential([
            package.Input((4,)), la.Dense(6, "tanh", dtype=dtype, name="tap"),
            la.Dense(3, dtype="float32"),
        ])  # fmt: skip
        student.set_weights(net(package, 0).get_weights())
        distiller = Distiller(
            student, net(keras, 1), features=[losses.Hint("tap", "tap", "auto")], **PLAIN
        )
        distiller.compile("sgd", crossentropy(package), run_eagerly=True)
        distiller.fit(x, y, batch_size=2048, verbose=0)
        return tf.convert_to_tensor(distiller._feature_means).numpy()

    np.testing.assert_allclose(means("mixed_float16"), means("float32"), rtol=2e-2)


def test_what_there_is_nothing_to_compare_with(package, batch):
    x, y = batch
    distiller = distiller_of(package, soft_loss=None)
    distiller.compile("sgd", run_eagerly=True)
    with pytest.raises(InputError, match="and there is neither: give weight= a number"):
        distiller.fit(x, verbose=0)
    la = package.layers
    student = package.Sequential([package.Input((4,)), la.Rescaling(2.0, name="tap"), la.Dense(3)])
    distiller = Distiller(student, net(keras, 1), features=[losses.Hint("tap", "tap", "auto")])
    distiller.compile("sgd", crossentropy(package), run_eagerly=True)
    with pytest.raises(InputError, match="Hint of 'tap' has weight='auto', .* Give weight="):
        distiller.fit(x, y, verbose=0)


def moved(package, batch, unit, weight):
    distiller = distiller_of(package, unit, weight)
    before = distiller.student.get_weights()
    distiller.fit(*batch, batch_size=16, epochs=4, shuffle=False, verbose=0)
    after = distiller.student.get_weights()
    return np.concatenate([np.ravel(a - b) for a, b in zip(after, before, strict=True)])


def test_the_unit_of_the_features_does_not_matter(package, batch):
    """Features 128 times as large in both models train the student as before, and with a
    fixed weight they don't."""
    one, other = (moved(package, batch, unit, "auto") for unit in (1.0, UNIT))
    np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(one).max())
    one, other = (moved(package, batch, unit, 0.01) for unit in (1.0, UNIT))
    assert not np.allclose(one, other, atol=0.3 * np.abs(one).max())


def test_the_means_are_saved_and_not_traced_again(package, batch, tmp_path):
    x, y = batch
    calls = []

    class Counting(losses.Hint):
        def __call__(self, teacher, student, mask=None):
            calls.append(1)
            return super().__call__(teacher, student, mask)

    distiller = distiller_of(package, kinds=(Counting,), eager=False)
    distiller.fit(x, y, batch_size=8, verbose=0)
    traced = len(calls)
    distiller.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert len(calls) == traced
    distiller = distiller_of(package)
    distiller.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    distiller.save(tmp_path / "d.keras")
    again = package.models.load_model(tmp_path / "d.keras")
    again.teacher = distiller.teacher
    a, b = (d.fit(x, y, batch_size=8, verbose=0, shuffle=False).history for d in (distiller, again))
    assert a["soft_loss"] == pytest.approx(b["soft_loss"], rel=1e-5)
    assert "feature_means" not in " ".join(w.name for w in distiller.student.weights)


REPLICAS = textwrap.dedent("""
    import sys, keras, tf_keras, numpy as np, tensorflow as tf
    from tfkd import Distiller, losses
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    package = {"keras": keras, "tf_keras": tf_keras}[sys.argv[1]]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
    weights = [[rng.normal(size=s) for s in ((4, 5), (5,), (5, 3), (3,))] for _ in range(2)]
    def net(p, i):
        la = p.layers
        model = p.Sequential([p.Input((4,)), la.Dense(5, "tanh", name="tap"), la.Dense(3)])
        model.set_weights(weights[i])
        return model
    results = []
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for strategy in (tf.distribute.get_strategy(), two):
        with strategy.scope():
            distiller = Distiller(
                net(package, 0), net(keras, 1), soft_loss="kl", temperature=4.0, alpha=0.1,
                features=[losses.Hint("tap", "tap", "auto")])
            loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
            distiller.compile(package.optimizers.SGD(0.5), loss)
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
        logs = distiller.fit(data, verbose=0).history
        results.append([values[0] for name, values in sorted(logs.items())]
                       + list(np.ravel(distiller.student.get_weights()[0])))
    print(np.abs(np.subtract(*results)).max())
""")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_two_replicas_weigh_as_one(name):
    done = forked.run(REPLICAS, name)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) < 1e-5
