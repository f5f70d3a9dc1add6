"""`Trainer`, which fits models of either Keras in the same way."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfkd.compression import outputs as outputs_
from tfkd.compression import tokens
from tfkd.compression.parts import State
from tfkd.compression.parts import ends as part_ends
from tfkd.compression.settings import Training
from tfkd.compression.twin import in_place_of
from tfkd.data import Part, Samples, Stream, as_data
from tfkd.data.outputs import spelled
from tfkd.distillation import assertions
from tfkd.distillation.validation import broken_layers
from tfkd.errors import InputError, UnsupportedError
from tfkd.model import backends, graph
from tfkd.model.fingerprint import changes

if TYPE_CHECKING:
    from tfkd.compression.stages import Parts
    from tfkd.data.door import AnyData

#: Parts whose name in messages is another.
_CALLED = {"train": "training"}
#: Called as `progress(stage, done, total)` while a stage runs.
Progress = Callable[[str, int, int], None]


class Trainer:
    """Fits models of either Keras in the same way on the same data.

    The learning rate decays to zero along a cosine; the loss is that of `loss_for`.

    Args:
        data: Data in three parts, or what `as_data` takes; the test part is not used.
        training: Epochs, learning rate and other settings. The seed is set again before each
            fit.
        progress: Called as `progress(stage, epochs_done, epochs)`.
        task: One of `tfkd.model.task.TASKS`; for several outputs, a dict by name. Defaults to the
            task that labels and outputs imply.
    """

    def __init__(
        self,
        data: AnyData,
        training: Training,
        *,
        progress: Progress | None = None,
        task: str | Mapping[str, str] | None = None,
    ):
        self.data, self.training = as_data(data), training
        self.progress = progress or (lambda stage, done, total: None)
        for name, part in self.data.parts.items():
            if isinstance(part, Stream):
                part.name_it(_CALLED.get(name, name))
        self.given_task = outputs_.canonical(task, self.data.outputs)
        self.histories: dict[str, dict[str, list[float]]] = {}

    def outputs(self, student) -> tuple[outputs_.Output, ...]:
        """Return the outputs of a student in its flat order, each with labels and task."""
        return outputs_.outputs_of(student, self.data.train.labels, self.given_task)

    def task(self, student) -> Any:
        """Return the task, as given or as a student's output and the labels imply it.

        For several outputs it is a dict by name.
        """
        found = {output.name: output.task for output in self.outputs(student)}
        return found if self.data.outputs else found[None]

    def fit(
        self,
        stage: str,
        student,
        teach: Callable[[Any], Any] | None = None,
        training: Training | None = None,
        *,
        validate: bool = True,
        parts: Parts | None = None,
        **kwargs,
    ) -> None:
        """Train a student, alone or in a Distiller, and keep its history.

        Args:
            stage: Name of this fit in `histories` and in calls of `progress`.
            student: The model to train.
            teach: Takes the student, or its twin in the other Keras, and returns a Distiller
                that trains it. Without it the student is trained alone.
            training: Settings that replace the trainer's own.
            validate: Whether to evaluate on the validation part after each epoch.
            parts: Where a long training keeps its progress and continues from; only then is it
                divided. Not for a training with `patience` or callbacks, whose state is not known.
            **kwargs: Passed to `model.fit`.

        Raises:
            InputError: as `Distiller.fit`, and if the weights are not finite afterwards.
        """
        training = training or self.training
        epochs = training.epochs
        if self.data.class_weight is not None:
            kwargs["class_weight"] = dict(self.data.class_weight)
        steps = epochs * -(-len(self.data.train) // training.batch_size)
        with in_place_of(student) if training.twin else contextlib.nullcontext(student) as learner:
            model = learner if teach is None else teach(learner)
            self.compile(model, learner, steps, training)
            self.progress(stage, 0, epochs)
            package = backends.package_of(learner)
            tick = package.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: self.progress(stage, epoch + 1, epochs)
            )
            callbacks = [tick, *self._callbacks(stage, package, training)]
            if validate:
                kwargs["validation_data"] = self._validation(learner, training)
            with assertions.as_input_errors(), _labels_out_of_range():
                curves = self._fit_parts(
                    model, learner, training, parts, callbacks=callbacks, verbose=0, **kwargs
                )
        if learner is not student and teach is None:
            self.compile(student, student, steps, training)  # like a model trained on its own
        if broken := broken_layers(student):
            raise InputError(
                f"Training of {stage!r} left NaN or infinite weights (in "
                f"{', '.join(map(repr, broken[:3]))}): {self._cause()}."
            )
        self.histories[stage] = outputs_.curves_by_name(curves, learner, self.data.outputs)

    def _fit_parts(
        self, model, learner, training: Training, parts: Parts | None, **kwargs
    ) -> dict[str, list[float]]:
        """Fit a compiled model, in parts if it takes long, and return its curves."""
        last, curves = training.epochs, dict[str, list[float]]()
        ends, done = [last], 0
        if parts is not None and training.patience is None and training.callbacks is None:
            ends = part_ends(learner, len(self.data.train), last)
            model.make_train_function()  # a Distiller builds its optimizer here
            state = State(learner, model.optimizer)
            done, curves = parts.last(state)
        for end in ends:
            if end <= done:
                continue
            keras.utils.set_random_seed((training.seed + done) % 2**32)
            history = model.fit(
                **self._batches(learner, training), initial_epoch=done, epochs=end, **kwargs
            ).history
            for name, values in history.items():
                curves.setdefault(name, []).extend(map(float, values))
            done = end
            if end < last:
                parts.keep(end, curves, state)
        return curves

    def _callbacks(self, stage: str, package: Any, training: Training) -> list[Any]:
        """Return the caller's callbacks, and one that ends a training without further gains."""
        made = [] if training.callbacks is None else list(training.callbacks(stage, package))
        if training.patience is not None:
            made.append(
                package.callbacks.EarlyStopping(
                    "val_loss", patience=training.patience, restore_best_weights=True
                )
            )
        return made

    @functools.cached_property
    def changes_examples(self) -> bool:
        """Whether a teacher has to run in every step, because it sees new examples in each pass.

        Warns:
            UserWarning: for a stream that changes them by itself.
        """
        if self.training.augment is not None:
            return True
        if not changes(self.data.train):
            return False
        warnings.warn(
            "The training part yields other examples in each pass: the teacher runs in every step, "
            "and another run can't continue this one (`spiral` and `compare` need a new folder).",
            stacklevel=2,
        )
        return True

    def check(self, student) -> None:
        """Raise for data that can't be learned or scored, as far as seen before any training.

        Raises:
            InputError: for values that are not finite, labels that don't fit the output, a training
                part with only one class, and a validation or test part that is a shuffled or
                weighted stream.

        Warns:
            UserWarning: for a class that only validation and test part have.
        """
        self.check_inputs(student, "student")
        self.check_scored()
        outputs = self.outputs(student)
        if isinstance(self.data.train, Samples):
            for output in outputs:
                output.check()
        labels = []
        for name, part in self.data.parts.items():
            called = _CALLED.get(name, name)
            # Examples on a disk or in a stream are checked as they are read.
            if part.in_memory and (problem := _not_finite(part, called)):
                raise InputError(f"{problem}: leave them out, or fill them in.")
            labels.append(part.labels)
            for output in outputs:
                try:
                    output.of(labels[-1]).loss(keras)
                except InputError as error:
                    raise InputError(f"In the {name} part: {error}") from error
        for output in outputs:
            output.warn_of_unseen(labels)

    def check_scored(self) -> None:
        """Raise for streams of validation and test that can't be scored, before any training."""
        for part in (self.data.validation, self.data.test):
            if isinstance(part, Stream):
                part.check_scored()

    def check_inputs(self, model, who: str) -> None:
        """Raise for a model that does not take the examples, or whose answers have a mask.

        Args:
            model: A model of either Keras.
            who: Its name in messages: `"teacher"` or `"student"`.

        Raises:
            InputError: for several inputs, examples of another shape, and numbers that an
                `Embedding` does not have.
            UnsupportedError: for answers with a mask.
        """
        taken, given = getattr(model, "input_shape", None), self.data.train.shape
        if taken is None:  # a subclassed model has no outputs before its first call
            return
        if not isinstance(taken, tuple) or not all(isinstance(n, (int, type(None))) for n in taken):
            raise InputError(
                f"The {who} {model.name!r} takes several inputs, but the data has one: train it in "
                "a Distiller."
            )
        wants, has = taken[1:], given[1:]
        if not _fits(wants, has):
            fix = "data of its shape, or a model of the data's shape"
            # Keras adds and removes a last axis of 1, but a file does not.
            if _fits(wants, (*has, 1)):
                fix = "x[..., None]"
            elif has[-1:] == (1,) and _fits(wants, has[:-1]):
                fix = "x[..., 0]"
            raise InputError(
                f"The examples have the shape {has}, but the {who} {model.name!r} takes {wants}: "
                f"give {fix}."
            )
        tokens.check(model, who, self.data)
        if not graph.has_graph(model) or all(
            output.masked is False for output in graph.walk(model).output_list
        ):
            return
        answers = model(self.data.train.head(1).x, training=False)  # a nested model may be last
        if any(getattr(one, "_keras_mask", None) is not None for one in graph.leaves(answers)):
            raise UnsupportedError(
                f"The {who} {model.name!r} masks padding in its answers, one for each step. A "
                "file's answers have no mask, so padding would be scored, too: train it in a "
                "Distiller."
            )

    def _cause(self) -> str:
        """Return why the weights are not finite, or what to do if the data does not explain it."""
        return _not_finite(self.data.train, "training") or "lower the learning rate"

    def compile(self, model, student, steps: int = 1, training: Training | None = None) -> None:
        """Compile `model` for a number of steps, with the loss and metric of a student's output."""
        training = training or self.training
        package = backends.package_of(student)
        schedule: Any = training.learning_rate
        if training.schedule == "cosine":
            schedule = package.optimizers.schedules.CosineDecay(schedule, steps)
        losses, metrics, names = [], [], self.data.class_names
        outputs = self.outputs(student)
        for output in outputs:
            of_classes = names if output.name is None else dict(names).get(output.name, ())
            output.check_names(tuple(of_classes), student.name)
            losses.append(output.loss(package))
            metrics.append([output.metric(package, losses[-1])])
        if training.optimizer == "sgd":
            optimizer = package.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
        else:
            optimizer = package.optimizers.Adam(schedule)
        # With more steps at once tf_keras would trace the step twice, and quantize-aware steps
        # gain little.
        steps_at_once = min(training.steps_per_execution, steps) if package is keras else 1
        loss, metrics = (
            outputs_.arranged(student, [output.name for output in outputs], values)
            for values in (losses, metrics)
        )
        model.compile(optimizer, loss, metrics=metrics, steps_per_execution=steps_at_once)
        if model is student:  # a Distiller builds its optimizer itself
            # Slot variables created inside the step would make TensorFlow trace it twice.
            optimizer.build(model.trainable_variables)

    def _batches(self, learner, training: Training):
        train, size = self.data.train, training.batch_size
        if training.augment is None and train.in_memory:
            return {"x": train.x, "y": self._arranged(learner, train.y), "batch_size": size}
        batches = train.dataset(size, seed=training.seed, augment=training.augment)
        # Shuffled there; else Keras 3 warns.
        return {"x": self._arranged_batches(learner, batches), "shuffle": False}

    def _validation(self, learner, training: Training):
        part = self.data.validation
        if part.in_memory:
            return part.x, self._arranged(learner, part.y)
        return self._arranged_batches(learner, part.dataset(training.batch_size))

    def _arranged(self, learner, y):
        """Return labels in the form that a learner's own `fit` takes."""
        names = outputs_.names_in(learner, self.data.outputs)
        return outputs_.arranged(learner, names, [outputs_.value_of(y, name) for name in names])

    def _arranged_batches(self, learner, batches):
        if not self.data.outputs:
            return batches
        # A tuple, by place of the label; `fit` would make one tensor of a list.
        form = self._arranged(learner, {name: name for name in self.data.outputs})
        if isinstance(form, list):
            return batches.map(lambda x, y, *rest: (x, tuple([y[name] for name in form]), *rest))
        return batches.map(
            lambda x, y, *rest: (x, {key: y[name] for key, name in form.items()}, *rest)
        )


@contextlib.contextmanager
def _labels_out_of_range():
    """Raise a one-line error for a label that is no class; a stream shows it only in training."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"Received a label value of (-?\d+) .*?range of \[0, (\d+)\)", str(error))
        if found is None:
            raise
        raise InputError(
            f"The labels hold {found[1]}, but for outputs of {found[2]} classes they run from 0 to "
            f"{int(found[2]) - 1}; number the classes from 0."
        ) from None


def _fits(wants: tuple[int | None, ...], has: tuple[int | None, ...]) -> bool:
    """Tell whether examples have a shape; `None` is any size."""
    sizes = zip(wants, has, strict=False)
    return len(wants) == len(has) and all(n in (None, m) for n, m in sizes)


def _not_finite(part: Part, name: str) -> str | None:
    """Return which examples contain values that are not finite; `None` if all are finite."""
    bad: dict[str, list[int]] = {}
    seen = 0
    for batch in part.batches(part.at_once(), again=False):
        for what, values in (("x", batch.x), *spelled(batch.y)):
            if np.asarray(values).dtype.kind == "f":
                rows = np.flatnonzero(~np.isfinite(values).reshape(len(batch), -1).all(1))
                bad.setdefault(what, []).extend(rows + seen)
        seen += len(batch)
    return next(
        (
            f"{what} holds NaN or infinite values in {len(rows)} of {len(part)} {name} "
            f"examples (the first is number {rows[0]} of them)"
            for what, rows in bad.items()
            if rows
        ),
        None,
    )
