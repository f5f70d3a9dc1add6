"""A child may die of anything; the parent gets one error and goes on."""

import faulthandler
import operator
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tfkd.export import sandbox

from tfkd import data
from tfkd.errors import InputError, WorkerError


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
        "print('once')\nfrom tfkd.export import sandbox\nprint(sandbox.shared().call(abs, -5))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["once", "5"], done.stderr


def test_the_child_leaves_with_its_parent(tmp_path):
    script = (
        "import os, time; from tfkd.export import sandbox;"
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
