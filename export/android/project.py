"""An app around a bundle's Kotlin: the files of a Gradle project, and the bundle's place in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfkd.errors import InputError, argument
from tfkd.export.android.kotlin import Kotlin, literal, rendered
from tfkd.export.tflite.golden import golden_example, is_image, raw_range, raw_values
from tfkd.export.tflite.metadata import data_inputs, data_outputs

#: Kinds of projects: template → its target path. `{sources}` is the package's folder.
KINDS: dict[str, dict[str, str]] = {
    "gradle": {
        "settings.gradle.kts": "settings.gradle.kts",
        "build.gradle.kts": "build.gradle.kts",
        "gradle.properties": "gradle.properties",
        "gradle-wrapper.properties": "gradle/wrapper/gradle-wrapper.properties",
        "app.gradle.kts": "app/build.gradle.kts",
        "AndroidManifest.xml": "app/src/main/AndroidManifest.xml",
        "MainActivity.kt": "app/src/main/kotlin/{sources}/MainActivity.kt",
        "GoldenExampleTest.kt": "app/src/androidTest/kotlin/{sources}/GoldenExampleTest.kt",
    }
}
ASSETS = "app/src/main/assets/"
GOLDEN = f"{ASSETS}golden.json"
#: Versions that build the app, as in google-ai-edge/litert-samples of 2026-08-17
#: (image_segmentation/kotlin_npu), whose JUnit extension 1.3.0 belongs to the runner's release.
VERSIONS = {
    "plugin": "8.13.1",
    "kotlin": "2.3.0",
    "gradle": "8.13",
    "sdk": 36,
    "min_sdk": 24,
    "junit": "4.13.2",
    "test_runner": "1.7.0",
    "test_junit": "1.3.0",
}
# Conversions by Kotlin's array: of a word in MainActivity, and of a Double in the test.
_NUMBERS = {
    "FloatArray": ("toFloat", "toFloat()"),
    "ByteArray": ("toByte", "toInt().toByte()"),
    "ShortArray": ("toShort", "toInt().toShort()"),
    "IntArray": ("toInt", "toInt()"),
    "LongArray": ("toLong", "toLong()"),
}
# As in a micro bundle: one step, or this fraction of a float output's largest number.
_FLOAT_TOLERANCE = 1e-4


def check_kind(project: str | None) -> None:
    """Raise an `InputError` for an unknown kind of project."""
    if project is not None and project not in KINDS:
        raise InputError(
            f"{argument('project', alone=True)} must be {' or '.join(KINDS)} for an Android "
            f"bundle, got {project!r}."
        )


def package_of(name: str) -> str:
    """Return the app's package, which never is a keyword of Kotlin or Java."""
    return f"com.example.{name.lower()}_app"


def placed(files: Mapping[str, bytes], package: str) -> dict[str, bytes]:
    """Return the bundle's files at their places in the app."""
    sources = f"app/src/main/kotlin/{package.replace('.', '/')}/"
    folders = {"tflite": ASSETS, "txt": ASSETS, "kt": sources}
    return {folders.get(name.rpartition(".")[2], "") + name: data for name, data in files.items()}


def app_files(
    project: str, name: str, shown: Sequence[Kotlin], gradle: Sequence[str], x: list | None
) -> dict[str, bytes]:
    """Return the files that make a bundle an app.

    Args:
        project: One of `KINDS`.
        name: The model's name.
        shown: The Kotlin of each file; the app runs the first.
        gradle: The app's dependencies.
        x: Examples as given, an array per input that takes data; the first is the golden example.
    """
    package, kotlin = package_of(name), shown[0]
    file, own = kotlin.model, kotlin.content()
    call, answers = golden_example(file, None if x is None else _by_name(file, x), "xnnpack")
    compiled = kotlin.compiled if "compiled" in interfaces(shown) else None
    content = {
        **own,
        "compiled": compiled,
        "name": name,
        "package": package,
        "versions": VERSIONS,
        "gradle": gradle,
        "network": compiled or kotlin.interpreter,
        "choices": ", ".join(f'"{one}"' for one in choices(shown)),
    }
    tensors = dict(zip([info.name for info in file.inputs], call, strict=True))
    raw = [
        raw_values(info, kotlin.normalizations.get(info.name), tensors[info.name])
        for info in data_inputs(file)
    ]
    content["inputs"] = [{**one, **_field(one)} for one in own["inputs"]]
    real = dict(zip([info.name for info in file.outputs], answers, strict=True))
    named = {one["output"]: one for one in own["named"]}
    wanted = []
    content["outputs"] = []
    for info, one in zip(data_outputs(file), own["outputs"], strict=True):
        wanted.append(info.dequantize(real[info.name]))
        most = max(1.0, float(np.abs(wanted[-1]).max()))
        tolerance = _FLOAT_TOLERANCE * most if info.scale is None else 1.01 * info.scale
        fields = {"title": literal(info.name), "named": named.get(one["parameter"])}
        content["outputs"].append({**one, **fields, "tolerance": f"{tolerance:.6g}"})
    content["image"] = _image(kotlin, x)
    golden = {
        "inputs": [values.reshape(-1).tolist() for values in raw],
        "outputs": [values.reshape(-1).tolist() for values in wanted],
    }
    sources = package.replace(".", "/")
    return {
        **{
            place.format(sources=sources): rendered(f"{project}/{template}", content)
            for template, place in KINDS[project].items()
        },
        GOLDEN: json.dumps(golden).encode(),
    }


def interfaces(shown: Sequence[Kotlin]) -> tuple[str]:
    """Return the one interface of LiteRT that an app has; the artifacts can't be combined."""
    return ("compiled",) if all(one.compiled for one in shown) else ("interpreter",)


def choices(shown: Sequence[Kotlin]) -> list[str]:
    """Return the ways to run the model that the app offers to its user, the default first."""
    first = shown[0]
    if not first.delegates:
        return ["CPU"]
    both = ["GPU", "CPU"] if first.gpu else ["CPU", "GPU"]
    return [*both, *(["NPU"] if "compiled" in interfaces(shown) else [])]


def _by_name(file, x: list) -> dict[str, np.ndarray]:
    return dict(zip([info.name for info in data_inputs(file)], x, strict=True))


def _field(one: dict[str, Any]) -> dict[str, Any]:
    """Return name and reading code of the app's field for an input."""
    parse, from_double = _NUMBERS[one["array"]]
    hint = literal(f"{one['parameter']}: {one['says']}")
    return {"hint": hint, "parse": parse, "from_double": from_double}


def _image(kotlin: Kotlin, x: list | None) -> dict[str, Any] | None:
    """Return the form of the first input that is an image, and the range of its raw numbers."""
    for index, info in enumerate(data_inputs(kotlin.model)):
        if is_image(info):
            _, height, width, channels = info.shape
            values = None if x is None else info.quantize(np.asarray(x[index]))
            black, white = raw_range(info, kotlin.normalizations.get(info.name), values)
            return {
                "index": index,
                "height": height,
                "width": width,
                "channels": channels,
                "black": f"{np.float32(black)}f",
                "white": f"{np.float32(white)}f",
                "measured": x is not None,
            }
    return None
