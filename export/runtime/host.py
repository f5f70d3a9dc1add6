"""The conditions of a measurement: the machine, the packages, and the load by other programs."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import time
from typing import Any

from tfkd.export.runtime import worker

_PACKAGES = (
    "tfkd",
    "tensorflow",
    "keras",
    "tf_keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "numpy",
)
_FREQUENCY = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq")


def describe() -> dict[str, Any]:
    """Return processor, cores, governor, memory, system and load; `None` for unknown ones."""
    cpu = platform.processor() or platform.machine()
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu,
        "cores": cores(),
        "governor": _read(_FREQUENCY / "scaling_governor").strip() or None,
        "memory_bytes": next(iter(worker.sizes("/proc/meminfo", "MemTotal")), None),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": load,
    }


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that shape a file or a measurement."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Others:
    """The use of the machine by others, counted from the creation of this object.

    Linux only; on other systems `since` returns `None` for both figures.
    """

    def __init__(self):
        self._before, self._began = _ticks(), time.monotonic()

    def since(self, own_seconds: float) -> dict[str, float | None]:
        """Return the use since this object was made.

        Args:
            own_seconds: Processor time of our own processes meanwhile.

        Returns:
            `others`: cores that other programs used on average. `stolen`: cores that the host
            of this virtual machine kept to itself.
        """
        now, elapsed = _ticks(), time.monotonic() - self._began
        if self._before is None or now is None or elapsed <= 0:
            return {"others": None, "stolen": None}
        busy, stolen = (after - before for after, before in zip(now, self._before, strict=True))
        return {
            "others": round(max(0.0, (busy - own_seconds) / elapsed), 2),
            "stolen": round(stolen / elapsed, 2),
        }


def _ticks() -> tuple[float, float] | None:
    """Return the seconds that all cores were busy, and those stolen by the host."""
    words = _read("/proc/stat").split("\n", 1)[0].split()
    if words[:1] != ["cpu"] or len(words) < 9:
        return None
    user, nice, system, _, _, irq, soft_irq, stolen = (int(word) for word in words[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + soft_irq) / ticks, stolen / ticks


def _read(path) -> str:
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""
