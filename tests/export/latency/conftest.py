"""Restores the users' defaults of `benchmark`, which tests/conftest.py makes quick."""

import pytest
from quick_benchmark import USUAL

from tfkd.export import benchmark


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    for name, value in USUAL.items():
        monkeypatch.setitem(benchmark.__kwdefaults__, name, value)
