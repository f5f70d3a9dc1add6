"""A small detector, distilled on both heads: classes and boxes, int8, decoded in NumPy.

python examples/detection.py
python examples/detection.py --data mine.npz --seeds 3
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from detection_boxes import STRIDE, average_precision, check_boxes, targets
from digit_canvases import canvases
from labelled_data import check_numbers, count_classes, read_npz, scaled

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify

LAYOUT = """Expected: an .npz file with x (examples, height, width, channels),
boxes (examples, most, 4), x1 y1 x2 y2 in pixels, and classes (examples, most), -1 for no box:
np.savez("mine.npz", x=np.zeros((90, 40, 40, 1)), boxes=np.tile([2, 3, 12, 20], (90, 4, 1)),
classes=np.zeros((90, 4), int))"""


def load(options):
    """Return canvases, boxes and classes of the training and the test part."""
    if not options.data:
        few = (300, 100) if options.quick else (1500, 500)
        return [canvases(n, part)[:3] for n, part in zip(few, ("train", "test"), strict=True)]
    x, boxes, classes = read_npz(options.data, "x", "boxes", "classes")
    if x.ndim != 4 or classes.ndim != 2 or boxes.shape != (len(x), classes.shape[1], 4):
        raise tfkd.InputError(f"The shapes are {x.shape}, {boxes.shape} and {classes.shape}.")
    if len(classes) != len(x) or classes.dtype.kind not in "iu":
        raise tfkd.InputError(f"The classes are {classes.dtype} of shape {classes.shape}.")
    if x.shape[1] % STRIDE or x.shape[2] % STRIDE:
        raise tfkd.InputError(f"The images have {x.shape[1]} x {x.shape[2]} pixels.")
    check_numbers(x)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.split(order, [4 * len(x) // 5])
    count_classes(*(classes[part][classes[part] >= 0] for part in (train, test)), least=1)
    check_boxes(boxes[classes >= 0], *x.shape[1:3])
    both = zip(scaled(x[train], x[test]), (train, test), strict=True)
    return [(pixels, boxes[part].astype("float32"), classes[part]) for pixels, part in both]


def detector(shape, widths, classes):
    layers = keras.layers
    image = x = keras.Input(shape, name="image")
    for i, width in enumerate(widths):
        x = layers.Conv2D(width, 3, 2 if i < 2 else 1, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    heads = {"classes": layers.Conv2D(classes + 1, 1, name="classes")(x)}
    heads["boxes"] = layers.Conv2D(4, 1, name="boxes")(x)
    return keras.Model(image, heads)


def fit(model, x, labels, epochs, learning_rate, teacher=None):
    """Train a model of Keras 3 or tf_keras, under a teacher if there is one, on both heads."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher)  # heads are bound by their names
    y, is_object = labels
    weights = {"classes": 1 + 4 * is_object, "boxes": is_object}  # most cells have no object
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 16))
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(decay), {"classes": hard, "boxes": "mae"})
    model.fit(x, y, sample_weight=weights, epochs=epochs, batch_size=16, verbose=0)


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it digits are put on canvases")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("detection"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        (x, *truth), (x_test, *test_truth) = load(options)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    labels, classes = targets(x, *truth), int(truth[1].max()) + 1
    print(f"{len(x)} images to train on, {len(x_test)} to test on; average precision in %")
    teaching, epochs, rate = (12, 16, 1e-2) if options.quick else (15, 25, 3e-3)
    widths = {"teacher": (16, 24, 24, 24) if options.quick else (32, 64, 64, 64, 64)}
    gains = []
    for seed in range(options.seeds):
        models, scores = {}, {}
        for name in ("teacher", "student alone", "distilled"):
            keras.utils.set_random_seed(seed)
            models[name] = detector(x.shape[1:], widths.get(name, (8, 16, 16, 16)), classes)
            taught_by = models["teacher"] if name == "distilled" else None
            fit(models[name], x, labels, teaching if name in widths else epochs, rate, taught_by)
            answers = models[name].predict(x_test, verbose=0)
            scores[name] = average_precision(answers, *test_truth)
        print(f"seed {seed}", *(f"{name} {score:.1f}" for name, score in scores.items()), sep="   ")
        gains.append(scores["distilled"] - scores["student alone"])
    print(f"gain by the teacher {np.mean(gains):+.1f} ± {np.std(gains, ddof=len(gains) > 1):.1f}")

    qat = tfkd.quantize_aware(models["distilled"])
    fit(qat, x, labels, 2 if options.quick else 5, 3e-4, models["teacher"])
    file = to_tflite(qat, "int8", micro=True)
    result = verify(file, qat, x_test)
    print(file.describe(), result, sep="\n")
    print(f"int8 file   {average_precision(file.predict(x_test), *test_truth):.1f}")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        print(micro_bundle(file, options.out / "firmware", "student", x=x_test[:100], force=True))
    return result


if __name__ == "__main__":
    main()
