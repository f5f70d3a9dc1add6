"""Three replicas with a third of a batch each train like one with the whole batch."""

import json
import textwrap

import forked
import pytest

CASES = [
    "quantize-aware alone", "quantize-aware normalization alone", "quantize-aware", "default loss",
    "default loss, tf_keras", "weighted examples", "values", "yes/no", "several examples compared",
]  # fmt: skip

SCRIPT = textwrap.dedent("""
    import json, sys
    import keras, numpy as np, tensorflow as tf, tf_keras
    import tfkd
    from tfkd import losses

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(36, 6, 6, 2)).astype("float32")
    classes, yes = rng.integers(0, 3, 36), rng.integers(0, 2, (36, 3)).astype("float32")
    real, weight = rng.normal(size=(36, 3)).astype("float32"), rng.uniform(0.5, 2, 36)

    def net(package, seed, units=4, normalized=False):
        package.utils.set_random_seed(seed)
        la = package.layers
        norm = [la.Dense(4), la.LayerNormalization()] if normalized else []
        return package.Sequential([
            package.Input((6, 6, 2)), la.Conv2D(units, 3, activation="relu", name="tap"),
            la.Flatten(), *norm, la.Dense(3)])

    def sparse(package):
        return package.losses.SparseCategoricalCrossentropy(from_logits=True)

    def qat(normalized=False):
        return tfkd.quantize_aware(net(tf_keras, 1, normalized=normalized))

    def distiller(package=keras, **kwargs):
        return tfkd.Distiller(net(package, 1), net(keras, 2, 5), **kwargs)

    compared = [losses.SimilarityPreserving("tap", "tap"), losses.RelationalKD("tap", "tap")]
    CASES = {
        "quantize-aware alone": (tf_keras, qat, sparse(tf_keras), (x, classes)),
        "quantize-aware normalization alone":
            (tf_keras, lambda: qat(True), sparse(tf_keras), (x, classes)),
        "quantize-aware":
            (tf_keras, lambda: tfkd.Distiller(qat(), net(keras, 2)), sparse(tf_keras),
             (x, classes)),
        "default loss": (keras, distiller, sparse(keras), (x, classes)),
        "default loss, tf_keras":
            (tf_keras, lambda: distiller(tf_keras), sparse(tf_keras), (x, classes)),
        "weighted examples": (keras, distiller, sparse(keras), (x, classes, weight)),
        "values": (keras, distiller, "mse", (x, real)),
        "yes/no":
            (keras, distiller, keras.losses.BinaryCrossentropy(from_logits=True), (x, yes)),
        "several examples compared":
            (keras, lambda: distiller(soft_loss="kl", features=compared), sparse(keras),
             (x, classes)),
    }
    three = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"])
    for name in json.loads(sys.argv[1]):
        package, make, loss, data = CASES[name]
        results = []
        for strategy in (tf.distribute.get_strategy(), three):
            with strategy.scope():
                model = make()
                model.compile(package.optimizers.SGD(0.2), loss)
            before = [w.copy() for w in model.get_weights()]
            examples = tf.data.Dataset.from_tensor_slices(data).batch(18)
            logs = model.fit(examples, epochs=2, verbose=0, shuffle=False).history
            after = getattr(model, "student", model).get_weights()  # ranges, too
            results.append([*after, *(np.asarray(v) for _, v in sorted(logs.items()))])
        assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(before, after))
        apart = max(np.abs(a - b).max() for a, b in zip(*results, strict=True))
        print(json.dumps({name: float(apart)}), flush=True)
""")


@pytest.fixture(scope="module")
def differences():
    """Return by how much one replica and three differ, by case, and what the process said."""
    done = forked.run(SCRIPT, json.dumps(CASES))
    found = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line) if line.startswith("{") else {}
    return found, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_weights_ranges_and_losses_are_those_of_one_replica(case, differences):
    found, said = differences
    assert case in found, said
    assert found[case] < 1e-5
