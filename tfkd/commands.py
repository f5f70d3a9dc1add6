"""What the commands of `tfkd` do; each takes its options and returns the exit status.

Heavy packages are imported when a command needs them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pathlib
import re
import shlex
import sys
import tempfile
import warnings

from tfkd.errors import InputError, TfkdError
from tfkd.files import staged_folder


def run(options) -> int:
    """Do what the command line asks for and return its exit status.

    Raises:
        TfkdError: in the words of the command line.
    """
    command = {"demo": demo, "export": export, "inspect": inspect, "verify": verify}[options.run]
    with _warnings_collected() as told:
        try:
            status = command(options)
        except TfkdError as error:
            raise InputError(_reworded(str(error))) from error
    if not options.quiet:
        for message in told:
            print(f"warning: {_reworded(' '.join(message.split()))}", file=sys.stderr)
    return status


def demo(options) -> int:
    """`tfkd demo`."""
    with staged_folder(options.out, force=options.force) as folder:
        _import_tensorflow()
        from tfkd import demo as road

        with _progress(options.quiet) as progress:
            result = road.run(folder, seed=options.seed, epochs=options.epochs, progress=progress)
    if options.json:
        _print_json(result.report.to_json())
    elif not options.quiet:
        from rich.console import Console

        from tfkd.export.report import print_table

        print_table(result.report, Console())
        print(f"Files and report.html are in {os.path.join(options.out, '')}")
    failed = [m.name for m in result.report.models if m.parity and not m.parity["passed"]]
    if failed:
        print(f"verification failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0


def export(options) -> int:
    """`tfkd export`."""
    from tfkd import loading

    loading.check(options.model, layers=False)
    out = pathlib.Path(options.out or _default_name(options))
    _check_target(out, options)
    layers = not os.path.isdir(options.model) or loading.is_keras_saved_model(options.model)
    if options.engine != "auto" and not (options.data and layers):
        raise InputError(
            "--engine says what runs the file to verify it, which needs --data."
            if layers
            else f"--engine is of no use: {_NO_LAYERS}."
        )
    data = _load_data(options.data) if options.data else None
    with _working(options, "reading the model"):
        _import_tensorflow()
        from tfkd.export.conversion import needs_data, recurrent_forms, to_tflite

        model = loading.load_model(options.model) if layers else options.model
        calibrated = needs_data(model, options.format)
        if calibrated and data is None:
            raise InputError(
                f"{options.format} takes the range of every activation from examples: give --data "
                "with an .npz file of x_train, y_train, x_test and y_test, preprocessed as in "
                "training."
            )
        if data is not None and layers:
            _check_one_input(model)
    arguments = {
        "batch": options.batch,
        "float_io": options.float_io,
        "skip": tuple(options.skip),
        "micro": options.micro,
        "allow_flex": options.allow_flex,
        "allow_custom": options.allow_custom,
        "timeout": float(options.timeout),
    }
    samples = data if calibrated else None
    with _working(options, "converting"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Converting ")  # it is in the file's notes
        file = to_tflite(model, options.format, samples, recurrent=options.recurrent, **arguments)
    forms, result = [], None
    if options.recurrent == "auto" and layers:
        with _working(options, "comparing the forms of recurrence"):
            forms = recurrent_forms(model, options.format, samples, **arguments)
    if data is not None and layers:
        with _working(options, "verifying"):
            result = _verified(file, model, data, options)
    file.save(out)
    if options.json:
        told = {"path": str(out), "format": options.format, **file.to_json()}
        told["recurrent_forms"] = [vars(form) for form in forms]
        told["verification"] = None if result is None else result.to_json()
        _print_json(told)
    elif not options.quiet:
        print(f"{out}\n{_reworded(file.describe())}")
        print(_table_of_forms(forms), end="")
        if result is not None:
            print(result.describe())
        elif not layers:
            print(f"not verified: {_NO_LAYERS}")
        else:
            print("not verified: --data was not given")
    return _status(result)


def inspect(options) -> int:
    """`tfkd inspect`."""
    from tfkd import loading

    path = pathlib.Path(options.file)
    if path.suffix in loading.SUFFIXES or path.is_dir():
        loading.check(path)
        with _working(options, "reading the model"):
            _import_tensorflow()
            from tfkd import cost

            told = cost.measure(loading.load_model(path))
    else:
        from tfkd.export.artifact import TFLiteModel

        told = TFLiteModel.load(path)
    if options.json:
        _print_json({"path": str(path), **told.to_json()})
    elif not options.quiet:
        print(told.describe())
    return 0


def verify(options) -> int:
    """`tfkd verify`."""
    from tfkd import loading
    from tfkd.export.artifact import TFLiteModel

    file = TFLiteModel.load(options.file)
    loading.check(options.model)
    data = _load_data(options.data)
    with _working(options, "reading the model"):
        _import_tensorflow()
        model = loading.load_model(options.model)
        _check_one_input(model)
    with _working(options, "verifying"):
        result = _verified(file, model, data, options)
    if options.json:
        _print_json({"path": options.file, **result.to_json()})
    elif not options.quiet:
        print(_reworded(result.describe()))
    return _status(result)


_NO_LAYERS = (
    "a SavedModel that model.export wrote has no Keras layers; verify the file against the .keras "
    "or .h5 file with tfkd verify"
)


def _load_data(path):
    from tfkd.data import load_npz

    if not os.path.isfile(path):  # in fewer words than NumPy's
        raise InputError(f"There is no file {str(path)!r} for --data.")
    return load_npz(path)


def _check_one_input(model):
    from tfkd import graph

    names = [tensor.name for tensor in graph.walk(model).input_list]
    if len(names) != 1:
        raise InputError(
            f"The model {model.name!r} has {len(names)} inputs ({', '.join(names)}), and an .npz "
            "file has data for one, x_train; do it in Python, where tfkd.export.to_tflite and "
            "verify take one array for each."
        )


def _verified(file, model, data, options):
    from tfkd import graph
    from tfkd.export.verification import verify

    labels = data.test.y
    outputs = len(graph.walk(model).output_list)
    if outputs != 1:
        labels = None
        warnings.warn(
            f"Nothing is scored: y_test labels one output and the model has {outputs}.",
            stacklevel=2,
        )
    with warnings.catch_warnings():
        # The exit status says it, and `_status`.
        warnings.filterwarnings("ignore", "VERIFICATION FAILED")
        return verify(
            file,
            model,
            data.test.x,
            labels,
            engine=options.engine,
            threshold=getattr(options, "threshold", None),
            layers=getattr(options, "layers", False),
        )


def _status(result) -> int:
    if result is None or result.passed:
        return 0
    failed = "; ".join(output.describe() for output in result.outputs if not output.passed)
    advice = "" if result.layers else "; tfkd verify --layers shows which layer loses it"
    print(f"verification failed: {failed}{advice}", file=sys.stderr)
    return 1


def _default_name(options) -> str:
    from tfkd.loading import SUFFIXES

    path = pathlib.Path(options.model).resolve()
    name = path.stem if path.suffix in SUFFIXES else path.name
    return f"{name}_{options.format}.tflite"


def _check_target(out: pathlib.Path, options):
    """Complain now rather than after minutes of work."""
    if out.is_dir():
        raise InputError(f"{str(out)!r} is a folder; name a file.")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}.")
    if out.exists():
        for given in (options.model, options.data):
            if given and os.path.exists(given) and out.samefile(given):
                raise InputError(f"{str(out)!r} is what is read; name another file.")
        if not options.force:
            raise InputError(f"{str(out)!r} exists; name another file, or replace it with --force.")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"Cannot write {str(out)!r}: {error.strerror or error}.") from error


def _table_of_forms(forms) -> str:
    """Return what each form of recurrence costs, a line each, in 100 columns."""
    if not forms:
        return ""
    rows = [("recurrence", "ops", "bytes", "activations", "arena", "")]
    for form in forms:
        numbers = (form.ops, form.bytes, form.activation_bytes, form.arena_bytes)
        remark = "keeps its state: reset it" if form.keeps_state else ""
        if form.error:  # what is wrong, without what to do
            remark = re.split(r"[.:;] |, which|, so ", _reworded(form.error))[0].rstrip(".")
        rows.append(
            (
                form.form + (" (taken)" if form.picked else ""),
                *("–" if number is None else f"{number:,}" for number in numbers),
                remark,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for first, *numbers, remark in rows:
        line = first.ljust(widths[0])
        line += "".join(f"  {n.rjust(w)}" for n, w in zip(numbers, widths[1:], strict=True))
        room = 100 - len(line) - 2
        remark = remark if len(remark) <= room else remark[: room - 1] + "…"
        lines.append(f"{line}  {remark}".rstrip() + "\n")
    return "".join(lines)


def _print_json(told) -> None:
    print(json.dumps(_plain(told), indent=2, allow_nan=False))


def _plain(value):
    """Return the same for JSON, which has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# What is an argument in Python and an option here.
_ARGUMENT = re.compile(
    r"(?<![\w(])(format|recurrent|skip|micro|float_io|allow_flex|allow_custom|batch|timeout)="
    r"(?:True\b|'([^']*)'|(?=[\s.,;]|$))"
)
_SKIP_LIST = re.compile(r"to_tflite\(\.\.\., skip=\[([^\]]*)\]\)")


def _reworded(text: str) -> str:
    """Return a message of the Python functions in the words of the command line.

    Example:
        >>> _reworded("take recurrent='step', or allow_flex=True for a file with Flex")
        'take --recurrent step, or --allow-flex for a file with Flex'
    """

    def option(match):
        name = "--" + match[1].replace("_", "-")
        return name if match[2] is None else f"{name} {match[2]}"

    def skips(match):
        return " ".join(f"--skip {shlex.quote(name)}" for name in re.findall('"(.*?)"', match[1]))

    text = _ARGUMENT.sub(option, _SKIP_LIST.sub(skips, text))
    text = re.sub(r"\bfloat_io\b", "--float-io", text)
    text = text.replace("representative_data", "x_train")
    text = text.replace(
        "before loading.", "before loading: in Python, since the command line imports no module."
    )
    return text.replace("recurrent_forms() shows", "the table below shows")


@contextlib.contextmanager
def _warnings_collected():
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
def _working(options, what: str):
    """Show what is being done on stderr, while it is done."""
    from rich.console import Console

    console = Console(stderr=True)
    if options.quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


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
