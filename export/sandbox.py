"""The child process in which converters and trial interpreters may die.

A `Worker` is a Python process that runs functions of importable modules and sends back
what they return. It is started as a fresh interpreter, not forked and not through
`multiprocessing`, so the caller's `__main__` is never run a second time. A child that
dies by a signal, hangs, or is killed for lack of memory becomes a `WorkerError` here.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from tfkd.errors import TfkdError, WorkerError

_START = (
    "import sys; sys.path[:] = {path!r}; from tfkd.export import sandbox; sandbox._serve({parent})"
)
_HEADER = struct.Struct("<Q")


class Worker:
    """One child process that runs functions until it is closed.

    State that a function keeps at module level stays for the next call, so a later call
    can go on with an interpreter that an earlier one opened.

    Use it as a context manager, or call `close`. It starts at the first call.
    """

    def __init__(self):
        self._process = None
        self._errors = None
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child if it does not run; returns at once, while it still imports."""
        if self.alive:
            return
        self.close()
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        path = [entry or os.getcwd() for entry in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=path, parent=os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            # A Ctrl-C in the terminal is the parent's to handle; the child then sees
            # the end of its input and leaves.
            start_new_session=True,
        )

    def call(self, function, *args, timeout: float | None = None, **kwargs):
        """Run `function(*args, **kwargs)` in the child and return its result.

        Args:
            function: A module-level function; it travels by name.
            *args: Positional arguments, pickled.
            timeout: Seconds after which the child is ended.
            **kwargs: Keyword arguments, pickled.

        Raises:
            TfkdError: one that the function raised itself.
            WorkerError: for any other exception in it, a death of the child, or when
                its time is up.
        """
        with self._lock:
            self.start()
            request = (function.__module__, function.__qualname__, args, kwargs)
            try:
                _write(self._process.stdin, request)
                ok, value = self._answer(timeout)
            except (BrokenPipeError, EOFError):
                raise self._death() from None
            except BaseException:
                # Interrupted between question and answer: the child is out of step.
                self._end()
                raise
        if ok:
            return value
        raise value

    def close(self) -> None:
        """End the child."""
        self._end()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _end(self):
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def _answer(self, timeout):
        stream = self._process.stdout
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)

            def read(size):
                parts = bytearray()
                while len(parts) < size:
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    if not selector.select(left):
                        raise self._timeout(timeout)
                    part = os.read(stream.fileno(), min(size - len(parts), 1 << 20))
                    if not part:
                        raise EOFError
                    parts += part
                return bytes(parts)

            return pickle.loads(read(_HEADER.unpack(read(_HEADER.size))[0]))

    def _timeout(self, timeout):
        self._end()
        return WorkerError(
            f"The child process did not answer within {timeout:g} s and was ended.",
            timed_out=True,
            details=self._last_words(),
        )

    def _death(self):
        code = self._process.wait()
        details = self._last_words()
        self._end()
        number = -code if code < 0 else None
        if number is not None:
            reason = f"died by {signal.Signals(number).name}"
            if number == signal.SIGKILL:
                reason += " (often the system running out of memory)"
        else:
            reason = f"ended with status {code}"
        return WorkerError(f"The child process {reason}.", signal=number, details=details)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]


_shared = Worker()
atexit.register(_shared.close)


def shared() -> Worker:
    """Return the process-wide warm worker: TensorFlow is imported in it once."""
    return _shared


def _serve(parent: int) -> None:
    """Answer requests until the input ends; runs in the child."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever prints to stdout, from Python or from C++, must not reach the answers.
    os.dup2(2, 1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    while True:
        try:
            module, name, args, kwargs = _read(requests)
        except EOFError:
            return
        try:
            function = importlib.import_module(module)
            for part in name.split("."):
                function = getattr(function, part)
            answer = (True, function(*args, **kwargs))
        except TfkdError as error:
            answer = (False, error)
        except Exception as error:
            summary = f"{type(error).__name__}: {error}"
            answer = (False, WorkerError(summary, details=traceback.format_exc()))
        _write(answers, answer)


def _leave_with(parent: int) -> None:
    """End this process soon after its parent, even in the middle of a long call."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _write(stream, value):
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream):
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    return pickle.loads(stream.read(_HEADER.unpack(header)[0]))
