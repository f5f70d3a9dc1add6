"""`tfkd compress`, `tfkd distill` and `tfkd prune`: the commands that train."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from tfkd.cli import console
from tfkd.cli.reading import check_target
from tfkd.errors import InputError, MissingDependencyError
from tfkd.files import write_atomically

_OF_TRAINING = (
    *("epochs", "learning_rate", "batch_size", "optimizer", "schedule", "patience", "seed"),
)
_OF_RECIPE = (
    *_OF_TRAINING,
    *("alpha", "temperature", "soft_loss", "qat_epochs", "bits", "formats"),
    *("candidates", "search_epochs"),
)


def compress(options) -> int:
    """`tfkd compress`."""
    with console.working(options, "reading the data"):
        console.import_tensorflow()
        import tfkd
        from tfkd.compression.recipe import Call

        data = _data(options)

    call = Call() if options.recipe is None else Call.load(options.recipe)
    recipe = dataclasses.replace(call.recipe, **_given(options, _OF_RECIPE))
    recipe = dataclasses.replace(recipe, callbacks=_tensorboard(options.tensorboard))
    limits = {
        name: getattr(options, f"max_{name}")
        for name in ("drop", "bytes", "arena", "macs", "parameters", "latency")
    }
    limits = {name: value for name, value in limits.items() if value is not None}
    with console.Progress(options.quiet) as progress:
        result = tfkd.compress(
            options.teacher,
            data,
            student=options.student,
            out=options.out,
            target=dataclasses.replace(call.target, **limits),
            board=options.board or call.board,
            budget=options.budget or call.budget,
            recipe=recipe,
            progress=progress,
            force=options.force,
            task=options.task or call.task,
            teacher_from_logits=_logits(options, call.teacher_from_logits),
            command=options.typed,
        )
    if not (options.json or options.quiet):
        print(result.verdict.describe())
    status = shown(result, options)
    if result.reached is False:
        print("the target is not met", file=sys.stderr)
        return 1
    return status


def shown(result, options) -> int:
    """Print the report of a result; return 1 where a file failed its verification, else 0."""
    if options.json:
        console.print_json(result.report.to_json())
    elif not options.quiet:
        from rich.console import Console

        from tfkd.export.report.report import print_table

        print_table(result.report, Console())
        print(f"Files and report.html are in {os.path.join(options.out, '')}")
    failed = [m.name for m in result.report.models if m.parity and not m.parity["passed"]]
    if failed:
        print(f"verification failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def distill(options) -> int:
    """`tfkd distill`."""
    out = pathlib.Path(options.out)
    if out.suffix != ".keras":
        raise InputError(f"--out must name a .keras file, got {str(out)!r}.")
    check_target(out, [options.teacher, options.student, options.data], options.force)
    with console.working(options, "reading the models"):
        console.import_tensorflow()
        from tfkd.compression.finishing import Finisher
        from tfkd.compression.recipe import Recipe
        from tfkd.compression.trainer import Trainer
        from tfkd.loading import models
        from tfkd.translation.copies import copy_of

        data = _data(options)
        student = models.load_model(options.student, "student")
    recipe = Recipe(formats=("float32",), **_given(options, _OF_RECIPE))
    recipe = dataclasses.replace(recipe, callbacks=_tensorboard(options.tensorboard))
    with console.Progress(options.quiet) as progress:
        trainer = Trainer(data, recipe, progress=progress, task=options.task)
        finisher = Finisher(trainer, options.teacher, teacher_from_logits=_logits(options, None))
        finisher.check(student)
        trained, worth, scorer, _ = finisher.train(student)
    with tempfile.TemporaryDirectory() as folder:
        copy_of(trained["student"]).save(path := pathlib.Path(folder) / "student.keras")
        write_atomically(out, path.read_bytes())
    tested = {
        name: {
            output: score.value
            for output, score in finisher.scores(scorer, data.test, who, "test").items()
        }
        for name, who in (("teacher", "teacher"), ("student", trained["student"]))
    }
    if options.json:
        of_all = tested if data.outputs else {name: one[None] for name, one in tested.items()}
        told = {"path": str(out), "teaching": worth.to_json(), "test": of_all}
        console.print_json({**told, "training": trainer.histories})
    elif not options.quiet:
        print(f"{out}\n{worth}")
        for output, score in tested["teacher"].items():
            of = "" if output is None else f", {output}"
            own = tested["student"][output]
            print(f"on the test part{of}: teacher {score:.4f}, student {own:.4f}")
    return 0


def prune(options) -> int:
    """`tfkd prune`."""
    with console.working(options, "reading the models"):
        console.import_tensorflow()
        import tfkd
        from tfkd.loading import models

        data = _data(options)
        model = models.load_model(options.model)
    limits = {
        name: getattr(options, f"max_{name}")
        for name in ("drop", "bytes", "macs", "parameters", "latency")
    }
    target = {name: value for name, value in limits.items() if value is not None}
    if not target:
        raise InputError(
            "No target is given: set --max-macs, --max-parameters, --max-bytes or --max-latency, "
            "or only --max-drop to prune as far as it allows."
        )
    training = tfkd.Training(**_given(options, _OF_TRAINING))
    training = dataclasses.replace(training, callbacks=_tensorboard(options.tensorboard))
    with console.Progress(options.quiet) as progress:
        result = tfkd.spiral(
            model,
            data,
            target=target,
            training=training,
            teacher=options.teacher,
            step=options.step,
            rounds=options.rounds,
            final_epochs=options.final_epochs,
            criterion=options.criterion,
            round_to=options.round_to,
            skip=tuple(options.skip),
            format=options.format,
            folder=options.out,
            progress=progress,
        )
    if options.json:
        console.print_json(result.to_json())
    elif not options.quiet:
        print(result.describe())
        print(f"student.keras, spiral.json and spiral.svg are in {os.path.join(options.out, '')}")
    if not result.reached:
        print(f"the target is not met: {result.stopped}", file=sys.stderr)
    return 0 if result.reached else 1


def _data(options):
    """Return the data of `--data`, read with its other options."""
    from tfkd.data import as_data

    label = options.label
    return as_data(
        options.data,
        label=label[0] if label and len(label) == 1 else label,
        features=options.features,
        size=None if options.image_size is None else tuple(options.image_size),
        length=options.length,
        horizon=options.horizon,
        class_weight="balanced" if options.balanced else None,
    )


def _given(options, names) -> dict[str, Any]:
    """Return the options that the user typed."""
    typed = {name: getattr(options, name, None) for name in names}
    if typed.get("formats") is not None:
        typed["formats"] = tuple(typed["formats"])
    return {name: value for name, value in typed.items() if value is not None}


def _logits(options, otherwise: bool | None) -> bool | None:
    """Return the kind of the teacher's answers that the options state."""
    return {"logits": True, "probabilities": False, None: otherwise}[options.teacher_outputs]


def _tensorboard(folder: str | None) -> Callable[[str, Any], list[Any]] | None:
    """Return a function that makes a callback, which logs each stage in its own folder."""
    if folder is None:
        return None
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingDependencyError(
            "--tensorboard needs TensorBoard, which is not installed: pip install tensorboard"
        )

    def callbacks(stage: str, package: Any) -> list[Any]:
        return [package.callbacks.TensorBoard(os.path.join(folder, stage.replace(" ", "_")))]

    callbacks.only_watches = True  # a run with them is the run without them
    return callbacks
