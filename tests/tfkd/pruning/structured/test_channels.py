"""Channels: groups, removal of dead channels without a change, and the rest."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras.src.applications import efficientnet
from tiny_models import predicted
from two_ends import INPUT_KEYS, INPUTS, drawn, forms, two_ended

import tfkd
from tfkd.compression import loss as losses
from tfkd.errors import InputError, UnsupportedError
from tfkd.export import to_tflite
from tfkd.model import cost, graph
from tfkd.pruning import describe
from tfkd.pruning.structured import blocks, channels, dependency, importance, surgery
from tfkd.pruning.structured.labels import Channels
from tfkd.translation.copies import copy_of


def _conv(layers, rng, x):
    x = layers.Conv2D(int(rng.integers(3, 7)), 3, padding="same")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _residual(layers, rng, x):
    width = x.shape[-1]
    y = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Conv2D(width, 1)(y))
    return layers.Add()([x, y])


def _squeeze(layers, rng, x):
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(3, activation="relu")(y)
    y = layers.Dense(x.shape[-1], activation="sigmoid")(y)
    return layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(y)])


def _branches(layers, rng, x):
    y = layers.MaxPooling2D(2, 1, padding="same")(x)
    z = layers.Conv2D(int(rng.integers(2, 5)), 1)(x)
    return layers.Concatenate()([y, z, x])


def _depthwise(layers, rng, x):
    y = layers.ZeroPadding2D(1)(x)
    return layers.DepthwiseConv2D(3, depth_multiplier=int(rng.integers(1, 3)))(y)


def _grouped(layers, rng, x):
    x = layers.Conv2D(8, 1)(x)
    return layers.Conv2D(6, 3, groups=2, padding="same")(x)


def _transposed(layers, rng, x):
    return layers.AveragePooling2D(2)(layers.Conv2DTranspose(5, 2, strides=2)(x))


def _separable(layers, rng, x):
    return layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2)(x)


def _there_and_back(layers, rng, x):
    height, width, size = x.shape[1:]
    return layers.Reshape((height, width, size))(layers.Reshape((height * width, size))(x))


def _depthwise_by_groups(layers, rng, x):
    return layers.PReLU()(layers.Conv2D(x.shape[-1], 3, groups=x.shape[-1], padding="same")(x))


def _sequence(layers, rng, x):
    x = layers.Reshape((x.shape[1] * x.shape[2], x.shape[3]))(x)
    x = layers.Conv1D(5, 3, strides=4)(x)
    kind = [layers.LSTM, layers.GRU, layers.SimpleRNN][int(rng.integers(3))]
    if rng.random() < 0.5:
        x = layers.Bidirectional(kind(4, return_sequences=True))(x)
    else:
        x = kind(5, return_sequences=True)(x)
    return layers.TimeDistributed(layers.Dense(4))(x)


BLOCKS = (
    *(_conv, _residual, _squeeze, _branches, _depthwise),
    *(_depthwise_by_groups, _grouped, _transposed, _separable, _there_and_back),
)


def network(package, rng):
    """A network of random blocks, its weights far from their initial values."""
    layers = package.layers
    inputs = x = package.Input((8, 8, 3))
    x = _conv(layers, rng, x)
    for i in rng.integers(len(BLOCKS), size=5):
        x = BLOCKS[i](layers, rng, x)
    if rng.random() < 0.4:
        x = _sequence(layers, rng, x)
    x = layers.Dense(6, activation="elu")(layers.Flatten()(x))
    model = package.Model(inputs, layers.Dense(3)(layers.Dropout(0.5)(x)))
    for weight in model.weights:
        noise = rng.normal(0, 0.3, weight.shape)
        weight.assign(np.abs(noise) + 0.5 if "variance" in weight.name else noise)
    return model


def kill(found, groups):
    """Make channels zero wherever they go in and out."""
    gone = np.isin(found.roots, groups)
    for _, layer in found.graph.layers:
        for weight in getattr(layer, "weights", ()):
            value = weight.numpy().copy()
            for axis, labels in found.axes.get(id(weight), {}).items():
                np.moveaxis(value, axis, 0)[gone[labels]] = 0
            weight.assign(value)


def close(model, other, x):
    np.testing.assert_allclose(predicted(model, x), predicted(other, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_dead_channels_taken_away_change_nothing(package, seed):
    rng = np.random.default_rng(seed)
    model = network(package, rng)
    found = dependency.find(model)
    groups = rng.choice(found.groups, max(1, len(found.groups) // 3), replace=False)
    # Something must be left of every layer.
    for labels in (one for sizes in found.counts.values() for one in sizes.values()):
        here = found.roots[labels]
        if np.isin(here, groups).all():
            groups = groups[groups != here[0]]
    kill(found, groups)
    small = surgery.without(found, groups)
    assert small.count_params() < model.count_params()
    x = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    close(model, small, x)
    assert not np.allclose(predicted(model, x)[0], predicted(model, x)[1])


def _attending(layers, rng, x):
    y = layers.MultiHeadAttention(int(rng.integers(2, 5)), 3)(x, x)
    return layers.Add()([x, y])


def _both_ways(layers, rng, x):
    kind = [layers.LSTM, layers.GRU, layers.SimpleRNN][int(rng.integers(3))]
    merge = ["concat", "sum", "mul", "ave"][int(rng.integers(4))]
    return layers.Bidirectional(kind(4, return_sequences=True), merge_mode=merge)(x)


def _one_way(layers, rng, x):
    kind = [layers.LSTM, layers.GRU, layers.SimpleRNN][int(rng.integers(3))]
    return kind(int(rng.integers(3, 7)), return_sequences=True)(x)


def _steps(layers, rng, x):
    x = layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="elu")(x)
    return layers.TimeDistributed(layers.Dense(5))(x)


def _thinner(layers, rng, x):
    x = layers.SeparableConv1D(5, 3, padding="same")(x)
    return layers.AveragePooling1D(2, 1, padding="same")(layers.Conv1DTranspose(4, 2)(x))


@pytest.mark.parametrize("seed", range(6))
def test_dead_channels_of_sequences_too(package, seed):
    rng = np.random.default_rng(seed)
    layers = package.layers
    inputs = package.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6)(inputs)
    for i in rng.permutation(5)[:4]:
        x = (_attending, _both_ways, _one_way, _steps, _thinner)[i](layers, rng, x)
    x = layers.LSTM(5)(x)
    model = package.Model(inputs, layers.Dense(3)(layers.RepeatVector(2)(x)))
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.8, weight.shape))
    found = dependency.find(model)
    assert not found.not_pruned
    groups = rng.choice(found.groups, len(found.groups) // 3, replace=False)
    for labels in (one for sizes in found.counts.values() for one in sizes.values()):
        here = found.roots[labels]
        if np.isin(here, groups).all():
            groups = groups[groups != here[0]]
    kill(found, groups)
    tokens = rng.integers(0, 11, (4, 7))
    close(model, surgery.without(found, groups), tokens)
    assert np.ptp(predicted(model, tokens), axis=0).max() > 1e-3


@pytest.mark.parametrize("what", ["macs", "parameters"])
def test_the_cost_is_known_before_the_model_is_built(package, what):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = network(package, rng)
        found = dependency.find(model)
        groups = rng.choice(found.groups, len(found.groups) // 4, replace=False)
        ranking = channels._Ranking(found, set(), 1)
        ranking.order(np.isin(found.groups, groups) * -1.0, "global")
        groups = ranking.first(len(groups))
        small = cost.measure(surgery.without(found, groups))
        expected = getattr(small, what)
        assert channels._left(found, what, groups) == pytest.approx(expected)


def test_the_work_of_recurrent_layers_is_known_too(package):
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((6, 4)),
            layers.GRU(8, return_sequences=True),
            layers.LSTM(6),
            layers.Dense(2),
        ]
    )
    whole = cost.measure(model)
    small = tfkd.prune_channels(model, 0.5, metric="macs", round_to=1)
    assert 0.35 * whole.macs < cost.measure(small).macs <= 0.5 * whole.macs
    found = dependency.find(model)
    groups = found.groups[:3]
    exact = cost.measure(surgery.without(found, groups)).macs
    assert channels._left(found, "macs", groups) == pytest.approx(exact)


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    y = layers.Conv2D(16, 3, padding="same", activation="relu", name="inner")(x)
    x = layers.Add()([x, layers.Conv2D(16, 3, padding="same", name="outer")(y)])
    x = layers.Conv2D(24, 3, strides=2, name="last")(layers.ReLU()(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(10, name="logits")(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    model.fit(digits.train.x, digits.train.y, epochs=10, batch_size=32, verbose=0)
    return model


def accuracy(model, digits):
    return (predicted(model, digits.test.x).argmax(-1) == digits.test.y).mean()


def widths(model):
    return {layer.name: layer.filters for layer in model.layers if hasattr(layer, "filters")}


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale", "taylor", "random"])
def test_every_criterion_makes_a_model_that_runs(trained, digits, criterion):
    before = [weight.numpy() for weight in trained.weights]
    data = (digits.train.x[:200], digits.train.y[:200])
    small = tfkd.prune_channels(trained, 0.5, criterion=criterion, data=data, scope="layer")
    expected = {"bn_scale": (8, 16)}.get(criterion, (8, 8))
    assert widths(small)["stem"] == widths(small)["outer"] == expected[0]
    assert widths(small)["inner"] == expected[1]
    assert predicted(small, digits.test.x).shape == (360, 10)
    for weight, value in zip(trained.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_what_matters_stays(trained, digits):
    data = (digits.train.x, digits.train.y)
    few = {"amount": 0.15, "round_to": 1}
    kept = tfkd.prune_channels(trained, **few, criterion="taylor", data=data)
    drawn = [tfkd.prune_channels(trained, **few, criterion="random", seed=n) for n in range(3)]
    assert accuracy(kept, digits) > np.mean([accuracy(one, digits) for one in drawn]) + 0.1


def test_taylor_scores_are_squared_first_order_changes():
    # By hand: y = (x w) v, loss y²/2 for a target of 0; ∂L/∂w = y v x, ∂L/∂v = y x w.
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, use_bias=False)(keras.layers.Dense(2, use_bias=False)(inputs))
    model = keras.Model(inputs, outputs)
    w, v, x = np.array([[1.0, 2.0]]), np.array([[3.0], [-0.5]]), np.array([[0.5]])
    model.set_weights([w, v])
    found = dependency.find(model)
    given = importance.scores(
        found, "taylor", (x, np.zeros((1, 1))), keras.losses.MeanSquaredError()
    )
    y = (x @ w @ v).item()
    products = [2 * y * x[0, 0] * w[0, j] * v[j, 0] for j in range(2)]  # of both weights
    expected = np.square(products) / np.mean(np.square(products))
    np.testing.assert_allclose(sorted(given), sorted(expected), rtol=1e-5)


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor"])
def test_wide_layers_are_ranked_beside_narrow_ones(criterion):
    sizes = {"narrow": 4, "wide": 64}
    layers = [keras.layers.Dense(size, "relu", name=name) for name, size in sizes.items()]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(3)])
    rng = np.random.default_rng(0)
    found, data = dependency.find(model), (rng.normal(size=(64, 8)), rng.integers(0, 3, 64))
    score = dict(zip(found.groups, importance.scores(found, criterion, data), strict=True))
    for layer in layers:
        groups = found.roots[found.counts[id(layer)]["units"]]
        assert len(groups) == layer.units
        assert np.mean([score[group] for group in groups]) == pytest.approx(1, rel=1e-5)


def test_the_loss_fits_output_and_labels(package):
    layers = package.layers
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    labels = np.arange(20) % 2
    one_hot = np.eye(2, dtype="float32")[labels]
    for units, end, y, kind in (
        (2, "softmax", labels, "SparseCategoricalCrossentropy"),
        (2, None, one_hot, "CategoricalCrossentropy"),
        (1, "sigmoid", labels, "BinaryCrossentropy"),
        (2, None, x[:, :2], "MeanSquaredError"),
    ):
        loss = losses.loss_for(package, end or "linear", units, y)
        assert type(loss).__name__ == kind
        ends = [layers.Dense(8, activation="relu"), layers.Dense(units, activation=end)]
        model = package.Sequential([package.Input((4,)), *ends])
        small = tfkd.prune_channels(model, 0.5, criterion="taylor", data=(x, y), round_to=1)
        assert small.layers[1].units == 4
    model = package.Sequential([package.Input((4,)), *ends[:1], layers.Dense(2, "tanh")])
    with pytest.raises(InputError, match="must end in softmax or be logits.*not known"):
        tfkd.prune_channels(model, 0.5, criterion="taylor", data=(x, labels))
    model = package.Sequential([package.Input((4,)), *ends[:1], layers.Dense(2)])
    with pytest.raises(InputError, match="prune_channels takes the loss instead of a task: loss="):
        tfkd.prune_channels(model, 0.5, criterion="taylor", data=(x, one_hot * 0.5 + 0.25))


def test_targets_are_met_and_not_by_much(trained):
    whole = cost.measure(trained)
    half = tfkd.prune_channels(trained, 0.5, metric="macs", round_to=1)
    assert 0.42 * whole.macs < cost.measure(half).macs <= 0.5 * whole.macs
    small = tfkd.prune_channels(trained, metric="parameters", target=3000, round_to=1)
    assert 2500 < cost.measure(small).parameters <= 3000
    with pytest.raises(InputError, match=r"At most 10 macs can't .* stay is [\d,]+ of .* round_to"):
        tfkd.prune_channels(trained, metric="macs", target=10)


def test_a_file_of_so_many_bytes(trained, digits):
    examples = digits.train.x[:50]
    most = int(0.6 * to_tflite(trained, "int8", examples).size)
    small = tfkd.prune_channels(trained, metric="bytes", target=most, round_to=1)
    assert 0.85 * most < to_tflite(small, "int8", examples).size <= most
    with pytest.raises(InputError, match="At most 900 bytes of int8 can't be reached"):
        tfkd.prune_channels(trained, metric="bytes", target=900)


def test_blocks_that_add_nothing_go_whole(package):
    rng = np.random.default_rng(0)
    layers = package.layers
    inputs = package.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="stem")(inputs)
    for i in range(4):
        y = layers.Conv2D(16, 3, padding="same", activation="relu", name=f"wide{i}")(x)
        y = layers.Conv2D(8, 3, padding="same", use_bias=i % 2 == 0, name=f"thin{i}")(y)
        if i < 3:
            y = layers.BatchNormalization(name=f"norm{i}")(y)
        x = layers.Add(name=f"add{i}")([x, y] if i % 2 else [y, x])
        x = layers.ReLU()(x)
    model = package.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 0.5, weight.shape) * rng.choice([-1, 1]))
    for name in ("norm0", "norm2"):
        model.get_layer(name).gamma.assign(np.zeros(8))
    model.get_layer("norm0").beta.assign(np.zeros(8))  # norm2 adds a constant: it stays
    model.get_layer("thin3").set_weights([np.zeros((3, 3, 16, 8))])
    walked, gone = blocks.without_nil(graph.walk(model))
    assert [block.layers for block in gone] == [("wide0", "thin0", "norm0"), ("wide3", "thin3")]
    assert [b.layers[0] for b in blocks.find(walked)] == ["wide1", "wide2"]
    small = surgery.without(dependency.of_graph(walked), [])
    x = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    close(model, small, x)
    pruned = tfkd.prune_channels(model, 0.2, skip="wide3", round_to=1)
    assert describe(pruned).blocks == (("wide0", "thin0", "norm0"),)
    assert "wide3" in [layer.name for layer in pruned.layers]
    whole = tfkd.prune_channels(model, 0.2, blocks=False, round_to=1)
    assert describe(whole).blocks == () and "wide0" in [layer.name for layer in whole.layers]


def test_attention_heads(package):
    rng = np.random.default_rng(0)
    layers = package.layers
    inputs, other = package.Input((5, 12)), package.Input((7, 6))
    x = layers.Dense(8, name="in")(inputs)
    y = layers.Dense(4, activation="relu", name="memory")(other)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 3, name="self")(x, x)])
    x = layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=6, name="cross")(query=x, value=y)
    x = layers.PReLU(shared_axes=[1])(x)
    model = package.Model([inputs, other], layers.Dense(2)(layers.Flatten()(x)))
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    found = dependency.find(model)
    assert not found.not_pruned
    heads = found.roots[found.counts[id(model.get_layer("self"))]["num_heads"]]
    streams = found.roots[found.counts[id(model.get_layer("in"))]["units"]]
    groups = [*heads[:2], *streams[3:5]]
    for key in ("memory", "cross"):
        sizes = found.counts[id(model.get_layer(key))]
        groups += list(found.roots[sizes["units" if key == "memory" else "output_shape"]][:2])
    kill(found, groups)
    small = surgery.without(found, groups)
    given = [rng.normal(size=(3, *i.shape[1:])).astype("float32") for i in (inputs, other)]
    close(model, small, given)
    exact = cost.measure(small)
    for what in ("macs", "parameters"):
        assert channels._left(found, what, groups) == getattr(exact, what)
    half = tfkd.prune_channels(model, 0.4, metric="macs", round_to=1)
    assert cost.measure(half).macs <= 0.6 * cost.measure(model).macs


def test_rounding_and_keeping(trained):
    small = tfkd.prune_channels(trained, 0.5, round_to=8)
    assert {width % 8 for width in widths(small).values()} == {0}
    small = tfkd.prune_channels(trained, 0.3, skip=["inner", "la.*"], round_to=1)
    assert widths(small)["inner"] == 16 and widths(small)["last"] == 24
    assert widths(small)["stem"] < 16


def test_the_result_distils_quantizes_and_converts(trained, digits):
    small = tfkd.prune_channels(trained, 0.5, metric="macs", round_to=1)
    distiller = tfkd.Distiller(small, trained)
    distiller.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(True))
    distiller.fit(digits.train.x, digits.train.y, epochs=4, batch_size=32, verbose=0)
    assert accuracy(small, digits) > 0.85
    assert tfkd.quantize_aware(small).count_params() > 0
    file = to_tflite(small, "int8", digits.train.x[:100])
    assert file.integer_only and file.size < to_tflite(trained, "int8", digits.train.x[:100]).size


def test_nested_and_shared_layers(package):
    layers = package.layers
    inner = package.Sequential([package.Input((6,)), layers.Dense(5, name="deep")], name="part")
    shared = layers.Dense(6, activation="relu", name="shared")
    inputs = [package.Input((4,)), package.Input((4,))]
    joined = layers.Concatenate()([shared(one) for one in inputs])
    model = package.Model(
        inputs, layers.Dense(2)(layers.Add()([inner(shared(inputs[0])), layers.Dense(5)(joined)]))
    )
    found = dependency.find(model)
    assert len(found.groups) == 11  # six of the shared layer, five that are added
    kill(found, found.groups[::2])
    small = surgery.without(found, found.groups[::2])
    x = [np.random.default_rng(i).normal(size=(3, 4)).astype("float32") for i in range(2)]
    close(model, small, x)


def test_what_is_not_understood_is_left_whole_and_named(package):
    layers = package.layers
    inputs = package.Input((6, 8))
    x = layers.Dense(8, name="before")(inputs)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Dense(4, activation="softmax", name="gate")(x)
    x = layers.Dense(7, name="free")(x)
    model = package.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    small = tfkd.prune_channels(model, 0.5, round_to=1)
    assert set(describe(small).not_pruned) == {"norm", "gate"}
    assert [layer.units for layer in small.layers if hasattr(layer, "units")] == [8, 4, 3, 2]


def test_noise_that_counts_channels_is_left_whole(package):
    layers = package.layers
    inputs = package.Input((6, 8))
    x = layers.Dropout(0.5, noise_shape=(None, 1, 8), name="same_steps")(layers.Dense(8)(inputs))
    x = layers.Dropout(0.5, noise_shape=(None, 6, 1))(layers.Dense(8)(x))
    x = layers.Permute((2, 1))(layers.Dense(4)(x))
    x = layers.Permute((2, 1))(layers.Dropout(0.5, noise_shape=(None, 4, 1), name="turned")(x))
    model = package.Model(inputs, layers.Dense(2)(x))
    small = tfkd.prune_channels(model, 0.5, round_to=1)
    assert set(describe(small).not_pruned) == {"same_steps", "turned"}
    assert [layer.units for layer in small.layers if hasattr(layer, "units")] == [8, 4, 4, 2]
    small(np.ones((2, 6, 8), "float32"), training=True)


def test_what_is_frozen_stays_so(package):
    layers = package.layers
    inputs = package.Input((6, 8))
    both = layers.Bidirectional(layers.GRU(6, return_sequences=True), name="both")
    attention = layers.MultiHeadAttention(4, 3, name="attention")
    x = both(inputs)
    x = layers.Dense(8, name="frozen")(attention(x, x))
    model = package.Model(inputs, layers.Dense(2)(x))
    both.forward_layer.trainable = False
    attention._query_dense.trainable = False
    model.get_layer("frozen").trainable = False
    small = tfkd.prune_channels(model, 0.5, round_to=1)
    assert not small.get_layer("frozen").trainable_weights
    assert small.get_layer("both").backward_layer.trainable
    assert not small.get_layer("both").forward_layer.trainable_weights
    assert not small.get_layer("attention")._query_dense.trainable_weights
    assert len(small.trainable_weights) == len(model.trainable_weights)
    copy, x = copy_of(small), np.random.default_rng(0).normal(size=(2, 6, 8))
    assert len(copy.get_layer("both").trainable_weights) == 3
    np.testing.assert_array_equal(predicted(copy, x), predicted(small, x))


def test_a_subclass_that_changes_nothing_has_the_rule_of_its_class(package):
    layers = package.layers

    def renamed(kind):
        return type("Own" + kind[:1], (getattr(layers, kind),), {})

    inputs = package.Input((4, 4, 3))
    x = renamed("Conv2DTranspose")(6, 2, name="up")(inputs)
    x = renamed("BatchNormalization")()(x)
    x = renamed("Permute")((3, 1, 2))(x)
    x = layers.Reshape((25, 6))(layers.Permute((2, 3, 1))(x))
    x = renamed("TimeDistributed")(layers.Dense(4, name="each"))(x)
    x = renamed("Bidirectional")(layers.GRU(3))(x)
    model = package.Model(inputs, layers.Dense(2)(x))
    found = dependency.find(model)
    assert not found.not_pruned
    groups = found.groups[::2]
    kill(found, groups)
    close(model, surgery.without(found, groups), np.ones((2, 4, 4, 3), "float32"))


@keras.saving.register_keras_serializable("test")
def centred(x):
    return x - keras.ops.mean(x, -1, keepdims=True)


@keras.saving.register_keras_serializable("test")
class Normed(keras.layers.Dense):
    def call(self, x):
        return keras.ops.softmax(super().call(x))


@keras.saving.register_keras_serializable("test")
class Identity(keras.layers.Layer):
    def call(self, x):
        return centred(x)


@keras.saving.register_keras_serializable("test")
class Renamed(keras.layers.Dense):
    """What it does is still Dense's."""


MIXING = {
    "time": lambda la: la.TimeDistributed(la.Dense(6, activation="softmax")),
    "both": lambda la: la.Bidirectional(la.LSTM(3, activation="softmax", return_sequences=True)),
    "gates": lambda la: la.LSTM(6, recurrent_activation="softmax", return_sequences=True),
    "own": lambda la: keras.layers.Dense(6, activation=centred),
    "activation": lambda la: keras.layers.Activation(centred),
    "class": lambda la: Normed(6),
    "name": lambda la: Identity(),
}


@pytest.mark.parametrize("kind", MIXING)
def test_what_mixes_channels_is_left_whole_and_named(kind):
    layers = keras.layers
    inputs = keras.Input((5, 4))
    x = layers.Dense(6, name="before")(inputs)
    mixing = MIXING[kind](layers)
    x = layers.Dense(5, name="after")(mixing(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    found = dependency.find(model)
    assert list(found.not_pruned) == [mixing.name]
    groups = found.groups[::2]
    kill(found, groups)
    close(model, surgery.without(found, groups), rng.normal(size=(3, 5, 4)).astype("float32"))
    assert len(groups)


def test_joining_on_another_axis_binds_what_must_match(package):
    layers = package.layers
    inputs = package.Input((4, 4, 3))
    side = [layers.Conv2D(6, 3, padding="same", name=f"side{i}")(inputs) for i in range(2)]
    x = layers.ReLU()(layers.Concatenate(axis=2)(side))
    rows = [layers.Permute((2, 1))(layers.Reshape((16, 3))(inputs)) for _ in range(2)]
    turned = [layers.Permute((2, 1))(layers.Dense(5)(one)) for one in rows]
    y = layers.Concatenate(axis=2)(turned)
    ends = [layers.Flatten()(x), layers.Flatten()(y)]
    model = package.Model(inputs, layers.Dense(2)(layers.Concatenate()(ends)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    found = dependency.find(model)
    assert len(found.groups) == 6 + 5
    kill(found, found.groups[::3])
    small = surgery.without(found, found.groups[::3])
    close(model, small, rng.normal(size=(3, 4, 4, 3)).astype("float32"))


def test_blocks_that_only_look_like_nothing_stay(package):
    layers = package.layers
    inputs = package.Input((4, 4, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    means = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Add()([means, layers.Conv2D(4, 1, name="wide")(x)])  # without it: a number a map
    y = layers.BatchNormalization(name="shifted")(layers.Conv2D(4, 1)(x))
    x = layers.Add()([x, y + 1.0])
    y = layers.ReLU(negative_slope=0.5, threshold=1.0)(layers.Conv2D(4, 1, name="bent")(x))
    x = layers.Add()([x, y])
    model = package.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    model.get_layer("wide").set_weights([np.zeros((1, 1, 4, 4)), np.zeros(4)])
    model.get_layer("bent").set_weights([np.zeros((1, 1, 4, 4)), np.zeros(4)])
    model.get_layer("shifted").gamma.assign(np.zeros(4))
    _, gone = blocks.without_nil(graph.walk(model))
    assert gone == []


def test_names_that_would_meet_and_weights_without_a_rule(package):
    layers = package.layers
    inner = package.Sequential([package.Input((6,)), layers.Dense(6, name="b")], name="a")
    inputs = package.Input((4,))
    x = inner(layers.Dense(6, name="a_b")(inputs))
    reshape = layers.Reshape((2, 3))
    x, y = (layers.Flatten()(reshape(one)) for one in (x, layers.Dense(6)(inputs)))
    model = package.Model(inputs, layers.Dense(2)(layers.Concatenate()([x, y])))
    found = dependency.find(model)
    kill(found, found.groups[:2])
    small = surgery.without(found, found.groups[:2])
    close(model, small, np.random.default_rng(0).normal(size=(3, 4)).astype("float32"))
    if package is keras:
        x = layers.Dense(6, name="plain")(inputs)
        x = keras.ops.reshape(layers.Dense(6, name="reshaped")(x), (-1, 2, 3))
        adapted = layers.Dense(5, name="adapted")
        x = adapted(layers.Flatten()(x))
        model = keras.Model(inputs, layers.Dense(2)(x))
        adapted.enable_lora(2)
        small = tfkd.prune_channels(model, 0.5, round_to=1)
        assert small.get_layer("plain").units == 3
        assert {"adapted"} < set(describe(small).not_pruned) and len(
            describe(small).not_pruned
        ) == 2


def test_own_classes_that_change_nothing_are_what_they_come_from():
    dense = Renamed(8, name="own")
    model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(2)])
    small = tfkd.prune_channels(model, 0.5, round_to=1)
    assert small.get_layer("own").units == 4 and type(small.get_layer("own")) is Renamed


def test_taylor_takes_inputs_by_name():
    inputs = [keras.Input((3,), name="z"), keras.Input((3,), name="a")]
    x = keras.layers.Concatenate()([keras.layers.Dense(4)(one) for one in inputs])
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    rng = np.random.default_rng(0)
    data = {"z": rng.normal(size=(16, 3)) * 9, "a": rng.normal(size=(16, 3))}
    found, y = dependency.find(model), rng.normal(size=(16, 1))
    named = importance.scores(found, "taylor", (data, y))
    np.testing.assert_allclose(
        named, importance.scores(found, "taylor", ([data["z"], data["a"]], y)), rtol=1e-6
    )
    with pytest.raises(
        InputError, match="data has the unknown names 'b'; the inputs .* are 'z', 'a'"
    ):
        importance.scores(found, "taylor", ({"z": data["z"], "b": data["a"]}, y))


@pytest.mark.parametrize("keyed", [False, True])
def test_taylor_crosses_no_inputs(package, keyed, rng):
    model, x = two_ended(package, keyed), drawn(rng)
    found, y = dependency.find(model), np.zeros(len(x[0]))

    def scores(data):
        def loss(y, outputs):
            return tf.add_n([tf.reduce_sum(out**2, axis=-1) for out in graph.leaves(outputs)])

        return importance.scores(found, "taylor", (data, y), loss)

    keys = INPUT_KEYS if keyed else None
    due, *others = (scores(given) for given in forms(x, INPUTS, keys).values())
    for got in others:
        np.testing.assert_allclose(got, due, rtol=1e-6)
    crossed = scores(next(iter(forms(x[::-1], INPUTS, keys).values())))
    assert len(due) == 3 and not np.allclose(crossed, due, rtol=1e-2)


def test_bad_input(trained):
    for amount in (0, 1, 1.5, -0.1, "half"):
        with pytest.raises(InputError, match="amount must lie between 0 and 1"):
            tfkd.prune_channels(trained, amount)
    with pytest.raises(InputError, match="either amount or target"):
        tfkd.prune_channels(trained)
    with pytest.raises(InputError, match="criterion must be a function or one of"):
        tfkd.prune_channels(trained, 0.5, criterion="l3")
    with pytest.raises(InputError, match="give data="):
        tfkd.prune_channels(trained, 0.5, criterion="taylor")
    with pytest.raises(InputError, match="'steam' matches no layer; the nearest names are 'stem'"):
        tfkd.prune_channels(trained, 0.5, skip="steam")
    with pytest.raises(InputError, match="metric must be.*; scope must be.*; round_to must"):
        tfkd.prune_channels(trained, 0.5, metric="layers", scope="model", round_to=0)
    with pytest.raises(InputError, match="number of macs, parameters or bytes"):
        tfkd.prune_channels(trained, target=3)
    with pytest.raises(InputError, match="must return [0-9]+ finite scores"):
        tfkd.prune_channels(trained, 0.5, criterion=lambda *given: [1.0])
    with pytest.raises(InputError, match="format must be one of"):
        tfkd.prune_channels(trained, 0.5, metric="bytes", format="int7")
    with pytest.raises(InputError, match="skip= .* is not a regular expression"):
        tfkd.prune_channels(trained, 0.5, skip="(")
    with pytest.raises(InputError, match="target must be a number of"):
        tfkd.prune_channels(trained, metric="macs", target="4k")
    broken = keras.models.clone_model(trained)
    kernel = broken.get_layer("inner").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(InputError, match="Channels of 'inner' have no score"):
        tfkd.prune_channels(broken, 0.5)
    assert tfkd.prune_channels(trained, np.float32(0.5)).count_params() > 0
    single = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(UnsupportedError, match="No channel of this model can go"):
        tfkd.prune_channels(single, 0.5)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="this model has none; use"):
        tfkd.prune_channels(plain, 0.5, criterion="bn_scale")

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedError, match="subclassed"):
        tfkd.prune_channels(Own(), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        keras.applications.MobileNetV2,
        functools.partial(efficientnet.EfficientNet, 1.0, 0.5, 224),  # B0, half as deep
    ],
    ids=["MobileNetV2", "EfficientNet"],
)
def test_networks_of_keras_applications(build):
    model = build(weights=None, input_shape=(64, 64, 3), classes=10)
    whole = cost.measure(model)
    small = tfkd.prune_channels(model, 0.5, metric="macs")
    assert cost.measure(small).macs <= 0.5 * whole.macs
    x = np.random.default_rng(0).random((2, 64, 64, 3)).astype("float32")
    file = to_tflite(small)
    np.testing.assert_allclose(file.predict(x), predicted(small, x), rtol=1e-3, atol=1e-4)
    assert isinstance(tfkd.translate(small, to="tf_keras"), tf_keras.Model)
    assert graph.walk(small)


def test_groups_are_what_pairs_connect():
    found, rng = Channels(), np.random.default_rng(0)
    found.new(60)
    groups = np.arange(61)
    for _ in range(12):
        some, others = rng.integers(0, 61, (3, 1)), rng.integers(1, 61, (1, 2))
        found.bind(some, others)
        for a, b in np.stack(np.broadcast_arrays(some, others)).reshape(2, -1).T:
            both = groups[[a, b]]
            groups[np.isin(groups, both)] = both.min()
    assert 1 < len(set(groups)) < 61
    np.testing.assert_array_equal(found.groups(), groups)


def test_finding_blocks_takes_twice_the_steps_in_twice_the_depth(monkeypatch):
    steps = []
    own = graph.Graph.consumers
    monkeypatch.setattr(graph.Graph, "consumers", lambda *given: steps.append(1) or own(*given))

    def count(depth):
        inputs = x = keras.Input((4,))
        for _ in range(depth):
            x = keras.layers.Add()([x, keras.layers.Dense(4)(x)])
        steps.clear()
        assert len(blocks.find(graph.walk(keras.Model(inputs, x)))) == depth
        return len(steps)

    assert count(16) < 3 * count(8)


@pytest.mark.parametrize("kind", ["Normalization", "IntegerLookup", "Lambda"])
def test_what_no_configuration_holds_stays(kind, package, rng):
    """Statistics, a vocabulary and a function: the new layer had none, or was refused."""
    layers = package.layers
    x = rng.choice([3, 5, 9, 400], (40, 6))
    x = x.astype("int64" if kind == "IntegerLookup" else "float32")
    if kind == "Lambda":
        first = [layers.Lambda(lambda z: z / 100)]
    else:
        first = [getattr(layers, kind)()]
        first[0].adapt(x)
    if kind == "IntegerLookup":
        first += [layers.Embedding(5, 4, name="table"), layers.Flatten()]
    hidden = layers.Dense(16, activation="relu", name="hidden")
    model = package.Sequential(
        [package.Input((6,), dtype=x.dtype.name), *first, hidden, layers.Dense(2)]
    )
    kernel, bias = hidden.get_weights()
    kernel[:, 12:], bias[12:] = 0, 0
    hidden.set_weights([kernel, bias])
    kernel, bias = model.layers[-1].get_weights()
    kernel[12:] = 0
    model.layers[-1].set_weights([kernel, bias])
    skip = ["table"] if kind == "IntegerLookup" else []
    small = tfkd.prune_channels(model, 0.25, round_to=1, skip=skip)
    assert small.get_layer("hidden").units == 12
    np.testing.assert_allclose(predicted(small, x), predicted(model, x), rtol=1e-5, atol=1e-5)


def test_bytes_of_a_model_that_looks_numbers_up():
    """Noise was looked up in the table if the Input is float32, Keras's default."""
    layers = keras.layers
    hidden = layers.Dense(32, activation="relu", name="hidden")
    model = keras.Sequential(
        [keras.Input((6,)), layers.Embedding(20, 4), layers.Flatten(), hidden, layers.Dense(3)]
    )
    small = tfkd.prune_channels(model, 0.2, metric="bytes", round_to=1)
    assert small.get_layer("hidden").units < 32
