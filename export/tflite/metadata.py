"""TFLite Metadata: a file's description of itself for tools and applications.

The metadata is a separate flatbuffer in a buffer of the file; labels are in a zip archive behind
the file, where any unzip finds them. The runtimes read neither, so the file computes the same.

Reference: https://ai.google.dev/edge/litert/models/metadata, and `metadata_schema.fbs` 1.5.0 in
https://github.com/tensorflow/tflite-support
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfkd.data import Data
from tfkd.errors import InputError, argument, raise_all
from tfkd.escaping import identifiers
from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite import writer
from tfkd.export.tflite.model import TensorInfo, TFLiteModel

#: Number of examples from a test part that is not in memory.
_DRAWN = 1000
_ENTRY = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
# The schema's first version contains all that this module writes.
_PARSER_VERSION = "1.0.0"
# A flatbuffer's offsets have 31 bits; the added metadata takes less than the rest.
_LARGEST = 2**31 - 2**24

# The used part of the tables. Fields are in the order of their numbers in the file; a union takes
# two: its type and its table. Scalars have flatbuffers' names.
_TABLES = {
    "ModelMetadata": {
        "name": "String",
        "description": "String",
        "version": "String",
        "subgraph_metadata": "[SubGraphMetadata]",
        "author": "String",
        "license": "String",
        "associated_files": "[AssociatedFile]",
        "min_parser_version": "String",
    },
    "SubGraphMetadata": {
        "name": "String",
        "description": "String",
        "input_tensor_metadata": "[TensorMetadata]",
        "output_tensor_metadata": "[TensorMetadata]",
        "associated_files": "[AssociatedFile]",
    },
    "TensorMetadata": {
        "name": "String",
        "description": "String",
        "dimension_names": "[String]",
        "content": "Content",
        "process_units": "[ProcessUnit]",
        "stats": "Stats",
        "associated_files": "[AssociatedFile]",
    },
    "Content": {"content_properties": "ContentProperties"},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": "Int8", "default_size": "ImageSize"},
    "ImageSize": {"width": "Uint32", "height": "Uint32"},
    "ProcessUnit": {"options": "ProcessUnitOptions"},
    "NormalizationOptions": {"mean": "[Float32]", "std": "[Float32]"},
    "Stats": {"max": "[Float32]", "min": "[Float32]"},
    "AssociatedFile": {
        "name": "String",
        "description": "String",
        "type": "Int8",
        "locale": "String",
        "version": "String",
    },
}
# Members are numbered from 1; members after the last one here are not read.
_UNIONS = {
    "ContentProperties": ("FeatureProperties", "ImageProperties"),
    "ProcessUnitOptions": ("NormalizationOptions",),
}
_COLORS = {1: 2, 3: 1}  # channels → ColorSpaceType, GRAYSCALE and RGB
_AXIS_LABELS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
# Bounds of operators' results, for float files.
_RANGES = {"SOFTMAX": (0.0, 1.0), "LOGISTIC": (0.0, 1.0), "TANH": (-1.0, 1.0)}

_KEYS = ({"mean", "std"}, {"scale", "offset"})


def with_metadata(
    file: TFLiteModel,
    *,
    name: str,
    description: str = "",
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    preprocessing: Any = None,
    input_names: Sequence[str] | None = None,
    version: str | None = None,
    author: str | None = None,
    license: str | None = None,
) -> TFLiteModel:
    """Write TFLite Metadata into a file, for tools and libraries that read it.

    Android's `MetadataExtractor`, MediaPipe and Netron read it; LiteRT itself does not, so the
    file's answers stay the same. The new metadata replaces metadata that the file had before, and
    the files packed behind it; entries of other tools, such as the least runtime, stay.

    Args:
        file: The file.
        name: The model's name.
        description: What the model does, in a sentence or two.
        class_names: One name per value along the output's last axis, in order; for several
            outputs a dict by output name. They become `labels.txt`.
        preprocessing: The normalization of raw data in training, if the application must do the
            same: `{"mean": ..., "std": ...}` for (raw - mean) / std, or `{"scale": ...,
            "offset": ...}` for raw · scale + offset; numbers, or one per channel. For several
            inputs a dict of these by input name. A quantized input is normalized in the same
            way and then quantized.
        input_names: Names for the inputs, in their order. Defaults to their names in the file.
        version: Version of the model.
        author: Author of the model.
        license: License of the model.

    Returns:
        The file with metadata.

    Raises:
        InputError: for names or numbers that do not fit the file; for a file that stores its
            weights elsewhere, or that is too large to be rewritten.
    """
    texts = {"name": name, "description": description}
    optional = {"version": version, "author": author, "license": license}
    texts |= {key: value for key, value in optional.items() if value is not None}
    problems = [
        f"{key} must be text, got {value!r}" for key, value in texts.items() if not is_text(value)
    ]
    inputs = data_inputs(file)
    names = [info.name for info in inputs] if input_names is None else input_names
    if not isinstance(names, (list, tuple)) or not all(map(is_text, names)):
        problems.append(f"input_names must be a list of strings, got {input_names!r}")
    elif len(names) != len(inputs):
        problems.append(f"the file has {len(inputs)} inputs, got {len(names)} input_names")
    raise_all(problems)
    labels = labels_of(file, class_names)
    normalizations = normalizations_of(file, preprocessing)
    called = dict(zip((info.name for info in inputs), names, strict=True))
    label_files = label_files_of(labels)
    subgraph = {
        "input_tensor_metadata": [
            _input(file, info, called.get(info.name, info.name), normalizations.get(info.name))
            for info in file.inputs
        ],
        "output_tensor_metadata": [
            _output(file, info, label_files.get(info.name)) for info in file.outputs
        ],
    }
    content = {**texts, "subgraph_metadata": [subgraph], "min_parser_version": _PARSER_VERSION}
    data = _with_entry(file, _packed(content))
    packed = {label_files[output]: label_text(names) for output, names in labels.items()}
    return dataclasses.replace(file, data=_with_archive(data, packed))


def read_metadata(file: TFLiteModel) -> dict[str, Any]:
    """Read the TFLite Metadata of a file, also of one that another tool wrote.

    Args:
        file: The file.

    Returns:
        An empty dictionary for a file without metadata, else `name`, `description`, `version`,
        `author`, `license` and `min_parser_version`, each `None` if it is left out, and
        `inputs` and `outputs`: for each tensor its `name`, `description`, `content`
        (`"feature"`, `"image"` or `None`), `color_space` and `size` (width, height) of an
        image, `normalization` (`{"mean": [...], "std": [...]}` or `None`), `min`, `max`
        (lists or `None`) and `labels`, in order (or `None`).

    Raises:
        InputError: if the metadata is damaged, or names a file that is not packed with it.
    """
    data = _entry(file)
    if data is None:
        return {}
    try:
        if data[4:8] != _IDENTIFIER:
            raise ValueError(f"its identifier is {data[4:8]!r}")
        content = _Reader(data).root("ModelMetadata")
        with _archive(file.data) as archive:
            graphs = content.get("subgraph_metadata") or [{}]
            tensors = {
                f"{which}s": [
                    _described(tensor, archive)
                    for tensor in graphs[0].get(f"{which}_tensor_metadata", [])
                ]
                for which in ("input", "output")
            }
    except Exception as error:  # a reader raises many types for malformed bytes
        raise InputError(f"The file's metadata is damaged ({error}).") from error
    fields = ("name", "description", "version", "author", "license", "min_parser_version")
    return {**{field: content.get(field) for field in fields}, **tensors}


def data_inputs(file: TFLiteModel) -> list[TensorInfo]:
    """Return the inputs that take data: all but a step file's states.

    Args:
        file: The file.
    """
    return list(file._visible("inputs"))


def data_outputs(file: TFLiteModel) -> list[TensorInfo]:
    """Return the outputs that give answers: all but a step file's states.

    Args:
        file: The file.
    """
    return list(file._visible("outputs"))


def from_data(file: TFLiteModel, x, y, class_names) -> tuple[Any, Any, Any]:
    """Return x, y and class names, taken from `x` if it is a `tfkd.data.Data`.

    A `Data` gives its test split (1,000 examples drawn at random, if the split is not in memory)
    and, if no class names are given and its own fit the output, its class names.

    Args:
        file: The file.
        x: Data, or a `Data`.
        y: Labels, or `None`.
        class_names: As for `with_metadata`.
    """
    if not isinstance(x, Data):
        return x, y, class_names
    if class_names is None:
        class_names = class_names_for(file, x)
    test = x.test if x.test.in_memory else x.test.drawn(_DRAWN)
    return test.x, test.y if y is None else y, class_names


def class_names_for(file: TFLiteModel, data: Data) -> Any:
    """Return the class names of a data set if a file's output has a value for each name.

    For labels of several outputs it is a dict, with the outputs that have a value for each name.

    Args:
        file: The file.
        data: The data set.
    """
    shapes = {info.name: info.shape for info in data_outputs(file)}
    if data.outputs:
        slots = file._slots("outputs")
        names = slots.bind(dict(data.class_names), "class_names", missing=True, extra=True)
        return {
            slot.name: given
            for slot, given in zip(slots.entries, names, strict=True)
            if given and shapes.get(slot.name, ())[-1:] == (len(given),)
        } or None
    widths = [shape[-1] if shape else 1 for shape in shapes.values()]
    return data.class_names if widths == [len(data.class_names)] else None


def names_by_output(file: TFLiteModel, class_names) -> dict[str, tuple]:
    """Return class names as a tuple for each output that has some.

    Args:
        file: The file.
        class_names: As for `with_metadata`.

    Raises:
        InputError: for a single list if there are several outputs, for unknown outputs, and for
            values that are no lists.
    """
    if class_names is None:
        return {}
    outputs = [info.name for info in data_outputs(file)]
    if not isinstance(class_names, Mapping):
        if len(outputs) > 1:
            raise InputError(
                f"The file has {len(outputs)} outputs ({', '.join(outputs)}): give "
                f"{argument('class_names', alone=True)} as a dict by output name."
            )
        class_names = {outputs[0]: class_names}
    given = file._slots("outputs").bind(
        class_names, argument("class_names", alone=True), missing=True
    )
    raise_all(
        f"{argument('class_names', alone=True)} must be a list of strings, got {names!r}"
        for names in given
        if isinstance(names, (str, bytes))
        or not isinstance(names, (Sequence, np.ndarray, type(None)))
    )
    return {
        output: tuple(names)
        for output, names in zip(outputs, given, strict=True)
        if names is not None
    }


def labels_of(file: TFLiteModel, class_names) -> dict[str, tuple[str, ...]]:
    """Check class names against a file's outputs.

    Args:
        file: The file.
        class_names: As for `with_metadata`.

    Returns:
        Output name → its class names.

    Raises:
        InputError: for names that are not distinct lines of text, or not one per value.
    """
    rule = "one line of text without blanks around it, because labels.txt has one per line"
    return checked_class_names(file, class_names, _is_line, rule)


def checked_class_names(
    file: TFLiteModel, class_names, is_allowed: Callable[[str], bool], rule: str
) -> dict[str, tuple[str, ...]]:
    """Return class names by output: distinct strings, one per value of the output.

    Args:
        file: The file.
        class_names: As for `with_metadata`.
        is_allowed: A function that returns whether a string can be written at the names' place.
        rule: The rule for such a string, for the error message.

    Raises:
        InputError: for anything else.
    """
    names_of = names_by_output(file, class_names)
    infos = {info.name: info for info in data_outputs(file)}
    raise_all(
        problem
        for output, names in names_of.items()
        for problem in _class_name_problems(names, infos[output], is_allowed, rule)
    )
    return {output: tuple(map(str, names)) for output, names in names_of.items()}


def _class_name_problems(
    names: tuple, info: TensorInfo, is_allowed: Callable[[str], bool], rule: str
) -> Iterator[str]:
    keyword = argument("class_names", alone=True)
    strange = [name for name in names if not isinstance(name, str)]
    if strange:
        yield f"{keyword} must be strings, got {strange[:3]!r}"
        return
    refused = [name for name in names if not is_allowed(name)]
    if refused:
        yield f"{keyword}: each must be {rule}; got {refused[:3]!r}"
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        yield f"{keyword} has {twice[:3]!r} more than once"
    values = info.shape[-1] if info.shape else 1
    if len(names) != values:
        hint = "; an output of one value takes no class names" if values == 1 else ""
        yield f"the output {info.name!r} gives {values} values, got {len(names)} class names{hint}"


def is_text(value) -> bool:
    """Return whether a value is a string that can be written as UTF-8 and ended by a NUL."""
    return (
        isinstance(value, str)
        and "\0" not in value
        and value == value.encode(errors="ignore").decode()
    )


def _is_line(name: str) -> bool:
    return is_text(name) and name.splitlines() == [name] and name == name.strip()


def normalizations_of(
    file: TFLiteModel, preprocessing
) -> dict[str, tuple[list[float], list[float]]]:
    """Check the normalization of raw data against a file's inputs.

    Args:
        file: The file.
        preprocessing: As for `with_metadata`.

    Returns:
        Input name → (mean, std), one number each or one per channel, for (raw - mean) / std.

    Raises:
        InputError: for anything that is not such numbers, or an input that takes none.
    """
    if preprocessing is None:
        return {}
    inputs = {info.name: info for info in data_inputs(file)}
    if not isinstance(preprocessing, Mapping) or not preprocessing:
        raise InputError(
            f"{argument('preprocessing', alone=True)} must be {{'mean': ..., 'std': ...}} or "
            f"{{'scale': ..., 'offset': ...}}, got {preprocessing!r}."
        )
    if set(preprocessing) <= set().union(*_KEYS):
        if len(inputs) > 1:
            raise InputError(
                f"The file has {len(inputs)} inputs ({', '.join(inputs)}): give "
                f"{argument('preprocessing', alone=True)} as a dict by input name."
            )
        preprocessing = dict.fromkeys(inputs, preprocessing)
    problems, made = [], {}
    bound = file._slots("inputs").bind(preprocessing, "preprocessing", missing=True)
    for (name, info), given in zip(inputs.items(), bound, strict=True):
        if given is None:
            continue
        try:
            made[name] = _mean_and_std(info, given)
        except (TypeError, ValueError) as error:
            problems.append(f"the {argument('preprocessing', alone=True)} of {name!r} {error}")
    raise_all(problems)
    return made


def _mean_and_std(info: TensorInfo, given) -> tuple[list[float], list[float]]:
    if not isinstance(given, Mapping) or not any(given and set(given) <= keys for keys in _KEYS):
        raise ValueError(f"must have the keys mean and std, or scale and offset, got {given!r}")
    if not info.dtype.startswith("float") and info.scale is None:
        raise ValueError(f"has no use, because the input takes {info.dtype} values as they are")
    channels = info.shape[-1] if info.shape else 1
    numbers = {key: np.atleast_1d(np.asarray(value, np.float64)) for key, value in given.items()}
    for key, values in numbers.items():
        if values.ndim != 1 or len(values) not in (1, channels):
            raise ValueError(f"must have one number as {key}, or {channels}, got {given[key]!r}")
    with np.errstate(all="ignore"):
        scale = numbers.get("scale", 1.0 / numbers.get("std", np.ones(1)))
        mean = numbers.get("mean", -numbers.get("offset", np.zeros(1)) / scale)
        mean, std = np.broadcast_arrays(np.float32(mean + 0.0), np.float32(1.0 / scale))
    if not np.isfinite([mean, std]).all() or not std.all():
        raise ValueError(f"must have finite numbers, with std and scale not 0, got {given!r}")
    return mean.tolist(), std.tolist()


def label_files_of(labels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return output name → the file with its class names.

    Args:
        labels: As from `labels_of`.
    """
    if len(labels) == 1:
        return dict.fromkeys(labels, "labels.txt")
    return {
        output: f"labels_{safe}.txt"
        for output, safe in zip(labels, identifiers(list(labels)), strict=True)
    }


def label_text(names: Sequence[str]) -> bytes:
    """Return the text of a file of labels: one class name a line.

    Args:
        names: The class names, in order.
    """
    return "".join(f"{name}\n" for name in names).encode()


def _input(file, info: TensorInfo, name: str, normalization) -> dict:
    if any(info.name == state for state, _ in file.states):
        return _state(info, "The state of the step before; zeros at the start of a sequence.")
    text = f"Values {list(info.shape)}"
    units = None
    if normalization is not None:
        mean, std = normalization
        text += ", normalized as (raw - mean) / std"
        units = [{"options": {"NormalizationOptions": {"mean": mean, "std": std}}}]
    if info.scale is not None:
        text += f", then quantized with scale {info.scale:g} and zero point {info.zero_point}"
    return {
        "name": name,
        "description": f"{text}.",
        "content": {"content_properties": _properties(info)},
        "process_units": units,
        "stats": _stats(info),
    }


def _output(file, info: TensorInfo, label_file: str | None) -> dict:
    if any(info.name == state for _, state in file.states):
        return _state(info, "The state, for the next step's input of the same number.")
    made = {
        "name": info.name,
        "description": f"Values {list(info.shape)}.",
        "content": {"content_properties": {"FeatureProperties": {}}},
        "stats": _stats(info, _RANGES.get(_last_operation(file, info))),
    }
    if label_file is not None:
        made["description"] = f"Values {list(info.shape)}, one per class on the last axis."
        made["associated_files"] = [
            {"name": label_file, "description": "The classes, one a line.", "type": _AXIS_LABELS}
        ]
    return made


def _state(info: TensorInfo, text: str) -> dict:
    properties = {"content_properties": {"FeatureProperties": {}}}
    return {"name": info.name, "description": text, "content": properties}


def _properties(info: TensorInfo) -> dict:
    if len(info.shape) == 4 and info.shape[3] in _COLORS and min(info.shape[1:3]) > 1:
        _, height, width, channels = info.shape
        size = {"width": width, "height": height}
        return {"ImageProperties": {"color_space": _COLORS[channels], "default_size": size}}
    return {"FeatureProperties": {}}


def _stats(info: TensorInfo, known: tuple[float, float] | None = None) -> dict | None:
    """Return the smallest and largest value that a tensor can hold, if known."""
    if info.scale is not None:
        limits = np.iinfo(info.dtype)
        known = tuple((edge - info.zero_point) * info.scale for edge in (limits.min, limits.max))
    return None if known is None else {"max": [known[1]], "min": [known[0]]}


def _last_operation(file: TFLiteModel, info: TensorInfo) -> str | None:
    model = file._parsed
    main = model.subgraphs[0]
    index = int(main.outputs[file.outputs.index(info)])
    names = flatbuffer.op_names(model)
    made = (names[op.opcodeIndex] for op in main.operators if index in op.outputs)
    return next(made, None)


def parsed_anew(file: TFLiteModel):
    """Return a file in the schema's object form, for changing and `writer.pack`.

    Args:
        file: The file.

    Raises:
        InputError: if the file stores its weights elsewhere, or is too large to be rewritten.
    """
    model = flatbuffer.parse(file.data)
    # Beyond two gigabytes, buffers lie behind the flatbuffer, at places that would move.
    elsewhere = (
        any((buffer.offset or 0) > 1 for buffer in model.buffers)
        or any(
            (op.largeCustomOptionsOffset or 0) > 1
            for graph in model.subgraphs
            for op in graph.operators
        )
        or bool(getattr(model, "externalBuffers", None))
    )
    if elsewhere or file.size > _LARGEST:
        why = "keeps weights outside of its flatbuffer" if elsewhere else "is too large for that"
        raise InputError(
            f"The file of {file.size:,} bytes can't be rewritten: it {why}. Use a smaller format, "
            "such as int8."
        )
    return model


def _with_entry(file: TFLiteModel, packed: bytes) -> bytes:
    """Return the file with the metadata in a buffer, and no data behind the flatbuffer."""
    from ai_edge_litert import schema_py_generated as schema

    model = parsed_anew(file)
    entries = model.metadata or []
    ours = [entry for entry in entries if (entry.name or b"").decode(errors="replace") == _ENTRY]
    if ours and 0 < ours[0].buffer < len(model.buffers):
        entry = ours[0]
    else:
        entry = schema.MetadataT()
        entry.name, entry.buffer = _ENTRY.encode(), len(model.buffers)
        model.buffers.append(schema.BufferT())
    model.buffers[entry.buffer].data = np.frombuffer(packed, np.uint8)
    model.metadata = [other for other in entries if other not in ours] + [entry]
    return writer.pack(model)


def _with_archive(data: bytes, texts: Mapping[str, bytes]) -> bytes:
    if not texts:
        return data
    stream = io.BytesIO(data)
    # A `ZipInfo` is stored uncompressed, for every reader, and with a constant date.
    with zipfile.ZipFile(stream, "a") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return stream.getvalue()


def _archive(data: bytes) -> zipfile.ZipFile:
    stream = io.BytesIO(data)
    return zipfile.ZipFile(stream if zipfile.is_zipfile(stream) else io.BytesIO(), "a")


def _entry(file: TFLiteModel) -> bytes | None:
    model = file._parsed
    for entry in model.metadata or []:
        if (entry.name or b"").decode(errors="replace") == _ENTRY:
            if not 0 < entry.buffer < len(model.buffers):
                raise InputError("The file's metadata is damaged (it has no buffer).")
            data = model.buffers[entry.buffer].data
            return None if data is None else bytes(data)
    return None


def _described(tensor: dict, archive: zipfile.ZipFile) -> dict[str, Any]:
    properties = tensor.get("content", {}).get("content_properties", {})
    image = properties.get("ImageProperties")
    units = [unit.get("options", {}) for unit in tensor.get("process_units", [])]
    stats = tensor.get("stats", {})
    kind = next((k.removesuffix("Properties").lower() for k in properties), None)
    size = (image or {}).get("default_size")
    labels = next(
        (f["name"] for f in tensor.get("associated_files", []) if f.get("type") == _AXIS_LABELS),
        None,
    )
    return {
        "name": tensor.get("name"),
        "description": tensor.get("description"),
        "content": kind,
        "color_space": None if image is None else {1: "rgb", 2: "gray"}.get(image["color_space"]),
        "size": None if size is None else (size["width"], size["height"]),
        "normalization": next(
            (unit["NormalizationOptions"] for unit in units if "NormalizationOptions" in unit),
            None,
        ),
        "min": stats.get("min"),
        "max": stats.get("max"),
        "labels": None if labels is None else archive.read(labels).decode().splitlines(),
    }


def _slots(table: str) -> Iterator[tuple[int, str, str]]:
    """Yield (number, name, kind) of a table's fields; a union has the number of its type."""
    number = 0
    for name, kind in _TABLES[table].items():
        yield number, name, kind
        number += 2 if kind in _UNIONS else 1


def _packed(content: dict) -> bytes:
    return writer.finished(lambda builder: _write(builder, "ModelMetadata", content), _IDENTIFIER)


def _write(builder, kind: str, value) -> int:
    """Write a string, list or table, and return its place."""
    if kind == "String":
        return builder.CreateString(value)
    if kind.startswith("["):
        kind = kind[1:-1]
        scalar = kind == "Float32"
        items = value if scalar else [_write(builder, kind, item) for item in value]
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):  # flatbuffers are built from their end
            (builder.PrependFloat32 if scalar else builder.PrependUOffsetTRelative)(item)
        return builder.EndVector()
    parts = []
    for number, name, of in _slots(kind):
        if value.get(name) is None:
            continue
        if of in _UNIONS:
            ((member, inner),) = value[name].items()
            parts.append((number, "Uint8", _UNIONS[of].index(member) + 1))
            parts.append((number + 1, None, _write(builder, member, inner)))
        elif of in ("Int8", "Uint32"):
            parts.append((number, of, value[name]))
        else:
            parts.append((number, None, _write(builder, of, value[name])))
    builder.StartObject(len(_TABLES[kind]) + sum(of in _UNIONS for of in _TABLES[kind].values()))
    for number, scalar, part in parts:
        prepend = builder.PrependUOffsetTRelativeSlot
        (getattr(builder, f"Prepend{scalar}Slot") if scalar else prepend)(number, part, 0)
    return builder.EndObject()


class _Reader:
    """Reads tables as dictionaries of the fields that are present."""

    def __init__(self, data: bytes):
        self.data = data
        self.left = len(data)  # tables may share others, so there may be more tables than bytes

    def root(self, table: str) -> dict:
        from flatbuffers import encode
        from flatbuffers.packer import uoffset

        return self.table(encode.Get(uoffset, self.data, 0), table)

    def table(self, place: int, name: str) -> dict:
        from flatbuffers.table import Table

        self.left -= 1
        if self.left < 0:
            raise ValueError("it has more tables than bytes")
        at, values = Table(self.data, place), {}
        for number, field, kind in _slots(name):
            offset = at.Offset(4 + 2 * number)
            if kind in _UNIONS:
                member = self._scalar(at, offset, "Uint8") if offset else 0
                inner = at.Offset(4 + 2 * (number + 1))
                if inner and 0 < member <= len(_UNIONS[kind]):
                    of = _UNIONS[kind][member - 1]
                    values[field] = {of: self._value(at, inner, of)}
            elif offset:
                values[field] = self._value(at, offset, kind)
            elif kind in ("Int8", "Uint32"):
                values[field] = 0
        return values

    def _value(self, at, offset: int, kind: str):
        if kind in ("Int8", "Uint32"):
            return self._scalar(at, offset, kind)
        if not kind.startswith("["):
            return self._at(at, at.Pos + offset, kind)
        start, count = at.Vector(offset), at.VectorLen(offset)
        if count > len(self.data) // 4:
            raise ValueError("a list is longer than the whole")
        return [self._at(at, start + 4 * i, kind[1:-1]) for i in range(count)]

    def _at(self, at, place: int, kind: str):
        if kind == "Float32":
            return self._scalar(at, place - at.Pos, kind)
        if kind == "String":
            return bytes(at.String(place)).decode()
        return self.table(at.Indirect(place), kind)

    def _scalar(self, at, offset: int, kind: str):
        from flatbuffers import number_types

        return at.Get(getattr(number_types, f"{kind}Flags"), at.Pos + offset)
