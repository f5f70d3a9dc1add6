"""What `compress` writes beside the models: files, their verification, times and the verdict."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from typing import Any

from tfkd.compression.finishing import Finished, Finisher, drop_of, origin
from tfkd.compression.rehearsal import main_format, micro_file
from tfkd.compression.trainer import copy_of
from tfkd.data import Data, Part, representative
from tfkd.errors import TfkdError
from tfkd.export.conversion.to_tflite import to_tflite
from tfkd.export.latency import benchmark
from tfkd.export.micro import evaluation
from tfkd.export.micro.bundle import micro_bundle
from tfkd.export.report.report import ModelEntry, Report
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import score, verify
from tfkd.model import backends, cost
from tfkd.model import task as tasks
from tfkd.output_kind import output_activations
from tfkd.tables import Printed

_STAGES = {
    "teacher": "teacher",
    "baseline": "baseline",
    "student": "student",
    "student_qat": "qat",
}


@dataclasses.dataclass(frozen=True)
class Verdict(Printed):
    """What of a target and a board a file meets.

    Attributes:
        file: Name of the file.
        drop: How much worse it is than the teacher on the test part: in accuracy, or as a part
            of the RMSE.
        allowed: What `drop` may be; `None` where nothing was asked for.
        problems: A line for each limit that is exceeded.
        asked: Whether there was a target or a board.
    """

    file: str
    drop: float
    allowed: float | None
    problems: tuple[str, ...]
    asked: bool

    @property
    def reached(self) -> bool | None:
        """Whether all is met; `None` where nothing was asked for."""
        return not self.problems if self.asked else None

    def describe(self) -> str:
        """Say it in a line or a few."""
        change = f"{self.file}: {-self.drop:+.4f} beside the teacher on the test part"
        if not self.asked:
            return f"{change}; no target was given"
        if self.reached:
            return f"The target is met. {change}"
        return "\n".join(["The target is NOT met:", *self.problems, change])

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {**dataclasses.asdict(self), "problems": list(self.problems), "met": self.reached}


def written(
    finisher: Finisher, finished: Finished, folder: pathlib.Path
) -> tuple[Report, Verdict, dict[str, TFLiteModel]]:
    """Write the models and files of a student; return the report, the verdict and the files."""
    data, recipe, task = (
        finisher.trainer.data,
        finisher.recipe,
        finisher.trainer.task(finished.models["student"]),
    )
    files, models = dict(finished.files), dict(finished.models)
    if backends.flavour(finisher.teacher) is not None:
        models = {"teacher": finisher.teacher, **models}
        try:
            files = {"teacher_float32": to_tflite(finisher.teacher, "float32"), **files}
        except TfkdError as error:
            warnings.warn(f"There is no file of the teacher: {error}", stacklevel=4)
    costs = {name: cost.measure(model) for name, model in models.items()}
    if "student_qat" in costs:
        costs["student_qat"] = costs["student"]  # its further weights are ranges
    entries = [
        _model_entry(name, model, costs[name], data.test, folder, task)
        for name, model in models.items()
    ]
    if "teacher" not in models:
        entries.insert(0, _answers_entry(finisher, finished, data.test))
    timings = benchmark.benchmark(
        files,
        data.test.head(256).x,
        threads=recipe.threads,
        seed=recipe.seed,
        baseline=next(iter(files)),
        progress=finisher.progress,
    )
    int8 = files.get("student_int8")
    bundled = int8 and _micro_bundle(int8, models["student_qat"], data, folder)
    entries += _file_entries(files, timings, models, costs, finisher, folder, bundled, task)
    report = Report(
        task=tasks.reported(task),
        data={
            "name": data.name,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        },
        models=tuple(entries),
        training={"teacher": {}, **_curves(finisher)},
        benchmark=timings,
        teaching=finished.worth.to_json(),
    )
    main = f"student_{main_format(recipe)}"
    verdict = _verdict(finisher, finished, main, timings[main].median)
    return (
        dataclasses.replace(report, verdict=verdict.to_json()),
        verdict,
        {name.removeprefix("student_"): file for name, file in finished.files.items()},
    )


def _curves(finisher: Finisher) -> dict[str, dict[str, list[float]]]:
    """Return the training curves of the students that are reported."""
    return {
        name: finisher.trainer.histories[name]
        for name in _STAGES
        if name in finisher.trainer.histories
    }


def _verdict(finisher: Finisher, finished: Finished, main: str, latency: float) -> Verdict:
    """Return what the main file meets, scored on the test part, which chose nothing."""
    test, goal = finisher.trainer.data.test, finisher.goal
    [score_of_file] = finished.scorer.score(test, None, finished.files[main], "test")
    [of_teacher] = finished.scorer.score(test, None, "teacher", "test")
    drop = drop_of(score_of_file, of_teacher)
    problems = goal.unmet(dataclasses.replace(finished.costs, latency=latency))
    if goal.drop is not None and drop > goal.drop:
        problems.append(f"drop: {drop:.4f} on the test part, and the target is {goal.drop:g}")
    asked = bool(goal.limits) or goal.drop is not None or goal.board is not None
    return Verdict(f"{main}.tflite", drop, goal.drop, tuple(problems), asked)


def _micro_bundle(
    file: TFLiteModel, model: Any, data: Data, folder: pathlib.Path
) -> dict[str, Any] | None:
    """Write the C++ of the int8 file, where TFLM is installed; return the report's entry."""
    if not evaluation.is_installed():
        return None
    try:
        small = micro_file(file, model, representative(data.train))
        bundle = micro_bundle(small, folder / "student_int8_micro", "student_int8", x=data)
    except TfkdError as error:
        return {"supported": False, "reason": str(error)}
    return {
        "supported": True,
        "arena_bytes": bundle.proof.arena_bytes,
        "arena_basis": bundle.proof.basis,
        "metrics": bundle.proof.metrics,
    }


def _file_entries(
    files, timings, models, costs, finisher, folder, bundled, task
) -> list[ModelEntry]:
    """Write and verify the files."""
    entries, test = [], finisher.trainer.data.test
    for done, (name, file) in enumerate(files.items()):
        finisher.progress("verify", done, len(files))
        measured = costs[origin(name)]
        entries.append(
            ModelEntry.of_file(
                name,
                name.split("_")[1],
                file,
                verify(file, models[origin(name)], test, task=task),
                timings[name],
                path=file.save(folder / f"{name}.tflite").name,
                parameters=measured.parameters,
                macs=measured.macs,
                micro=bundled if name == "student_int8" else None,
            )
        )
    finisher.progress("verify", len(files), len(files))
    return entries


def _model_entry(name, model, measured, test: Part, folder, task) -> ModelEntry:
    """Score a model; the teacher and the student are saved."""
    path = folder / f"{name}.keras" if name in ("teacher", "student") else None
    if path is not None:
        # A copy: without the optimizer's state, which is no part of the model.
        (copy_of(model) if name == "student" else model).save(path)
    return ModelEntry(
        name=name,
        stage=_STAGES[name],
        format=backends.flavour(model),
        path=None if path is None else path.name,
        bytes=None if path is None else path.stat().st_size,
        weight_bytes=measured.float32_bytes,
        parameters=measured.parameters,
        macs=measured.macs,
        metrics=score(
            *test.answered(model.predict_on_batch),
            task=task,
            activation=output_activations(model)[0],
        ),
        metrics_engine="keras",
    )


def _answers_entry(finisher: Finisher, finished: Finished, test: Part) -> ModelEntry:
    """Return the entry of a teacher that is no Keras model: its score is all that is known."""
    [found] = finished.scorer.score(test, None, "teacher", "test")
    several = isinstance(finisher.teacher, (list, tuple))
    return ModelEntry(
        name="teacher",
        stage="teacher",
        format="several" if several else type(finisher.teacher).__name__,
        metrics={found.metric: found.value},
    )
