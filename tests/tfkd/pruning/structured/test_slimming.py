"""Slimming: a step against NumPy, the removed channels, and pruning them without loss."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import cnn, crossentropy, predicted

import tfkd
from tfkd.errors import InputError, UnsupportedError
from tfkd.pruning.structured import slimming
from tfkd.pruning.structured.slimming import Slimming


def flat(package):
    """Conv, batch normalization, Flatten, Dense, and its groups by hand."""
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((4, 4, 1)),
            layers.Conv2D(3, 2, name="c"),
            layers.BatchNormalization(name="b"),
            layers.Flatten(name="f"),
            layers.Dense(4, name="d"),
            layers.Dense(2, name="out"),
        ]
    )
    kernels = [[("c", 0, np.s_[..., i]), ("d", 0, np.s_[i::3])] for i in range(3)]
    kernels += [[("d", 0, np.s_[:, j]), ("out", 0, np.s_[j])] for j in range(4)]
    scales = [[("b", 0, np.s_[i : i + 1])] for i in range(3)]
    return model, {"kernels": kernels, "bn_scale": scales}


def residual(package):
    """Two convolutions that are added: their channels hang together."""
    layers = package.layers
    inputs = package.Input((4, 4, 2), name="x")
    x = layers.BatchNormalization(name="ba")(layers.Conv2D(3, 1, name="a")(inputs))
    y = layers.BatchNormalization(name="bb")(layers.Conv2D(3, 1, name="b")(x))
    x = layers.GlobalAveragePooling2D(name="p")(layers.Add(name="s")([x, y]))
    model = package.Model(inputs, layers.Dense(2, name="out")(x))
    kernels = [
        [
            *(("a", 0, np.s_[..., i]), ("b", 0, np.s_[:, :, i]), ("b", 0, np.s_[..., i])),
            ("out", 0, np.s_[i]),
        ]
        for i in range(3)
    ]
    scales = [[(name, 0, np.s_[i : i + 1]) for name in ("ba", "bb")] for i in range(3)]
    return model, {"kernels": kernels, "bn_scale": scales}


def recurrent(package):
    """An LSTM's four gates and a GRU's three."""
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((5, 2)),
            layers.LSTM(2, return_sequences=True, name="l"),
            layers.GRU(3, name="g"),
            layers.Dense(2, name="out"),
        ]
    )
    own = [
        [
            *((name, 0, np.s_[:, i::units]), (name, 1, np.s_[i]), (name, 1, np.s_[:, i::units])),
            (reader, 0, np.s_[i]),
        ]
        for name, units, reader in (("l", 2, "g"), ("g", 3, "out"))
        for i in range(units)
    ]
    return model, {"kernels": own}


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers}


def prepared(package, build, optimizer):
    """A compiled model with weights far from their initial values."""
    model, groups = build(package)
    rng = np.random.default_rng(3)
    model.set_weights([rng.uniform(0.1, 0.6, w.shape) for w in model.get_weights()])
    model.compile(optimizer, "mse", run_eagerly=True)  # one step only
    return model, groups


@pytest.mark.parametrize(
    ("build", "of"),
    [
        *((build, of) for build in (flat, residual) for of in ("bn_scale", "kernels")),
        (recurrent, "kernels"),
    ],
)
def test_a_step_is_the_proximal_step_after_the_optimizers(package, build, of):
    plain, groups = prepared(package, build, package.optimizers.SGD(0.1))
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(8, *plain.input_shape[1:])), rng.normal(size=(8, 2))
    plain.fit(x, y, epochs=1, verbose=0, shuffle=False)
    before, expected = weights_of(plain), weights_of(plain)
    slices = [[before[name][i][where] for name, i, where in one] for one in groups[of]]
    norms = [np.sqrt(sum(np.square(part).sum() for part in one)) for one in slices]
    roots = [np.sqrt(sum(part.size for part in one)) for one in slices]
    lengths = np.sort(np.divide(norms, roots))
    strength = lengths[:2].mean() / 0.1  # one group goes
    factors = [
        max(0.0, 1 - 0.1 * strength * root / norm) for norm, root in zip(norms, roots, strict=True)
    ]
    for factor, one in zip(factors, groups[of], strict=True):
        for name, i, where in one:
            expected[name][i][where] *= factor
            if of == "bn_scale" and factor == 0:
                expected[name][1][where] = 0  # its shift

    slimmed, _ = prepared(package, build, package.optimizers.SGD(0.1))
    history = slimmed.fit(
        x, y, epochs=1, verbose=0, shuffle=False, callbacks=[Slimming(float(strength), of)]
    )
    assert factors.count(0.0) == 1
    assert history.history["zero_channels"] == [pytest.approx(1 / len(factors))]
    for name, arrays in weights_of(slimmed).items():
        for array, value in zip(arrays, expected[name], strict=True):
            np.testing.assert_allclose(array, value, rtol=1e-5, atol=1e-5)


def accuracy(model, digits):
    return (predicted(model, digits.test.x).argmax(-1) == digits.test.y).mean()


def trained(package, digits):
    package.utils.set_random_seed(0)
    model = cnn(package, width=12)
    model.compile(package.optimizers.Adam(5e-3), crossentropy(package))
    model.fit(digits.train.x, digits.train.y, epochs=6, batch_size=32, verbose=0)
    return model


def slimmed(package, model, digits, strength, of, epochs=8):
    package.utils.set_random_seed(0)
    copy = package.models.clone_model(model)
    copy.set_weights(model.get_weights())
    steps = epochs * -(-len(digits.train.x) // 32)
    rate = package.optimizers.schedules.CosineDecay(0.05, steps)
    copy.compile(package.optimizers.SGD(rate, momentum=0.9), crossentropy(package))
    history = copy.fit(
        digits.train.x, digits.train.y, epochs=epochs, batch_size=32, verbose=0,
        callbacks=[Slimming(strength, of)],
    )  # fmt: skip
    return copy, history.history["zero_channels"]


@pytest.mark.parametrize(
    ("package", "of", "strength", "criterion"),
    [(keras, "bn_scale", 0.8, "bn_scale"), (tf_keras, "kernels", 0.06, "l2")],
)
def test_what_training_took_to_zero_can_be_pruned_for_nothing(
    package, of, strength, criterion, digits
):
    plain, x = trained(package, digits), digits.test.x
    model, zero = slimmed(package, plain, digits, strength, of)
    assert len(zero) == 8 and zero == sorted(zero) and 0.1 < zero[-1] < 0.7
    # A little less than the share: rounding must not take one more.
    given = {"amount": zero[-1], "criterion": criterion, "round_to": 1}
    small = tfkd.prune_channels(model, **given)
    assert small.count_params() < model.count_params()
    np.testing.assert_allclose(predicted(small, x), predicted(model, x), rtol=1e-4, atol=1e-4)
    cut = tfkd.prune_channels(plain, **given)
    assert accuracy(small, digits) > accuracy(cut, digits) + 0.1


def test_in_a_distiller_it_works_on_the_student(package, digits, teacher):
    package.utils.set_random_seed(0)
    student = cnn(package)
    distiller = tfkd.Distiller(student, teacher)
    distiller.compile(package.optimizers.SGD(0.05), crossentropy(package))
    history = distiller.fit(
        digits.train.x[:256], digits.train.y[:256], epochs=2, batch_size=32, verbose=0,
        callbacks=[Slimming(3.0)],
    )  # fmt: skip
    scales = np.concatenate([student.layers[i].gamma.numpy() for i in (2, 5)])
    shifts = np.concatenate([student.layers[i].beta.numpy() for i in (2, 5)])
    zero = history.history["zero_channels"][-1]
    assert 0 < zero == pytest.approx((scales == 0).mean())
    assert (shifts[scales == 0] == 0).all()


def still(package, optimizer, epochs=2, callbacks=(), **compiled):
    """Train on examples of no weight: only the callback moves scales, from 1. Eight steps."""
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((4,)),
            layers.Dense(5),
            layers.BatchNormalization(name="b"),
            layers.Dense(2, name="out"),
        ]
    )
    model.compile(optimizer, "mse", **compiled)
    x, y = np.ones((16, 4)), np.ones((16, 2))
    model.fit(
        x, y, sample_weight=np.zeros(16), batch_size=4, epochs=epochs, verbose=0,
        callbacks=[Slimming(0.5), *callbacks],
    )  # fmt: skip
    return model.get_layer("b").gamma.numpy()


@pytest.mark.parametrize("of", ["bn_scale", "kernels"])
def test_a_strength_too_large_leaves_what_was_asked_and_one_of_each_layer(package, of):
    x, y = np.ones((16, 8, 8, 1), "float32"), np.ones(16)
    for amount, gone in ((0.25, 7), (1.0, 28)):  # of 30 channels in two layers
        model = cnn(package, width=10)
        before = [layer.gamma.numpy() for layer in model.layers if hasattr(layer, "gamma")]
        model.compile(package.optimizers.SGD(0.1), crossentropy(package), run_eagerly=True)
        history = model.fit(
            x, y, sample_weight=np.zeros(16), batch_size=4, verbose=0,
            callbacks=[Slimming(1e3, of, amount)],
        )  # fmt: skip
        assert history.history["zero_channels"] == [pytest.approx(gone / 30)]
        if of == "bn_scale":
            after = [layer.gamma.numpy() for layer in model.layers if hasattr(layer, "gamma")]
            assert sum((one == 0).sum() for one in after) == gone
            for old, new in zip(before, after, strict=True):
                assert (new != 0).any() and (new[new != 0] == old[new != 0]).all()


@pytest.mark.slow
@pytest.mark.parametrize("of", ["bn_scale", "kernels"])
def test_momentum_does_not_let_a_layer_go_empty(package, digits, of):
    for seed in range(4):
        package.utils.set_random_seed(seed)
        layers = package.layers
        inputs = package.Input((8, 8))
        x = layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
        x = layers.BatchNormalization(name="scales")(layers.Dense(6, name="narrow")(x))
        model = package.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))
        model.compile(package.optimizers.SGD(0.02, momentum=0.9), crossentropy(package))
        x, y = digits.train.x[:512, :, :, 0], digits.train.y[:512]
        model.fit(x, y, epochs=2, verbose=0, callbacks=[Slimming(5.0, of, 1.0)])
        if of == "bn_scale":
            left = [model.get_layer("scales").gamma.numpy()]
        else:
            kernel = np.abs(model.get_layer("attention")._output_dense.kernel.numpy())
            left = [kernel.sum((1, 2)), kernel.sum((0, 1))]  # heads, outputs
            left += [np.abs(model.get_layer("narrow").kernel.numpy()).sum(0)]
        assert [(one != 0).sum() for one in left] == [1] * len(left)


def test_the_rate_is_the_optimizers(package):
    optimizers = package.optimizers
    schedule = optimizers.schedules.PolynomialDecay(0.2, 8, 0.0)
    # A schedule's present rate is that of the step taken (tf_keras) or of the next (Keras 3).
    first = 1 if package is keras else 0
    taken = 0.5 * sum(0.2 * (1 - min(i, 8) / 8) for i in range(first, first + 8))
    np.testing.assert_allclose(still(package, optimizers.SGD(schedule)), 1 - taken, rtol=1e-5)
    change = package.callbacks.LearningRateScheduler(lambda epoch: [0.1, 0.02][epoch])
    scales = still(package, optimizers.Adam(0.5), callbacks=[change])
    np.testing.assert_allclose(scales, 1 - 0.5 * 4 * (0.1 + 0.02), rtol=1e-5)


def test_as_many_steps_as_the_optimizer_made(package):
    sgd = package.optimizers.SGD
    for given in ({}, {"steps_per_execution": 3}, {"jit_compile": True}):
        scales = still(package, sgd(0.1), **given)
        np.testing.assert_allclose(scales, 1 - 0.5 * 0.1 * 8, rtol=1e-5)
    if package is keras:
        scales = still(package, sgd(0.1, gradient_accumulation_steps=2))
        np.testing.assert_allclose(scales, 1 - 0.5 * 0.1 * 4, rtol=1e-5)
    else:
        rate = package.optimizers.schedules.PolynomialDecay(0.1, 100, 0.1)
        scales = still(package, package.optimizers.legacy.SGD(rate))
        np.testing.assert_allclose(scales, 1 - 0.5 * 0.1 * 8, rtol=1e-5)


def test_loss_scaling(package):
    optimizer = package.optimizers.SGD(0.1)
    kind = "LossScaleOptimizer"
    home = package.optimizers if package is keras else package.mixed_precision
    np.testing.assert_allclose(still(package, getattr(home, kind)(optimizer)), 0.6, rtol=1e-5)


def test_a_backup_that_is_restored_is_no_step(package):
    optimizer = package.optimizers.SGD(0.01)
    moved = package.callbacks.LambdaCallback(
        on_train_begin=lambda logs: optimizer.iterations.assign(1000)
    )
    scales = still(package, optimizer, callbacks=[moved])
    np.testing.assert_allclose(scales, 1 - 0.5 * 0.01 * 8, rtol=1e-5)


def test_it_is_traced_once(package, monkeypatch):
    traced = []
    squares = slimming._Slices.squares

    def counted(self):
        traced.append(self)
        return squares(self)

    monkeypatch.setattr(slimming._Slices, "squares", counted)
    still(package, package.optimizers.SGD(0.1), epochs=4)
    assert len(traced) == 1  # one weight, in sixteen steps


def test_what_is_frozen_or_no_kernel_stays(package):
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((5, 2)),
            layers.Dense(3, name="frozen", trainable=False),
            layers.Bidirectional(layers.GRU(3), name="two"),
            layers.Dense(2, name="out"),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    before = weights_of(model)
    model.compile(package.optimizers.SGD(0.1), "mse", run_eagerly=True)
    x, y = np.ones((4, 5, 2), "float32"), np.ones((4, 2), "float32")
    callbacks = [Slimming(0.1, "kernels")]
    model.fit(x, y, sample_weight=np.zeros(4), verbose=0, callbacks=callbacks)
    after = weights_of(model)
    # Of each direction: a kernel, a recurrent kernel, and a bias of two rows.
    kernels = [("two", i) for i in (0, 1, 3, 4)] + [("out", 0)]
    for name, arrays in before.items():
        for i, old in enumerate(arrays):
            if (name, i) in kernels:
                assert (np.abs(after[name][i]) < np.abs(old)).all()
            else:
                np.testing.assert_array_equal(after[name][i], old)


def fit(model, package, optimizer=None, callbacks=None, outputs=2):
    model.compile(optimizer or package.optimizers.SGD(0.1), "mse")
    x, y = np.zeros((8, 4), "float32"), np.zeros((8, outputs), "float32")
    model.fit(x, y, batch_size=4, verbose=0, callbacks=callbacks or [Slimming()])


def test_bad_input(package):
    for strength in (0, -1.0, float("nan"), float("inf"), "much", True):
        with pytest.raises(InputError, match="strength must be a number > 0, got"):
            Slimming(strength)
    with pytest.raises(
        InputError, match="strength must .*; weights must be one of .*, got 'scales'"
    ):
        Slimming(-1, weights="scales")
    for amount in (0, 1.1, "half"):
        with pytest.raises(InputError, match="amount must be above 0 and at most 1, got"):
            Slimming(amount=amount)
    layers = package.layers

    def sequential(*inner):
        return package.Sequential([package.Input((4,)), *inner, layers.Dense(2)])

    with pytest.raises(InputError, match="has none; use weights='kernels'"):
        fit(sequential(layers.Dense(3)), package)
    frozen = sequential(layers.Dense(3), layers.BatchNormalization(trainable=False))
    with pytest.raises(
        InputError, match="the trainable scales of .* has none; use weights='kernels'"
    ):
        fit(frozen, package)
    with pytest.raises(UnsupportedError, match="No channel of the model .* can go: all are its"):
        fit(sequential(), package, callbacks=[Slimming(weights="kernels")])
    average = package.optimizers.SGD(0.1, use_ema=True)
    with pytest.raises(InputError, match="leave use_ema out"):
        fit(sequential(layers.Dense(3), layers.BatchNormalization()), package, average)

    class Own(package.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    with pytest.raises(UnsupportedError, match="subclassed"):
        fit(Own(), package)


def test_a_quantize_aware_model_is_refused():
    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)])
    with pytest.raises(UnsupportedError, match="slim and prune it before quantize_aware"):
        fit(tfkd.quantize_aware(model), tf_keras)
