"""Graphs whose values have several readers: learned ranges, then an integer-only file.

`benchmarks/qat_graphs.py` runs forty.
"""

import numpy as np
import pytest
from random_graphs import graph_of, images_of
from tiny_models import predicted

from tfkd import quantize_aware
from tfkd.export import to_tflite

# Steps of an output, on the reference kernels. An average pool is not rounded in training, and a
# head's step may be a fraction of the step of what it reads.
MOST, MEAN = 4.01, 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 6])
def test_the_file_computes_what_was_trained(seed):
    x = images_of(seed)
    qat = quantize_aware(graph_of(seed))
    y = [value + 0.5 for value in predicted(qat, x)]
    qat.compile("adam", "mse")
    qat.optimizer.build(qat.trainable_variables)  # in `fit` it would be traced twice for this
    qat.fit(x, y, epochs=2, batch_size=16, verbose=0)
    file = to_tflite(qat, "int8")
    assert file.integer_only
    got = file.predict(x, engine="reference")
    for info, ours, want in zip(file.outputs, got, predicted(qat, x), strict=True):
        steps = np.abs(ours - want) / info.scale
        assert steps.max() < MOST and steps.mean() < MEAN
