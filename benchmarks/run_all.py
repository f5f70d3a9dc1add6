"""Every benchmark in one command: ratios of time with their history, and the accuracy runs.

    python benchmarks/run_all.py --quick --out RESULTS [--only steps export] [--check] [--record]
    python benchmarks/run_all.py --data DIR --out RESULTS        # hours to days

The ratios of time come from scripts whose contenders take turns; each ratio is within a round.
`--quick` runs only these scripts, in a few rounds (under ten minutes). Without it, all rounds run,
and then the accuracy runs of docs/results. The output of an accuracy run goes to RESULTS/NAME.txt;
a run whose output exists is not repeated. RESULTS/ratios.json holds the ratios of each round and
the machine that measured them. They are compared with the ratios of `--against OLD.json`, else with
the newest of benchmarks/history.json, by the quotient of the medians with its 95 % interval
(bootstrap over the rounds of both), which separates a change from noise. `--record` adds the run to
that history, which docs/results/history.md shows. `--check` exits with 1 if a ratio is beyond its
bound. The bounds are generous: they find a cost that is half as much again, on a busy machine.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable

import numpy as np

FOLDER = pathlib.Path(__file__).parent
HISTORY = FOLDER / "history.json"
#: Name → (command, rounds when quick, rounds in full).
TIMED = {
    "steps": ("distiller_cost.py --packages keras --times 5", 4, 12),
    "export": ("sandbox_overhead.py --samples 20", 6, 20),
    "first export": ("sandbox_overhead.py --fresh", 2, 7),
    "whole job": ("whole_job.py --student tiny", 1, 5),
    "whole job, ResNet-8": ("whole_job.py --student resnet8", 0, 3),
}


def _steps(over: str, *under: str) -> Callable:
    def ratios(found):
        clock = found["keras 5"]["cpu"]
        return np.array(clock[over]) / sum(np.array(clock[name]) for name in under)

    return ratios


def _warm_export(found):
    seconds = found["int8"]["seconds"]
    return np.divide(seconds["to_tflite"], seconds["plain"])


def _first_export(found):
    return np.divide(*([row[0] for row in found[name]] for name in ("to_tflite", "plain")))


def _whole_job(name: str) -> Callable:
    def ratios(found):
        return np.divide(
            *([run["cpu"] for run in found["seconds"][one]] for one in (name, "plain"))
        )

    return ratios


#: Ratio → (the run it is read from, how, the bound that `--check` holds it to).
RATIOS = {
    "a cached step over the student's own": ("steps", _steps("ours, cached", "student"), 1.5),
    "an uncached step over student and teacher": (
        "steps",
        _steps("ours", "student", "teacher"),
        1.4,
    ),
    "features over those of keras.distillation": (
        "steps",
        _steps("ours, features", "keras.distillation, features"),
        1.1,
    ),
    "to_tflite over the plain converter, warm": ("export", _warm_export, 2.5),
    "to_tflite over the plain converter, first": ("first export", _first_export, 2.0),
    "a whole training over the student's own": ("whole job", _whole_job("tfkd"), 1.6),
    "keras.distillation, likewise": ("whole job", _whole_job("keras.distillation"), None),
    "a whole training of ResNet-8": ("whole job, ResNet-8", _whole_job("tfkd"), None),
}

#: Name → command; DIR holds spoken_digits.npz, cifar10.npz and the rest that each script names.
ACCURACY = {
    "default": "distillation_default.py run --data DIR --out OUT",
    "methods-digits": "distiller_quality.py digits --seeds 5 --epochs 20",
    "methods-spoken": (
        "distiller_quality.py spoken --data DIR/spoken_digits.npz --seeds 5 --epochs 20"
    ),
    "soft-losses": "why_soft_losses_harm.py --seeds 3",
    "demo": "demo_seeds.py --seeds 5",
    "four-bits": "four_bits.py run --out OUT --data DIR --tasks digits tiny keywords",
    "four-bits-resnet8": "four_bit_resnet8.py --data DIR/cifar10.npz --out OUT",
    "recurrent": "recurrent_forms.py",
    "pruning": "pruning.py spoken --data DIR/spoken_digits.npz",
    "micro": "micro_nets.py",
    "kills": "kill_trials.py",
}


def environment() -> dict:
    packages = "tfkd", "tensorflow", "keras", "tf_keras", "ai-edge-litert", "numpy"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=FOLDER, capture_output=True, text=True
    )
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def interval(draw: Callable, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of what `draw` gives for a random generator."""
    rng = np.random.default_rng(seed)
    low, high = np.percentile([draw(rng) for _ in range(4000)], [2.5, 97.5])
    return float(low), float(high)


def change(new, old) -> tuple[float, float, float]:
    """Return the quotient of two medians and its interval; the rounds of the two are no pairs."""

    def draw(rng):
        return np.median(rng.choice(new, len(new))) / np.median(rng.choice(old, len(old)))

    return float(np.median(new) / np.median(old)), *interval(draw)


def timed(options) -> dict[str, list[float]]:
    """Run what is timed, and return the ratios of each round by name."""
    found = {}
    for name, (command, quick, rounds) in TIMED.items():
        if name not in options.only or (options.quick and not quick):
            continue
        path = options.out / f"{name}.json"
        rounds = quick if options.quick else rounds
        print(f"{name}: {command} --rounds {rounds}", flush=True)
        command = [*command.split(), "--rounds", str(rounds), "--out", str(path.resolve())]
        run = subprocess.run([sys.executable, *command], cwd=FOLDER, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"{name} failed:\n{run.stderr[-2000:]}")
        seconds = json.loads(path.read_text())
        for ratio, (of, read, _) in RATIOS.items():
            if of == name:
                found[ratio] = np.asarray(read(seconds), float).tolist()
    return found


def report(ratios, old) -> list[str]:
    """Print each ratio and how it changed; return those that are beyond their bounds."""
    beyond = []
    for name, values in ratios.items():
        bound = RATIOS[name][2]
        line = f"{name}: {np.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
        if bound is not None and np.median(values) > bound:
            beyond.append(name)
            line += f", beyond {bound}"
        if name in old:
            times, low, high = change(values, old[name])
            said = "no change that shows" if low <= 1 <= high else "changed"
            line += f"; {times:.2f} [{low:.2f}, {high:.2f}] times the old, {said}"
        print(line)
    return beyond


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", choices=TIMED, default=list(TIMED))
    parser.add_argument("--against", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if not options.quick and options.data is None:
        parser.error("give --quick, or --data DIR for the accuracy runs")
    history = json.loads(HISTORY.read_text())
    old = json.loads(options.against.read_text()) if options.against else history[-1]
    options.out.mkdir(parents=True, exist_ok=True)
    run = {"environment": environment(), "quick": options.quick, "ratios": timed(options)}
    (options.out / "ratios.json").write_text(json.dumps(run, indent=1))
    beyond = report(run["ratios"], old["ratios"])
    if options.record:
        HISTORY.write_text(json.dumps([*history, run], indent=1) + "\n")
    for name, command in {} if options.quick else ACCURACY.items():
        path, folder = options.out / f"{name}.txt", (options.out / name).resolve()
        if not path.exists():
            places = {"DIR": str(options.data.resolve()), "OUT": str(folder)}
            for place, to in places.items():
                command = command.replace(place, to)
            print(f"{name}: {command}", flush=True)
            run = subprocess.run(
                [sys.executable, *command.split()], cwd=FOLDER, capture_output=True, text=True
            )
            path.with_suffix(".txt" if run.returncode == 0 else ".failed").write_text(run.stdout)
    sys.exit(1 if options.check and beyond else 0)


if __name__ == "__main__":
    main()
