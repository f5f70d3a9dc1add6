"""The public names of `tfkd.comparison`, for type checkers, editors and `__init__.py`."""

from .result import Comparison as Comparison
from .study import compare as compare
