"""A layer class of one's own, all the way: pruned, trained with 8-bit rounding, exported.

python examples/own_layers.py
"""

import keras
import numpy as np
import tf_keras

import tfkd
from tfkd.export import to_tflite


@keras.saving.register_keras_serializable("example")
class Projection(keras.layers.Layer):
    """Multiplies with a matrix; a stand-in for a layer that no library has."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@tf_keras.utils.register_keras_serializable("example")
class OldProjection(tf_keras.layers.Layer):
    """The same for tf_keras, on which quantization-aware training works."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units))
        super().build(input_shape)

    def call(self, x):
        return x @ self.kernel

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def follow_channels(channels, call, inputs):
    """Say which channel each row and column of the kernel belongs to."""
    units = channels.counted(call.layer, "units")
    channels.slices(call.layer.kernel, 0, channels.of_input(call))
    channels.slices(call.layer.kernel, 1, units)
    return channels.as_output(call, units)


def round_per_unit(net, layer, x):
    """Round the kernel, with a scale for each unit."""
    rounded = net.weighted(net.copy, [("kernel", (1,), None)])
    return tfkd.quantization.Value(rounded(net.rounded(x)), layer.name, "linear")


def main():
    tfkd.translation.register(Projection, OldProjection, replace=True)
    tfkd.pruning.register(Projection, follow_channels, replace=True)
    tfkd.quantization.register(Projection, round_per_unit, replace=True)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    hidden = keras.layers.ReLU()(Projection(32, name="own")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4, name="head")(hidden))
    head = model.get_layer("head")
    head.kernel.assign(np.where(np.arange(32)[:, None] < 16, head.kernel, 0.0))  # half is unused
    own = model.get_layer("own")
    own.kernel.assign(np.where(np.arange(32) < 16, own.kernel, 0.0))

    small = tfkd.prune_channels(model, 0.5)
    x = np.random.default_rng(0).normal(size=(200, 16)).astype("float32")
    lost = float(np.abs(small(x) - model(x)).max())
    print(f"{own.units} units, {small.get_layer('own').units} left; outputs differ by {lost:.1e}")

    qat = tfkd.quantization.calibrate(tfkd.quantize_aware(small), x)  # or train it
    file = to_tflite(qat, "int8")
    steps = np.abs(file.predict(x) - qat.predict(x, verbose=0)).max() / file.outputs[0].scale
    print(f"integer only: {file.integer_only}; the file is {steps:.2f} int8 steps off")
    return small, lost, file, float(steps)


if __name__ == "__main__":
    main()
