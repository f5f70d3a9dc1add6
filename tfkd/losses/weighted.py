"""Several soft losses on one output."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfkd.errors import InputError
from tfkd.losses.outputs import SOFT_TASKS, checked_number
from tfkd.losses.soft import SoftLoss, get, temperature_of


@keras.saving.register_keras_serializable("tfkd")
class WeightedSum(SoftLoss):
    """Several soft losses on one output: ``Σ_k weight_k · loss_k``.

    It compares the outputs of the tasks that all its parts support. If one part reads labels,
    elements without a label count for no part.

    Args:
        losses: A tuple per part: `(loss, weight)`, or `(loss, weight, temperature)` for a part with
            its own temperature instead of the distiller's. A loss is anything that `soft_loss=`
            takes: a name or an object.

    Attributes:
        tasks: The tasks that all parts have in common.
        needs_labels: Whether one part reads `y`.
        mixes_elements: Whether one part mixes elements.
        knows_labels: Whether one part uses labels where there are some.

    Raises:
        InputError: for no parts, a part that is no loss, a weight that is not ≥ 0, a
            temperature that is not > 0, or parts without a common task.

    Example:
        >>> import tfkd
        >>> loss = tfkd.losses.WeightedSum([("standardized_kl", 0.5, 2.0), ("dist", 1.0)])
        >>> loss.tasks, loss.mixes_elements
        (('categorical',), True)
    """

    def __init__(self, losses: Sequence[tuple]):
        if isinstance(losses, (str, Mapping)) or not isinstance(losses, Sequence) or not losses:
            raise InputError(
                "WeightedSum needs a list of (loss, weight) or (loss, weight, temperature), got "
                f"{losses!r}."
            )
        self.losses = [_part(one) for one in losses]
        parts = [loss for loss, _, _ in self.losses]
        if not self.tasks:
            tasks = ", ".join(f"{type(p).__name__} ({' or '.join(p.tasks)})" for p in parts)
            raise InputError(f"WeightedSum needs losses for the same kind of output, got {tasks}.")
        weighted = {len(w) for p in parts if (w := getattr(p, "class_weights", None)) is not None}
        if len(weighted) > 1:
            raise InputError(f"The class_weights in WeightedSum differ in length: {weighted}.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that all parts have in common."""
        return tuple(t for t in SOFT_TASKS if all(t in loss.tasks for loss, _, _ in self.losses))

    @property
    def needs_labels(self) -> bool:
        """Whether one part reads labels."""
        return any(loss.needs_labels for loss, _, _ in self.losses)

    @property
    def mixes_elements(self) -> bool:
        """Whether an element's value depends on others in one part."""
        return any(loss.mixes_elements for loss, _, _ in self.losses)

    @property
    def knows_labels(self) -> bool:
        """Whether one part uses labels where there are some."""
        return any(loss.knows_labels for loss, _, _ in self.losses)

    @property
    def class_weights(self) -> list[float] | None:
        """Class weights of the first part that has any; their number is checked on the output."""
        given = (getattr(loss, "class_weights", None) for loss, _, _ in self.losses)
        return next((weights for weights in given if weights is not None), None)

    def for_task(self, task: str) -> SoftLoss:
        """Return the sum of the parts for outputs of one of its tasks."""
        loss = copy.copy(self)
        loss.losses = [(part.for_task(task), weight, own) for part, weight, own in self.losses]
        return loss

    def __call__(self, teacher, student, temperature, y=None, mask=None, known=None):
        """Return the weighted sum per element; parts that take `mask` and `known` get them."""
        total = 0.0
        for loss, weight, own in self.losses:
            more = {"mask": mask} if loss.mixes_elements else {}
            more |= {"known": known} if loss.knows_labels else {}
            total += weight * loss(teacher, student, temperature if own is None else own, y, **more)
        return total

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the losses serialized."""
        pack = keras.saving.serialize_keras_object
        return {"losses": [[pack(loss), weight, own] for loss, weight, own in self.losses]}

    def __repr__(self):
        given = [part[: 2 if part[2] is None else 3] for part in self.losses]
        return f"WeightedSum({given!r})"


def _part(given) -> tuple[SoftLoss, float, float | None]:
    """Return a part's loss, weight and own temperature.

    Raises:
        InputError: for any other value.
    """
    if not isinstance(given, (list, tuple)) or len(given) not in (2, 3):
        raise InputError(
            "A part of WeightedSum is (loss, weight) or (loss, weight, temperature), got "
            f"{given!r}."
        )
    identifier, weight, own = (*given, None)[:3]
    loss = get(identifier)
    if loss is None:
        raise InputError(f"A part of WeightedSum must name its loss, got {identifier!r}.")
    own = temperature_of(identifier, own)
    if own is not None:
        own = checked_number("temperature", own, positive=True)
    return loss, checked_number("weight", weight), own
