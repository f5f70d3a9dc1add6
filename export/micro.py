"""What a file needs on TensorFlow Lite for Microcontrollers, found by running it there."""

from __future__ import annotations

import importlib.util

import numpy as np

from tfkd.errors import ConversionError, WorkerError

from . import sandbox
from .artifact import TFLiteModel
from .interpreter import open_runner

# Arenas are aligned to 16 bytes.
_STEP = 16
_TRIAL_SECONDS = 60.0


def is_installed() -> bool:
    """Tell whether the host build of TensorFlow Lite for Microcontrollers is there."""
    return importlib.util.find_spec("tflite_micro") is not None


def least_arena(file: TFLiteModel) -> int:
    """Find the smallest arena in which a file runs, by bisection in a child process.

    Too small an arena is refused or ends the process; both count as too small. The host is a
    64-bit machine: pointers are twice as long there as on most microcontrollers.

    Args:
        file: The file.

    Returns:
        Bytes, a multiple of 16.

    Raises:
        MissingDependencyError: if tflite-micro is not installed.
        ConversionError: if the file does not run in any arena.
    """
    zeros = [np.zeros(info.shape, info.dtype) for info in file.inputs]
    outputs = len(file.outputs)
    with sandbox.Worker() as worker:

        def fits(size: int) -> bool:
            try:
                worker.call(_try_arena, file.data, size, zeros, outputs, timeout=_TRIAL_SECONDS)
            except (ConversionError, WorkerError):
                return False
            return True

        enough = max(_STEP, file.activation_bytes // _STEP * _STEP) * 2
        while not fits(enough):
            enough *= 2
            if enough > 16 * (file.activation_bytes + file.size) + (1 << 20):
                worker.call(_try_arena, file.data, enough, zeros, outputs)  # says why
                raise ConversionError(f"The file does not run in an arena of {enough:,} bytes.")
        small = file.activation_bytes // _STEP * _STEP
        while enough - small > _STEP:
            middle = (enough + small) // 2 // _STEP * _STEP
            small, enough = (small, middle) if fits(middle) else (middle, enough)
    return enough


def _try_arena(data: bytes, size: int, zeros, outputs: int):
    """Run a file once in an arena; in the worker."""
    runner = open_runner(data, "tflm", 1, outputs, arena_bytes=size)
    runner.reset()
    runner(zeros)
