"""`--micro`, `--android` and `--web` of `tfkd export`: the folders beside the file."""

from __future__ import annotations

import math
import pathlib
import shutil
import sys
import warnings

from tfkd.errors import InputError, TfkdError, raise_all


class Bundles:
    """The folders of `--micro`, `--android` and `--web`, checked before the file is made."""

    def __init__(self, options, out: pathlib.Path):
        self.options, self.written, self.verdicts = options, {}, []
        kinds = [kind for kind in ("micro", "android", "web") if getattr(options, kind)]
        self.folders = {kind: out.with_name(f"{out.stem}_{kind}") for kind in kinds}
        self.device = {key: getattr(options, key) for key in ("flash", "ram", "board")}
        self.device = {key: value for key, value in self.device.items() if value is not None}
        if not kinds and (options.name or options.classes or options.mean or options.std):
            raise InputError(
                "--name, --classes, --mean and --std need --micro, --android or --web."
            )
        if kinds:
            from tfkd.export.micro.bundle import check_name, clean_name

            self.name = options.name or clean_name(out.stem)
            check_name(self.name)
        if self.device and "micro" not in kinds:
            raise InputError("--flash, --ram and --board need --micro.")
        self.more = {kind: {} for kind in kinds}  # arguments of one kind only
        if options.arena_bytes is not None:
            if "micro" not in kinds:
                raise InputError("--arena needs --micro.")
            from tfkd.export.micro.boards import parse_size

            self.more["micro"]["arena_bytes"] = parse_size(options.arena_bytes)
        if options.project:
            self._check_project(kinds)
        if self.device:
            from tfkd.export.micro.boards import fits

            fits(0, 0, **self.device)  # raises if it is not understood
        for name, folder in self.folders.items():
            full = folder.is_dir() and any(folder.iterdir())
            if folder.is_file() or (full and not options.force):
                raise InputError(
                    f"--{name} writes into {str(folder)!r}, which exists; name another --out, "
                    "or replace its files with --force."
                )
        self.classes = _lines(options.classes) if options.classes else None
        self.preprocessing = None
        if options.mean or options.std:
            self.preprocessing = {"mean": options.mean or [0.0], "std": options.std or [1.0]}
            numbers = [*self.preprocessing["mean"], *self.preprocessing["std"]]
            if min(self.preprocessing["std"]) <= 0 or not all(map(math.isfinite, numbers)):
                raise InputError(f"--mean and --std must be finite, --std above 0, got {numbers}.")

    def _check_project(self, kinds):
        """Assign the project to its kind of bundle."""
        from tfkd.export.android.project import KINDS
        from tfkd.export.micro import boards, project

        given = self.options.project
        kind = "android" if given in KINDS else "micro"
        if kind not in kinds:
            raise InputError(f"--project {given} needs --{kind}.")
        self.more[kind]["project"] = given
        if kind == "micro":
            raise_all(project.flaws_of_name(self.name, given))
            project.check_board(given, boards.find(self.options.board))
            self.more[kind]["board"] = self.options.board

    def write(self, file, data, others, verification=None):
        """Write the requested folders, each complete or not at all.

        Args:
            file: The `.tflite` file.
            data: The data to evaluate it on, or `None`.
            others: Further formats by name, for a phone's GPU.
            verification: The comparison of the file with its model, or `None`.
        """
        was_there = {folder for folder in self.folders.values() if folder.exists()}
        try:
            self._write(file, data, others, verification)
        except BaseException as error:
            for folder in set(self.folders.values()) - was_there:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, TfkdError):
                raise InputError(f"The file was written, but not the bundle: {error}") from error
            raise

    def _write(self, file, data, others, verification):
        import tfkd.export
        from tfkd.data.outputs import shown

        x, y = (None, None) if data is None else (data.test.x, data.test.y)
        outputs = len(file.outputs) - len(file.states)
        if data is not None and (outputs != 1) != bool(data.outputs):
            y = None
            if verification is None:  # which reports it, too
                warnings.warn(
                    f"The labels are for {shown(data.outputs)}, but the file has {outputs}: the "
                    "golden example has no label.",
                    stacklevel=2,
                )
        if self.preprocessing is not None:
            from tfkd.export.tflite.metadata import normalizations_of

            normalizations_of(file, self.preprocessing)  # one value per channel?
        if self.classes is None and data is not None:
            from tfkd.export.tflite.metadata import class_names_for

            self.classes = class_names_for(file, data)
        for kind, folder in self.folders.items():
            self.written[kind] = getattr(tfkd.export, f"{kind}_bundle")(
                file,
                folder,
                self.name,
                class_names=self.classes,
                preprocessing=self.preprocessing,
                x=x,
                y=y,
                force=self.options.force,
                notice=verification.failure if verification else "",
                **({"others": others} if kind == "android" else {}),
                **self.more[kind],
            )
        if self.device:
            from tfkd.export.micro.boards import fits

            arena = self.written["micro"].arena_bytes
            self.verdicts = fits(file.size, arena, **self.device)

    def to_json(self) -> dict:
        """Return the written folders as plain values."""
        report = {kind: bundle.to_json() for kind, bundle in self.written.items()}
        if self.verdicts:
            report["fits"] = [vars(verdict) for verdict in self.verdicts]
        return report

    def describe(self) -> str:
        """Return what was written, and whether it fits, as text."""
        lines = [bundle.describe() for bundle in self.written.values()]
        lines += [verdict.describe() for verdict in self.verdicts]
        return "".join(f"{line}\n" for line in lines)

    @property
    def fit(self) -> bool:
        """Whether the model fits everything it was meant to fit."""
        return all(verdict.fits for verdict in self.verdicts)

    def status(self) -> int:
        """Return the exit status, with a line on stderr for everything that does not fit."""
        too_much = [verdict for verdict in self.verdicts if not verdict.fits]
        if too_much:
            reasons = "; ".join(
                f"{verdict.resource} has {verdict.available_bytes:,} bytes, and the model needs "
                f"{verdict.needed_bytes:,}"
                for verdict in too_much
            )
            print(f"does not fit: {reasons}", file=sys.stderr)
        return 1 if too_much else 0


def _lines(path) -> list[str]:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the class names in {str(path)!r}: {error}.") from error
