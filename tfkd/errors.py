"""The one family of exceptions that tfkd raises on purpose, and how they name arguments.

Every message says what was given, what is allowed and what to do next, in one
line, so that the command line can print it as it is. A message names an argument with
`argument`, which writes it as the caller does: `float_io=True` in Python and `--float-io`
on the command line.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
from collections.abc import Callable, Iterable, Iterator

from tfkd.escaping import printable

#: Writes an argument from its name, its value, the function that takes it, an example value, and
#: whether to write only the name; all as in `argument`.
Spelling = Callable[[str, object, str, str, bool], str]


def _in_python(name: str, value: object, of: str, like: str, alone: bool) -> str:
    text = name if alone else f"{name}={like if value is ... else repr(value)}"
    return f"{of}(..., {text})" if of else text


_spelling: contextvars.ContextVar[Spelling] = contextvars.ContextVar(
    "tfkd_spelling", default=_in_python
)


def argument(
    name: str, value: object = ..., *, of: str = "", like: str = "", alone: bool = False
) -> str:
    """Name an argument in a message, as the caller of tfkd writes it.

    Args:
        name: The argument's name in Python.
        value: The value to give it. Defaults to no value.
        of: The function that takes the argument, if the caller called another one.
        like: What to show instead of a value, such as `"{name: shape}"`; in Python only.
        alone: Whether Python shows the name without `=`.

    Example:
        >>> f"take {argument('recurrent', 'step')} or {argument('shapes', of='to_tflite')}"
        "take recurrent='step' or to_tflite(..., shapes=)"
    """
    return _spelling.get()(name, value, of, like, alone)


def spelling() -> Spelling:
    """Return how messages name arguments here, for a child process."""
    return _spelling.get()


@contextlib.contextmanager
def spelled(spelling: Spelling) -> Iterator[None]:
    """Let messages that are created in this context name arguments in another way."""
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)


_INDEX = "docs/errors.md#"


class TfkdError(Exception):
    """Base of every error tfkd raises on purpose.

    A refusal of a model names its entry in the error index at the end of its message.

    Args:
        args: The message.
        code: Id of the entry in `docs/errors.md`.
    """

    def __init__(self, *args: object, code: str = ""):
        if code:  # in the text, which survives other processes and quoting in other messages
            message = str(args[0])
            stop = "." if message.endswith(".") else ""
            args = (f"{message.removesuffix('.')} ({_INDEX}{code}){stop}", *args[1:])
        super().__init__(*args)

    @property
    def code(self) -> str:
        """Id of this refusal's entry in the error index; empty for other errors."""
        return (re.findall(rf"{re.escape(_INDEX)}([\w-]+)", str(self)) or [""])[-1]

    def __str__(self):
        return printable(super().__str__())  # it may quote names from a file


class InputError(TfkdError, ValueError):
    """An argument, a file or a data set is not what the call can take."""


class UnsupportedError(TfkdError, ValueError):
    """A model uses something that the requested step does not support."""


class MissingDependencyError(TfkdError, ImportError):
    """A package that this step needs is not installed, or is the wrong one."""


class ConversionError(TfkdError, RuntimeError):
    """A model could not be turned into a `.tflite` file that runs."""


class TeacherWarning(UserWarning):
    """A teacher that can't help: at chance level, with other classes, or worse than the student."""


class WorkerError(TfkdError, RuntimeError):
    """A child process failed: an exception in it, a signal or a time limit.

    Attributes:
        signal: Number of the signal that ended the child, or `None`.
        timed_out: Whether the time limit ended the child.
        out_of_memory: Whether it ran out of memory, as far as can be seen.
        details: The child's traceback or last words, for a log.
    """

    def __init__(
        self,
        message: str,
        *,
        signal: int | None = None,
        timed_out: bool = False,
        out_of_memory: bool = False,
        details: str = "",
    ):
        super().__init__(message)
        self.signal = signal
        self.timed_out = timed_out
        self.out_of_memory = out_of_memory
        self.details = details

    def because(self, context: str) -> WorkerError:
        """Return the same error, with what was being done put in front of its message."""
        return _rebuild_worker_error(f"{context}: {self}", self._attributes())

    def __reduce__(self):
        return _rebuild_worker_error, (str(self), self._attributes())

    def _attributes(self) -> dict[str, object]:
        names = ("signal", "timed_out", "out_of_memory", "details")
        return {name: getattr(self, name) for name in names}


def _rebuild_worker_error(message, attributes):
    return WorkerError(message, **attributes)


def of_a_worker(error: BaseException | None) -> bool:
    """Tell whether an error comes from a child process that failed, and may be gone the next time.

    Args:
        error: The error, or one that it was raised from.
    """
    return error is not None and (isinstance(error, WorkerError) or of_a_worker(error.__cause__))


def raise_all(
    problems: Iterable[str], kind: type[TfkdError] = InputError, *, fix: str = "", code: str = ""
):
    """Raise one error that names every problem found, or return if there is none.

    Args:
        problems: One sentence fragment per problem, without a final full stop.
        kind: The exception class to raise.
        fix: What to do next; appended once.
        code: As in `TfkdError`.

    Raises:
        TfkdError: of class `kind`, when `problems` is not empty.
    """
    problems = list(problems)
    if not problems:
        return
    message = "; ".join(problems) + "."
    message = f"{message} {fix}" if fix else message
    raise kind(message, code=code) if code else kind(message)
