"""The child process in which converters and trial interpreters may die.

A `Worker` is a Python process that runs functions of importable modules and sends their results
back as data (`answers`), since a hostile file may control the process. It is started as a
fresh interpreter, not forked and not through `multiprocessing`, so the caller's `__main__` is
never run a second time. A child that dies by a signal, hangs, or is killed for lack of memory
raises a `WorkerError` here.

On Linux a child gets no more memory than the machine has, and the system ends it first if memory
runs out: a file that claims too much memory can't take its reader down.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import pathlib
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

from tfkd.errors import TfkdError, WorkerError, spelled, spelling
from tfkd.export.runtime import answers

_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from tfkd.export.runtime import worker; worker._serve({parent}, {first!r})"
)
_HEADER = struct.Struct("<Q")
_OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "out of memory")
# Answers up to this many bytes are read without a check of the free memory.
_LARGE = 64 << 20
# Bytes that a process may reserve and never use, mostly for the stacks of its threads.
_RESERVED, _RESERVED_PER_CORE = 4 << 30, 64 << 20


class Worker:
    """One child process that runs functions until it is closed.

    State that a function keeps at module level stays for the next call, so a later call
    can use an interpreter that an earlier call opened.

    Use it as a context manager, or call `close`. It starts at the first call.

    Args:
        memory_bytes: Bytes that a call may allocate beyond the child's present memory (Linux
            only). Defaults to the machine's free memory.
    """

    def __init__(self, memory_bytes: int | None = None):
        self._memory = memory_bytes
        self._process = None
        self._errors, self._said = None, 0
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, first=None) -> None:
        """Start the child if it does not run; returns at once, while it still imports.

        Args:
            first: A module-level function that a new child runs before it answers, for example to
                import packages for later calls. If it fails, these calls give the reason.
        """
        if self.alive:
            return
        self.close()
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        path = [entry or os.getcwd() for entry in sys.path]
        first = None if first is None else (first.__module__, first.__qualname__)
        start = _START.format(path=path, parent=os.getpid(), first=first)
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            # The parent handles a Ctrl-C in the terminal; the child then sees the end of its
            # input and exits.
            start_new_session=True,
        )

    def call(self, function, *args, timeout: float | None = None, **kwargs):
        """Run `function(*args, **kwargs)` in the child and return its result.

        Args:
            function: A module-level function, sent by name. `answers` must be able to pack its
                result, and the result must match its return annotation.
            *args: Positional arguments, pickled.
            timeout: Seconds after which the child is ended.
            **kwargs: Keyword arguments, pickled.

        Raises:
            TfkdError: if the function raised one; it is raised again.
            WorkerError: for any other exception in the function, if the child dies, sends an
                invalid answer, or runs out of time or memory.
        """
        with self._lock:
            self.start()
            self._said = os.fstat(self._errors.fileno()).st_size
            name = (function.__module__, function.__qualname__)
            request = (*name, args, kwargs, self._memory, spelling())
            try:
                data = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
                _write(self._process.stdin, data)
                return self._answer(function, timeout)
            except TfkdError:
                raise
            except (BrokenPipeError, EOFError):
                raise self._death() from None
            except BaseException:
                # Interrupted between request and answer: the child is out of sync.
                self._end()
                raise

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
        with contextlib.suppress(OSError):  # requests that could not be written to a dead child
            process.stdin.close()
        process.stdout.close()

    def _answer(self, function, timeout):
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
                return parts

            size = _HEADER.unpack(read(_HEADER.size))[0]
            free = free_bytes() if size > _LARGE else None
            if free is not None and 2 * size > free:  # packed and unpacked
                self._end()
                raise WorkerError(
                    f"The child's answer has {size:,} bytes, too many for the {free:,} bytes of "
                    "free memory here."
                )
            data = read(size)
        try:
            return answers.decode(data, function)
        except TfkdError:
            raise
        except MemoryError:
            raise WorkerError(
                f"Out of memory: the child's answer has {size:,} bytes.", out_of_memory=True
            ) from None
        except Exception as error:  # a damaged process, or no longer ours
            self._end()
            raise WorkerError(f"The child process gave no valid answer ({error}).") from None

    def _timeout(self, timeout):
        self._end()
        return WorkerError(
            f"The child process did not answer within {timeout:g} s and was stopped.",
            timed_out=True,
            details=self._last_words(),
        )

    def _death(self):
        code = self._process.wait()
        details = self._last_words()
        self._end()
        number = -code if code < 0 else None
        out_of_memory = _is_out_of_memory(self._last_words(self._said))
        if out_of_memory:
            reason = f"ran out of memory (status {code})"
        elif number is not None:
            try:
                reason = f"died by {signal.Signals(number).name}"
            except ValueError:  # a real-time signal
                reason = f"died by signal {number}"
            if number == signal.SIGKILL:
                reason += " (often because the system runs out of memory)"
                out_of_memory = True
        else:
            reason = f"ended with status {code}"
        return WorkerError(
            f"The child process {reason}.",
            signal=number,
            out_of_memory=out_of_memory,
            details=details,
        )

    def _last_words(self, since: int = 0) -> str:
        self._errors.seek(since)
        return self._errors.read().decode(errors="replace")[-4000:]


_shared = Worker()
atexit.register(_shared.close)
_of_the_parent = []


def _leave_to_the_parent() -> None:
    """Leave the child to the parent after a fork: two processes can't both use it."""
    _of_the_parent.append((_shared._process, _shared._errors))
    _shared.__init__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def shared() -> Worker:
    """Return the process-wide warm worker: TensorFlow is imported in it once."""
    return _shared


def free_bytes() -> int | None:
    """Return the free memory of this machine or container in bytes, `None` if unknown."""
    found = sizes("/proc/meminfo", "MemAvailable", "SwapFree")
    if not found:
        return None
    most = pathlib.Path("/sys/fs/cgroup/memory.max")
    try:
        return min(sum(found), int(most.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return sum(found)


def sizes(path: str, *names: str) -> list[int]:
    """Return the bytes of named entries of a system's table (Linux), without missing ones."""
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except OSError:
        return []
    table = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return [int(table[name][0]) << 10 for name in names if name in table]


@contextlib.contextmanager
def _limited(memory_bytes: int | None):
    """Limit the memory of this process beyond its present use; in the child."""
    held, free = sizes("/proc/self/status", "VmData"), free_bytes()
    if not held or free is None:
        yield
        return
    import resource

    more = memory_bytes
    if more is None:
        more = free + _RESERVED + _RESERVED_PER_CORE * (os.cpu_count() or 1)
    # RLIMIT_DATA counts only private writable mappings. TensorFlow reserves gigabytes of
    # addresses, which RLIMIT_AS would count.
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held[0] + more
    for other in (before, most):
        limit = limit if other == resource.RLIM_INFINITY else min(limit, other)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _be_the_first_to_go() -> None:
    """Make the system end this process, not its parent, if memory runs out, without a core dump."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(parent: int, first: tuple[str, str] | None = None) -> None:
    """Run `first`, then answer requests until the input ends; runs in the child."""
    _be_the_first_to_go()
    requests = os.fdopen(os.dup(0), "rb")
    stream = os.fdopen(os.dup(1), "wb")
    # No output of Python or C++ on stdout may reach the answers.
    os.dup2(2, 1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    if first is not None:
        with contextlib.suppress(Exception):  # calls that need it fail with the reason
            _named(*first)()
    while True:
        try:
            *request, words = _read(requests)
        except EOFError:
            return
        with spelled(words):  # errors name arguments as the parent's caller writes them
            _write(stream, _answer_to(*request))


def _answer_to(module, name, args, kwargs, memory) -> bytes:
    try:
        with _limited(memory):
            return answers.encode(_named(module, name)(*args, **kwargs))
    except TfkdError as error:
        return answers.encode_error(error)
    except MemoryError as error:
        summary = f"The child process ran out of memory (MemoryError: {error})."
        return answers.encode_error(
            WorkerError(summary, out_of_memory=True, details=traceback.format_exc())
        )
    except Exception as error:
        summary = f"{type(error).__name__}: {error}"
        told = {"details": traceback.format_exc(), "out_of_memory": _is_out_of_memory(summary)}
        return answers.encode_error(WorkerError(summary, **told))


def _named(module: str, name: str):
    """Return the function with a module and name."""
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def _is_out_of_memory(said: str) -> bool:
    return any(text in said for text in _OUT_OF_MEMORY)


def _leave_with(parent: int) -> None:
    """End this process soon after its parent ends, even during a long call."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _write(stream, data: bytes):
    stream.write(_HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream):
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    return pickle.loads(stream.read(_HEADER.unpack(header)[0]))
