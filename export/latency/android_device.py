"""LiteRT's own `benchmark_model` on an Android phone, over `adb`, and its output as numbers.

`tfkd.export.benchmark` compares files on this machine; this module measures them on the phone.
`commands` returns the lines to type, `run` runs them, and `parse` reads the tool's output, also
from a log made elsewhere.

The tests have no device: a small script plays the part of `adb`, and the parser is tested on
output in the tool's documented format, as its versions have printed it since 2019, not on output
that we took from a phone.

Reference: https://ai.google.dev/edge/litert/models/measurement
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

from tfkd.errors import InputError, TfkdError, UnsupportedError, WorkerError, argument, raise_all
from tfkd.export.latency.results import Benchmark, Latency
from tfkd.export.runtime import host
from tfkd.export.tflite.model import TFLiteModel

#: The engines that run the model on the device, with the tool's flags for them.
ENGINES = {
    "xnnpack": "--use_xnnpack=true",
    "builtin": "--use_xnnpack=false",
    "gpu": "--use_gpu=true",
}

_ADB_SECONDS = 60.0
_MEGABYTE = 1 << 20  # of memory; the tool counts a model's size in millions of bytes

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_MAYBE = rf"(?:{_NUMBER}|-?nan|-?inf)"
# The prefix that logcat or the tool's logger adds to a line.
_PREFIX = re.compile(
    r"(?:[\d\s.:-]*[VDIWEF][ /]tflite\s*(?:\(\s*\d+\))?\s*: ?)?"
    r"(?:(?:VERBOSE|DEBUG|INFO|WARNING|ERROR|FATAL): )?"
)
# One line for the warm-up, one for the timed runs. Equal times are printed as one, percentiles
# by newer tools only. The profile has such lines too, behind "Timings (microseconds): ".
_COUNT = re.compile(
    rf"count=(?P<count>\d+)"
    rf"(?: curr=(?P<same>{_NUMBER})(?:\(all same\))?"
    rf"| first=(?P<first>{_NUMBER}) curr={_NUMBER} min=(?P<min>{_NUMBER}) max=(?P<max>{_NUMBER})"
    rf" avg=(?P<mean>{_NUMBER}) std=(?P<std>{_MAYBE}))?"
    rf"(?: p5=(?P<p5>{_NUMBER}) median=(?P<median>{_NUMBER}) p95=(?P<p95>{_NUMBER}))?"
)
_SUMMARY = re.compile(rf"(?:I|Average i)nference timings in us: .*\bInit: ({_NUMBER})")
_SIZE = re.compile(rf"The input model file size \(MB\): ({_NUMBER})")
_MEMORY = re.compile(
    r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): "
    rf"init=({_NUMBER}) overall=({_NUMBER})"
)
_PEAK = re.compile(rf"Overall peak memory footprint .*: ({_NUMBER})")
# Statements of what was delegated, the most reliable first.
_DELEGATES = (
    r".*acceleration is unsupported on this platform",
    r".*delegate.* model graph will .*executed by the delegate",
    r"Replacing \d+ .*with delegate",
    r"Created TensorFlow Lite .*delegate",
)
_NOT_DELEGATED = re.compile(r"unsupported on this platform|will not be executed by the delegate")

_PROFILE_OF_INIT = "Profiling Info for Benchmark Initialization"
_PROFILE = "Operator-wise Profiling Info for Regular Benchmark Runs"
# An operation's name may have spaces and end in an integer; measurements have a point.
# Newer tools have no column for the start.
_ROW = re.compile(
    r"(?P<op>\S.*?)\s+(?:\d+\.\d+\s+)?(?P<first>\d+\.\d+)\s+(?P<mean>\d+\.\d+)"
    rf"\s+(?P<share>{_MAYBE})%\s+{_MAYBE}%\s+{_NUMBER}\s+(?P<calls>\d+)\s*(?P<name>.*)"
)
_NODES = re.compile(r"Number of nodes executed: (\d+)")

_TROUBLE = re.compile(
    r"error|fail|unresolved|cannot|can't|denied|abort|killed|\bfault|no such"
    r"|not (?:found|executable|supported)",
    re.IGNORECASE,
)
_STATES = {
    "unauthorized": "unlock it and allow USB debugging in the dialog on its screen",
    "offline": "plug it in again, or restart adb by `adb kill-server`",
    "no permissions": "this user has no permission to open the USB device; see `adb devices`",
}


def parse(text: str) -> dict:
    """Read the output of one run of `benchmark_model`.

    Figures are read only from complete lines, so an output that was cut off raises an error or
    lacks a figure, but never gives a wrong one.

    Args:
        text: All that the tool printed, with its line ends, or the same from logcat.

    Returns:
        A dictionary. Times are in microseconds; means have the six digits that the tool prints.
        A figure that it did not print is `None`.

        - `runs`, `median`, `mean`, `std`, `min`, `max`, `p5`, `p95`: the timed calls.
        - `init_us`, `first_us`: loading with delegates and tensors, and the first call.
        - `warm_up_us`, `warm_up_runs`: mean and number of the calls before the timed ones.
        - `model_bytes`: size of the file, to six digits.
        - `init_memory_bytes`, `overall_memory_bytes`: memory that the tool took for loading,
          and until its end; by its own words only approximate.
        - `peak_memory_bytes`: with `--report_peak_memory_footprint` only.
        - `delegate`: the tool's lines about delegates. If a delegate takes nothing of the model,
          the tool goes on and times the CPU; these lines show it.
        - `ops`: with profiling, one dictionary per operation in run order: `op`, `name`, `us`
          (mean of one call), `first_us`, `share` (of the time of all, 0 to 1) and `calls` (per
          run; operations of one name in several delegated parts are one). The operations inside
          subgraphs and delegates are left out, since the time of the operations that call them
          includes theirs.

    Raises:
        WorkerError: if the tool did not finish; the message quotes the end of its output.
        InputError: if the text holds several runs of the tool.
    """
    # The text after the last line end may be an incomplete line.
    lines = [_without_prefix(line) for line in text.split("\n")[:-1]]
    counts = [found for line in lines if (found := _COUNT.fullmatch(line))]
    summary = _first(_SUMMARY, lines)
    # The tool times a model with failing calls to the end, and reports the failure afterwards.
    failed = any("Benchmarking failed" in line for line in lines)
    if len(counts) > 2:
        raise InputError(
            f"The text has {len(counts)} lines of timings, two for each run of benchmark_model; "
            "give the output of one run."
        )
    if failed or summary is None or len(counts) < 2 or counts[1]["count"] == "0":
        raise WorkerError(
            f"benchmark_model did not finish: {_last_words(text)}.", details=text[-4000:]
        )
    warm_up, runs = map(_statistics, counts)
    size, memory, peak = (_first(pattern, lines) for pattern in (_SIZE, _MEMORY, _PEAK))
    return {
        "runs": runs["count"],
        **{name: runs[name] for name in ("median", "mean", "std", "min", "max", "p5", "p95")},
        "init_us": _number(summary[1]),
        "first_us": warm_up["first"],
        "warm_up_us": warm_up["mean"],
        "warm_up_runs": warm_up["count"],
        "model_bytes": size and round(float(size[1]) * 1e6),
        "init_memory_bytes": memory and round(float(memory[1]) * _MEGABYTE),
        "overall_memory_bytes": memory and round(float(memory[2]) * _MEGABYTE),
        "peak_memory_bytes": peak and round(float(peak[1]) * _MEGABYTE),
        "delegate": next(
            (found.string for pattern in _DELEGATES if (found := _first(pattern, lines))), None
        ),
        "ops": _operations(lines),
    }


def commands(
    files,
    *,
    adb: str = "adb",
    tool: str | os.PathLike = "benchmark_model",
    device_folder: str = "/data/local/tmp/tfkd",
    threads: int = 1,
    engine: str = "xnnpack",
    min_runs: int = 50,
    min_seconds: float = 1.0,
    max_seconds: float = 150.0,
    profile: bool = False,
    serial: str | None = None,
) -> list[list[str]]:
    """Return the commands that measure files on a device, in order, ready for `subprocess`.

    The commands make a folder on the device, push the tool and the files, run the tool once for
    each file, and remove the pushed files. On the device a file's name starts with its number.

    Example:
        >>> print(as_shell(commands(["model.tflite"])[:2]))
        adb shell 'mkdir -p /data/local/tmp/tfkd'
        adb push benchmark_model /data/local/tmp/tfkd/benchmark_model

    Args:
        files: A mapping from name to path, or a list of paths.
        adb: The `adb` program.
        tool: Path of `benchmark_model`, built for the device.
        device_folder: Folder on the device for the tool and the files.
        threads: Threads of the interpreter.
        engine: `"xnnpack"`; `"builtin"`, TensorFlow Lite's own optimized CPU kernels (not its
            reference kernels, which `tfkd.export.benchmark` calls `"reference"`); or `"gpu"`,
            the GPU delegate, which calculates in float16 and leaves operators that it can't
            run to the CPU.
        min_runs: Minimum number of timed calls.
        min_seconds: Minimum time in timed calls.
        max_seconds: Time after which no further call is made, in the warm-up and in the timed
            calls; there may then be fewer than `min_runs`.
        profile: Whether to time every operation too, which slows the calls a little.
        serial: The device, as `adb devices` lists it, if there are several.

    Raises:
        InputError: if there are no files, or for an option that is not allowed.
    """
    _check(device_folder, threads, engine, min_runs, min_seconds, max_seconds)
    paths = list(_by_name(files).values())
    prefix = [adb, "-s", serial] if serial else [adb]
    folder = device_folder.rstrip("/")
    program = f"{folder}/benchmark_model"
    # The number keeps files of one name apart; the rest is safe for any shell.
    remote = [
        f"{folder}/{number}-{re.sub(r'[^A-Za-z0-9._-]', '_', pathlib.Path(path).name)}"
        for number, path in enumerate(paths)
    ]
    options = [
        f"--num_threads={threads}",
        f"--num_runs={min_runs}",
        f"--min_secs={min_seconds:g}",
        f"--max_secs={max_seconds:g}",
        ENGINES[engine],
        *(["--enable_op_profiling=true"] if profile else []),
    ]

    def shell(*words):
        return [*prefix, "shell", shlex.join(words)]

    clean = shell("rm", "-f", program, *remote)
    clean[-1] += f" && {shlex.join(['rmdir', folder])}"
    return [
        shell("mkdir", "-p", folder),
        [*prefix, "push", os.fspath(tool), program],
        shell("chmod", "755", program),
        *([*prefix, "push", path, target] for path, target in zip(paths, remote, strict=True)),
        # When adb ends, the device ends the process it started: with `exec`, that is the tool.
        *(shell("exec", program, f"--graph={target}", *options) for target in remote),
        clean,
    ]


def as_shell(commands: list[list[str]]) -> str:
    """Return commands as lines to copy into a shell, if no device is connected here.

    Args:
        commands: As from `commands`.
    """
    return "\n".join(shlex.join(command) for command in commands)


def run(
    files,
    *,
    adb: str = "adb",
    tool: str | os.PathLike = "benchmark_model",
    serial: str | None = None,
    timeout: float = 600.0,
    progress=None,
    **options,
) -> dict[str, dict | TfkdError]:
    """Measure files on an Android device, one after the other.

    A phone becomes slower when it gets warm. Before you believe a small difference, let the phone
    cool and measure again in another order.

    Args:
        files: A mapping from name to path, or a list of paths.
        adb: The `adb` program.
        tool: Path of `benchmark_model`, built for the device.
        serial: The device, as `adb devices` lists it. Defaults to the environment's
            `ANDROID_SERIAL`, or else to the only device.
        timeout: Seconds that one step, such as a push or the measuring of one file, may take.
            It should be more than twice `max_seconds`.
        progress: Called as `progress("device", done, total)` while it works.
        **options: Further arguments of `commands`.

    Returns:
        Name → the figures from `parse`, or the error of this file. An error of one file does not
        stop the others.

    Raises:
        InputError: for a wrong option, if a program or a file is missing, or if there is not
            exactly one device that is ready.
        WorkerError: if `adb` fails in a step that every file needs.
    """
    files = _by_name(files)
    progress = progress or (lambda stage, done, total: None)
    commands(files, **options)  # a wrong option raises before the search for a device
    _check_programs(files, adb, tool)
    serial = _ready_device(adb, serial)
    steps = commands(files, adb=adb, tool=tool, serial=serial, **options)
    total = len(files)
    prepare, pushes, calls = steps[:3], steps[3 : 3 + total], steps[3 + total : -1]
    gpu = options.get("engine") == "gpu"
    results = {}
    try:
        for step in prepare:
            _call(step, timeout)
        for name, step in zip(files, pushes, strict=True):
            try:
                _call(step, timeout)
            except WorkerError as error:
                results[name] = error
        for done, (name, step) in enumerate(zip(files, calls, strict=True)):
            progress("device", done, total)
            if name not in results:
                try:
                    results[name] = _measured(step, timeout, gpu)
                except TfkdError as error:
                    results[name] = error
        progress("device", total, total)
    finally:
        # The results count even if the device is gone by now.
        with contextlib.suppress(TfkdError):
            _call(steps[-1], _ADB_SECONDS)
    return {name: results[name] for name in files}


def benchmark(
    files,
    *,
    adb: str = "adb",
    tool: str | os.PathLike = "benchmark_model",
    serial: str | None = None,
    progress=None,
    **options,
) -> tuple[Benchmark, dict[str, list[dict]]]:
    """Measure files on a device and return the results as `tfkd.export.benchmark` does.

    There are no intervals and no ratios: the tool does not print the times of single calls, and
    the files run one after the other.

    Args:
        files: A mapping from name to path, or a list of paths.
        adb: As for `run`; `tool`, `serial` and `progress` likewise.
        tool: Path of `benchmark_model`, built for the device.
        serial: The device, if there are several.
        progress: Called as `progress("device", done, total)`.
        **options: Further arguments of `commands`.

    Returns:
        The results, and by name the times per operation (`ops` of `parse`) if `profile=True`
        was given.

    Raises:
        TfkdError: as `run`; if no file could be measured, the error of the first.
    """
    _check_programs(_by_name(files), adb, tool)
    sizes = {name: TFLiteModel.load(path).size for name, path in _by_name(files).items()}
    serial = _ready_device(adb, serial)
    told = device(adb, serial)  # now: it may be gone afterwards
    found = run(files, adb=adb, tool=tool, serial=serial, progress=progress, **options)
    failures = {name: one for name, one in found.items() if isinstance(one, TfkdError)}
    measured = {name: one for name, one in found.items() if name not in failures}
    if not measured:
        raise next(iter(failures.values()))
    results = tuple(
        Latency(
            name=name,
            engine=options.get("engine", "xnnpack"),
            threads=options.get("threads", 1),
            batch=1,
            p50=one["median"],
            **{key: one[key] for key in _OF_LATENCY},
            model_bytes=sizes[name],
            init_footprint_bytes=one["init_memory_bytes"],
            overall_footprint_bytes=one["overall_memory_bytes"],
            peak_rss_bytes=one["peak_memory_bytes"],
        )
        for name, one in measured.items()
    )
    described = Benchmark(
        results=results,
        failures=failures,
        machine={"cpu": f"{told['model']}, Android {told['android']}", "cores": None, **told},
        versions=host.versions(),
        settings={"tool": "benchmark_model", **options},
    )
    return described, {name: one["ops"] for name, one in measured.items()}


_OF_LATENCY = (
    *("runs", "median", "mean", "std", "min", "max", "p5", "p95"),
    *("init_us", "first_us", "warm_up_us", "warm_up_runs"),
)


def device(adb: str = "adb", serial: str | None = None) -> dict[str, str]:
    """Return a device's model, Android version and ABI, to note beside the figures.

    Args:
        adb: The `adb` program.
        serial: The device, if there are several.

    Returns:
        `model`, `android` (the version) and `abi`, e.g. `"Pixel 8"`, `"15"`, `"arm64-v8a"`.

    Raises:
        InputError: if `adb` can't be started.
        WorkerError: if the device does not answer.
    """
    prefix = [adb, "-s", serial] if serial else [adb]
    properties = {
        "model": "ro.product.model",
        "android": "ro.build.version.release",
        "abi": "ro.product.cpu.abi",
    }
    return {
        # The last line: adb may first report that it started its server.
        name: _call([*prefix, "shell", "getprop", key], _ADB_SECONDS).strip().split("\n")[-1]
        for name, key in properties.items()
    }


def _check(device_folder, threads, engine, min_runs, min_seconds, max_seconds) -> None:
    problems = [
        f"{argument(name, alone=True)} must be an integer of at least 1, got {value!r}"
        for name, value in (("threads", threads), ("min_runs", min_runs))
        if not isinstance(value, int) or value < 1
    ]
    if engine not in ENGINES:
        problems.append(
            f"{argument('engine', alone=True)} must be one of {tuple(ENGINES)}, got {engine!r}"
        )
    if not 0 <= min_seconds <= max_seconds:
        problems.append(
            f"{argument('min_seconds', alone=True)} must be at least 0 and at most "
            f"{argument('max_seconds', alone=True)}, got {min_seconds!r} and {max_seconds!r}"
        )
    if not device_folder.startswith("/"):
        problems.append(f"device_folder must be an absolute path, got {device_folder!r}")
    raise_all(problems)


def _by_name(files) -> dict[str, str]:
    if not isinstance(files, dict):
        files = {os.fspath(path): path for path in files}
    if not files:
        raise InputError("There is no model to benchmark.")
    return {name: os.fspath(path) for name, path in files.items()}


def _check_programs(files: dict[str, str], adb: str, tool: str | os.PathLike) -> None:
    """Raise if a file, `adb` or `benchmark_model` is missing or not a program."""
    problems = [
        f"there is no file {path!r} to measure"
        for path in files.values()
        if not pathlib.Path(path).is_file()
    ]
    said = argument("adb", adb)
    if os.path.isdir(adb):
        problems.append(f"{said} is a folder; give the program in it, {os.path.join(adb, 'adb')}")
    elif os.path.isfile(adb) and shutil.which(adb) is None:
        problems.append(f"{said} is not an executable file: run chmod +x on it, or give another")
    elif shutil.which(adb) is None:
        problems.append(
            f"{said}: there is no such program; it comes with the Android SDK platform-tools, "
            "https://developer.android.com/tools/releases/platform-tools"
        )
    if not pathlib.Path(tool).is_file():
        problems.append(
            f"there is no tool {os.fspath(tool)!r}; fetch the native benchmark_model for the "
            "device, android_aarch64 for most, from "
            "https://ai.google.dev/edge/litert/models/measurement"
        )
    raise_all(problems)


def _ready_device(adb: str, serial: str | None) -> str:
    """Return the serial of the selected device, if it is ready."""
    # "SERIAL<tab>STATE" after a title; before it adb may report that it starts its server.
    listed = _call([adb, "devices"], _ADB_SECONDS).partition("List of devices attached")[2]
    states = {
        words[0]: words[1].strip()
        for line in listed.splitlines()
        if len(words := line.split(maxsplit=1)) == 2
    }
    known = ", ".join(f"{name} ({state})" for name, state in states.items())
    serial = serial or os.environ.get("ANDROID_SERIAL")
    if not states:
        raise InputError(
            "No Android device answers adb; connect one with USB debugging allowed and check "
            "that `adb devices` lists it."
        )
    if serial is None and len(states) > 1:
        raise InputError(f"Several Android devices answer adb; give the serial of one of {known}.")
    serial = serial or next(iter(states))
    if serial not in states:
        raise InputError(f"There is no Android device {serial!r}; adb lists {known}.")
    state = states[serial]
    if state != "device":
        fixes = (fix for start, fix in _STATES.items() if state.startswith(start))
        fix = next(fixes, "it must be started and listed as 'device'")
        raise InputError(f"The Android device {serial!r} is not ready ({state}); {fix}.")
    return serial


def _measured(command: list[str], timeout: float, gpu: bool) -> dict:
    result = parse(_call(command, timeout))
    if gpu and _NOT_DELEGATED.search(result["delegate"] or ""):
        raise UnsupportedError(
            f"The GPU did not run this model: the times are the CPU's ({result['delegate']}); "
            f"measure it with {argument('engine', 'xnnpack')}."
        )
    return result


def _call(command: list[str], timeout: float) -> str:
    """Run a command and return its output from both streams."""
    verb = next((word for word in command if word in ("shell", "push")), command[-1])
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # adb's shell would read the caller's stdin
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # where benchmark_model prints on Android
            timeout=timeout,
        )
    except OSError as error:
        raise InputError(f"Cannot run {command[0]!r}: {error.strerror or error}.") from error
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode(errors="replace")
        raise WorkerError(
            f"`adb {verb}` took more than {timeout:g} s and was stopped: {_last_words(text)}.",
            timed_out=True,
            details=text[-4000:],
        ) from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise WorkerError(
            f"`adb {verb}` ended with {_status(done.returncode)}: {_last_words(text)}.",
            details=text[-4000:],
        )
    return text


def _status(code: int) -> str:
    """Name a status; the device's shell adds 128 to the number of a signal."""
    try:
        return f"status {code} ({signal.Signals(code - 128).name})"
    except ValueError:
        return f"status {code}"


def _without_prefix(line: str) -> str:
    return line[_PREFIX.match(line).end() :].strip()


def _last_words(text: str) -> str:
    """Return the lines that state the error, or else the last lines, joined."""
    lines = [line for line in text.splitlines() if _without_prefix(line)]
    trouble = [
        line for line in lines if _TROUBLE.search(line) and "Benchmarking failed" not in line
    ]
    last = (trouble or lines)[-4:]
    return "; ".join(_without_prefix(line).rstrip(".") for line in last) or "it printed nothing"


def _first(pattern, lines: list[str]) -> re.Match | None:
    return next((found for line in lines if (found := re.match(pattern, line))), None)


def _number(text: str | None) -> float | None:
    """Return a figure; the tool prints `nan` or a negative number for an unknown one."""
    value = math.nan if text is None else float(text)
    return value if 0 <= value < math.inf else None


def _statistics(line: re.Match) -> dict:
    values = {name: _number(text) for name, text in line.groupdict().items()}
    values["count"] = int(line["count"])
    if (same := values.pop("same")) is not None:
        values.update(dict.fromkeys(("first", "min", "max", "mean", "median"), same))
        values["std"] = 0.0 if values["count"] > 1 else None
    return values


def _operations(lines: list[str]) -> list[dict]:
    """Return the rows of the run order of the timed calls, each once."""
    section = next((i for i, line in enumerate(lines) if _PROFILE in line), None)
    if section is None and any(_PROFILE_OF_INIT in line for line in lines):
        return []
    # The first tools to profile had one table and no section.
    lines = lines[section or 0 :]
    titles = [i for i, line in enumerate(lines) if line.startswith("=====")]
    if section is None and not titles:
        return []
    # The first table is the run order of the primary graph.
    begin, end = (*titles, len(lines), len(lines))[:2]
    rows = [found for line in lines[begin:end] if (found := _ROW.fullmatch(line))]
    nodes = _first(_NODES, lines)
    if nodes is None or int(nodes[1]) != len(rows):
        raise WorkerError(
            f"The profile in benchmark_model's output is incomplete: {len(rows)} operations of "
            f"{nodes[1] if nodes else 'an unknown number'}. Run it again.",
            details="\n".join(lines)[-4000:],
        )
    return [
        {
            "op": row["op"],
            "name": row["name"],
            "us": round(float(row["mean"]) * 1e3),
            "first_us": round(float(row["first"]) * 1e3),
            "share": None if (share := _number(row["share"])) is None else share / 100,
            "calls": int(row["calls"]),
        }
        for row in rows
    ]
