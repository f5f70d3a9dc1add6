"""The criteria of `spiral`: costs and scores of a student beside those of the original."""

from __future__ import annotations

import weakref

from tfkd.data import representative
from tfkd.model import cost
from tfkd.output_kind import output_activations
from tfkd.pruning.iterative.result import Measured


class Evaluator:
    """Measures students against the original, by the task of the training part."""

    def __init__(self, model, data, format, latency: bool, task: str):
        self.data, self.format, self.task = data, format, task
        self._files = weakref.WeakKeyDictionary()  # of models: each is converted once
        self.file = self._file(model)
        outputs = self._outputs(model, data.validation)
        self.metric = next(name for name in ("accuracy", "auc", "rmse") if name in outputs)
        self.original = self.measure(model, latency=latency)

    def measure(self, model, latency: bool, test: bool = False) -> Measured:
        """Return the costs and scores of a model, which must not be trained any more."""
        measured = cost.measure(model)
        file = self._file(model)
        ratio, level = self._time(file) if latency and file is not None else (None, None)
        return Measured(
            parameters=measured.parameters,
            macs=measured.macs,
            bytes=None if file is None else file.size,
            latency=ratio,
            latency_us=level,
            validation=self.score(model, "validation"),
            test=self.score(model, "test") if test else None,
        )

    def score(self, model, part: str) -> float:
        """Return the score on a part of the data."""
        return float(self._outputs(model, getattr(self.data, part))[self.metric])

    def floor(self, max_drop: float | None) -> float | None:
        """Return the worst score that is allowed."""
        if max_drop is None:
            return None
        base = self.original.validation
        return base * (1 + max_drop) if self.metric == "rmse" else base - max_drop

    def holds(self, score: float, floor: float | None) -> bool:
        """Tell whether a score is not below the floor."""
        return floor is None or (score <= floor if self.metric == "rmse" else score >= floor)

    def better(self, model, other) -> bool:
        """Tell whether a model's validation score is at least as good as another's."""
        return self.holds(self.score(model, "validation"), self.score(other, "validation"))

    def unmet(self, measured: Measured, wanted: dict[str, float]) -> list[str]:
        """Return the costs that are above their targets."""
        value = {name: getattr(measured, name) for name in wanted}
        if "latency" in wanted and wanted["latency"] >= 1:
            value["latency"] = measured.latency_us
        return [name for name in wanted if value[name] > wanted[name]]

    def _outputs(self, model, samples):
        from tfkd.model import metrics

        activation = output_activations(model)[0]
        outputs, y = samples.answered(model.predict_on_batch)
        return metrics.score(outputs, y, task=self.task, activation=activation)

    def _file(self, model):
        if self.format is None:
            return None
        if model not in self._files:
            from tfkd.export import to_tflite

            examples = representative(self.data.train) if self.format == "int8" else None
            self._files[model] = to_tflite(model, self.format, examples)
        return self._files[model]

    def _time(self, file) -> tuple[float, float]:
        """Return a file's time relative to the original's, measured in one run, and in µs."""
        from tfkd.export import benchmark

        x = self.data.validation.head(32).x
        if file is self.file:
            return 1.0, benchmark({"original": file}, x)["original"].median
        found = benchmark({"original": self.file, "now": file}, x, baseline="original")
        return found.ratios[0].ratio, found["now"].median
