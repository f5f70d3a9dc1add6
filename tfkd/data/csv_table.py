"""CSV files with a header: a line holds an example, or a step of a series."""

from __future__ import annotations

import array
import csv
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfkd.data import labels as labels_
from tfkd.data.samples import Data
from tfkd.data.series import windows
from tfkd.errors import InputError, argument

if TYPE_CHECKING:
    from tfkd._typing import PathLike

_LARGEST = float(np.finfo("float32").max)


def load_csv(
    path: PathLike,
    label: str | Sequence[str] = "label",
    features: Sequence[str] | None = None,
    delimiter: str = ",",
    class_names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    r"""Read a CSV file whose first line names its columns.

    For the steps of a series in time order, see `windows_of_csv`.

    Args:
        path: The file, in UTF-8.
        label: The column of the labels. Texts become class numbers, in the order of `class_names`
            or else in alphabetical order; whole numbers are class numbers, and numbers with a
            point are values. Several columns are several labels per example (0 and 1), or several
            values.
        features: The columns of the features. Defaults to all others.
        delimiter: The character between two columns.
        class_names: The texts of the labels, in the order of the class numbers.

    Returns:
        Features, float32 of shape (lines, columns); labels of shape (lines,) or (lines, columns);
        and the names of the classes, if the labels are texts.

    Raises:
        InputError: if the file can't be read, lacks a column, or has an invalid number; the message
            gives the line.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "plants.csv")
        >>> _ = path.write_text("width,height,label\n1.5,2,oak\n0.5,1,fir\n")
        >>> x, y, names = load_csv(path)
        >>> x.tolist(), y.tolist(), names
        ([[1.5, 2.0], [0.5, 1.0]], [1, 0], ('fir', 'oak'))
    """
    x, y, names, _ = _read(path, label, features, delimiter, class_names)
    return x, y, names


def windows_of_csv(
    path: PathLike,
    label: str | Sequence[str] = "label",
    features: Sequence[str] | None = None,
    class_names: Sequence[str] = (),
    *,
    length: int,
    horizon: int | None = None,
    **shares: float,
) -> Data:
    """Read a CSV file with a step of a series per line, in time order, as windows.

    Args:
        path: The file, as for `load_csv`.
        label: What to learn. Columns that are among the features are forecast; other columns hold
            the label of each step, as for `load_csv`.
        features: The columns of the features. Defaults to all but those of labels.
        class_names: As for `load_csv`.
        length: Steps in a window.
        horizon: Steps to forecast, 1 by default. With labels of steps, the number of steps from the
            end of the window to the labelled step; 0 by default, the last step itself.
        **shares: `test` and `validation`, as for `windows`.

    Returns:
        A `Data`, split by time, see `windows`.

    Raises:
        InputError: as `load_csv` and `windows`, and for columns of which some are features.
    """
    x, y, names, chosen = _read(path, label, features, ",", class_names, overlap=True)
    wanted = [label] if isinstance(label, str) else list(label)
    targets = [chosen.index(name) for name in wanted if name in chosen]
    name = pathlib.Path(path).stem
    if not targets:
        horizon = 0 if horizon is None else horizon
        return windows(x, length, horizon, labels=y, class_names=names, name=name, **shares)
    if len(targets) < len(wanted):
        raise InputError(
            f"Of the columns {', '.join(wanted)} some are features and some are not: forecast "
            "features, or give the labels of steps."
        )
    if class_names:
        raise InputError(
            f"{argument('class_names', alone=True)} are for labels, and {', '.join(wanted)} is "
            "forecast: leave them out."
        )
    horizon = 1 if horizon is None else horizon
    return windows(x, length, horizon, targets=targets, name=name, **shares)


def _read(
    path: PathLike, label, features, delimiter: str, class_names, overlap: bool = False
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], list[str]]:
    """Return features, labels, names of classes, and the columns of the features.

    Args:
        path: As for `load_csv`, and so the next ones.
        label: As there.
        features: As there.
        delimiter: As there.
        class_names: As there.
        overlap: Whether labels may be among the features.
    """
    path = pathlib.Path(path)
    wanted = [label] if isinstance(label, str) else list(label)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            chosen = [name for name in header if name not in wanted]
            chosen = chosen if features is None else list(features)
            _check_header(path, header, wanted, chosen, delimiter, overlap)
            x, texts, lines = _columns(path, reader, header, chosen, wanted)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"Cannot read {str(path)!r} as CSV: {error}.") from error
    if not lines:
        raise InputError(f"{path.name} holds no examples: it ends after the header.")
    columns = [
        _labels(path, name, [row[i] for row in texts], lines, isinstance(label, str))
        for i, name in enumerate(wanted)
    ]
    names: tuple[str, ...] = ()
    y = columns[0] if isinstance(label, str) else np.stack(columns, 1)
    if y.dtype.kind == "U":
        y, names = labels_.numbered(y, class_names)
    return np.asarray(x, "float32").reshape(len(lines), len(chosen)), y, names, chosen


def _check_header(path, header, wanted, chosen, delimiter, overlap) -> None:
    """Raise for columns that are missing or occur twice."""
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(
            f"{path.name} has several columns named {twice[0]!r}; give each its own name."
        )
    lacks = [name for name in (*wanted, *chosen) if name not in header]
    if lacks:
        shown = ", ".join(map(repr, header[:12])) + (", ..." if len(header) > 12 else "")
        hint = argument("label", like="'column'") if lacks[0] in wanted else argument("features")
        other = next((mark for mark in ";\t|" if mark in "".join(header)), None)
        more = ""
        if len(header) == 1 and other:
            more = f", or read it with {argument('delimiter', other, of='load_csv')}"
        raise InputError(
            f"{path.name} has no column {lacks[0]!r}; its first line names {shown or 'none'}. "
            f"Say which with {hint}{more}."
        )
    if not chosen or (set(chosen) & set(wanted) and not overlap):
        raise InputError(
            f"{path.name} needs feature columns besides the label columns ({', '.join(wanted)})."
        )


def _columns(path, reader, header, chosen, wanted):
    """Return the features in a row, the labels as text per line, and the line numbers."""
    places = [header.index(name) for name in chosen]
    of_labels = [header.index(name) for name in wanted]
    x, texts, lines = array.array("f"), [], []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(
                f"Line {reader.line_num} of {path.name} has {len(row)} columns, and the header has "
                f"{len(header)}."
            )
        try:
            values = [float(row[place]) for place in places]
        except ValueError:
            values = [math.nan]
        if not all(abs(value) <= _LARGEST for value in values):  # or not a number
            place = next(i for i in places if not _is_number(row[i]))
            raise InputError(
                f"Line {reader.line_num} of {path.name} has {row[place]!r} in column "
                f"{header[place]!r}, which must hold numbers; fill it in, or leave the column out "
                f"with {argument('features')}."
            )
        x.extend(values)
        texts.append([row[place].strip() for place in of_labels])
        lines.append(reader.line_num)
    return x, texts, lines


def _labels(path, name, texts, lines, may_be_text) -> np.ndarray:
    """Return one column of labels as int64, float32 or texts."""
    numbers = [_is_number(text) for text in texts]
    if may_be_text and not any(numbers):
        if all(texts):
            return np.array(texts)
        raise InputError(
            f"Line {lines[texts.index('')]} of {path.name} has no label in the column {name!r}."
        )
    if not all(numbers):
        row = numbers.index(False)
        want = "numbers, or only texts that are not numbers" if may_be_text else "numbers"
        raise InputError(
            f"Line {lines[row]} of {path.name} has {texts[row]!r} in the label column {name!r}, "
            f"which must hold {want}, as the other lines do."
        )
    values = np.array([float(text) for text in texts])
    whole = all(text.lstrip("+-").isdigit() for text in texts)
    return values.astype("int64" if whole else "float32")


def _is_number(text: str) -> bool:
    """Tell whether a text is a number that float32 holds."""
    try:
        return abs(float(text)) <= _LARGEST
    except ValueError:
        return False
