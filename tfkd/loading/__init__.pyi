"""The public names of `tfkd.loading`, for type checkers, editors and `__init__.py`."""

from .file_check import trusting as trusting
from .models import check as check
from .models import load_model as load_model
