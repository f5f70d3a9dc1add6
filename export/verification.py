"""`verify`: does the file compute what the model did, and how well does it do the job?"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.errors import InputError

from .artifact import ENGINES, TFLiteModel

# The least argmax agreement that passes, by what was done to the numbers.
_LEAST_AGREEMENT = {"float": 0.995, "int8": 0.98}
# The largest mean difference that passes, as a share of how much the outputs vary from
# example to example: a model that says the same of everything agrees with any file.
_LARGEST_DIFFERENCE = {"classification": 0.2, "regression": 0.05}


@dataclasses.dataclass(frozen=True)
class Verification:
    """What comparing a file with its model showed.

    Attributes:
        engine: Kernels that ran the file.
        samples: How many examples were compared.
        argmax_agreement: Fraction on which both pick the same class; `None` for regression.
        max_abs_diff: Largest difference of an output, in the output's unit.
        mean_abs_diff: Mean of the same.
        max_lsb: Largest difference in steps of the output's scale; `None` for float outputs.
        metrics: `{"accuracy": ...}` or `{"mae": ..., "rmse": ...}` of the file; empty
            without labels.
        model_metrics: The same of the model.
        passed: Whether the agreement reaches the threshold and the mean difference is small
            against how much the outputs vary (a fifth for classes, a twentieth for values).
        threshold: The least agreement that passes; `None` for regression.
    """

    engine: str
    samples: int
    argmax_agreement: float | None
    max_abs_diff: float
    mean_abs_diff: float
    max_lsb: float | None
    metrics: dict[str, float]
    model_metrics: dict[str, float]
    passed: bool
    threshold: float | None


def verify(
    file, model, x, y=None, engine: str = "xnnpack", threshold: float | None = None
) -> Verification:
    """Compare a `.tflite` file with the Keras model it was made from.

    Both run on the same examples; a file that keeps state is reset before each.

    Args:
        file: A `TFLiteModel` or the path of a `.tflite` file.
        model: The Keras 3 or tf_keras model; for a file from `quantize_aware`, that model.
        x: Array of shape (examples, ...); real data, the test split.
        y: Labels: class numbers or one-hot rows for classification, values for regression.
        engine: `"xnnpack"` (Android, desktop) or `"reference"` (what microcontroller
            kernels follow). They differ by rounding.
        threshold: Least argmax agreement that passes. Defaults to 0.995 for float files,
            0.98 for integer ones.

    Returns:
        A `Verification`.

    Raises:
        InputError: for an unknown engine, empty data, or outputs that don't match.
        WorkerError: if the interpreter dies on the file.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {ENGINES}, got {engine!r}.")
    if not isinstance(file, TFLiteModel):
        file = TFLiteModel.load(file)
    got = file.predict(x, engine=engine)
    want = model.predict(x, verbose=0)
    if isinstance(got, list) or isinstance(want, (list, dict)):
        raise InputError("verify compares models with one output.")
    if got.shape != want.shape:
        raise InputError(
            f"The file gives outputs of shape {got.shape}, the model {want.shape}; "
            "it was not made from this model."
        )
    difference = np.abs(got.astype("float64") - want)
    classes = want.shape[-1] > 1 and (y is None or _is_classification(y))
    if classes:
        agreement = float(np.mean(got.argmax(-1) == want.argmax(-1)))
        kind = "int8" if file.outputs[0].scale is not None else "float"
        threshold = _LEAST_AGREEMENT[kind] if threshold is None else threshold
    else:
        agreement = threshold = None
    # Outputs that never vary can't be told from rounding: then only equality passes.
    limit = _LARGEST_DIFFERENCE["classification" if classes else "regression"]
    close = difference.mean() <= limit * want.std(axis=0).mean() + 1e-6
    scale = file.outputs[0].scale
    return Verification(
        engine=engine,
        samples=len(got),
        argmax_agreement=agreement,
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        max_lsb=None if scale is None else float(difference.max() / scale),
        metrics={} if y is None else score(got, y),
        model_metrics={} if y is None else score(want, y),
        passed=bool(close and (not classes or agreement >= threshold)),
        threshold=threshold,
    )


def score(outputs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score outputs against labels.

    Args:
        outputs: Array (examples, classes) for class labels, (examples, ...) for values.
        y: Class numbers (examples,), one-hot rows, or values.

    Returns:
        `{"accuracy": ...}` for class labels, otherwise `{"mae": ..., "rmse": ...}`.
    """
    y = np.asarray(y)
    if len(y) != len(outputs):
        raise InputError(f"There are {len(outputs)} outputs but {len(y)} labels.")
    if outputs.shape[-1] > 1 and _is_classification(y):
        labels = y if y.ndim == outputs.ndim - 1 else y.argmax(-1)
        return {"accuracy": float(np.mean(outputs.argmax(-1) == labels))}
    error = outputs.reshape(len(y), -1) - y.reshape(len(y), -1)
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}


def _is_classification(y) -> bool:
    y = np.asarray(y)
    if np.issubdtype(y.dtype, np.integer):
        return True
    return y.ndim > 1 and bool(np.isin(y, (0, 1)).all() and (y.sum(-1) == 1).all())
