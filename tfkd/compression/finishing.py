"""A student on its way to files: trained alone and under the teacher, quantization-aware, exported.

student ─► checked ─► baseline ─► distilled ─► the better one ─► quantization-aware ─► files
                                                    └─► calibrated, where that is better ─┘
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfkd.compression import rehearsal
from tfkd.compression.budget import Budget
from tfkd.compression.choice import Drop, Scores, Teaching
from tfkd.compression.finished import Finished
from tfkd.compression.keys import Keys
from tfkd.compression.outputs import names_in
from tfkd.compression.pacing import paced
from tfkd.compression.recipe import Recipe, in_order
from tfkd.compression.rehearsal import Goal
from tfkd.compression.rounding import Rounding
from tfkd.compression.scale import Scale
from tfkd.compression.settings import check_drop
from tfkd.compression.stages import Stages
from tfkd.compression.trainer import Trainer
from tfkd.data import Part, representative
from tfkd.distillation import teachers
from tfkd.distillation.distiller import Distiller
from tfkd.errors import InputError, TeacherWarning, TfkdError
from tfkd.export.conversion.to_tflite import to_tflite
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import verify
from tfkd.model import backends, cost, graph
from tfkd.model import task as tasks
from tfkd.quantization import calibrate, export_form, quantize_aware
from tfkd.translation.copies import copy_of

# Settings of quantization-aware training by weight bits; see `benchmarks/four_bits.py recipes`.
_RATES = {8: 3e-4, 4: 3e-3}
#: Fields of a recipe that decide how the teacher teaches.
LOSSES = ("alpha", "temperature", "soft_loss")


class Finisher:
    """The settings that all students of a run share, and the steps from a student to its files.

    Args:
        trainer: The trainer, with the data and a `Recipe`.
        teacher: The teacher, as `Distiller` takes it.
        goal: The requirements for the file.
        stages: The store of finished stages.
        clock: The time budget.
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
        self.keys = Keys(trainer, teacher, teacher_from_logits, self.stages.folder is not None)
        self._answers, self._has_taught = None, False
        self.scale = Scale(trainer, self.scores_of_teacher)

    @functools.cached_property
    def examples(self) -> Any:
        """The examples for calibration, drawn once: a stream is read for them."""
        return representative(self.trainer.data.train)

    @functools.cached_property
    def teacher_model(self) -> Any:
        """The teacher if it is a Keras model with a graph; `None` if only its answers are known."""
        return self.teacher if graph.has_graph(self.teacher) else None

    @functools.cached_property
    def teacher_file(self) -> TFLiteModel | None:
        """The teacher's float32 file; `None` without `teacher_model`, or if it can't be converted.

        Warns:
            UserWarning: if it can't be converted.
        """
        if self.teacher_model is None:
            return None
        try:
            return to_tflite(self.teacher, "float32")
        except TfkdError as error:
            warnings.warn(f"There is no file of the teacher: {error}", stacklevel=2)
            return None

    @functools.cached_property
    def teacher_parameters(self) -> float:
        """The parameters of a Keras teacher, or of several; infinite for others."""
        several = self.teacher if isinstance(self.teacher, (list, tuple)) else [self.teacher]
        if not all(graph.has_graph(one) for one in several):
            return math.inf
        return sum(cost.measure(one).parameters for one in several)

    @functools.cached_property
    def teacher_bytes(self) -> float:
        """The size of the teacher's file: a float32 one of a Keras model; infinite if unknown."""
        file = self.teacher if isinstance(self.teacher, TFLiteModel) else self.teacher_file
        return math.inf if file is None else file.size

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return self.trainer.training  # type: ignore[return-value]

    @property
    def progress(self):
        """Called as `progress(stage, done, total)`."""
        return self.trainer.progress

    def end_of(self, shape: tuple[int | None, ...]) -> str | None:
        """Return how students end if the caller says that the teacher answers in probabilities.

        Args:
            shape: Shape of its answers, (examples, ...).
        """
        if self._from_logits is not False:
            return None
        labels = self.trainer.data.train.labels
        task = self.trainer.given_task or tasks.task_of(labels, shape)
        # Values in several columns are soft labels if the answers are probabilities.
        return "sigmoid" if shape[-1] == 1 or task in ("binary", "multilabel") else "softmax"

    def distiller(self, student: Any, recipe: Recipe | None = None) -> Distiller:
        """Return a compiled `Distiller`, which checks that teacher and student fit.

        Args:
            student: A model of either Keras.
            recipe: The recipe with the loss. Defaults to the trainer's.
        """
        recipe = recipe or self.recipe
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

    def copied(self, student: Any) -> Any:
        """Return a copy that trains alike in each run: a dropout layer draws its seed when made."""
        keras.utils.set_random_seed(self.recipe.seed)
        return copy_of(student)

    def answers(self, student: Any) -> Any:
        """Return the teacher's answers to the training part, computed once for all students."""
        if self._answers is None:
            examples = self.trainer.data.train.inputs(self.recipe.batch_size)
            self._answers = self.distiller(student).cache_teacher(examples)
        return self._answers

    def teach(self, stage: str, student: Any, training: Recipe, **kwargs: Any) -> None:
        """Train a student under the teacher, which runs once per example for all students."""
        if not self.trainer.changes_examples:
            kwargs["cache_teacher"] = self.answers(student)
        distiller = functools.partial(self.distiller, recipe=training)
        with warnings.catch_warnings():
            if self._has_taught:  # each training would repeat what is wrong with the teacher
                warnings.filterwarnings("ignore", "The teacher's ", TeacherWarning)
            self.trainer.fit(stage, student, distiller, training, **kwargs)
        self._has_taught = True

    def check_teacher(self) -> None:
        """Raise for a teacher that can't teach, and for models that don't take the examples."""
        several = self.teacher if isinstance(self.teacher, (list, tuple)) else [self.teacher]
        if any(isinstance(one, np.ndarray) for one in several):
            raise InputError(
                "An array holds the teacher's answers to some examples, but compress needs answers "
                "to each part of the data: give a model, or a function of a batch."
            )
        teachers.Teacher(self.teacher)
        for one in several:
            if backends.flavour(one) is not None:
                self.trainer.check_inputs(one, "teacher")
                names_in(one, self.trainer.data.outputs, missing=True)

    def check(self, student: Any) -> None:
        """Raise for data, student, teacher and goal that don't fit each other, before any work."""
        self.check_teacher()
        self.trainer.check(student)
        self.trainer.changes_examples  # noqa: B018  the warning comes before any work
        check_drop(self.goal.drop, self.trainer.outputs(student))
        distiller = self.distiller(copy_of(student))
        if self.teacher_model is None:  # no graph shows the answers of a function
            distiller.cache_teacher(self.trainer.data.train.head(1).x)

    def checked(self, student: Any) -> Finished:
        """Finish a given student, after all later stages have accepted a copy of it.

        Raises:
            TfkdError: for anything that a stage refuses, and for a target that its file exceeds.
        """
        if backends.flavour(student) is None:
            raise InputError(
                "The student must be a Keras 3 or tf_keras model, or a file of one, got "
                f"{repr(student) if isinstance(student, str) else type(student).__name__}."
            )
        if backends.is_quantize_aware(student):
            raise InputError("The student is quantize-aware already: give the float model.")
        self.check(student)
        examples = self.trainer.data.train.head(rehearsal.EXAMPLES).x
        costs = rehearsal.rehearse(student, examples, self.recipe, self.goal)
        recipe = dataclasses.replace(self.recipe, bits=costs.bits)
        if problems := self.goal.unmet(costs):
            raise InputError(
                f"The student's {rehearsal.main_format(self.recipe)} file can't meet the target, "
                f"whatever its weights: {'; '.join(problems)}. Give a smaller student, or none "
                "and let compress look for one."
            )
        return self.finished(student, recipe)

    def finished(self, student: Any, recipe: Recipe | None = None) -> Finished:
        """Train a student and make its files.

        Args:
            student: A float model of either Keras; it is not changed.
            recipe: Defaults to the trainer's.
        """
        recipe = paced(self, student, recipe or self.recipe)
        models, worth, scorer, rounding = self.train(student, recipe)
        files: dict[str, TFLiteModel] = {}
        for done, format in enumerate(recipe.formats):
            self.progress("export", done, len(recipe.formats))
            model = models[origin(f"student_{format}")]
            files[f"student_{format}"] = rehearsal.file_of(
                model, format, self.examples, self.goal.needs_arena
            )
        self.progress("export", len(recipe.formats), len(recipe.formats))
        main = f"student_{rehearsal.main_format(recipe)}"
        verified = self._verifies(files[main], models, main)
        if rounding is not None and not verified:
            other = dataclasses.replace(rounding, fails=True)
            model = other.models[other.kept]
            file = rehearsal.file_of(model, "int8", self.examples, self.goal.needs_arena)
            if self._verifies(file, {**models, "student_qat": model}, main):
                rounding, verified = other, True
                files[main] = file
                models["student_qat"] = model
        costs = rehearsal.costs_of(
            files[main], models[origin(main)], self.goal, recipe.widths[0], recipe.threads
        )
        part = self.trainer.data.validation
        drop = Drop.of(self.scores(scorer, part, files[main]), worth.teacher)
        # The trainer's own curves are those of the student trained last.
        curves = {name: self.trainer.histories[name] for name in models}
        return Finished(
            models, files, worth, rounding, costs, drop, verified, scorer, curves, recipe
        )

    def scores(self, scorer: Distiller, part: Part, who: Any, name: str = "validation") -> Scores:
        """Return a score for each output by name, of whom `Distiller.score` takes."""
        names = names_in(scorer.student, part.outputs)
        return dict(zip(names, scorer.score(part, None, who, name), strict=True))

    def scores_of_teacher(self, student: Any) -> Scores:
        """Return the teacher's score on the validation part for each output of a student."""
        return self.scores(
            self.distiller(copy_of(student)), self.trainer.data.validation, "teacher"
        )

    def _verifies(self, file: TFLiteModel, models: dict[str, Any], name: str) -> bool:
        """Tell whether a file computes the same as its model on the validation part."""
        part, task = self.trainer.data.validation, self.trainer.task(models["student"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the verdict reports it
            return verify(file, models[origin(name)], part, task=task).passed

    def train(
        self, student: Any, recipe: Recipe | None = None
    ) -> tuple[dict[str, Any], Teaching, Distiller, Rounding | None]:
        """Train the student alone and under the teacher, and the better one quantization-aware.

        If calibration gives the better student, the calibrated one is kept.

        Args:
            student: A float model of either Keras; it is not changed.
            recipe: Defaults to the trainer's.

        Returns:
            The models by name (`baseline`, `student`, and `student_qat` for an int8 file), the
            worth of the teacher on the validation part, the `Distiller` that scores any of them,
            and the worth of quantization-aware training.
        """
        recipe = recipe or self.recipe
        alone, taught = self.copied(student), self.copied(student)
        # Raises before any training if the student can't be taught or rounded.
        scorer = self.distiller(taught, recipe)
        rounds = "int8" in recipe.formats
        if rounds:
            quantize_aware(taught, bits=recipe.widths[0])
        inputs = self.keys.of(student, training=self.keys.trained_by(recipe))
        self._once("baseline", inputs, alone, self.trainer.fit, recipe)
        inputs |= {name: getattr(recipe, name) for name in LOSSES}
        self._once("student", inputs, taught, self.teach, recipe)
        part = self.trainer.data.validation
        worth = Teaching.of(
            *(self.scores(scorer, part, who) for who in ("teacher", alone, "student"))
        )
        if worth.harms:
            warnings.warn(str(worth), TeacherWarning, stacklevel=5)
        models = {"baseline": alone, "student": taught if worth.helps else copy_of(alone)}
        rounding = None
        if rounds:
            trained = self._rounded(models["student"], worth.helps, recipe, inputs)
            rounding = self._rounding(models["student"], trained, recipe, scorer, worth.teacher)
            models["student_qat"] = rounding.models[rounding.kept]
        return models, worth, scorer, rounding

    def _rounding(
        self, student: Any, trained: Any, recipe: Recipe, scorer: Distiller, teacher: Scores
    ) -> Rounding:
        """Compare the student after quantization-aware training with a calibrated one."""
        calibrated = quantize_aware(student, bits=recipe.widths[0])
        narrow = export_form.narrow_wrappers(calibrated)
        calibrate(calibrated, self.examples, rounding="gptq" if narrow else "nearest")
        part = self.trainer.data.validation
        models = {"trained": trained, "calibrated": calibrated}
        return Rounding(
            teacher, *(self.scores(scorer, part, who) for who in models.values()), models
        )

    def _rounded(self, student: Any, taught: bool, recipe: Recipe, inputs: dict[str, Any]) -> Any:
        """Return the student after quantization-aware training."""
        bits = recipe.widths[0]
        qat = quantize_aware(self.copied(student), bits=bits)
        rate = recipe.qat_learning_rate
        if rate is None:
            rate = _RATES[4 if export_form.narrow_wrappers(qat) else 8]
        training = dataclasses.replace(
            recipe, epochs=recipe.qat_epochs, learning_rate=rate, optimizer="adam"
        )

        inputs = {**inputs, "bits": in_order(bits), "taught": taught}
        inputs["qat"] = self.keys.trained_by(training)
        how = self.teach if taught else self.trainer.fit
        self._once("student_qat", inputs, qat, how, training)
        return qat

    def _once(
        self, stage: str, inputs: dict[str, Any], model: Any, how: Callable, training: Recipe
    ) -> None:
        """Train a model in a stage, or load the weights from an earlier run of the stage."""
        histories, parts = self.trainer.histories, self.stages.parts(stage, inputs)

        def make() -> dict[str, Any]:
            how(stage, model, training=training, parts=parts)
            return histories[stage]

        histories[stage] = self.stages.once(stage, inputs, make, model)
        if parts is not None:
            parts.drop()


def origin(name: str) -> str:
    """Return the name of the model that a file is made from."""
    # QAT has learned the ranges of the int8 file, except for recurrent layers.
    return "student_qat" if name == "student_int8" else name.split("_")[0]
