"""Rules for the user's own layer classes: the checks that all such rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfkd.errors import InputError, TfkdError, argument
from tfkd.model import backends


def check(
    layer_class: Any,
    rule: Any,
    purpose: str,
    flavours: Sequence[str],
    has_rule: Callable[[type], bool],
    replace: bool,
) -> None:
    """Check the arguments of a `register` function.

    Args:
        layer_class: A class of either Keras's layers.
        rule: A function.
        purpose: The purpose of the rule, `"pruning"` or `"quantization"`.
        flavours: The Kerases, the usual one first.
        has_rule: Whether a class has a rule already.
        replace: Whether it may have one.

    Raises:
        InputError: if it is no layer class or has a rule already, or the rule can't be called.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, backends.layer_classes())):
        raise InputError(
            f"layer_class must be a subclass of "
            f"{' or '.join(f'{flavour}.layers.Layer' for flavour in flavours)}, got "
            f"{layer_class!r}."
        )
    if not callable(rule):
        raise InputError(f"rule must be a function (see {purpose.capitalize()}Rule), got {rule!r}.")
    if has_rule(layer_class) and not replace:
        raise InputError(
            f"{layer_class.__name__} already has a {purpose} rule; pass "
            f"{argument('replace', True)} to replace it."
        )


def result_of(who: str, rule: Callable[..., Any], *arguments: Any, own: tuple = ()) -> Any:
    """Return a rule's result.

    Args:
        who: The rule, as the beginning of a message.
        rule: The function.
        *arguments: What to call it with.
        own: Further exceptions that the rule may raise.

    Raises:
        InputError: for any other exception that it raises.
    """
    try:
        return rule(*arguments)
    except (TfkdError, *own):
        raise
    except Exception as error:
        raise InputError(f"{who} failed with {type(error).__name__}: {error}.") from error
