"""`Recipe`: how `compress` trains, as values that are printed, kept as YAML and run again."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tfkd.compression.settings import (
    Target,
    Training,
    described,
    is_above_zero,
    is_part,
    is_whole,
    make_plain,
    only_watches,
)
from tfkd.errors import InputError, raise_all
from tfkd.export.micro.board_table import Board
from tfkd.files import write_atomically
from tfkd.typed import as_type

if TYPE_CHECKING:
    from tfkd._typing import PathLike

FORMATS = ("float32", "float16", "dynamic", "int8")


@dataclasses.dataclass(frozen=True)
class Recipe(Training):
    """How `compress` trains; every number that shapes the result.

    In addition to its own attributes, it has those of `Training`: `epochs` (40) and `learning_rate`
    (3e-3) of the student, and of the same student without a teacher; `batch_size`, `optimizer`,
    `augment` and `seed`.

    Attributes:
        alpha: Weight of the hard loss, in [0, 1], while the float student is distilled; `None`
            for the default of `Distiller`, which quantization-aware training always takes.
        temperature: Softening of both distributions, > 0, likewise.
        soft_loss: How the student learns from the teacher, as for `Distiller`.
        qat_epochs: Epochs of quantization-aware training under the teacher.
        qat_learning_rate: Learning rate of Adam, which this stage uses whatever `optimizer` is.
            `None` means 3e-4, small because the weights are trained already, or 3e-3 where weights
            get 4 bits, because their coarse steps take more to leave.
        bits: Bits of the weights in the int8 file, as for `quantize_aware`: 8, 4, or a number by
            pattern of layers' names. `None` means 8, or 4 where the target or the board allows
            fewer bytes than 8 bits take.
        formats: Which of the files float32, float16, dynamic and int8 to make. Only int8 has
            quantization-aware training.
        threads: Threads of the interpreter in the benchmark.
        candidates: How many students to train for a while if none is given.
        search_epochs: Epochs of the best candidates; the others end earlier. `None` means a quarter
            of `epochs`.
    """

    alpha: float | None = None
    temperature: float | None = None
    _: dataclasses.KW_ONLY
    epochs: int = 40
    learning_rate: float = 3e-3
    soft_loss: str | None = None
    qat_epochs: int = 15
    qat_learning_rate: float | None = None
    bits: int | Mapping[str, int] | None = None
    formats: tuple[str, ...] = ("float32", "float16", "int8")
    threads: int = 1
    candidates: int = 15
    search_epochs: int | None = None

    @property
    def widths(self) -> tuple[int | Mapping[str, int], ...]:
        """The values of `bits` to try, in order."""
        return (8, 4) if self.bits is None else (self.bits,)

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += self._out_of_range(
            ("qat_epochs", "threads", "candidates", "search_epochs"), ("qat_learning_rate",)
        )
        if self.alpha is not None and not is_part(self.alpha):
            problems.append(f"alpha must be from 0 to 1, got {self.alpha!r}")
        if self.temperature is not None and not is_above_zero(self.temperature):
            problems.append(f"temperature must be a number > 0, got {self.temperature!r}")
        widths = self.bits.values() if isinstance(self.bits, Mapping) else self.widths
        if not all(is_whole(width, 4) and width in (4, 8) for width in widths):
            problems.append(
                f"bits must be 4 or 8, or a dict from pattern to 4 or 8, got {self.bits!r}"
            )
        formats = self.formats
        named = isinstance(formats, (tuple, list)) and len(formats) > 0
        if not named or any(name not in FORMATS for name in formats):
            problems.append(f"formats must be one or more of {FORMATS}, got {formats!r}")
        return problems


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of `compress` as values, without teacher, data and student.

    Attributes:
        recipe: How to train.
        target: Where to end.
        board: The board that the file has to fit on: a name in `tfkd.export.micro.boards.BOARDS`,
            or a `Board`.
        budget: Seconds, or text such as `"20min"`.
        task: The kind of labels, where they don't show it; for several outputs, a dict by name.
        teacher_from_logits: Whether the teacher's answers are logits. Needed where the teacher
            doesn't show it.
    """

    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    target: Target = dataclasses.field(default_factory=Target)
    board: str | Board | None = None
    budget: float | str | None = None
    task: str | Mapping[str, str] | None = None
    teacher_from_logits: bool | None = None

    def __post_init__(self):
        make_plain(self)

    def to_json(self) -> dict[str, Any]:
        """Return the call as plain values, the recipe's attributes first."""
        values = self.recipe.to_json()
        if only_watches(self.recipe.callbacks):
            values["callbacks"] = None  # the command line makes them, not a recipe
        values |= {name: described(getattr(self, name)) for name in _BESIDE}
        if isinstance(self.board, Board):
            values["board"] = self.board.to_json()
        wanted = {k: v for k, v in dataclasses.asdict(self.target).items() if v is not None}
        return {**values, "target": wanted or None}

    def to_yaml(self) -> str:
        """Return the call as YAML: the recipe's attributes and the other given arguments.

        A function appears by its name, and the object of a loss as its text, for the reader.
        """
        import yaml

        given = {name: value for name, value in self.to_json().items() if value is not None}
        return str(yaml.safe_dump(given, sort_keys=False, allow_unicode=True))

    def in_python(self, searched: bool) -> str:
        """Return the call of `compress` in Python, with the arguments that are not the default.

        Args:
            searched: Whether `compress` looks for the student itself.
        """
        changed = [
            f"{key.name}={'...' if callable(value) else repr(value)}"
            for key in dataclasses.fields(self.recipe)
            if (value := getattr(self.recipe, key.name)) != key.default
        ]
        given = [] if searched else ["student=student"]
        given += ["out=folder"]
        wanted = {**self.target.costs, "drop": self.target.drop}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        given += [f"target={wanted!r}"] if wanted else []
        given += [
            f"{name}={'board' if isinstance(value, Board) else repr(value)}"
            for name in ("board", "budget", "task", "teacher_from_logits")
            if (value := getattr(self, name)) is not None
        ]
        given += [f"recipe=tfkd.Recipe({', '.join(changed)})"] if changed else []
        return f"tfkd.compress(teacher, data, {', '.join(given)})"

    def save(self, path: PathLike) -> pathlib.Path:
        """Write the call as YAML."""
        return write_atomically(path, self.to_yaml().encode())

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        augment: Callable[[Any], Any] | None = None,
        callbacks: Callable[[str, Any], Iterable[Any]] | None = None,
        soft_loss: Any = None,
    ) -> Call:
        """Read a file written by `save` or by hand; every attribute may be left out.

        Args:
            path: The file. Reading it runs nothing in it.
            augment: The function, where the file names one.
            callbacks: The function, likewise.
            soft_loss: The object, where the file shows one.

        Raises:
            InputError: for a file that can't be read, and all wrong values at once.
        """
        import yaml

        path = pathlib.Path(path)
        try:
            values = yaml.safe_load(path.read_bytes().decode())
        except OSError as error:
            raise InputError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            why = " ".join(str(error).split())
            raise InputError(f"{str(path)!r} is not YAML: {why}.") from error
        if values is not None and not isinstance(values, dict):
            raise InputError(f"{str(path)!r} must hold a line 'name: value' for each attribute.")
        given = {"augment": augment, "callbacks": callbacks, "soft_loss": soft_loss}
        return cls._read(dict(values or {}), path, given)

    @classmethod
    def _read(cls, values: dict[str, Any], path: pathlib.Path, given: dict[str, Any]) -> Call:
        problems = []
        for name, thing in given.items():
            said = values.get(name)
            if thing is not None:
                values[name] = thing
            elif said is not None and (name != "soft_loss" or _is_object(said)):
                del values[name]
                what = "loss" if name == "soft_loss" else "function"
                problems.append(
                    f"{path.name} names {said!r} for {name}, but a file holds no code: give the "
                    f"{what} to Call.load, or remove the line"
                )
        beside = {name: values.pop(name) for name in _BESIDE if name in values}
        known = [field.name for field in dataclasses.fields(Recipe)]
        for name in values:
            if name not in known:
                problems.append(f"{path.name} has {name!r}, but a recipe has {', '.join(known)}")
        values = {name: value for name, value in values.items() if name in known}
        for name, value in values.items():
            if isinstance(value, str) and _EXPONENT.fullmatch(value):
                values[name] = float(value)  # to YAML 1.1, 1e-3 is text and 1.0e-3 a number
        if isinstance(values.get("formats"), list):
            values["formats"] = tuple(values["formats"])
        made: dict[str, Any] = {}
        for name, make in (
            ("recipe", lambda: Recipe(**values)),
            ("target", lambda: Target.of(beside.pop("target", None))),
            ("board", lambda: _board(beside.pop("board", None))),
        ):
            try:
                made[name] = make()
            except InputError as error:
                problems.append(str(error).removesuffix("."))
        raise_all(problems)
        return cls(**made, **beside)


def _is_object(loss: Any) -> bool:
    """Tell whether a file shows an object as a soft loss, and neither a name nor a configuration.

    Args:
        loss: The value in the file; for several outputs, a list or a dict of values.
    """
    if isinstance(loss, dict):
        return "class_name" not in loss and any(map(_is_object, loss.values()))
    if isinstance(loss, list):
        return any(map(_is_object, loss))
    return isinstance(loss, str) and not loss.isidentifier()


def in_order(bits: int | Mapping[str, int]) -> Any:
    """Return bits for a fingerprint with their order, since the last pattern decides."""
    return list(bits.items()) if isinstance(bits, Mapping) else bits


def _board(value: Any) -> str | Board | None:
    """Return a board by its name or from its values.

    Raises:
        InputError: for values that describe no valid board.
    """
    if value is None or isinstance(value, str):
        return value
    rest = {"core": "", "kernels": [], "checked": "", "ids": {}}
    try:
        return as_type({**rest, **value} if isinstance(value, dict) else value, Board)
    except ValueError as error:
        wanted = ", ".join(field.name for field in dataclasses.fields(Board))
        raise InputError(
            f"board must be a name, or have the fields of a Board, {wanted}; got {value!r}."
        ) from error


_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_BESIDE = ("target", "board", "budget", "task", "teacher_from_logits")
