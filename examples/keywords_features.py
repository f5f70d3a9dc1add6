"""Recordings for keywords_dscnn.py, and their log-mel features as a model."""

import keras
import numpy as np
from keras import layers, ops
from labelled_data import parts_of

import tfkd

LAYOUT = """Expected: an .npz file with x_train, x_test (examples, 8000), one second of 8 kHz,
int16, and y_train, y_test (examples,), class numbers or names:
np.savez("mine.npz", x_train=np.zeros((90, 8000), np.int16), y_train=np.arange(90) % 10,
x_test=np.zeros((30, 8000), np.int16), y_test=np.arange(30) % 10)"""
RATE, FRAME, HOP, BANDS = 8000, 256, 160, 24


def dialled(examples, seed=0):
    """Return the two tones of each digit's telephone key, somewhere in a second of noise."""
    rng, time = np.random.default_rng(seed), np.arange(RATE) / RATE
    y = rng.integers(10, size=examples)
    low, high = np.array([697, 770, 852, 941]), np.array([1209, 1336, 1477])
    x = rng.normal(0, 1, (examples, RATE)) * rng.uniform(0.02, 0.1, (examples, 1))
    for row, digit in zip(x, y, strict=True):
        place = 10 if digit == 0 else digit - 1  # 0 is in the middle of the last row
        start, size = rng.uniform(0, 0.8), rng.uniform(0.05, 0.2)
        tones = low[place // 3], high[place % 3]
        waves = [np.sin(2 * np.pi * tone * rng.normal(1, 0.01) * time) for tone in tones]
        row += size * sum(waves) * ((time > start) & (time < start + 0.2))
    return (np.clip(x, -1, 1) * 32767).astype("int16"), y


def load(path=None, examples=3000):
    """Return samples in [-1, 1] and class numbers, in three parts."""
    parts, _ = parts_of(tfkd.as_data(path or dialled(examples)))
    for x, _ in parts:
        if x.ndim != 2 or x.shape[1] != RATE or x.dtype != np.int16:
            raise tfkd.InputError(f"x is {x.dtype} of shape {x.shape}.")
    return [((x / 32768).astype("float32"), y) for x, y in parts]


class PowerSpectrum(layers.Layer):
    """Squared sizes of the first 144 numbers of a Fourier transform, in two steps of 16 each.

    In two steps the file holds a few small matrices instead of one of 256 x 288. Number 16 i + j of
    the input is row i, column j of `x`; number k + 16 m of the transform is at (k, m).
    """

    def call(self, frames):
        turn = -2 * np.pi * np.arange(16)[:, None] * np.arange(16)
        cos, sin = (part(turn / 16).astype("float32") for part in (np.cos, np.sin))
        twist_cos, twist_sin = (part(turn / 256).astype("float32") for part in (np.cos, np.sin))
        x = frames * np.hanning(FRAME + 1)[:-1].astype("float32")
        x = ops.transpose(ops.reshape(x, (-1, 16, 16)), (0, 2, 1))
        real, imaginary = ops.matmul(x, cos), ops.matmul(x, sin)
        real, imaginary = (
            ops.transpose(real * twist_cos - imaginary * twist_sin, (0, 2, 1)),
            ops.transpose(real * twist_sin + imaginary * twist_cos, (0, 2, 1)),
        )
        cos, sin = cos[:, :9], sin[:, :9]  # the others mirror these
        power = ops.square(ops.matmul(real, cos) - ops.matmul(imaginary, sin))
        power += ops.square(ops.matmul(real, sin) + ops.matmul(imaginary, cos))
        return ops.reshape(power, (-1, 144))


def mel_matrix():
    """Return triangles (144, bands) that are equally wide in mel, in the order of the power."""
    bins = np.arange(16)[:, None] + 16 * np.arange(9)
    mel = 2595 * np.log10(1 + bins.reshape(-1, 1) * RATE / FRAME / 700)
    edges = np.linspace(60, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    up = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(up, down), 0, None).astype("float32")


def features_of(mean=0.0, scale=1.0):
    """Return the model from frames (256,) to standardized log-mel energies (24,)."""
    samples = keras.Input((FRAME,), name="samples")
    energies = ops.matmul(PowerSpectrum()(samples), mel_matrix())
    return keras.Model(samples, (ops.log(energies + 1e-4) - mean) / scale)


def images(features, x):
    """Return a function's result for each frame of recordings: (examples, 49, 24, 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(x, FRAME, axis=1)[:, ::HOP]
    return features(frames.reshape(-1, FRAME)).reshape(len(x), -1, BANDS, 1)
