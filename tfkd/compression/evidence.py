"""What `compress` adds to its report: checks, answers beside the teacher's, and its own call."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from tfkd.compression.settings import Training
from tfkd.data import Data, Samples
from tfkd.errors import TfkdError
from tfkd.export.report.predictions import Predictions, judge
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import Verification, verify
from tfkd.output_kind import output_activations


def checked(name: str, file: TFLiteModel, model: Any, test: Samples, task: str) -> Verification:
    """Verify a file, an int8 one with the error of each layer.

    Args:
        name: Of the file in the report.
        file: The file.
        model: The model that it was made from.
        test: The test split.
        task: One of `tfkd.model.task.TASKS`.

    Warns:
        UserWarning: if the file does not reach its threshold, or its layers can't be compared.
    """
    # Into a loop or a step no comparison of layers can look.
    if name == "student_int8" and not file.states and "WHILE" not in file.ops:
        try:
            return verify(file, model, test.x, test.y, layers=True, task=task)
        except TfkdError as error:  # the files are there, and their scores are to come
            warnings.warn(f"The layers of {name} were not compared: {error}", stacklevel=2)
    return verify(file, model, test.x, test.y, task=task)


def predictions(
    name: str, file: TFLiteModel, model: Any, teacher: Any, data: Data, task: str
) -> Predictions | None:
    """Compare what a file answers on the test split with its teacher.

    Args:
        name: Of the file in the report.
        file: The file.
        model: The model that it was made from.
        teacher: A Keras model.
        data: Split three ways.
        task: One of `tfkd.model.task.TASKS`.

    Returns:
        What `judge` returns.
    """
    x, y = data.test.x, data.test.y
    return judge(
        name,
        file.predict(x),
        "teacher",
        teacher.predict(x, verbose=0),
        y,
        task=task,
        activation=output_activations(model)[0],
        against_activation=output_activations(teacher)[0],
        class_names=data.class_names,
        x=x,
    )


def call_of(recipe: Training) -> str:
    """Return the call of `compress` in Python, with what of its recipe is not the default."""
    changed = [
        f"{key.name}={'...' if callable(value) else repr(value)}"
        for key in dataclasses.fields(recipe)
        if (value := getattr(recipe, key.name)) != key.default
    ]
    given = f", recipe=tfkd.Recipe({', '.join(changed)})" if changed else ""
    return f"tfkd.compress(teacher, data, student=student, out=folder{given})"
