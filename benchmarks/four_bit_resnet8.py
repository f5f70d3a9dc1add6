"""ResNet-8 on CIFAR-10 in 4 bits, whole and pruned, trained as its papers train: SGD, augmented.

    python benchmarks/four_bit_resnet8.py --data cifar10.npz --out RESULTS [--seeds 0] [--epochs 8]

The float model is that of `pruning.py cifar` (20 epochs of SGD from 0.1, images mirrored and
shifted). int8 and 4 bits go on from it for `--epochs` of Adam from 1e-3 on the same stream,
quantize-aware, without a teacher (QAT) and under the float model (QAD). "pruned" is the spiral's
student by L1 with 0.55 of the parameters, taught by the float model for 3 + 12 epochs of SGD, then
quantize-aware likewise; "mixed" has the bits that `choose_bits` takes for 0.6 of the int8 file's
bytes. Accuracies are those of the files on the test split in XNNPACK after the last epoch. Runs
that are in RESULTS already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import pruning
import tf_keras

import tfkd
from tfkd import export
from tfkd.export.micro import evaluation
from tfkd.loading import models
from tfkd.quantization import calibrate

TASK = pruning.TASKS["cifar"]
SHARE = 0.6
PRUNED = {"target": {"parameters": 0.55}, "step": 0.3, "epochs": 1, "final_epochs": 12}


def pruned(model, data, seed, path):
    if path.exists():
        return models.load_model(path)
    found = tfkd.spiral(
        model, data, learning_rate=0.1, seed=seed, batch_size=TASK.batch_size, optimizer="sgd",
        augment=TASK.augment, alternatives=[], criterion="l1", round_to=4, **PRUNED,
    )  # fmt: skip
    found.model.save(path)
    return found.model


def quantized(model, teacher, bits, data, epochs, seed):
    """Return the quantize-aware copy of a model, trained for some epochs."""
    tf_keras.utils.set_random_seed(seed)
    qat = tfkd.quantize_aware(model, bits=bits)
    learner = qat if teacher is None else tfkd.Distiller(qat, teacher)
    steps = epochs * -(-len(data.train) // TASK.batch_size)
    rate = tf_keras.optimizers.schedules.CosineDecay(1e-3, steps)
    hard = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner.compile(tf_keras.optimizers.Adam(rate), hard)
    learner.fit(pruning.batches(TASK, data, seed), epochs=epochs, verbose=0)
    return qat


def measured(model, data, examples) -> dict:
    file = export.to_tflite(model, "int8", examples)
    assert file.integer_only
    right = file.predict(data.test.x).argmax(-1) == data.test.y
    return {
        "accuracy": float(right.mean()),
        "bytes": file.size,
        "four_bit_weights": file.four_bit_weights,
        "arena": evaluation.least_arena(file),
    }


def timed(model, examples) -> dict:
    """Return the ratio of the files' times, interleaved; it does not depend on the weights."""
    files = {
        name: export.to_tflite(calibrate(tfkd.quantize_aware(model, bits=bits), examples), "int8")
        for name, bits in (("int8", 8), ("4 bits", 4))
    }
    [ratio] = export.benchmark(files, baseline="int8").ratios
    return {"ratio": ratio.ratio, "ci95": ratio.ci95}


def run(data, seed, options):
    path = options.out / f"{seed}.json"
    found = json.loads(path.read_text()) if path.exists() else {}

    def note(name, measure):
        if name not in found:
            found[name] = measure()
            path.write_text(json.dumps(found, indent=1))
            print(seed, name, found[name], flush=True)

    examples = data.train.x[:300]
    model = pruning.teacher_of(TASK, data, seed, options.out / f"float-{seed}.keras")

    def in_float(which):
        right = which.predict(data.test.x, batch_size=512, verbose=0).argmax(-1) == data.test.y
        return {"accuracy": float(right.mean())}

    def trained(which, bits, teacher):
        return measured(quantized(which, teacher, bits, data, options.epochs, seed), data, examples)

    def rounded():
        qat = tfkd.quantize_aware(model, bits=4)
        return measured(calibrate(qat, examples, rounding="gptq"), data, examples)

    note("float", lambda: in_float(model))
    note("4 bits, gptq", rounded)
    note("4 bits, QAD", lambda: trained(model, 4, model))
    note("int8, QAT", lambda: trained(model, 8, None))
    note("4 bits, QAT", lambda: trained(model, 4, None))

    def mixed():
        target = {"bytes": round(SHARE * found["int8, QAT"]["bytes"])}
        return trained(model, tfkd.choose_bits(model, examples, target).bits, model)

    smaller = pruned(model, data, seed, options.out / f"pruned-{seed}.keras")
    note("pruned, float", lambda: in_float(smaller))
    note("pruned, 4 bits, QAD", lambda: trained(smaller, 4, model))
    note("mixed, QAD", mixed)
    note("time, 4 bits over int8", lambda: timed(model, examples))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = pruning.load("cifar", [options.data])
    for seed in options.seeds:
        run(data, seed, options)


if __name__ == "__main__":
    main()
