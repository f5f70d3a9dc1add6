"""What the default of `Distiller` is worth on fourteen tasks, against no teacher and Hinton's KL.

    python benchmarks/distillation_default.py run --data DIR --out RESULTS [--tasks ...]
    python benchmarks/distillation_default.py table --out RESULTS

`run` trains what is not in RESULTS yet, a file per run, so it can be stopped, repeated, and started
twice at a time. In each seed all methods start from the same weights and see the same order; the
accuracy is that on the test split after the last epoch. `table` prints the paired differences to
the student without a teacher, their mean and 95 % t interval over the seeds. See
distillation_tasks.py for the tasks and what DIR holds.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import time

import distillation_tasks as tasks
import keras
import numpy as np
import tensorflow as tf
from distiller_quality import shown

import tfkd

#: Method → arguments of `Distiller`; `None` trains on the labels alone.
METHODS = {
    "alone": None,
    "default": {},
    "kl": {"alpha": 0.1, "temperature": 4.0, "soft_loss": "by task"},
    "kl 0.5/1": {"alpha": 0.5, "temperature": 1.0, "soft_loss": "by task"},
    "standardized": {"alpha": 0.1, "temperature": 2.0, "soft_loss": "standardized_kl"},
    "dist": {"alpha": 0.5, "temperature": 1.0, "soft_loss": "dist"},
    "dkd": {"alpha": 0.5, "temperature": 4.0, "soft_loss": "dkd"},
}
BY_TASK = {"categorical": "kl", "binary": "binary_kl", "multilabel": "binary_kl"}
BUDGETS = ("short", "long")


def run(name, quality, method, budget, seed, options) -> dict:
    """Train one student; return its scores."""
    task, parts = tasks.TASKS[name], tasks.data_of(name, options.data)
    (x, y), validation, test = parts
    arguments = METHODS[method]
    keras.utils.set_random_seed(5000 + seed)
    model = student = task.student(x.shape[1:])
    start = time.perf_counter()
    if arguments is not None:
        arguments = dict(arguments)
        if arguments.get("soft_loss") == "by task":
            arguments["soft_loss"] = BY_TASK.get(task.kind, "mse")
        answers = tasks.answers_of(name, quality, options.data, options.out)[0]
        logits = None if task.kind == "regression" else True
        model = tfkd.Distiller(
            student, answers, from_logits=logits, teacher_from_logits=logits, **arguments
        )
    epochs = task.budgets[BUDGETS.index(budget)] if budget in BUDGETS else int(budget)
    tasks.fit(model, x, y, task.kind, epochs, seed)
    return {
        "task": name, "teacher": quality, "method": method, "budget": budget, "seed": seed,
        "seconds": time.perf_counter() - start,
        "validation": tasks.score(task, _predict(student, validation[0]), validation[1]),
        "test": tasks.score(task, _predict(student, test[0]), test[1]),
    }  # fmt: skip


def _predict(model, x):
    return model.predict(x, batch_size=512, verbose=0)


def run_all(options):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.tasks:
            for quality in options.teachers:
                for method in options.methods:
                    if method in ("standardized", "dist", "dkd") and (
                        tasks.TASKS[name].kind != "categorical"
                    ):
                        continue
                    whose = "none" if METHODS[method] is None else quality
                    label = "-".join([name, whose, method, options.budget, str(seed)])
                    path = folder / f"{label.replace('/', ' ')}.json"
                    try:
                        os.close(os.open(f"{path}.claim", os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        continue
                    try:
                        found = run(name, whose, method, options.budget, seed, options)
                    except BaseException:
                        os.unlink(f"{path}.claim")
                        raise
                    path.write_text(json.dumps(found))
                    print(f"{label}: {found['test']:.2f} in {found['seconds']:.0f} s", flush=True)
                    keras.backend.clear_session()


def gains(rows, method, quality) -> dict[tuple[str, str], list[float]]:
    """Return the paired differences to training alone, by task and budget."""
    scores = {
        (r["task"], r["budget"], r["teacher"], r["method"], r["seed"]): r["test"] for r in rows
    }
    found: dict[tuple[str, str], list[float]] = {}
    for (task, budget, teacher, name, seed), score in sorted(scores.items()):
        alone = scores.get((task, budget, "none", "alone", seed))
        if name == method and teacher == quality and alone is not None:
            found.setdefault((task, budget), []).append(score - alone)
    return found


def table(options):
    rows = [json.loads(path.read_text()) for path in pathlib.Path(options.out).glob("*.json")]
    for quality in tasks.QUALITIES:
        methods = [m for m in METHODS if gains(rows, m, quality)]
        if not methods:
            continue
        print(f"\n{quality} teacher\n\n| task, budget | alone | {' | '.join(methods)} |")
        print("|---" * (len(methods) + 2) + "|")
        for budget in BUDGETS:
            for kind, names in (("tuned", tasks.TUNED), ("held out", tasks.HELD_OUT)):
                averages: dict[str, list[float]] = {}
                for name in names:
                    cells = [gains(rows, m, quality).get((name, budget)) for m in methods]
                    if not any(cells):
                        continue
                    alone = [
                        r["test"]
                        for r in rows
                        if (r["task"], r["budget"], r["method"]) == (name, budget, "alone")
                    ]
                    texts = ["–" if cell is None else shown(cell) for cell in cells]
                    print(f"| {name}, {budget} | {np.mean(alone):.2f} | {' | '.join(texts)} |")
                    for method, cell in zip(methods, cells, strict=True):
                        if cell is not None:
                            averages.setdefault(method, []).append(float(np.mean(cell)))
                if averages:
                    means = [
                        f"{np.mean(averages[m]):+.2f} ({sum(v > 0 for v in averages[m])} of "
                        f"{len(averages[m])} ahead)" if m in averages else "–"
                        for m in methods
                    ]  # fmt: skip
                    print(f"| **{kind}, {budget}** | | {' | '.join(means)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--data", default=".")
    parser.add_argument("--out", required=True)
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS), choices=tasks.TASKS)
    parser.add_argument("--teachers", nargs="+", default=["good"], choices=tasks.QUALITIES)
    parser.add_argument("--methods", nargs="+", default=["alone", "default", "kl"])
    parser.add_argument("--budget", default="short", help="short, long, or a number of epochs")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    options = parser.parse_args()
    (run_all if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()
