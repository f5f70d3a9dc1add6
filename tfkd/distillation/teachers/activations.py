"""How an output becomes logits for a task."""

from __future__ import annotations

from tfkd.errors import InputError, argument


def readable_activation(
    role: str,
    name: str,
    seen: str | None,
    task: str,
    from_logits: bool | None,
    if_hidden: bool = False,
) -> str:
    """Return how an output becomes logits for a task, or raise.

    Args:
        role: `"teacher"` or `"student"`, for the message.
        name: What to call it in the message.
        seen: What `output_kind.output_activations` found.
        task: One of `losses.SOFT_TASKS`.
        from_logits: The caller's value, or `None`.
        if_hidden: Whether that value is only for outputs whose graph does not show it.

    Raises:
        InputError: if the graph does not show it, or contradicts the given value.
    """
    if task == "regression":
        return "linear"
    squash = {"categorical": "softmax", "binary": "sigmoid"}[task]
    setting = "from_logits" if role == "student" else "teacher_from_logits"
    if seen in ("linear", squash) and (from_logits is None or if_hidden):
        return seen
    if from_logits is None:
        raise InputError(
            f"The graph of the {role} {name!r} does not show whether it gives logits or "
            f"probabilities ({seen or 'unknown'} output, {task} task); give "
            f"{argument(setting, True)} for logits or {argument(setting, False)} for {squash} "
            "probabilities."
        )
    said = "linear" if from_logits else squash
    if seen in ("linear", squash) and seen != said:
        raise InputError(
            f"{argument(setting, from_logits)} contradicts the {role} {name!r}, whose output is "
            f"{seen}; leave it out."
        )
    return said
