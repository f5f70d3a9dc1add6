"""How to train and where to end: settings that `compress`, `spiral` and `compare` share."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from tfkd.errors import InputError, raise_all
from tfkd.export.micro.boards import parse_size

Optimizer = Literal["adam", "sgd"]
Schedule = Literal["cosine", "constant"]
#: The optimizers: Adam, or SGD with a Nesterov momentum of 0.9.
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained.

    Use the settings that the model was trained with. Where Adam and SGD differ, the wrong one costs
    more than any choice of distillation.

    Attributes:
        epochs: Passes over the training part per stage; `None` for the caller's default.
        learning_rate: Learning rate at the start of the decay; `None` for the caller's default.
        batch_size: Examples per step.
        optimizer: `"adam"`, or `"sgd"` with a Nesterov momentum of 0.9.
        augment: Function from a batch of `x` to one of the same shape, in TensorFlow operations.
            The teacher then sees the same augmented batch and runs in every step; without `augment`
            it runs once per example.
        seed: Seed of everything random.
        schedule: `"cosine"` for a decay of the learning rate to zero, or `"constant"`.
        patience: Epochs without a lower validation loss after which training ends, with the weights
            of the best epoch; `None` trains all epochs.
        callbacks: Function that takes a stage's name and the Keras that trains it, `keras` or
            `tf_keras`, and returns callbacks of that Keras. A run with another function trains
            again.
        steps_per_execution: Steps of a Keras 3 model per call of TensorFlow. The steps stay the
            same; small models train in two thirds of the time that they take with 1.
        twin: Whether a Keras 3 model of large convolutions with batch normalization trains as a
            tf_keras model where that is faster, and then gets its weights (`compression/twin.py`).

    Raises:
        InputError: for values out of range, all at once.

    Example:
        >>> Training(epochs=30, optimizer="sgd", learning_rate=0.1).optimizer
        'sgd'
    """

    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    optimizer: Optimizer = "adam"
    augment: Callable[[Any], Any] | None = None
    seed: int = 0
    schedule: Schedule = "cosine"
    patience: int | None = None
    callbacks: Callable[[str, Any], Iterable[Any]] | None = None
    steps_per_execution: int = 16
    twin: bool = True

    def __post_init__(self):
        make_plain(self)
        raise_all(self._problems())

    def _problems(self) -> list[str]:
        problems = self._out_of_range(
            ("epochs", "batch_size", "steps_per_execution", "patience"), ("learning_rate",)
        )
        if self.optimizer not in OPTIMIZERS:
            problems.append(f"optimizer must be one of {OPTIMIZERS}, got {self.optimizer!r}")
        if self.schedule not in get_args(Schedule):
            problems.append(f"schedule must be one of {get_args(Schedule)}, got {self.schedule!r}")
        if self.callbacks is not None and not callable(self.callbacks):
            problems.append(
                "callbacks must be a function of a stage's name and a Keras that returns "
                f"callbacks, got {self.callbacks!r}"
            )
        if self.augment is not None and not callable(self.augment):
            problems.append(f"augment must be a function of a batch of x, got {self.augment!r}")
        if not is_whole(self.seed, 0) or self.seed >= 2**32:
            problems.append(f"seed must be an integer from 0 to 2**32 - 1, got {self.seed!r}")
        return problems

    def _out_of_range(self, counts: Iterable[str], numbers: Iterable[str]) -> list[str]:
        """Return the problems of counts, which must be at least 1, and of numbers above zero."""
        checks = [
            (name, is_whole(getattr(self, name), 1), "whole number of at least 1")
            for name in counts
        ]
        checks += [(name, is_above_zero(getattr(self, name)), "number > 0") for name in numbers]
        may_lack = {field.name for field in dataclasses.fields(self) if field.default is None}
        return [
            f"{name} must be a {what}, got {value!r}"
            for name, is_right, what in checks
            for value in [getattr(self, name)]
            if not is_right and not (value is None and name in may_lack)
        ]

    @classmethod
    def of(cls, training: Training | None, options: Mapping[str, Any], **defaults: Any) -> Training:
        """Return one `Training` from a caller's arguments.

        Args:
            training: The object, if it was given.
            options: Attributes of `Training` given directly. Only one of `training` and `options`
                may be given.
            **defaults: Values for attributes that are `None` or were not given.

        Raises:
            InputError: for both, or values out of range.
            TypeError: for options that are no attribute.
        """
        unknown = [name for name in options if name not in cls.__dataclass_fields__]
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        if training is not None and options:
            names = ", ".join(f"{name}=" for name in options)
            raise InputError(f"Give {names} in training, or by itself without training, not both.")
        if not isinstance(training, (Training, type(None))):
            raise InputError(f"training must be a tfkd.Training, got {training!r}.")
        made = cls(**{**defaults, **options}) if training is None else training
        missing = {name: to for name, to in defaults.items() if getattr(made, name) is None}
        return dataclasses.replace(made, **missing) if missing else made

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain values; a function as its name, other objects as text."""
        return {
            field.name: described(getattr(self, field.name)) for field in dataclasses.fields(self)
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """How small a model has to become, and how much worse it may get.

    A number below 1 is a fraction of the original's value. Every given limit has to be met.

    Attributes:
        macs: Multiply-accumulates of one example.
        parameters: Values in weights.
        bytes: Size of the file: a number, or text such as `"64k"` (1,024 bytes each).
        arena: Bytes of RAM that TensorFlow Lite for Microcontrollers takes for a call, likewise;
            for `compress`.
        latency: Of one call in the interpreter, in µs.
        drop: How much worse the score may become: in accuracy, or as a fraction of the RMSE. A
            number, or text such as `"0.5%"`. `spiral` applies it to the validation score,
            `compress` to the file's score on the test part.
        latency_us: Another name for `latency`, for a number of µs.

    Raises:
        InputError: for values out of range, all at once.

    Example:
        >>> Target(macs=0.5, bytes="64k", drop=0.01).costs
        {'macs': 0.5, 'bytes': 65536}
    """

    macs: float | None = None
    parameters: float | None = None
    bytes: float | str | None = None
    arena: float | str | None = None
    latency: float | None = None
    drop: float | str | None = None
    latency_us: dataclasses.InitVar[float | None] = None

    def __post_init__(self, latency_us: float | None):
        problems = []
        if latency_us is not None:
            if self.latency is not None:
                problems.append("latency_us is another name for latency: give one of them")
            object.__setattr__(self, "latency", latency_us)
        make_plain(self)
        for name in ("bytes", "arena"):
            if isinstance(getattr(self, name), str):
                try:
                    object.__setattr__(self, name, parse_size(getattr(self, name)))
                except InputError as error:
                    problems.append(f"target[{name!r}]: {str(error).removesuffix('.')}")
        problems += [
            f"target[{name!r}] must be a number > 0, got {value!r}"
            for name, value in self.costs.items()
            if not is_above_zero(value)
            and not (isinstance(value, str) and name in ("bytes", "arena"))
        ]
        if is_above_zero(self.arena) and self.arena < 1:
            problems.append(f"target['arena'] must be a number of bytes, got {self.arena!r}")
        if isinstance(self.drop, str):
            object.__setattr__(self, "drop", parse_percentage(self.drop))
        if self.drop is not None and not is_drop(self.drop):
            problems.append(f"drop must be a number >= 0, got {self.drop!r}")
        raise_all(problems)

    @property
    def costs(self) -> dict[str, float]:
        """The given limits by name, without `drop`."""
        named = {name: getattr(self, name) for name in COSTS}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def of(cls, given: Target | Mapping[str, float] | None) -> Target:
        """Return a `Target` from a `Target`, or from a mapping with some of its attributes.

        Raises:
            InputError: for anything else.
        """
        if given is None or isinstance(given, cls):
            return given or cls()
        if not isinstance(given, Mapping):
            raise InputError(f"target must be a tfkd.Target or a dict, got {given!r}.")
        known = [*(field.name for field in dataclasses.fields(cls)), "latency_us"]
        problems = [
            f"target must have keys of {tuple(known)}, got {name!r}"
            for name in given
            if name not in known
        ]
        made = None
        try:
            made = cls(**{name: given[name] for name in known if name in given})
        except InputError as error:
            problems.append(str(error).removesuffix("."))
        raise_all(problems)
        return made


#: Metrics that a target can limit.
COSTS = ("macs", "parameters", "bytes", "arena", "latency")


def make_plain(settings: Any) -> None:
    """Replace NumPy's numbers in the attributes of a frozen data class by Python's.

    YAML and JSON hold only Python's, and a fingerprint tells the two apart.
    """
    for field in dataclasses.fields(settings):
        object.__setattr__(settings, field.name, as_plain(getattr(settings, field.name)))


def as_plain(value: Any) -> Any:
    """Return a value with Python's numbers in place of NumPy's, also in containers."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {as_plain(name): as_plain(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(as_plain, value))
    return value


def described(value: Any) -> Any:
    """Return a setting as plain values: a function as its name, any other object as its `repr`."""
    if isinstance(value, Mapping):
        return {name: described(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


def only_watches(callbacks: Any) -> bool:
    """Tell whether a function's callbacks change no step, as its attribute `only_watches` says.

    Those of `--tensorboard` don't: a run with them is the run without them.
    """
    return getattr(callbacks, "only_watches", False) is True


def is_whole(value: Any, least: int) -> bool:
    """Tell whether a value is an integer, no bool, of at least `least`."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least


def is_above_zero(value: Any) -> bool:
    """Tell whether a value is a finite number above zero, no bool."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def is_part(value: Any) -> bool:
    """Tell whether a value is a number from 0 to 1, no bool."""
    return (is_above_zero(value) and value <= 1) or (value == 0 and not isinstance(value, bool))


def is_drop(value: Any) -> bool:
    """Tell whether a value is a valid drop of a score: zero, or a finite number above zero."""
    return is_above_zero(value) or (value == 0 and not isinstance(value, bool))


def check_drop(drop: float | None, outputs: Iterable[Any]) -> None:
    """Raise for a drop of a score from 0 to 1 that allows any score.

    Args:
        drop: The `drop` of a target, or `None`.
        outputs: The outputs that it is for, each with its `task`.

    Raises:
        InputError: for a drop of at least 1, unless every output is a regression.
    """
    if drop is not None and drop >= 1 and any(one.task != "regression" for one in outputs):
        raise InputError(f"A drop of {drop:g} allows any accuracy: 0.05 means 5 points.")


def parse_percentage(text: str) -> float | str:
    """Read `"0.5%"` or `"0.005"`; text that is no number is returned as it is."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return text
    return value / 100 if text.strip().endswith("%") else value


def trained_by(training: Training) -> dict[str, Any]:
    """Return the settings that decide the trained weights."""
    names = {field.name for field in dataclasses.fields(Training)}
    names -= {"steps_per_execution"}  # it changes no step
    found = {name: getattr(training, name) for name in sorted(names)}
    return found | ({"callbacks": None} if only_watches(training.callbacks) else {})
