"""What is kept of a spiral in its folder, so that it can go on after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Callable

from tfkd import loading
from tfkd.data import Data
from tfkd.errors import InputError, raise_all
from tfkd.files import write_atomically
from tfkd.model.fingerprint import fingerprint, identity
from tfkd.pruning.rounds import Measured, Round, Spiral

_STATE = "spiral.json"


class State:
    """What is kept of a run in its folder, so that it can go on after a kill."""

    def __init__(self, folder, settings: dict):
        self.folder = None if folder is None else pathlib.Path(folder)
        self.settings = json.loads(json.dumps(identity(settings)))
        self.held: dict = {"settings": self.settings, "rounds": []}
        self.rounds: list[Round] = []
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
            before = self.held["settings"]
            self.rounds = [
                Round(**{**one, "measured": Measured(**one["measured"])})
                for one in self.held["rounds"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{str(self.folder / _STATE)!r} can't be read, or another version of tfkd wrote it "
                f"({error}); name another folder."
            ) from error
        raise_all(
            [
                f"{name} was {before.get(name)!r} and is {value!r}"
                for name, value in self.settings.items()
                if before.get(name) != value
            ],
            fix=f"The folder {str(folder)!r} holds the state of another run; name another folder.",
        )

    @property
    def started(self) -> bool:
        """Whether a round was made before."""
        return bool(self.rounds)

    def begin(self) -> None:
        """Make the folder this run's."""
        if self.folder is not None and not (self.folder / _STATE).exists():
            self._put()

    def load(self, model) -> tuple[list[Round], object]:
        """Return the rounds that were made, and the student that was kept last."""
        kept = [one.number for one in self.rounds if one.kept]
        return list(self.rounds), self._read(f"round_{kept[-1]:02d}") if kept else model

    def save(self, rounds: list[Round], student) -> None:
        """Keep a round; first the student, then the line that says it is there."""
        if self.folder is None:
            return
        if student is not None:
            self._write(f"round_{rounds[-1].number:02d}", student)
        self.held["rounds"] = [dataclasses.asdict(one) for one in rounds]
        self._put()

    def once(self, name: str, rounds: int, epochs: int, make: Callable):
        """Return a model that was made before, after as many rounds and epochs, or make it."""
        if self.folder is None:
            return make()
        if self.held.setdefault("made", {}).get(name) != [rounds, epochs]:
            self._write(name, make())
            self.held["made"][name] = [rounds, epochs]
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
        try:
            return loading.load_model(self.folder / f"{name}.keras", "student of a spiral")
        except InputError as error:
            raise InputError(
                f"{error} The spiral can't go on without it: name another folder."
            ) from error


def of(model, data: Data) -> str:
    """Return what another model or other data would not give."""
    samples = (data.train, data.validation, data.test)
    return fingerprint([model, *([one.x, one.y] for one in samples)])
