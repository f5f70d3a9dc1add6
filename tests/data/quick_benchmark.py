"""Defaults that make `benchmark` quick, for tests that don't depend on timings."""

from tfkd.export import benchmark

QUICK = {"processes": 1, "min_runs": 2, "min_seconds": 0.01}
#: Those of users, read before tests/conftest.py puts the quick ones in their place.
USUAL = {name: benchmark.__kwdefaults__[name] for name in QUICK}
