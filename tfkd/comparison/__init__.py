"""Which way of distilling helps on this data: several compared on equal terms, with intervals.

study.py     `compare`: checks, runs, choice, report
methods.py   ways of distilling by name, and which of them fit a task
students.py  the same untrained student for every method of a seed
runs.py      one run: a student trained by one method with one seed, and its score
search.py    Optuna over method, alpha and temperature
store.py     finished runs, in memory or in a folder
spelling.py  the Python that repeats a run
result.py    `Comparison`: the result, as a table and a picture
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
