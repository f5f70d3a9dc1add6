"""Random small graphs whose values are shared, sliced, concatenated and passed to several heads."""

import keras
import numpy as np

L = keras.layers
ops = keras.ops
SIZE = 8


def _same_scale(rng, x):
    """Return a value that has the scale of its input in an integer file."""
    kind = rng.integers(9)
    if kind == 0:
        return L.MaxPooling2D(3, 1, padding="same")(x)
    if kind == 1:
        return L.AveragePooling2D(3, 1, padding="same")(x)
    if kind == 2:
        return L.Cropping2D(1)(L.ZeroPadding2D(1)(x))
    if kind == 3:
        return L.UpSampling2D()(L.MaxPooling2D()(x))
    if kind == 4:
        return ops.flip(x, 2)
    if kind == 5:
        return x[:, ::-1]
    if kind == 6:
        return ops.stack(ops.unstack(x, axis=1)[::-1], axis=1)
    if kind == 7:
        return L.Permute((2, 1, 3))(x)
    return L.Dropout(0.1)(x)


def _computed(rng, x):
    """Return a value with a scale of its own; some are large, some small."""
    kind = rng.integers(9)
    if kind == 0:
        return L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", use_bias=False)(x)))
    if kind == 1:
        return L.LeakyReLU(0.1)(L.Conv2D(4, 1)(x))
    if kind == 2:
        return L.Conv2D(4, 1)(x) * float(rng.uniform(0.2, 6.0))
    if kind == 3:
        return L.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    if kind == 4:
        return L.Activation("sigmoid")(L.Conv2D(4, 1)(x))
    if kind == 5:
        return L.Activation("tanh")(L.Conv2D(4, 1)(x))
    if kind == 6:
        return L.Multiply()([x, L.GlobalAveragePooling2D(keepdims=True)(x)])
    if kind == 7:
        return L.Conv2D(3, 1, bias_initializer=keras.initializers.Constant(-1.5))(x)
    return L.BatchNormalization()(x)


def _joined(rng, values):
    a, b = (values[i] for i in rng.choice(len(values), 2, replace=False))
    if rng.integers(3) == 0 and a.shape == b.shape:
        return L.Add()([a, b])
    third = [values[rng.integers(len(values))]] * int(rng.integers(2))
    return L.Concatenate()([a, b, *third])


def _part(rng, x):
    channels = x.shape[-1]
    if channels < 3 or rng.integers(2):
        return x[..., -(channels // 2) :]
    parts = ops.split(x, [1, channels - 1], axis=-1)
    return parts[int(rng.integers(1, 3))]


def _head(rng, x):
    kind = rng.integers(6)
    if kind == 0:
        return L.Conv2D(3, 1)(x)
    if kind == 1:
        return L.Dense(3)(L.GlobalMaxPooling2D()(x))
    if kind == 2:
        return L.Dense(3)(L.Concatenate()([L.GlobalMaxPooling2D()(x), ops.mean(x, (1, 2))]))
    if kind == 3:
        return L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x))
    if kind == 4:
        return L.Dense(2)(L.Flatten()(x[:, 2, ::3]))
    return x


def graph_of(seed: int):
    """Return a random Keras 3 model of images (8, 8, 3), the same for the same seed.

    Ten to twelve values are made from one another by operations drawn at random; two or three
    of the last are outputs, so that most values have several readers.
    """
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    i = keras.Input((SIZE, SIZE, 3))
    values = [L.Conv2D(4, 3, padding="same", activation="relu")(i), L.Conv2D(4, 1)(i)]
    for step in range(8):
        recent = values[-4:]
        x = recent[rng.integers(len(recent))]
        kind = (step + rng.integers(2)) % 4
        if kind == 0:
            values.append(_same_scale(rng, x))
        elif kind == 1:
            values.append(_computed(rng, x))
        elif kind == 2:
            values.append(_joined(rng, recent))
        else:
            values.append(_part(rng, x))
    heads = [_head(rng, value) for value in values[-2 - int(rng.integers(2)) :]]
    return keras.Model(i, heads, name=f"graph_{seed}")


def images_of(seed: int, n: int = 64):
    """Return images for such a model: float32 (n, 8, 8, 3)."""
    return np.random.default_rng(seed).normal(size=(n, SIZE, SIZE, 3)).astype("float32")
