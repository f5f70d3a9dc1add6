"""The candidates of a benchmark: each a model in one setting, opened from the user's argument."""

from __future__ import annotations

import os
import pathlib
import tempfile

import numpy as np

from tfkd.errors import InputError, TfkdError, argument
from tfkd.export.latency import operators, statistics, timed_calls
from tfkd.export.latency.results import Latency
from tfkd.export.runtime import worker
from tfkd.export.tflite.model import TFLiteModel
from tfkd.model import backends, binding, graph


class Candidate:
    """A model in one setting: how to open it, and the figures measured so far."""

    key: int  # its key in its process

    four_bit_weights = 0

    def __init__(self, name, engine, threads, batch, model_bytes, macs, opening):
        self.name, self.engine, self.threads, self.batch = name, engine, threads, batch
        self.model_bytes, self.macs, self.opening = model_bytes, macs, opening
        self.error: TfkdError | None = None
        self.times: list[list[np.ndarray]] = []  # per process, per turn, microseconds
        self.told: list[dict] = []  # per process, of opening, warming up and closing
        self.worker: worker.Worker | None = None
        self.count = 1

    @property
    def label(self) -> str:
        """The name and the setting."""
        return f"{self.name} ({self.engine}, threads {self.threads}, batch {self.batch})"

    @property
    def turns(self) -> np.ndarray:
        """Medians, (processes, turns)."""
        return np.array([[np.median(turn) for turn in process] for process in self.times])

    def result(self, seed) -> Latency:
        """Return the figures of all processes."""
        times = np.concatenate([turn for process in self.times for turn in process])
        median, ci95 = statistics.median(self.times, seed)
        quantiles = np.percentile(times, range(101))
        p5, p90, p95, p99 = (float(quantiles[i]) for i in (5, 90, 95, 99))
        runs = [told["runs"] for told in self.told]

        def middle(key):
            return float(np.median([told[key] for told in self.told]))

        def most(key):
            values = [told[key] for told in self.told]
            return None if None in values else max(values)

        return Latency(
            name=self.name,
            engine=self.engine,
            threads=self.threads,
            batch=self.batch,
            runs=len(times),
            median=median,
            mean=float(times.mean()),
            std=float(times.std(ddof=1)) if len(times) > 1 else None,
            min=float(times.min()),
            max=float(times.max()),
            p5=p5,
            p50=median,
            p90=p90,
            p95=p95,
            p99=p99,
            ci95=ci95,
            init_us=middle("init_us"),
            first_us=middle("first_us"),
            warm_up_us=float(np.average([told["mean_us"] for told in self.told], weights=runs)),
            warm_up_runs=sum(runs),
            processes=len(self.times),
            settled=all(told["settled"] for told in self.told),
            model_bytes=self.model_bytes,
            four_bit_weights=self.four_bit_weights,
            macs=self.macs,
            init_footprint_bytes=most("init_footprint"),
            overall_footprint_bytes=most("overall_footprint"),
            peak_rss_bytes=most("peak_rss"),
            quantiles=tuple(float(value) for value in quantiles),
            round_medians=tuple(float(value) for value in self.turns.ravel()),
        )


def of_model(name, model, inputs, threads, engines, batches, seed, folder) -> list[Candidate]:
    """Return a model in every setting, its inputs checked.

    Args:
        name: What to call it.
        model: `TFLiteModel`, Keras model or path.
        inputs: The inputs of this model, as for `benchmark`.
        threads: Numbers of threads; `engines` and `batches` likewise.
        engines: Engines of LiteRT; a Keras model has its own.
        batches: Examples a call; `None` for the file's own.
        seed: Seed of random inputs.
        folder: Where to write the SavedModel of a Keras model.

    Raises:
        TfkdError: if the model can't be read, or does not fit the inputs or a batch.
    """
    if isinstance(model, (str, os.PathLike)):
        model = _read(model)
    if isinstance(model, TFLiteModel):
        macs = operators.macs(model)
        found = []
        for batch in batches:
            times = _batch_factor(model, batch)
            arrays = _arrays(model, inputs, times, seed)
            for engine in engines:
                for count in threads:
                    opening = (timed_calls.open_file, model.data, arrays, engine, count, times)
                    found.append(
                        Candidate(
                            name,
                            engine,
                            count,
                            times * _own_batch(model),
                            model.size,
                            None if macs is None else macs * times,
                            (*opening, model.keeps_state),
                        )
                    )
                    found[-1].four_bit_weights = model.four_bit_weights
        return found
    return _of_keras_model(name, model, inputs, threads, batches, seed, folder)


def _of_keras_model(name, model, inputs, threads, batches, seed, folder):
    from tfkd.export.conversion import tracing
    from tfkd.model import cost

    if backends.flavour(model) is None:
        raise InputError(
            "A model to benchmark must be a TFLiteModel, a Keras model or a path, got "
            f"{type(model)}."
        )
    measured, found = cost.measure(model), []
    for batch in batches:
        batch = 1 if batch is None else batch
        target = tempfile.mkdtemp(dir=folder)
        names, _ = tracing.save_model(model, target, batch)
        arrays = _keras_arrays(graph.walk(model), inputs, batch, seed)
        arrays = dict(zip(names, arrays, strict=True))
        found += [
            Candidate(
                name,
                "keras",
                count,
                batch,
                measured.float32_bytes,
                None if measured.macs is None else measured.macs * batch,
                (timed_calls.open_saved_model, target, arrays, count),
            )
            for count in threads
        ]
    return found


def _read(path):
    from tfkd.loading import models

    path = pathlib.Path(path)
    if path.suffix in models.SUFFIXES or path.is_dir():
        return models.load_model(path)
    return TFLiteModel.load(path)


def _own_batch(file: TFLiteModel) -> int:
    return file.inputs[0].shape[0] if file.inputs and file.inputs[0].shape else 1


def _batch_factor(file: TFLiteModel, batch: int | None) -> int:
    """Return how many times the file's own batch size goes into a batch size."""
    own = _own_batch(file)
    if batch is None or batch == own:
        return 1
    if batch % own:
        raise InputError(
            f"batch must be a multiple of the file's own, {own}, got {batch}; export it with "
            f"{argument('batch', batch, of='to_tflite')}."
        )
    if file.keeps_state or file.states:
        raise InputError(
            f"A file with a state runs with its own batch only, {own}; export it with "
            f"{argument('batch', batch, of='to_tflite')}."
        )
    return batch // own


def _arrays(file: TFLiteModel, inputs, times, seed) -> list[np.ndarray]:
    """Return the tensors of one call: real examples, or random numbers."""
    if inputs is not None:
        return file.first_call(inputs, times)
    free = [info.name for info in file.inputs if info.free]
    if free:
        raise InputError(
            f"The input {free[0]!r} has a free size: give {argument('inputs')} of the size to "
            "measure."
        )
    file._check_call(times)
    rng = np.random.default_rng(seed)
    return [
        info.quantize(rng.random((info.shape[0] * times, *info.shape[1:]), np.float32))
        if info.shape
        else info.quantize(rng.random((), np.float32))
        for info in file.inputs
    ]


def _keras_arrays(source: graph.Graph, inputs, batch, seed) -> list[np.ndarray]:
    tensors = source.input_list
    if inputs is None:
        rng = np.random.default_rng(seed)
        return [
            rng.random((batch, *tensor.shape[1:]), np.float32).astype(tensor.dtype)
            for tensor in tensors
        ]
    inputs = binding.inputs_of(source).bind(inputs, "inputs", extra=True, arrays=True)
    arrays = []
    for tensor, values in zip(tensors, inputs, strict=True):
        values = np.asarray(values)
        wanted = tuple(tensor.shape[1:])
        if values.ndim < 1 or values.shape[1:] != wanted or not len(values):
            raise InputError(
                f"Input {tensor.name!r} takes arrays of shape (examples, "
                f"{', '.join(map(str, wanted))}), got {values.shape}."
            )
        arrays.append(np.resize(values, (batch, *wanted)).astype(tensor.dtype))
    return arrays
