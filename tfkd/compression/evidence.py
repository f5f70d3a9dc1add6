"""The files that `compress` writes with the models: their verification, times and the verdict."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

from tfkd.compression.choice import Drop
from tfkd.compression.finished import Finished, is_saved
from tfkd.compression.finishing import Finisher, origin
from tfkd.compression.outputs import Output, activations_of, answering, renamed, value_of
from tfkd.compression.rehearsal import file_of, main_format
from tfkd.data import Data, Part, Samples
from tfkd.distillation.worth import complaint
from tfkd.errors import TfkdError
from tfkd.export.latency import benchmark
from tfkd.export.micro import evaluation
from tfkd.export.micro.bundle import micro_bundle
from tfkd.export.report.entries import ModelEntry
from tfkd.export.report.predictions import Predictions, judge
from tfkd.export.report.report import Report
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import Verification, score, verify
from tfkd.model import backends, cost
from tfkd.model import task as tasks
from tfkd.quantization import export_form
from tfkd.tables import Printed
from tfkd.translation.copies import copy_of

#: The folder of the C++ bundle.
MICRO = "student_int8_micro"
_STAGES = {
    "teacher": "teacher",
    "baseline": "baseline",
    "student": "student",
    "student_qat": "qat",
}


@dataclasses.dataclass(frozen=True)
class Verdict(Printed):
    """Which requirements of a target and a board a file meets.

    Attributes:
        file: Name of the file.
        drop: How much worse it is than the teacher on the test part: in accuracy, or as a fraction
            of the RMSE; for several outputs, the worst drop.
        metric: `"accuracy"` or `"rmse"`.
        allowed: The largest allowed `drop`; `None` if there is no limit.
        problems: A line for each limit that is exceeded.
        asked: Whether there was a target, or a board that a file has to fit.
        output: Name of the output with this `drop`; `None` if there is only one output.
        drops: The drop of each output by name; `None` likewise.
    """

    file: str
    drop: float
    metric: str
    allowed: float | None
    problems: tuple[str, ...]
    asked: bool
    output: str | None = None
    drops: dict[str, float] | None = None

    @property
    def reached(self) -> bool | None:
        """Whether everything is met; `None` if there is no target and no board to fit."""
        return not self.problems if self.asked else None

    def describe(self) -> str:
        """Return the verdict in one or a few lines."""
        words = Drop(self.output, self.drop, self.metric, {}).describe()
        change = f"{self.file}: {words} on the test part"
        if not self.asked:
            return f"{change}; no target was given"
        if self.reached:
            return f"The target is met. {change}"
        return "\n".join(["The target is NOT met:", *self.problems, change])

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        plain = {**dataclasses.asdict(self), "problems": list(self.problems), "met": self.reached}
        if self.output is None:
            del plain["output"], plain["drops"]
        return plain


def written(
    finisher: Finisher, finished: Finished, folder: pathlib.Path
) -> tuple[Report, Verdict, dict[str, TFLiteModel]]:
    """Write the models and files of a student; return the report, the verdict and the files."""
    data, recipe = finisher.trainer.data, finisher.recipe
    outputs = finisher.trainer.outputs(finished.models["student"])
    files, models = dict(finished.files), dict(finished.models)
    if finisher.teacher_model is not None:
        models = {"teacher": finisher.teacher, **models}
    if finisher.teacher_file is not None:
        files = {"teacher_float32": finisher.teacher_file, **files}
    costs = {name: cost.measure(model) for name, model in models.items()}
    if "student_qat" in costs:
        costs["student_qat"] = costs["student"]  # its other weights are ranges
    started = {"student_qat": "student" if finished.worth.helps else "baseline"}
    entries = [
        _model_entry(name, model, costs[name], data.test, folder, outputs, started.get(name))
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
    entries += _file_entries(files, timings, models, costs, finisher, folder, outputs)
    report = Report(
        task=_of_all({output.name: tasks.reported(output.task) for output in outputs}),
        data={
            "name": data.name,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            "class_names": (
                {name: list(names) for name, names in data.class_names.items()}
                if isinstance(data.class_names, Mapping)
                else list(data.class_names)
            ),
        },
        models=tuple(entries),
        training={"teacher": {}, **finished.histories},
        benchmark=timings,
        teaching=finished.worth.to_json(),
        rounding=finished.rounding and finished.rounding.to_json(),
        board=finisher.goal.board,
    )
    main = f"student_{main_format(recipe)}"
    if "teacher" in models:
        model = models[origin(main)]
        found = predictions(main, files[main], model, finisher.teacher, data, outputs)
        report = dataclasses.replace(report, predictions=found)
    verified = next(entry.parity["passed"] for entry in entries if entry.name == main)
    verdict = _verdict(finisher, finished, main, timings[main].median, verified)
    return (
        dataclasses.replace(report, verdict=verdict.to_json()),
        verdict,
        {name.removeprefix("student_"): file for name, file in finished.files.items()},
    )


def checked(name: str, file: TFLiteModel, model: Any, test: Part, task: Any) -> Verification:
    """Verify a file, an int8 one with the error of each layer.

    Args:
        name: Name of the file in the report.
        file: The file.
        model: The model that it was made from.
        test: The test split.
        task: One of `tfkd.model.task.TASKS`; for several outputs, a dict by name.

    Warns:
        UserWarning: if the file does not reach its threshold, or its layers can't be compared.
    """
    # Layers inside a loop or a step can't be compared.
    if name == "student_int8" and not file.states and "WHILE" not in file.ops:
        try:
            return verify(file, model, test, layers=True, task=task)
        except TfkdError as error:  # the files exist, and their scores follow
            warnings.warn(f"The layers of {name} were not compared: {error}", stacklevel=2)
    return verify(file, model, test, task=task)


def predictions(
    name: str,
    file: TFLiteModel,
    model: Any,
    teacher: Any,
    data: Data,
    outputs: tuple[Output, ...],
) -> Predictions | dict[str, Predictions] | None:
    """Compare a file's answers on the test split with its teacher's.

    Args:
        name: Name of the file in the report.
        file: The file.
        model: The model that it was made from.
        teacher: A Keras model.
        data: Split three ways.
        outputs: The outputs of the model.

    Returns:
        The result of `judge`; for several outputs, a dict by name.
    """
    answers, y = data.test.answered(answering(file, data.outputs))
    against = data.test.answered(answering(teacher, data.outputs))[0]
    activations, of_teacher = (activations_of(one, data.outputs) for one in (model, teacher))
    names = data.class_names if data.outputs else {None: data.class_names}
    found = {
        output.name: judge(
            name,
            value_of(answers, output.name),
            "teacher",
            value_of(against, output.name),
            value_of(y, output.name),
            task=output.task,
            activation=activations[output.name],
            against_activation=of_teacher[output.name],
            class_names=dict(names).get(output.name, ()),
            x=data.test.x if isinstance(data.test, Samples) else None,
        )
        for output in outputs
    }
    if data.outputs:
        return {output: one for output, one in found.items() if one is not None} or None
    return found[None]


def _of_all(by_output: dict[str | None, Any]) -> Any:
    """Return the value of a single output, or a dict by name for several."""
    return by_output[None] if list(by_output) == [None] else by_output


def _verdict(
    finisher: Finisher, finished: Finished, main: str, latency: float, verified: bool
) -> Verdict:
    """Return the verdict on the main file, scored on the test part, which chose nothing."""
    test, goal = finisher.trainer.data.test, finisher.goal
    scores = finisher.scores(finished.scorer, test, finished.files[main], "test")
    of_teacher = finisher.scores(finished.scorer, test, "teacher", "test")
    drop = Drop.of(scores, of_teacher)
    problems = goal.unmet(dataclasses.replace(finished.costs, latency=latency))
    for output, value in drop.each.items():
        named = "drop" if output is None else f"drop of {output!r}"
        if not goal.allows(value):
            problems.append(
                f"{named}: {value:.4g} on the test part, and the target is {goal.drop:g}"
            )
        if goal.drop is not None and (wrong := complaint(of_teacher[output], "test")):
            problems.append(f"{named}: {wrong}")  # every student would meet it
        elif scores[output].beats_chance is False:
            problems.append(f"{named}: {scores[output]} on the test part, no better than chance")
    if not verified:
        problems.append("verification failed: the file does not compute what its model computes")
    several = None if drop.output is None else dict(drop.each)
    return Verdict(
        f"{main}.tflite", drop.value, drop.metric, goal.drop, tuple(problems), goal.is_asked,
        drop.output, several,
    )  # fmt: skip


def _micro_bundle(
    file: TFLiteModel,
    parity: Verification,
    finisher: Finisher,
    model: Any,
    folder: pathlib.Path,
    task: Any,
) -> dict[str, Any] | None:
    """Write the C++ of the int8 file if TFLM is installed; return the report's entry.

    If the file was not made for a microcontroller, make one with recurrent layers in its form.
    """
    if not evaluation.is_installed():
        return None
    data = finisher.trainer.data
    try:
        if not finisher.goal.needs_arena and export_form.needs_calibration(model):
            file = file_of(model, "int8", finisher.examples, micro=True)
            parity = verify(file, model, data.test, task=task)
        notice = parity.failure
        bundle = micro_bundle(file, folder / MICRO, "student_int8", x=data, notice=notice)
    except TfkdError as error:
        return {"supported": False, "reason": str(error)}
    return {
        "supported": True,
        "arena_bytes": bundle.proof.arena_bytes,
        "margin_bytes": bundle.proof.margin_bytes,
        "arena_basis": bundle.proof.basis,
        "metrics": renamed(bundle.proof.metrics, file, data.outputs),
    }


def _file_entries(files, timings, models, costs, finisher, folder, outputs) -> list[ModelEntry]:
    """Write and verify the files."""
    entries, test = [], finisher.trainer.data.test
    task = _of_all({output.name: output.task for output in outputs})
    for done, (name, file) in enumerate(files.items()):
        finisher.progress("verify", done, len(files))
        measured, model, bundled = costs[origin(name)], models[origin(name)], None
        parity = checked(name, file, model, test, task)
        if name == "student_int8":
            bundled = _micro_bundle(file, parity, finisher, model, folder, task)
        entry = ModelEntry.of_file(
            name,
            name.split("_")[1],
            file,
            parity,
            timings[name],
            path=file.save(folder / f"{name}.tflite").name,
            parameters=measured.parameters,
            macs=measured.macs,
            micro=bundled,
            made_from=origin(name),
        )
        metrics = renamed(entry.metrics, file, test.outputs)
        entries.append(dataclasses.replace(entry, metrics=metrics))
    finisher.progress("verify", len(files), len(files))
    return entries


def _model_entry(
    name, model, measured, test: Part, folder, outputs, made_from: str | None
) -> ModelEntry:
    """Score a model, and save it if it is the teacher or the student."""
    path = folder / f"{name}.keras" if name in ("teacher", "student") else None
    # A copy, without the optimizer's state, which is not part of the model.
    if path is not None and not is_saved(copy_of(model) if name == "student" else model, path):
        path = None
    return ModelEntry(
        name=name,
        stage=_STAGES[name],
        format=backends.flavour(model),
        path=None if path is None else path.name,
        bytes=None if path is None else path.stat().st_size,
        weight_bytes=measured.float32_bytes,
        parameters=measured.parameters,
        macs=measured.macs,
        architecture=measured.layers,
        made_from=made_from,
        metrics=_metrics(model, test, outputs),
        metrics_engine="keras",
    )


def _metrics(model, test: Part, outputs: tuple[Output, ...]) -> dict[str, float]:
    """Return the metrics of a model; for several outputs as `"name.accuracy"`."""
    answers, labels = test.answered(answering(model, test.outputs))
    activations = activations_of(model, test.outputs)
    return {
        metric if output.name is None else f"{output.name}.{metric}": value
        for output in outputs
        for metric, value in score(
            value_of(answers, output.name),
            value_of(labels, output.name),
            task=output.task,
            activation=activations[output.name],
        ).items()
    }


def _answers_entry(finisher: Finisher, finished: Finished, test: Part) -> ModelEntry:
    """Return the entry of a teacher without a `teacher_model`: only its score is known."""
    found = finisher.scores(finished.scorer, test, "teacher", "test")
    several = isinstance(finisher.teacher, (list, tuple))
    return ModelEntry(
        name="teacher",
        stage="teacher",
        format="several" if several else type(finisher.teacher).__name__,
        metrics={
            one.metric if name is None else f"{name}.{one.metric}": one.value
            for name, one in found.items()
        },
    )
