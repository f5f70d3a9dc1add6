"""The time for a run, as people write it."""

import time

import pytest

from tfkd.compression.budget import Budget
from tfkd.errors import InputError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(90, 90.0), ("90", 90.0), ("20min", 1200.0), ("20 m", 1200.0), ("1.5h", 5400.0), (None, None)],
)
def test_a_time_is_read(given, seconds):
    assert Budget.of(given).seconds == seconds


@pytest.mark.parametrize("given", [0, -3, "soon", "", True, float("inf"), "3 days", "0s"])
def test_what_is_no_time_is_refused(given):
    with pytest.raises(InputError, match="budget must be"):
        Budget.of(given)


def test_time_runs():
    budget = Budget.of(100)
    time.sleep(0.02)
    assert budget.spent >= 0.02 and budget.left == pytest.approx(100 - budget.spent, abs=0.01)
    assert Budget.of(None).left == float("inf")
