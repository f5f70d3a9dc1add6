"""The command line: its commands and options. `commands` does the work.

Exit status: 0 on success, 1 when a target was not met, 2 on bad input (one line, no
traceback), 130 after Ctrl-C, 141 if the reader of the output closed it. Nothing heavy is imported
before a command runs.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import importlib
import os
import shlex
import sys

from tfkd import files
from tfkd._version import __version__
from tfkd.cli import boards
from tfkd.cli.options import set_spellings
from tfkd.cli.reading import fraction, seconds, shape, whole_number
from tfkd.cli.training_options import add_compress, add_distill, add_prune
from tfkd.errors import TfkdError
from tfkd.escaping import printable


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name. Defaults to those of the process.

    Returns:
        The exit status.
    """
    before = len(files.finished())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_PLAINLY)
    try:
        try:
            words = sys.argv[1:] if arguments is None else arguments
            options = build_parser().parse_args(words)
            options.typed = shlex.join(["tfkd", *words])  # for the report of its result
            return importlib.import_module("tfkd.cli.commands").run(options)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, so that a full disk is an error like others
    except TfkdError as error:
        return _fail(str(error))
    except ImportError as error:
        return _fail(f"{error}; install tfkd with its dependencies: pip install tfkd")
    except MemoryError:
        return _fail("there is not enough memory for this")
    except KeyboardInterrupt:
        print(_interrupted(files.finished()[before:]), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        _discard_output()
        return 141
    except OSError as error:
        _discard_output()
        name = "" if error.filename is None else f": {str(error.filename)!r}"
        return _fail(f"{error.strerror or error}{name}")


def _fail(message: str) -> int:
    with contextlib.suppress(OSError):
        print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _interrupted(written) -> str:
    names = [os.path.relpath(path) for path in dict.fromkeys(written)]
    if not names:
        return "interrupted; nothing was written"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"interrupted; complete files: {', '.join(names[:3])}{more}"


def _discard_output() -> None:
    """Discard the buffer of standard output, which Python would write at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_PLAIN = {
    "×": "x", "µ": "u", "–": "-", "−": "-", "─": "-", "±": "+/-", "²": "2", "…": "...", "·": "*",
    "→": "->", "≤": "<=", "≥": ">=", "“": '"', "”": '"', "’": "'",
}  # fmt: skip


def _plainly(error):
    """Return text to show for characters that the terminal can't (see `codecs`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


_PLAINLY = "tfkd.plainly"
codecs.register_error(_PLAINLY, _plainly)


# A copy from `tfkd.export`, whose import is too slow for a typing error.
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
RECURRENT = ("auto", "fused", "unrolled", "loop", "step")
ENGINES = ("auto", "xnnpack", "reference", "tflm")
PROJECTS = ("cmake", "esp-idf", "arduino", "platformio", "zephyr", "stm32", "gradle")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        raise SystemExit(_fail(f"{message} (see {self.prog} --help)"))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, a subparser for each command."""
    parser = _Parser(prog="tfkd", description="From a Keras teacher to a verified .tflite file.")
    parser.add_argument("--version", action="version", version=f"tfkd {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="Print the report as JSON.")
    output.add_argument("--quiet", action="store_true", help="Print no progress and no table.")

    demo = commands.add_parser(
        "demo",
        parents=[output],
        help="Run the whole pipeline on scikit-learn's handwritten digits.",
        description="Train a teacher on 1,797 handwritten digits, distil it into a student, "
        "continue with quantization-aware training, and write verified and benchmarked float32, "
        "float16 and int8 .tflite files with a report. Nothing is downloaded. The demo takes "
        "one to two minutes.",
    )
    demo.add_argument(
        "--out",
        default="tfkd-demo",
        metavar="DIR",
        help="Write into this folder. (default: %(default)s)",
    )
    demo.add_argument("--force", action="store_true", help="Replace files of the same name in DIR.")
    demo.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="Seed the split, the weights and the training. (default: %(default)s)",
    )
    demo.add_argument(
        "--epochs",
        type=whole_number(1),
        metavar="N",
        help="Train teacher and student for N epochs, and the quantization-aware student for a "
        "third of N. (default: 40, and 15 for the quantization-aware student)",
    )
    demo.set_defaults(run="demo")
    for add in (add_compress, add_distill, add_prune):
        _add_trusted(add(commands, output))
    _add_export(commands, output)
    _add_inspect(commands, output)
    _add_verify(commands, output)
    _add_benchmark(commands)
    _add_compare(commands, output)
    boards.add_parser(commands, output)
    set_spellings(commands.choices)
    return parser


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, by its name, in the order of `tfkd --help`."""
    (found,) = (one for one in build_parser()._actions if isinstance(one.choices, dict))
    return dict(found.choices)


def _add_export(commands, output):
    export = commands.add_parser(
        "export",
        parents=[output],
        help="Convert a Keras model to a .tflite file and verify it.",
        description="Convert a .keras or .h5 file or a SavedModel to .tflite. With --data the file "
        "is verified on the test split. The exit status is 1 if it does not compute what the model "
        "computes; the file is written in any case. Given a .tflite file, --micro, --android and "
        "--web write their folders from it.",
    )
    export.add_argument(
        "model",
        metavar="MODEL",
        help="A .keras or .h5 file or a SavedModel folder; with --micro, --android or --web a "
        ".tflite file, too.",
    )
    export.add_argument(
        "--format",
        choices=FORMATS,
        metavar="F",
        help="Choose float32, float16, dynamic, int8, int16x8 or int4. (default: int8)",
    )
    export.add_argument(
        "--data",
        metavar="NPZ",
        help="An .npz file with x_train, y_train, x_test and y_test. The formats int8 and int16x8 "
        "take the ranges of activations from x_train.",
    )
    export.add_argument(
        "--out",
        metavar="FILE",
        help="Write this file. (default: MODEL's name and the format, in the current folder)",
    )
    export.add_argument("--force", action="store_true", help="Replace FILE if it exists.")
    export.add_argument(
        "--recurrent",
        choices=RECURRENT,
        default="auto",
        metavar="FORM",
        help="Convert LSTM, GRU and SimpleRNN to this form: auto, fused, unrolled, loop or step. "
        "(default: %(default)s)",
    )
    export.add_argument(
        "--batch",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="Fix the number of examples in a call. (default: %(default)s)",
    )
    export.add_argument(
        "--float-io",
        action="store_true",
        help="Keep the input and output of an integer file in float32.",
    )
    export.add_argument(
        "--uint8-io", action="store_true", help="Make the input and output of an int8 file uint8."
    )
    export.add_argument(
        "--signature",
        metavar="NAME",
        help="Convert this signature of a SavedModel. tfkd inspect lists them. (default: "
        "serving_default)",
    )
    export.add_argument(
        "--shape",
        action="append",
        default=[],
        type=shape,
        metavar="NAME=N,N",
        help="Fix the free sizes of an input, the batch first, as in token_ids=1,128. A ? leaves a "
        "size free. May be repeated.",
    )
    export.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="LAYER",
        help="Leave this layer in float in an int8 file: its name or path, or a regular expression "
        "that matches the whole of it. May be repeated.",
    )
    export.add_argument(
        "--micro",
        action="store_true",
        help="Refuse operators that microcontrollers can't run, try the file on TensorFlow Lite "
        "for Microcontrollers, and write its C++ sources into the folder FILE_micro.",
    )
    export.add_argument(
        "--android",
        action="store_true",
        help="Write FILE with its metadata, and Kotlin code for it, into the folder FILE_android.",
    )
    export.add_argument(
        "--web",
        action="store_true",
        help="Write a page that runs FILE in the browser into the folder FILE_web.",
    )
    export.add_argument(
        "--allow-flex",
        action="store_true",
        help="Keep operations that TFLite lacks as TensorFlow's own (Flex).",
    )
    export.add_argument(
        "--allow-custom", action="store_true", help="Keep unknown operations as custom operators."
    )
    export.add_argument(
        "--timeout",
        type=whole_number(1),
        default=900,
        metavar="S",
        help="End a conversion after S seconds. (default: %(default)s)",
    )
    _add_engine(export)
    bundle = export.add_argument_group("with --micro, --android or --web")
    bundle.add_argument(
        "--name", help="Use this name in identifiers and file names. (default: from FILE)"
    )
    bundle.add_argument(
        "--classes", metavar="TXT", help="Read the names of the classes, one per line."
    )
    numbers = {"type": float, "nargs": "+", "metavar": "X"}
    bundle.add_argument(
        "--mean",
        **numbers,
        help="State that the model takes (input - mean) / std, with one number or one per channel.",
    )
    bundle.add_argument("--std", **numbers, help="State the std of that formula.")
    bundle.add_argument(
        "--project",
        choices=PROJECTS,
        metavar="KIND",
        help="Make the folder a project: with --micro for cmake, esp-idf, arduino, platformio, "
        "zephyr or stm32, and for --board where it is given (a model that does not fit it gets "
        "none); with --android for gradle, an app.",
    )
    bundle.add_argument(
        "--arena",
        dest="arena_bytes",
        metavar="BYTES",
        help="With --micro, give the C++ an arena of this size, such as 4k, that the chip was "
        "measured to need. (default: the least in which the file runs here, and a margin)",
    )
    device = export.add_argument_group(
        "with --micro: the exit status is 1 if the model does not fit"
    )
    device.add_argument("--flash", metavar="BYTES", help="Flash for the file, such as 256k.")
    device.add_argument("--ram", metavar="BYTES", help="RAM for the arena, such as 64k.")
    device.add_argument(
        "--board", metavar="NAME", help="Take both from a board; tfkd boards lists them."
    )
    _add_trusted(export)
    export.set_defaults(run="export")


def _add_inspect(commands, output):
    inspect = commands.add_parser(
        "inspect",
        parents=[output],
        help="Describe a .tflite file or a Keras model.",
        description="List the operators, inputs, outputs, sizes, float tensors, state and "
        "signatures of a .tflite file; the parameters and multiply-accumulates of each layer "
        "of a Keras model; or the signatures of a SavedModel without layers. Nothing in a .tflite, "
        ".keras or .h5 file is executed.",
    )
    inspect.add_argument(
        "file", metavar="FILE", help="A .tflite, .keras or .h5 file or a SavedModel folder."
    )
    _add_trusted(inspect)
    inspect.set_defaults(run="inspect")


def _add_verify(commands, output):
    verify = commands.add_parser(
        "verify",
        parents=[output],
        help="Compare a .tflite file with the model that it was made from.",
        description="Run both on the test split, compare their outputs and score each. The exit "
        "status is 1 if they do not agree.",
    )
    verify.add_argument("file", metavar="FILE", help="A .tflite file.")
    verify.add_argument(
        "model",
        metavar="MODEL",
        help="The model that it was made from: a .keras, .h5 or float32 .tflite file or a "
        "SavedModel folder.",
    )
    verify.add_argument(
        "--data",
        metavar="NPZ",
        required=True,
        help="An .npz file with x_train, y_train, x_test and y_test.",
    )
    verify.add_argument(
        "--threshold",
        type=fraction,
        metavar="A",
        help="Require that the classes agree on this share of the examples, 0 to 1.",
    )
    verify.add_argument(
        "--signature",
        metavar="NAME",
        help="Compare with this signature of a SavedModel. (default: serving_default)",
    )
    verify.add_argument("--layers", action="store_true", help="Show how much each layer loses.")
    _add_engine(verify)
    _add_trusted(verify)
    verify.set_defaults(run="verify")


def _add_benchmark(commands):
    benchmark = commands.add_parser(
        "benchmark",
        help="Measure the latency of models and compare them.",
        description="Measure how long a call takes, with a 95 % interval, and the ratio of each "
        "model to the baseline. The models take turns, each in its own processes. With several "
        "values of --threads, --engine or --batch every combination is measured. Figures from this "
        "machine do not predict a phone: --android runs LiteRT's benchmark_model on one.",
    )
    benchmark.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="A .tflite, .keras or .h5 file or a tf_keras SavedModel.",
    )
    benchmark.add_argument(
        "--baseline", metavar="FILE", help="Compare the others with this file. (default: the first)"
    )
    numbers = {"type": whole_number(1), "nargs": "+", "metavar": "N"}
    benchmark.add_argument(
        "--threads",
        **numbers,
        default=[1],
        help="Give the interpreter N threads. (default: 1)",
    )
    benchmark.add_argument(
        "--engine",
        choices=("xnnpack", "reference"),
        nargs="+",
        default=["xnnpack"],
        metavar="E",
        help="Run the files with xnnpack, reference or both. (default: xnnpack)",
    )
    benchmark.add_argument(
        "--batch",
        **numbers,
        default=[None],
        help="Pass N examples per call. (default: the file's own number)",
    )
    benchmark.add_argument(
        "--data",
        metavar="NPZ",
        help="An .npz file with x_train, y_train, x_test and y_test. Examples of the test split "
        "are fed and scored.",
    )
    benchmark.add_argument(
        "--profile", action="store_true", help="Show the time of each operator in XNNPACK."
    )
    benchmark.add_argument(
        "--min-runs",
        type=whole_number(2),
        default=50,
        metavar="N",
        help="Time at least N calls of each model. (default: %(default)s)",
    )
    benchmark.add_argument(
        "--min-seconds",
        type=seconds,
        default=1.0,
        metavar="S",
        help="Time each model for about S seconds. (default: %(default)g)",
    )
    benchmark.add_argument(
        "--max-seconds",
        type=seconds,
        default=150.0,
        metavar="S",
        help="Time each model, and one call, for at most S seconds. (default: %(default)g)",
    )
    benchmark.add_argument(
        "--processes",
        type=whole_number(1),
        default=5,
        metavar="N",
        help="Measure each model in N processes, one after the other. (default: %(default)s)",
    )
    benchmark.add_argument(
        "--no-isolate", action="store_true", help="Measure all models in one process at a time."
    )
    benchmark.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="OUT",
        help="Write JSON to OUT, or print it instead of the tables.",
    )
    benchmark.add_argument("--csv", metavar="OUT", help="Write one line per result to OUT.")
    benchmark.add_argument("--html", metavar="OUT", help="Write a page with plots to OUT.")
    benchmark.add_argument(
        "--force", action="store_true", help="Replace OUT of --json, --csv and --html."
    )
    benchmark.add_argument("--quiet", action="store_true", help="Print no progress and no tables.")
    android = benchmark.add_argument_group("on a phone")
    android.add_argument(
        "--android",
        action="store_true",
        help="Run benchmark_model over adb. Without --adb and --benchmark-model, print the "
        "commands.",
    )
    android.add_argument(
        "--adb",
        metavar="PATH",
        help="The path of the program adb, of the Android SDK's platform-tools.",
    )
    android.add_argument(
        "--benchmark-model",
        metavar="PATH",
        help="The path of LiteRT's benchmark_model, built for the phone.",
    )
    android.add_argument(
        "--serial",
        metavar="ID",
        help="The serial number of the phone, where several are connected.",
    )
    android.add_argument(
        "--delegate",
        choices=("xnnpack", "builtin", "gpu"),
        metavar="D",
        help="Run with xnnpack, builtin (TensorFlow Lite's own kernels) or gpu. (default: xnnpack)",
    )
    _add_trusted(benchmark)
    benchmark.set_defaults(run="benchmark")


def _add_compare(commands, output):
    compare = commands.add_parser(
        "compare",
        parents=[output],
        help="Find out which way of distilling helps on your data.",
        description="Train the same student without a teacher and in several ways under it, with "
        "several seeds; choose the best on a tenth of the training data that is held out, and "
        "report it on the test split, with 95 % intervals and the Python that repeats it. The "
        "teacher is asked once about each example.",
    )
    compare.add_argument(
        "teacher", metavar="TEACHER", help="A .keras, .h5 or .tflite file or a SavedModel folder."
    )
    compare.add_argument(
        "--student",
        metavar="MODEL",
        required=True,
        help="The untrained student: a .keras or .h5 file. The first seed starts from its weights, "
        "the others draw new ones.",
    )
    compare.add_argument(
        "--data",
        metavar="NPZ",
        required=True,
        help="An .npz file with x_train, y_train, x_test and y_test.",
    )
    compare.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="What to compare with training alone: auto, a soft loss such as kl, dist or dkd, or "
        "label_smoothing. An unknown name lists all of them. (default: auto, kl, standardized_kl, "
        "dist, label_smoothing and others, where they fit)",
    )
    compare.add_argument(
        "--seeds",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="Each method is trained with seeds 0 to N - 1. (default: %(default)s)",
    )
    compare.add_argument(
        "--epochs",
        type=whole_number(1),
        default=20,
        metavar="N",
        help="Every run trains for N epochs. (default: %(default)s)",
    )
    compare.add_argument(
        "--batch-size",
        type=whole_number(1),
        default=32,
        metavar="N",
        help="Every step takes N examples. (default: %(default)s)",
    )
    compare.add_argument(
        "--learning-rate",
        type=float,
        default=3e-3,
        metavar="X",
        help="Adam starts with it and ends at zero, along a cosine. (default: %(default)s)",
    )
    compare.add_argument(
        "--search",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="Search method, alpha and temperature in N further runs with the first seed, by "
        "Optuna. (default: no search)",
    )
    compare.add_argument(
        "--metric",
        metavar="NAME",
        help="Choose by accuracy, precision, recall, f1, auc, rmse or mae. (default: accuracy for "
        "classes, auc for several labels, rmse for values)",
    )
    compare.add_argument(
        "--task",
        metavar="NAME",
        help="Name the kind of the labels where the data does not show it: categorical, binary, "
        "multilabel or regression.",
    )
    compare.add_argument(
        "--out",
        metavar="DIR",
        help="Keep finished runs here, and at the end compare.json, compare.svg and student.keras. "
        "The same command continues after an interruption.",
    )
    _add_trusted(compare)
    compare.set_defaults(run="compare")


def _add_trusted(parser):
    parser.add_argument(
        "--trusted",
        action="store_true",
        help="Also read a SavedModel whose graph reads or writes files or calls Python. This code "
        "runs.",
    )


def _add_engine(parser):
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        metavar="E",
        help="Run the file with xnnpack, reference or tflm. (default: auto, which is xnnpack)",
    )
