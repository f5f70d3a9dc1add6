"""The Kotlin files that run one `.tflite` file, with its own names and numbers in them.

The templates use LiteRT's two interfaces, and this module fills them in. The Kotlin files
quantize and dequantize as `TensorInfo` does, to the last bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfkd.export.templating import environment
from tfkd.export.tflite.gpu_operators import cpu_operators
from tfkd.export.tflite.metadata import data_inputs, data_outputs, label_files_of
from tfkd.export.tflite.model import TensorInfo, TFLiteModel

# By dtype: Kotlin's array, bytes of a value, the suffix of ByteBuffer's `put` and `get`, the
# conversion from an Int, and the suffix of TensorBuffer's `read` and `write`, if it has them.
_TYPES = {
    "float32": ("FloatArray", 4, "Float", ".toFloat()", "Float"),
    "int8": ("ByteArray", 1, "", ".toByte()", "Int8"),
    "uint8": ("ByteArray", 1, "", ".toByte()", None),
    "int16": ("ShortArray", 2, "Short", ".toShort()", None),
    "int32": ("IntArray", 4, "Int", "", "Int"),
    "int64": ("LongArray", 8, "Long", ".toLong()", "Long"),
}
#: LiteRT's interfaces, each with its class: CompiledModel and the Interpreter.
INTERFACES = ("compiled", "interpreter")
#: The types of tensors that the Kotlin files can fill and read.
TYPES = tuple(_TYPES)

# Kotlin's hard keywords, and names that the templates use themselves.
_TAKEN = re.compile(
    "as|break|class|continue|do|else|false|for|fun|if|in|interface|is|null|object|package|return"
    "|super|this|throw|true|try|typealias|typeof|val|var|when|while"
    "|accelerator|context|delegate|environment|file|gpu|inputs|interpreter|it|labels|model|outputs"
    "|predict|prefer|provider|reset|scores|state|steps|threads|usesGpu"
)


class Kotlin:
    """The Kotlin files for one `.tflite` file.

    Args:
        model: The file.
        name: What to call it: letters, digits and `_`.
        signature: The key of the signature to call.
        labels: The class names, as from `labels_of`.
        normalizations: As from `normalizations_of`.

    Attributes:
        asset: Name of the `.tflite` file.
        labels: Output name → class names.
        normalizations: Input name → (mean, std).
        compiled: Name of the class for CompiledModel, or `None` if that can't run the file.
        interpreter: Name of the class for the Interpreter.
        gpu: Whether the GPU is tried by default.
        delegates: Whether the GPU can be tried at all.
        cpu_operators: The operators that the GPU would hand back to the CPU.
        without_call: Types of tensors that CompiledModel's buffers have no calls for.
    """

    def __init__(
        self,
        model: TFLiteModel,
        name: str,
        signature: str,
        labels: Mapping[str, Sequence[str]],
        normalizations: Mapping[str, tuple[list[float], list[float]]],
    ):
        self.model, self.signature = model, signature
        self.labels, self.normalizations = labels, normalizations
        self.asset = f"{name}.tflite"
        # A GPU keeps no state between calls, and calculates with integers as floats.
        self.delegates = not model.keeps_state
        self.cpu_operators = cpu_operators(model)
        self.gpu = self.delegates and not model.integer_only and not self.cpu_operators
        types = {info.dtype for info in (*model.inputs, *model.outputs)}
        self.without_call = tuple(sorted(t for t in types if _TYPES[t][4] is None))
        kind = "Classifier" if labels else "Regressor"
        runs = not self.without_call and not model.keeps_state
        self.compiled = class_name(name) + kind if runs else None
        self.interpreter = f"{class_name(name)}Interpreter"
        infos = (*data_inputs(model), *data_outputs(model))
        parameters = iter(_parameters([info.name for info in infos]))
        self._inputs = [self._input(info, next(parameters)) for info in data_inputs(model)]
        self._outputs = [_output(info, next(parameters)) for info in data_outputs(model)]
        self._named = self._label_lists()

    def render(
        self, package: str = "com.example.app", interfaces: Sequence[str] = INTERFACES
    ) -> dict[str, bytes]:
        """Return the Kotlin files by name.

        Args:
            package: The package of the files.
            interfaces: The LiteRT interfaces to write files for, from `INTERFACES`.
        """
        content = {**self.content(), "package": package}
        classes = {"compiled": self.compiled, "interpreter": self.interpreter}
        templates = {"compiled": "compiled_model.kt", "interpreter": "interpreter.kt"}
        return {
            f"{classes[one]}.kt": rendered(templates[one], content)
            for one in interfaces
            if classes[one]
        }

    def usage(self, interfaces: Sequence[str] = INTERFACES) -> str:
        """Return the lines with which an app calls the network, by one of LiteRT's interfaces."""
        compiled = self.compiled if "compiled" in interfaces else None
        arguments = ", ".join(one["parameter"] for one in self._inputs)
        lines = [
            f"val network = {compiled or self.interpreter}(context)",
            f"val answer = network.predict({arguments})",
        ]
        for one in self._named:
            values = f"answer.{one['output']}" if len(self._outputs) > 1 else "answer"
            call = "bestOfEach({}, network.{})" if one["places"] else "scores({}, network.{})[0]"
            lines.append(f"val {one['best']} = network.{call.format(values, one['list'])}")
        return "\n".join([*lines, "network.close()"])

    def content(self) -> dict[str, Any]:
        """Return the variables of the templates for this file."""
        names = [one["parameter"] for one in self._outputs]
        several = len(names) > 1
        return {
            **vars(self),
            "keeps_state": self.model.keeps_state,
            "model_literal": literal(self.asset),
            "signature_literal": literal(self.signature),
            "inputs": self._inputs,
            "outputs": self._outputs,
            "states": [self._state(*pair) for pair in self.model.states],
            "named": self._named,
            "quantizes": any(info.scale is not None for info in data_inputs(self.model)),
            "several": several,
            "returns": "Result" if several else self._outputs[0]["result"],
            "answer": f"Result({', '.join(names)})" if several else names[0],
            "buffers": {
                which: [
                    {"literal": literal(info.name), "bytes": _count(info) * _TYPES[info.dtype][1]}
                    for info in tensors
                ]
                for which, tensors in (
                    ("inputs", self.model.inputs),
                    ("outputs", self.model.outputs),
                )
            },
        }

    def _input(self, info: TensorInfo, parameter: str) -> dict[str, Any]:
        array, _, kind, cast, accessor = _TYPES[info.dtype]
        mean, std = self.normalizations.get(info.name, ((), ()))
        constant = f"{parameter[0].upper()}{parameter[1:]}"
        element, says = f"{parameter}[it]", "as the model was trained on them"
        if mean:
            says = "raw; they are normalized here"
            by = [_float(mean[0]), _float(std[0])]
            if len(mean) > 1:
                by = [f"mean{constant}[it % {len(mean)}]", f"std{constant}[it % {len(mean)}]"]
            element = f"({element} - {by[0]}) / {by[1]}"
        if info.scale is not None:
            limits = np.iinfo(info.dtype)
            numbers = (_float(info.scale), info.zero_point, limits.min, limits.max)
            element = f"quantize({element}, {', '.join(map(str, numbers))}){cast}"
        return {
            "literal": literal(info.name),
            "parameter": parameter,
            "array": array if info.scale is None else "FloatArray",
            "count": _count(info),
            "says": f"{_count(info)} values, shape {list(info.shape)}, {says}",
            "accessor": accessor,
            "put": f"put{kind}",
            "element": element,
            "converts": bool(mean) or info.scale is not None,
            "stored": array,
            "constants": {
                f"{which}{constant}": ", ".join(map(_float, numbers))
                for which, numbers in (("mean", mean), ("std", std))
                if len(numbers) > 1
            },
        }

    def _state(self, state_in: str, state_out: str) -> dict[str, Any]:
        info = next(info for info in self.model.inputs if info.name == state_in)
        array, _, kind, cast, accessor = _TYPES[info.dtype]
        zero = f"{_signed(info.zero_point or 0)}{cast}"
        return {
            "input": literal(state_in),
            "output": literal(state_out),
            "accessor": accessor,
            "count": _count(info),
            "put": f"put{kind}",
            "zero": zero,
            "zeros": f"{array}({_count(info)}) {{ {zero} }}",
        }

    def _label_lists(self) -> list[dict[str, Any]]:
        """Return the templates' values for each output that has class names."""
        files, lists = label_files_of(self.labels), []
        for info, output in zip(data_outputs(self.model), self._outputs, strict=True):
            if info.name not in self.labels:
                continue
            own = "labels" if len(self.labels) == 1 else f"{output['parameter']}Labels"
            count = len(self.labels[info.name])
            found = f"{literal(files[info.name])[:-1]} has ${{{own}.size}} lines"
            lists.append(
                {
                    "output": output["parameter"],
                    "list": own,
                    "best": "best" if len(self.labels) == 1 else f"{output['parameter']}Best",
                    "file": literal(files[info.name]),
                    "count": count,
                    "places": _count(info) > count,  # whether steps or pixels have a class each
                    "complaint": f'{found}, the model gives {count} values."',
                }
            )
        return lists


def _output(info: TensorInfo, parameter: str) -> dict[str, Any]:
    array, _, kind, _, accessor = _TYPES[info.dtype]
    taken = f"{parameter}Buffer.get{kind}()"
    back = None
    if info.scale is not None:
        back = f"- {_signed(info.zero_point)}) * {_float(info.scale)}"
        whole = f"(({taken}.toInt() and 0xFF)" if info.dtype == "uint8" else f"({taken}"
        taken = f"{whole} {back}"
    return {
        "literal": literal(info.name),
        "parameter": parameter,
        "result": array if info.scale is None else "FloatArray",
        "count": _count(info),
        "says": f"{_count(info)} values, shape {list(info.shape)}",
        "accessor": accessor,
        "back": back,
        "taken": taken,
    }


def rendered(template: str, content: dict[str, Any]) -> bytes:
    """Fill in one of the templates for Android.

    Args:
        template: Its file name.
        content: Its variables.
    """
    text = (
        environment("android", keep_trailing_newline=True).get_template(template).render(**content)
    )
    return re.sub(r"\n{3,}", "\n\n", text).encode()


def class_name(name: str) -> str:
    """Return a name of letters, digits and `_` in Kotlin's spelling of class names.

    Args:
        name: The name.
    """
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def literal(text: str) -> str:
    """Return a Kotlin string literal.

    Args:
        text: What the string holds.
    """
    escapes = {"\\": "\\\\", '"': '\\"', "$": "\\$"}
    codes = (
        escapes.get(c, c)
        if c.isprintable()
        else "".join(f"\\u{u:04x}" for u in np.frombuffer(c.encode("utf-16-le"), "<u2"))
        for c in text
    )
    return f'"{"".join(codes)}"'


def _parameters(names: list[str]) -> list[str]:
    """Return Kotlin names for tensors, all different."""
    made: list[str] = []
    for name in names:
        first, *rest = re.findall(r"[A-Za-z0-9]+", name) or ["tensor"]
        own = first[0].lower() + first[1:] + "".join(word[0].upper() + word[1:] for word in rest)
        own = f"t{own}" if own[0].isdigit() else own
        candidate, number = own, 1
        while _TAKEN.fullmatch(candidate) or any(
            candidate + end == one or candidate == one + end
            for one in made
            for end in ("", "Buffer", "Steps")  # the templates' name for a tensor's memory
        ):
            number += 1
            candidate = f"{own}{number}"
        made.append(candidate)
    return made


def _count(info: TensorInfo) -> int:
    return math.prod(info.shape)


def _float(value: float) -> str:
    """Return the Kotlin literal of a float32."""
    text = f"{np.float32(value)!s}f"
    return f"({text})" if value < 0 else text


def _signed(value: int) -> str:
    return f"({value})" if value < 0 else str(value)
