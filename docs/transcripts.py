"""Run the examples of the command line reference, and keep what they print.

`docs/transcripts/` has a file for each command: lines that start with `$ ` are typed, in the
order of the parser's commands and in one folder; the others are what they print on standard
output. This writes the latter anew. Ten minutes on two cores:

    python docs/transcripts.py            all of them
    python docs/transcripts.py export     this one; what came before it is run, too
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from tfkd.cli import parser

DOCS = pathlib.Path(__file__).parent
FOLDER = DOCS / "transcripts"


def path_of(command: str) -> pathlib.Path:
    """Return the file of a command's example."""
    return FOLDER / f"{command}.txt"


def typed(command: str) -> list[str]:
    """Return what is typed in a command's example."""
    return re.findall(r"^\$ (.*)$", path_of(command).read_text("utf-8"), re.MULTILINE)


def run(line: str, folder: str) -> str:
    """Return a typed line with what it prints."""
    bin = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode > 1:
        raise SystemExit(f"{line}\n{done.stderr}")
    printed = done.stdout.replace(f"{folder}/", "").strip("\n")
    printed = [one.rstrip() for one in printed.splitlines()]
    return "\n".join([f"$ {line}", *printed])


def main(wanted: list[str]) -> None:
    """Write the transcripts of some commands, or of all."""
    page = (DOCS / "command-line.md").read_text("utf-8")
    (prepared,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", prepared], cwd=folder, check=True)
        for command in parser.commands():
            text = "\n\n".join(run(line, folder) for line in typed(command))
            if not wanted or command in wanted:
                path_of(command).write_text(f"{text}\n", "utf-8")
                print(path_of(command))


if __name__ == "__main__":
    main(sys.argv[1:])
