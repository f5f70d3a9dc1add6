"""The output of C and C++ libraries on stderr, the only place where they give their reasons."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], list[str]]]:
    """Capture the process's stderr, whichever library writes to it.

    Yields:
        A function that returns the lines written so far, stripped and without empty ones.
        Call it within the `with` block.
    """
    with tempfile.TemporaryFile() as log:

        def lines() -> list[str]:
            log.seek(0)
            text = log.read().decode(errors="replace")
            return [line.strip() for line in text.splitlines() if line.strip()]

        kept = os.dup(2)
        sys.stderr.flush()
        os.dup2(log.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
