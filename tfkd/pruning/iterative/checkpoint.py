"""The state of a spiral in its folder, so that it can continue after an interruption."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from tfkd import hashing, sealed
from tfkd.data import Data
from tfkd.errors import InputError, raise_all
from tfkd.files import write_atomically
from tfkd.loading import models
from tfkd.model.fingerprint import contents, fingerprint, identity, trainee
from tfkd.pruning.iterative.result import Round, Spiral
from tfkd.typed import as_type

FORMAT = "tfkd.spiral.state/2"
_STATE = "spiral.json"
_FIX = "name another folder, or delete this one and begin again"


@dataclasses.dataclass
class _Held:
    """The content of the file.

    Attributes:
        format: `FORMAT`.
        settings: The settings of the run.
        rounds: The finished rounds.
        made: Model that depends on the number of rounds → that number, and epochs.
        files: File of a model → its checksum.
        result: `Spiral.to_json`, after the run has finished.
    """

    format: str
    settings: dict[str, Any]
    rounds: list[Round] = dataclasses.field(default_factory=list)
    made: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    result: dict | None = None


class State:
    """The state of a run in its folder, so that it can continue after an interruption."""

    def __init__(self, folder, settings: dict):
        self.folder = None if folder is None else pathlib.Path(folder)
        self.settings = sealed.as_kept(identity(settings))
        self.held = _Held(FORMAT, self.settings)
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
        held = sealed.read(self.folder / _STATE, FORMAT, _FIX)
        try:
            self.held = as_type(held, _Held)
        except ValueError as error:
            raise InputError(
                f"{str(self.folder / _STATE)!r} is damaged: {error}; {_FIX}."
            ) from error
        before = self.held.settings
        if "keep" in before:  # the name of skip= in states of tfkd 0.1
            before["skip"] = before.pop("keep")
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
        return bool(self.held.rounds)

    def begin(self) -> None:
        """Claim the folder for this run."""
        if self.folder is not None and not (self.folder / _STATE).exists():
            self._put()

    def load(self, model) -> tuple[list[Round], object]:
        """Return the finished rounds, and the student that was kept last."""
        kept = [one.number for one in self.held.rounds if one.kept]
        return list(self.held.rounds), self._read(f"round_{kept[-1]:02d}") if kept else model

    def save(self, rounds: list[Round], student) -> None:
        """Keep a round; first the student, then the line that records it."""
        if self.folder is None:
            return
        if student is not None:
            self._write(f"round_{rounds[-1].number:02d}", student)
        self.held.rounds = list(rounds)
        self._put()

    def once(self, name: str, rounds: int, epochs: int, make: Callable):
        """Return a model that was made before, after as many rounds and epochs, or make it."""
        if self.folder is None:
            return make()
        if self.held.made.get(name) != (rounds, epochs):
            self._write(name, make())
            self.held.made[name] = (rounds, epochs)
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
        self.held.result = made.to_json()
        self._put()

    def _put(self) -> None:
        sealed.write(self.folder / _STATE, dataclasses.asdict(self.held))

    def _write(self, name: str, model) -> None:
        partial, file = self.folder / f".{name}.keras", f"{name}.keras"
        model.save(partial)
        self.held.files[file] = hashing.checksum(partial.read_bytes())
        os.replace(partial, self.folder / file)

    def _read(self, name: str):
        file = self.folder / f"{name}.keras"
        try:
            if hashing.checksum(file.read_bytes()) != self.held.files.get(file.name):
                raise InputError(f"The model {str(file)!r} is not the one that was written.")
            return models.load_model(file, "student of a spiral")
        except OSError as error:
            why = f"The model {str(file)!r} can't be read: {error.strerror or error}."
        except InputError as error:
            why = error
        raise InputError(f"{why} The spiral can't go on without it: {_FIX}.")


def of(model, data: Data) -> str:
    """Return a value that no other model to train, or other data, would give."""
    parts = (data.train, data.validation, data.test)
    weights = [] if data.class_weight is None else [dict(data.class_weight)]
    return fingerprint([trainee(model), *map(contents, parts), *weights])
