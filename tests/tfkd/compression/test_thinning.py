"""A teacher with less depth or resolution keeps the weights of the remaining layers."""

import keras
import numpy as np
import pytest
from tiny_models import predicted

from tfkd.compression.candidates import families
from tfkd.compression.thinning import coarser, depth, shallower
from tfkd.model import cost, graph


def residual(package, side=32, blocks=4, head="pool"):
    layers = package.layers
    inputs = package.Input((side, side, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    for i in range(blocks):
        y = layers.Conv2D(8, 3, padding="same", name=f"block_{i}")(x)
        y = layers.BatchNormalization()(y)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x) if head == "pool" else layers.Flatten()(x)
    return package.Model(inputs, layers.Dense(4, name="head")(x))


def of_blocks(model):
    return [layer.name for layer in model.layers if layer.name.startswith("block")]


@pytest.mark.parametrize(
    ("left", "names"), [(2, ["block_0", "block_2"]), (1, ["block_0"]), (0, [])]
)
def test_blocks_that_stay_are_spread_and_keep_their_weights(package, left, names):
    teacher = residual(package)
    assert depth(teacher) == 4 and shallower(teacher, 4) is None
    thin = shallower(teacher, left)
    assert of_blocks(thin) == names and of_blocks(teacher) == [f"block_{i}" for i in range(4)]
    for name in (*names, "head"):
        before, after = (model.get_layer(name).get_weights() for model in (teacher, thin))
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_blocks_of_zeros_added_is_not_missed(package, rng):
    teacher = residual(package)
    for name in ("block_1", "block_3"):
        layer = teacher.get_layer(name)
        layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    x = rng.normal(size=(4, 32, 32, 3)).astype("float32")
    thin = shallower(teacher, 2)
    np.testing.assert_allclose(
        thin.predict(x, verbose=0), teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-5
    )


def test_without_residual_blocks_layers_of_one_shape_go():
    layers = [keras.layers.LSTM(6, return_sequences=True, name=f"lstm_{i}") for i in range(3)]
    teacher = keras.Sequential([keras.Input((5, 2)), *layers, keras.layers.Dense(3)])
    assert depth(teacher) == 2
    thin = shallower(teacher, 1)
    assert [layer.name for layer in thin.layers[1:-1]] == ["lstm_0", "lstm_1"]
    flat = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    assert depth(flat) == 0 and shallower(flat, 0) is None


def stages(package):
    """A residual net with blocks of one shape, and two that change it behind a projection."""
    layers = package.layers
    x = inputs = package.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    for number, (filters, strides) in enumerate(((4, 1), (8, 2), (8, 1), (12, 2))):
        y = layers.Conv2D(filters, 3, strides, "same", name=f"block_{number}_a")(x)
        y = layers.Conv2D(filters, 3, padding="same", name=f"block_{number}_b")(y)
        if x.shape[-1] != filters:
            x = layers.Conv2D(filters, 1, strides, name=f"projection_{number}")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    return package.Model(inputs, layers.Dense(4, name="head")(layers.Flatten()(x)))


@pytest.mark.parametrize(("left", "kept"), [(3, "013"), (2, "13"), (1, "1"), (0, "")])
def test_a_block_goes_and_its_projection_stays(package, left, kept):
    """Of ResNet-8 the projections were left out, and the net of plain convolutions was called less
    deep."""
    teacher = stages(package)
    assert depth(teacher) == 4
    thin = shallower(teacher, left)
    assert of_blocks(thin) == [f"block_{number}_{part}" for number in kept for part in "ab"]
    assert {layer.name for layer in thin.layers} >= {"projection_1", "projection_3"}


def test_images_are_averaged_first(package, rng):
    teacher = residual(package)
    coarse = coarser(teacher, 2)
    x = rng.normal(size=(4, 32, 32, 3)).astype("float32")
    small = residual(package, side=16)
    small.set_weights(teacher.get_weights())
    averages = x.reshape(4, 16, 2, 16, 2, 3).mean((2, 4))
    np.testing.assert_allclose(
        coarse.predict(x, verbose=0), small.predict(averages, verbose=0), rtol=1e-5, atol=1e-5
    )
    assert cost.measure(coarse).macs < 0.27 * cost.measure(teacher).macs


def test_images_of_bytes_are_averaged_too(package, rng):
    """TensorFlow has no averages of bytes, and the model could not be called."""
    layers = package.layers
    scale = layers.Normalization()
    x = rng.integers(0, 256, (8, 32, 32, 3)).astype("uint8")
    scale.adapt(x.astype("float32"))
    inputs = package.Input((32, 32, 3), dtype="uint8")
    z = layers.Conv2D(4, 3, activation="relu")(scale(inputs))
    teacher = package.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(z)))
    coarse = coarser(teacher, 2)
    assert graph.walk(coarse).input_list[0].dtype == "uint8"
    z = averages = package.Input((16, 16, 3))
    for layer in teacher.layers[1:]:
        z = layer(z)
    want = predicted(package.Model(averages, z), x.reshape(8, 16, 2, 16, 2, 3).mean((2, 4)))
    np.testing.assert_allclose(predicted(coarse, x), want, rtol=1e-4, atol=1e-4)


def test_what_has_no_coarser_form_has_none(package):
    assert coarser(residual(package, head="flatten"), 2) is None
    inputs = package.Input((32, 32, 3))
    assert coarser(package.Model(inputs, package.layers.Conv2D(4, 1)(inputs)), 2) is None
    assert coarser(residual(package, side=16), 2) is None
    assert coarser(package.Sequential([package.Input((32,)), package.layers.Dense(2)]), 2) is None


def test_they_are_candidates():
    x = np.zeros((8, 32, 32, 3), "float32")
    found = {one.kind: one for one in families(residual(keras), x, seed=0)}
    blocks, coarse = found["teacher (2 of 4 blocks)"], found["teacher (half the resolution)"]
    for family, whole in ((blocks, 2), (coarse, 4)):
        several = [one for one in map(family.candidate, family.sizes) if one is not None]
        assert several[-1].name == family.kind and len(several) > 2
        assert len(of_blocks(several[-1].model)) == len(of_blocks(several[0].model)) == whole
        sizes = [one.parameters for one in several]
        assert sizes == sorted(sizes) and sizes[0] < 0.6 * sizes[-1]


def test_a_layer_that_is_called_like_one_of_a_nested_model():
    """`body/left` became `body_left`, which the teacher had already."""
    layers = keras.layers
    body = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="left"), layers.Dense(6)], name="body"
    )
    inputs = keras.Input((6,))
    x = layers.Dense(6, name="body_left")(body(inputs))
    thin = shallower(keras.Model(inputs, layers.Dense(2)(x)), 2)
    assert len([layer for layer in thin.layers if layer.weights]) == 3


def test_what_makes_an_output_stays(package):
    """Students ended in a ReLU, in features in the place of classes, or had no weights."""
    layers = package.layers
    inputs = package.Input((8,))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    ends = package.Model(inputs, layers.Dense(8, activation="softmax", name="end")(x))
    assert depth(ends) == 1
    assert [layer.name for layer in shallower(ends, 0).layers][1:] == ["end"]
    y = layers.Dense(8, name="y")(layers.Dense(4)(inputs))
    assert depth(package.Model(inputs, layers.Add()([inputs, y]))) == 0


def test_of_blocks_in_blocks_the_innermost_are_counted(package):
    layers = package.layers
    inputs = package.Input((6,))
    x = layers.Dense(8)(inputs)
    for i in range(2):
        inner = layers.Dense(8, name=f"in_{i}")(layers.ReLU()(x))
        inner = layers.Dense(8, name=f"inner_{i}")(inner)
        y = layers.Dense(8, name=f"y_{i}")(inner)
        z = layers.Dense(8, name=f"z_{i}")(y)
        y = layers.Add()([y, z])
        x = layers.Add()([x, y])
    teacher = package.Model(inputs, layers.Dense(3)(x))
    assert depth(teacher) == 2
    names = {layer.name for layer in shallower(teacher, 1).layers}
    assert names >= {"y_0", "z_0", "y_1"} and "z_1" not in names


def test_a_layer_called_several_times_stays():
    shared = keras.layers.Dense(6)
    x = inputs = keras.Input((6,))
    for _ in range(3):
        x = shared(x)
    assert depth(keras.Model(inputs, keras.layers.Dense(2)(x))) == 0
