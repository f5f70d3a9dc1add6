"""What a teacher adds where an output has two classes: training alone, the default loss, and KL.

    python benchmarks/two_classes.py [--seeds 0 1 2]

`odd`: scikit-learn's digits, odd or even; `large`: 8 and 9 against the rest (a fifth); `pixels`:
the quick setting of examples/segmentation.py. Students have a few hundred weights (pixels: 7,000)
and are trained for seconds. The script prints accuracies (mean IoU for pixels) on the test part,
in per cent.
"""

import argparse
import pathlib
import sys

import keras
import numpy as np

import tfkd
from tfkd.data import load_digits

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))
import segmentation

WAYS = {"alone": None, "default": {}, "kl": {"soft_loss": "kl"}}


def pixels(seed):
    options = argparse.Namespace(data=None, quick=True)
    (x, y), test = segmentation.load(options)

    def trained(width, start, teacher, settings):
        keras.utils.set_random_seed(start)
        model = segmentation.unet(x.shape[1:], width, 2)
        segmentation.WAYS["this"] = settings
        segmentation.fit(model, x, y, 5, 1e-2, teacher, "this")
        return model

    def score(model):
        return segmentation.mean_iou(model.predict(test[0], verbose=0), test[1])

    return trained, score, 8, 4


def digits(seed, is_one):
    data = load_digits(seed=seed)
    labels = {part: is_one(getattr(data, part).y).astype("int64") for part in ("train", "test")}
    layers = keras.layers
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def trained(width, start, teacher, settings):
        keras.utils.set_random_seed(start)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(width, 3, activation="relu"),
                layers.Conv2D(2 * width, 3, strides=2, activation="relu"),
                layers.Flatten(),
                layers.Dense(2),
            ]
        )
        learner = model if teacher is None else tfkd.Distiller(model, teacher, **settings)
        learner.compile(keras.optimizers.Adam(3e-3), hard)
        learner.fit(data.train.x, labels["train"], epochs=15, verbose=0)
        return model

    def score(model):
        right = model.predict(data.test.x, verbose=0).argmax(-1) == labels["test"]
        return 100 * float(right.mean())

    return trained, score, 24, 3


TASKS = {
    "odd": lambda seed: digits(seed, lambda y: y % 2 == 1),
    "large": lambda seed: digits(seed, lambda y: y >= 8),
    "pixels": pixels,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    for task, prepare in TASKS.items():
        found = {name: [] for name in ("teacher", *WAYS)}
        for seed in options.seeds:
            trained, score, wide, narrow = prepare(seed)
            teacher = trained(wide, 50 + seed, None, None)
            found["teacher"].append(score(teacher))
            for name, settings in WAYS.items():
                taught_by = None if settings is None else teacher
                found[name].append(score(trained(narrow, seed, taught_by, settings)))
        for name, values in found.items():
            each = ", ".join(f"{value:.1f}" for value in values)
            print(f"{task:8} {name:8} {np.mean(values):.1f}   {each}", flush=True)


if __name__ == "__main__":
    main()
