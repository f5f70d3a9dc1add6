"""Representative data."""

import numpy as np

from tfkd import graph
from tfkd.errors import InputError


def representative_samples(model, data, *, limit=500):
    """TODO: being written."""
    tensors = graph.walk(model).input_list
    if isinstance(data, dict):
        data = [data[tensor.name] for tensor in tensors]
    elif not isinstance(data, (list, tuple)):
        data = [data]
    if len(data) != len(tensors):
        raise InputError(f"The model has {len(tensors)} inputs, got data for {len(data)}.")
    arrays = []
    for tensor, values in zip(tensors, data, strict=True):
        values = np.asarray(values, dtype=tensor.dtype)
        fits = values.ndim == len(tensor.shape) and all(
            want in (None, got)
            for want, got in zip(tensor.shape[1:], values.shape[1:], strict=True)
        )
        if not fits:
            raise InputError(
                f"representative_data for input {tensor.name!r} must have the shape "
                f"{tensor.shape}, got {values.shape}."
            )
        if len(values) == 0:
            raise InputError("representative_data is empty; give 100 to 500 examples.")
        if not np.isfinite(values.astype("float64")).all():
            raise InputError("representative_data holds NaN or infinite values.")
        arrays.append(values)
    return arrays


