"""`fits`: does a model's file fit into a board's flash, and its arena into the RAM?

Makers count in kB and MB and mean 1,024 and 1,024² bytes; so do sizes here.
"""

from __future__ import annotations

import dataclasses
import operator
import re

from tfkd.errors import InputError, argument, raise_all
from tfkd.export.micro.board_table import BOARDS, Board
from tfkd.tables import Printed

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)(?:i?b)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Verdict(Printed):
    """Whether one resource is enough.

    Attributes:
        resource: `"flash"` or `"ram"`.
        needed_bytes: Bytes that the model takes, and the reserved ones.
        available_bytes: Bytes that the board has.
    """

    resource: str
    needed_bytes: int
    available_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the resource is enough; equal sizes fit."""
        return self.needed_bytes <= self.available_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes left over; negative if the model does not fit."""
        return self.available_bytes - self.needed_bytes

    def describe(self) -> str:
        """Describe the verdict in a line."""
        answer = "fits" if self.fits else "DOES NOT FIT"
        left = f"{-self.free_bytes:,} too many"
        if self.fits:
            runtime = "the runtime and " * (self.resource == "flash")
            left = f"{self.free_bytes:,} left for {runtime}everything else"
        return (
            f"{self.resource}: {answer}, {self.needed_bytes:,} of {self.available_bytes:,} bytes "
            f"({left})"
        )


def fits(
    file_bytes: int,
    arena_bytes: int,
    *,
    flash: int | str | None = None,
    ram: int | str | None = None,
    board: str | Board | None = None,
    reserve: int | str = 0,
) -> list[Verdict]:
    """Check whether a model fits into flash and RAM.

    The verdict is about the model alone: its file as a `const` array in flash, and its arena. A
    firmware needs more: code of the runtime and its kernels (76 to 121 kB of flash with the C
    library, in four nets measured for a Cortex-M4F, docs/results/micro.md), stack, drivers and
    buffers in RAM. Pass these bytes as `reserve`, as far as they are known.

    Args:
        file_bytes: Size of the `.tflite` file.
        arena_bytes: Size of the arena with its margin, `arena_bytes + margin_bytes` of a
            `MicroEvaluation`.
        flash: Bytes of flash, as a number or as text such as `"512k"` or `"1M"` (k = KB = KiB =
            1,024 bytes, M = 1,024²).
        ram: Bytes of contiguous RAM, likewise.
        board: A name in `BOARDS`, or a `Board`; `flash` and `ram` replace its figures.
        reserve: Bytes that the rest of the firmware takes of flash and of RAM, as for `flash`;
            one size for both or a pair (flash, RAM). Defaults to 0.

    Returns:
        A `Verdict` for each resource whose size is known, flash first.

    Raises:
        InputError: for sizes that can't be read, an unknown board, or if no size is given.

    Example:
        >>> from tfkd.export.micro.boards import fits
        >>> for verdict in fits(98_496, 58_000, flash="1M", ram="48k"):
        ...     print(verdict.describe())
        flash: fits, 98,496 of 1,048,576 bytes (950,080 left for the runtime and everything else)
        ram: DOES NOT FIT, 58,000 of 49,152 bytes (8,848 too many)
    """
    known = find(board)
    if flash is None and known is not None:
        flash = known.flash_bytes
    if ram is None and known is not None:
        ram = known.ram_bytes
    if flash is None and ram is None:
        raise InputError(
            f"Give {argument('flash')}, {argument('ram')} or {argument('board')} (one of "
            f"{', '.join(BOARDS)}): there is no limit to check."
        )
    pair = reserve if isinstance(reserve, (tuple, list)) else (reserve, reserve)
    if len(pair) != 2:
        raise InputError(f"reserve must be a size or a pair (flash, RAM), got {len(pair)} sizes.")
    sizes, problems = [], []
    for what, size in (
        ("file_bytes", file_bytes),
        ("arena_bytes", arena_bytes),
        ("reserve", pair[0]),
        ("reserve", pair[1]),
        ("flash", 0 if flash is None else flash),
        ("ram", 0 if ram is None else ram),
    ):
        try:
            sizes.append(parse_size(size))
        except InputError as error:
            problems.append(f"{what}: {str(error).rstrip('.')}")
    raise_all(problems)
    file_size, arena, code, data, flash_size, ram_size = sizes
    verdicts = []
    if flash is not None:
        verdicts.append(Verdict("flash", file_size + code, flash_size))
    if ram is not None:
        verdicts.append(Verdict("ram", arena + data, ram_size))
    return verdicts


def parse_size(size: int | str) -> int:
    """Read a number of bytes.

    Args:
        size: A whole number, or text: digits, then nothing, `k` or `M`, in either case, with or
            without `B` or `iB`; in every spelling k is 1,024 and M 1,024². A fraction of a byte
            is dropped.

    Returns:
        Bytes.

    Raises:
        InputError: for anything else, a negative number included.

    Example:
        >>> parse_size("256k"), parse_size("1.5 MB"), parse_size(4096)
        (262144, 1572864, 4096)
    """
    if isinstance(size, str):
        found = _SIZE.fullmatch(size.strip())
        if found:
            return int(float(found.group(1)) * _UNITS[found.group(2).lower()])
    elif not isinstance(size, bool):
        try:
            number = operator.index(size)
        except TypeError:
            number = -1
        if number >= 0:
            return number
    raise InputError(
        f"A size must be a whole number of bytes or text such as '256k' or '1M', got {size!r}."
    )


def find(board: str | Board | None, instead: str | None = None) -> Board | None:
    """Return a board by its name in `BOARDS`; a `Board` and `None` are returned as they are.

    Args:
        board: The name, in either case.
        instead: The alternative that the error names for other boards. Defaults to `flash` and
            `ram`.

    Raises:
        InputError: for a name that is not in `BOARDS`.
    """
    if board is None or isinstance(board, Board):
        return board
    if str(board).lower() not in BOARDS:
        instead = instead or f"{argument('flash')} and {argument('ram')}"
        raise InputError(
            f"No board is called {board!r}; tfkd knows {', '.join(BOARDS)}. For another board, "
            f"give {instead}."
        )
    return BOARDS[str(board).lower()]
