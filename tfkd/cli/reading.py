"""Input of the commands: data, and numbers as people write them."""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile

from tfkd.errors import InputError


def load_data(path):
    """Return the data of `--data`."""
    from tfkd.data import load_npz

    if not os.path.isfile(path):  # shorter than NumPy's message
        raise InputError(f"There is no file {str(path)!r} for --data.")
    return load_npz(path)


def percentage(text: str) -> float:
    """Read `0.5%` or `0.005` as a number of at least 0."""
    from tfkd.compression.settings import parse_percentage

    value = parse_percentage(text)
    if isinstance(value, str) or not 0.0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number such as 0.5% or 0.005, got {text!r}")
    return value


def amount(text: str) -> float | int:
    """Read a number above zero; below 1 it is a fraction of the teacher's value."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1e18:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return int(value) if value.is_integer() else value


def size(text: str) -> float | int:
    """Read bytes as `64k`, `1M` or `65536`; below 1 it is a fraction of the teacher's value."""
    from tfkd.export.micro.boards import parse_size

    try:
        return parse_size(text) or amount(text)
    except InputError:
        return amount(text)


def shape(text: str) -> tuple[str, tuple[int | None, ...]]:
    """Read an input's name and its sizes, as `token_ids=1,128`; a `?` leaves a size free."""
    name, equals, sizes = text.rpartition("=")
    parts = [part.strip() for part in sizes.split(",")]
    if not (name and equals) or not all(
        part == "?" or (part.isdecimal() and 0 < int(part) < 2**31) for part in parts
    ):
        raise argparse.ArgumentTypeError(
            "must be an input's name and its sizes, the batch first, such as token_ids=1,128, "
            f"got {text!r}"
        )
    return name, tuple(None if part == "?" else int(part) for part in parts)


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text!r}")
    return value


def seconds(text: str) -> float:
    """Read a number of seconds above zero."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number of seconds > 0, got {text!r}")
    return value


def whole_number(least: int):
    """Return a function that reads a whole number of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= 2**31 - 1:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {least}, got {text!r}"
            )
        return value

    return parse


def check_target(out: pathlib.Path, inputs, force: bool):
    """Raise for a file that can't be written, before minutes of work."""
    if out.is_dir():
        raise InputError(f"{str(out)!r} is a folder; name a file.")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}.")
    if out.exists():
        for path in inputs:
            if path and os.path.exists(path) and out.samefile(path):
                raise InputError(f"{str(out)!r} is an input file; name another file.")
        if not force:
            raise InputError(f"{str(out)!r} exists; name another file, or replace it with --force.")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"Cannot write {str(out)!r}: {error.strerror or error}.") from error
