"""Kinds of projects: the files that each toolchain expects in a bundle, and their places.

A kind is data: folders for the bundle's own sources, and further files from `templates/<kind>/`.
Names in the project may hold `{name}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from tfkd.errors import InputError, UnsupportedError, argument
from tfkd.export.micro.board_table import BOARDS, Board
from tfkd.export.micro.boards import fits


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of project.

    Attributes:
        sources: The folder of the bundle's `.cc` files.
        headers: The folder of its headers.
        main: The file that runs the golden example.
        entry: The form of the entry point in `main.cc`, see the template.
        files: Name in the project → (template, description).
        suffix: Suffix of C++ files.
        runtime_header: The header to include so that the toolchain finds TFLM.
        kernels: The optimized kernels that the toolchain offers.
    """

    sources: str = ""
    headers: str = ""
    main: str = "main.cc"
    entry: str = "main"
    files: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    suffix: str = ".cc"
    runtime_header: str = ""
    kernels: tuple[str, ...] = ("CMSIS-NN",)


_CHIRALE = "Chirale_TensorFlowLite.h"
_SKETCH = "calls the example, as Arduino calls a sketch"

#: The bundle alone, without a project.
BARE = Kind(kernels=())

#: Kinds of projects by name.
KINDS: dict[str, Kind] = {
    "cmake": Kind(
        sources="src/",
        headers="src/",
        main="src/main.cc",
        files={
            "CMakeLists.txt": (
                "CMakeLists.txt",
                "a library of the model, the program `golden` and a test of it",
            ),
            "Makefile": (
                "Makefile",
                "`make golden` builds and runs the golden example, `make size` says what "
                "our part takes",
            ),
        },
    ),
    "esp-idf": Kind(
        sources="components/{name}_model/",
        headers="components/{name}_model/",
        main="main/main.cc",
        entry="app_main",
        files={
            "CMakeLists.txt": ("CMakeLists.txt", "the project"),
            "sdkconfig.defaults": ("sdkconfig.defaults", "settings to begin with"),
            "main/CMakeLists.txt": ("main_CMakeLists.txt", "the application"),
            "components/{name}_model/CMakeLists.txt": (
                "component_CMakeLists.txt",
                "the model's component",
            ),
            "components/{name}_model/idf_component.yml": (
                "idf_component.yml",
                "names esp-tflite-micro, which `idf.py build` downloads",
            ),
        },
        kernels=("ESP-NN",),
    ),
    "arduino": Kind(
        sources="src/",
        headers="src/",
        main="examples/golden/example.cpp",
        entry="arduino",
        files={
            "library.properties": ("library.properties", "makes the folder an Arduino library"),
            "keywords.txt": ("keywords.txt", "words that the editor colours"),
            "examples/golden/golden.ino": ("golden.ino", _SKETCH),
            "examples/golden/sketch.yaml": ("sketch.yaml", "the board for arduino-cli"),
        },
        suffix=".cpp",
        runtime_header=_CHIRALE,
        kernels=(),
    ),
    "platformio": Kind(
        sources="lib/{name}_model/src/",
        headers="lib/{name}_model/src/",
        main="src/example.cpp",
        entry="arduino",
        files={
            "platformio.ini": ("platformio.ini", "the board, the framework and the libraries"),
            "lib/{name}_model/library.json": (
                "library.json",
                "the model as a library of the project",
            ),
            "src/main.cpp": ("main.cpp", _SKETCH),
            "test/test_golden/test_golden.cpp": (
                "test_golden.cpp",
                "the golden example as a test, for `pio test`",
            ),
        },
        suffix=".cpp",
        runtime_header=_CHIRALE,
        kernels=(),
    ),
    "zephyr": Kind(
        sources="src/",
        headers="src/",
        main="samples/golden/src/main.cc",
        entry="zephyr",
        files={
            "zephyr/module.yml": ("module.yml", "makes the folder a Zephyr module"),
            "zephyr/CMakeLists.txt": ("module_CMakeLists.txt", "the module's library"),
            "zephyr/Kconfig": ("Kconfig", "the option that takes it in"),
            "samples/golden/CMakeLists.txt": ("CMakeLists.txt", "the sample"),
            "samples/golden/prj.conf": ("prj.conf", "its options"),
            "samples/golden/sample.yaml": ("sample.yaml", "the sample as a test, for twister"),
        },
    ),
    "stm32": Kind(
        sources="Core/Src/",
        headers="Core/Inc/",
        main="Core/Src/{name}_example.cc",
        entry="function",
        files={
            "cmake/{name}_model.cmake": (
                "model.cmake",
                "for a project that STM32CubeMX made with CMake",
            )
        },
    ),
}

# Operators with TFLM kernels that use these libraries: kernels/cmsis_nn of tflite-micro, as of
# 2026-08-20, and kernels/esp_nn of esp-tflite-micro 1.4.0, as of 2026-08-14.
_POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
_IN_BOTH = _POOLS | {"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SOFTMAX"}
OPTIMIZED = {
    "CMSIS-NN": _IN_BOTH
    | {"BATCH_MATMUL", "MAXIMUM", "MINIMUM", "PAD", "PADV2", "SVDF", "TRANSPOSE", "TRANSPOSE_CONV"}
    | {"UNIDIRECTIONAL_SEQUENCE_LSTM"},
    "ESP-NN": _IN_BOTH,
}


def kind_of(project: str | None) -> Kind:
    """Return a kind by its name; `None` gives the kind of a bundle without a project."""
    if project is None:
        return BARE
    if project not in KINDS:
        raise InputError(
            f"{argument('project', alone=True)} must be one of {', '.join(KINDS)}, got {project!r}."
        )
    return KINDS[project]


def flaws_of_name(name: object, project: str | None) -> Iterator[str]:
    """Yield what is wrong with a bundle's name in a kind of project."""
    longest = 63 - len("_model")  # of the library specification
    if project == "arduino" and isinstance(name, str) and len(name) > longest:
        yield (
            f"{argument('name', name)} has {len(name)} characters, but Arduino accepts "
            f"library names of up to {longest} here"
        )


def check_board(project: str | None, board: Board | None) -> str:
    """Return the toolchain's name for a board; an empty text if the toolchain needs no name.

    Raises:
        InputError: for a board that does not run TFLM or that the toolchain does not know, or if
            no board is given and the toolchain needs one.
    """
    if board is not None and not board.runs_tflm:
        raise InputError(
            f"{board.name} runs LiteRT, not TensorFlow Lite for Microcontrollers: leave "
            f"{argument('board', alone=True)} out, and make an Android bundle."
        )
    fitting = [key for key, one in BOARDS.items() if project in one.ids]
    if board is None:
        if project == "platformio":
            raise InputError(
                f"PlatformIO builds for one board: give {argument('board')}, one of "
                f"{', '.join(fitting)}."
            )
        return ""
    if project == "stm32" and not board.chip.startswith("STM32"):
        raise InputError(f"{board.name} has no STM32; use another project for it.")
    if project in ("arduino", "esp-idf", "platformio", "zephyr") and project not in board.ids:
        raise InputError(
            f"tfkd has no name for {board.name} in {project}; it has one for {', '.join(fitting)}."
        )
    return board.ids.get(project or "", "")


def check_fit(file_bytes: int, arena_bytes: int, board: Board | None) -> None:
    """Raise an `UnsupportedError` if file or arena do not fit a board."""
    verdicts = [] if board is None else fits(file_bytes, arena_bytes, board=board)
    reasons = [
        f"{verdict.resource} has {verdict.available_bytes:,} bytes, but the model needs "
        f"{verdict.needed_bytes:,}"
        for verdict in verdicts
        if not verdict.fits
    ]
    if board is not None and reasons:
        raise UnsupportedError(
            f"The model does not fit {board.name}: {'; '.join(reasons)}. Use a smaller model or "
            "another board.",
            code="does-not-fit",
        )


def kernels_of(kind: Kind, ops: Mapping[str, int]) -> list[tuple[str, list[str], list[str]]]:
    """Return (library, operators with a kernel in it, the others) for a kind's kernels."""
    return [
        (library, sorted(OPTIMIZED[library] & set(ops)), sorted(set(ops) - OPTIMIZED[library]))
        for library in kind.kernels
        if library in OPTIMIZED
    ]
