"""What keeping a teacher's answers costs: seconds and memory against the number of examples.

    python benchmarks/cache_scale.py                  # all parts, about half an hour
    python benchmarks/cache_scale.py scale --quick
    python benchmarks/cache_scale.py imagenet epoch

scale      asking, looking up and an epoch, from 62,500 examples to 1 M, in memory and on disk;
           R² of a line through the seconds; asking against the teacher's own `predict`
imagenet   a tenth of ImageNet, 128,000 × 1,000 logits: float16 and the 50 largest
epoch      an epoch with 10,000 classes, the 100 largest kept, against the same student without
           a teacher, with plain dense soft targets, and with the same loss of dense answers

Every row of the first two parts is a fresh process. Memory is the peak of its resident set during a
phase, minus the resident set before the first phase. Seconds are of the wall clock and, in
brackets, of the CPU. R² and ratios use CPU seconds; the runs of `epoch` take turns in one process.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BATCH = 256


def status(field: str) -> int:
    """Return a size that Linux reports of this process, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("This needs /proc/self/status of Linux.")


class Phases:
    """Seconds and peak memory of one phase after another."""

    def __init__(self):
        self.before = status("VmRSS")
        self.found = {}

    def run(self, name: str, function):
        """Call a function and note what it took."""
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        start, busy = time.perf_counter(), time.process_time()
        result = function()
        self.found[name] = {
            "seconds": time.perf_counter() - start,
            "cpu": time.process_time() - busy,
            "bytes": status("VmHWM") - self.before,
        }
        return result


def net(classes, width, seed):
    """Return a model of few operations."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(width, "relu")] if width else []
    return keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(classes)])


def row(n: int, classes: int, top_k: int | None, place: str, form: str) -> dict:
    """Ask about n examples, look all of them up, and train for one epoch.

    Args:
        n: Examples of 8 float32 numbers.
        classes: Logits of the teacher.
        top_k: As for `cache_teacher`.
        place: `"memory"` or `"disk"`.
        form: What is trained on: `"dataset"` or `"arrays"`.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    import tfkd

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 8)).astype("float32"), rng.integers(0, classes, n)
    teacher, student = net(classes, 0, 0), net(classes, 0, 1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = tfkd.Distiller(student, None, soft_loss="kl")
    distiller.compile(keras.optimizers.SGD(1e-3), loss)
    settings = {"task": "categorical", "dtype": "float16", "top_k": top_k}

    def data(rows):
        return tf.data.Dataset.from_tensor_slices((x[:rows], y[:rows])).batch(BATCH)

    # What is traced once is not what is measured.
    warm = tfkd.cache_teacher(x[: 4 * BATCH], teacher, **settings)
    if form == "dataset":
        distiller.fit(data(4 * BATCH), cache_teacher=warm, verbose=0)
    else:
        few = slice(4 * BATCH)
        distiller.fit(x[few], y[few], cache_teacher=warm, batch_size=BATCH, verbose=0)
    teacher.predict(x[:BATCH], batch_size=BATCH, verbose=0)
    dataset = data(n)
    phases = Phases()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "answers") if place == "disk" else None
        cache = phases.run("ask", lambda: tfkd.cache_teacher(x, teacher, path, **settings))
        if place == "disk":
            cache = phases.run("open", lambda: tfkd.TeacherCache.load(path))
            written = sum(file.stat().st_size for file in path.iterdir())
        if form == "dataset":
            attached = phases.run("attach", lambda: cache.attach(dataset))
            phases.run("look up", lambda: [None for _ in attached])
            phases.run("epoch", lambda: distiller.fit(attached, verbose=0))
        else:
            attached = phases.run("attach", lambda: cache.attach(x))
            phases.run("epoch", lambda: distiller.fit(attached, y, batch_size=BATCH, verbose=0))
        phases.run("predict", lambda: teacher.predict(x, batch_size=BATCH, verbose=0))
    found = {"n": n, "place": place, "form": form, "phases": phases.found}
    found["answers"] = round((cache.bytes_per_example - 16) * cache.size)
    return found | ({"written": written} if place == "disk" else {})


def in_a_process(**arguments) -> dict:
    """Return `row` of a fresh process."""
    command = [sys.executable, __file__, "--row", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def shown(found: dict) -> str:
    """Return a row of a table: answers, then seconds and MB of each phase."""
    parts = [
        f"{name} {one['seconds']:.2f} ({one['cpu']:.2f}) s {max(0, one['bytes']) / 1e6:.0f} MB"
        for name, one in found["phases"].items()
    ]
    answers = f"{found['answers'] / 1e6:.0f} MB of answers"
    return f"{found['n']:>9,} {found['place']:6} {found['form']:7} {answers}: " + ", ".join(parts)


def straight(counts, seconds) -> float:
    """Return R² of the line through points."""
    import numpy as np

    fitted = np.polyval(np.polyfit(counts, seconds, 1), counts)
    return 1 - np.var(np.array(seconds) - fitted) / np.var(seconds)


def scale(quick: bool) -> None:
    """Print seconds and memory against the number of examples."""
    counts = [10_000, 20_000, 40_000] if quick else [62_500, 125_000, 250_000, 400_000, 1_000_000]
    for place in ("memory", "disk"):
        rows = []
        for n in counts:
            rows.append(in_a_process(n=n, classes=10, top_k=None, place=place, form="dataset"))
            print(shown(rows[-1]), flush=True)
        for name in rows[0]["phases"]:
            if name == "attach":
                continue
            seconds = [one["phases"][name]["cpu"] for one in rows]
            print(f"  {name}: R² of the line {straight(counts, seconds):.4f}")
        for one in rows:
            ratio = one["phases"]["ask"]["cpu"] / one["phases"]["predict"]["cpu"]
            print(f"  asking / predict at {one['n']:,}: {ratio:.2f}", flush=True)


def imagenet(quick: bool) -> None:
    """Print what a tenth of ImageNet takes."""
    n = 12_800 if quick else 128_000
    for top_k in (None, 50):
        print(f"top_k={top_k}")
        for form in ("dataset", "arrays"):
            for place in ("memory", "disk"):
                found = in_a_process(n=n, classes=1000, top_k=top_k, place=place, form=form)
                written = f", {found['written'] / 1e6:.0f} MB written" if "written" in found else ""
                print(shown(found) + written, flush=True)


def epoch(quick: bool) -> None:
    """Print an epoch with 10,000 classes against its floors, in CPU seconds."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfkd

    n, classes, batch, rounds = 1024, 10_000, 128, 2 if quick else 7
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 8)).astype("float32"), rng.integers(0, classes, n)
    teacher = net(classes, 32, 0)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    cache = tfkd.cache_teacher(x, teacher, top_k=100, task="categorical")
    logits = teacher.predict(x, verbose=0)
    target = tf.nn.softmax(logits).numpy()
    warnings.simplefilter("ignore")  # the teacher is not trained

    def both(y_true, y_pred):
        labels = tf.cast(y_true[:, 0], tf.int32)
        hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, y_pred)
        soft = tf.nn.softmax_cross_entropy_with_logits(y_true[:, 1:], y_pred / 4.0)
        return 0.1 * hard + 0.9 * 16.0 * soft

    def fitter(model, loss, x, y, **more):
        model.compile(keras.optimizers.SGD(1e-3), loss)
        return lambda epochs: model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, **more)

    def student():
        return net(classes, 64, 1)

    labelled = np.concatenate([y[:, None], target], 1).astype("float32")
    dense = keras.losses.CategoricalCrossentropy(from_logits=True)
    contenders = {
        "alone": fitter(student(), sparse, x, y),
        "dense soft target": fitter(student(), dense, x, target),
        "labels and dense soft target": fitter(student(), both, x, labelled),
        "cached, soft_loss='kl'": fitter(
            tfkd.Distiller(student(), None, soft_loss="kl"), sparse, x, y, cache_teacher=cache
        ),
        "dense answers, soft_loss='kl'": fitter(
            tfkd.Distiller(student(), logits, soft_loss="kl", teacher_from_logits=True),
            sparse, x, y,
        ),
        "cached, default": fitter(
            tfkd.Distiller(student(), None), sparse, x, y, cache_teacher=cache
        ),
        "dense answers, default": fitter(
            tfkd.Distiller(student(), logits, teacher_from_logits=True), sparse, x, y
        ),
    }  # fmt: skip
    seconds = {name: [] for name in contenders}
    calls = {name: [] for name in contenders}
    for fit in contenders.values():
        fit(1)
    for _ in range(rounds):
        for name, fit in contenders.items():
            spent = []
            for epochs in (1, 4):
                start = time.process_time()
                fit(epochs)
                spent.append(time.process_time() - start)
            calls[name].append(spent[0])
            seconds[name].append((spent[1] - spent[0]) / 3)  # without what a call costs once
    for name, values in seconds.items():
        same = name.replace("cached", "dense answers")
        ratios = [
            f"{np.median(np.array(values) / seconds[other]):.2f} × {other}"
            for other in [*list(contenders)[:3], *([same] if same != name else [])]
        ]
        called = f"{np.median(values):.3f} s (a call of one epoch {np.median(calls[name]):.3f} s)"
        print(f"{name:30} {called}: {', '.join(ratios)}", flush=True)


PARTS = {"scale": scale, "imagenet": imagenet, "epoch": epoch}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--quick", action="store_true", help="a tenth of the examples")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(row(**json.loads(options.row))))
        return
    for name in options.parts or PARTS:
        print(f"-- {name}", flush=True)
        PARTS[name](options.quick)


if __name__ == "__main__":
    main()
