"""Finished stages of a run, kept in its folder by their inputs for a run that continues.

A stage is a pure step: the same inputs give the same weights. Its key is the fingerprint of its
inputs, so a run with one changed option repeats only the stages that depend on it. A long training
is a stage in parts, of some epochs each, of which the last finished one is kept.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from tfkd import hashing, sealed
from tfkd.errors import InputError
from tfkd.files import write_atomically
from tfkd.model.fingerprint import fingerprint
from tfkd.typed import as_type

FORMAT = "tfkd.stages/1"
#: The folder of stages inside the folder of a result.
FOLDER = "stages"
_STATE = "stages.json"
_FIX = "delete the folder to begin the run again"


class Weighted(Protocol):
    """An object with weights to keep: a model of either Keras."""

    def get_weights(self) -> list[np.ndarray]:
        """Return them."""

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Replace them."""


@dataclasses.dataclass
class _Stage:
    """A finished stage, or the last finished part of one.

    Attributes:
        key: Fingerprint of its inputs; the stage's name contains its first digits.
        values: Its result without weights, as plain values.
        checksum: Checksum of the file of its weights; `None` if it has none.
    """

    key: str
    values: dict[str, Any]
    checksum: str | None


@dataclasses.dataclass
class _Held:
    format: str
    done: dict[str, _Stage]


class Stages:
    """The finished stages of a run.

    Args:
        folder: Where they are kept; `None` keeps nothing.

    Attributes:
        resumed: The stages that were finished before and not made again.

    Raises:
        InputError: if its record is damaged.
    """

    def __init__(self, folder: pathlib.Path | None = None):
        self.folder, self.resumed = folder, list[str]()
        self._held = _Held(FORMAT, {})
        if folder is None:
            return
        if (folder / _STATE).exists():
            try:
                self._held = as_type(sealed.read(folder / _STATE, FORMAT, _FIX), _Held)
            except InputError:  # names the file
                raise
            except ValueError as error:
                raise InputError(f"{str(folder / _STATE)!r} can't be used: {error}.") from error

    @property
    def done(self) -> bool:
        """Whether a stage was finished and kept, in this run or before."""
        return bool(self._held.done)

    def once(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[], dict[str, Any]],
        model: Weighted | None = None,
    ) -> dict[str, Any]:
        """Return the earlier result of a stage for these inputs, or compute it.

        Args:
            name: Name of the stage.
            inputs: Everything that its result depends on; values that `fingerprint` takes.
            make: Does the work, trains `model` in place, and returns plain values.
            model: Gets the weights of the stage if it was made before.

        Returns:
            The values of `make`.
        """
        if self.folder is None:
            return make()
        key = fingerprint({"stage": name, **inputs})
        name = f"{name} {key[:12]}"
        values = self._found(name, key, model)
        if values is None:
            values = sealed.as_kept(make())
            self._keep(name, key, values, model)
        return values

    def parts(self, name: str, inputs: Mapping[str, Any]) -> Parts | None:
        """Return the store for the parts of a stage; `None` if nothing is kept.

        Args:
            name: Name of the stage.
            inputs: Everything that its result depends on.
        """
        if self.folder is None:
            return None
        key = fingerprint({"stage": name, "in": "parts", **inputs})
        return Parts(self, f"{name} {key[:12]} to epoch", key)

    def _found(self, name: str, key: str, model: Weighted | None) -> dict[str, Any] | None:
        """Restore the model's kept weights and return the kept values; `None` if there are none."""
        held = self._held.done.get(name)
        if held is None or held.key != key or not self._restored(name, held, model):
            return None
        self.resumed.append(name)
        return held.values

    def _keep(self, name: str, key: str, values: dict[str, Any], model: Weighted | None) -> None:
        assert self.folder is not None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise InputError(f"Cannot write {str(self.folder)!r}: {why}.") from error
        checksum = None if model is None else self._written(name, model)
        self._held.done[name] = _Stage(key, values, checksum)
        sealed.write(self.folder / _STATE, dataclasses.asdict(self._held))

    def _drop(self, names: Iterable[str]) -> None:
        assert self.folder is not None
        dropped = [name for name in names if self._held.done.pop(name, None) is not None]
        if dropped:
            sealed.write(self.folder / _STATE, dataclasses.asdict(self._held))
        for name in dropped:
            (self.folder / f"{name}.npz").unlink(missing_ok=True)

    def _written(self, name: str, model: Weighted) -> str:
        stream = io.BytesIO()
        weights = model.get_weights()
        np.savez(stream, **{str(i): values for i, values in enumerate(weights)})
        write_atomically(self.folder / f"{name}.npz", stream.getvalue())
        return hashing.checksum(stream.getvalue())

    def _restored(self, name: str, held: _Stage, model) -> bool:
        """Load the model's weights; tell whether the file is intact."""
        if model is None:
            return held.checksum is None
        try:
            content = (self.folder / f"{name}.npz").read_bytes()
            if hashing.checksum(content) != held.checksum:
                return False
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                model.set_weights([archive[str(i)] for i in range(len(archive.files))])
        except (OSError, ValueError, zipfile.BadZipFile):  # missing or damaged: repeat the stage
            return False
        return True


@dataclasses.dataclass(frozen=True)
class Parts:
    """The last finished part of a stage, in the folder of the stages."""

    _stages: Stages
    _name: str
    _key: str

    def last(self, state: Weighted) -> tuple[int, dict[str, Any]]:
        """Return the kept epochs and their values, and give `state` their weights.

        Args:
            state: The object with weights; it is not changed if nothing was kept.

        Returns:
            0 epochs and no values if nothing was kept or the kept part is damaged.
        """
        for name in reversed(self._names()):
            values = self._stages._found(name, self._key, state)
            if values is not None:
                return int(name.rsplit(" ", 1)[1]), values
        return 0, {}

    def keep(self, epochs: int, values: dict[str, Any], state: Weighted) -> None:
        """Keep the result of a number of epochs, replacing the part before."""
        before = self._names()
        self._stages._keep(f"{self._name} {epochs}", self._key, sealed.as_kept(values), state)
        self._stages._drop(before)

    def drop(self) -> None:
        """Forget them: the stage is finished."""
        self._stages._drop(self._names())

    def _names(self) -> list[str]:
        return [name for name in self._stages._held.done if name.startswith(f"{self._name} ")]
