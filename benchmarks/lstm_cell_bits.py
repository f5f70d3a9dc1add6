"""What 8 bits cost an LSTM whose cell remembers long: each rounding of the int8 step by itself.

    python benchmarks/lstm_cell_bits.py

NumPy alone: 16 units, 4 inputs, random weights, five seeds; ranges are those of the run.
The script prints the mean error of the last state as a fraction of its spread.
"""

import argparse
import json

import numpy as np

UNITS, INPUTS, EXAMPLES = 16, 4, 64


def rounded(values, ends, levels=256):
    """Round over a range with zero in it, to so many levels."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    scale = (high - low) / (levels - 1)
    return np.clip(np.round(values / scale), np.round(low / scale), np.round(high / scale)) * scale


def sigmoid(x):
    """Return the logistic function."""
    return 1.0 / (1.0 + np.exp(-x))


def lstm(x, weights, ranges=None, parts=(), cell_levels=256):
    """Run the layer; return its last state and the ranges of sums, cell and state.

    Args:
        x: Examples (n, steps, inputs).
        weights: Kernel, recurrent kernel and bias, gates in Keras's order.
        ranges: As returned, of a run without rounding.
        parts: What is rounded: some of `"weights"`, `"sums"`, `"gates"`, `"cell"`, `"state"`.
        cell_levels: To how many levels the cell is.
    """
    kernel, recurrent, bias = weights
    if "weights" in parts:
        scales = [np.abs(one).max(0) / 127 for one in (kernel, recurrent)]
        kernel, recurrent = (
            np.round(one / scale) * scale
            for one, scale in zip((kernel, recurrent), scales, strict=True)
        )
    h = c = np.zeros((len(x), UNITS))
    seen = {"sums": [], "cell": [], "state": []}
    for t in range(x.shape[1]):
        sums = x[:, t] @ kernel + h @ recurrent + bias
        seen["sums"].append(sums)
        if "sums" in parts:
            sums = rounded(sums, ranges["sums"])
        i, f, g, o = np.split(sums, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        if "gates" in parts:
            i, f, o, g = (
                *(np.round(one * 256) / 256 for one in (i, f, o)),
                np.round(g * 128) / 128,
            )
        c = f * c + i * g
        seen["cell"].append(c)
        if "cell" in parts:
            c = rounded(c, ranges["cell"], cell_levels)
        shown = np.round(np.tanh(c) * 128) / 128 if "gates" in parts else np.tanh(c)
        h = o * shown
        seen["state"].append(h)
        if "state" in parts:
            h = rounded(h, ranges["state"])
    return h, {name: (np.min(values), np.max(values)) for name, values in seen.items()}


def errors(forget: float, steps: int, seed: int) -> dict:
    """Return the error that each rounding makes by itself, and all of them."""
    rng = np.random.default_rng(seed)
    kernel = 0.4 * rng.normal(size=(INPUTS, 4 * UNITS))
    bias = np.zeros(4 * UNITS)
    bias[UNITS : 2 * UNITS] = forget
    weights = kernel, 0.2 * rng.normal(size=(UNITS, 4 * UNITS)), bias
    x = rng.normal(size=(EXAMPLES, steps, INPUTS))
    want, ranges = lstm(x, weights)

    def error(*parts, **kwargs):
        return np.abs(lstm(x, weights, ranges, parts, **kwargs)[0] - want).mean() / want.std()

    every = "weights", "sums", "gates", "cell", "state"
    found = {part: error(part) for part in every}
    return found | {"all": error(*every), "all, 16-bit cell": error(*every, cell_levels=65536)}


def main():
    """Print a line for each length and forget bias."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for steps in (50, 200):
        for forget in (1.0, 3.0, 5.0, 7.0):
            found = [errors(forget, steps, seed) for seed in range(5)]
            mean = {
                name: round(float(np.mean([row[name] for row in found])), 4) for name in found[0]
            }
            print(json.dumps({"steps": steps, "forget bias": forget, **mean}))


if __name__ == "__main__":
    main()
