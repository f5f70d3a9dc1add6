"""Random graphs through quantization-aware training: refused before it, or right after it.

    python benchmarks/qat_graphs.py --seeds 0 40 --out results.json

Each graph shares, slices, concatenates and returns values in ways drawn at random (see
`tests/data/random_graphs.py`). It is made quantize-aware, trained for two epochs so that its
ranges are learned, and converted; the file's outputs are compared with the quantize-aware
graph's on both kernels, in steps of the output (LSB). With `--exact` also: the file in exact
arithmetic against the graph, and the reference kernels against exact arithmetic, each operation
on the same integers.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "data"))


def one(seed: int, exact: bool = False) -> dict:
    """Run one graph; return what was seen."""
    import tf_keras
    from random_graphs import graph_of, images_of

    import tfkd
    from tfkd.export import to_tflite

    x = images_of(seed)
    seen = {"seed": seed}
    try:
        qat = tfkd.quantize_aware(graph_of(seed))
    except tfkd.TfkdError as error:
        return {**seen, "result": "refused", "why": str(error)}
    y = [value + 0.5 for value in qat.predict(x, verbose=0)]
    qat.compile(tf_keras.optimizers.Adam(1e-3), "mse")
    qat.fit(x, y, epochs=2, batch_size=16, verbose=0)
    try:
        file = to_tflite(qat, "int8")
    except tfkd.TfkdError as error:
        return {**seen, "result": "LATE", "why": str(error)}
    want = qat.predict(x, verbose=0)
    for engine in ("reference", "xnnpack"):
        steps = [
            np.abs(a - b) / info.scale
            for a, b, info in zip(file.predict(x, engine=engine), want, file.outputs, strict=True)
        ]
        seen[f"{engine}_max"] = float(max(s.max() for s in steps))
        seen[f"{engine}_mean"] = float(max(s.mean() for s in steps))
    if exact:
        seen |= _exact(file, x, want)
    seen["operations"] = sum(file.ops.values())
    return {**seen, "result": "integers only" if file.integer_only else "FLOAT"}


def _exact(file, x, want) -> dict:
    import exact_arithmetic

    try:
        found = exact_arithmetic.compare(file, x)
    except NotImplementedError as error:
        return {"exact": f"no {error}"}
    steps = [
        np.abs(a - b).max() / info.scale
        for a, b, info in zip(found["outputs"], want, file.outputs, strict=True)
    ]
    return {"exact_max": float(max(steps)), "kernel_max": found["kernel_max"]}


def main():
    """Run a range of seeds and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 40), help="first and last + 1")
    parser.add_argument("--exact", action="store_true", help="compare with exact arithmetic, too")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file for the results")
    args = parser.parse_args()
    rows = []
    for seed in range(*args.seeds):
        rows.append(one(seed, args.exact))
        print(json.dumps(rows[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
