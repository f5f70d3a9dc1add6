"""The output of the commands: messages in the words of the command line, JSON, progress."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import time
import warnings

from tfkd.escaping import printable
from tfkd.export.runtime import native_stderr


def print_json(value) -> None:
    """Print plain values as JSON."""
    print(as_json(value))


def as_json(value) -> str:
    """Return plain values as JSON."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def plain(value):
    """Return the same for JSON, which has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def warnings_collected():
    """Yield the list of tfkd's own warnings, each once; those of other packages are dropped."""
    messages = []

    def collect(message, category, filename, lineno, file=None, line=None):
        frame = sys._getframe(1)
        while frame.f_back and frame.f_globals.get("__name__") in ("warnings", "_py_warnings"):
            frame = frame.f_back
        own = frame.f_globals.get("__name__", "").split(".")[0] == "tfkd"
        if own and issubclass(category, UserWarning) and str(message) not in messages:
            messages.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = collect
        yield messages


@contextlib.contextmanager
def working(options, what: str):
    """Show on stderr what is being done, for as long as it takes."""
    from rich.console import Console

    console = Console(stderr=True)
    if options.quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def import_tensorflow() -> None:
    """Import TensorFlow without its log lines; failures still raise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The first lines are written by C++ before any log level is read.
    with native_stderr.captured():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401


class Progress:
    """Show on stderr how far each stage is: a bar on a terminal, else a line when it is done."""

    _WORDS = {  # noqa: RUF012
        "teacher": "training the teacher",
        "baseline": "training the student alone",
        "student": "distilling the student",
        "student_qat": "quantization-aware training",
        "candidates": "costing students",
        "search": "choosing among students",
        "export": "exporting",
        "verify": "verifying",
        "benchmark": "benchmarking",
        "device": "benchmarking on the phone",
    }

    def __init__(self, quiet: bool):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self._prints = not quiet and not console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=quiet or self._prints,
        )
        self._started: dict[str, float] = {}
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Progress:
        if not self._bars.disable:  # some releases of rich print a line anyway
            self._bars.start()
        return self

    def __exit__(self, *exception):
        if not self._bars.disable:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Set the progress bar of a stage."""
        words = printable(self._WORDS.get(stage, stage.replace("search ", "trying ", 1)))
        if self._prints:
            self._print(stage, words, done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(words, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def _print(self, stage: str, words: str, done: int, total: int) -> None:
        start = self._started.setdefault(stage, time.monotonic())
        if done >= total:
            del self._started[stage]  # the stage restarts for another student
            seconds = time.monotonic() - start
            print(f"{words}: {total} of {total}, {seconds:.1f} s", file=sys.stderr, flush=True)
