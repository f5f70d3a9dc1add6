"""Does the teacher help? The demo over several seeds: teacher-less student against distilled.

    python benchmarks/demo_seeds.py --seeds 5 --out results.json

Each seed draws another split, other weights and another order. The last epoch counts.
"""

import argparse
import json
import pathlib
import statistics
import tempfile

from tfkd.compression import demo

NAMES = (
    "teacher",
    "baseline",
    "student",
    "student_qat",
    "student_float32",
    "student_float16",
    "student_int8",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    accuracy = {name: [] for name in NAMES}
    agreement = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            report = demo.run(folder, seed=seed).report
        for name in NAMES:
            accuracy[name].append(report.entry(name).metrics["accuracy"])
        agreement.append(report.entry("student_int8").parity["argmax_agreement"])
        print(f"seed {seed}: " + ", ".join(f"{n} {accuracy[n][-1]:.4f}" for n in NAMES), flush=True)
    for name, values in accuracy.items():
        print(f"{name:16} mean {statistics.mean(values):.4f}  std {statistics.stdev(values):.4f}")
    gains = [d - b for d, b in zip(accuracy["student"], accuracy["baseline"], strict=True)]
    print(
        f"distilled − baseline: mean {statistics.mean(gains):+.4f}, "
        f"std {statistics.stdev(gains):.4f}, by seed {[round(g, 4) for g in gains]}"
    )
    print(f"int8 file agrees with its QAT graph: {agreement}")
    if options.out:
        options.out.write_text(json.dumps({"accuracy": accuracy, "agreement": agreement}, indent=2))


if __name__ == "__main__":
    main()
