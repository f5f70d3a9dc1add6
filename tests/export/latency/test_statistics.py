"""The intervals contain the known true value as often as they claim."""

import numpy as np
import pytest

from tfkd.export.latency import statistics


def turns(rng, level, processes=5, count=20, of_process=0.005, of_turn=0.02, drift=None):
    """Make medians of turns, (processes, turns), with the two kinds of scatter that there are."""
    logs = np.log(level) + rng.normal(0, of_process, (processes, 1))
    logs = logs + rng.normal(0, of_turn, (processes, count))
    return np.exp(logs if drift is None else logs + drift)


@pytest.mark.parametrize("true", [1.0, 1.03, 0.5])
def test_the_interval_of_a_ratio_holds_the_truth(true):
    rng, held = np.random.default_rng(2), 0
    for seed in range(60):
        ratio, (low, high) = statistics.ratio(turns(rng, 10 * true), turns(rng, 10), seed)
        assert low <= ratio <= high
        held += low <= true <= high
    # 54 or more have a chance of 97 % if 95 % hold.
    assert held >= 54


def test_one_process_would_not_tell_that_processes_differ():
    # What the many processes are for: the same total number of turns in one process.
    rng, held = np.random.default_rng(3), 0
    for seed in range(40):
        one = [turns(rng, 10, processes=1, count=100, of_process=0.02) for _ in range(2)]
        _, (low, high) = statistics.ratio(*one, seed)
        held += low <= 1 <= high
    assert held < 30


def test_a_drift_of_the_machine_cancels_in_the_ratio():
    rng = np.random.default_rng(4)
    drift = np.linspace(0, 1, 100).reshape(5, 20)  # almost three times as slow in the end
    ratio, (low, high) = statistics.ratio(
        turns(rng, 20, drift=drift), turns(rng, 10, drift=drift), 0
    )
    assert ratio == pytest.approx(2.0, rel=0.01)
    assert high - low < 0.1


def test_a_disturbance_of_some_turns_does_not_count():
    rng = np.random.default_rng(5)
    file, baseline = turns(rng, 10), turns(rng, 10)
    file[rng.random(file.shape) < 0.2] *= 3
    ratio, _ = statistics.ratio(file, baseline, 0)
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_the_interval_of_the_median_respects_autocorrelation():
    # A level that wanders from turn to turn: calls of a turn are far from independent.
    rng, held, naive = np.random.default_rng(6), 0, 0
    for seed in range(60):
        times = []
        for _ in range(5):
            level = 100 + np.cumsum(rng.normal(0, 0.5, 20)) * 0.5 + rng.normal(0, 1)
            times.append([rng.normal(one, 0.3, 15) for one in level])
        median, (low, high) = statistics.median(times, seed)
        assert low <= median <= high
        held += low <= 100 <= high
        every = np.concatenate([turn for process in times for turn in process])
        naive += abs(median - 100) <= 1.96 * 1.25 * every.std() / np.sqrt(len(every))
    assert held >= 52
    assert naive < 30


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(7)
    a, b = turns(rng, 10), turns(rng, 11)
    assert statistics.ratio(a, b, 3) == statistics.ratio(a, b, 3)
    assert statistics.ratio(a, b, 3)[1] != statistics.ratio(a, b, 4)[1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (3, 2)])
def test_little_data_gives_an_interval_all_the_same(shape):
    rng = np.random.default_rng(8)
    times = [[rng.random(1) + 1 for _ in range(shape[1])] for _ in range(shape[0])]
    median, (low, high) = statistics.median(times, 0)
    assert 0 < low <= median <= high
    medians = np.array([[turn[0] for turn in process] for process in times])
    ratio, (low, high) = statistics.ratio(medians, medians * 2, 0)
    assert (ratio, low, high) == pytest.approx((0.5, 0.5, 0.5))
