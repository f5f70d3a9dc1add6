"""Weights at zero or with few values: which are masked, what survives, what is refused."""

import forked
import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import cnn, crossentropy, dense, predicted

import tfkd
from tfkd import (
    Distiller,
    cluster_weights,
    prune_weights,
    quantize_aware,
    strip_clustering,
    strip_pruning,
    strip_quantization,
)
from tfkd.errors import InputError, UnsupportedError
from tfkd.export import to_tflite
from tfkd.export.tflite import schema
from tfkd.model import backends
from tfkd.pruning import Sparsity, describe, sparsity
from tfkd.pruning.unstructured.sparsity import TensorSparsity

L = keras.layers


def data_for(model, examples=16):
    """Return inputs and targets that a model can be trained on."""
    rng = np.random.default_rng(0)
    shapes = [(examples, *tensor.shape[1:]) for tensor in model.inputs]
    x = [rng.normal(size=shape).astype("float32") for shape in shapes]
    if "int" in str(model.inputs[0].dtype):
        x[0] = rng.integers(0, 10, shapes[0])
    y = rng.normal(size=(examples, *model.outputs[0].shape[1:])).astype("float32")
    return x[0] if len(x) == 1 else x, y


def trained(sparse, epochs=2, optimizer="adam", callbacks=()):
    tf_keras.utils.set_random_seed(0)
    x, y = data_for(sparse)
    sparse.compile(optimizer, "mse")
    sparse.optimizer.build(sparse.trainable_variables)  # or the step would be traced twice
    sparse.fit(x, y, epochs=epochs, batch_size=4, verbose=0, callbacks=list(callbacks))
    return sparse


def kernels(model):
    return {
        f"{path}/{weight.name.split('/')[-1].split(':')[0]}": weight.numpy()
        for path, layer in tfkd.model.graph.walk(model).layers
        for weight in getattr(layer, "weights", ())
        if len(weight.shape) > 1 and "bias" not in weight.name
    }


def wanted_zeros(size, amount):
    """Return how many zeros tfmot gives a kernel."""
    return size - max(round(size * (1 - amount)), 1)


def groups(kernel, n):
    """Return a kernel's inputs of each output in whole groups of `n`."""
    rows = np.moveaxis(kernel, -2, -1).reshape(-1, kernel.shape[-2])
    return rows[:, : rows.shape[1] // n * n].reshape(-1, n)


def sequential(package):
    layers = [package.layers.Dense(6, activation="relu"), package.layers.Dense(3)]
    return package.Sequential([package.Input((5,)), *layers])


def images(package):
    """Return a model with convolutions of which not all can have a pattern."""
    layers = package.layers
    inputs = package.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, name="first")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 1, name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return package.Model(inputs, layers.Dense(8, name="head")(x))


def sequences(package):
    """Return a model with masks, states, regularizers, and a layer used twice.

    Unrolled, because tf_keras traces other recurrent layers for half a minute.
    """
    layers = package.layers
    inputs = package.Input((3,), dtype="int32")
    x = layers.Embedding(10, 8, mask_zero=True, name="words")(inputs)
    twice = layers.Dense(8, name="twice", kernel_regularizer="l2")
    x = twice(twice(x))
    both = {"return_sequences": True, "return_state": True}
    x, state = layers.GRU(5, unroll=True, name="gru", **both)(x)
    x = layers.LSTM(5, unroll=True, name="lstm")(x, initial_state=[state, state])
    return package.Model(inputs, layers.Dense(3, name="head", activity_regularizer="l1")(x))


def nested(package):
    """Return a model with a model in it, and layers that hold others."""
    layers = package.layers
    inner_inputs = package.Input((3, 8))
    inner = layers.TimeDistributed(layers.Dense(6), name="each")(inner_inputs)
    inputs = package.Input((3, 8))
    x = package.Model(inner_inputs, inner, name="inside")(inputs)
    x = layers.Bidirectional(layers.SimpleRNN(4, unroll=True), name="both")(x)
    return package.Model(inputs, layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("build", [sequential, cnn, sequences, nested])
def test_the_smallest_weights_of_each_kernel_are_zero_after_stripping(package, build):
    model = build(package)
    before = [weight.numpy() for weight in model.weights]
    sparse = trained(prune_weights(model, 0.75, steps=6))
    stripped = strip_pruning(sparse, model)
    assert type(stripped) is type(model)
    inner = slice(build is not sequential, None)  # Keras 3 gives a nameless input a new name
    assert [la.name for la in stripped.layers][inner] == [la.name for la in model.layers][inner]
    assert describe(sparse).not_pruned == {}
    for name, kernel in kernels(stripped).items():
        assert np.sum(kernel == 0) == wanted_zeros(kernel.size, 0.75), name
    x, _ = data_for(model)
    want = predicted(sparse, x)
    np.testing.assert_allclose(predicted(tfkd.translate(stripped), x), want, atol=1e-5)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_names_outputs_and_losses_stay_what_they_were():
    model = sequences(tf_keras)
    sparse = prune_weights(model, 0.5, steps=6)
    assert isinstance(sparse, tf_keras.Model) and sparse.optimizer is None
    assert sparse.output_names == ["head"]
    same = tfkd.translate(model)
    x, y = data_for(model)
    for one in (same, sparse):
        one.compile("sgd", "mse")
    np.testing.assert_array_equal(predicted(sparse, x), predicted(same, x))
    # Regularizers of weights and activities are in it.
    assert sparse.evaluate(x, y, verbose=0) == pytest.approx(same.evaluate(x, y, verbose=0))


def test_the_schedule_is_zhu_and_guptas_step_by_step():
    sparse = prune_weights(dense(keras, 20, inputs=50), 0.8, steps=21, frequency=4, start=0.2)
    layer = sparse.layers[-1]
    x, y = data_for(sparse)
    sparse.compile("adam", "mse")
    share = []
    for _ in range(26):
        sparse.train_on_batch(x, y)
        share.append(float(np.mean(layer.pruning_vars[0][1].numpy() == 0)))
    # Masks are made in steps 1, 5, ... 21, the last of which has the whole amount.
    at = np.arange(1, 27)
    renewed = np.minimum((at - 1) // 4 * 4 + 1, 21)
    want = 0.8 + (0.2 - 0.8) * (1 - (renewed - 1) / 20) ** 3
    np.testing.assert_allclose(share, want, atol=1 / 1000)
    assert share == sorted(share) and share[20] == share[-1] == 0.8


def test_a_constant_schedule_masks_from_the_first_step_on():
    model = dense(keras, 10, inputs=10)
    sparse = prune_weights(model, 0.6, schedule="constant")
    smallest = np.argsort(np.abs(model.layers[-1].kernel.numpy()), axis=None)[:60]
    trained(sparse, epochs=1)
    kernel = strip_pruning(sparse, model).layers[-1].kernel.numpy()
    np.testing.assert_array_equal(np.flatnonzero(kernel == 0), np.sort(smallest))


def test_what_the_optimizer_did_last_does_not_come_through():
    model = sequential(keras)
    sparse = prune_weights(model, 0.5, schedule="constant")
    trained(sparse, optimizer=tf_keras.optimizers.AdamW(0.05, weight_decay=0.1))
    held = [layer.layer.kernel.numpy() for layer in sparse.layers[1:]]
    assert all(np.mean(kernel == 0) < 0.5 for kernel in held)  # tfmot masks before the update
    x, y = data_for(model)
    loss = sparse.evaluate(x, y, verbose=0)
    stripped = strip_pruning(sparse, model)
    assert sparsity(stripped).zeros == 15 + 9
    # A zero of the other sign is another pattern of bits, and compresses worse.
    assert not any(np.signbit(k[k == 0]).any() for k in kernels(stripped).values())
    stripped.compile("sgd", "mse")
    assert stripped.evaluate(x, y, verbose=0) == pytest.approx(loss)


def test_tfmots_callback_may_be_there_and_changes_nothing():
    model = sequential(keras)
    callback = backends.tfmot().sparsity.keras.UpdatePruningStep()
    results = []
    for callbacks in ([], [callback]):
        sparse = trained(prune_weights(model, 0.5, steps=6), callbacks=callbacks)
        assert [layer.pruning_step.numpy() for layer in sparse.layers[1:]] == [8, 8]
        results.append(strip_pruning(sparse, model).get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_step_is_traced_once():
    sparse = trained(prune_weights(sequential(keras), 0.5, steps=6), epochs=1)
    traces = sparse.train_function.experimental_get_tracing_count()
    x, y = data_for(sparse)
    sparse.fit(x, y, epochs=3, batch_size=4, verbose=0)
    assert sparse.train_function.experimental_get_tracing_count() == traces


def test_a_layer_called_twice_counts_its_steps_once():
    model = sequences(keras)
    sparse = prune_weights(model, 0.5, steps=6, frequency=1)
    x, y = data_for(model)
    sparse.compile("sgd", "mse")
    seen = []
    for _ in range(6):
        sparse.train_on_batch(x, y)
        masks = [sparse.get_layer(name).pruning_vars[0][1].numpy() for name in ("twice", "words")]
        seen.append([float(np.mean(mask == 0)) for mask in masks])
    twice, once = np.transpose(seen)
    np.testing.assert_allclose(twice, once, atol=1 / 64)


def test_layers_without_a_rule_are_named(package):
    sparse = prune_weights(images(package), steps=6)
    assert describe(sparse).not_pruned == {
        "depthwise": "tfmot leaves the kernels of DepthwiseConv2D dense"
    }
    x = keras.Input((6, 4))
    y = L.Conv1DTranspose(4, 2, name="up")(x)
    y = L.MultiHeadAttention(2, 2, name="attention")(y, y)
    model = keras.Model(x, L.Dense(2)(L.Dense(2, name="left")(y)))
    whole = describe(prune_weights(model, steps=6, skip="le.t")).not_pruned
    assert whole["up"] == "Conv1DTranspose has no rule in tfmot"
    assert "attention" in whole["attention"]
    assert whole["left"] == "left out by skip"
    with pytest.raises(UnsupportedError, match="Nothing in this model .*up: Conv1DTranspose"):
        prune_weights(keras.Model(x, L.Conv1DTranspose(4, 2, name="up")(x)), steps=6)


@pytest.mark.parametrize("pattern", ["2:4", (1, 4), "3:8"])
def test_m_of_n_are_zero_along_the_inputs(package, pattern):
    m, n = map(int, pattern.split(":")) if isinstance(pattern, str) else pattern
    model = images(package)
    sparse = trained(prune_weights(model, pattern=pattern), epochs=1)
    assert describe(sparse).not_pruned["first"] == (
        f"it has 1 input channels, but the pattern's groups have {n}"
    )
    stripped = kernels(strip_pruning(sparse, model))
    for name in ("second/kernel", "head/kernel"):
        assert set(np.sum(groups(stripped[name], n) == 0, axis=1)) == {m}
    assert np.all(stripped["first/kernel"] != 0)


def test_the_file_has_the_pattern_where_a_kernel_would_look_for_it():
    i = keras.Input((8,))
    model = keras.Model(i, L.Dense(3, name="head")(L.Dense(12, activation="relu")(i)))
    sparse = trained(prune_weights(model, pattern="2:4"), epochs=1)
    for name, values in stored(to_tflite(strip_pruning(sparse, model), "float32")).items():
        assert set(np.sum(values.reshape(-1, 4) == 0, axis=1)) == {2}, name


def test_recurrent_kernels_have_the_pattern_too():
    x = keras.Input((3, 8))
    y = L.LSTM(8, return_sequences=True, unroll=True)(x)
    model = keras.Model(x, L.GRU(8, unroll=True)(y))
    sparse = trained(prune_weights(model, pattern=(2, 4)), epochs=1)
    for kernel in kernels(strip_pruning(sparse, model)).values():
        assert set(np.sum(groups(kernel, 4) == 0, axis=1)) == {2}


@pytest.mark.parametrize("block", [(1, 4), (4, 1), (2, 3)])
def test_blocks_are_zero_as_one(package, block):
    model = dense(package, 12, inputs=8)
    sparse = trained(prune_weights(model, 0.5, schedule="constant", pattern={"block": block}), 1)
    kernel = strip_pruning(sparse, model).layers[-1].kernel.numpy()
    rows, columns = block
    tiles = kernel.reshape(8 // rows, rows, 12 // columns, columns).swapaxes(1, 2)
    zeros = np.sum(tiles == 0, axis=(2, 3))
    assert set(zeros.ravel()) == {0, rows * columns}
    assert np.mean(kernel == 0) == 0.5


@pytest.mark.parametrize(
    ("build", "settings", "told"),
    [
        (
            images,
            {"pattern": {"block": (1, 4)}, "steps": 6},
            ["'first' (Conv2D)", "'second' (Conv2D)", "not a matrix"],
        ),
        (sequential, {"pattern": {"block": (1, 4)}, "steps": 6}, ["'dense", "6×3", "1×4"]),
        (sequences, {"pattern": "2:4"}, ["'words' (Embedding)", "an axis other than"]),
    ],
)
def test_a_pattern_that_tfmot_does_not_give_is_refused(build, settings, told):
    with pytest.raises(UnsupportedError) as error:
        prune_weights(build(keras), **settings)
    for part in [*told, "skip="]:
        assert part in str(error.value)


def test_kernels_for_which_tfmot_has_no_groups_are_refused():
    x = keras.Input((8, 8))
    y = L.Conv1D(8, 3, name="line")(x)
    y = L.Reshape((6, 8, 1))(y)
    model = keras.Model(x, L.Conv2DTranspose(8, 3, name="up")(y))
    with pytest.raises(UnsupportedError) as error:
        prune_weights(model, pattern=(2, 4), skip="up")
    assert "'line' (Conv1D) has a kernel" in str(error.value)


def test_a_threshold_takes_what_is_smaller_than_it():
    model = sequential(keras)
    first, second = model.layers
    first.kernel.assign(np.linspace(-1, 1, 30).reshape(5, 6))
    second.kernel.assign(np.full((6, 3), 0.5))
    sparse = prune_weights(model, threshold=0.25, schedule="constant")
    assert describe(sparse).not_pruned == {second.name: "it has no weight smaller than 0.25"}
    trained(sparse, epochs=1)
    kernel = strip_pruning(sparse, model).layers[0].kernel.numpy()
    np.testing.assert_array_equal(kernel == 0, np.abs(first.kernel.numpy()) < 0.25)
    with pytest.raises(UnsupportedError, match=r"'dense.*no weight of size 3 or more"):
        prune_weights(model, threshold=3.0, steps=6)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"amount": 0.0, "steps": 6}, "amount must lie between 0 and 1, got 0.0"),
        ({"amount": 1, "steps": 6}, "amount must lie between 0 and 1, got 1"),
        ({"amount": float("nan"), "steps": 6}, "got nan"),
        ({"amount": "half", "steps": 6}, "got 'half'"),
        ({}, "polynomial schedule needs steps.*schedule='constant'"),
        ({"steps": 1}, "steps must be more than"),
        ({"steps": 10, "frequency": 10}, "more than frequency"),
        ({"steps": 2.5}, "must be integers of at least 1, got 2.5"),
        ({"steps": 6, "start": 0.5}, r"start must lie in \[0, amount\)"),
        ({"steps": 6, "schedule": "cubic"}, "schedule must be one of .* got 'cubic'"),
        ({"steps": 6, "schedule": "constant"}, "belong to schedule='polynomial'"),
        ({"pattern": (4, 2)}, "0 < m < n"),
        ({"pattern": "2of4"}, "got '2of4'"),
        ({"pattern": {"block": (1, 1)}, "steps": 6}, "'block'"),
        ({"pattern": (2, 4), "amount": 0.7}, "2:4 has its own amount"),
        ({"pattern": (2, 4), "steps": 6}, "once, in the first step"),
        ({"threshold": 0.1, "amount": 0.5, "steps": 6}, "threshold replaces amount"),
        ({"threshold": -1, "steps": 6}, "threshold must be a number > 0, got -1"),
        ({"steps": 6, "skip": "hed"}, "'hed' matches no layer"),
    ],
)
def test_settings_that_are_wrong_are_told(settings, told):
    with pytest.raises(InputError, match=told):
        prune_weights(sequential(keras), **settings)


def test_models_that_can_not_be_pruned_are_refused(package):
    class Own(package.Model):
        def call(self, x):
            return x

    for make in (lambda m: prune_weights(m, steps=6), cluster_weights, sparsity):
        with pytest.raises(UnsupportedError, match="is subclassed"):
            make(Own())
    sparse = prune_weights(sequential(package), steps=6)
    with pytest.raises(InputError, match="pruned or clustered already; strip it first"):
        cluster_weights(sparse)
    with pytest.raises(InputError, match="is quantize-aware; prune or cluster before"):
        prune_weights(quantize_aware(sequential(package)), steps=6)


def test_stripping_asks_for_the_right_models_and_enough_steps():
    model = sequential(keras)
    sparse = prune_weights(model, 0.5, steps=12)
    with pytest.raises(InputError, match="for 0 of the 12 steps"):
        strip_pruning(sparse, model)
    trained(sparse, epochs=3)
    strip_pruning(sparse, model)
    with pytest.raises(InputError, match="has no layer .* not made from this model"):
        strip_pruning(sparse, images(keras))
    names = [layer.name for layer in model.layers]
    wider = keras.Sequential([keras.Input((5,)), L.Dense(7, name=names[0]), L.Dense(3)])
    with pytest.raises(InputError, match="is different in"):
        strip_pruning(sparse, wider)
    with pytest.raises(InputError, match="does not come from prune_weights"):
        strip_pruning(model, model)
    theirs = backends.tfmot().sparsity.keras.prune_low_magnitude(sequential(tf_keras))
    with pytest.raises(InputError, match="does not come from prune_weights"):
        strip_pruning(theirs, model)
    with pytest.raises(InputError, match="does not come from cluster_weights"):
        strip_clustering(sparse, model)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_sparse_model_is_saved_with_masks_and_steps(tmp_path, suffix):
    x = keras.Input((3, 8))
    model = keras.Model(x, L.Dense(8)(L.LSTM(8, unroll=True)(x)))
    sparse = trained(prune_weights(model, pattern="2:4"), epochs=1)
    path = tmp_path / f"sparse{suffix}"
    sparse.save(path)
    loaded = tf_keras.models.load_model(path, compile=False)
    trained(loaded, epochs=1)
    for kernel in kernels(strip_pruning(loaded, model)).values():
        assert set(np.sum(groups(kernel, 4) == 0, axis=1)) == {2}
    assert [layer.pruning_step.numpy() for layer in loaded.layers[1:]] == [8, 8]


def few(model):
    return {name: len(np.unique(kernel)) for name, kernel in kernels(model).items()}


@pytest.mark.parametrize("build", [sequential, cnn, sequences, nested])
def test_kernels_have_few_values_after_stripping(package, build):
    model = build(package)
    before = [weight.numpy() for weight in model.weights]
    clustered = cluster_weights(model, 4)
    trained(clustered)
    stripped = strip_clustering(clustered, model)
    assert type(stripped) is type(model)
    assert set(describe(clustered).not_pruned) == ({"each"} if build is nested else set())
    for name, count in few(stripped).items():
        assert count <= 4 or "each/" in name, name
    x, _ = data_for(model)
    want = predicted(clustered, x)
    np.testing.assert_allclose(predicted(tfkd.translate(stripped), x), want, atol=1e-5)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_clustered_layers_are_in_training_when_the_model_is(rng):
    x = keras.Input((3, 4))
    model = keras.Model(x, L.LSTM(8, dropout=0.9, unroll=True)(x))
    clustered = cluster_weights(model, 4)
    batch = rng.normal(size=(2, 3, 4)).astype("float32")
    once, again = (np.asarray(clustered(batch, training=True)) for _ in range(2))
    assert np.abs(once - again).max() > 1e-3  # tfmot's own wrapper drops nothing


@pytest.mark.parametrize("init", ["kmeans++", "density", "linear", "random"])
def test_the_values_may_start_in_any_of_tfmots_ways(init):
    model = sequential(keras)
    tf_keras.utils.set_random_seed(0)
    clustered = cluster_weights(model, 4, init=init, skip=model.layers[1].name)
    counts = list(few(strip_clustering(clustered, model)).values())
    assert counts[0] <= 4 < counts[1]
    assert describe(clustered).not_pruned == {model.layers[1].name: "left out by skip"}


@pytest.mark.slow
def test_frozen_layers_are_not_pruned(package):
    """Alone, in a nested model, in part; and what is frozen only once it is wrapped."""
    layers = package.layers
    base = package.Sequential([package.Input((2, 8)), layers.Dense(8, name="inner")], name="base")
    base.trainable = False
    both = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")
    i = package.Input((2, 8))
    x = layers.Dense(6, name="later")(both(base(i, training=False)))
    x = layers.Dense(4, name="frozen", trainable=False)(x)
    model = package.Model(i, layers.Dense(5, name="head")(x))
    both.forward_layer.trainable = False
    before = kernels(model)
    for wrap in (prune_weights, cluster_weights):
        amount = {"schedule": "constant"} if wrap is prune_weights else {"clusters": 4}
        assert describe(wrap(model, **amount)).not_pruned == dict.fromkeys(
            ("inner", "both", "frozen"), "it is frozen"
        )
    sparse = prune_weights(model, schedule="constant")
    sparse.get_layer("later").trainable = False
    after = kernels(strip_pruning(trained(sparse), model))
    assert (after["head/kernel"] == 0).sum() == wanted_zeros(20, 0.5)
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name.split("/")[-2] for name in same} >= {"inner", "frozen", "later"}
    model.trainable = False
    with pytest.raises(UnsupportedError, match="head: it is frozen"):
        prune_weights(model, schedule="constant")


def test_what_a_frozen_model_holds_does_not_train(rng):
    """In tf_keras a layer that is trainable again in a nested model that is not stays as it is."""
    layers = tf_keras.layers
    stack = [layers.Dense(6, name="a"), layers.Dense(5, name="b")]
    inner = tf_keras.Sequential([tf_keras.Input((4,)), *stack], name="inner")
    head = layers.Dense(2, name="head")
    model = tf_keras.Sequential([tf_keras.Input((4,)), inner, head])
    inner.trainable = False
    inner.get_layer("b").trainable = True
    assert [weight.name for weight in model.trainable_weights] == ["head/kernel:0", "head/bias:0"]
    back = tfkd.translate(tfkd.translate(model), to="keras")
    assert len(back.trainable_weights) == 2
    for wrap, strip, amount in (
        (prune_weights, strip_pruning, {"schedule": "constant"}),
        (cluster_weights, strip_clustering, {"clusters": 4}),
    ):
        wrapped = wrap(model, **amount)
        wrapped.compile("sgd", "mse", run_eagerly=True)
        wrapped.fit(rng.normal(size=(32, 4)), rng.normal(size=(32, 2)), verbose=0)
        after = kernels(strip(wrapped, model))
        for name, kernel in kernels(model).items():
            assert np.array_equal(after[name], kernel) == ("head" not in name)


def test_clusters_keep_the_zeros_of_pruning_up_to_the_int8_file(package, tmp_path, rng):
    layers = package.layers
    model = package.Sequential([package.Input((2, 16)), layers.SimpleRNN(16, name="r")])
    model.add(layers.Dense(12, activation="relu", name="d"))
    model.add(layers.Dense(12, name="frozen", trainable=False))
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(weight.numpy() * (rng.random(weight.shape) < 0.4))
    pruned = kernels(model)
    x = rng.normal(size=(32, 2, 16)).astype("float32")

    def fitted(model):
        model.compile(tf_keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
        model.fit(x, np.ones((32, 12)), batch_size=8, verbose=0)
        return model

    def check(model):
        for name, kernel in kernels(model).items():
            assert (kernel[pruned[name] == 0] == 0).all()
            assert name == "frozen/kernel" or len(np.unique(kernel)) <= 5

    clustered = fitted(cluster_weights(model, 5))
    assert describe(clustered).not_pruned == {"frozen": "it is frozen"}
    stripped = strip_clustering(clustered, model)
    check(stripped)
    before, after = kernels(strip_clustering(cluster_weights(model, 5), model)), kernels(stripped)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"r/kernel", "r/recurrent_kernel", "d/kernel"}
    with pytest.warns(UserWarning, match="legacy"):
        clustered.save(tmp_path / "c.h5")
    check(strip_clustering(fitted(tf_keras.models.load_model(tmp_path / "c.h5")), model))
    check(strip_quantization(fitted(quantize_aware(stripped, preserve="clusters")), model))
    with pytest.raises(UnsupportedError, match="'d' .Dense. has zeros.*at least 3 clusters"):
        cluster_weights(model, 2)


def test_layers_that_can_not_be_clustered_are_named():
    assert describe(cluster_weights(images(keras), 64)).not_pruned == {
        "depthwise": "tfmot leaves the kernels of DepthwiseConv2D as they are",
        "second": "it has a kernel of 64 weights",
        "head": "it has a kernel of 64 weights",
    }
    for settings, told in (({"clusters": 1}, "at least 2, got 1"), ({"init": "best"}, "'best'")):
        with pytest.raises(InputError, match=told):
            cluster_weights(images(keras), **settings)


def stored(file):
    """Return the weights in a file by name, as they are stored."""
    model = schema.parse(file.data)
    found = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            kind = schema.dtype_of(tensor)
            if schema.is_constant(tensor, model) and kind in ("int8", "float32"):
                values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), kind)
                if len(tensor.shape) > 1:
                    found[schema.name_of(tensor)] = values.reshape(tensor.shape)
    return found


def test_zeros_and_values_are_counted_per_kernel(package):
    model = dense(package, 2, inputs=4)
    model.layers[-1].kernel.assign([[0, 1], [1, 0], [2, 0], [0.5, 0]])
    counted = sparsity(model)
    assert counted == Sparsity((TensorSparsity("d/kernel", 8, 4, 4),), 40, counted.gzip_bytes)
    assert (counted.size, counted.zeros, counted.share) == (8, 4, 0.5)
    assert 0 < counted.gzip_bytes < 80
    assert counted.describe().splitlines() == [
        "weights   size  zeros  share  distinct",
        "d/kernel     8      4  50.0%         4",
        "total        8      4  50.0%",
        f"40 bytes, {counted.gzip_bytes} after gzip",
    ]
    with pytest.raises(InputError, match="a TFLiteModel, got str.*TFLiteModel.load"):
        sparsity("model.tflite")


def test_wrapped_models_count_as_their_forward_pass_has_them():
    model = sequential(keras)
    sparse = trained(prune_weights(model, 0.5, schedule="constant"))
    stripped = strip_pruning(sparse, model)
    sparse.train_on_batch(*data_for(model))  # the optimizer has moved what is masked
    assert sparsity(sparse).zeros == sparsity(stripped).zeros == 24
    clustered = cluster_weights(model, 4)
    assert sparsity(clustered).tensors == sparsity(strip_clustering(clustered, model)).tensors


@pytest.mark.parametrize("form", ["float32", "float16", "dynamic"])
def test_zeros_in_a_file_are_those_of_the_model(form):
    i = keras.Input((16,))
    model = keras.Model(i, L.Dense(64, name="b")(L.Dense(128, name="a")(i)))
    sparse = trained(prune_weights(model, 0.5, schedule="constant"), epochs=1)
    file = to_tflite(strip_pruning(sparse, model), form)
    counted = sparsity(file)
    assert (counted.size, counted.bytes, counted.gzip_bytes) == (
        16 * 128 + 128 * 64,
        file.size,
        file.gzip_size,
    )
    # Integers make zeros of what is very small besides.
    assert counted.zeros >= counted.size / 2
    assert counted.share == pytest.approx(0.5, abs=0.0 if form != "dynamic" else 0.01)


def accuracy(model, digits):
    """Return the accuracy of a model or a file on the test digits."""
    verbose = {"verbose": 0} if hasattr(model, "layers") else {}
    return np.mean(model.predict(digits.test.x, **verbose).argmax(-1) == digits.test.y)


def distilled(model, teacher, digits, epochs, rate):
    tf_keras.utils.set_random_seed(4)
    distiller = Distiller(model, teacher)
    distiller.compile(tf_keras.optimizers.Adam(rate), crossentropy(tf_keras))
    distiller.fit(digits.train.x, digits.train.y, epochs=epochs, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def dense_file(teacher, digits):
    return to_tflite(distilled(quantize_aware(teacher), teacher, digits, 2, 5e-4), "int8")


@pytest.mark.slow
def test_zeros_survive_quantization_into_the_int8_file(teacher, digits, dense_file):
    steps = 2 * -(-len(digits.train.x) // 32)
    sparse = prune_weights(teacher, 0.5, steps=steps)
    distilled(sparse, teacher, digits, 4, 2e-3)
    stripped = strip_pruning(sparse, teacher)
    assert sparsity(stripped).share == 0.5
    files, trained_models = {}, {}
    for preserve in ("sparsity", None):
        qat = quantize_aware(stripped, preserve=preserve)
        trained_models[preserve] = distilled(qat, teacher, digits, 2, 5e-4)
        files[preserve] = to_tflite(qat, "int8")
    kept, lost = sparsity(files["sparsity"]), sparsity(files[None])
    assert kept.size == lost.size == 5072
    assert 0.5 <= kept.share < 0.51 and lost.share < 0.3
    assert kept.zeros == sparsity(trained_models["sparsity"]).zeros
    assert kept.bytes == files["sparsity"].size == dense_file.size
    assert kept.gzip_bytes < 0.9 * dense_file.gzip_size
    assert kept.gzip_bytes < 0.95 * lost.gzip_bytes
    assert accuracy(files["sparsity"], digits) > accuracy(teacher, digits) - 0.04


@pytest.mark.slow
def test_few_values_survive_quantization_into_the_int8_file(teacher, digits, dense_file):
    clustered = distilled(cluster_weights(teacher, 8), teacher, digits, 2, 1e-3)
    stripped = strip_clustering(clustered, teacher)
    assert max(few(stripped).values()) <= 8
    distinct = {}
    for preserve in ("clusters", None):
        qat = distilled(quantize_aware(stripped, preserve=preserve), teacher, digits, 2, 5e-4)
        file = to_tflite(qat, "int8")
        # A scale per output channel, so at most eight values in each channel.
        distinct[preserve] = max(
            len(np.unique(channel)) for kernel in stored(file).values() for channel in kernel
        )
        if preserve:
            assert file.gzip_size < 0.8 * dense_file.gzip_size
            assert accuracy(file, digits) > accuracy(teacher, digits) - 0.06
    assert distinct["clusters"] <= 8 < distinct[None]


@pytest.mark.slow
def test_what_was_not_stripped_says_so_elsewhere(tmp_path):
    layers = tf_keras.layers
    model = tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(4), layers.Dense(2)])
    sparse = prune_weights(model, 0.5, schedule="constant")
    sparse.save(tmp_path / "sparse.keras")
    code = (
        "from tfkd.loading.models import load_model\n"
        f"load_model({str(tmp_path / 'sparse.keras')!r})"
    )
    done = forked.run(code)
    assert "save what strip_pruning or strip_clustering returns" in done.stderr
    with pytest.raises(UnsupportedError, match="PruneLowMagnitude"):
        quantize_aware(sparse)
    strict = tfkd.prune_channels(model, 0.5, round_to=1)
    assert strict.layers[1].units == 2
    with pytest.raises(UnsupportedError, match="No channel of this model can go"):
        tfkd.prune_channels(sparse, 0.5, round_to=1)


def test_what_adapt_learned_is_in_the_stripped_model(package, rng):
    layers = package.layers
    x = rng.choice([3, 5, 9, 400], (40, 6)).astype("int64")
    look = layers.IntegerLookup()
    look.adapt(x)
    table = layers.Embedding(5, 4)
    model = package.Sequential(
        [package.Input((6,), dtype="int64"), look, table, layers.Flatten(), layers.Dense(3)]
    )
    sparse = prune_weights(model, 0.5, schedule="constant")
    sparse.compile(tf_keras.optimizers.SGD(1e-30), "mse")
    sparse.fit(x, np.zeros((40, 3)), verbose=0)
    stripped = strip_pruning(sparse, model)
    np.testing.assert_allclose(predicted(stripped, x), predicted(sparse, x), rtol=1e-5, atol=1e-5)
