"""Stop every long command and call at random moments: is what it leaves whole or absent?

Each job runs twice undisturbed, which gives the time it takes and the files that repeat. Then it
runs again and again, and is stopped at a moment drawn from that time: by SIGKILL of the process,
or by SIGINT of its whole group, as Ctrl-C in a terminal. After each stop:

* what exists is whole: a file that repeats equals that of an undisturbed run, a folder has all of
  its files. Folders that hold a state to go on from are judged by the next run;
* no process that the job started is left, after ten seconds;
* Ctrl-C of a command ends it with status 130 and no traceback;
* the same command, run again, leaves the same files as an undisturbed run, and no others.

    python benchmarks/kill_trials.py                      # 10 moments for each signal and job
    python benchmarks/kill_trials.py export --moments 3
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "data"))

_TFKD = (sys.executable, "-m", "tfkd")
_SPIRAL = """
import sys, keras, tfkd
from tfkd.data import load_digits
keras.utils.set_random_seed(0)
tfkd.spiral(keras.models.load_model(sys.argv[1]), load_digits(seed=0), target={"parameters": 0.5},
            step=0.3, epochs=1, final_epochs=1, alternatives=("one_shot",), folder=sys.argv[2])
"""
_CACHE = """
import sys, keras, numpy as np, tfkd
x = np.random.default_rng(0).normal(size=(60000, 8, 8, 1)).astype("float32")
tfkd.cache_teacher(x, keras.models.load_model(sys.argv[1]), sys.argv[2], shard_size=2000)
"""


@dataclasses.dataclass(frozen=True)
class Job:
    """Something that takes long.

    Attributes:
        command: With {given} for the folder of models and data, {out} for the folder to fill.
        makes: Whole or absent each by itself: files and folders under `out`, or `out` itself.
        repeats: Endings of file names whose contents a second run repeats.
        resumes: Whether `out` holds a state before it is whole.
    """

    command: tuple[str, ...]
    makes: tuple[str, ...]
    repeats: tuple[str, ...]
    resumes: bool = False


JOBS = {
    "demo": Job(
        (*_TFKD, "demo", "--epochs", "1", "--quiet", "--out", "{out}/demo"),
        ("demo",),
        ("_float32.tflite", "_float16.tflite", "_int8.tflite"),
    ),
    "export": Job(
        (*_TFKD, "export", "{given}/student.keras", "--data", "{given}/digits.npz", "--micro",
         "--android", "--quiet", "--out", "{out}/s.tflite"),
        ("s.tflite", "s_micro", "s_android"),
        (".tflite", ".cc", ".h", ".kt"),
    ),
    "benchmark": Job(
        (*_TFKD, "benchmark", "{given}/student.tflite", "{given}/student.keras", "--quiet",
         "--csv", "{out}/t.csv", "--json", "{out}/t.json", "--html", "{out}/t.html",
         "--processes", "2", "--min-seconds", "0.3"),
        ("t.csv", "t.json", "t.html"),
        (),
    ),
    "compare": Job(
        (*_TFKD, "compare", "{given}/teacher.keras", "--student", "{given}/student.keras",
         "--data", "{given}/digits.npz", "--methods", "kl", "--seeds", "2", "--epochs", "1",
         "--quiet", "--out", "{out}/compared"),
        ("compared",),
        (),
        resumes=True,
    ),
    "compress": Job(
        (*_TFKD, "compress", "{given}/teacher.keras", "--data", "{given}/digits.npz", "--epochs",
         "4", "--qat-epochs", "1", "--candidates", "4", "--search-epochs", "2", "--max-drop",
         "50%", "--quiet", "--out", "{out}/small"),
        ("small",),
        (".tflite", "_model.cc", ".npz"),
        resumes=True,
    ),
    "spiral": Job(
        (sys.executable, "-c", _SPIRAL, "{given}/student.keras", "{out}/pruned"),
        ("pruned",),
        (".keras",),
        resumes=True,
    ),
    "cache_teacher": Job(
        (sys.executable, "-c", _CACHE, "{given}/teacher.keras", "{out}/answers"),
        ("answers",),
        (".npz",),
        resumes=True,
    ),
}  # fmt: skip


def given(folder: pathlib.Path) -> None:
    """Write the models and the data that jobs read."""
    import keras
    import numpy as np
    from tiny_models import cnn, crossentropy

    from tfkd.data import load_digits
    from tfkd.export import to_tflite

    digits = load_digits(seed=0)
    keras.utils.set_random_seed(0)
    for name, width in (("student", 4), ("teacher", 16)):
        model = cnn(keras, width=width)
        model.compile("adam", crossentropy(keras))
        model.fit(digits.train.x, digits.train.y, epochs=2, verbose=0)
        model.save(folder / f"{name}.keras")
    to_tflite(model, "float32").save(folder / "student.tflite")
    np.savez(
        folder / "digits.npz", x_train=digits.train.x, y_train=digits.train.y,
        x_test=digits.test.x, y_test=digits.test.y,
    )  # fmt: skip


def started(job: Job, place: pathlib.Path, out: pathlib.Path) -> subprocess.Popen:
    """Start a job in a group of its own, with Ctrl-C as a terminal leaves it."""
    command = [part.format(given=place, out=out) if "\n" not in part else part
               for part in job.command]  # fmt: skip

    def listen():
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    errors = open(out.parent / f"{out.name}.stderr", "w+")  # noqa: SIM115  read when it has ended
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=errors, text=True, preexec_fn=listen
    )
    process.errors = errors
    return process


def complaints_of(process: subprocess.Popen) -> str:
    """Return what an ended job wrote to standard error."""
    process.errors.seek(0)
    return process.errors.read()


def entries(out: pathlib.Path) -> dict[str, set[str]]:
    """Return what lies in a folder: a name, and the files beneath it."""
    return {
        path.name: {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        for path in out.iterdir()
    }


def alike(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Tell whether two files hold the same; of models and arrays, the same numbers."""
    if one.suffix not in (".keras", ".npz"):
        return one.read_bytes() == other.read_bytes()
    import h5py
    import numpy as np

    def arrays(path):
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        found = {}
        with (
            zipfile.ZipFile(path) as held,
            held.open("model.weights.h5") as stream,
            h5py.File(stream) as weights,
        ):
            weights.visititems(
                lambda name, item: (
                    found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
        return found

    a, b = arrays(one), arrays(other)
    return a.keys() == b.keys() and all(
        np.allclose(a[name], b[name], rtol=1e-4, atol=1e-5) if a[name].dtype.kind == "f"
        else np.array_equal(a[name], b[name])
        for name in a
    )  # fmt: skip


def faults_of(job: Job, out: pathlib.Path, whole: pathlib.Path, complete: bool) -> list[str]:
    """Return how what is in place differs from an undisturbed run.

    Args:
        job: What ran.
        out: What it left.
        whole: What an undisturbed run made.
        complete: Whether all must be there, and nothing else.
    """
    found, wanted, faults = entries(out), entries(whole), []
    if complete and found.keys() != wanted.keys():
        faults.append(f"has {sorted(found)}, not {sorted(wanted)}")
    for name in found.keys() & wanted.keys():
        if found[name] != wanted[name]:
            faults.append(f"{name} differs by {sorted(found[name] ^ wanted[name])[:4]}")
        for inside in sorted(found[name] & wanted[name]) or [""]:
            path = pathlib.Path(name, inside)
            if path.name.endswith(job.repeats or ("\0",)) and not alike(out / path, whole / path):
                faults.append(f"{path} has other contents")
            elif not (out / path).stat().st_size and (whole / path).stat().st_size:
                faults.append(f"{path} is empty")
    odd = [name for name in found if name not in wanted and not name.startswith(".")]
    return faults + [f"{name} is nothing that it makes" for name in odd]


def descendants(pid: int) -> set[int]:
    """Return the processes that a process started, and theirs."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return found


def left(processes: set[int], seconds: float = 10) -> set[int]:
    """Return the processes that still run after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        processes = {pid for pid in processes if _runs(pid)}
        if not processes:
            break
        time.sleep(0.2)
    return processes


def _runs(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def stopped(job: Job, how: str, moment: float, place, out, whole) -> tuple[str, list[str]]:
    """Stop a job at a moment, judge what is left, and run it again.

    Returns:
        What was in place after the stop, and the faults.
    """
    out.mkdir()
    process = started(job, place, out)
    time.sleep(moment)
    children = descendants(process.pid)
    early = process.poll() is not None
    if not early:
        if how == "KILL":
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGINT)
    faults = []
    try:
        code = process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        faults.append("did not end within a minute")
    said = complaints_of(process)
    if remaining := left(children):
        faults.append(f"{len(remaining)} processes are left")
        for pid in remaining:
            os.kill(pid, signal.SIGKILL)
    is_command = job.command[1:3] == ("-m", "tfkd")
    if how == "INT" and not early and code != 0 and is_command:
        if code != 130:
            faults.append(f"status {code}: {said.strip().splitlines()[-1:]}")
        if "Traceback" in said:
            faults.append("a traceback: " + said.strip().splitlines()[-1])
        for name in job.makes:
            if (out / name).exists() and not job.resumes and str(out / name) not in said:
                faults.append(f"{name} is in place, and the message is: {said.strip()[-200:]}")
    there = [name for name in job.makes if (out / name).exists()]
    if not job.resumes:
        faults += faults_of(job, out, whole, complete=False)
    # Once more, over what is left; of a command that never replaces, without the finished part.
    if not job.resumes:
        for name in there:
            shutil.rmtree(out / name, True)
            (out / name).unlink(missing_ok=True)
    again = started(job, place, out)
    if again.wait(600) != 0:
        faults.append(f"run again: {complaints_of(again).strip()[-300:]}")
    faults += [f"run again: {fault}" for fault in faults_of(job, out, whole, complete=True)]
    return ", ".join(there) or "nothing", faults


def trials(name: str, moments: int, signals: list[str], draw: random.Random, place) -> int:
    """Run a job's trials, print a line each, and return how many had faults."""
    job, taken, wholes = JOBS[name], [], []
    for i in range(2):
        whole = place / f"{name}-whole-{i}"
        whole.mkdir()
        start = time.monotonic()
        process = started(job, place, whole)
        if process.wait() != 0:
            raise SystemExit(f"{name} does not run undisturbed: {complaints_of(process)[-800:]}")
        taken.append(time.monotonic() - start)
        wholes.append(whole)
    if faults := faults_of(job, *wholes, complete=True):
        raise SystemExit(f"{name} does not repeat: {faults}")
    print(f"{name}: {taken[0]:.1f} and {taken[1]:.1f} s undisturbed", flush=True)
    faulty = 0
    for how in signals:
        for i in range(moments):
            moment = draw.uniform(0, min(taken))
            out = place / f"{name}-{how}-{i}"
            there, faults = stopped(job, how, moment, place, out, wholes[0])
            faulty += bool(faults)
            verdict = "; ".join(faults) or "ok"
            print(f"  {how:4} at {moment:6.2f} s: {there} in place: {verdict}", flush=True)
            shutil.rmtree(out)
    return faulty


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []], default=list(JOBS))
    parser.add_argument("--moments", type=int, default=10, help="of each signal (default: 10)")
    parser.add_argument("--signals", nargs="+", default=["KILL", "INT"], choices=["KILL", "INT"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, faulty = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        given(place)
        for name in arguments.jobs or JOBS:
            faulty += trials(name, arguments.moments, arguments.signals, draw, place)
    print(f"{faulty} trials with faults")
    return bool(faulty)


if __name__ == "__main__":
    sys.exit(main())
