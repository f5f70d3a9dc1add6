"""Uses of the public names that a type checker must find. Checked by mypy, never run.

mypy warns of an ignored error that is none: so a mistake that it misses fails too.
"""

from typing import Any

import numpy as np

import tfkd
import tfkd.export
import tfkd.pruning
import tfkd.quantization
from tfkd.export import TFLiteModel, benchmark, to_tflite, verify


def make_mistakes(model: Any, x: np.ndarray, file: TFLiteModel, data: tfkd.Data) -> None:
    """Misspell, forget and mix up."""
    tfkd.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    tfkd.export.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    tfkd.Distiller(1, 2, alpa=0.1)  # type: ignore[call-arg]
    tfkd.Distiller()  # type: ignore[call-arg]
    tfkd.Distiller(model, model, alpha="half")  # type: ignore[arg-type]
    tfkd.quantize_aware(model, ["head"])  # type: ignore[call-arg]
    tfkd.quantize_aware(model, bits=3)  # type: ignore[arg-type]
    tfkd.quantize_aware(model, preserve="zeros")  # type: ignore[arg-type]
    tfkd.prune_channels(model, 0.5, scope="everything")  # type: ignore[arg-type]
    tfkd.prune_channels(model, 0.5, metric="layers")  # type: ignore[arg-type]
    tfkd.prune_channels(model, 0.5, of="macs")  # type: ignore[call-arg]
    to_tflite(model, "int7")  # type: ignore[arg-type]
    to_tflite(model, "int8", recurrent="rolled")  # type: ignore[arg-type]
    verify(file, model)  # type: ignore[call-arg]
    benchmark({"a": file}, threads="two")  # type: ignore[arg-type]
    file.predct(x)  # type: ignore[attr-defined]
    tfkd.spiral(model, data, epoch=3)  # type: ignore[call-arg]
    tfkd.spiral(model, data, optimizer="lion")  # type: ignore[arg-type]
    tfkd.Target(flops=0.5)  # type: ignore[call-arg]
    tfkd.Data(x)  # type: ignore[call-arg, arg-type]
    tfkd.losses.DKD(weight=2.0)  # type: ignore[call-arg]
    steps: str = verify(file, model, x).mean_abs_diff  # type: ignore[assignment]
    print(steps)
    tfkd.pruning.register(int, follow_two, overwrite=True)  # type: ignore[arg-type, call-arg]
    tfkd.quantization.register("Dense", follow_two)  # type: ignore[arg-type]
    tfkd.pruning.describe(model).pruned  # type: ignore[attr-defined]  # noqa: B018


def follow_two(channels: tfkd.pruning.Channels, call: int) -> None:
    """Take too little, and return nothing."""
