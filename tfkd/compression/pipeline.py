"""`compress`: the whole pipeline, from a trained teacher to verified files and their report.

checks ─► student (and the same one without teacher) ─► QAT under the teacher ─► files ─► report
   └─► none given: candidates, trained for a while under the teacher; the smallest that will do
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from tfkd.compression import evidence, rehearsal, search
from tfkd.compression.budget import Budget
from tfkd.compression.finishing import LOSSES, Finisher
from tfkd.compression.front import front_of
from tfkd.compression.recipe import FORMATS, Call, Recipe
from tfkd.compression.settings import Target
from tfkd.compression.stages import FOLDER, Stages
from tfkd.compression.trainer import Progress, Trainer
from tfkd.data import as_data
from tfkd.errors import InputError, TfkdError, UnsupportedError, argument
from tfkd.export.micro import boards
from tfkd.export.report.report import Report, write_report
from tfkd.export.tflite.model import TFLiteModel
from tfkd.files import staged_folder
from tfkd.loading import models as loading
from tfkd.model import backends, cost, graph
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, AnyTeacher, PathLike
    from tfkd.data.door import AnyData

__all__ = ["Recipe", "Result", "compress", "fit_teacher"]


@dataclasses.dataclass(frozen=True, repr=False)
class Result(Printed):
    """The result of `compress`.

    Attributes:
        student: The distilled student.
        qat: The student after quantization-aware training, a tf_keras model; `None` if no int8 file
            was requested.
        files: Format → `TFLiteModel`.
        report: The measurements; written to `folder` as JSON and as a page.
        folder: Where everything was written.
        verdict: Which requirements of the target and the board the file meets.
    """

    student: Any
    qat: Any
    files: dict[str, TFLiteModel]
    report: Report
    folder: pathlib.Path
    verdict: evidence.Verdict

    @property
    def reached(self) -> bool | None:
        """Whether the file meets target and board; `None` where neither sets a limit."""
        return self.verdict.reached

    def describe(self) -> str:
        """Return the verdict, the report's table as text, and where the files are."""
        where = f"Files and report.html are in {self.folder}"
        return f"{self.verdict.describe()}\n{self.report.describe()}\n{where}"

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return self.report.to_json()

    __repr__ = Printed.__str__  # the fields would print pages of numbers


def compress(
    teacher: AnyTeacher,
    data: AnyData,
    *,
    out: PathLike,
    target: Target | Mapping[str, float | str] | None = None,
    board: str | boards.Board | None = None,
    student: AnyModel | PathLike | None = None,
    budget: float | str | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    teacher_history: dict[str, list[float]] | None = None,
    force: bool = False,
    task: str | Mapping[str, str] | None = None,
    teacher_from_logits: bool | None = None,
    command: str | None = None,
) -> Result:
    """Make the smallest model that does a teacher's job, with the evidence beside its files.

    Checks everything on untrained copies first. Without a student it trains candidates for a
    while under the teacher (parts of the teacher, and small nets for its kind of input) and
    continues with the smallest that is good enough. Trains the student under the teacher and, for
    comparison, from the same weights without it. If an int8 file is wanted, quantization-aware
    training under the teacher follows. Then exports the files, verifies each on the test part, and
    times them.

    Args:
        teacher: A trained model of either Keras, a list of them, a path, or whatever else
            `Distiller` takes.
        data: A `Data`, or what `as_data` takes: `(x, y)`, a path. Labels are class numbers, one-hot
            or soft rows, rows of 0 and 1 (several labels an example), or values; for a model with
            several outputs, a dict of them by the outputs' names.
        out: The folder to make, with `teacher.keras`, `student.keras`, `recipe.yaml`,
            `student_FORMAT.tflite`, `teacher_float32.tflite`, `report.json` and `report.html`,
            and, where tflite-micro is installed (extra `micro`), `student_int8_micro` with C++
            sources. Its subfolder `stages` keeps finished work: a run that was interrupted, or is
            called again with another option, computes only what is missing.
        target: The requirements for the file: a `Target` or a dict with some of its attributes.
            Numbers below 1 are fractions of the teacher's values.
        board: A name in `tfkd.export.micro.boards.BOARDS`, or a `Board`: the int8 file has to fit
            its flash, and the arena its RAM. A phone or a Linux board sets no limit.
        student: A float model of either Keras or the path of one, untrained or trained; it is not
            changed. `None` searches for a student.
        budget: Seconds for everything, or text such as `"20min"`. The search takes at most half,
            and epochs are dropped if the remaining time would not suffice.
        recipe: How to train. Defaults to `Recipe()`.
        progress: Called as `progress(stage, done, total)` while it works.
        teacher_history: Training curves of the teacher, for the report.
        force: Whether `out` may hold other files. Files of the same name are replaced.
        task: `"categorical"`, `"binary"`, `"multilabel"` or `"regression"`. Needed where it does
            not follow from the student's output and the labels (see `tfkd.model.task.task_of`); for
            several outputs, a dict by name.
        teacher_from_logits: Whether the teacher's answers are logits. Needed where its graph does
            not show it, and for every function.
        command: The command that repeats this run, for the report. Defaults to the call of
            `compress`.

    Returns:
        A `Result`; print it for the verdict and the table.

    Raises:
        TfkdError: for a model, data or recipe that a step can't take, and for a target that the
            student can't meet with any weights; raised before anything is trained.
    """
    recipe = Recipe() if recipe is None else recipe
    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe must be a tfkd.Recipe, got {recipe!r}.")
    call = Call(recipe, Target.of(target), board, budget, task, teacher_from_logits)
    call.to_yaml()  # what YAML can't hold is known before training
    clock = Budget.of(budget)
    data = as_data(data)
    folder = _claimed(out, force)
    ran_before = (folder / FOLDER).is_dir()
    teacher, student = _loaded(teacher, "teacher"), _loaded(student, "student")
    known = backends.flavour(teacher) is not None
    if not data.outputs and graph.has_graph(teacher):
        count = len(graph.walk(teacher).output_list)
        if count > 1:
            raise InputError(
                f"The teacher {teacher.name!r} has {count} outputs, but the labels are one array: "
                "give a dict of labels by output, or a teacher with only one output."
            )
    costs = _costs_of(teacher, searched=student is None) if known else None
    goal = rehearsal.goal_of(call.target, board, costs)
    keras.utils.set_random_seed(recipe.seed)
    trainer = Trainer(data, recipe, progress=progress, task=task)
    finisher = Finisher(trainer, teacher, goal, Stages(folder / FOLDER), clock, teacher_from_logits)
    try:
        if student is None:
            front, finished = search.smallest(finisher)
        else:
            front, finished = None, finisher.checked(student)
        with staged_folder(folder, force=True) as staged:
            call.save(staged / "recipe.yaml")
            report, verdict, files = evidence.written(finisher, finished, staged)
            report = dataclasses.replace(
                report,
                settings={**call.to_json(), "trained_with": _trained_with(finished.recipe)},
                front=None if front is None else front_of(front),
                commands=(command or call.in_python(searched=student is None),),
            )
            if teacher_history:
                report.training["teacher"] = teacher_history
            write_report(report, staged)
            made = {one.name for one in staged.iterdir()}
        if ran_before:
            _remove_others(folder, made)
    except TfkdError as error:
        if not finisher.stages.done:
            raise
        raise _told(error, f"The finished stages are kept in {str(folder / FOLDER)!r}") from error
    models = finished.models
    return Result(
        models["student"], models.get("student_qat"), files, report, pathlib.Path(out), verdict
    )


def fit_teacher(
    model: AnyModel, data: AnyData, recipe: Recipe, progress: Progress | None = None
) -> dict[str, list[float]]:
    """Train a model on its own, as `compress` trains the student without a teacher.

    Args:
        model: A Keras 3 model; it is trained in place.
        data: As for `compress`.
        recipe: Its attributes of `Training` are used.
        progress: As for `compress`; the stage is `"teacher"`.

    Returns:
        The history: metric name → a value per epoch.
    """
    trainer = Trainer(data, recipe, progress=progress)
    trainer.fit("teacher", model)
    return trainer.histories["teacher"]


def _trained_with(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a recipe that budget, target or search may have changed."""
    plain = recipe.to_json()
    return {name: plain[name] for name in ("epochs", "qat_epochs", "bits", *LOSSES)}


def _claimed(out: PathLike, force: bool) -> pathlib.Path:
    """Return the folder of a run if it may be written.

    Raises:
        InputError: if it is a file, contains anything but an earlier run, or can't be written.
    """
    folder = pathlib.Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(out)!r} is a file; name a folder.")
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not os.access(there, os.W_OK):
        raise InputError(f"The folder {str(there)!r} can't be written.")
    others = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    if others and FOLDER not in others and not force:
        raise InputError(
            f"The folder {str(out)!r} is not empty and holds no earlier run; name another, or "
            f"give {argument('force', True)} to replace files of the same name."
        )
    return folder


def _remove_others(folder: pathlib.Path, made: set[str]) -> None:
    """Remove files of an earlier run that this run did not write: they are of another student."""
    for name in (
        "teacher.keras",
        "teacher_float32.tflite",
        *(f"student_{f}.tflite" for f in FORMATS),
    ):
        if name not in made:
            (folder / name).unlink(missing_ok=True)
    if evidence.MICRO not in made:
        shutil.rmtree(folder / evidence.MICRO, ignore_errors=True)


def _costs_of(teacher: Any, searched: bool) -> cost.ModelCost | None:
    """Return the costs of a Keras teacher; `None` if it has no graph, and can teach all the same.

    Raises:
        UnsupportedError: if it has none and students are searched, which are parts of it.
    """
    try:
        return cost.measure(teacher)
    except UnsupportedError as error:
        if not searched:
            return None
        raise UnsupportedError(
            f"The teacher {teacher.name!r} has no graph that shows which students would do: give "
            f"{argument('student')}, or build it with the Functional API, as keras.Model(inputs, "
            "model.call(inputs)) does. As a function of a batch, lambda x: model(x), it teaches "
            "small nets, too.",
            code="no-graph",
        ) from error


def _loaded(given: Any, what: str) -> Any:
    """Load a model from a path; return anything else unchanged."""
    if not isinstance(given, (str, os.PathLike)):
        return given
    path = pathlib.Path(given)
    if not path.exists():
        raise InputError(f"There is no {what} at {str(path)!r}.")
    if path.suffix == ".tflite" and what == "teacher":
        return TFLiteModel.load(path)
    if path.suffix in loading.SUFFIXES or loading.is_keras_saved_model(path):
        return loading.load_model(path, what)
    return given  # a SavedModel without layers can still teach


def _told(error: TfkdError, more: str) -> TfkdError:
    """Return an error of the same class with a sentence added."""
    text = str(error)
    text = text if text.endswith(".") else f"{text}."
    return type(error)(f"{text} {more}: a call with this folder goes on from there.")
