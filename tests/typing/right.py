"""Uses of the public names that a type checker must pass. Checked by mypy, never run."""

import pathlib
from typing import Any

import numpy as np

import tfkd
from tfkd.export import TFLiteModel, benchmark, micro_bundle, to_tflite, verify


def walk_the_road(teacher: Any, student: Any, x: np.ndarray, y: np.ndarray) -> pathlib.Path:
    """Use the whole road, from data to a bundle."""
    data: tfkd.Data = tfkd.split(x, y, name="mine", seed=3)
    distiller = tfkd.Distiller(student, teacher, alpha=0.5, soft_loss="dist", name="first")
    distiller.compile("adam", "sparse_categorical_crossentropy")
    distiller.fit(data.train.x, data.train.y, epochs=2)
    small = tfkd.prune_channels(student, 0.5, metric="macs", scope="layer", skip=["head"])
    tfkd.Distiller(small, [teacher, "other.keras"], features=[tfkd.losses.Hint("a", "b")])
    qat = tfkd.quantize_aware(small, skip="head", preserve="sparsity")
    file: TFLiteModel = to_tflite(qat, "int8", recurrent="step")
    to_tflite(pathlib.Path("model.keras"), "float16")
    assert verify(file, student, data.test.x, data.test.y).passed
    print(benchmark({"int8": file}, threads=(1, 2)).describe())
    cache: tfkd.TeacherCache = tfkd.cache_teacher(data.train.x, teacher, "answers", top_k=5)
    tfkd.Distiller(small, cache)
    bundle = micro_bundle(file, "out", "model", class_names=["a", "b"])
    goal, how = tfkd.Target(macs=0.5, drop=0.01), tfkd.Training(epochs=3, optimizer="sgd")
    print(tfkd.spiral(student, data, target=goal, training=how, rounds=3).describe())
    tfkd.spiral(student, data, target={"macs": 0.5}, max_drop=0.01, epochs=3, optimizer="sgd")
    tfkd.compare(student, teacher, data, budget=how)
    try:
        tfkd.compress(teacher, data, student=student, out="out", recipe=tfkd.Recipe(epochs=3))
    except tfkd.InputError as error:
        print(error)
    return bundle.folder
