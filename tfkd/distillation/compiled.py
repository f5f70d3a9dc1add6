"""A pair that is compiled: which losses, weights and metrics belong to which output."""

from __future__ import annotations

from typing import Any

import keras

from tfkd.data import Part
from tfkd.distillation import lessons, validation
from tfkd.distillation.objective import Objective
from tfkd.distillation.pair import Pair
from tfkd.errors import InputError
from tfkd.model import backends, binding, feature_extractor, graph, real_shapes


class Compiled(Pair):
    """A pair with the objective that it was compiled for."""

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure training; takes what `keras.Model.compile` takes.

        Args:
            optimizer: A Keras optimizer or its name. Defaults to `"adam"`.
            loss: The hard loss between labels and outputs, or `None` to learn from the
                teacher alone; by output name or in order for several outputs.
            metrics: Metrics of the student's outputs.
            loss_weights: Weights of the outputs, for the hard and the soft loss alike.
            **kwargs: Passed on to Keras.

        Raises:
            InputError: where the loss does not fit the outputs, or logits and
                probabilities can't be told apart.
        """
        kwargs = {"metrics": metrics, **kwargs}
        backends.check_flavour(
            self._keras.__name__, optimizer=optimizer, loss=loss, metrics=metrics,
            weighted_metrics=kwargs.get("weighted_metrics"),
        )  # fmt: skip
        untracked = self._untracked
        untracked.objective = None
        untracked.loss, untracked.loss_weights = loss, loss_weights
        untracked.jit_compile = kwargs.get("jit_compile")
        if untracked.outputs is None:
            # The student's outputs are unknown until it has seen data.
            untracked.compiled = {"optimizer": optimizer, **kwargs}
            super().compile(optimizer=optimizer, loss=loss, loss_weights=loss_weights, **kwargs)
            return
        if untracked.teacher is not None:
            self._objective()
        self._compile_outputs(optimizer=optimizer, **kwargs)

    def _compile_outputs(self, **kwargs):
        """Pass losses, metrics and their names to Keras in the order of the outputs."""
        untracked, outputs = self._untracked, self._untracked.outputs
        losses_ = lessons.per_output(untracked.loss, outputs, "loss")
        weights = lessons.per_output(untracked.loss_weights, outputs, "loss_weights")
        several = len(outputs) > 1
        measured = [[] for _ in outputs.entries]
        for name in ("metrics", "weighted_metrics"):
            given = kwargs.get(name)
            for i, found in enumerate(_metrics_of(given, outputs)):
                measured[i] += found
            if isinstance(given, dict) or outputs.is_nested(given):
                bound = [[] if m is None else m for m in outputs.bind(given, name, missing=True)]
                listed = several or not isinstance(bound[0], (list, tuple))
                kwargs[name] = bound if listed else bound[0]
        if several:
            # The names that Keras itself gives the losses and metrics of this student.
            by_key = self._keras is keras and all(slot.key for slot in outputs.entries)
            self.output_names = [s.key if by_key else s.name for s in outputs.entries]
        kwargs["loss_weights"] = loss_weights = untracked.loss_weights
        if (several and loss_weights is not None) or isinstance(loss_weights, dict):
            kwargs["loss_weights"] = [1.0 if w is None else float(w) for w in weights]
        loss = None
        if any(one is not None for one in losses_):
            loss = losses_ if several else losses_[0]
        super().compile(loss=loss, **kwargs)
        untracked.metrics, untracked.has_built_metrics = measured, not any(measured)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a loaded distiller as it was compiled before it was saved."""
        config = self._keras.saving.deserialize_keras_object(config)
        outputs = self._untracked.outputs
        if outputs is not None and not outputs.ordered:
            # Keras got lists in flat order; a caller's lists could have another order.
            for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
                if isinstance(config.get(name), (list, tuple)):
                    config[name] = outputs.packed(config[name])
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def _build_student(self, x, y):
        """Call a student without a graph on the first examples, to learn its outputs."""
        untracked = self._untracked
        if untracked.outputs is not None:
            return
        if isinstance(x, Part):
            x, y = next(x.batches(1, again=False)).x, None
        few, _ = validation.first_examples(x, y, count=1)
        if few is None:
            raise InputError(
                f"The outputs of the student {self.student.name!r} ({type(self.student).__name__}) "
                "are known only once it is called, and this data can't be read in advance: give "
                "arrays or a dataset, or rebuild the student with the Functional API."
            )
        values = self(few, training=False)
        if graph.has_graph(self.student):  # a Sequential, which this call has built
            self._student_tap = feature_extractor.Tap(self.student, (), "student")
            untracked.outputs = real_shapes.outputs_of(self.student, "student")
        else:
            owner = f"student {self.student.name!r}"
            untracked.outputs = binding.slots_of_values(values, "output", owner)
        if untracked.teacher is not None:
            untracked.teacher.check_shapes(untracked.outputs)
        if untracked.compiled is not None:
            self._objective()
            self._compile_outputs(**untracked.compiled)

    def _check_compiled(self, method: str):
        if getattr(self, "optimizer", None) is None:
            raise InputError(f"Call distiller.compile(optimizer, loss) before {method}.")

    def _objective(self) -> Objective:
        untracked = self._untracked
        if untracked.objective is None:
            untracked.objective = Objective(
                self.student,
                untracked.outputs,
                untracked.loss,
                untracked.loss_weights,
                self._settings,
            )
            if untracked.teacher is not None:
                untracked.teacher.check(
                    untracked.objective.tasks, untracked.outputs, untracked.objective.axes
                )
        if untracked.metrics is not None:
            untracked.objective.metrics = untracked.metrics
        return untracked.objective


def _metrics_of(given, outputs: binding.Slots) -> list[list]:
    """Return the metrics of each output, as Keras reads the arguments of `compile`."""
    count = len(outputs)
    if not given:
        return [[] for _ in range(count)]
    if isinstance(given, dict) or outputs.is_nested(given):
        given = outputs.bind(given, "metrics", missing=True)
    elif count == 1 or not isinstance(given, (list, tuple)) or len(given) != count:
        given = [given] * count
    listed = [one if isinstance(one, (list, tuple)) else [one] for one in given]
    return [[metric for metric in one if metric is not None] for one in listed]
