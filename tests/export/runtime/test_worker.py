"""A child may die of anything; the parent gets one error and goes on."""

import faulthandler
import operator
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from tfkd import data
from tfkd.errors import InputError, WorkerError
from tfkd.export.runtime import worker as sandbox


@pytest.fixture(scope="module")
def worker():
    with sandbox.Worker() as worker:
        yield worker


def test_values_travel(worker):
    x = np.arange(1_000_000, dtype="float32")
    np.testing.assert_array_equal(worker.call(operator.neg, x), -x)


def test_state_stays_and_the_process_is_another(worker):
    assert worker.call(os.getpid) == worker.call(os.getpid) != os.getpid()


def test_what_the_child_prints_does_not_disturb_the_answers(worker):
    worker.call(print, "to stdout")
    worker.call(os.write, 1, b"to the raw descriptor\n")
    assert worker.call(abs, -1) == 1


def test_a_function_runs_first_and_its_failure_is_left_to_the_calls():
    for first, answer in ((faulthandler.enable, True), (operator.neg, False)):
        with sandbox.Worker() as worker:
            worker.start(first)
            assert worker.call(faulthandler.is_enabled) is answer


def test_exceptions_come_back(worker):
    with pytest.raises(WorkerError, match="ZeroDivisionError") as error:
        worker.call(divmod, 1, 0)
    assert "Traceback" in error.value.details
    with pytest.raises(InputError, match="no examples"):
        worker.call(data.Samples, [], [])


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (faulthandler._sigsegv, (), "SIGSEGV"),
        (faulthandler._sigabrt, (), "SIGABRT"),
        (signal.raise_signal, (signal.SIGKILL,), "SIGKILL"),
    ],
)
def test_a_death_by_signal_is_an_error_and_the_next_call_works(worker, function, arguments, name):
    with pytest.raises(WorkerError, match=name) as error:
        worker.call(function, *arguments)
    assert error.value.signal == getattr(signal, name)
    assert worker.call(abs, -1) == 1


def test_an_exit_is_an_error(worker):
    with pytest.raises(WorkerError, match="ended with status 3"):
        worker.call(os._exit, 3)


def test_a_hang_ends_with_its_time(worker):
    start = time.monotonic()
    with pytest.raises(WorkerError, match="within 0.5 s") as error:
        worker.call(time.sleep, 60, timeout=0.5)
    assert error.value.timed_out
    assert time.monotonic() - start < 10
    assert worker.call(abs, -1) == 1


def test_the_callers_main_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nfrom tfkd.export.runtime import worker\n"
        "print(worker.shared().call(abs, -5))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["once", "5"], done.stderr


def test_the_child_leaves_with_its_parent(tmp_path):
    script = (
        "import os, time; from tfkd.export.runtime import worker as sandbox;"
        "print(sandbox.shared().call(os.getpid), flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    child = int(done.stdout)
    for _ in range(50):
        if not os.path.exists(f"/proc/{child}"):
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent by five seconds")


def test_an_allocation_that_fails_says_so_and_the_child_goes_on():
    with sandbox.Worker(memory_bytes=64 << 20) as worker:
        child = worker.call(os.getpid)
        with pytest.raises(WorkerError, match=r"ran out of memory \(MemoryError"):
            worker.call(bytearray, 128 << 20)
        assert len(worker.call(bytes, 16 << 20)) == 16 << 20
        assert worker.call(os.getpid) == child


def test_an_answer_that_does_not_fit_into_the_childs_memory_is_an_error():
    with (
        sandbox.Worker(memory_bytes=64 << 20) as worker,
        pytest.raises(WorkerError, match="ran out of memory"),
    ):
        worker.call(bytes, 48 << 20)  # held, and packed: twice as much


def test_by_default_a_child_may_have_what_the_machine_has(worker):
    resource = pytest.importorskip("resource")
    limit, most = worker.call(resource.getrlimit, resource.RLIMIT_DATA)
    assert sandbox.free_bytes() < limit < 2 * sandbox.free_bytes() + (64 << 30)
    assert most == resource.getrlimit(resource.RLIMIT_DATA)[1]


def test_the_system_ends_the_child_first_and_keeps_no_core(worker):
    resource = pytest.importorskip("resource")
    path = pathlib.Path("/proc/self/oom_score_adj")
    assert int(worker.call(pathlib.Path.read_text, path)) == 1000 > int(path.read_text())
    assert worker.call(resource.getrlimit, resource.RLIMIT_CORE) == (0, 0)


def test_a_death_by_an_allocation_in_cpp_says_so_but_earlier_words_do_not_count(worker):
    words = "__import__('os').write(2, b'what():  std::bad_alloc')"
    with pytest.raises(WorkerError, match=r"ran out of memory \(status -6\)") as error:
        worker.call(eval, f"{words} and __import__('os').abort()")
    assert error.value.signal == signal.SIGABRT
    worker.call(eval, words)
    with pytest.raises(WorkerError, match="died by SIGSEGV"):
        worker.call(faulthandler._sigsegv)


def test_an_answer_larger_than_the_memory_here_is_not_taken(worker, monkeypatch):
    monkeypatch.setattr(sandbox, "free_bytes", lambda: 100 << 20)
    with pytest.raises(WorkerError, match=r"answer has 68,\d+,\d+ bytes, too many"):
        worker.call(bytes, 65 << 20)
    assert worker.call(abs, -1) == 1


def test_answers_that_cant_be_packed_or_unpacked_are_errors(worker, monkeypatch):
    for value in ("lambda: 0", "{1, 2}", "object()", "1j"):
        with pytest.raises(WorkerError, match="can't be sent as data"):
            worker.call(eval, value)
    with monkeypatch.context() as patch:
        patch.setattr(sandbox.answers, "_MOST_JSON", 4)
        with pytest.raises(WorkerError, match="no valid answer .its head would have 21 bytes"):
            worker.call(abs, -1)
    assert worker.call(abs, -1) == 1


class _Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_child_that_a_file_took_over_can_run_nothing_here(worker, tmp_path):
    payload = pickle.dumps(_Payload(tmp_path / "ran"))
    pickle.loads(payload)
    (tmp_path / "ran").rmdir()  # so it does work
    for answer in (payload, struct.pack("<Q", len(payload)) + payload, b"", b"\xff" * 100):
        worker.call(exec, f"{_TAKEN}.encode = lambda value: {answer!r}")
        with pytest.raises(WorkerError, match="gave no valid answer"):
            worker.call(abs, -1)
    assert not (tmp_path / "ran").exists()
    assert worker.call(abs, -1) == 1


_TAKEN = "from tfkd.export.runtime import answers; answers"


def test_a_child_that_died_unseen_is_an_error(worker, monkeypatch):
    worker.call(abs, -1)
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    with monkeypatch.context() as patch:
        patch.setattr(sandbox.Worker, "alive", True)
        with pytest.raises(WorkerError, match="SIGKILL"):
            worker.call(len, bytes(10 << 20))
    assert worker.call(abs, -1) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_gets_a_child_of_its_own():
    script = (
        "import os; from tfkd.export.runtime import worker as sandbox\n"
        "ask = sandbox.shared().call\n"
        "child = ask(os.getpid)\n"
        "fork = os.fork()\n"
        "other = ask(os.getpid)\n"
        "assert (other == child) == bool(fork)\n"
        "if fork: assert os.waitpid(fork, 0)[1] == 0 and ask(os.getpid) == child; print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["fine"], done.stderr
