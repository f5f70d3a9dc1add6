"""`micro_bundle`: a `.tflite` file as C++ for a microcontroller's project, tested on the host.

    file ─► operators checked ─► run on the host's TensorFlow Lite for Microcontrollers ─► folder

The folder is written from the templates in `templates/`, complete or not at all. The module
`project` knows the form of each kind of project.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd import _version
from tfkd.errors import ConversionError, InputError, UnsupportedError, argument, raise_all
from tfkd.escaping import in_markdown, printable
from tfkd.export.micro import boards, evaluation
from tfkd.export.micro import project as projects
from tfkd.export.templating import environment
from tfkd.export.tflite import tflm_kernels
from tfkd.export.tflite.golden import golden_example, random_call
from tfkd.export.tflite.metadata import checked_class_names, data_outputs, from_data, is_text
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.tflite.schema import TensorInfo
from tfkd.files import staged_folder, write_atomically
from tfkd.model import backends
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import Arrays, PathLike

# C++ type of each type that a kernel takes, and its member name in a tensor.
_TYPES = {
    "int8": ("int8_t", "kTfLiteInt8"),
    "uint8": ("uint8_t", "kTfLiteUInt8"),
    "int16": ("int16_t", "kTfLiteInt16"),
    "uint16": ("uint16_t", "kTfLiteUInt16"),
    "int32": ("int32_t", "kTfLiteInt32"),
    "uint32": ("uint32_t", "kTfLiteUInt32"),
    "float32": ("float", "kTfLiteFloat32"),
    "bool": ("bool", "kTfLiteBool"),
}
_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern
false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
operator or or_eq private protected public register reinterpret_cast requires return short signed
sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
# Names with two underscores, also at a joint of two words, are reserved for the compiler.
_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
# Kernels for a chip may round in other places than the portable ones. TensorFlow Lite's kernels
# show on the data how much that matters in a file. Without TFLM here nothing was measured;
# elsewhere the two differed by up to 7 steps.
_LEAST_LSB, _UNPROVEN_LSB = 1, 8
# Fraction of the largest number in a float output.
_FLOAT_TOLERANCE = 1e-4
# Size of the programs of four nets without their files (docs/results/micro.md, "Projects").
_FIRMWARE_BYTES = (
    "On a Cortex-M4F the programs of four nets took 76 to 90 kB beside their files with portable "
    "kernels, and 91 to 121 kB with CMSIS-NN's; of other operators it is another size."
)
_COLUMNS = 100


@dataclasses.dataclass(frozen=True)
class MicroBundle(Printed):
    """A bundle that has been written.

    Attributes:
        name: The name in its files and identifiers.
        folder: Path of the folder.
        files: Name of each file → its size in bytes.
        ops: The methods that add kernels to the resolver.
        arena_bytes: The size of the arena in the C++, margin included.
        proof: The result of running the file, or `None` if that was not possible.
        project: The kind of project, or `None` for sources alone.
    """

    name: str
    folder: pathlib.Path
    files: dict[str, int]
    ops: tuple[str, ...]
    arena_bytes: int
    proof: evaluation.MicroEvaluation | None
    project: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the bundle as plain values, without the golden example."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "files": dict(self.files),
            "ops": list(self.ops),
            "arena_bytes": self.arena_bytes,
            "proof": None if self.proof is None else self.proof.to_json(),
            "project": self.project,
        }

    def describe(self) -> str:
        """Describe the bundle, and the evidence that it works, in a few lines."""
        lines = [
            f"{self.name}: {len(self.files)} files in {self.folder}"
            + (f", a project for {self.project}" if self.project else ""),
            f"arena in the C++: {self.arena_bytes:,} bytes",
            f"operators: {', '.join(self.ops)}",
            *(["on TensorFlow Lite for Microcontrollers, run here:"] if self.proof else []),
            *_evidence(self.proof, self.ops),
        ]
        return "\n".join(_wrapped(line, indent="  ") for line in lines)


def micro_bundle(
    model: TFLiteModel | PathLike,
    out_dir: PathLike,
    name: str,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    preprocessing: Any = None,
    *,
    x: Arrays | None = None,
    y: Arrays | None = None,
    force: bool = False,
    arena_bytes: int | None = None,
    project: str | None = None,
    board: str | boards.Board | None = None,
    notice: str = "",
) -> MicroBundle:
    """Write a `.tflite` file as C++ for TensorFlow Lite for Microcontrollers, tested on the host.

    The folder holds the file's bytes as an array, a resolver with its operators and no others,
    shapes, scales and the arena's size as constants, functions for C that run it on real numbers,
    a golden example, and a `main.cc` that runs the example and checks the answer. Use it for the
    file that ships.

    Args:
        model: A `TFLiteModel` or the path of a `.tflite` file, best from
            `to_tflite(..., micro=True)`.
        out_dir: The folder to make. On an error it stays as it was before.
        name: A C identifier; files and symbols begin with it (`g_NAME_model_data`).
        class_names: One string per number of the output's last dimension; for several outputs of
            that many numbers a dict by output name.
        preprocessing: The application's preprocessing of its data: a text, or a dict of
            numbers, lists of numbers and texts such as `{"scale": 1 / 255, "mean": [0.5]}`,
            which become constants.
        x: Examples to test the file on, as for `TFLiteModel.predict`; without them it is run on
            random numbers. A `tfkd.data.Data` gives its test split, and its labels and class
            names in place of a missing `y` or `class_names`.
        y: Labels of `x`.
        force: Whether files in `out_dir` may be replaced.
        arena_bytes: The arena's size. Defaults to the least size found, plus a margin. It may be
            less than the 64-bit host needs, for a chip on which a smaller arena was measured to
            be enough: a warning says that nothing here tests it. With this argument a bundle can
            be made without `tflite-micro`, and is then not tested. A file for Arm's Ethos-U
            needs it, since only the chip runs the file; Vela reports the size. In the C++ the
            macro `NAME_ARENA_BYTES` replaces it.
        project: The kind of project to make: `"cmake"` (and Make, for this computer too),
            `"esp-idf"`, `"arduino"`, `"platformio"`, `"zephyr"` or `"stm32"`. Defaults to the
            sources alone.
        board: A name in `tfkd.export.micro.boards.BOARDS` (`tfkd boards` lists them) or a `Board`.
            The model must fit it, and the project is made for it.
        notice: Text at the top of the README, such as the `verify(...).failure` of a file that
            failed and is written all the same. Defaults to none.

    Returns:
        A `MicroBundle`.

    Raises:
        InputError: for an invalid name, class names, preprocessing, arena, project or board, or
            a folder that can't be written.
        UnsupportedError: if the file needs something that microcontrollers' kernels lack, or does
            not fit the board.
        ConversionError: if the file does not run on TensorFlow Lite for Microcontrollers.
        MissingDependencyError: if `tflite-micro` is not installed and no `arena_bytes` given.

    Example:
        >>> from tfkd.export import micro_bundle
        >>> micro_bundle("student_int8.tflite", "bundle", "my-model")
        Traceback (most recent call last):
        ...
        tfkd.errors.InputError: name='my-model' is no C identifier ...
    """
    notes = _preprocessing(preprocessing)
    flaws = [*_flaws_of_name(name), *projects.flaws_of_name(name, project)]
    raise_all([*flaws, *_flaws_of_arena(arena_bytes), *notes.flaws])
    kind, board = projects.kind_of(project), boards.find(board)
    board_id = projects.check_board(project, board)
    file = _file(model)
    x, y, class_names = from_data(file, x, y, class_names)
    if tflm_kernels.NPU in file.ops and arena_bytes is None:
        raise InputError(
            "The file has operators for Arm's Ethos-U, which only the chip runs: give "
            f"{argument('arena_bytes')}. Vela reports the SRAM used; add some for the operators "
            "that stay on the processor."
        )
    calls = tflm_kernels.resolver_calls(file)
    inputs, outputs = _tensors(file)
    classes = _class_names_by_place(file, class_names)
    with staged_folder(out_dir, force=force) as folder:  # first checks that it can be written
        proof = None
        if tflm_kernels.NPU in file.ops:
            golden = random_call(file) if x is None else file.first_call(x), None
        elif arena_bytes is None or evaluation.is_installed():
            proof = evaluation.evaluate_on_tflm(file, x, y)
            golden = proof.golden_inputs, proof.golden_outputs
        else:
            golden = golden_example(file, x)
        arena = _arena(arena_bytes, proof)
        projects.check_fit(file.size, arena, board)
        content = {
            "name": name,
            "file": file,
            "calls": calls,
            "inputs": _with_golden(inputs, golden[0], proof),
            "outputs": outputs if golden[1] is None else _with_golden(outputs, golden[1], proof),
            "answered": golden[1] is not None,
            "classes": classes,
            "preprocessing": notes,
            "states": _states(file),
            "arena": arena,
            "arena_basis": _arena_basis(arena, proof),
            "golden_source": _golden_source(file, x),
            "tolerance_basis": _tolerance_basis(file, proof),
            "firmware_bytes": _FIRMWARE_BYTES,
            "notice": notice,
            "evidence": _evidence(proof, calls),
            "proven": proof is not None,
            "version": _version.__version__,
            "project": project,
            "board": board,
            "board_id": board_id,
        }
        sizes = {}
        for target, text in _render(name, content, kind).items():
            data = text.encode()
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / target, data)
            sizes[target] = len(data)
    out = pathlib.Path(out_dir).absolute()
    return MicroBundle(name, out, sizes, tuple(calls), arena, proof, project)


def _file(model) -> TFLiteModel:
    if isinstance(model, (str, os.PathLike)):
        model = TFLiteModel.load(model)
    if isinstance(model, TFLiteModel):
        return model
    if backends.flavour(model) is not None:
        raise InputError(
            f"micro_bundle takes a .tflite file, got the Keras model {model.name!r}; call "
            f"to_tflite(model, 'int8', data, {argument('micro', True)}) first."
        )
    raise InputError(
        "micro_bundle takes a TFLiteModel or the path of a .tflite file, got "
        f"{type(model).__name__}."
    )


def clean_name(name: str) -> str:
    """Return a similar name that is valid in C identifiers and file names."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    clean = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_") or "model"
    clean = clean if clean[0].isalpha() else f"model_{clean}"
    return clean + "_net" * (clean in _KEYWORDS.split())


def check_name(name) -> None:
    """Raise an `InputError` for a name that a bundle can't have."""
    raise_all(_flaws_of_name(name))


def _flaws_of_name(name):
    if not isinstance(name, str):
        yield f"name must be a C identifier, got {type(name).__name__}"
    elif name in _KEYWORDS.split():
        yield f"{argument('name', name)} is a C++ keyword; try {name + '_net'!r}"
    elif not _NAME.fullmatch(name):
        yield (
            f"{argument('name', name)} is not a C identifier of letters, digits and single "
            f"underscores inside; try {clean_name(name)!r}"
        )


def _flaws_of_arena(size):
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        said = argument("arena_bytes", alone=True)
        yield f"{said} must be a whole number of at least 1, got {size!r}"


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """An input or output in the form that the templates use."""

    info: TensorInfo
    place: int
    golden: np.ndarray | None = None
    tolerance: float = 0.0
    unit: str = ""

    @property
    def type(self) -> str:
        return _TYPES[self.info.dtype][0]

    @property
    def tag(self) -> str:
        return _TYPES[self.info.dtype][1]

    @property
    def count(self) -> int:
        return int(np.prod(self.info.shape, dtype=np.int64))


def _tensors(file: TFLiteModel):
    flaws = []
    for what, infos in (("input", file.inputs), ("output", file.outputs)):
        for info in infos:
            if info.dtype not in _TYPES:
                flaws.append(
                    f"the {what} {info.name!r} has the dtype {info.dtype}, which C++ lacks"
                )
            elif info.free:
                flaws.append(
                    f"the {what} {info.name!r}, {info.sizes}, has a free size: fix it with "
                    f"{argument('shapes', of='to_tflite')}"
                )
            elif 0 in info.shape:
                flaws.append(f"the {what} {info.name!r}, {list(info.shape)}, has no values")
    if "VAR_HANDLE" in file.ops:
        flaws.append(
            "the file keeps its state in variables (VAR_HANDLE), which the bundle's main.cc does "
            f"not set up: convert with {argument('recurrent', 'step')} or without stateful=True"
        )
    raise_all(flaws, UnsupportedError, code="tflm-tensors")
    both = (file.inputs, file.outputs)
    return tuple([_Tensor(info, place) for place, info in enumerate(infos)] for infos in both)


def _with_golden(tensors, golden, proof) -> list[_Tensor]:
    done = []
    for tensor, values in zip(tensors, golden, strict=True):
        values = np.asarray(values)
        if not np.isfinite(values).all():
            raise ConversionError(
                f"{tensor.info.name!r} of the golden example is NaN or infinite, so there is "
                "no answer to check against; check the range of the inputs.",
                code="golden-example",
            )
        if tensor.info.dtype == "float32":
            tolerance, unit = _FLOAT_TOLERANCE * max(1.0, float(np.abs(values).max())), "absolute"
            tolerance = max(tolerance, (proof and proof.max_abs_diff) or 0.0)
        elif tensor.info.scale is None:
            tolerance, unit = 0.0, "exact"
        else:
            tolerance, unit = float(_steps(proof)), "LSB"
        done.append(_Tensor(tensor.info, tensor.place, values.reshape(-1), tolerance, unit))
    return done


def _steps(proof) -> int:
    """Return the number of steps of its scale by which an integer output may differ."""
    return _UNPROVEN_LSB if proof is None else max(_LEAST_LSB, proof.max_lsb or 0)


def _tolerance_basis(file: TFLiteModel, proof) -> str:
    """Describe the tolerance of the golden answer and its reason."""
    if any(info.scale is not None for info in file.outputs):
        steps, least = _steps(proof), f"{_LEAST_LSB} step"
        allowed = f"{steps} step{'' if steps == 1 else 's'} of the scale of an integer output"
    elif any(info.dtype == "float32" for info in file.outputs):
        allowed = least = f"{_FLOAT_TOLERANCE:g} of the largest number (of 1, if that is more)"
    else:
        return "Tolerance: none; the outputs are no measurements."
    if proof is None or not proof.samples:
        return f"Tolerance: {allowed}. No other kernels were compared on this file."
    return (
        f"Tolerance: {allowed}. As much as TensorFlow Lite's reference kernels were off on the "
        f"{proof.samples:,} examples compared is allowed, and at least {least}."
    )


def _golden_source(file: TFLiteModel, x) -> str:
    """Describe the source of the golden example."""
    if x is None:
        return "random numbers, since no data were given"
    step = ", its first step from a state of zero" if file.states else ""
    return f"the first example of {argument('x', alone=True)}{step}"


def _class_names_by_place(file: TFLiteModel, class_names) -> dict[int, tuple[str, ...]]:
    """Return the place and the checked class names of each output that has them.

    A single list applies to the only output with as many numbers.
    """
    widths = {info.name: info.shape[-1] if info.shape else 1 for info in data_outputs(file)}
    if isinstance(class_names, (list, tuple, np.ndarray)):
        fitting = [name for name, width in widths.items() if width == len(class_names)]
        class_names = {fitting[0]: class_names} if len(fitting) == 1 else class_names
    names_of = checked_class_names(file, class_names, is_text, "text that a C string can hold")
    return {
        place: names_of[info.name]
        for place, info in enumerate(file.outputs)
        if info.name in names_of
    }


@dataclasses.dataclass(frozen=True)
class _Constant:
    name: str
    type: str
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Preprocessing:
    """The preprocessing argument as lines of comment and constants, and its flaws."""

    lines: tuple[str, ...] = ()
    constants: tuple[_Constant, ...] = ()
    flaws: tuple[str, ...] = ()


def _preprocessing(given) -> _Preprocessing:
    if given is None:
        return _Preprocessing()
    if isinstance(given, str):
        return _Preprocessing(tuple(given.splitlines()))
    if not isinstance(given, dict):
        kind = type(given).__name__
        return _Preprocessing(
            flaws=(f"{argument('preprocessing', alone=True)} must be text or a dict, got {kind}",)
        )
    lines, constants, flaws = [], [], []
    for key, value in given.items():
        if isinstance(value, str):
            lines.append(f"{key}: {value}")
            continue
        name = "".join(part[:1].upper() + part[1:] for part in str(key).split("_"))
        try:
            values = np.asarray(value)
        except ValueError:  # rows of different lengths
            values = np.asarray(None)
        if not re.fullmatch(r"[A-Za-z0-9]+", name):
            flaws.append(
                f"{argument('preprocessing', alone=True)} has the key {key!r}, which can't become "
                "a C identifier"
            )
        elif name in {constant.name for constant in constants}:
            flaws.append(
                f"{argument('preprocessing', alone=True)} has two keys that both become "
                f"kPreprocessing{name}"
            )
        elif values.dtype.kind not in "biuf" or values.ndim > 1 or not values.size:
            flaws.append(
                f"{argument('preprocessing', alone=True)}[{key!r}] must be a number, a list of "
                "numbers or text"
            )
        else:
            constant = _constant(name, values)
            if constant is None:
                flaws.append(
                    f"{argument('preprocessing', alone=True)}[{key!r}] has numbers that neither "
                    "float nor int32_t can hold"
                )
            else:
                constants.append(constant)
    return _Preprocessing(tuple(lines), tuple(constants), tuple(flaws))


def _preprocess_line(notes: _Preprocessing, inputs: Sequence[_Tensor], name: str) -> list[str]:
    """Return the C lines that apply a mean and a std; empty for other preprocessing."""
    given = {constant.name: constant.values for constant in notes.constants}
    if set(given) != {"Mean", "Std"} or len(inputs) != 1:
        return []
    parts = []
    for key, values in given.items():
        index = "" if not values.ndim else "[0]" if len(values) == 1 else f"[i % {len(values)}]"
        parts.append(f"{name}_kPreprocessing{key}{index}")
    return [f"x[i] = (raw[i] - {parts[0]})", f"       / {parts[1]};"]


def _constant(name, values) -> _Constant | None:
    if values.dtype.kind == "b":
        return _Constant(name, "bool", values)
    if values.dtype.kind in "iu":
        limits = np.iinfo(np.int32)
        fits = values.min() >= limits.min and values.max() <= limits.max
        return _Constant(name, "int32_t", values.astype(np.int32)) if fits else None
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return _Constant(name, "float", values) if np.isfinite(values).all() else None


def _states(file: TFLiteModel) -> list[tuple[int, int, int]]:
    """Return (output, input, bytes) of each state of a step file."""
    names = [info.name for info in file.inputs], [info.name for info in file.outputs]
    found = []
    for source, target in file.states:
        i, o = names[0].index(source), names[1].index(target)
        info = file.inputs[i]
        found.append((o, i, int(np.prod(info.shape)) * np.dtype(info.dtype).itemsize))
    return found


def _arena(given: int | None, proof) -> int:
    """Return the size of the arena for the C++."""
    if given is None:
        return proof.arena_bytes + proof.margin_bytes
    if proof is not None and given < proof.arena_bytes:
        warnings.warn(
            f"{argument('arena_bytes', given)} is less than the {proof.arena_bytes:,} bytes that "
            f"the file needs on this computer ({proof.basis}). A 32-bit chip may need less: only "
            "the golden test on the chip shows whether it is enough.",
            stacklevel=3,
        )
    return given


def _arena_basis(size: int, proof) -> str:
    if proof is None:
        return f"{size:,} bytes were given; whether they are enough was not tested here."
    if size < proof.arena_bytes:
        return (
            f"{size:,} bytes were given for a chip, fewer than the {proof.arena_bytes:,} that the "
            f"host needs ({proof.basis}). Whether they are enough was not tested here."
        )
    return (
        f"{proof.arena_bytes:,} bytes are the least in which it runs ({proof.basis}); "
        f"{size - proof.arena_bytes:,} more are for other kernels and versions."
    )


def _evidence(proof, calls) -> list[str]:
    """Describe the result of running the file, in lines."""
    if tflm_kernels.CUSTOM_METHODS[tflm_kernels.NPU] in calls:
        return ["not tested here: only the chip runs the operators for Arm's Ethos-U."]
    if proof is None:
        return [
            "not tested here: tflite-micro was not installed. The golden example's answer is that "
            "of TensorFlow Lite's reference kernels."
        ]
    said = proof.describe().splitlines()
    if not proof.samples:
        said.append(
            "nothing was compared: no data were given; the golden example is random numbers"
        )
    return said


_ABOUT = {
    "model.h": "declares the array and its length",
    "model.cc": "the .tflite file as an aligned array",
    "ops.h": "a resolver with the operators that the file needs, and no others",
    "config.h": "shapes, types, scales, class names, size of the arena, for C and C++",
    "tensors.h": "from real numbers to tensors and back",
    "infer.h": "setup, infer and reset, for C and C++",
    "infer.cc": "the arena, the interpreter and these functions",
    "golden.h": "declares the golden example, and how near an answer must be",
    "golden.cc": "an example as tensors, and its answer",
    "golden_test.cc": "the golden example as a test",
    "main.cc": "runs the golden example, checks and prints the answer",
    "README.md": "this page",
}


def _render(name: str, content: dict, kind: projects.Kind) -> dict[str, str]:
    """Return the name and text of each file of the bundle."""
    files = environment("micro", keep_trailing_newline=True)
    files.filters.update(
        markdown=in_markdown,
        text=c_string,
        comment=c_comment,
        number=lambda value: _literals(value)[0],
        numbers=lambda values: _rows(_literals(values)),
        bytes=lambda data: _rows([f"0x{byte:02x}" for byte in data]),
        shown=printable,
        wrapped=_wrapped,
    )
    templates, about = {}, {}
    for part, what in _ABOUT.items():
        folder = kind.headers if part.endswith(".h") else kind.sources
        target = f"{folder}{name}_{part}".replace(".cc", kind.suffix)
        target = {"main.cc": kind.main, "README.md": part}.get(part, target).format(name=name)
        templates[target], about[target] = part, what
    for target, (template, what) in kind.files.items():
        target = target.format(name=name)
        templates[target], about[target] = f"{content['project']}/{template}", what
    more = {
        "about": about,
        "sources": [one for one, part in templates.items() if part in _SOURCES],
        "main": kind.main.format(name=name),
        "entry": kind.entry,
        "runtime_header": kind.runtime_header,
        "kernels": projects.kernels_of(kind, content["file"].ops),
        **_roles(content),
    }
    return {
        target: files.get_template(part).render({**content, **more})
        for target, part in templates.items()
    }


_SOURCES = [part for part in _ABOUT if part.endswith(".cc") and part != "main.cc"]


def _roles(content) -> dict[str, Any]:
    """Return the arguments of the C functions: tensors other than states, and places of states."""
    states = content["states"]
    within = [{state[which] for state in states} for which in (1, 0)]
    data = [
        [tensor for tensor in tensors if tensor.place not in places]
        for tensors, places in zip((content["inputs"], content["outputs"]), within, strict=True)
    ]
    named = [("const ", "input", tensor) for tensor in data[0]]
    named += [("", "output", tensor) for tensor in data[1]]
    golden = [f"m::kGoldenInput{tensor.place}" for tensor in data[0]]
    golden += [f"g_output{tensor.place}" for tensor in data[1]]
    return {
        "data_inputs": data[0],
        "data_outputs": data[1],
        "parameters": [
            ",\n    ".join(
                f"{const}{tensor.type if own or tensor.info.scale is None else 'float'}* "
                f"{what}{tensor.place}"
                for const, what, tensor in named
            )
            for own in (False, True)
        ],
        "preprocess_line": _preprocess_line(content["preprocessing"], data[0], content["name"]),
        "golden_arguments": ",\n      ".join(golden),
        "quantized": any(tensor.info.scale is not None for tensor in data[0] + data[1]),
        "offsets": [sum(size for _, _, size in states[:i]) for i in range(len(states))],
    }


def c_string(text: str) -> str:
    """Return a C string literal that holds any text as UTF-8.

    Octal escapes end after three digits; `?` is escaped for the sake of trigraphs.
    """
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def c_comment(text: str) -> str:
    """Return a text as lines of a `//` comment; no text can end the comment early."""
    shown = re.sub(r"\?(?=\?)", "? ", printable(text))  # no trigraphs
    lines = textwrap.wrap(shown, _COLUMNS - 5, break_on_hyphens=False) or [""]
    # A backslash at the end would continue the comment on the next line.
    lines = [f"{line} ." if line.endswith("\\") else line for line in lines]
    return "\n".join(f"// {line}".rstrip() for line in lines)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        printable(text), _COLUMNS, subsequent_indent=indent, break_on_hyphens=False
    )


def _literals(values) -> list[str]:
    """Return numbers as C++ literals; a float32 as the shortest text that reads back equal."""
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind == "f":
        return [f"{value!s}f" for value in flat.astype(np.float32)]
    if flat.dtype == bool:
        return ["true" if value else "false" for value in flat]
    return [f"{value}u" if flat.dtype.kind == "u" else f"{value}" for value in flat]


def _rows(words: list[str]) -> str:
    """Return the content of an initializer, in lines."""
    size = (_COLUMNS - 4) // (max(map(len, words)) + 2)
    rows = (", ".join(words[i : i + size]) for i in range(0, len(words), size))
    return ",\n".join(f"    {row}" for row in rows)
