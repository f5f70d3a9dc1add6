"""`web_bundle`: a folder with a page on which anyone can try a model.

    bundle/  index.html, page.js   the page
             model.json            names, shapes, scales, normalization, labels, golden example
             NAME.tflite           with float32 inputs and outputs
             package.json          names LiteRT.js for `npm install`
             README.md             how to serve it, and what was not tried

Reference: https://developers.google.com/edge/litert/web (LiteRT.js).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd._version import __version__
from tfkd.errors import ConversionError, InputError, UnsupportedError, argument
from tfkd.escaping import in_markdown, printable
from tfkd.export.android.bundle import check_names, loaded, with_signature
from tfkd.export.templating import environment
from tfkd.export.tflite.golden import golden_example, is_image, raw_range
from tfkd.export.tflite.metadata import from_data, labels_of, normalizations_of
from tfkd.export.tflite.model import TensorInfo, TFLiteModel
from tfkd.export.web.float_ends import with_float_ends
from tfkd.files import staged_folder
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import Arrays, PathLike

#: The date of the facts below.
LOOKED_UP = "November 2026"
#: The version of `@litertjs/core` on npm that the tests run: the newest, of 2026-07-19.
LITERTJS = "2.5.3"
#: Types of unquantized inputs and outputs that LiteRT.js accepts.
TYPES = ("float32", "int32", "uint8")


@dataclasses.dataclass(frozen=True)
class WebBundle(Printed):
    """The folder that `web_bundle` wrote.

    Attributes:
        name: The model's name.
        folder: Path of the folder.
        files: Name of each file → its size in bytes.
        litertjs: The version of LiteRT.js that `npm install` brings.
    """

    name: str
    folder: pathlib.Path
    files: dict[str, int]
    litertjs: str = LITERTJS

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}

    def describe(self) -> str:
        """Describe in two lines the folder's contents and how to open the page."""
        return (
            printable(f"{self.name}: a page for the browser in {self.folder}")
            + "\nnext: there, npm install && python -m http.server 8000, and open "
            "http://localhost:8000"
        )


def web_bundle(
    model: TFLiteModel | PathLike,
    out_dir: PathLike,
    name: str,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    preprocessing: Any = None,
    *,
    x: Arrays | None = None,
    y: Arrays | None = None,
    force: bool = False,
    notice: str = "",
) -> WebBundle:
    """Write a page that runs a model in the browser, with LiteRT.js, on the CPU.

    The page takes an image, a drawing or numbers, shows the model's answer and the time of a call,
    and checks a golden example first. Any server of static files can serve the folder as it is;
    `npm install` puts LiteRT.js there, and nothing is fetched from elsewhere.

    Args:
        model: A `TFLiteModel`, or the path of a `.tflite` file.
        out_dir: The folder to make. It is complete or is not made.
        name: The model's name, for the page and its file: letters, digits and `_`.
        class_names: One name per value along the output's last axis, in order; for several
            outputs a dict by output name.
        preprocessing: The normalization of raw data, as for `with_metadata`; the page applies it.
        x: Examples, as for `TFLiteModel.predict`. The first is the golden example, and the page
            uses their least and largest numbers for black and white. Defaults to numbers
            drawn from a seed, and to the range of the input's scale. A `tfkd.data.Data` gives its
            test split, and its class names if `class_names` is not given.
        y: Labels; not used, so that every bundle takes the same arguments.
        force: Whether files of the same name in `out_dir` may be replaced.
        notice: Text at the top of the README, such as the `verify(...).failure` of a file that
            failed and is written all the same. Defaults to none.

    Returns:
        A `WebBundle`.

    Raises:
        InputError: for names, labels or numbers that do not fit, or a folder that can't be
            written.
        UnsupportedError: for a file that LiteRT.js can't run: variables (a fused LSTM), Flex and
            custom operators, other types of inputs and outputs.
        ConversionError: if the file with float32 inputs and outputs would give other answers.
        WorkerError: if the interpreter dies on a file.
    """
    check_names({"name": [name]})
    file = loaded(model, "model")
    x, _, class_names = from_data(file, x, y, class_names)
    _check_runs(file)
    file = with_signature(file)
    labels = labels_of(file, class_names)
    normalizations = normalizations_of(file, preprocessing)
    made = with_float_ends(file)
    inputs, outputs = golden_example(file, x, "xnnpack")
    _check_same_answer(file, made, inputs, outputs)
    about = {
        "name": name,
        "file": f"{name}.tflite",
        "inputs": [_tensor(info) for info in file.inputs],
        "outputs": [{**_tensor(info), "labels": labels.get(info.name)} for info in file.outputs],
        "states": [{"input": one, "output": other} for one, other in file.states],
        "golden": {
            "inputs": _by_name(file.inputs, inputs),
            "outputs": _by_name(file.outputs, outputs),
        },
    }
    given = [None] * len(inputs) if x is None else file.input_arrays(x)
    for entry, info, values in zip(about["inputs"], file.inputs, given, strict=True):
        entry |= _raw(info, normalizations.get(info.name), values)
    texts = _texts(name, file, made, bool(normalizations), x is not None, notice)
    texts["model.json"] = json.dumps(about, ensure_ascii=False, allow_nan=False)
    written = {about["file"]: made.data, **{key: text.encode() for key, text in texts.items()}}
    try:
        with staged_folder(out_dir, force=force) as staging:
            for file_name, data in written.items():
                (staging / file_name).write_bytes(data)
    except OSError as error:
        raise InputError(f"Cannot write {str(out_dir)!r}: {error.strerror or error}.") from error
    sizes = {key: len(data) for key, data in sorted(written.items())}
    return WebBundle(name, pathlib.Path(out_dir), sizes)


def _check_runs(file: TFLiteModel) -> None:
    """Raise for a file that LiteRT.js can't run."""
    if file.keeps_state:
        raise UnsupportedError(
            "The file keeps its state in variables, which LiteRT.js can't run: convert with "
            f"{argument('recurrent', 'loop')}, {argument('recurrent', 'unrolled')} or "
            f"{argument('recurrent', 'step')}."
        )
    missing = (*file.flex_ops, *file.custom_ops)
    if missing:
        raise UnsupportedError(
            f"The file needs {', '.join(missing)}, which LiteRT.js does not have; convert the "
            "model without it."
        )
    for info in (*file.inputs, *file.outputs):
        if info.free:
            raise InputError(
                f"The tensor {info.name!r}, {info.sizes}, has a free size, but the page needs a "
                f"fixed one: fix it with {argument('shapes', of='to_tflite')}."
            )
        if (info.scale is None and info.dtype not in TYPES) or 0 in info.shape:
            raise UnsupportedError(
                f"The tensor {info.name!r} holds {info.dtype}, {list(info.shape)}; LiteRT.js takes "
                f"{', '.join(TYPES)} of at least one value."
            )


def _check_same_answer(file: TFLiteModel, made: TFLiteModel, inputs, outputs) -> None:
    """Raise unless the file with real ends has the same golden answer as the file."""
    if not all(np.isfinite(values).all() for values in outputs):
        raise ConversionError(
            "The answer to the golden example is NaN or infinite, so there is nothing to check "
            "the browser against; check the range of the inputs."
        )
    real = [info.dequantize(array) for info, array in zip(file.inputs, inputs, strict=True)]
    _, answers = golden_example(made, call=real, engine="xnnpack")
    for info, answer, want in zip(file.outputs, answers, outputs, strict=True):
        if not np.array_equal(answer, info.dequantize(want)):
            raise ConversionError(
                "The file with float inputs and outputs does not give the same answer as the file "
                "without them; please report this with the file."
            )


def _tensor(info: TensorInfo) -> dict[str, Any]:
    scaled = info.scale is not None
    limits = np.iinfo(info.dtype) if scaled else None
    return {
        "name": info.name,
        "shape": list(info.shape),
        "dtype": info.dtype,
        "scale": info.scale,
        "zero_point": info.zero_point,
        "limits": [int(limits.min), int(limits.max)] if scaled else None,
    }


def _raw(info: TensorInfo, normalization, given: np.ndarray | None) -> dict[str, Any]:
    """Return the constants with which the page converts raw numbers to an input's numbers."""
    mean, std = normalization or (None, None)
    image, limits = is_image(info), raw_range(info, normalization, given)
    return {"mean": mean, "std": std, "image": image, "range": list(limits)}


def _by_name(infos: Sequence[TensorInfo], arrays) -> dict[str, list]:
    return {
        info.name: np.asarray(array).reshape(-1).tolist()
        for info, array in zip(infos, arrays, strict=True)
    }


def _texts(name, file, made, normalized: bool, own_data: bool, notice: str) -> dict[str, str]:
    """Return the files that are made from templates."""
    templates = environment("web", keep_trailing_newline=True)
    content = {
        "name": name,
        "notice": in_markdown(notice),
        "file": f"{name}.tflite",
        "bytes": made.size,
        "version": __version__,
        "litertjs": LITERTJS,
        "looked_up": LOOKED_UP,
        "ends": made is not file,
        "states": file.states,
        "normalized": normalized,
        "source": "the first of the examples given" if own_data else "numbers drawn from a seed",
    }
    names = ("index.html", "page.js", "package.json", "README.md")
    return {one: templates.get_template(one).render(**content) for one in names}
