"""`android_bundle`: everything that an Android app needs for a model, tested, in one folder.

    bundle/  NAME.tflite           with TFLite Metadata and a named signature
             labels.txt
             NAMEClassifier.kt     LiteRT's CompiledModel (NAMERegressor.kt without class names)
             NAMEInterpreter.kt    the Interpreter
             run.py                runs the file on a Raspberry Pi or another Linux computer
             README.md             sizes, scores, Gradle lines, commands for a phone

The Kotlin files quantize, dequantize, normalize, look labels up and carry or reset the state, all
with the numbers and names of their `.tflite` file. As a project, the folder is an app: the module
`project` adds files to it and decides where the bundle's files go.

References: https://developers.google.com/edge/litert/next/android_kotlin (CompiledModel),
https://ai.google.dev/edge/litert/android/gpu (the Interpreter's GPU delegate).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd._version import __version__
from tfkd.errors import ConversionError, InputError, UnsupportedError, argument, raise_all
from tfkd.escaping import as_code, identifiers, in_markdown, printable
from tfkd.export.android import project as projects
from tfkd.export.android.kotlin import INTERFACES, TYPES, Kotlin, class_name, rendered
from tfkd.export.latency import android_device
from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite import writer
from tfkd.export.tflite.gpu_operators import SOURCE, CpuOperator
from tfkd.export.tflite.metadata import (
    data_inputs,
    data_outputs,
    from_data,
    label_files_of,
    label_text,
    labels_of,
    normalizations_of,
    parsed_anew,
    read_metadata,
    with_metadata,
)
from tfkd.export.tflite.model import TFLiteModel
from tfkd.files import staged_folder
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import Arrays, PathLike

#: The date of the facts below.
LOOKED_UP = "November 2026"
#: Artifacts on Google's Maven repository. LiteRT's Kotlin guide names the first two together
#: (developers.google.com/edge/litert/next/android_kotlin); the table of releases has 1.4.2 as the
#: last one whose Interpreter takes delegates (developers.google.com/edge/litert/android).
GRADLE = {
    "compiled_model": (
        "com.google.ai.edge.litert:litert:2.3.0",
        "com.google.ai.edge.litert:litert-gpu:2.3.0",
    ),
    "interpreter": (
        "com.google.ai.edge.litert:litert:1.4.2",
        "com.google.ai.edge.litert:litert-gpu:1.4.2",
        "com.google.ai.edge.litert:litert-gpu-api:1.4.2",
    ),
}
#: The signature key for files without one; the converter uses the same name.
SIGNATURE = "serving_default"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_PROOF_EXAMPLES = 8


@dataclasses.dataclass(frozen=True)
class AndroidModel:
    """One `.tflite` file of a bundle.

    Attributes:
        file: The file's name in the folder.
        bytes: Its size, metadata and labels included.
        sha256: SHA-256 of its bytes.
        ops: Operators and how often each occurs.
        integer_only: Whether none of its tensors is floating-point.
        holds: The types of its numbers, in words.
        prefers_gpu: Whether its Kotlin files try the GPU by default.
        metrics: Its scores with XNNPACK; empty without labels.
        kotlin: The Kotlin files for it.
        metadata: Its metadata, as `read_metadata` returns it.
        cpu_operators: The operators that LiteRT's GPU delegate would hand back to the CPU, and why.
    """

    file: str
    bytes: int
    sha256: str
    ops: dict[str, int]
    integer_only: bool
    holds: str
    prefers_gpu: bool
    metrics: dict[str, float]
    kotlin: tuple[str, ...]
    metadata: dict[str, Any]
    cpu_operators: tuple[CpuOperator, ...]


@dataclasses.dataclass(frozen=True)
class AndroidBundle(Printed):
    """The folder that `android_bundle` wrote.

    Attributes:
        name: The model's name.
        folder: Path of the folder.
        files: Names of all files in the folder.
        models: The `.tflite` files; `android_bundle`'s `model` is the first.
        project: The kind of project, or `None` for files to copy.
    """

    name: str
    folder: pathlib.Path
    files: tuple[str, ...]
    models: tuple[AndroidModel, ...]
    project: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            **dataclasses.asdict(self),
            "folder": str(self.folder),
            "gradle": {kind: list(lines) for kind, lines in GRADLE.items()},
            "looked_up": LOOKED_UP,
        }

    def describe(self) -> str:
        """Describe the folder's contents in a few lines."""
        lines = [f"{self.name} for Android in {self.folder}"]
        lines[0] += f", a project for {self.project}" if self.project else ""
        for model in self.models:
            labels = [len(one["labels"]) for one in model.metadata["outputs"] if one["labels"]]
            facts = [
                f"{model.bytes:,} bytes",
                model.holds,
                *(f"{name} {value:.4g}" for name, value in _shown(model.metrics).items()),
                *(f"{count} labels" for count in labels),
                "GPU first" if model.prefers_gpu else "CPU",
                *(f"the GPU hands back {one.op} ×{one.count}" for one in model.cpu_operators),
                *model.kotlin,
            ]
            lines.append(f"{model.file}: {', '.join(facts)}")
        about = "how to build and test the app" if self.project else "what to copy where"
        lines.append(f"next: README.md says {about}")
        return "\n".join(
            textwrap.fill(printable(line), 100, subsequent_indent="  ", break_on_hyphens=False)
            for line in lines
        )


def android_bundle(
    model: TFLiteModel | PathLike,
    out_dir: PathLike,
    name: str,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    preprocessing: Any = None,
    *,
    others: Mapping[str, Any] = (),
    x: Arrays | None = None,
    y: Arrays | None = None,
    force: bool = False,
    project: str | None = None,
    notice: str = "",
) -> AndroidBundle:
    """Write a folder with everything that an Android app needs for a model.

    Each `.tflite` file is rewritten with metadata and run beside the original. The folder is
    written only if the answers are the same to the last bit. It is complete or is not made.

    Args:
        model: A `TFLiteModel`, or the path of a `.tflite` file.
        out_dir: The folder to make.
        name: The model's name, for files and Kotlin classes: letters, digits and `_`.
        class_names: One name per value along the output's last axis, in order; for several
            outputs a dict by output name. Without them the Kotlin class is a regressor.
        preprocessing: The normalization of raw data, as for `with_metadata`; the Kotlin files
            apply it. Without it they take data as the model was trained on.
        others: Further formats of the same network by name, such as `{"float16": file}`. Each
            gets files of its own and a place in the README: float16 is for
            the GPU, int8 for the CPU.
        x: Test data, as for `TFLiteModel.predict`; the files are tested on a few examples of it.
            Defaults to numbers drawn from a seed. A `tfkd.data.Data` gives its test split, and
            its labels and class names in place of a missing `y` or `class_names`.
        y: Labels for `x`, as for `metrics.score`, for a network with one output; with them the
            README gives the files' scores.
        force: Whether files of the same name in `out_dir` may be replaced.
        project: `"gradle"` makes the folder an app: one activity that takes numbers or an image,
            with a choice of CPU, GPU and NPU, and an instrumented test of a golden example.
            Defaults to files to copy into an app.
        notice: Text at the top of the README, such as the `verify(...).failure` of a file that
            failed and is written all the same. Defaults to none.

    Returns:
        An `AndroidBundle`.

    Raises:
        InputError: for names, labels or numbers that do not fit, a folder that is not empty, a
            full disk; nothing is written then.
        UnsupportedError: for operators that Android's runtime does not have, or a type of
            tensor that Kotlin has no array for.
        ConversionError: if a rewritten file would give other answers than the original.
        WorkerError: if the interpreter dies on a file.
    """
    projects.check_kind(project)
    package = projects.package_of(name) if project else "com.example.app"
    formats = _by_format(model, others, name)
    x, y, class_names = from_data(formats[""], x, y, class_names)
    data = _data_by_format(formats, x)
    if y is not None and x is None:
        raise InputError("y is given without x; give the data that the labels are for.")
    shown, written = [], {}
    for format, given in formats.items():
        _check_runs(given, format or name)
        file = with_signature(given)
        labels = labels_of(file, class_names)
        made = with_metadata(
            file,
            name=name,
            description=_description(labels),
            class_names=class_names,
            preprocessing=preprocessing,
        )
        _check_same_answers(given, made, data[format])
        key = f"{name}_{format}" if format else name
        normalizations = normalizations_of(made, preprocessing)
        shown.append(Kotlin(made, key, signature_of(made), labels, normalizations))
        written[shown[-1].asset] = made.data
        for output, label_file in label_files_of(labels).items():
            written[label_file] = label_text(labels[output])
    entries = []
    for kotlin, format in zip(shown, formats, strict=True):
        sources = kotlin.render(package, projects.interfaces(shown) if project else INTERFACES)
        metrics = {} if y is None else _scores(kotlin.model, data[format], y)
        entries.append(_entry(kotlin, tuple(sources), metrics))
        written |= sources
    if runs_in_python(shown[0]):
        written["run.py"] = _python(shown[0], projects.ASSETS if project else "")
    examples = 0 if y is None else len(data[""][0])
    written["README.md"] = _readme(name, shown, entries, examples, project, notice)
    if project:
        written = projects.placed(written, package)
        written |= projects.app_files(project, name, shown, _gradle(shown), data[""])
    folder = pathlib.Path(out_dir)
    try:
        with staged_folder(folder, force=force) as staging:
            for file_name, content in written.items():
                (staging / file_name).parent.mkdir(parents=True, exist_ok=True)
                (staging / file_name).write_bytes(content)
    except OSError as error:
        raise InputError(f"Cannot write {str(folder)!r}: {error.strerror or error}.") from error
    return AndroidBundle(name, folder, tuple(sorted(written)), tuple(entries), project)


def _entry(kotlin: Kotlin, sources: tuple[str, ...], scores: dict[str, float]) -> AndroidModel:
    made = kotlin.model
    return AndroidModel(
        file=kotlin.asset,
        bytes=made.size,
        sha256=made.digest,
        ops=made.ops,
        integer_only=made.integer_only,
        holds=_holds(made),
        prefers_gpu=kotlin.gpu,
        metrics=scores,
        kotlin=sources,
        metadata=read_metadata(made),
        cpu_operators=kotlin.cpu_operators,
    )


def _gradle(shown: list[Kotlin]) -> tuple[str, ...]:
    """Return the dependencies of an app that has one interface for all files."""
    if "compiled" in projects.interfaces(shown):
        return GRADLE["compiled_model"]
    return GRADLE["interpreter"] if shown[0].delegates else GRADLE["interpreter"][:1]


def runs_in_python(kotlin: Kotlin) -> bool:
    """Return whether `run.py` runs the file: one example a call, and no state to carry."""
    inputs = kotlin.model.inputs
    alone = all(info.shape and info.shape[0] == 1 and not info.free for info in inputs)
    return bool(kotlin.signature) and alone and not kotlin.model.states


def _python(kotlin: Kotlin, folder: str) -> bytes:
    names = [info.name for info in kotlin.model.inputs]
    content = {
        "asset": kotlin.asset,
        "folder": folder.rstrip("/"),
        "asset_text": ascii(kotlin.asset),
        "version": __version__,
        "files": " ".join(f"{clean}.npy" for clean in identifiers(names)),
        "inputs": ascii(names),
        "normalizations": ascii(
            {
                name: tuple([float(str(np.float32(number))) for number in part] for part in both)
                for name, both in kotlin.normalizations.items()
            }
        ),
        "labels": ascii(dict(label_files_of(kotlin.labels))),
        "signature": ascii(kotlin.signature),
        "keeps_state": kotlin.model.keeps_state,
    }
    return rendered("run.jinja", content)


def signature_of(file: TFLiteModel) -> str | None:
    """Return the key of the signature that names `file.inputs` and `file.outputs`.

    Args:
        file: The file.

    Returns:
        The key, or `None` if no signature names all inputs and outputs of the main graph.
    """
    model = file._parsed
    main = model.subgraphs[0]
    entries = [entry for entry in model.signatureDefs if entry.subgraphIndex == 0]
    if not entries or not entries[-1].signatureKey:
        return None
    complete = all(
        {int(i) for i in tensors} == {entry.tensorIndex for entry in named if entry.name}
        for tensors, named in (
            (main.inputs, entries[-1].inputs),
            (main.outputs, entries[-1].outputs),
        )
    )
    return entries[-1].signatureKey.decode(errors="replace") if complete else None


def with_signature(file: TFLiteModel) -> TFLiteModel:
    """Give a file a signature, so that an application can call it by names.

    Files from `to_tflite` have a signature. Files from other tools may have none, or one that
    leaves out inputs. The names are the tensors' names, turned into identifiers.

    Args:
        file: The file.

    Returns:
        The same file if it has a signature, else a copy with a signature `serving_default`.

    Raises:
        InputError: as `with_metadata`, for a file that can't be rewritten.
    """
    if signature_of(file) is not None:
        return file
    from ai_edge_litert import schema_py_generated as schema

    model = parsed_anew(file)
    main = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.subgraphIndex = 0
    for which in ("inputs", "outputs"):
        indices = [int(i) for i in getattr(main, which)]
        names = identifiers([flatbuffer.name_of(main.tensors[i]) for i in indices])
        entries = []
        for index, name in zip(indices, names, strict=True):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            entries.append(entry)
        setattr(signature, which, entries)
    model.signatureDefs = [s for s in model.signatureDefs if s.subgraphIndex != 0] + [signature]
    return dataclasses.replace(file, data=writer.pack(model))


def _by_format(model, others, name: str) -> dict[str, TFLiteModel]:
    """Return the files by format, with `model` under "", after checking all names."""
    others = dict(others)
    check_names({"name": [name], "a key of others": others})
    classes = [class_name(key) for key in others]
    twice = [key for key in others if classes.count(class_name(key)) > 1]
    if twice:
        raise InputError(f"The keys {twice} of others give the same Kotlin class name: rename one.")
    formats = {key: loaded(given, key or "model") for key, given in {"": model, **others}.items()}
    for info in (info for file in formats.values() for info in file.inputs):
        if info.free:
            raise InputError(
                f"The input {info.name!r}, {info.sizes}, has a free size, but the Kotlin code "
                f"needs a fixed one: fix it with {argument('shapes', of='to_tflite')}."
            )
    first = formats[""]
    for key, file in formats.items():
        for tensors in (data_inputs, data_outputs):
            want, got = (sorted(info.shape for info in tensors(one)) for one in (first, file))
            if want != got:
                raise InputError(
                    f"others[{key!r}] is not the same network: it has tensors {got}, but the "
                    f"model has {want}."
                )
    return formats


def check_names(names: Mapping[str, Iterable[Any]]) -> None:
    """Raise an `InputError` for names that can't name files and classes.

    Args:
        names: What the names are for, in words, → the names.
    """
    raise_all(
        f"{what} must be letters, digits and _, beginning with a letter, because it names files "
        f"and a class; got {name!r}, try {_suggestion(name)!r}"
        for what, given in names.items()
        for name in given
        if not isinstance(name, str) or not _NAME.fullmatch(name)
    )


def _suggestion(given) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", str(given)).strip("_")
    return (words if words[:1].isalpha() else f"model_{words}").strip("_")[:64]


def loaded(given: Any, what: str) -> TFLiteModel:
    """Return a `TFLiteModel` as it is, or load one from a path; `what` names it in an error."""
    if isinstance(given, TFLiteModel):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(
            f"{what} must be a TFLiteModel or the path of a .tflite file, got a "
            f"{type(given).__name__}; convert a Keras model with to_tflite first."
        )
    try:
        return TFLiteModel.load(given)
    except InputError as error:
        raise InputError(f"{error} Convert a Keras model with to_tflite first.") from error


def _check_runs(file: TFLiteModel, what: str):
    """Raise if a file needs something that the runtime of the Gradle lines, or Kotlin, lacks."""
    missing = (*file.flex_ops, *file.custom_ops)
    if missing:
        raise UnsupportedError(
            f"{what} needs {', '.join(missing)}, which LiteRT on Android runs only if the app "
            "supplies it; convert the model without it."
        )
    strange = {
        info.name: info.dtype
        for info in (*file.inputs, *file.outputs)
        if info.dtype not in TYPES or 0 in info.shape
    }
    if strange:
        raise UnsupportedError(
            f"{what} has tensors that the Kotlin files can't fill or read: {strange}; they take "
            f"{', '.join(TYPES)} of at least one value."
        )


def _description(labels: Mapping[str, Sequence[str]]) -> str:
    counts = " and ".join(str(len(names)) for names in labels.values())
    return f"Gives a value for each of {counts} classes." if labels else ""


def _data_by_format(formats: Mapping[str, TFLiteModel], x) -> dict[str, list | None]:
    """Return the data of each file in the order of its inputs."""
    if x is None:
        return dict.fromkeys(formats)
    slots = {key: file._slots("inputs") for key, file in formats.items()}
    first = slots[""].bind(x, "x", extra=True, arrays=True)
    data = {}
    for key, ours in slots.items():
        # Another converter may have reordered the inputs.
        places = range(len(first)) if ours is slots[""] else ours.match(slots[""])
        if None in places:
            raise InputError(
                f"The inputs of others[{key!r}] ({', '.join(ours.labels)}) are not those of the "
                f"model ({', '.join(slots[''].labels)}); give them the same names."
            )
        data[key] = [first[place] for place in places]
    return data


def _check_same_answers(file: TFLiteModel, made: TFLiteModel, x: list | None):
    """Raise unless both files give the same answers."""
    infos = data_inputs(file)
    if x is None:
        rng = np.random.default_rng(0)
        x = [
            rng.normal(size=(1, *info.shape[1:])).astype(np.float32)
            if info.scale is not None or info.dtype == "float32"
            else np.zeros((1, *info.shape[1:]), info.dtype)  # indices of words, for example
            for info in infos
        ]
    x = [np.asarray(one)[:_PROOF_EXAMPLES] for one in x]
    before, after = (one._predict(x) for one in (file, made))
    if not all(map(_same, before, after)):
        raise ConversionError(
            "The file with metadata does not give the same answers as the file without it; please "
            "report this with the file."
        )


def _scores(made: TFLiteModel, x: list, y) -> dict[str, float]:
    outputs = made._predict(x)
    if len(outputs) > 1:
        raise InputError(
            f"The file has {len(outputs)} outputs, but y labels only one: leave y out here, and "
            "score the outputs with verify."
        )
    return made._score(outputs[0], x, y)


def _same(a, b) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _readme(
    name: str,
    shown: list[Kotlin],
    entries: list[AndroidModel],
    examples: int,
    project: str | None,
    notice: str,
) -> bytes:
    first, interfaces = shown[0], projects.interfaces(shown) if project else INTERFACES
    interpreter = GRADLE["interpreter"] if first.delegates else GRADLE["interpreter"][:1]
    gpu = [one.asset for one in shown if one.gpu]
    content = {
        "name": name,
        "notice": in_markdown(notice),
        "version": __version__,
        "looked_up": LOOKED_UP,
        "project": project,
        "versions": projects.VERSIONS,
        "package": projects.package_of(name),
        "choices": projects.choices(shown),
        "assets": projects.ASSETS,
        "gradle": {**GRADLE, "interpreter": interpreter},
        "examples": examples,
        "metrics": list(_shown(entries[0].metrics)),
        "models": [{**vars(entry), "operators": _operators(entry.ops)} for entry in entries],
        "label_files": list(label_files_of(first.labels).values()),
        "compiled": [f"{one.compiled}.kt" for one in shown if one.compiled],
        "interpreters": [f"{one.interpreter}.kt" for one in shown],
        "delegates": first.delegates,
        "without_call": {one.asset: one.without_call for one in shown if one.without_call},
        "usage": first.usage(interfaces),
        "gpu_source": SOURCE,
        "python": runs_in_python(first),
        "signature": as_code(first.signature),
        "tensors": [row for one in shown for row in _rows(one)],
        "normalized": bool(first.normalizations),
        "states": first.model.states,
        "keeps_state": first.model.keeps_state,
        "cpu_commands": android_device.as_shell(
            android_device.commands([one.asset for one in shown])
        ),
        "gpu_commands": android_device.as_shell(android_device.commands(gpu, engine="gpu"))
        if gpu
        else None,
    }
    return rendered("README.md", content)


def _rows(kotlin: Kotlin) -> Iterator[list[str]]:
    """Yield the rows of the README's table of tensors."""
    for info in (*kotlin.model.inputs, *kotlin.model.outputs):
        row = [f"`{kotlin.asset}`", as_code(info.name), str(list(info.shape)), info.dtype]
        scaled = info.scale is not None
        row += [str(np.float32(info.scale)), str(info.zero_point)] if scaled else ["–", "–"]
        if kotlin.normalizations:
            mean, std = kotlin.normalizations.get(info.name, ((), ()))
            row.append(f"mean {_few(mean)}, std {_few(std)}" if mean else "–")
        yield row


def _few(numbers: Sequence[float]) -> str:
    return ", ".join(str(np.float32(number)) for number in numbers)


def _shown(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores for a table; for a classifier, one is enough."""
    accuracy = {name: value for name, value in scores.items() if name == "accuracy"}
    return accuracy or dict(scores)


def _holds(file: TFLiteModel) -> str:
    if file.integer_only:
        return "integers, weights of 4 bits" if file.four_bit_weights else "integers only"
    return "short weights, float arithmetic" if file.hybrid_ops else "floats"


def _operators(ops: Mapping[str, int]) -> str:
    parts = [f"{op} ×{count}" for op, count in ops.items()]
    more = [f"{len(parts) - 6} more kinds"] if len(parts) > 6 else []
    return f"{sum(ops.values())}: {', '.join([*parts[:6], *more])}"
