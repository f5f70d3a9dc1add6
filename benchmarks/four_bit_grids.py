"""4 bits without training: where the grid ends, and how weights are put on it.

    python benchmarks/four_bit_grids.py tiny digits --seeds 3
    python benchmarks/four_bit_grids.py keywords --spoken spoken_digits.npz --seeds 1

The float models are those of qat_accuracy.py. Each is calibrated on 300 training examples, with a
grid that ends at the largest weight and with a grid of the least squared error (tfkd's); with
weights rounded to the nearest place and by GPTQ. The script prints the accuracy of the graph on the
test split, and the mean Kullback-Leibler divergence of its answers from the float model's, in nats.
"""

import argparse
import pathlib

import keras
import numpy as np
import qat_accuracy
import tensorflow as tf

import tfkd
from tfkd.quantization import calibrate, quantizers

ENDS = {"largest weight": (1.0,), "least error": quantizers._SHARES}


def run(task, options, seed) -> dict[str, tuple[float, float]]:
    """Return accuracy in per cent and divergence of each way."""
    name, student_of, width, _, _, epochs, _ = qat_accuracy.TASKS[task]
    train, test = qat_accuracy.load(name, options, seed)
    keras.utils.set_random_seed(200 + seed)
    model = student_of(train.x.shape[1:], int(train.y.max()) + 1, width)
    qat_accuracy.fit(model, train, epochs, 3e-3, seed)
    examples = train.x[np.random.default_rng(seed).permutation(len(train))[:300]]
    wanted = model.predict(test.x, verbose=0)
    found = {"float": (100 * np.mean(wanted.argmax(-1) == test.y), 0.0)}
    for end, shares in ENDS.items():
        quantizers._SHARES = shares
        for rounding in ("nearest", "gptq"):
            qat = calibrate(tfkd.quantize_aware(model, bits=4), examples, rounding=rounding)
            got = qat.predict(test.x, verbose=0)
            of, other = tf.nn.log_softmax(wanted), tf.nn.log_softmax(got)
            far = tf.reduce_mean(tf.reduce_sum(tf.exp(of) * (of - other), -1))
            found[f"{end}, {rounding}"] = 100 * np.mean(got.argmax(-1) == test.y), float(far)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=list(qat_accuracy.TASKS))
    parser.add_argument("--spoken", type=pathlib.Path)
    parser.add_argument("--vowels", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for task in options.tasks:
        rows = [run(task, options, seed) for seed in range(options.seeds)]
        print(f"\n{task}, {options.seeds} seeds")
        for way in rows[0]:
            scores, far = np.mean([row[way] for row in rows], axis=0)
            print(f"  {way:28} {scores:6.2f} %  {far:.3f}", flush=True)


if __name__ == "__main__":
    main()
