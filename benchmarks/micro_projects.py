"""Four nets as projects of every kind, what our part takes on Cortex-M, and the golden examples.

    python benchmarks/micro_projects.py OUT [--tflm FOLDER --library FILE]

OUT/KIND/NET are the projects. Sizes are from `make size` with arm-none-eabi-g++, against
`--tflm` or else the tests' declarations of TensorFlow Lite for Microcontrollers. With `--library`
the golden examples run on this computer.
"""

import argparse
import pathlib
import re
import subprocess

import keras
import numpy as np

from tfkd import quantize_aware
from tfkd.export import micro_bundle, to_tflite
from tfkd.export.micro.project import KINDS
from tfkd.quantization.post_training import calibrate

STUB = pathlib.Path(__file__).parents[1] / "tests/data/tflm_stub"
BOARDS = {"esp-idf": "esp32-s3-devkitc-1", "stm32": "nucleo-g474re", "cmake": None}
CORES = {
    "M0+": "-mcpu=cortex-m0plus -mthumb",
    "M4F": "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16",
    "M7": "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16",
    "M55": "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
}


def cnn():
    """Return a small CNN of images."""
    i = keras.Input((16, 16, 3))
    y = keras.layers.Conv2D(8, 3, 2, activation="relu")(i)
    y = keras.layers.Conv2D(12, 3, 2, activation="relu")(y)
    return keras.Model(i, keras.layers.Dense(5, activation="softmax")(keras.layers.Flatten()(y)))


def ds_cnn():
    """Return a small DS-CNN of spectrograms."""
    i = keras.Input((24, 10, 1))
    y = keras.layers.Conv2D(16, (5, 4), 2, "same", activation="relu")(i)
    for _ in range(2):
        y = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(y)
        y = keras.layers.Conv2D(16, 1, activation="relu")(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(i, keras.layers.Dense(6, activation="softmax")(y))


def recurrent(layer):
    """Return a recurrent net of series."""
    i = keras.Input((12, 5))
    return keras.Model(i, keras.layers.Dense(3)(layer(10)(i)))


def nets():
    """Yield the name, file and examples of each net; their weights are random."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.random((40, 16, 16, 3)).astype("float32")
    yield "cnn", to_tflite(cnn(), "int8", x, micro=True), x
    x = rng.random((40, 24, 10, 1)).astype("float32")
    # TensorFlow Lite's reference kernels, which a bundle is compared with, lack 4-bit depthwise.
    four = calibrate(quantize_aware(ds_cnn(), bits={"conv2d.*": 4, "dense.*": 4}), x)
    yield "ds_cnn_4", to_tflite(four, "int8", micro=True), x
    x = rng.normal(size=(40, 12, 5)).astype("float32")
    lstm, gru = recurrent(keras.layers.LSTM), recurrent(keras.layers.GRU)
    yield "lstm", to_tflite(lstm, "int8", x, recurrent="fused", micro=True), x
    yield "gru", to_tflite(gru, "int8", x, recurrent="step", micro=True), x


def make(folder, target, **variables):
    """Run make in a project and return what it says."""
    words = [f"{key}={value}" for key, value in variables.items()]
    command = ["make", target, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def main():
    """Write the projects and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tflm", type=pathlib.Path, default=STUB)
    parser.add_argument("--library", type=pathlib.Path)
    options = parser.parse_args()
    print(f"| net | file | arena | array | golden | {' | '.join(CORES)} | golden example |")
    print("|---|---|---|---|---|" + "---|" * len(CORES) + "---|")
    for name, file, x in nets():
        for kind in KINDS:
            folder = options.out / kind / name
            board = BOARDS.get(kind, "nano-33-ble-sense")
            bundle = micro_bundle(file, folder, name, x=x, project=kind, board=board)
        project, sizes = options.out / "cmake" / name, {}
        for core, flags in CORES.items():
            told = make(
                *(project, "size"),
                **{"TFLM": options.tflm, "CROSS": "arm-none-eabi-", "FLAGS": flags},
                BUILD=f"build_{core}",
            )
            rows = re.findall(r"^ *(\d+)\s.*/(\w+)\.o$", told, re.MULTILINE)
            sizes[core] = {part.removeprefix(f"{name}_"): int(text) for text, part in rows}
        ran = "not run"
        if options.library:
            told = make(project, "golden", TFLM=options.tflm, TFLM_LIBRARY=options.library)
            ran = "holds"
        of_m4 = sizes["M4F"]
        numbers = [file.size, bundle.arena_bytes, of_m4["model"], of_m4["golden"]]
        numbers += [of_core["infer"] for of_core in sizes.values()]
        print(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} | {ran} |")


if __name__ == "__main__":
    main()
