"""The one family of exceptions that tfkd raises on purpose.

Every message says what was given, what is allowed and what to do next, in one
line, so that the command line can print it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfkd.escaping import printable


class TfkdError(Exception):
    """Base of every error tfkd raises on purpose."""

    def __str__(self):
        return printable(super().__str__())  # it may quote names from a file


class InputError(TfkdError, ValueError):
    """An argument, a file or a data set is not what the call can take."""


class UnsupportedError(TfkdError, ValueError):
    """A model uses something that the asked-for step cannot carry."""


class MissingDependencyError(TfkdError, ImportError):
    """A package that this step needs is not installed, or is the wrong one."""


class ConversionError(TfkdError, RuntimeError):
    """A model could not be turned into a `.tflite` file that runs."""


class TeacherWarning(UserWarning):
    """A teacher that can't help: no better than chance, of other classes, behind the student."""


class WorkerError(TfkdError, RuntimeError):
    """A child process failed: an exception in it, a signal or a time limit.

    Attributes:
        signal: Number of the signal that ended the child, or `None`.
        timed_out: Whether the child was ended because its time was up.
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
        """Return the same error with what was being done in front of its message."""
        return _rebuild_worker_error(f"{context}: {self}", self._attributes())

    def __reduce__(self):
        return _rebuild_worker_error, (str(self), self._attributes())

    def _attributes(self) -> dict[str, object]:
        names = ("signal", "timed_out", "out_of_memory", "details")
        return {name: getattr(self, name) for name in names}


def _rebuild_worker_error(message, attributes):
    return WorkerError(message, **attributes)


def raise_all(problems: Iterable[str], kind: type[TfkdError] = InputError, *, fix: str = ""):
    """Raise one error that tells every problem found, or return if there is none.

    Args:
        problems: One sentence fragment per problem, without a final full stop.
        kind: The exception class to raise.
        fix: What to do next; appended once.

    Raises:
        TfkdError: of class `kind`, when `problems` is not empty.
    """
    problems = list(problems)
    if not problems:
        return
    message = "; ".join(problems) + "."
    raise kind(f"{message} {fix}" if fix else message)
