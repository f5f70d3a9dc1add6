"""Why the int8 file of a detector is further from its quantize-aware graph than others are.

    python benchmarks/detector_rounding.py
    python benchmarks/detector_rounding.py --activation relu

A small net of a detector's parts (cross-stage blocks, SPPF, PAN, two heads) learns to return
smoothed images, becomes quantize-aware and is trained further. The script prints, in steps of the
outputs (LSB), the distance of the file from the graph on both kernels and in exact arithmetic, and
of the graph from itself when one input in a hundred moves by one step; and, for the first two
operations, the share of values that the reference kernels round to another step than the graph.
"""

import argparse

import exact_arithmetic
import numpy as np
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tf_keras import layers

import tfkd
from tfkd.export import to_tflite

_SIZE, _FILTERS = 64, 18


def network(activation: str) -> tf_keras.Model:
    """Return the net: images (64, 64, 3) → maps (16, 16, 18) and (8, 8, 18)."""

    def conv(x, filters, kernel=3, strides=1):
        x = layers.Conv2D(filters, kernel, strides, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.LeakyReLU(0.1)(x) if activation == "leaky" else layers.ReLU()(x)

    def block(x, filters):
        half = filters // 2
        through, beside = conv(x, half, 1), conv(x, half, 1)
        through = layers.Add()([through, conv(conv(through, half, 1), half)])
        return conv(layers.Concatenate()([through, beside]), filters, 1)

    inputs = layers.Input((_SIZE, _SIZE, 3))
    near = block(conv(conv(inputs, 8, 3, 2), 16, 3, 2), 16)
    pooled = [conv(block(conv(near, 32, 3, 2), 32), 16, 1)]
    for _ in range(3):
        pooled.append(layers.MaxPooling2D(5, 1, "same")(pooled[-1]))
    far = conv(layers.Concatenate()(pooled), 32, 1)
    up = layers.UpSampling2D()(conv(far, 16, 1))
    near = block(layers.Concatenate()([up, near]), 16)
    far = block(layers.Concatenate()([conv(near, 16, 3, 2), far]), 32)
    heads = [layers.Conv2D(_FILTERS, 1, name=name)(x) for name, x in (("near", near), ("far", far))]
    return tf_keras.Model(inputs, heads)


def examples(count: int = 96):
    """Return images of 8×8 patches with noise, and what the heads shall say of them."""
    rng = np.random.default_rng(0)
    x = np.kron(rng.random((count, 8, 8, 3)), np.ones((1, 8, 8, 1)))
    x = (x + 0.1 * rng.random(x.shape)).astype("float32")
    slopes = np.linspace(-2, 2, _FILTERS)
    y = [
        0.3 * np.tanh(x[:, ::step, ::step].mean(-1, keepdims=True) * slopes).astype("float32")
        for step in (4, 8)
    ]
    return x, y


def trained(activation: str, x, y) -> tf_keras.Model:
    """Return the quantize-aware net after 20 epochs in float and 3 with rounding."""
    tf_keras.utils.set_random_seed(0)
    model = network(activation)
    for epochs, rate in ((20, 1e-3), (3, 3e-4)):
        model.compile(tf_keras.optimizers.Adam(rate), "mse")
        model.fit(x, y, epochs=epochs, batch_size=16, verbose=0)
        model = tfkd.quantize_aware(model) if epochs == 20 else model
    return model


def steps(found, want, file) -> str:
    """Return the largest and the mean distance of each output in its steps."""
    off = [np.abs(a - b) / o.scale for a, b, o in zip(found, want, file.outputs, strict=True)]
    return ", ".join(f"{values.max():.1f} (mean {values.mean():.2f})" for values in off)


def first_operations(file, qat, x) -> str:
    """Return the share of values on another step than the graph's, of the first two operations."""
    interpreter = Interpreter(
        model_content=file.data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    operators = interpreter._get_ops_details()[:2]
    kept = [[] for _ in operators]
    for row in file.inputs[0].quantize(x):
        interpreter.set_tensor(place, row[None])
        interpreter.invoke()
        for values, op in zip(kept, operators, strict=True):
            tensor = int(op["outputs"][0])
            scale, zero = interpreter._get_tensor_details(tensor, 0)["quantization"]
            values.append(scale * (interpreter.get_tensor(tensor)[0].astype("float32") - zero))
    rounded = [layer for layer in qat.layers if layer.name.startswith("round_")]
    rounded = rounded[1:3]  # the first rounds the input
    graph = tf_keras.Model(qat.inputs, [layer.output for layer in rounded]).predict(x, verbose=0)
    texts = []
    for values, want, op in zip(kept, graph, operators, strict=True):
        scale = interpreter._get_tensor_details(int(op["outputs"][0]), 0)["quantization"][0]
        share = np.mean(np.abs(np.array(values) - want) > scale / 2)
        texts.append(f"{op['op_name']} {100 * share:.2f} %")
    return ", then ".join(texts)


def main():
    """Print the distances of one net."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activation", choices=("leaky", "relu"), default="leaky")
    options = parser.parse_args()
    x, y = examples()
    qat = trained(options.activation, x, y)
    file = to_tflite(qat, "int8")
    want = qat.predict(x, verbose=0)
    spread = [w.std() / o.scale for w, o in zip(want, file.outputs, strict=True)]
    print("spread of the outputs:", ", ".join(f"{value:.1f}" for value in spread))
    for engine in ("reference", "xnnpack"):
        print(f"{engine}:", steps(file.predict(x, engine=engine), want, file))
    few = x[:24]
    exact = exact_arithmetic.compare(file, few)["outputs"]
    print("exact arithmetic:", steps(exact, [w[:24] for w in want], file))
    moved = x + file.inputs[0].scale * (np.random.default_rng(1).random(x.shape) < 0.01)
    print("graph, 1 % of its inputs moved:", steps(qat.predict(moved, verbose=0), want, file))
    print("other steps on the reference kernels:", first_operations(file, qat, few))


if __name__ == "__main__":
    main()
