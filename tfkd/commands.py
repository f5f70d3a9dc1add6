"""What the commands of `tfkd` do; each takes its options and returns the exit status.

Heavy packages are imported when a command needs them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import sys

from tfkd.errors import InputError
from tfkd.files import staged_folder


def demo(options) -> int:
    """`tfkd demo`."""
    with staged_folder(options.out, force=options.force) as folder:
        _import_tensorflow()
        from tfkd import demo as road

        with _progress(options.quiet) as progress:
            result = road.run(folder, seed=options.seed, epochs=options.epochs, progress=progress)
    _show(result.report, options)
    if not (options.quiet or options.json):
        print(f"Files and report.html are in {os.path.join(options.out, '')}")
    failed = [m.name for m in result.report.models if m.parity and not m.parity["passed"]]
    if failed:
        print(f"verification failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0


def export(options) -> int:
    """`tfkd export`."""
    out = pathlib.Path(options.out or _default_name(options))
    _check_target(out, options.force)
    with _working(options, "reading the model"):
        _import_tensorflow()
        from tfkd.data import load_npz
        from tfkd.export.conversion import (
            is_signature,
            needs_data,
            recurrent_forms,
            to_tflite,
        )
        from tfkd.loading import load_model

        data = load_npz(options.data) if options.data else None
        signature = is_signature(options.model)
        model = options.model if signature else load_model(options.model)
    arguments = {
        "batch": options.batch,
        "float_io": options.float_io,
        "skip": tuple(options.skip),
        "micro": options.micro,
        "allow_flex": options.allow_flex,
        "allow_custom": options.allow_custom,
    }
    with _working(options, "converting"):
        samples = data if needs_data(model, options.format) else None
        file = to_tflite(model, options.format, samples, recurrent=options.recurrent, **arguments)
    forms, result = [], None
    if options.recurrent == "auto" and not signature:
        with _working(options, "comparing the forms of recurrence"):
            forms = recurrent_forms(model, options.format, samples, **arguments)
    if data is not None and not signature:
        with _working(options, "verifying"):
            result = _verified(file, model, data, options)
    file.save(out)
    if options.json:
        told = {"path": str(out), "format": options.format, **file.to_json()}
        told["recurrent_forms"] = [vars(form) for form in forms]
        told["verification"] = None if result is None else result.to_json()
        print(json.dumps(told, indent=2))
    elif not options.quiet:
        print(f"{out}\n{file.describe()}")
        _print_forms(forms)
        if result is not None:
            print(result.describe())
        elif data is None:
            print("not verified: --data was not given")
        else:
            print("not verified: a SavedModel's signature is not a Keras model")
    return _status(result)


def inspect(options) -> int:
    """`tfkd inspect`."""
    from tfkd.loading import SUFFIXES

    path = pathlib.Path(options.file)
    if path.suffix in SUFFIXES:
        with _working(options, "reading the model"):
            _import_tensorflow()
            from tfkd import cost
            from tfkd.loading import load_model

            told = cost.measure(load_model(path))
    else:
        from tfkd.export.artifact import TFLiteModel

        told = TFLiteModel.load(path)
    if options.json:
        print(json.dumps({"path": str(path), **told.to_json()}, indent=2))
    elif not options.quiet:
        print(told.describe())
    return 0


def verify(options) -> int:
    """`tfkd verify`."""
    from tfkd.export.artifact import TFLiteModel

    file = TFLiteModel.load(options.file)
    with _working(options, "reading the model"):
        _import_tensorflow()
        from tfkd.data import load_npz
        from tfkd.loading import load_model

        data = load_npz(options.data)
        model = load_model(options.model)
    with _working(options, "verifying"):
        result = _verified(file, model, data, options)
    if options.json:
        print(json.dumps({"path": options.file, **result.to_json()}, indent=2))
    elif not options.quiet:
        print(result.describe())
    return _status(result)


def _verified(file, model, data, options):
    import warnings

    from tfkd.export.verification import verify

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the exit status and the text say it
        return verify(
            file,
            model,
            data.test.x,
            data.test.y,
            engine=options.engine,
            threshold=getattr(options, "threshold", None),
            layers=getattr(options, "layers", False),
        )


def _status(result) -> int:
    if result is None or result.passed:
        return 0
    print("verification failed: the file does not compute what the model does", file=sys.stderr)
    return 1


def _default_name(options) -> str:
    name = pathlib.Path(options.model.rstrip("/")).name
    return f"{name.removesuffix('.keras').removesuffix('.h5')}_{options.format}.tflite"


def _check_target(out: pathlib.Path, force: bool):
    """Complain now rather than after minutes of work."""
    if out.is_dir():
        raise InputError(f"{str(out)!r} is a folder; name a file.")
    if out.exists() and not force:
        raise InputError(f"{str(out)!r} exists; name another file, or replace it with --force.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"There is no folder {str(out.absolute().parent)!r}.")


def _print_forms(forms):
    from rich.console import Console
    from rich.table import Table

    if not forms:
        return
    table = Table(box=None, header_style="none")
    for heading in ("recurrence", "ops", "bytes", "activations", "arena", ""):
        table.add_column(heading, justify="left" if heading in ("recurrence", "") else "right")
    for form in forms:
        numbers = [form.ops, form.bytes, form.activation_bytes, form.arena_bytes]
        remark = form.error or ("keeps its state: reset it" if form.keeps_state else "")
        table.add_row(
            form.form + (" (taken)" if form.picked else ""),
            *("–" if number is None else f"{number:,}" for number in numbers),
            remark,
        )
    Console(width=140 if not sys.stdout.isatty() else None).print(table)


@contextlib.contextmanager
def _working(options, what: str):
    """Show what is being done on stderr, while it is done."""
    from rich.console import Console

    console = Console(stderr=True)
    if options.quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


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
