"""Functions for a child process, which imports modules of this folder but not of tests."""

from tfkd.errors import InputError, argument


def refuse() -> None:
    """Raise what names an argument."""
    raise InputError(f"give {argument('batch', 2, of='to_tflite')}")
