"""What weights of 4 bits cost: float, int8, and 4 bits without training, trained, and taught.

    python benchmarks/four_bits.py run --out RESULTS [--tasks ...] [--data DIR] [--seeds 0 1 2]
    python benchmarks/four_bits.py table --out RESULTS
    python benchmarks/four_bits.py recipes --out OTHER --tasks tiny keywords --data DIR

`recipes` trains 4 bits in several ways, from the same float model for the same extra epochs: from
which weights, under which teacher and loss, at which rate, and by way of 8 bits.

A float model is trained; all others start from its weights. int8 and 4 bits are trained quantize-
aware for the same extra epochs, with the same batches and learning rate, without the teacher (QAT)
and under it (QAD, tfkd's default for this stage); "nearest" and "gptq" are calibrated on 300
examples and not trained; "no labels" goes on from gptq, taught by the float model itself; "mixed"
is taught with the bits that `choose_bits` takes for 0.6 of the int8 file's bytes, and left out
where no choice is that small. Accuracies are those of the files on the test split, run by XNNPACK,
after the last epoch. The arena is the least in which TFLM's host build runs the file; the time is
the ratio to int8 of one interleaved benchmark in XNNPACK.

DIR holds spoken_digits.npz, japanese_vowels/ and cifar10.npz; `digits` and `tiny` need none.
"""

import argparse
import json
import pathlib
import types

import keras
import micro_nets
import numpy as np
import qat_accuracy
import tensorflow as tf
import tf_keras
from distiller_quality import shown

import tfkd
from tfkd import export
from tfkd.errors import InputError, TfkdError
from tfkd.export.micro import evaluation
from tfkd.quantization import calibrate


def wide_recurrent(kind, width):
    build = qat_accuracy.recurrent(kind)
    return build, width, build, 2 * width


TASKS = {
    **{name: qat_accuracy.TASKS[name] for name in ("digits", "tiny", "keywords", "gru", "lstm")},
    # Students of 30,000 to 80,000 weights, which are most of their files.
    "digits-wide": (
        "digits",
        qat_accuracy.cnn,
        (32, 48, 64),
        qat_accuracy.cnn,
        (64, 96, 128),
        40,
        10,
    ),
    "keywords-wide": (
        "spoken",
        lambda shape, classes, width: qat_accuracy.ds_cnn(shape, classes, width, blocks=4),
        *(80, qat_accuracy.cnn, (32, 64, 96), 40, 10),
    ),
    "gru-wide": ("vowels", *wide_recurrent(keras.layers.GRU, 96), 60, 15),
    "lstm-wide": ("vowels", *wide_recurrent(keras.layers.LSTM, 96), 60, 15),
    "resnet8": ("cifar", lambda shape, *_: resnet_8(shape), 0, None, 0, 20, 5),
}
RATE = 1e-3
SHARE = 0.6
PARTS = "train", "test"
COLUMNS = "bytes", "of int8", "arena", "time"


def resnet_8(shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, micro_nets.resnet_8(inputs))
    model.layers[-1].activation = keras.activations.linear  # logits, as those of the other tasks
    return model


def load(name, options, seed):
    if name == "cifar":
        with np.load(options.data / "cifar10.npz") as file:
            images = {part: file[f"x_{part}"].astype("float32") / 127.5 - 1 for part in PARTS}
            return [tfkd.Samples(images[part], file[f"y_{part}"].ravel()) for part in PARTS]
    folders = types.SimpleNamespace(
        spoken=options.data / "spoken_digits.npz", vowels=options.data / "japanese_vowels"
    )
    return qat_accuracy.load(name, folders, seed)


def prepared(task, options, seed):
    """Return training and test data, the float model, its teacher, and examples to calibrate."""
    name, student_of, width, teacher_of, wide, epochs, _ = TASKS[task]
    train, test = load(name, options, seed)
    shape, classes = train.x.shape[1:], int(train.y.max()) + 1
    keras.utils.set_random_seed(200 + seed)
    model = student_of(shape, classes, width)
    qat_accuracy.fit(model, train, epochs, 3e-3, seed)
    teacher = model
    if teacher_of is not None:
        keras.utils.set_random_seed(100 + seed)
        teacher = teacher_of(shape, classes, wide)
        qat_accuracy.fit(teacher, train, epochs, 3e-3, seed)
    examples = train.x[np.random.default_rng(seed).permutation(len(train))[:300]]
    return train, test, model, teacher, examples


def run(task, options, seed) -> dict:
    """Return accuracy, bytes and arena of each file, and the ratios of their times."""
    extra = TASKS[task][6]
    train, test, model, teacher, examples = prepared(task, options, seed)
    recurrent = options.recurrent if TASKS[task][0] == "vowels" else "auto"
    found, files = {"float": {"accuracy": keras_accuracy(model, test)}}, {}

    def note(label, qat):
        file = export.to_tflite(qat, "int8", examples, recurrent=recurrent)
        assert file.integer_only
        files[label] = file
        found[label] = {
            "accuracy": qat_accuracy.accuracy(file.predict, test),
            "bytes": file.size,
            "four_bit_weights": file.four_bit_weights,
            "arena": arena(file),
        }
        print(f"{task} {seed} {label}: {found[label]}", flush=True)

    def trained(bits, taught):
        tf_keras.utils.set_random_seed(seed)
        qat = tfkd.quantize_aware(model, bits=bits)
        learner = tfkd.Distiller(qat, teacher) if taught else qat
        qat_accuracy.fit(learner, train, extra, options.rate, seed, tf_keras)
        return qat

    for rounding in ("nearest", "gptq"):
        qat = tfkd.quantize_aware(model, bits=4)
        note(f"4 bits, {rounding}", calibrate(qat, examples, rounding=rounding))
    for label, bits in (("int8", 8), ("4 bits", 4)):
        for way in ("QAT", "QAD"):
            note(f"{label}, {way}", trained(bits, way == "QAD"))
    note("4 bits, no labels", unlabelled(model, train.x, extra, options.rate, seed))
    try:
        wanted = {"bytes": round(SHARE * found["int8, QAD"]["bytes"])}
        plan = tfkd.choose_bits(model, examples, wanted, recurrent=recurrent)
        note("mixed, QAD", trained(plan.bits, True))
    except InputError as error:
        found["mixed, QAD"] = {"refused": str(error)}
    several = {
        label: file for label, file in files.items() if label in ("int8, QAD", "4 bits, QAD")
    }
    timed = export.benchmark(several, baseline="int8, QAD")
    for ratio in timed.ratios:
        found[ratio.name]["time"] = [ratio.ratio, *ratio.ci95]
    return found


# Way of training 4 bits → bits in turns, rounding that it starts from, teacher, arguments of
# Distiller, learning rate.
KL = {"soft_loss": "kl", "alpha": 0.5}
RECIPES = {
    "QAT": ((4,), "nearest", None, {}, RATE),
    "QAT, from gptq": ((4,), "gptq", None, {}, RATE),
    "QAD": ((4,), "nearest", "large", {}, RATE),
    "QAD, from gptq": ((4,), "gptq", "large", {}, RATE),
    "QAD, the float model teaches": ((4,), "nearest", "own", {}, RATE),
    "QAD, kl, T 1": ((4,), "nearest", "large", KL | {"temperature": 1.0}, RATE),
    "QAD, kl, T 4": ((4,), "nearest", "large", KL | {"temperature": 4.0}, RATE),
    "QAD, kl, T 1, the float model teaches": (
        (4,),
        "nearest",
        "own",
        KL | {"temperature": 1.0},
        RATE,
    ),
    "the same, from gptq": ((4,), "gptq", "own", KL | {"temperature": 1.0}, RATE),
    "QAD, 8 bits, then 4": ((8, 4), "nearest", "large", {}, RATE),
    "QAD at 3e-4": ((4,), "nearest", "large", {}, 3e-4),
    "QAD at 3e-3": ((4,), "nearest", "large", {}, 3e-3),
}


def recipes(task, options, seed) -> dict:
    """Return the accuracy of the graph in 4 bits after each way of training."""
    extra = TASKS[task][6]
    train, test, model, teacher, examples = prepared(task, options, seed)
    teachers = {"large": teacher, "own": model}
    found = {"float": {"accuracy": keras_accuracy(model, test)}}
    for name, (turns, rounding, taught_by, arguments, rate) in RECIPES.items():
        now = model
        for bits in turns:
            tf_keras.utils.set_random_seed(seed)
            qat = calibrate(tfkd.quantize_aware(now, bits=bits), examples, rounding=rounding)
            learner = qat
            if taught_by is not None:
                learner = tfkd.Distiller(qat, teachers[taught_by], **arguments)
            qat_accuracy.fit(learner, train, extra // len(turns), rate, seed, tf_keras)
            now = tfkd.strip_quantization(qat, model)
        found[name] = {"accuracy": keras_accuracy(qat, test)}
        print(f"{task} {seed} {name}: {found[name]}", flush=True)
    return found


def unlabelled(model, x, epochs, rate, seed):
    """Return the copy in 4 bits that the float model itself taught, without labels."""
    tf_keras.utils.set_random_seed(seed)
    qat = calibrate(tfkd.quantize_aware(model, bits=4), x[:300], rounding="gptq")
    learner = tfkd.Distiller(qat, model, alpha=0.0, soft_loss="kl", temperature=1.0)
    schedule = tf_keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // 32))
    learner.compile(tf_keras.optimizers.Adam(schedule))
    learner.fit(x, batch_size=32, epochs=epochs, verbose=0)
    return qat


def keras_accuracy(model, test) -> float:
    return qat_accuracy.accuracy(lambda x: model.predict(x, batch_size=512, verbose=0), test)


def arena(file) -> int | None:
    try:
        return evaluation.least_arena(file)
    except TfkdError:
        return None


def run_all(options, measure):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for task in options.tasks:
            path = options.out / f"{task}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(task, options, seed), indent=1))
                keras.backend.clear_session()


def table(options):
    for task in TASKS:
        seeds = [
            json.loads(path.read_text()) for path in sorted(options.out.glob(f"{task}-[0-9]*.json"))
        ]
        if not seeds:
            continue
        base = "int8, QAD" if "int8, QAD" in seeds[0] else "QAT"
        whole = [one[base] for one in seeds]
        columns = ["", "accuracy", f"to {base}", *(COLUMNS if "bytes" in whole[0] else ())]
        print(f"\n{task}, {len(seeds)} seeds\n\n| {' | '.join(columns)} |")
        print("|---" * len(columns) + "|")
        for label in seeds[0]:
            rows = [(one[label], other) for one, other in zip(seeds, whole, strict=True)]
            rows = [(row, other) for row, other in rows if "accuracy" in row]
            if not rows:
                print(f"| {label} | {seeds[0][label]['refused']} |")
                continue
            gain = [100 * (row["accuracy"] - other["accuracy"]) for row, other in rows]
            cells = [f"{100 * np.mean([row['accuracy'] for row, _ in rows]):.2f}", shown(gain)]
            if "bytes" in rows[0][0]:
                size = np.mean([row["bytes"] for row, _ in rows])
                share = np.mean([row["bytes"] / other["bytes"] for row, other in rows])
                cells += [f"{size:,.0f}", f"{share:.2f}"]
                arenas = [row["arena"] for row, _ in rows]
                cells.append("–" if None in arenas else f"{np.mean(arenas):,.0f}")
                times = [row["time"][0] for row, _ in rows if "time" in row]
                cells.append(f"{np.mean(times):.2f}" if times else "")
            print(f"| {label} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "recipes", "table"])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--tasks", nargs="+", default=["digits", "tiny"], choices=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recurrent", default="auto")
    parser.add_argument(
        "--rate", type=float, default=RATE, help="of `run`, for all that is trained on"
    )
    options = parser.parse_args()
    if options.what == "table":
        table(options)
    else:
        run_all(options, {"run": run, "recipes": recipes}[options.what])


if __name__ == "__main__":
    main()
