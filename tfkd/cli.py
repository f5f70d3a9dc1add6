"""The command line: `tfkd demo` and what later issues add beside it.

Exit status: 0 on success, 1 when a target was not met, 2 on bad input (one line, no
traceback), 130 after Ctrl-C. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys

from tfkd._version import __version__
from tfkd.errors import TfkdError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name. Defaults to those of the process.

    Returns:
        The exit status.
    """
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    except TfkdError as error:
        return _fail(str(error))
    except ImportError as error:
        return _fail(f"{error}; install tfkd with its dependencies: pip install tfkd")
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message):
        raise SystemExit(_fail(f"{message} (see {self.prog} --help)"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tfkd", description="From a Keras teacher to a verified .tflite file.")
    parser.add_argument("--version", action="version", version=f"tfkd {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print the report as JSON")
    output.add_argument("--quiet", action="store_true", help="no progress, no table")

    demo = commands.add_parser(
        "demo",
        parents=[output],
        help="walk the whole road on scikit-learn's handwritten digits",
        description="Train a teacher on 1,797 handwritten digits, distil it, go on with "
        "quantization-aware training, and leave verified, benchmarked float32, float16 and int8 "
        ".tflite files with a report. Nothing is downloaded; it takes one to two minutes.",
    )
    demo.add_argument(
        "--out", default="tfkd-demo", metavar="DIR", help="folder to make (default: %(default)s)"
    )
    demo.add_argument("--force", action="store_true", help="replace files of the same name in DIR")
    demo.add_argument(
        "--seed",
        type=_whole_number(0),
        default=0,
        metavar="N",
        help="seed of split, weights and training (default: %(default)s)",
    )
    demo.add_argument(
        "--epochs",
        type=_whole_number(1),
        metavar="N",
        help="epochs of teacher and student; quantization-aware training takes "
        "a third (default: 40)",
    )
    demo.set_defaults(run=_demo)
    return parser


def _whole_number(least: int):
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= 2**31 - 1:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {least}, got {text!r}"
            )
        return value

    return parse


def _demo(options) -> int:
    from tfkd.files import staged_folder

    with staged_folder(options.out, force=options.force) as folder:
        _import_tensorflow()
        from tfkd import demo

        with _progress(options.quiet) as progress:
            result = demo.run(folder, seed=options.seed, epochs=options.epochs, progress=progress)
    _show(result.report, options)
    if not (options.quiet or options.json):
        print(f"Files and report.html are in {os.path.join(options.out, '')}")
    failed = [m.name for m in result.report.models if m.parity and not m.parity["passed"]]
    if failed:
        print(f"verification failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0


def _show(report, options) -> None:
    if options.json:
        print(json.dumps(report.to_json(), indent=2))
    elif not options.quiet:
        from rich.console import Console

        from tfkd.export.report import print_table

        print_table(report, Console())


def _import_tensorflow() -> None:
    """Import TensorFlow without its chatter; what goes wrong is an exception all the same."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The first lines are written by C++ before any log level is read.
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _progress:  # noqa: N801  used as a function that makes a context
    """Show one bar per stage on stderr while a command works."""

    _WORDS = {  # noqa: RUF012
        "teacher": "training the teacher",
        "baseline": "training the student alone",
        "student": "distilling the student",
        "student_qat": "quantization-aware training",
        "export": "exporting",
        "verify": "verifying",
        "benchmark": "benchmarking",
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
            TextColumn("{task.description:28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self):
        if not self._bars.disable:  # some releases of rich print a line all the same
            self._bars.start()
        return self

    def __exit__(self, *exception):
        if not self._bars.disable:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(self._WORDS.get(stage, stage), total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
