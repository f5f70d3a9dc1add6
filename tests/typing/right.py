"""Uses of the public names that a type checker must pass. Checked by mypy, never run."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import tfkd
import tfkd.pruning
import tfkd.quantization
from tfkd.export import TFLiteModel, benchmark, micro_bundle, to_tflite, verify


class Projection:
    """Stands for a layer class of a user's own."""

    kernel: Any


def follow(
    channels: tfkd.pruning.Channels, call: tfkd.pruning.Call, inputs: Sequence[np.ndarray]
) -> np.ndarray:
    """Follow the channels through a layer."""
    if len(call.outputs[0].shape) > 2:
        raise tfkd.pruning.NotPrunable("it has steps")
    units = channels.counted(call.layer, "units")
    channels.slices(call.layer.kernel, 0, channels.of_input(call))
    return channels.as_output(call, units)


def round_it(
    net: tfkd.quantization.Rewriter, layer: Any, *values: tfkd.quantization.Value
) -> tfkd.quantization.Value:
    """Round a layer."""
    return tfkd.quantization.Value(net.rounded(values[0]), layer.name, "linear")


def register_rules(small: Any) -> list[str]:
    """Register rules of one's own, and read what was not pruned."""
    tfkd.pruning.register(Projection, follow)
    tfkd.quantization.register(Projection, round_it, replace=True)
    rule: tfkd.quantization.QuantizationRule = round_it
    other: tfkd.pruning.PruningRule = follow
    print(rule, other)
    return sorted(tfkd.pruning.describe(small).not_pruned)


def walk_the_road(teacher: Any, student: Any, x: np.ndarray, y: np.ndarray) -> pathlib.Path:
    """Use the whole road, from data to a bundle."""
    data: tfkd.Data = tfkd.split(x, y, name="mine", seed=3)
    distiller = tfkd.Distiller(student, teacher, alpha=0.5, soft_loss="dist", name="first")
    distiller.compile("adam", "sparse_categorical_crossentropy")
    distiller.fit(data.train.x, data.train.y, epochs=2)
    small = tfkd.prune_channels(student, 0.5, metric="macs", scope="layer", skip=["head"])
    tfkd.Distiller(small, [teacher, "other.keras"], features=[tfkd.losses.Hint("a", "b")])
    qat = tfkd.quantize_aware(small, skip="head", preserve="sparsity", bits={"conv.*": 4})
    file: TFLiteModel = to_tflite(qat, "int8", recurrent="step")
    to_tflite(pathlib.Path("model.keras"), "float16")
    assert verify(file, student, data.test.x, data.test.y).passed
    print(benchmark({"int8": file}, threads=(1, 2)).describe())
    cache: tfkd.TeacherCache = tfkd.cache_teacher(data.train.x, teacher, "answers", top_k=5)
    tfkd.Distiller(small, cache)
    bundle = micro_bundle(
        file, "out", "model", class_names=["a", "b"], project="zephyr", board="pico"
    )
    goal, how = tfkd.Target(macs=0.5, drop=0.01), tfkd.Training(epochs=3, optimizer="sgd")
    print(tfkd.spiral(student, data, target=goal, training=how, rounds=3).describe())
    tfkd.spiral(student, data, target={"macs": 0.5}, max_drop=0.01, epochs=3, optimizer="sgd")
    tfkd.compare(student, teacher, data, budget=how)
    tfkd.compare(student, teacher, (x, y))
    tfkd.spiral(student, "data.npz", target=goal, training=how)
    try:
        tfkd.compress(teacher, data, student=student, out="out", recipe=tfkd.Recipe(epochs=3))
    except tfkd.InputError as error:
        print(error)
    return bundle.folder
