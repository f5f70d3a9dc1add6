"""The images of image_resnet.py, read and standardized; views of them to train on."""

import dataclasses

import tensorflow as tf
from labelled_data import parts_of

import tfkd
from tfkd.data import load_digits, load_npz

LAYOUT = """Expected: an .npz file with x (examples, height, width, channels) and y, class numbers:
np.savez("mine.npz", x=np.random.rand(90, 32, 32, 3), y=np.arange(90) % 10)"""


def load(path):
    """Return the three parts, standardized by the mean and the deviation of each channel."""
    data = load_digits() if path is None else load_npz(path)
    parts, _ = parts_of(data)
    x, shapes = parts[0][0], {x.shape[1:] for x, _ in parts}
    if x.ndim != 4 or len(shapes) > 1:
        raise tfkd.InputError(f"The examples have the shapes {sorted(shapes)}.")
    mean, std = x.mean((0, 1, 2)), x.std((0, 1, 2)) + 1e-6
    scaled = [tfkd.Samples(((x - mean) / std).astype("float32"), y) for x, y in parts]
    return dataclasses.replace(data, **dict(zip(data.parts, scaled, strict=True)))


def shifted_and_flipped(x):
    """Mirror half of the images, and shift the batch by up to four pixels."""
    mirror = tf.random.uniform((tf.shape(x)[0], 1, 1, 1)) < 0.5
    x = tf.pad(tf.where(mirror, x[:, :, ::-1], x), [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
    top, left = tf.unstack(tf.random.uniform((2,), 0, 9, tf.int32))
    return x[:, top : top + x.shape[1] - 8, left : left + x.shape[2] - 8]
