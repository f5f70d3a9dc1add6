"""`Budget`: the time for a run, and how many epochs of it that leaves."""

from __future__ import annotations

import re
import time

from tfkd.compression.settings import is_above_zero
from tfkd.errors import InputError

_UNITS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|)")


class Budget:
    """A number of seconds, counted from its creation; `None` for no limit."""

    def __init__(self, seconds: float | None):
        self.seconds, self._start = seconds, time.monotonic()

    @classmethod
    def of(cls, given: float | str | None) -> Budget:
        """Read seconds, or text such as `"90"`, `"20min"` and `"1.5h"`.

        Raises:
            InputError: for anything else.
        """
        if given is None:
            return cls(None)
        found = _TIME.fullmatch(given.strip()) if isinstance(given, str) else None
        seconds = float(found.group(1)) * _UNITS[found.group(2)] if found else given
        if not is_above_zero(seconds):
            raise InputError(
                "budget must be a number of seconds > 0 or text such as '20min' or '2h', got "
                f"{given!r}."
            )
        return cls(float(seconds))

    @property
    def spent(self) -> float:
        """Seconds since it was created."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return float("inf") if self.seconds is None else self.seconds - self.spent

    def is_past(self, share: float) -> bool:
        """Tell whether more than a share of it is spent; never without a limit."""
        return self.seconds is not None and self.spent > share * self.seconds
