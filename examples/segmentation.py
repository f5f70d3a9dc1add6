"""A small U-Net labels pixels, some of which are void: taught pixel by pixel or by channel, int8.

python examples/segmentation.py
python examples/segmentation.py --data mine.npz --seeds 3
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from digit_canvases import VOID, canvases
from labelled_data import check_numbers, count_classes, read_npz, scaled

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify

LAYOUT = """Expected: an .npz file with x (examples, height, width, channels), sides multiples of 4,
and y (examples, height, width), class numbers, -1 for void:
np.savez("mine.npz", x=np.zeros((90, 40, 40, 1)), y=np.random.randint(-1, 3, (90, 40, 40)))"""


def load(options):
    """Return images and the labels of their pixels, of the training and the test part."""
    if not options.data:
        few = (200, 100) if options.quick else (1000, 300)
        both = [canvases(n, part) for n, part in zip(few, ("train", "test"), strict=True)]
        most = 1 if options.quick else 10  # all digits are one class, where time is short
        return [(x, np.minimum(pixels, most)) for x, _, _, pixels in both]
    x, y = read_npz(options.data, "x", "y")
    if x.ndim != 4 or y.shape != x.shape[:3] or y.dtype.kind not in "iu":
        raise tfkd.InputError(f"x has the shape {x.shape}, y {y.shape} and {y.dtype}.")
    if x.shape[1] % 4 or x.shape[2] % 4:
        raise tfkd.InputError(f"The images have {x.shape[1]} x {x.shape[2]} pixels.")
    check_numbers(x)
    order, y = np.random.default_rng(0).permutation(len(x)), y.astype("int32")
    train, test = np.split(order, [4 * len(x) // 5])
    count_classes(*(y[part][y[part] != VOID] for part in (train, test)))
    return list(zip(scaled(x[train], x[test]), (y[train], y[test]), strict=True))


def unet(shape, width, classes):
    layers = keras.layers

    def convolutions(x, filters, count=2):
        for _ in range(count):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        return x

    image = keras.Input(shape, name="image")
    fine = convolutions(image, width, 1)
    middle = convolutions(layers.MaxPooling2D()(fine), 2 * width)
    x = convolutions(layers.MaxPooling2D()(middle), 4 * width)
    x = layers.Concatenate()([layers.UpSampling2D()(x), middle])
    x = layers.UpSampling2D()(convolutions(x, 2 * width))
    x = convolutions(layers.Concatenate()([x, fine]), width, 1)
    return keras.Model(image, layers.Conv2D(classes, 1, name="logits")(x))


#: Ways of teaching: what a distiller is told beside student and teacher.
WAYS = {
    "pixel by pixel": {},
    "by channel": {
        "soft_loss": None,
        "features": [tfkd.losses.ChannelWise("logits", "logits")],
    },
}


def fit(model, x, y, epochs, learning_rate, teacher=None, way="pixel by pixel"):
    """Train a model of Keras 3 or tf_keras; void pixels learn from the teacher, if anything."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher, unlabeled=VOID, **WAYS[way])
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 16))
    model.compile(package.optimizers.Adam(decay), hard)
    weights = np.where(y > 0, 4.0, 1.0).astype("float32")  # most pixels are paper
    model.fit(x, y, sample_weight=weights, epochs=epochs, batch_size=16, verbose=0)


def mean_iou(answers, y):
    """Return the mean over classes of intersection over union, in %, without void pixels."""
    counts, said = y != VOID, answers.argmax(-1)
    classes = answers.shape[-1]
    pairs = np.bincount(y[counts] * classes + said[counts], minlength=classes**2)
    table = pairs.reshape(classes, classes)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return 100 * float((table.diagonal() / np.maximum(union, 1))[union > 0].mean())


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it digits are put on canvases")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("segmentation"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        (x, y), (x_test, y_test) = load(options)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    classes, epochs, rate = int(y.max()) + 1, 15, 5e-3
    if options.quick:
        epochs, rate = 5, 1e-2
    print(f"{len(x)} images to train on, {len(x_test)} to test on, {(y == VOID).mean():.1%} of the "
          "pixels void; mean IoU on test in %")  # fmt: skip
    ways = list(WAYS)[: 1 if options.quick else None]
    gains = {way: [] for way in ways}
    for seed in range(options.seeds):
        models, scores = {}, {}
        for name in ("teacher", "student alone", *ways):
            keras.utils.set_random_seed(seed)
            width = (8 if options.quick else 16) if name == "teacher" else 4 if options.quick else 8
            models[name] = unet(x.shape[1:], width, classes)
            taught_by = (models["teacher"], name) if name in ways else ()
            fit(models[name], x, y, epochs, rate, *taught_by)
            scores[name] = mean_iou(models[name].predict(x_test, verbose=0), y_test)
        print(f"seed {seed}", *(f"{name} {score:.1f}" for name, score in scores.items()), sep="   ")
        for way in ways:
            gains[way].append(scores[way] - scores["student alone"])
    for way, each in gains.items():
        spread = np.std(each, ddof=len(each) > 1)
        print(f"gain by the teacher, {way} {np.mean(each):+.1f} ± {spread:.1f}")

    qat = tfkd.quantize_aware(models["pixel by pixel"])
    fit(qat, x, y, 2 if options.quick else 4, 3e-4, models["teacher"])
    file = to_tflite(qat, "int8", micro=True)
    result = verify(file, qat, x_test)
    print(file.describe(), result, sep="\n")
    print(f"int8 file   {mean_iou(file.predict(x_test), y_test):.1f}")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        print(micro_bundle(file, options.out / "firmware", "student", x=x_test[:50], force=True))
    return result


if __name__ == "__main__":
    main()
