"""Student and teacher in one Keras model: built, given another teacher, saved.

student, teacher ─► taps, adapters of features, alpha and temperature ─► `get_config`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfkd import losses
from tfkd.distillation import lessons, teachers, validation
from tfkd.distillation.scoring import Scores
from tfkd.errors import InputError
from tfkd.loading import file_check
from tfkd.losses import balance, pairing
from tfkd.losses import features as feature_losses
from tfkd.losses import soft as soft_losses
from tfkd.model import backends, binding, feature_extractor, graph, real_shapes

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from tfkd._typing import AnyModel, AnyTeacher, ModelOptions

#: Defaults with the adaptive soft loss, and with a named soft loss.
_ADAPTIVE = {"alpha": 0.5, "temperature": 1.0}
_NAMED = {
    "float": {"alpha": 0.1, "temperature": 4.0},
    "quantize-aware": {"alpha": 0.5, "temperature": 1.0},
}


class Pair:
    """A student and its teacher, written once for both Keras flavours.

    A subclass adds the flavour's `Model`.
    """

    def __init__(
        self,
        student: AnyModel,
        teacher: AnyTeacher | None = None,
        alpha: float | None = None,
        temperature: float | None = None,
        soft_loss: Any = "auto",
        features: Sequence[feature_losses.FeatureLoss] | Literal["auto"] = (),
        from_logits: bool | None = None,
        teacher_from_logits: bool | None = None,
        student_inputs: Callable[[Any], Any] | None = None,
        teacher_inputs: Callable[[Any], Any] | None = None,
        unlabeled: float | Mapping[str, float] | None = None,
        evaluate_teacher: bool = False,
        trusted: bool = False,
        **kwargs: Unpack[ModelOptions],
    ):
        validation.check_strategy(self._keras.__name__)
        # The student casts its own inputs; the policy turns on the optimizer's loss scaling.
        kwargs.setdefault("dtype", _policy(student))
        super().__init__(autocast=False, **kwargs)
        temperature = soft_losses.temperature_of(soft_loss, temperature)
        soft_loss = losses.resolve(soft_loss, temperature)
        defaults = _NAMED["quantize-aware" if backends.is_quantize_aware(student) else "float"]
        if _is_adaptive(soft_loss):
            defaults = _ADAPTIVE
        alpha = defaults["alpha"] if alpha is None else alpha
        temperature = defaults["temperature"] if temperature is None else temperature
        validation.check_number("alpha", alpha)
        validation.check_number("temperature", temperature)
        validation.check_flag("from_logits", from_logits)
        validation.check_flag("teacher_from_logits", teacher_from_logits)
        self.student = student
        if isinstance(features, str) and features == "auto":
            features = pairing.pair_layers(student, teacher)
        self._features = [feature_losses.get(one) for one in features]
        self._student_tap = feature_extractor.Tap(
            student, [f.student_layer for f in self._features], "student"
        )
        self._settings = {
            "soft_loss": soft_loss,
            "from_logits": from_logits,
            "teacher_from_logits": teacher_from_logits,
            "student_inputs": student_inputs,
            "teacher_inputs": teacher_inputs,
            "unlabeled": unlabeled,
            "evaluate_teacher": bool(evaluate_teacher),
        }
        # Variables, not Python floats, so that a callback can change them without a retrace.
        constant = self._keras.initializers.Constant
        self._alpha = self.add_weight(
            name="alpha",
            shape=(),
            dtype="float32",
            initializer=constant(float(alpha)),
            trainable=False,
        )
        self._temperature = self.add_weight(
            name="temperature",
            shape=(),
            dtype="float32",
            initializer=constant(float(temperature)),
            trainable=False,
        )
        self._feature_means = None
        if count := balance.count_auto(self._features):
            self._feature_means = self.add_weight(
                name="feature_means", shape=(2, count), dtype="float32", initializer="zeros",
                trainable=False,
                aggregation="mean" if self._keras is keras else tf.VariableAggregation.MEAN,
            )  # fmt: skip
        mean = self._keras.metrics.Mean
        self._trackers = {name: mean(name=name) for name in ("loss", "hard_loss", "soft_loss")}
        self._untracked = _Untracked()
        self._adapters = []
        if self._student_tap.inputs is not None:
            self._untracked.outputs = real_shapes.outputs_of(student, "student")
        with file_check.trusting(trusted):
            self.teacher = teacher
        self.built = True

    def __setattr__(self, name, value):
        if name == "teacher":  # Keras would track it, train it and save it
            Pair.teacher.fset(self, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves every model that it finds by `dir`.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def teacher(self) -> Any:
        """The teacher as it was given; `None` after loading, until it is set again."""
        return self._untracked.given

    @teacher.setter
    def teacher(self, given: Any) -> None:
        settings, untracked = self._settings, self._untracked
        untracked.given, untracked.teacher, untracked.objective = given, None, None
        # A step traced with the previous teacher would still ask that teacher.
        self.train_function = self.test_function = None
        if given is None:
            return
        names = [loss.teacher_layer for loss in self._features]
        if _is_array(given):
            if names:
                raise InputError("Feature losses need a Keras model as teacher, not an array.")
            untracked.teacher = teachers.ArrayTeacher(given, settings["teacher_from_logits"])
        else:
            same_x = settings["student_inputs"] is None
            untracked.teacher = teachers.Teacher(
                given, settings["teacher_from_logits"], names, settings["teacher_inputs"],
                student=self._student_tap.inputs if same_x else None,
            )  # fmt: skip
            untracked.teacher.check_stateless()
        validation.check_not_shared(self.student, untracked.teacher.models)
        self._build_adapters(untracked.teacher.feature_shapes)
        untracked.teacher.check_inputs()
        if untracked.outputs is not None:
            self._check_shapes()

    @property
    def alpha(self) -> Any:
        """Weight of the hard loss, a scalar variable; assign a number in [0, 1] to move it."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: Any) -> None:
        validation.check_number("alpha", value)
        self._alpha.assign(value)

    @property
    def temperature(self) -> Any:
        """Softening of both distributions, a scalar variable; assign a number > 0 to move it."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: Any) -> None:
        validation.check_number("temperature", value)
        self._temperature.assign(value)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration that rebuilds the distiller without its teacher."""
        pack = keras.saving.serialize_keras_object
        settings = dict(self._settings)
        for name in ("soft_loss", "student_inputs", "teacher_inputs"):
            if settings[name] is not None:
                settings[name] = pack(settings[name])
        return {
            "name": self.name,
            "student": self._keras.saving.serialize_keras_object(self.student),
            "alpha": float(tf.convert_to_tensor(self._alpha)),
            "temperature": float(tf.convert_to_tensor(self._temperature)),
            "features": [pack(one) for one in self._features],
            "teacher_feature_shapes": self._untracked.feature_shapes,
            **settings,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild a distiller from `get_config`'s result."""
        config = dict(config)
        for name in ("teacher", "trusted"):  # a file must not name other files to read
            config.pop(name, None)
        shapes = config.pop("teacher_feature_shapes", None)
        unpack = keras.saving.deserialize_keras_object
        for name in ("soft_loss", "student_inputs", "teacher_inputs"):
            if isinstance(config.get(name), dict):
                config[name] = unpack(config[name])
        student = cls._keras.saving.deserialize_keras_object(config.pop("student"))
        distiller = cls(student, **config)
        if shapes:
            # The saved weights need adapters now; the teacher, which sets their widths, comes last.
            distiller._build_adapters({name: tuple(shape) for name, shape in shapes.items()})
        return distiller

    def _teacher(self):
        if self._untracked.teacher is None:
            raise InputError(
                "This distiller has no teacher (a saved one does not include it): set "
                "distiller.teacher = teacher."
            )
        return self._untracked.teacher

    def _check_shapes(self):
        """Raise unless the outputs have the shapes of the teacher's outputs, stated or real."""
        untracked = self._untracked
        try:
            untracked.teacher.check_shapes(untracked.outputs)
        except InputError:
            if self._student_tap.inputs is None or not untracked.teacher.measure():
                raise
            untracked.outputs = real_shapes.outputs_of(self.student, "student", always=True)
            untracked.teacher.check_shapes(untracked.outputs)

    def _build_adapters(self, teacher_shapes):
        """Create the adapters' weights; keep them for another teacher of the same widths.

        Args:
            teacher_shapes: Shape of each of the teacher's features.

        Raises:
            InputError: if the adapters are for a teacher of other widths.
        """
        built, before = bool(self._adapters), self._untracked.feature_shapes
        identity, shapes = self._keras.layers.Identity, {}
        for i, one in enumerate(self._features):
            shape = self._student_tap.shapes[one.student_layer]
            theirs = shapes[one.teacher_layer] = list(teacher_shapes[one.teacher_layer])
            adapter = one.adapter(self._keras, shape, tuple(theirs))
            adapter = identity() if adapter is None else adapter
            if not built:
                adapter.build(shape)
                self._adapters.append(adapter)
                continue
            width = before[one.teacher_layer][-1]
            adapts = not all(isinstance(a, identity) for a in (adapter, self._adapters[i]))
            if adapts and theirs[-1] != width:
                raise InputError(
                    f"The teacher's {one.teacher_layer!r} has {theirs[-1]} channels, but the "
                    f"adapters of this distiller were made for {width}: make a new Distiller for "
                    "this teacher."
                )
        if self._features and not built:
            self._untracked.feature_shapes = shapes

    def _adapt_to_cache(self, cached):
        """Create the adapters for cached features, or check that those there are fit them.

        Args:
            cached: Shape of each feature. Sizes that are free in the student count as free, as they
                would in the teacher.
        """
        free = {}
        for one in self._features:
            ours, theirs = self._student_tap.shapes[one.student_layer], cached[one.teacher_layer]
            if len(ours) == len(theirs):
                sizes = zip(theirs[:-1], ours[:-1], strict=True)
                theirs = (*(None if own is None else size for size, own in sizes), theirs[-1])
            free[one.teacher_layer] = theirs
        with self.distribute_strategy.scope():
            self._build_adapters(free)


class _Untracked:
    """Attributes of a distiller that Keras must neither track, save nor train."""

    given = teacher = objective = features = loss = loss_weights = feature_shapes = jit_compile = (
        None
    )
    outputs: binding.Slots | None = None
    metrics: list | None = None
    hides_hard_and_soft = False  # whether `metrics` leaves out the hard and the soft loss
    compiled: dict | None = None  # arguments of `compile` from before the outputs were known
    ends_on_nan = False
    has_built_metrics = False

    def __init__(self):
        self.scores = Scores()


def _is_adaptive(soft_loss) -> bool:
    """Tell whether every output that learns from the teacher has the adaptive loss."""
    if isinstance(soft_loss, (list, tuple, dict)) and not lessons.is_config(soft_loss):
        values = soft_loss.values() if isinstance(soft_loss, dict) else soft_loss
        named = [value for value in values if value is not None]
        return bool(named) and all(isinstance(v, str) and v == "adaptive" for v in named)
    return isinstance(soft_loss, str) and soft_loss == "adaptive"


def _is_array(given) -> bool:
    """Tell whether a teacher is given as arrays of its outputs: one, or a list or dict."""
    parts = list(graph.leaves(given))
    return bool(parts) and all(isinstance(one, (np.ndarray, tf.Tensor)) for one in parts)


def _policy(student) -> str:
    half = any(getattr(layer, "compute_dtype", "") == "float16" for layer in student.layers)
    return "mixed_float16" if half else "float32"
