"""A ResNet for images: half of its work and bytes by the spiral, trained by SGD, then 8 and 4 bits.

python examples/image_resnet.py
python examples/image_resnet.py --data cifar10.npz --width 32 --seeds 3
"""

import argparse
import importlib.util
import pathlib
import sys

import numpy as np
import tf_keras
from resnet_images import LAYOUT, load, shifted_and_flipped
from tf_keras import layers

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify
from tfkd.loading.models import load_model
from tfkd.model.fingerprint import fingerprint

BATCH = 128


def resnet(shape, classes, width, blocks=1):
    """Return a ResNet of 6 · blocks + 2 layers (He et al. 2016, section 4.2)."""
    decay = tf_keras.regularizers.L2(2.5e-4)

    def conv(x, filters, stride=1, size=3):
        how = {"use_bias": False, "kernel_regularizer": decay}
        x = layers.Conv2D(filters, size, stride, "same", **how)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = tf_keras.Input(shape, name="image")
    x = layers.ReLU()(conv(inputs, width))
    for stage in range(3):
        for block in range(blocks):
            filters, stride = width * 2**stage, 2 if stage and not block else 1
            y = conv(layers.ReLU()(conv(x, filters, stride)), filters)
            x = x if stride == 1 else conv(x, filters, stride, 1)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, layers.Dense(classes, kernel_regularizer=decay)(x))


def fit(model, data, optimizer, rate, epochs, seed, augment, teacher=None):
    """Train a model, alone or under a teacher; the learning rate falls along a cosine."""
    learner = model if teacher is None else tfkd.Distiller(model, teacher)
    decay = tf_keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(data.train) // BATCH))
    momentum = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
    optimizer = {"adam": tf_keras.optimizers.Adam, "sgd": tf_keras.optimizers.SGD}[optimizer]
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner.compile(optimizer(decay, **momentum), loss)
    learner.fit(data.train.dataset(BATCH, seed=seed, augment=augment), epochs=epochs, verbose=0)


def accuracy(predict, part):
    answers, labels = part.answered(predict)
    return 100 * float(np.mean(answers.argmax(-1) == labels))


def place(name, data, options, *more):
    """Return where a run keeps something to continue from: other data or options go elsewhere."""
    settings = [data.train.x, data.train.y, options.width, options.epochs, *more]
    return options.out / f"{name}-{fingerprint(settings)[:8]}"


def teacher_of(data, seed, options, augment):
    """Return the teacher, and train it if it has not been trained before."""
    path = place(f"teacher-{seed}", data, options, augment is None).with_suffix(".keras")
    if path.exists():
        return load_model(path)
    tf_keras.utils.set_random_seed(seed)
    teacher = resnet(data.train.x.shape[1:], int(data.train.y.max()) + 1, options.width)
    fit(teacher, data, "sgd", 0.1, options.epochs, seed, augment)
    teacher.save(path)
    return teacher


def run(data, seed, options):
    """Print a row for each model and file of a seed; return the last verification."""
    augment = shifted_and_flipped if options.data else None  # no digit is another one's mirror
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": BATCH, "augment": augment}
    teacher = teacher_of(data, seed, options, augment)
    half = dict.fromkeys(("macs", "parameters", "bytes"), 0.5)
    held = [values for part in (data.validation, data.test) for values in (part.x, part.y)]
    found = tfkd.spiral(
        teacher, data, target=half, step=0.3, epochs=1, final_epochs=options.final_epochs,
        round_to=4, seed=seed,
        folder=place(f"spiral-{seed}", data, options, augment is None, options.final_epochs, *held),
        **sgd,
    )  # fmt: skip
    rows = {}
    for name, model, of in ("teacher", teacher, found.original), ("half", found.model, found.final):
        rows[name] = [accuracy(model.predict_on_batch, data.test), of.parameters, of.macs, of.bytes]
    for bits in (8, 4):
        tf_keras.utils.set_random_seed(seed)  # the same whether the teacher was there or not
        qat = tfkd.quantize_aware(found.model, bits=bits)
        fit(qat, data, "adam", 1e-3, 1 + options.final_epochs // 4, seed, augment, teacher)
        file = to_tflite(qat, "int8")
        file.save(options.out / f"student_{bits}_bits-{seed}.tflite")
        rows[f"half, {bits} bits"] = [accuracy(file.predict, data.test), "", "", file.size]
        verified = verify(file, qat, data.test.x[:1000], data.test.y[:1000])
        print(f"{bits} bits: {verified}")
    print(f"seed {seed}: {found.epochs} epochs after the teacher's {options.epochs}")
    for name, (score, *costs) in rows.items():
        print(f"| {name} | {score:.2f} | {' | '.join(str(one) for one in costs)} |")
    return file, verified


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it scikit-learn's digits are taken")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--epochs", type=int, default=20, help="of the teacher")
    parser.add_argument("--final-epochs", type=int, default=18, help="of the student")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("image_resnet"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    if options.quick:
        options.width, options.epochs, options.final_epochs = 8, 3, 1
    try:
        data = load(options.data)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        file, verified = run(data, seed, options)
    if importlib.util.find_spec("tflite_micro"):
        print(micro_bundle(file, options.out / "firmware", "student", x=data, force=True))
    return verified


if __name__ == "__main__":
    main()
