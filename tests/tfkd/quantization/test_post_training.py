"""Weights of 4 bits without training: rounding that preserves each layer's output."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import predicted

from tfkd import quantize_aware, strip_quantization
from tfkd.errors import InputError
from tfkd.export import to_tflite
from tfkd.quantization import calibrate
from tfkd.quantization.post_training import nearest_output


def moving(rng, rows, inputs):
    """Inputs that go together, as those of a layer do."""
    return rng.normal(size=(rows, inputs)) @ rng.normal(size=(inputs, inputs)) / inputs**0.5


def on_grid(rng, *shape):
    weights = rng.normal(size=shape)
    scales = np.broadcast_to(np.abs(weights).max(1, keepdims=True) / 7, shape)
    return weights, scales, np.clip(np.rint(weights / scales), -7, 7)


def test_inputs_that_do_not_go_together_get_the_nearest_place():
    weights, scales, nearest = on_grid(np.random.default_rng(0), 2, 9, 4)
    products = np.eye(9) * np.arange(1, 10)
    codes = nearest_output(weights, scales, np.stack([products, products]), 7)
    np.testing.assert_array_equal(codes, nearest)


@pytest.mark.parametrize("seed", range(5))
def test_the_output_is_nearer_than_that_of_the_nearest_weights(seed):
    rng = np.random.default_rng(seed)
    weights, scales, nearest = on_grid(rng, 1, 24, 6)
    x = moving(rng, 400, 24)
    codes = nearest_output(weights, scales, (x.T @ x)[None], 7)
    assert np.abs(codes).max() <= 7 and (codes == np.rint(codes)).all()
    off, off_nearest = (
        ((x @ (weights - given * scales)[0]) ** 2).mean() for given in (codes, nearest)
    )
    assert off < 0.6 * off_nearest
    # The largest weight, from which the file's scale is found, stays at an end of the grid.
    assert (np.abs(codes).max(1) == 7).all()


def test_one_weight_makes_up_for_another():
    # Two equal inputs, and a third that gives the grid its end: only their sum matters.
    x = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    weights = np.array([0.4, 0.4, 7.0]).reshape(1, 3, 1)
    codes = nearest_output(weights, np.ones((1, 3, 1)), (x.T @ x)[None], 7)
    assert codes[0, :, 0].tolist() in ([0, 1, 7], [1, 0, 7])  # 0.8 is nearer to 1 than to 0


NETS = {
    "Conv2D": ((8, 8, 3), lambda la: [la.Conv2D(6, 3, strides=2, padding="same")]),
    "Conv2D in groups": ((8, 8, 4), lambda la: [la.Conv2D(6, 3, groups=2)]),
    "Conv2D dilated": ((8, 8, 3), lambda la: [la.Conv2D(6, 3, dilation_rate=2)]),
    "Conv1D": ((12, 3), lambda la: [la.Conv1D(6, 3, padding="causal")]),
    "DepthwiseConv2D": ((8, 8, 3), lambda la: [la.DepthwiseConv2D(3, depth_multiplier=2)]),
    "SeparableConv2D": ((8, 8, 3), lambda la: [la.SeparableConv2D(5, 3)]),
    "Dense": ((20,), lambda la: [la.Dense(6)]),
    "Dense over time": ((5, 12), lambda la: [la.TimeDistributed(la.Dense(6))]),
    "norm": ((8, 8, 3), lambda la: [la.Conv2D(6, 3, use_bias=False), la.BatchNormalization(),
                                    la.ReLU(), la.Flatten(), la.Dense(5)]),
}  # fmt: skip


def off(model, x, **how) -> float:
    qat = calibrate(quantize_aware(model, bits=4), x, **how)
    return float(((predicted(qat, x) - predicted(model, x)) ** 2).mean())


@pytest.mark.parametrize("name", NETS)
def test_a_layer_is_nearer_to_its_float_self(name):
    keras.utils.set_random_seed(0)
    shape, build = NETS[name]
    model = keras.Sequential([keras.Input(shape), *build(keras.layers)])
    x = np.random.default_rng(0).normal(size=(80, *shape))
    for axis in range(1, x.ndim):  # neighbours are alike, as in an image
        x = x.cumsum(axis) / x.shape[axis] ** 0.5
    x = x.astype("float32")
    assert off(model, x, rounding="gptq") < 0.8 * off(model, x)


def test_the_file_computes_what_the_graph_does():
    keras.utils.set_random_seed(0)
    shape, build = NETS["norm"]
    model = keras.Sequential([keras.Input(shape), *build(keras.layers)])
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype("float32")
    qat = calibrate(quantize_aware(model, bits=4), x, rounding="gptq")
    file = to_tflite(qat, "int8")
    assert file.four_bit_weights == 3 * 3 * 3 * 6 + 6 * 36 * 5
    steps = np.abs(file.predict(x) - predicted(qat, x)) / file.outputs[0].scale
    assert steps.max() <= 4.01


def test_pruned_weights_stay_zero():
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([tf_keras.Input((20,)), tf_keras.layers.Dense(6)])
    kernel, bias = model.get_weights()
    kernel[np.random.default_rng(0).random(kernel.shape) < 0.5] = 0
    model.set_weights([kernel, bias])
    x = moving(np.random.default_rng(1), 80, 20).astype("float32")
    qat = calibrate(quantize_aware(model, bits=4, preserve="sparsity"), x, rounding="gptq")
    (rounded,) = [
        w for w in qat.get_weights() if w.shape == kernel.shape and set(w.ravel()) != {0, 1}
    ]
    assert (rounded[kernel == 0] == 0).all() and (rounded != 0).sum() > 30


def test_frozen_layers_keep_their_weights():
    layers = tf_keras.layers
    stack = [layers.Dense(6, name="frozen", trainable=False), layers.Dense(3, name="free")]
    model = tf_keras.Sequential([tf_keras.Input((20,)), *stack])
    x = moving(np.random.default_rng(1), 80, 20).astype("float32")
    qat = calibrate(quantize_aware(model, bits=4), x, rounding="gptq")
    back = strip_quantization(qat, model)
    for name, same in (("frozen", True), ("free", False)):
        weights = [one.get_layer(name).get_weights()[0] for one in (model, back)]
        assert np.array_equal(*weights) is same


def test_unknown_rounding_is_refused():
    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)])
    with pytest.raises(InputError, match="rounding must be 'nearest' or 'gptq', got 'up'"):
        calibrate(quantize_aware(model), np.ones((3, 4), "float32"), rounding="up")
