"""Which way of distilling is worth having: the same student, the same budget, several seeds.

    python benchmarks/distiller_quality.py digits --seeds 3
    python benchmarks/distiller_quality.py spoken --data spoken_digits.npz --seeds 3

`spoken` takes the Free Spoken Digit Dataset as `.npz` (x_train, y_train, x_test, y_test of
8 kHz recordings, zero-padded) and turns it into log spectrograms. The hyper-parameters are
the papers' defaults and were not tuned; the test split is looked at once, after the last
epoch.
"""

import argparse
import json
import pathlib
import statistics
import time

import keras
import numpy as np
from scipy import stats

import tfkd
from tfkd import data as tfkd_data
from tfkd import losses


def features(loss, **arguments):
    """Return arguments for the default loss and a feature loss at the last resolution."""
    return lambda student, teacher: {
        "features": losses.pair_layers(student, teacher, loss, **arguments)[-1:]
    }


# Method → arguments of Distiller, or a function of student and teacher that returns them; the
# papers' own settings where they give some.
METHODS = {
    "default": {},
    "kl (alpha 0.1, T 4)": {"soft_loss": "kl"},
    "kl (alpha 0.5, T 1)": {"soft_loss": "kl", "alpha": 0.5, "temperature": 1.0},
    "standardized (T 2)": {"soft_loss": "standardized_kl", "temperature": 2.0},
    "dkd (T 4, 1 : 8)": {"soft_loss": losses.DKD(), "temperature": 4.0, "alpha": 0.5},
    "dist (T 1)": {"soft_loss": losses.DIST(2.0, 2.0), "temperature": 1.0, "alpha": 0.5},
    "default and hints at each resolution": {"features": "auto"},
    "default and channel-wise (last)": features(losses.ChannelWise),
    "default and attention transfer (last)": features(losses.AttentionTransfer),
    "default and similarity (last)": features(losses.SimilarityPreserving),
    "default and relational (last)": features(losses.RelationalKD),
}


def cnn(shape, widths, dropout=0.0):
    layers = keras.layers
    inputs = x = keras.Input(shape)
    for i, width in enumerate(widths):
        stride = 2 if i else 1
        x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def spoken(path):
    """Return log spectrograms (32 frames × 32 bands) of the recordings, standardized."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}

    def features(waves):
        waves = np.asarray(waves, "float32")[:, :8000] / 32768
        waves = np.pad(waves, ((0, 0), (0, max(0, 8000 - waves.shape[1]))))
        frames = np.lib.stride_tricks.sliding_window_view(waves, 256, axis=1)[:, ::250][:, :32]
        power = np.abs(np.fft.rfft(frames * np.hanning(256), axis=-1)[..., :128])
        bands = power.reshape(*power.shape[:2], 32, 4).mean(-1)
        return np.log(bands + 1e-3).astype("float32")[..., None]

    train, test = features(arrays["x_train"]), features(arrays["x_test"])
    mean, std = train.mean(), train.std()
    return (
        tfkd.Samples((train - mean) / std, arrays["y_train"]),
        tfkd.Samples((test - mean) / std, arrays["y_test"]),
    )


def load(options, seed):
    if options.task == "digits":
        digits = tfkd_data.load_digits(seed)
        return digits.train, digits.test
    return spoken(options.data)


def fit(model, train, epochs, seed, smoothing=0.0):
    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(train) // 32)
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss, y = keras.losses.SparseCategoricalCrossentropy(from_logits=True), train.y
    if smoothing:
        loss, y = keras.losses.CategoricalCrossentropy(True, smoothing), np.eye(10)[train.y]
    model.compile(keras.optimizers.Adam(schedule), loss)
    model.fit(train.x, y, batch_size=32, epochs=epochs, verbose=0)


def shown(values) -> str:
    """Return the mean of paired differences, and its 95 % t interval over the seeds."""
    mean = np.mean(values)
    if len(values) < 2:
        return f"{mean:+.2f} (1 seed)"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean:+.2f} ± {half:.2f}"


def accuracy(model, test):
    return float(np.mean(model.predict(test.x, verbose=0).argmax(-1) == test.y))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["digits", "spoken"])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    wide, narrow = {"digits": ((32, 64, 128), (6, 8, 12)), "spoken": ((32, 64, 96), (6, 10, 14))}[
        options.task
    ]
    results: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        train, test = load(options, seed)
        shape = train.x.shape[1:]
        keras.utils.set_random_seed(100 + seed)
        teacher = cnn(shape, wide, dropout=0.3)
        fit(teacher, train, options.epochs, seed)
        results.setdefault("teacher", []).append(accuracy(teacher, test))
        keras.utils.set_random_seed(200 + seed)
        weights = cnn(shape, narrow).get_weights()

        def student(shape=shape, weights=weights):
            model = cnn(shape, narrow)
            model.set_weights(weights)
            return model

        def record(name, model, trained, smoothing=0.0, train=train, test=test, seed=seed):
            start = time.perf_counter()
            fit(trained, train, options.epochs, seed, smoothing)
            results.setdefault(name, []).append(accuracy(model, test))
            seconds = time.perf_counter() - start
            print(f"seed {seed}  {name:38} {results[name][-1]:.4f}  {seconds:.0f} s", flush=True)

        alone = student()
        record("student alone", alone, alone)
        smoothed = student()
        record("label smoothing 0.1, no teacher", smoothed, smoothed, 0.1)
        for name, arguments in METHODS.items():
            model = student()
            given = arguments(model, teacher) if callable(arguments) else arguments
            record(name, model, tfkd.Distiller(model, teacher, **given))
        if hasattr(keras, "distillation"):
            model = student()
            documented = keras.distillation.Distiller(
                teacher=teacher,
                student=model,
                distillation_losses=keras.distillation.LogitsDistillation(temperature=3.0),
            )
            record("keras.distillation, as documented", model, documented)
            teacher.trainable = True
    print(f"\n{options.task}, {options.seeds} seeds, {options.epochs} epochs, last epoch")
    for name, values in results.items():
        gain = shown(100 * (np.array(values) - results["student alone"]))
        print(f"  {name:34} {100 * statistics.mean(values):6.2f}  to alone {gain}  {values}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
