"""The arguments of `to_tflite`, checked before anything is done."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.errors import InputError, MissingDependencyError, argument
from tfkd.export.conversion import tracing
from tfkd.export.conversion.formats import FORMATS, INTEGER
from tfkd.export.conversion.recurrent import choice
from tfkd.export.micro import evaluation as micro_runtime
from tfkd.model import binding


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `to_tflite`, checked."""

    format: str
    batch: int | None
    recurrent: str
    float_io: bool = False
    skip: tuple[str, ...] = ()
    bits: dict[str, int] = dataclasses.field(default_factory=dict)
    micro: bool = False
    flex: bool = False
    custom: bool = False
    shapes: dict[str, tuple[int | None, ...]] = dataclasses.field(default_factory=dict)
    uint8_io: bool = False
    signature: str | None = None

    @property
    def free(self) -> bool:
        """Whether sizes of inputs may stay free."""
        return self.format in ("float32", "float16", "dynamic") and not self.micro

    def __post_init__(self):
        if self.format not in FORMATS:
            raise InputError(f"format must be one of {FORMATS}, got {self.format!r}.")
        if self.recurrent not in choice.FORMS:
            raise InputError(f"recurrent must be one of {choice.FORMS}, got {self.recurrent!r}.")
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise InputError(f"batch must be a whole number of at least 1, got {self.batch!r}.")
        if self.float_io and self.format not in INTEGER:
            raise InputError(
                f"{argument('float_io', alone=True)} is for integer files; {self.format} has "
                "float inputs anyway."
            )
        if self.uint8_io and (self.format != "int8" or self.float_io):
            raise InputError(
                f"{argument('uint8_io', alone=True)} is for int8 files, and not with "
                f"{argument('float_io', alone=True)}; got "
                f"{'both' if self.float_io else self.format}."
            )
        if self.uint8_io and self.recurrent in ("step", "loop"):
            raise InputError(
                f"{argument('uint8_io', alone=True)} can't be combined with "
                f"{argument('recurrent', self.recurrent)}: leave one of them out."
            )
        if self.skip and self.format != "int8":
            raise InputError(
                f"{argument('skip')} leaves layers in float in int8 files only, not in "
                f"{self.format}."
            )
        if self.bits and self.format != "int4":
            raise InputError(
                f"{argument('bits')} needs {argument('format', 'int4')}, got {self.format!r}."
            )
        for name, width in self.bits.items():
            if width not in (4, 8, 32):
                raise InputError(
                    f"{argument('bits')} takes 4, 8 or 32 for {name!r}, got {width!r}."
                )
        if self.micro and self.format in ("float16", "dynamic", "int4"):
            raise InputError(
                f"Microcontrollers run float32, int8 and int16x8 files, not {self.format}: their "
                "kernels accept no weights narrower than the arithmetic. Use 'int8'."
            )
        if self.micro and (self.flex or self.custom):
            raise InputError(
                f"{argument('micro', True)} takes TFLite's own operators only: leave "
                f"{argument('allow_flex', alone=True)} and "
                f"{argument('allow_custom', alone=True)} out."
            )
        if self.micro and not micro_runtime.is_installed():
            raise MissingDependencyError(
                f"{argument('micro', True)} tries the file on TensorFlow Lite for "
                "Microcontrollers, which is not installed; its wheels are nightly builds for "
                "Linux x86-64: pip install 'tfkd[micro]'."
            )


def shapes_of(inputs: binding.Slots, request: Request) -> list[tuple] | None:
    """Return the inputs' shapes with the sizes that `shapes=` fixes, or `None` without any."""
    if not request.shapes:
        return None
    found = []
    bound = inputs.bind(request.shapes, argument("shapes"), missing=True)
    for slot, given in zip(inputs.entries, bound, strict=True):
        name, shape = slot.label, slot.shape
        if given is None:
            found.append(tuple(shape))
            continue
        sizes = tuple(given) if isinstance(given, (tuple, list)) else None
        fits = sizes is not None and len(sizes) == len(shape)
        fits = fits and all(
            one is None or (isinstance(one, (int, np.integer)) and one > 0) for one in sizes
        )
        if not fits or not all(
            None in pair or pair[0] == pair[1] for pair in zip(sizes[1:], shape[1:], strict=True)
        ):
            raise InputError(
                f"{argument('shapes')} must give {name!r} a size for each of {tuple(shape)}, the "
                f"batch first, and must not change a fixed one; got {given!r}."
            )
        if sizes[0] not in (None, request.batch):
            raise InputError(
                f"{argument('shapes')} gives {name!r} a batch of {sizes[0]}, but "
                f"{argument('batch')} is {request.batch}: give the same in both."
            )
        found.append((shape[0], *tracing.filled([shape], [sizes])[0][1:]))
    return found
