"""A student on its way to files: trained alone and under the teacher, quantization-aware, exported.

student ─► checked ─► baseline ─► distilled ─► the better one ─► quantization-aware ─► files
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from tfkd.compression import rehearsal
from tfkd.compression.budget import Budget
from tfkd.compression.recipe import Recipe
from tfkd.compression.rehearsal import Costs, Goal
from tfkd.compression.settings import Training
from tfkd.compression.stages import Stages
from tfkd.compression.trainer import Trainer, copy_of
from tfkd.data import Data, is_one_hot, representative
from tfkd.distillation import teachers
from tfkd.distillation.distiller import Distiller
from tfkd.distillation.worth import Score, Worth
from tfkd.errors import InputError, TeacherWarning
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import verify
from tfkd.model import backends
from tfkd.model.fingerprint import contents, fingerprint
from tfkd.quantization import export_form, quantize_aware

# Of quantization-aware training, by the bits of the weights: `benchmarks/four_bits.py recipes`.
_RATES = {8: 3e-4, 4: 3e-3}
#: What of a recipe decides how the teacher teaches.
LOSSES = ("alpha", "temperature", "soft_loss")
# Epochs of each stage that a budget has to leave.
_LEAST_EPOCHS = 3
# Batches that are timed.
_TIMED = 16
# The part of what is left of a budget that training gets; the rest is for files and report.
_FOR_TRAINING = 0.8


@dataclasses.dataclass
class Finished:
    """A student with its files.

    Attributes:
        models: `baseline`, `student` and, for an int8 file, `student_qat`.
        files: `student_FORMAT` → file.
        worth: What the teacher was worth.
        costs: What the main file takes.
        drop: How much worse that file is than the teacher on the validation part.
        verified: Whether that file computes there what its model computes.
        scorer: A `Distiller` that scores teacher, models and files alike.
        histories: Its training curves by stage.
    """

    models: dict[str, Any]
    files: dict[str, TFLiteModel]
    worth: Worth
    costs: Costs
    drop: float
    verified: bool
    scorer: Distiller
    histories: dict[str, dict[str, list[float]]]

    def meets(self, goal: Goal) -> bool:
        """Tell whether target and board are met, on the validation part."""
        held = goal.drop is None or self.drop <= goal.drop
        return held and self.verified and not goal.unmet(self.costs)

    def is_better(self, other: Finished) -> bool:
        """Tell whether less is lost than with another; a file that is not its model comes last."""
        return (self.verified, -self.drop) > (other.verified, -other.drop)


class Finisher:
    """What all students of a run have in common, and the way of one to its files.

    Args:
        trainer: With the data and a `Recipe`.
        teacher: What teaches, as `Distiller` takes it.
        goal: What the file has to meet.
        stages: Where what is finished is kept.
        clock: The time there is.
        teacher_from_logits: As for `Distiller`.
    """

    def __init__(
        self,
        trainer: Trainer,
        teacher: Any,
        goal: Goal | None = None,
        stages: Stages | None = None,
        clock: Budget | None = None,
        teacher_from_logits: bool | None = None,
    ):
        self.trainer, self.teacher, self._from_logits = trainer, teacher, teacher_from_logits
        self.goal = goal or Goal({}, None, None)
        self.stages, self.clock = stages or Stages(), clock or Budget(None)
        self._answers: Any = None

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return self.trainer.training  # type: ignore[return-value]

    @property
    def progress(self):
        """Called as `progress(stage, done, total)`."""
        return self.trainer.progress

    @property
    def end(self) -> str | None:
        """How students end where the teacher is said to answer in probabilities."""
        if self._from_logits is not False:
            return None
        labels = self.trainer.data.train.labels
        several = labels.ndim > 1 and labels.shape[-1] > 1 and not is_one_hot(labels)
        binary = self.trainer.given_task in ("binary", "multilabel")
        return "sigmoid" if binary or (several and self.trainer.given_task is None) else "softmax"

    @functools.cached_property
    def _keys(self) -> dict[str, Any]:
        """What decides a result beside the student: data and teacher, and what is said of them."""
        parts = (getattr(self.trainer.data, part) for part in ("train", "validation"))
        try:
            teacher = teachers.Teacher(self.teacher).fingerprint()
        except InputError:  # a function without a value of its own: each run is another
            teacher = uuid.uuid4().hex
        weights = self.trainer.data.class_weight
        return {
            "data": fingerprint([*map(contents, parts)] + ([] if weights is None else [weights])),
            "teacher": teacher,
            "task": self.trainer.given_task,
            "teacher_from_logits": self._from_logits,
        }

    def inputs(self, student: Any, **more: Any) -> dict[str, Any]:
        """Return what a stage of a student depends on."""
        return {"student": student, **self._keys, **more}

    def distiller(self, student: Any) -> Distiller:
        """Return a compiled `Distiller`, which checks that teacher and student fit."""
        recipe = self.recipe
        settings: dict[str, Any] = {"alpha": recipe.alpha, "temperature": recipe.temperature}
        if recipe.soft_loss is not None:
            settings["soft_loss"] = recipe.soft_loss
        if backends.is_quantize_aware(student):
            settings = {}
        distiller = Distiller(
            student, self.teacher, teacher_from_logits=self._from_logits, **settings
        )
        self.trainer.compile(distiller, student)
        return distiller

    def teach(self, stage: str, student: Any, training: Training, **kwargs: Any) -> None:
        """Train a student under the teacher, which is asked once an example for all students."""
        if training.augment is None:  # of augmented examples it sees each view
            if self._answers is None:
                examples = self.trainer.data.train.inputs(self.recipe.batch_size)
                self._answers = self.distiller(student).cache_teacher(examples)
            kwargs["cache_teacher"] = self._answers
        self.trainer.fit(stage, student, self.distiller, training, **kwargs)

    def checked(self, student: Any) -> Finished:
        """Finish a student that was given, once all later stages have taken a copy of it.

        Raises:
            TfkdError: for whatever a stage refuses, and a target that its file exceeds.
        """
        if backends.flavour(student) is None:
            raise InputError(
                "The student must be a Keras 3 or tf_keras model, or a file of one, got "
                f"{repr(student) if isinstance(student, str) else type(student).__name__}."
            )
        if backends.is_quantize_aware(student):
            raise InputError("The student is quantize-aware already: give the float model.")
        self.trainer.check(student)
        self.distiller(copy_of(student))
        examples = self.trainer.data.train.head(rehearsal.EXAMPLES).x
        costs = rehearsal.rehearse(student, examples, self.recipe, self.goal)
        if problems := self.goal.unmet(costs):
            raise InputError(
                f"The student's {rehearsal.main_format(self.recipe)} file can't meet the target, "
                f"whatever its weights: {'; '.join(problems)}. Give a smaller student, or none, "
                "and compress looks for one."
            )
        return self.finished(student)

    def finished(self, student: Any) -> Finished:
        """Train a student and make its files."""
        recipe = self._paced(student)
        models, worth, scorer = self.train(student, recipe)
        examples = representative(self.trainer.data.train)
        files: dict[str, TFLiteModel] = {}
        for done, format in enumerate(recipe.formats):
            self.progress("export", done, len(recipe.formats))
            model = models[origin(f"student_{format}")]
            files[f"student_{format}"] = rehearsal.file_of(model, format, examples)
        self.progress("export", len(recipe.formats), len(recipe.formats))
        main = f"student_{rehearsal.main_format(recipe)}"
        costs = rehearsal.costs_of(files[main], models[origin(main)], examples, self.goal)
        part = self.trainer.data.validation
        [score] = scorer.score(part, who=files[main])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the verdict says it
            task = self.trainer.task(models["student"])
            verified = verify(files[main], models[origin(main)], part, task=task).passed
        drop = drop_of(score, worth.teacher)
        # The trainer's own are those of the student that was trained last.
        curves = {name: self.trainer.histories[name] for name in models}
        return Finished(models, files, worth, costs, drop, verified, scorer, curves)

    def train(
        self, student: Any, recipe: Recipe | None = None
    ) -> tuple[dict[str, Any], Worth, Distiller]:
        """Train the student alone and under the teacher, and the better one quantization-aware.

        Args:
            student: A float model of either Keras; it is not changed.
            recipe: Defaults to the trainer's.

        Returns:
            The models by name (`baseline`, `student`, and `student_qat` for an int8 file), what
            the teacher was worth on the validation part, and what scores any of them.
        """
        recipe = recipe or self.recipe
        alone, taught = copy_of(student), copy_of(student)
        # What can't be taught or rounded is known before any training.
        scorer = self.distiller(taught)
        rounds = "int8" in recipe.formats
        if rounds:
            quantize_aware(taught, bits=recipe.bits)
        inputs = self.inputs(student, training=trained_by(recipe))
        self._once(
            "baseline", inputs, alone, lambda: self.trainer.fit("baseline", alone, training=recipe)
        )
        inputs |= {name: getattr(recipe, name) for name in LOSSES}
        self._once("student", inputs, taught, lambda: self.teach("student", taught, recipe))
        part = self.trainer.data.validation
        worth = Worth(*(scorer.score(part, who=who)[0] for who in ("teacher", alone, "student")))
        if worth.harms:
            warnings.warn(str(worth), TeacherWarning, stacklevel=5)
        models = {"baseline": alone, "student": taught if worth.helps else copy_of(alone)}
        if rounds:
            models["student_qat"] = self._rounded(models["student"], worth.helps, recipe, inputs)
        return models, worth, scorer

    def _rounded(self, student: Any, taught: bool, recipe: Recipe, inputs: dict[str, Any]) -> Any:
        """Return the student after quantization-aware training."""
        qat = quantize_aware(student, bits=recipe.bits)
        rate = recipe.qat_learning_rate
        if rate is None:
            rate = _RATES[4 if export_form.narrow_wrappers(qat) else 8]
        training = dataclasses.replace(
            recipe, epochs=recipe.qat_epochs, learning_rate=rate, optimizer="adam"
        )

        def fit() -> None:
            if taught:
                self.teach("student_qat", qat, training)
            else:
                self.trainer.fit("student_qat", qat, training=training)

        inputs = {**inputs, "bits": recipe.bits, "qat": trained_by(training), "taught": taught}
        self._once("student_qat", inputs, qat, fit)
        return qat

    def _once(self, stage: str, inputs: dict[str, Any], model: Any, fit: Callable) -> None:
        """Train a model in a stage, or give it the weights that the stage gave it before."""
        histories = self.trainer.histories

        def make() -> dict[str, Any]:
            fit()
            return histories[stage]

        histories[stage] = self.stages.once(stage, inputs, make, model)

    def _paced(self, student: Any) -> Recipe:
        """Return the recipe with as many epochs as the budget leaves.

        Raises:
            InputError: if it leaves too few.
        """
        recipe = self.recipe
        if self.clock.seconds is None:
            return recipe
        rounding = (recipe.qat_epochs, recipe.bits) if "int8" in recipe.formats else None
        inputs = self.inputs(
            student, training=trained_by(recipe), rounding=rounding, budget=self.clock.seconds
        )
        paced = self.stages.once("pace", inputs, lambda: self._pace(student))
        epochs, qat_epochs = paced["epochs"], paced["qat_epochs"]
        wanted = (epochs, recipe.epochs), (qat_epochs, recipe.qat_epochs)
        if any(given < min(_LEAST_EPOCHS, asked) for given, asked in wanted):
            raise InputError(
                f"The budget of {self.clock.seconds:,.0f} s is too short: {_LEAST_EPOCHS} epochs "
                f"of each stage take {paced['least_seconds']:,.0f} s, and {paced['left']:,.0f} s "
                "are left. Give more."
            )
        return dataclasses.replace(recipe, epochs=epochs, qat_epochs=qat_epochs)

    def _pace(self, student: Any) -> dict[str, Any]:
        """Time some batches of each stage; return the epochs that fit."""
        data, recipe = self.trainer.data, self.recipe
        count = min(len(data.train), _TIMED * recipe.batch_size)
        few = data.train.head(count)
        seconds = {}
        for stage in ("alone", "qat") if "int8" in recipe.formats else ("alone",):
            ticks: list[float] = []
            timer = Trainer(
                Data("pace", few, few, few),
                dataclasses.replace(recipe, epochs=3),
                progress=lambda stage, done, total, ticks=ticks: ticks.append(time.monotonic()),
                task=self.trainer.given_task,
            )
            model = copy_of(student)
            if stage == "qat":
                model = quantize_aware(model, bits=recipe.bits)
            timer.fit(stage, model, validate=False)
            seconds[stage] = (ticks[-1] - ticks[-2]) * len(data.train) / count
        # The taught student's step costs what the other's does: answers are kept.
        an_epoch, a_qat_epoch = 2 * seconds["alone"], seconds.get("qat", 0.0)
        planned = recipe.epochs * an_epoch + recipe.qat_epochs * a_qat_epoch
        left = _FOR_TRAINING * self.clock.left
        part = min(1.0, left / max(planned, 1e-9))
        return {
            "epochs": max(1, int(part * recipe.epochs)) if part < 1 else recipe.epochs,
            "qat_epochs": max(1, int(part * recipe.qat_epochs)) if part < 1 else recipe.qat_epochs,
            "least_seconds": _LEAST_EPOCHS * (an_epoch + a_qat_epoch) / _FOR_TRAINING,
            "left": self.clock.left,
        }


def origin(name: str) -> str:
    """Return the name of the model that a file is made from."""
    # The ranges of the int8 file were learned in QAT, but for recurrent layers.
    return "student_qat" if name == "student_int8" else name.split("_")[0]


def drop_of(score: Score, teacher: Score) -> float:
    """Return how much worse a score is: in accuracy, or as a part of the teacher's RMSE."""
    if score.metric != "r2":
        return teacher.value - score.value
    return math.sqrt(max(1 - score.value, 0.0) / max(1 - teacher.value, 1e-12)) - 1


def trained_by(training: Training) -> dict[str, Any]:
    """Return what of the settings decides the weights."""
    names = {field.name for field in dataclasses.fields(Training)}
    names -= {"steps_per_execution", "callbacks"}  # they change no step
    return {name: getattr(training, name) for name in sorted(names)}
