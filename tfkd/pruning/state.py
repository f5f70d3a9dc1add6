"""What is kept of a spiral in its folder, so that it can go on after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
import zlib
from collections.abc import Callable

import numpy as np

from tfkd import graph, loading
from tfkd.data import Data
from tfkd.errors import InputError, raise_all
from tfkd.files import write_atomically
from tfkd.pruning.rounds import Measured, Round, Spiral

_STATE = "spiral.json"


class State:
    """What is kept of a run in its folder, so that it can go on after a kill."""

    def __init__(self, folder, settings: dict):
        self.folder = None if folder is None else pathlib.Path(folder)
        self.settings = settings
        self.held: dict = {"settings": settings, "rounds": []}
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write {str(folder)!r}: {error.strerror or error}.") from error
        if not (self.folder / _STATE).exists():
            if any(self.folder.iterdir()):
                raise InputError(
                    f"The folder {str(folder)!r} is not empty and holds no spiral; name another."
                )
            return
        try:
            self.held = json.loads((self.folder / _STATE).read_text())
        except ValueError as error:
            raise InputError(f"{str(self.folder / _STATE)!r} can't be read: {error}.") from error
        given = json.loads(json.dumps(settings))
        before = self.held.get("settings", {})
        raise_all(
            [
                f"{name} was {before.get(name)!r} and is {value!r}"
                for name, value in given.items()
                if before.get(name) != value
            ],
            fix=f"The folder {str(folder)!r} holds the state of another run; name another folder.",
        )

    def load(self, model) -> tuple[list[Round], object]:
        """Return the rounds that were made, and the student that was kept last."""
        rounds = [
            Round(**{**one, "measured": Measured(**one["measured"])}) for one in self.held["rounds"]
        ]
        kept = [one.number for one in rounds if one.kept]
        return rounds, self._read(f"round_{kept[-1]:02d}") if kept else model

    def save(self, rounds: list[Round], student) -> None:
        """Keep a round; first the student, then the line that says it is there."""
        if self.folder is None:
            return
        if student is not None:
            self._write(f"round_{rounds[-1].number:02d}", student)
        self.held["rounds"] = [dataclasses.asdict(one) for one in rounds]
        self._put()

    def once(self, name: str, epochs: int, make: Callable):
        """Return a model that was made before, after as many epochs, or make and keep it."""
        if self.folder is None:
            return make()
        if self.held.setdefault("made", {}).get(name) != epochs:
            self._write(name, make())
            self.held["made"][name] = epochs
            self._put()
        return self._read(name)

    def finish(self, made: Spiral) -> None:
        """Write the student, the figures and the picture."""
        if self.folder is None:
            return
        self._write("student", made.model)
        with tempfile.TemporaryDirectory() as folder:
            made.plot(picture := pathlib.Path(folder) / "spiral.svg")
            write_atomically(self.folder / "spiral.svg", picture.read_bytes())
        self.held |= {"result": made.to_json()}
        self._put()

    def _put(self) -> None:
        write_atomically(self.folder / _STATE, json.dumps(self.held, indent=1).encode())

    def _write(self, name: str, model) -> None:
        partial = self.folder / f".{name}.keras"
        model.save(partial)
        os.replace(partial, self.folder / f"{name}.keras")

    def _read(self, name: str):
        return loading.load_model(self.folder / f"{name}.keras", "student of a spiral")


def fingerprint(model, data: Data) -> int:
    """Return a number that another model or other data would not give."""
    found = zlib.crc32(repr([name for name, _ in graph.walk(model).layers]).encode())
    arrays = model.get_weights()
    arrays += [part for samples in (data.train, data.validation) for part in (samples.x, samples.y)]
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data, found)
    return found
