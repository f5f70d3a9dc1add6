"""A result records where it was measured, and what else ran there."""

import subprocess
import sys
import time

import pytest

from tfkd.export.runtime import host


def test_the_machine_is_described():
    told = host.describe()
    assert told["cpu"] and told["system"] and told["python"] == sys.version.split()[0]
    assert 1 <= told["cores"] <= 4096
    assert set(told) == {
        *("cpu", "cores", "governor", "memory_bytes", "system", "python", "load"),
    }
    if sys.platform == "linux":
        assert told["memory_bytes"] > 1e8 and len(told["load"]) == 3


def test_versions_of_what_is_installed_and_not():
    told = host.versions()
    assert told["numpy"].count(".") >= 2 and told["tensorflow"].startswith("2.")


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own counts")
def test_another_program_is_seen():
    others = host.Others()
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        began, own = time.monotonic(), time.process_time()
        while time.monotonic() < began + 2.0:
            pass
        own = time.process_time() - own
        assert others.since(own)["others"] > 0.1
    finally:
        program.kill()
        program.wait()


def test_our_own_time_is_taken_off(monkeypatch):
    ticks = iter([(100.0, 1.0), (103.0, 1.5), (103.0, 1.0)])
    clock = iter([10.0, 12.0, 12.0])
    monkeypatch.setattr(host, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(host.time, "monotonic", lambda: next(clock))
    others = host.Others()
    # Two cores for two seconds: 3 s of work, of which 2 were ours.
    assert others.since(2.0) == {"others": 0.5, "stolen": 0.25}
    assert others.since(5.0) == {"others": 0.0, "stolen": 0.0}


def test_a_system_that_tells_nothing(monkeypatch):
    monkeypatch.setattr(host, "_read", lambda path: "")
    monkeypatch.setattr(host.worker, "sizes", lambda path, *names: [])
    assert host.Others().since(1.0) == {"others": None, "stolen": None}
    told = host.describe()
    assert told["memory_bytes"] is None and told["governor"] is None and told["cpu"]
