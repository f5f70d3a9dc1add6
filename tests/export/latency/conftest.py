"""Here times matter: `benchmark` has the defaults of users, which tests/conftest.py makes quick."""

import pytest

from tfkd.export import benchmark


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    for name, value in {"processes": 5, "min_runs": 50, "min_seconds": 1.0}.items():
        monkeypatch.setitem(benchmark.__kwdefaults__, name, value)
