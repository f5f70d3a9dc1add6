"""Ways of distilling by name: their arguments for `Distiller`, and which of them fit a task."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from tfkd.distillation.distiller import Distiller
from tfkd.errors import InputError, raise_all
from tfkd.losses import soft

ALONE, AUTO, LABEL_SMOOTHING = "alone", "auto", "label_smoothing"
_SMOOTHING = 0.1
#: Soft losses by their names in `soft_loss=`.
SOFT_LOSSES = tuple(soft._BY_NAME)
#: All methods that have a name.
KNOWN = (ALONE, AUTO, *SOFT_LOSSES, LABEL_SMOOTHING)
_DEFAULT = (ALONE, AUTO, "kl", "standardized_kl", "dist", LABEL_SMOOTHING)
_FURTHER = {
    "binary": ("binary_kl",),
    "multilabel": ("binary_kl",),
    "regression": ("mse", "teacher_bounded"),
}

# The papers' settings, if they state any: T = 2 from Sun et al. 2024; T = 1 and twice the weight
# of the hard loss from Huang et al. 2022. The others have those of Hinton et al. 2015.
_SETTINGS = {
    "standardized_kl": {"alpha": 0.1, "temperature": 2.0},
    "dist": {"alpha": 0.33, "temperature": 1.0},
}
_WITHOUT_TEMPERATURE = (soft.MeanSquaredError, soft.LogitMeanSquaredError, soft.TeacherBounded)
# Arguments that the comparison sets for all methods.
_SHARED = {
    "self", "student", "teacher", "from_logits", "teacher_from_logits", "student_inputs",
    "teacher_inputs", "unlabeled", "evaluate_teacher", "kwargs",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of training the student.

    Attributes:
        name: Its name in the table.
        settings: Arguments of `Distiller`; `None` trains without a teacher.
        label_smoothing: Share of each label that is spread over the classes, in [0, 1).
    """

    name: str
    settings: Mapping[str, Any] | None = None
    label_smoothing: float = 0.0

    @property
    def soft_loss(self) -> soft.SoftLoss | None:
        """The soft loss; `None` if `Distiller` chooses it or there is none."""
        return None if self.settings is None else soft.get(self.settings.get("soft_loss", AUTO))

    def uses_temperature(self, task: str) -> bool:
        """Tell whether the temperature changes anything."""
        if self.soft_loss is None:
            return task != "regression"
        return not isinstance(_inner(self.soft_loss), _WITHOUT_TEMPERATURE)


def _inner(loss: soft.SoftLoss) -> soft.SoftLoss:
    """Return the loss that a `Balanced` loss scales, or the loss itself."""
    return getattr(loss, "loss", loss)


def named(name: str) -> Method:
    """Return the method with a name in `KNOWN`."""
    if name == ALONE:
        return Method(name)
    if name == LABEL_SMOOTHING:
        return Method(name, None, _SMOOTHING)
    if name == AUTO:
        return Method(name, {})
    settings = _SETTINGS.get(name, {"alpha": 0.1, "temperature": 4.0}) | {"soft_loss": name}
    if isinstance(soft.get(name), _WITHOUT_TEMPERATURE):
        del settings["temperature"]
    return Method(name, settings)


def resolve(given, task: str, classes: int) -> tuple[list[Method], dict[str, str]]:
    """Return the methods to compare, training alone first, and why the others are left out.

    Args:
        given: As `compare` takes `methods`.
        task: The task of outputs and labels, one of `tfkd.model.task.TASKS`.
        classes: Number of output values per example.

    Raises:
        InputError: for unknown names, arguments that `Distiller` lacks, and methods the caller
            named that don't fit the task.
    """
    if given is None:
        names = (*_DEFAULT, *_FURTHER.get(task, ()))
        reasons = {name: unfit(named(name), task, classes) for name in names}
        methods = [named(name) for name, reason in reasons.items() if not reason]
        return methods, {name: reason for name, reason in reasons.items() if reason}
    methods = [one for one in _given(given) if one.name != ALONE]
    reasons = {one.name: unfit(one, task, classes) for one in methods}
    raise_all(
        [f"methods: {name!r} does not fit: {reason}" for name, reason in reasons.items() if reason],
        fix="Leave it out, or leave methods out to use those that fit.",
    )
    return [named(ALONE), *methods], {}


def _given(given) -> list[Method]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        return [_custom(name, settings) for name, settings in given.items()]
    if not isinstance(given, Iterable):
        raise InputError(
            f"methods must be a list of names or a dict of name → Distiller arguments, got "
            f"{given!r}."
        )
    names = list(dict.fromkeys(map(str, given)))
    raise_all(
        [f"methods: there is no {name!r}" for name in names if name not in KNOWN],
        fix=f"The known methods are {', '.join(KNOWN)}. In Python, a dict of name → Distiller "
        "arguments adds others.",
    )
    return [named(name) for name in names]


def _custom(name, settings) -> Method:
    """Return the method that a caller describes by arguments of `Distiller`."""
    if name == ALONE and not settings:
        return named(ALONE)
    if not isinstance(name, str) or name == ALONE:
        raise InputError(f"methods: {name!r} can't be the name of a method; {ALONE!r} is taken.")
    if not isinstance(settings, Mapping):
        raise InputError(
            f"methods[{name!r}] must be a dict of Distiller's arguments, got {settings!r}."
        )
    if set(settings) == {"label_smoothing"}:
        share = settings["label_smoothing"]
        if not (isinstance(share, numbers.Real) and 0 < share < 1):
            raise InputError(
                f"methods[{name!r}]: label_smoothing must lie between 0 and 1, got {share!r}."
            )
        return Method(name, None, float(share))
    allowed = [
        one for one in inspect.signature(Distiller.__init__).parameters if one not in _SHARED
    ]
    raise_all(
        [f"methods[{name!r}] can't set {one!r}" for one in settings if one not in allowed],
        fix=f"A method may set {', '.join(allowed)}, or only label_smoothing.",
    )
    try:
        soft.get(settings.get("soft_loss", AUTO))
    except InputError as error:
        raise InputError(f"methods[{name!r}]: {error}") from error
    return Method(name, dict(settings))


def unfit(method: Method, task: str, classes: int) -> str | None:
    """Return why a method can't work on a task, or `None`."""
    if method.label_smoothing:
        return "values have no classes to smooth over" if task == "regression" else None
    loss = method.soft_loss
    if loss is None:
        return None
    means = "binary" if task == "multilabel" else task
    if loss.tasks and means not in loss.tasks:
        return f"it is for {' or '.join(loss.tasks)} outputs, and this one is {task}"
    if isinstance(_inner(loss), soft.StandardizedKLDivergence) and classes == 2:
        return "two standardized logits are +1 and −1, whatever the teacher answers"
    return None
