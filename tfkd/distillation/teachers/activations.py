"""How an output becomes logits for a task."""

from __future__ import annotations

from tfkd.errors import InputError


def readable_activation(
    role: str, name: str, seen: str | None, task: str, from_logits: bool | None
) -> str:
    """Return how an output becomes logits for a task, or raise.

    Args:
        role: `"teacher"` or `"student"`, for the message.
        name: What to call it in the message.
        seen: What `outputs.output_activations` saw.
        task: One of `losses.TASKS`.
        from_logits: What the caller says, or `None`.

    Raises:
        InputError: where it can't be told, or the caller contradicts what was seen.
    """
    if task == "regression":
        return "linear"
    squash = {"categorical": "softmax", "binary": "sigmoid"}[task]
    argument = "from_logits" if role == "student" else "teacher_from_logits"
    if from_logits is None:
        if seen in ("linear", squash):
            return seen
        raise InputError(
            f"Whether the {role} {name!r} gives logits or probabilities can't be told from "
            f"its graph ({seen or 'unknown'} output, {task} task); say {argument}=True for "
            f"logits or {argument}=False for {squash} probabilities."
        )
    said = "linear" if from_logits else squash
    if seen in ("linear", squash) and seen != said:
        raise InputError(
            f"{argument}={from_logits} contradicts the {role} {name!r}, whose output is "
            f"{seen}; leave {argument} out."
        )
    return said
