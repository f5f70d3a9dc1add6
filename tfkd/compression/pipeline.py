"""`compress`: the whole pipeline, from a trained teacher to verified files and their report.

teacher ─► student (and the same one without teacher) ─► QAT under the teacher ─► files
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from tfkd.compression.settings import Training, is_whole
from tfkd.compression.trainer import Progress, Trainer, copy_of
from tfkd.data import Data, Part, as_data, representative
from tfkd.distillation.distiller import Distiller
from tfkd.distillation.worth import Worth
from tfkd.errors import InputError, TeacherWarning, TfkdError
from tfkd.export.conversion.to_tflite import to_tflite
from tfkd.export.latency import benchmark
from tfkd.export.micro import evaluation
from tfkd.export.micro.bundle import micro_bundle
from tfkd.export.report.report import ModelEntry, Report, write_report
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import score, verify
from tfkd.files import staged_folder
from tfkd.model import backends, cost
from tfkd.model import task as tasks
from tfkd.output_kind import output_activations
from tfkd.quantization import export_form, quantize_aware
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, PathLike
    from tfkd.data.door import AnyData

_FORMATS = ("float32", "float16", "dynamic", "int8")


# Of quantization-aware training, by the bits of the weights: `benchmarks/four_bits.py recipes`.
_RATES = {8: 3e-4, 4: 3e-3}


@dataclasses.dataclass(frozen=True)
class Recipe(Training):
    """How `compress` trains; every number that shapes the result.

    Beside what it adds, it has the attributes of `Training`: `epochs` (40) and `learning_rate`
    (3e-3) of the student, and of the same student without a teacher; `batch_size`, `optimizer`,
    `augment` and `seed`.

    Attributes:
        alpha: Weight of the hard loss, in [0, 1], while the float student is distilled; `None`
            for the default of `Distiller`, which quantization-aware training always takes.
        temperature: Softening of both distributions, > 0, likewise.
        qat_epochs: Epochs of quantization-aware training, the teacher still teaching.
        qat_learning_rate: Of Adam, which this stage takes whatever `optimizer` says. `None` for
            3e-4, small, since the weights are trained already; for 3e-3 where weights get 4 bits,
            whose coarse steps take more to leave.
        bits: Of the weights in the int8 file, as for `quantize_aware`: 8, 4, or a number by
            pattern of layers' names.
        formats: Which files to make out of float32, float16, dynamic and int8.
        threads: Threads of the interpreter in the benchmark.
    """

    alpha: float | None = None
    temperature: float | None = None
    _: dataclasses.KW_ONLY
    epochs: int = 40
    learning_rate: float = 3e-3
    qat_epochs: int = 15
    qat_learning_rate: float | None = None
    bits: int | Mapping[str, int] = 8
    formats: tuple[str, ...] = ("float32", "float16", "int8")
    threads: int = 1

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += self._out_of_range(("qat_epochs", "threads"), ("qat_learning_rate",))
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            problems.append(f"alpha must be from 0 to 1, got {self.alpha!r}")
        if self.temperature is not None and not self.temperature > 0:
            problems.append(f"temperature must be a number > 0, got {self.temperature!r}")
        widths = self.bits.values() if isinstance(self.bits, Mapping) else [self.bits]
        if not all(is_whole(width, 4) and width in (4, 8) for width in widths):
            problems.append(f"bits must be 4 or 8, or one of them by pattern, got {self.bits!r}")
        formats = self.formats
        if isinstance(formats, str) or not formats or not set(formats) <= set(_FORMATS):
            problems.append(f"formats must be some of {_FORMATS}, got {formats!r}")
        return problems


@dataclasses.dataclass(frozen=True, repr=False)
class Result(Printed):
    """What `compress` made.

    Attributes:
        student: The distilled student, a Keras 3 model.
        qat: The student after quantization-aware training, a tf_keras model.
        files: Format → `TFLiteModel`.
        report: What was measured; written to `folder` as JSON and as a page.
        folder: Where everything was written.
    """

    student: Any
    qat: Any
    files: dict[str, TFLiteModel]
    report: Report
    folder: pathlib.Path

    def describe(self) -> str:
        """Return the report's table as text, and where the files are."""
        return f"{self.report.describe()}\nFiles and report.html are in {self.folder}"

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return self.report.to_json()

    __repr__ = Printed.__str__  # the fields would be pages of numbers


def compress(
    teacher: AnyModel,
    data: AnyData,
    *,
    student: AnyModel,
    out: PathLike,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    teacher_history: dict[str, list[float]] | None = None,
    force: bool = False,
    task: str | None = None,
) -> Result:
    """Distil a teacher into a student and export it, with the evidence beside the files.

    Trains the student under the teacher and, for comparison, the same student from the
    same initial weights without it; goes on with quantization-aware training under the
    teacher; exports, verifies each file on the test split, and benchmarks them.

    Args:
        teacher: A trained Keras 3 model.
        data: A `Data`, or what `as_data` takes: `(x, y)`, a path. Labels are class numbers, one-hot
            or soft rows, rows of 0 and 1 (several labels an example), or values.
        student: A Keras 3 model, untrained or trained; it is not changed.
        out: The folder to make, with `teacher.keras`, `student.keras`,
            `student_FORMAT.tflite`, `teacher_float32.tflite`, `report.json` and
            `report.html`, and, where tflite-micro is installed (extra `micro`),
            `student_int8_micro` with C++ sources; it appears when everything is done.
        recipe: How to train. Defaults to `Recipe()`.
        progress: Called as `progress(stage, done, total)` while it works.
        teacher_history: Training curves of the teacher, for the report.
        force: Whether `out` may hold files already; those of the same name are replaced.
        task: `"categorical"`, `"binary"`, `"multilabel"` or `"regression"`, where it does not
            follow from the student's output and the labels (see `tfkd.model.task.task_of`).

    Returns:
        A `Result`.

    Raises:
        TfkdError: for a model, data or recipe that a step can't take; nothing is trained
            before teacher, student and data were checked against each other.
    """
    recipe, data = recipe or Recipe(), as_data(data)
    progress = progress or (lambda stage, done, total: None)
    with staged_folder(out, force=force) as folder:
        keras.utils.set_random_seed(recipe.seed)
        trainer = Trainer(data, recipe, progress=progress, task=task)
        task = trainer.task(student)
        trained, worth = train_students(trainer, teacher, student)
        models = {"teacher": teacher, **trained}
        files = _export(models, data.train, recipe, progress)
        costs = {name: cost.measure(model) for name, model in models.items()}
        costs["student_qat"] = costs["student"]  # its further weights are ranges
        entries = [
            _model_entry(name, model, costs[name], data.test, folder, task)
            for name, model in models.items()
        ]
        timings = benchmark.benchmark(
            files,
            data.test.head(256).x,
            threads=recipe.threads,
            seed=recipe.seed,
            baseline="teacher_float32",
            progress=progress,
        )
        bundled = _micro_bundle(files.get("student_int8"), models["student_qat"], data, folder)
        entries += _file_entries(
            files, timings, models, costs, data.test, progress, folder, bundled, task
        )
        report = Report(
            task=tasks.reported(task),
            data={
                "name": data.name,
                "train": len(data.train),
                "validation": len(data.validation),
                "test": len(data.test),
            },
            models=tuple(entries),
            training={"teacher": teacher_history or {}, **trainer.histories},
            settings=recipe.to_json(),
            benchmark=timings,
            teaching=worth.to_json(),
        )
        write_report(report, folder)
    students = {name.removeprefix("student_"): file for name, file in files.items()}
    students.pop("teacher_float32")
    return Result(models["student"], models["student_qat"], students, report, pathlib.Path(out))


def train_students(trainer: Trainer, teacher: Any, student: Any) -> tuple[dict[str, Any], Worth]:
    """Train the student alone and under the teacher, and the better one quantization-aware.

    Returns:
        The models by name, and what the teacher was worth on the validation part.
    """
    recipe: Recipe = trainer.training
    data, alone, student = trainer.data, _copy(student), _copy(student)
    # What can't be taught or rounded is known before any training.
    teach = functools.partial(_distiller, trainer, teacher)
    taught = teach(student)
    quantize_aware(student, bits=recipe.bits)
    trainer.fit("baseline", alone)
    # Of augmented examples the teacher sees each view.
    examples = data.train.inputs(recipe.batch_size)
    answers = {} if recipe.augment else {"cache_teacher": taught.cache_teacher(examples)}
    trainer.fit("student", student, teach, **answers)
    scores = [taught.score(data.validation, who=who)[0] for who in ("teacher", alone, "student")]
    worth = Worth(*scores)
    if worth.harms:
        warnings.warn(str(worth), TeacherWarning, stacklevel=4)
    if not worth.helps:
        student = copy_of(alone)
    qat = quantize_aware(student, bits=recipe.bits)
    rate = recipe.qat_learning_rate
    if rate is None:
        rate = _RATES[4 if export_form.narrow_wrappers(qat) else 8]
    training = dataclasses.replace(
        recipe, epochs=recipe.qat_epochs, learning_rate=rate, optimizer="adam"
    )
    if worth.helps:
        trainer.fit("student_qat", qat, teach, training, **answers)
    else:
        trainer.fit("student_qat", qat, training=training)
    return {"baseline": alone, "student": student, "student_qat": qat}, worth


def _origin(name: str) -> str:
    """Return the name of the model that a file is made from."""
    # The ranges of the int8 file were learned in QAT, but for recurrent layers.
    return "student_qat" if name == "student_int8" else name.split("_")[0]


def _export(models, train, recipe, progress) -> dict[str, TFLiteModel]:
    names = ["teacher_float32", *(f"student_{format}" for format in recipe.formats)]
    files = {}
    for done, name in enumerate(names):
        progress("export", done, len(names))
        model, format = models[_origin(name)], name.split("_")[1]
        calibrate = format == "int8" and export_form.needs_calibration(model)
        files[name] = to_tflite(model, format, representative(train) if calibrate else None)
    progress("export", len(names), len(names))
    return files


def _micro_bundle(file, model, data, folder) -> dict[str, Any] | None:
    """Write the C++ of the int8 file, where TFLM is installed; return the report's entry.

    Recurrent layers take the form of a microcontroller there, which is not that of a phone.
    """
    if file is None or not evaluation.is_installed():
        return None
    try:
        if export_form.needs_calibration(model):
            file = to_tflite(model, "int8", representative(data.train), micro=True)
        bundle = micro_bundle(file, folder / "student_int8_micro", "student_int8", x=data)
    except TfkdError as error:
        return {"supported": False, "reason": str(error)}
    return {
        "supported": True,
        "arena_bytes": bundle.proof.arena_bytes,
        "arena_basis": bundle.proof.basis,
        "metrics": bundle.proof.metrics,
    }


def _file_entries(
    files, timings, models, costs, test, progress, folder, bundled, task
) -> list[ModelEntry]:
    """Write and verify the files."""
    entries = []
    for done, (name, file) in enumerate(files.items()):
        progress("verify", done, len(files))
        measured = costs[_origin(name)]
        entries.append(
            ModelEntry.of_file(
                name,
                name.split("_")[1],
                file,
                verify(file, models[_origin(name)], test, task=task),
                timings[name],
                path=file.save(folder / f"{name}.tflite").name,
                parameters=measured.parameters,
                macs=measured.macs,
                micro=bundled if name == "student_int8" else None,
            )
        )
    progress("verify", len(files), len(files))
    return entries


def _distiller(trainer: Trainer, teacher, student):
    """Return a compiled Distiller, which checks that teacher and student fit."""
    recipe = trainer.training
    settings = {"alpha": recipe.alpha, "temperature": recipe.temperature}
    if backends.is_quantize_aware(student):
        settings = {}
    distiller = Distiller(student, teacher, **settings)
    trainer.compile(distiller, student)
    return distiller


def fit_teacher(model, data: Data, recipe: Recipe, progress: Progress | None = None):
    """Train a model on its own, as `compress` trains the student without a teacher.

    Args:
        model: A Keras 3 model; it is trained in place.
        data: Split three ways.
        recipe: Its attributes of `Training` are used.
        progress: As for `compress`; the stage is `"teacher"`.

    Returns:
        The history: metric name → a value per epoch.
    """
    trainer = Trainer(data, recipe, progress=progress)
    trainer.fit("teacher", model)
    return trainer.histories["teacher"]


def _copy(model):
    """Return a copy of a Keras 3 model with the same weights."""
    if backends.flavour(model) != "keras":
        raise InputError(f"The student must be a Keras 3 model, got {type(model).__name__}.")
    return copy_of(model)


_STAGES = {
    "teacher": "teacher",
    "baseline": "baseline",
    "student": "student",
    "student_qat": "qat",
}


def _model_entry(name, model, measured, test: Part, folder, task) -> ModelEntry:
    """Score a model; the teacher and the student are saved."""
    path = folder / f"{name}.keras" if name in ("teacher", "student") else None
    if path is not None:
        model.save(path)
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
