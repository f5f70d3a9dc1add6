"""`tfkd boards`: the boards and classes of phones that `--board` knows."""

from __future__ import annotations

from tfkd.cli import console
from tfkd.tables import aligned


def add_parser(commands, output) -> None:
    """Add the command's parser."""
    boards = commands.add_parser(
        "boards",
        parents=[output],
        help="List the boards and classes of phones that --board knows.",
        description="List flash, contiguous RAM, core, optimized kernels and the source of these "
        "figures for every board and class of phones that tfkd export --board knows. With names, "
        "show the details of these boards.",
    )
    boards.add_argument("names", metavar="NAME", nargs="*", help="Show this board.")
    boards.set_defaults(run="boards")


def boards(options) -> int:
    """`tfkd boards`."""
    from tfkd.export.micro.boards import BOARDS, find

    names = [name.lower() for name in options.names] or list(BOARDS)
    rows = {name: find(name) for name in names}
    if options.json:
        console.print_json({name: board.to_json() for name, board in rows.items()})
    elif options.names and not options.quiet:
        print("\n\n".join(board.describe() for board in rows.values()))
    elif not options.quiet:
        header = ("name", "chip", "core", "flash kB", "RAM kB", "kernels", "source")
        print("\n".join(aligned([header, *map(_cells, rows.items())], left=(0, 1, 2, 5, 6))))
    return 0


def _cells(item) -> tuple[str, ...]:
    name, board = item
    flash = "–" if board.flash_bytes is None else f"{board.flash_bytes // 1024:,}"
    ram, kernels = f"{board.ram_bytes // 1024:,}", ", ".join(board.kernels)
    source = f"{board.source} ({board.checked})"
    return (name, board.chip, board.core, flash, ram, kernels, source)
