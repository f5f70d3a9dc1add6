"""What the commands of `tfkd` do; each takes its options and returns the exit status.

Heavy packages are imported when a command needs them.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
import warnings

from tfkd.cli import console
from tfkd.cli.boards import boards
from tfkd.cli.bundles import Bundles
from tfkd.cli.reading import check_target, load_data
from tfkd.cli.training import compress, distill, prune, shown
from tfkd.errors import InputError, TfkdError, spelled
from tfkd.escaping import printable
from tfkd.files import staged_folder, write_atomically
from tfkd.loading import file_check
from tfkd.tables import aligned


def run(options) -> int:
    """Run the command of the command line and return its exit status.

    Raises:
        TfkdError: in the words of the command line.
    """
    training = (demo, compress, distill, prune, compare)
    commands = (*training, export, inspect, verify, benchmark, boards)
    command = {command.__name__: command for command in commands}[options.run]
    trusted = file_check.trusting(getattr(options, "trusted", False))
    with console.warnings_collected() as messages, trusted, spelled(options.spelling):
        status = command(options)
    if not options.quiet:
        for message in messages:
            message = printable(" ".join(message.split()))
            print(f"warning: {message}", file=sys.stderr)
    return status


def demo(options) -> int:
    """`tfkd demo`."""
    with staged_folder(options.out, force=options.force) as folder:
        console.import_tensorflow()
        from tfkd.compression import demo as road

        with console.Progress(options.quiet) as progress:
            result = road.run(folder, seed=options.seed, epochs=options.epochs, progress=progress)
    return shown(result, options)


def export(options) -> int:
    """`tfkd export`."""
    from tfkd.loading import models

    if options.model.endswith(".tflite"):
        return _bundles_alone(options)
    options.format = options.format or "int8"
    models.check(options.model, layers=False)
    out = pathlib.Path(options.out or _default_name(options))
    check_target(out, [options.model, options.data], options.force)
    bundles = Bundles(options, out)
    layers = not os.path.isdir(options.model) or models.is_keras_saved_model(options.model)
    layers = layers and options.signature is None
    if options.engine != "auto" and not options.data:
        raise InputError(
            "--engine chooses the interpreter that verifies the file: give --data too, or leave "
            "--engine out."
        )
    shapes = _shapes_given(options.shape)
    data = load_data(options.data) if options.data else None
    with console.working(options, "reading the model"):
        from tfkd.export.conversion import converter

        converter.prepare()
        console.import_tensorflow()
        from tfkd.export.conversion.form_costs import recurrent_forms
        from tfkd.export.conversion.plan import needs_data
        from tfkd.export.conversion.to_tflite import to_tflite

        model = models.load_model(options.model) if layers else options.model
        calibrated = needs_data(model, options.format)
        if calibrated and data is None:
            raise InputError(
                f"{options.format} takes the range of every activation from examples: give --data "
                "with an .npz file of x_train, y_train, x_test and y_test, preprocessed as in "
                "training."
            )
        if data is not None:
            _check_one_input(model, options.signature)
            _check_sizes(data, shapes)
    arguments = {
        "batch": options.batch,
        "float_io": options.float_io,
        "uint8_io": options.uint8_io,
        "shapes": shapes,
        "signature": options.signature,
        "skip": tuple(options.skip),
        "micro": options.micro,
        "allow_flex": options.allow_flex,
        "allow_custom": options.allow_custom,
        "timeout": float(options.timeout),
    }
    samples = data if calibrated else None
    with console.working(options, "converting"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Converting ")  # the file's notes contain it
        file = to_tflite(model, options.format, samples, recurrent=options.recurrent, **arguments)
    forms, result, others = [], None, {}
    if data is not None:
        with console.working(options, "verifying"):
            result = _verified(file, model, data, options)
    if options.android and options.format == "int8":  # a GPU runs this file
        with console.working(options, "converting to float16"):
            others = _float16(model, options)
    file.save(out)
    with console.working(options, "writing the bundles"):
        bundles.write(file, data, others, result)
    if options.recurrent == "auto" and layers:
        with console.working(options, "comparing the forms of recurrence"):
            forms = recurrent_forms(model, options.format, samples, **arguments)
    _print_export(options, out, file, bundles, forms, result)
    return max(_status(result), bundles.status())


def _print_export(options, path, file, bundles, forms=(), result=None):
    """Print the written files, as JSON or as text."""
    if options.json:
        report = {"path": str(path), "format": options.format, **file.to_json()}
        report |= {**bundles.to_json(), "recurrent_forms": [vars(form) for form in forms]}
        report["verification"] = None if result is None else result.to_json()
        console.print_json(report)
    elif not options.quiet:
        print(f"{path}\n{file.describe()}")
        print(_table_of_forms(forms), end="")
        if result is not None:
            print(result.describe())
        elif options.model.endswith(".tflite"):
            print("not verified: tfkd verify compares a .tflite file with its model")
        else:
            print("not verified: --data was not given")
        print(bundles.describe(), end="")
        if options.micro and result is not None:
            print(_decided(result, bundles))


def _decided(result, bundles) -> str:
    """Return a line on which of the verdicts above decides the exit status."""
    line = f"verification by {result.engine} {'passed' if result.passed else 'FAILED'}"
    if bundles.verdicts:
        line += f", and the model {'fits' if bundles.fit else 'DOES NOT FIT'}"
    if result.engine != "tflm":
        line += "; --engine tflm verifies on TensorFlow Lite for Microcontrollers instead"
    return f"exit status {0 if result.passed and bundles.fit else 1}: {line}"


# Options of the conversion, with their defaults.
_CONVERTING = {
    **{"format": None, "recurrent": "auto", "batch": 1, "float_io": False, "uint8_io": False},
    **{"signature": None, "shape": [], "skip": [], "allow_flex": False, "allow_custom": False},
    **{"engine": "auto"},
}
# Options of a benchmark on this computer, with their defaults.
_HERE = {"engine": ["xnnpack"], "baseline": None, "processes": 5, "no_isolate": False}


def _given(options, defaults) -> str:
    """Return the options that differ from these defaults, as typed."""
    names = [name for name, default in defaults.items() if getattr(options, name) != default]
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _bundles_alone(options) -> int:
    """Write the bundles of an already converted file; with `--out` also a copy of it."""
    from tfkd.export.tflite.model import TFLiteModel

    file = TFLiteModel.load(options.model)
    if not (options.micro or options.android or options.web):
        raise InputError(
            f"{options.model!r} is already converted: give --micro, --android or --web to write a "
            "folder for it."
        )
    if given := _given(options, _CONVERTING):
        raise InputError(
            f"{options.model!r} is already converted: leave out {given}, or give the model that "
            "it was made from."
        )
    out = pathlib.Path(options.out or pathlib.Path(options.model).name)
    if options.out:
        check_target(out, [options.model, options.data], options.force)
    bundles = Bundles(options, out)
    data = load_data(options.data) if options.data else None
    if options.out:
        file.save(out)
    with console.working(options, "writing the bundles"):
        console.import_tensorflow()
        bundles.write(file, data, {})
    _print_export(options, out if options.out else options.model, file, bundles)
    return bundles.status()


def _float16(model, options) -> dict:
    """Return a network's float16 file for a GPU; if it can't be made, warn and return nothing."""
    from tfkd.export.conversion.to_tflite import to_tflite

    try:
        arguments = {"recurrent": options.recurrent, "timeout": float(options.timeout)}
        arguments |= {"shapes": _shapes_given(options.shape), "signature": options.signature}
        return {"float16": to_tflite(model, "float16", batch=options.batch, **arguments)}
    except TfkdError as error:
        warnings.warn(f"There is no float16 file for the GPU: {error}", stacklevel=2)
        return {}


def inspect(options) -> int:
    """`tfkd inspect`."""
    from tfkd.loading import models

    path = pathlib.Path(options.file)
    if path.is_dir() and not models.is_keras_saved_model(path):
        models.check(path, layers=False)
        with console.working(options, "reading the signatures"):
            console.import_tensorflow()
            from tfkd.loading import signatures

            description = signatures.listed(path)
    elif path.suffix in models.SUFFIXES or path.is_dir():
        models.check(path)
        with console.working(options, "reading the model"):
            console.import_tensorflow()
            from tfkd.model import cost

            description = cost.measure(models.load_model(path))
    else:
        from tfkd.export.tflite.model import TFLiteModel

        description = TFLiteModel.load(path)
    if options.json:
        console.print_json({"path": str(path), **description.to_json()})
    elif not options.quiet:
        print(description.describe())
    return 0


def verify(options) -> int:
    """`tfkd verify`."""
    from tfkd.export.tflite.model import TFLiteModel
    from tfkd.loading import models

    file = TFLiteModel.load(options.file)
    if not options.model.endswith(".tflite"):
        models.check(options.model, layers=False)
    data = load_data(options.data)
    with console.working(options, "reading the model"):
        console.import_tensorflow()
        from tfkd.export.conversion.plan import is_signature

        model = options.model  # a signature, or a float file unchanged
        named = options.signature is not None or is_signature(model)
        if not model.endswith(".tflite") and not named:
            model = models.load_model(model)
        _check_one_input(model, options.signature)
    with console.working(options, "verifying"):
        result = _verified(file, model, data, options)
    if options.json:
        console.print_json({"path": options.file, **result.to_json()})
    elif not options.quiet:
        print(result.describe())
    return _status(result)


def benchmark(options) -> int:
    """`tfkd benchmark`."""
    _check_outputs(options)
    if options.android:
        with spelled(options.spelling.with_option("engine", "delegate")):
            return _on_android(options)
    for name in ("adb", "benchmark_model", "serial", "delegate"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} needs --android.")
    from tfkd.export.latency import benchmark as latency

    data = load_data(options.data) if options.data else None
    if any(_is_keras(path) for path in options.files):
        console.import_tensorflow()
    quiet = options.quiet or not sys.stderr.isatty()
    with console.Progress(quiet) as progress, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Not measured")  # `_write_results` reports it
        results = latency.benchmark(
            options.files,
            None if data is None else data.test.x,
            threads=options.threads,
            engine=options.engine,
            batch=options.batch,
            baseline=options.baseline,
            min_runs=options.min_runs,
            min_seconds=options.min_seconds,
            max_seconds=options.max_seconds,
            processes=options.processes,
            isolate=not options.no_isolate,
            progress=progress,
        )
    scores = {} if data is None else _scores(options, results, data.test)
    profiles = _profiles(options, results, data) if options.profile else {}
    lines = [
        f"{name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in score.items())
        for name, score in scores.items()
    ]
    lines += [f"\n{name}\n{profile.describe()}" for name, profile in profiles.items()]
    of_operators = {name: profile.to_json() for name, profile in profiles.items()}
    more = {"scores": scores, "profiles": of_operators}
    return _write_results(results, options, more, lines, examples=data and len(data.test))


def compare(options) -> int:
    """`tfkd compare`."""
    from tfkd.loading import models

    models.check(options.student, "student")
    if not os.path.exists(options.teacher):
        raise InputError(f"There is no teacher at {options.teacher!r}.")
    data = load_data(options.data)
    with console.working(options, "reading the models"):
        console.import_tensorflow()
        from tfkd import comparison

        student = models.load_model(options.student, "student")
    budget = {"epochs": options.epochs, "batch_size": options.batch_size}
    try:
        with console.Progress(options.quiet or not sys.stderr.isatty()) as progress:
            result = comparison.compare(
                student,
                options.teacher,
                data,
                methods=options.methods,
                seeds=options.seeds,
                budget={**budget, "learning_rate": options.learning_rate},
                search=options.search,
                metric=options.metric,
                task=options.task,
                folder=options.out,
                progress=progress,
            )
    except KeyboardInterrupt:
        if options.out is None:
            raise
        print(
            f"interrupted; the finished runs are in {os.path.join(options.out, '')}, and the same "
            "command continues from them",
            file=sys.stderr,
        )
        return 130
    reading = _loading_code(options)
    if options.json:
        console.print_json({**result.to_json(), "call": f"{reading}\n{result.call}"})
    elif not options.quiet:
        print(f"{result.describe().removesuffix(result.call)}{reading}\n{result.call}")
        if options.out is not None:
            print(f"\ncompare.json, compare.svg and student.keras are in {options.out}")
    return 0


def _loading_code(options) -> str:
    """Return the Python code that loads the inputs of a comparison."""
    student, teacher, data = map(str, (options.student, options.teacher, options.data))
    return (
        "from tfkd.data import load_npz\n"
        "from tfkd.loading.models import load_model\n\n"
        f"student, teacher = load_model({student!r}), {teacher!r}\n"
        f"data = load_npz({data!r})"
    )


def _on_android(options) -> int:
    """Measure on a phone, or print how."""
    from tfkd.export.latency import android_device

    if given := _given(options, _HERE):
        raise InputError(
            f"With --android leave out {given}: benchmark_model runs one file after the other, "
            "each as --delegate says."
        )
    for name, values in (("threads", options.threads), ("batch", options.batch)):
        if len(values) > 1:
            raise InputError(f"--{name} takes one value with --android, got {values}.")
    if options.batch != [None] or options.data:
        raise InputError("benchmark_model feeds one random example: leave --batch and --data out.")
    arguments = {
        "adb": options.adb or "adb",
        "tool": options.benchmark_model or "benchmark_model",
        "serial": options.serial,
        "threads": options.threads[0],
        "engine": options.delegate or "xnnpack",
        "min_runs": options.min_runs,
        "min_seconds": options.min_seconds,
        "max_seconds": options.max_seconds,
        "profile": options.profile,
    }
    by_hand = android_device.as_shell(android_device.commands(options.files, **arguments))
    if not (options.adb and options.benchmark_model):
        if options.json or options.csv or options.html:
            raise InputError(
                "Nothing is measured, so nothing is written: give --adb and --benchmark-model."
            )
        print(by_hand)
        print("not run: give --adb and --benchmark-model, or run these commands", file=sys.stderr)
        return 0
    with console.Progress(options.quiet or not sys.stderr.isatty()) as progress:
        try:
            arguments["timeout"] = 2 * options.max_seconds + 120
            results, operations = android_device.benchmark(
                options.files, progress=progress, **arguments
            )
        except TfkdError:
            print(by_hand)
            raise
    lines = []
    for name, steps in operations.items():
        rows = [(f"{s['us'] * s['calls']:,.1f} µs", s["op"], s["name"]) for s in steps]
        lines += [f"\n{name}", *aligned(rows, left=(1, 2))] if rows else []
    return _write_results(results, options, {"profiles": operations}, lines)


def _write_results(results, options, more: dict, described=(), examples: int | None = None) -> int:
    """Write and print the measurements; return the exit status."""
    report = {**results.to_json(), **more}
    if options.csv:
        write_atomically(options.csv, results.to_csv().encode())
    if options.html:
        from tfkd.export.report.benchmark_page import write_benchmark_page

        scores = more.get("scores", {})
        accuracies = {name: s["accuracy"] for name, s in scores.items() if "accuracy" in s}
        write_benchmark_page(results, options.html, scores=accuracies or None, examples=examples)
    if options.json == "-":
        console.print_json(report)
    elif options.json:
        write_atomically(options.json, (console.as_json(report) + "\n").encode())
    if options.json != "-" and not options.quiet:
        print("\n".join([results.describe(), *described]))
    if not results.failures:
        return 0
    failed = "; ".join(f"{name}: {error}" for name, error in results.failures.items())
    print(f"error: not measured: {printable(' '.join(failed.split()))}", file=sys.stderr)
    return 2


def _check_outputs(options) -> None:
    """Raise now for output files that can't be written or are also inputs."""
    outputs = [
        path for path in (options.json, options.csv, options.html) if path not in (None, "-")
    ]
    for path in map(pathlib.Path, outputs):
        if path.suffix in (".tflite", ".keras", ".h5", ".npz"):
            raise InputError(f"{str(path)!r} looks like a model or data; name an output file.")
        check_target(path, [*options.files, options.data], options.force)
    if len({pathlib.Path(path).resolve() for path in outputs}) < len(outputs):
        raise InputError("--json, --csv and --html must name different files.")


def _scores(options, results, test) -> dict:
    """Score the measured files on the test split."""
    from tfkd.export.tflite.model import TFLiteModel
    from tfkd.loading import models

    scores = {}
    for name in dict.fromkeys(result.name for result in results):
        try:
            if _is_keras(name):
                scores[name] = _score_of(models.load_model(name), test)
            else:
                scores[name] = TFLiteModel.load(name).evaluate(test.x, test.y, options.engine[0])
        except TfkdError as error:  # the measurements still count
            warnings.warn(f"{name} is not scored: {error}", stacklevel=2)
    return scores


def _score_of(model, test) -> dict[str, float]:
    """Score a Keras model of one output, as `TFLiteModel.evaluate` scores a file."""
    from tfkd import output_kind
    from tfkd.model import graph, metrics

    outputs = list(graph.leaves(model.predict(test.x, verbose=0)))
    if len(outputs) > 1:
        raise InputError(f"the model has {len(outputs)} outputs; tfkd verify scores several.")
    activation = output_kind.output_activations(model)[0]
    return metrics.score(outputs[0], test.y, test.x, activation=activation)


def _is_keras(path: str) -> bool:
    from tfkd.loading.models import SUFFIXES

    return os.path.isdir(path) or (os.path.exists(path) and path.endswith(SUFFIXES))


def _profiles(options, results, data) -> dict:
    """Measure the time of each operator in the files."""
    from tfkd.export.latency import profiler
    from tfkd.export.tflite.model import TFLiteModel

    names = dict.fromkeys(result.name for result in results if result.engine != "keras")
    inputs = None if data is None else data.test.x
    profiles = {}
    for name in names:
        try:
            file = TFLiteModel.load(name)
            profiles[name] = profiler.profile(file, inputs, threads=options.threads[0])
        except TfkdError as error:
            warnings.warn(f"{name} is not profiled: {error}", stacklevel=2)
    return profiles


def _check_one_input(model, signature=None):
    from tfkd.export.verification import references

    names = references.of(model, signature).inputs.labels
    if len(names) != 1:
        raise InputError(
            f"The model {getattr(model, 'name', model)!r} has {len(names)} inputs "
            f"({', '.join(names)}), but an .npz file has data for one, x_train; use Python, where "
            "tfkd.export.to_tflite and verify take one array for each."
        )


def _shapes_given(pairs) -> dict:
    """Return the shapes of `--shape`, at most one per input."""
    shapes = dict(pairs)
    if len(shapes) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"--shape gives the input {twice!r} several shapes; give one.")
    return shapes


def _check_sizes(data, shapes):
    """Raise if the data of a single input have other sizes than the requested ones."""
    for name, shape in shapes.items():
        for split in ("train", "test"):
            actual = getattr(data, split).x.shape
            if len(actual) != len(shape) or any(
                size not in (None, length)
                for size, length in zip(shape[1:], actual[1:], strict=True)
            ):
                sizes = ", ".join("?" if size is None else str(size) for size in shape)
                raise InputError(
                    f"--shape gives {name!r} the sizes {sizes}, but x_{split} has the shape "
                    f"{actual}: give data of these sizes."
                )


def _verified(file, model, data, options):
    from tfkd.export.verification import references
    from tfkd.export.verification.verify import verify

    labels = data.test.y
    outputs = len(references.of(model, options.signature).outputs)
    if outputs != 1 and not data.test.outputs:
        labels = None
        warnings.warn(
            f"Nothing is scored: y_test labels one output, but the model has {outputs}.",
            stacklevel=2,
        )
    with warnings.catch_warnings():
        # The exit status and `_status` report it.
        warnings.filterwarnings("ignore", "VERIFICATION FAILED")
        return verify(
            file,
            model,
            data.test.x,
            labels,
            engine=options.engine,
            threshold=getattr(options, "threshold", None),
            layers=getattr(options, "layers", False),
            signature=options.signature,
        )


def _status(result) -> int:
    if result is None or result.passed:
        return 0
    failed = "; ".join(output.describe() for output in result.outputs if not output.passed)
    advice = "" if result.layers else "; tfkd verify --layers shows which layer causes it"
    print(f"verification failed: {failed}{advice}", file=sys.stderr)
    return 1


def _default_name(options) -> str:
    from tfkd.loading.models import SUFFIXES

    path = pathlib.Path(os.path.abspath(options.model))  # a link is named by itself
    name = path.stem if path.suffix in SUFFIXES else path.name
    return f"{name}_{options.format}.tflite"


def _table_of_forms(forms) -> str:
    """Return the cost of each recurrent form, one line each, in 100 columns."""
    if not forms:
        return ""
    rows = [("recurrence", "ops", "bytes", "activations", "arena", "µs", "")]
    for form in forms:
        numbers = (form.ops, form.bytes, form.activation_bytes, form.arena_bytes)
        numbers += (None if form.latency_us is None else round(form.latency_us),)
        remark = "keeps its state: reset it" if form.keeps_state else ""
        if form.error:  # the problem without the advice
            remark = printable(form.error)
            remark = re.split(r"[.:;] |, which|, so ", remark)[0].rstrip(".")
        rows.append(
            (
                form.form + (" (taken)" if form.picked else ""),
                *("–" if number is None else f"{number:,}" for number in numbers),
                remark,
            )
        )
    lines = aligned(rows, left=(0, len(rows[0]) - 1))
    return "".join(f"{line if len(line) <= 100 else line[:99] + '…'}\n" for line in lines)
