"""Finished runs and their weights, in memory or in a folder that survives an interruption."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import zipfile

import numpy as np

from tfkd import hashing, sealed
from tfkd.comparison.methods import Method
from tfkd.errors import InputError, raise_all
from tfkd.files import write_atomically
from tfkd.model.fingerprint import fingerprint, identity
from tfkd.typed import as_type

FORMAT = "tfkd.comparison.runs/2"
_STATE, _WEIGHTS = "runs.json", "runs"
_FIX = "name another folder, or delete this one and compare again"


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of one run.

    Attributes:
        validation: Score on the validation part after the last epoch; `None` if the run failed.
        seconds: Duration of the run.
        error: Why it failed, or `None`.
        blake2b: Checksum of the file of its weights; `None` without one.
    """

    validation: float | None
    seconds: float
    error: str | None = None
    blake2b: str | None = None


class Store:
    """Keeps the runs of a comparison.

    Args:
        folder: Where to keep them; `None` for memory. The folder is empty or missing, or was begun
            by a comparison of the same student, teacher, data and budget.
    """

    def __init__(self, folder=None):
        self.folder = None if folder is None else pathlib.Path(folder)
        self._runs: dict[str, Run] = {}
        self._weights: dict[str, list[np.ndarray]] = {}
        self._settings: dict | None = None
        if self.folder is None or not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise InputError(f"{str(folder)!r} is a file; name a folder.")
        if not (self.folder / _STATE).exists():
            if any(self.folder.iterdir()):
                raise InputError(
                    f"The folder {str(folder)!r} is not empty and holds no comparison; name "
                    "another."
                )
            return
        held = sealed.read(self.folder / _STATE, FORMAT, _FIX)
        try:
            self._settings = as_type(held.get("settings"), dict)
            self._runs = as_type(held.get("runs"), dict[str, Run])
        except ValueError as error:
            raise self._damaged(_STATE, error) from error

    def open(self, settings: dict) -> None:
        """Claim the folder for this comparison.

        Args:
            settings: Everything that decides the result of a run, except method and seed.

        Raises:
            InputError: for a folder of another comparison, or one that can't be written.
        """
        if self.folder is None:
            return
        settings = sealed.as_kept(identity(settings))
        if self._settings is None:
            try:
                (self.folder / _WEIGHTS).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"Cannot write {str(self.folder)!r}: {error.strerror or error}."
                ) from error
            self._settings = settings
            self._write()
        raise_all(
            [
                f"{name} was {self._settings.get(name)!r} and is now {value!r}"
                for name, value in settings.items()
                if self._settings.get(name) != value
            ],
            fix=f"The folder {str(self.folder)!r} holds a different comparison; name another one.",
        )

    def key(self, method: Method, seed: int) -> str:
        """Return the key of a run, which depends on what its method does and not on its name."""
        settings = None if method.settings is None else dict(method.settings)
        if self.folder is None:
            return repr((settings, method.label_smoothing, seed))
        return fingerprint([settings, method.label_smoothing, seed])[:24]

    def find(self, key: str) -> Run | None:
        """Return a run that was finished before, or `None`."""
        return self._runs.get(key)

    def keep(self, key: str, run: Run, weights: list[np.ndarray] | None) -> None:
        """Keep a run; first its weights, then the line that records it as finished."""
        if weights is not None and self.folder is None:
            self._weights[key] = [np.array(one) for one in weights]
        elif weights is not None:
            stream = io.BytesIO()
            np.savez(stream, *weights)
            write_atomically(self._path(key), stream.getvalue())
            run = dataclasses.replace(run, blake2b=hashing.checksum(stream.getvalue()))
        self._runs[key] = run
        if self.folder is not None:
            self._write()

    def forget(self, key: str) -> None:
        """Free the memory of weights that are no longer needed; a folder keeps them."""
        self._weights.pop(key, None)

    def weights(self, key: str) -> list[np.ndarray]:
        """Return the weights that a run left."""
        if self.folder is None:
            return self._weights[key]
        try:
            data = self._path(key).read_bytes()
            if hashing.checksum(data) != self._runs[key].blake2b:
                raise ValueError("its bytes have changed since they were written")
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return [archive[f"arr_{i}"] for i in range(len(archive.files))]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise self._damaged(f"{_WEIGHTS}/{key}.npz", error) from error

    def _path(self, key: str) -> pathlib.Path:
        return self.folder / _WEIGHTS / f"{key}.npz"

    def _write(self) -> None:
        runs = {key: dataclasses.asdict(run) for key, run in self._runs.items()}
        held = {"format": FORMAT, "settings": self._settings, "runs": runs}
        sealed.write(self.folder / _STATE, held)

    def _damaged(self, name: str, error) -> InputError:
        return InputError(f"{str(self.folder / name)!r} is damaged: {error}; {_FIX}.")
