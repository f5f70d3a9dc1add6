"""Canvases with handwritten digits, for detection.py and segmentation.py."""

import numpy as np
from scipy.ndimage import zoom

from tfkd.data import load_digits

SIZE, MOST = 40, 4  # pixels, digits on a canvas
INK, PAPER = 0.5, 0.15  # of what is between nobody can say whose it is
VOID = -1


def canvases(examples, part, seed=0):
    """Return canvases of scikit-learn's digits, each enlarged and placed where there is room.

    Args:
        examples: Number of canvases.
        part: `"train"`, `"validation"` or `"test"`: no digit is in two parts.
        seed: Seed of the canvases.

    Returns:
        Canvases (examples, 40, 40, 1) float32 in [0, 1]; boxes (examples, 4, 4), pixels x1, y1,
        x2, y2; their classes (examples, 4), -1 where there is no box; and a label for each
        pixel (examples, 40, 40): 0 paper, 1 to 10 the digits 0 to 9, -1 void.
    """
    rng, digits = np.random.default_rng(seed), getattr(load_digits(), part)
    x = np.zeros((examples, SIZE, SIZE), "float32")
    boxes, classes = np.zeros((examples, MOST, 4), "float32"), np.full((examples, MOST), -1)
    pixels = np.zeros((examples, SIZE, SIZE), "int32")
    for i in range(examples):
        for j in range(rng.integers(1, MOST + 1)):
            which = rng.integers(len(digits.x))
            digit = np.clip(zoom(digits.x[which, ..., 0], rng.uniform(1.1, 2.2), order=1), 0, 1)
            rows, columns = (np.flatnonzero(digit.max(axis) > PAPER) for axis in (1, 0))
            digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            height, width = digit.shape
            top, left = rng.integers(SIZE - height), rng.integers(SIZE - width)
            place = np.s_[i, top : top + height, left : left + width]
            if x[place].any():
                continue  # no room here: a canvas may have fewer
            x[place] = digit
            boxes[i, j] = left, top, left + width, top + height
            classes[i, j] = digits.y[which]
            ink = np.where(digit > PAPER, VOID, 0)
            pixels[place] = np.where(digit > INK, digits.y[which] + 1, ink)
    x = np.clip(x * rng.uniform(0.6, 1, (examples, 1, 1)) + rng.normal(0, 0.1, x.shape), 0, 1)
    return x[..., None].astype("float32"), boxes, classes, pixels
