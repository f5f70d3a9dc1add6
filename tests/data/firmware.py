"""The C++ of a bundle in the tests: declarations of TFLM, and builds with them."""

import pathlib
import subprocess

import numpy as np

from tfkd.export.micro import bundle as firmware

STUB = pathlib.Path(__file__).parent / "tflm_stub"
STRICT = (
    *("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion"),
    *("-Wshadow", "-Werror", "-fno-exceptions", "-fno-rtti"),
)
TAGS = {"float32": 1, "int32": 2, "uint8": 3, "bool": 6, "int16": 7, "int8": 9}


def run(program, stub="", **more):
    return subprocess.run(
        [program], env={"STUB": stub}, capture_output=True, text=True, timeout=60, **more
    )


def values_in(array) -> str:
    return ", ".join(map(str, np.ascontiguousarray(array).reshape(-1).view(np.uint8)))


def golden_of(bundle, file, x):
    if bundle.proof is not None:
        return bundle.proof.golden_inputs, bundle.proof.golden_outputs
    return firmware._reference(file, x)


def stub_data(bundle, file, x) -> str:
    """Describe the interpreter's tensors to the stub, from Python's own values."""
    lines = ['#include "stub.h"', "namespace stub {"]
    golden = golden_of(bundle, file, x)
    for kind, infos, arrays in zip(
        ("inputs", "outputs"), (file.inputs, file.outputs), golden, strict=True
    ):
        for i, array in enumerate(arrays):
            lines.append(f"static const unsigned char {kind}{i}[] = {{{values_in(array)}}};")
        rows = ", ".join(
            f"{{{TAGS[info.dtype]}, sizeof({kind}{i}), {kind}{i}}}" for i, info in enumerate(infos)
        )
        lines.append(f"const Tensor {kind}[] = {{{rows}}};")
        lines.append(f"const size_t {kind[:-1]}_count = {len(infos)};")
    lines.append(f"const size_t op_count = {len(file.ops)};")
    lines.append(f"const size_t arena_size = {bundle.arena_bytes};")
    lines.append(f"const bool keeps_state = {str(file.keeps_state).lower()};")
    return "\n".join([*lines, "}"])


def all_sources(name, main="main.cc") -> list:
    """Return the sources of a bundle's program, the stub among them."""
    parts = ("model", "golden", "golden_test", "infer")
    return [main, *(f"{name}_{part}.cc" for part in parts), STUB / "stub.cc"]
