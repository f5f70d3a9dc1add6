"""Estimates by Arm's compiler Vela for a file on an Ethos-U NPU; nothing is measured.

Vela (PyPI `ethos-u-vela`) compiles the operators that the NPU knows into one command stream and
leaves the others to the CPU; a float file stays on the CPU as a whole. Vela runs as a separate
program in a folder that is deleted afterwards, so it may be installed in this environment (5.2
works beside TensorFlow 2.21) or in another one on PATH.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from tfkd.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    UnsupportedError,
    WorkerError,
)
from tfkd.escaping import in_lines
from tfkd.export.tflite.model import TFLiteModel
from tfkd.tables import Printed

#: The NPUs for which Vela 5 compiles, with their number of multiply-accumulate units.
ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
# Vela's operator in the file for the part that the NPU runs.
_NPU = "ethos-u"
_UNSUPPORTED = re.compile(r"operator: (\w+), ofm: '[^']*'\s*\n\s*Reason: (.+(?:\n\S.*)*)")


@dataclasses.dataclass(frozen=True)
class VelaEstimate(Printed):
    """Vela's report about a file; memory and time are the compiler's ESTIMATES.

    Attributes:
        accelerator: The NPU, as given.
        system_config: Vela's description of clock and memories that the estimate is for.
        memory_mode: How weights and activations are spread over these memories.
        operators: Operators of the file.
        cpu_ops: The operators that stay on the CPU, and how often each occurs.
        reasons: Vela's reasons for them, an entry for each operator kind and reason.
        sram_bytes: SRAM for the part on the NPU (Vela's figure, a multiple of 64 bytes).
        flash_bytes: Flash for its weights and commands, or DRAM if they lie there.
        cycles: Cycles of the NPU for one inference, without the operators on the CPU; `None` if
            nothing runs on the NPU.
        latency_us: `cycles` in microseconds at the clock of `system_config`.
        clock_hz: The clock of `system_config`.
        macs: Multiply-accumulates on the NPU.
        version: Version of Vela.
    """

    accelerator: str
    system_config: str
    memory_mode: str
    operators: int
    cpu_ops: dict[str, int]
    reasons: tuple[str, ...]
    sram_bytes: int
    flash_bytes: int
    cycles: int | None
    latency_us: float | None
    clock_hz: float
    macs: int
    version: str

    @property
    def npu_share(self) -> float:
        """The share of the file's operators that runs on the NPU, by number, not by time."""
        return 1.0 - min(sum(self.cpu_ops.values()), self.operators) / max(self.operators, 1)

    def describe(self) -> str:
        """Describe the estimate in a few lines."""
        lines = [
            f"{self.npu_share:.0%} of {self.operators} operators on {self.accelerator}, "
            f"{self.sram_bytes:,} bytes of SRAM and {self.flash_bytes:,} of flash for them "
            f"(Vela {self.version})"
        ]
        if self.cycles is not None:
            lines.append(
                f"estimated, not measured: {self.cycles:,} cycles, {self.latency_us:,.0f} us at "
                f"{self.clock_hz / 1e6:,.0f} MHz ({self.system_config}, {self.memory_mode})"
            )
        if self.cpu_ops:
            names = ", ".join(f"{name} ×{count}" for name, count in self.cpu_ops.items())
            lines.append(f"on the CPU, not in the estimate: {names}")
        lines += [f"  {reason}" for reason in self.reasons]
        return in_lines(lines)


def vela_estimate(
    file: TFLiteModel,
    accelerator: str = "ethos-u55-128",
    *,
    system_config: str | None = None,
    memory_mode: str | None = None,
    timeout: float = 300.0,
) -> VelaEstimate:
    """Compile a file with Vela for an Ethos-U NPU and return its estimate.

    Use it before there is a board, to see whether a net's operators run on the NPU at all, and to
    compare nets. Vela models the NPU's cycles and the bandwidth of its memories; Arm calls the
    figures an estimate, and only a chip's own configuration gives its clock and memories.

    Args:
        file: The file; int8 or int16x8, since the NPU computes in integers.
        accelerator: One of `ACCELERATORS`.
        system_config: A section of Vela's `vela.ini`, such as `"Ethos_U55_Deep_Embedded"`.
            Defaults to Vela's choice for the accelerator (`"Ethos_U55_High_End_Embedded"`: 500
            MHz).
        memory_mode: A memory mode of `vela.ini`; Vela's default for U55 is `"Shared_Sram"`.
        timeout: Seconds for the compiler.

    Returns:
        A `VelaEstimate`.

    Raises:
        InputError: for an unknown accelerator.
        UnsupportedError: if Vela refuses a configuration or the file; the error quotes Vela.
        MissingDependencyError: if there is no `vela` beside this Python or on PATH.
        WorkerError: if Vela dies or does not end in time.
    """
    if accelerator not in ACCELERATORS:
        raise InputError(f"accelerator must be one of {ACCELERATORS}, got {accelerator!r}.")
    program = find_vela()
    if program is None:
        raise MissingDependencyError(
            "Arm's compiler Vela is not installed: pip install ethos-u-vela, here or in another "
            "environment whose program `vela` is on PATH."
        )
    version = _version(program)
    options = ["--accelerator-config", accelerator]
    if system_config is not None:
        options += ["--system-config", system_config]
    if memory_mode is not None:
        options += ["--memory-mode", memory_mode]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        file.save(folder / "net.tflite")
        said = _run([program, "net.tflite", "--output-dir", "out", *options], folder, timeout)
        tables = sorted((folder / "out").glob("*_summary_*.csv"))
        if not tables:
            raise ConversionError(
                f"Vela gave no summary of the file: {_last_line(said)}", code="vela"
            )
        row = _read_row(tables[0])
        compiled = TFLiteModel.load(folder / "out" / "net_vela.tflite").ops
    return VelaEstimate(
        accelerator=accelerator,
        operators=sum(file.ops.values()),
        cpu_ops={op: count for op, count in compiled.items() if op != _NPU},
        reasons=_reasons(said),
        version=version,
        **_figures(row),
    )


def find_vela() -> str | None:
    """Return the path of Vela's program, beside this Python or on PATH, or `None`."""
    beside = str(pathlib.Path(sys.executable).parent)
    return shutil.which("vela", path=beside) or shutil.which("vela")


def _version(program: str) -> str:
    """Return Vela's version, since another well-known program has the same name."""
    said = _run([program, "--version"], None, 60.0, anything=True)
    found = re.fullmatch(r"\d+(\.[\w+]+)+", said.strip())
    if not found:
        raise MissingDependencyError(
            f"{program} is not Arm's compiler: when asked for its version, it printed "
            f"{_last_line(said)!r}. Install ethos-u-vela, and put its `vela` first on PATH."
        )
    return found.group()


def _run(command, folder, timeout: float, anything: bool = False) -> str:
    """Run Vela; return its output."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(
            f"Vela did not finish within {timeout:g} s and was stopped.", timed_out=True
        ) from None
    except OSError as error:
        raise MissingDependencyError(f"{command[0]} can't be run: {error.strerror}.") from error
    if done.returncode < 0:
        raise WorkerError(
            f"Vela died by signal {-done.returncode} on this file.",
            signal=-done.returncode,
            details=done.stdout[-4000:],
        )
    if done.returncode and not anything:
        raise UnsupportedError(
            f"Vela refuses the file or its options: {_last_line(done.stdout)}", code="vela"
        )
    return done.stdout


def _last_line(said: str) -> str:
    """Return the last line of an error, without the class name in front."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]) if lines else "nothing"


def _reasons(said: str) -> tuple[str, ...]:
    found = (
        f"{op}: {re.sub(r' [(][^)]*[)]', '', why).strip().replace(chr(10), '; ')}"
        for op, why in _UNSUPPORTED.findall(said)
    )
    return tuple(dict.fromkeys(found))


def _read_row(path: pathlib.Path) -> dict[str, str]:
    with path.open(newline="") as table:
        rows = list(csv.DictReader(table))
    if not rows:
        raise ConversionError("Vela's summary of the file is empty.", code="vela")
    return rows[-1]


def _figures(row: dict[str, str]) -> dict:
    """Return a summary's figures; its memory is in KiB, its time in seconds."""
    try:
        kib = {
            name: float(row[f"{name}_memory_used"])
            for name in ("sram", "dram", "on_chip_flash", "off_chip_flash")
        }
        cycles, seconds = float(row["cycles_total"]), float(row["inference_time"])
        runs = math.isfinite(cycles) and cycles > 0
        return {
            "system_config": row["system_config"],
            "memory_mode": row["memory_mode"],
            "sram_bytes": round(1024 * kib.pop("sram")),
            "flash_bytes": round(1024 * sum(kib.values())),
            "cycles": round(cycles) if runs else None,
            "latency_us": seconds * 1e6 if runs else None,
            "clock_hz": float(row["core_clock"]),
            "macs": round(float(row["nn_macs"])),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"Vela's summary can't be read ({error!r}): this version may not be 5.x.",
            code="vela",
        ) from error
