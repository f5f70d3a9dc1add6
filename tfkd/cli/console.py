"""How the commands talk: messages in the words of the command line, JSON, progress."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shlex
import sys
import warnings

from tfkd.escaping import printable
from tfkd.export.runtime import native_stderr


def print_json(told) -> None:
    """Print plain values as JSON."""
    print(as_json(told))


def as_json(told) -> str:
    """Return plain values as JSON."""
    return json.dumps(plain(told), indent=2, allow_nan=False)


def plain(value):
    """Return the same for JSON, which has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# What is an argument in Python and an option here.
_ARGUMENT = re.compile(
    r"(?<![\w(])(format|recurrent|skip|micro|float_io|allow_flex|allow_custom|batch|timeout"
    r"|max_seconds|engine)=(?:True\b|'([^']*)'|(\d+(?:\.\d+)?)|(?=[\s.,;]|$))"
)
_SKIP_LIST = re.compile(r"to_tflite\(\.\.\., skip=\[([^\]]*)\]\)")


def reworded(text: str) -> str:
    """Return a message of the Python functions in the words of the command line.

    Example:
        >>> reworded("take recurrent='step', or allow_flex=True for a file with Flex")
        'take --recurrent step, or --allow-flex for a file with Flex'
    """

    def option(match):
        name = "--" + match[1].replace("_", "-")
        value = match[2] if match[3] is None else match[3]
        return name if value is None else f"{name} {value}"

    def skips(match):
        return " ".join(f"--skip {shlex.quote(name)}" for name in re.findall('"(.*?)"', match[1]))

    text = _ARGUMENT.sub(option, _SKIP_LIST.sub(skips, text))
    for name in ("float_io", "min_seconds"):
        text = re.sub(rf"\b{name}\b", "--" + name.replace("_", "-"), text)
    text = text.replace("representative_data", "x_train")
    text = re.sub(r"to_tflite\(\.\.\., shapes=\)|shapes=\{name: shape\}", "--shape NAME=N,N", text)
    text = text.replace("shapes=", "--shape")
    text = text.replace(
        "before loading.", "before loading: in Python, since the command line imports no module."
    )
    return text.replace("recurrent_forms() shows", "the table below shows")


@contextlib.contextmanager
def warnings_collected():
    """Give the list of what tfkd warns of, each once; what other packages do stays unsaid."""
    told = []

    def collect(message, category, filename, lineno, file=None, line=None):
        frame = sys._getframe(1)
        while frame.f_back and frame.f_globals.get("__name__") in ("warnings", "_py_warnings"):
            frame = frame.f_back
        own = frame.f_globals.get("__name__", "").split(".")[0] == "tfkd"
        if own and category is UserWarning and str(message) not in told:
            told.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = collect
        yield told


@contextlib.contextmanager
def working(options, what: str):
    """Show what is being done on stderr, while it is done."""
    from rich.console import Console

    console = Console(stderr=True)
    if options.quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def import_tensorflow() -> None:
    """Import TensorFlow without its chatter; what goes wrong is an exception all the same."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The first lines are written by C++ before any log level is read.
    with native_stderr.captured():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401


class Progress:
    """Show one bar per stage on stderr while a command works."""

    _WORDS = {  # noqa: RUF012
        "teacher": "training the teacher",
        "baseline": "training the student alone",
        "student": "distilling the student",
        "student_qat": "quantization-aware training",
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
        )

        self._bars = Progress(
            TextColumn("{task.description:28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Progress:
        if not self._bars.disable:  # some releases of rich print a line all the same
            self._bars.start()
        return self

    def __exit__(self, *exception):
        if not self._bars.disable:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Set the bar of a stage."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(
                printable(self._WORDS.get(stage, stage)), total=total
            )
        self._bars.update(self._tasks[stage], completed=done, total=total)
