"""`Keys`: everything that the stages of a run depend on, for their fingerprints."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

from tfkd.compression.outputs import names_in
from tfkd.compression.settings import Training, trained_by
from tfkd.compression.trainer import Trainer
from tfkd.distillation import teachers
from tfkd.export.runtime import host
from tfkd.model import backends
from tfkd.model.fingerprint import contents, fingerprint, trainee


class Keys:
    """Everything that the stages of a run depend on.

    Args:
        trainer: The trainer, with the data and the run's settings.
        teacher: The teacher, as `Distiller` takes it.
        teacher_from_logits: As for `Distiller`.
        kept: Whether stages are kept. Without it, functions need no fingerprint.

    Raises:
        InputError: for an `augment` without a fingerprint, if stages are kept.
    """

    def __init__(self, trainer: Trainer, teacher: Any, teacher_from_logits: Any, kept: bool):
        self._trainer, self._teacher, self._from_logits = trainer, teacher, teacher_from_logits
        self._functions: dict[str, str] = {}
        if kept:  # now: a call may change what a function holds, such as a random generator
            given = trained_by(trainer.training)
            self._functions = {
                "augment": fingerprint(given["augment"]),
                "callbacks": _or_new(lambda: fingerprint(given["callbacks"])),
            }

    def of(self, student: Any, **more: Any) -> dict[str, Any]:
        """Return everything that a stage of a student depends on.

        Args:
            student: The student, before the stage trains it.
            **more: What else decides the result of the stage.
        """
        names = names_in(student, self._trainer.data.outputs)
        return {"student": trainee(student), "outputs": names, **self.shared, **more}

    def trained_by(self, training: Training) -> dict[str, Any]:
        """Return the settings that decide the trained weights."""
        return trained_by(training) | self._functions

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """What decides a result besides the student: data, teacher, task and versions."""
        data = self._trainer.data
        parts = [contents(part) for part in (data.train, data.validation)]
        weights = [] if data.class_weight is None else [data.class_weight]
        several = self._teacher if isinstance(self._teacher, (list, tuple)) else [self._teacher]
        return {
            "data": fingerprint(parts + weights),
            "teacher": _or_new(lambda: teachers.Teacher(self._teacher).fingerprint()),
            "teacher_outputs": [  # labels and students bind to them by name
                names_in(one, data.outputs, missing=True)
                for one in several
                if backends.flavour(one) is not None
            ],
            "task": self._trainer.given_task,
            "teacher_from_logits": self._from_logits,
            "versions": host.versions(),
        }


def _or_new(known: Callable[[], str]) -> str:
    """Return a fingerprint, or a value that no other run has for what has no fingerprint."""
    try:
        return known()
    except Exception:  # whatever the parts of a user's object raise
        return uuid.uuid4().hex
