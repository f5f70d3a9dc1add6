"""Whatever can teach, as one thing: a callable that gives logits (or values) for a batch."""

from __future__ import annotations

import tensorflow as tf

from tfkd import backends, graph, losses
from tfkd.errors import InputError, UnsupportedError


def output_activation(model) -> str | None:
    """Tell what a model's single output is by its last layer.

    Returns:
        `"softmax"`, `"sigmoid"` or `"linear"`; `None` where it can't be told (another
        activation, a custom layer, a subclassed model).
    """
    try:
        source = graph.walk(model)
    except UnsupportedError:
        return None
    if len(source.output_list) != 1:
        return None
    return _activation_behind(source, source.output_list[0])


def _activation_behind(source: graph.Graph, tensor: graph.Tensor) -> str | None:
    call = source.producer(tensor)
    if call is None:
        return None
    layer = call.layer
    if "Quantize" in type(layer).__name__ and hasattr(layer, "layer"):
        layer = layer.layer  # a tfmot wrapper
    kind = type(layer).__name__
    if kind in _SHAPE_ONLY:
        return _activation_behind(source, call.inputs[0])
    if kind in ("Softmax", "ReLU"):
        return {"Softmax": "softmax"}.get(kind)
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # tfmot's QuantizeAwareActivation
    name = getattr(activation, "__name__", None)
    if name in ("softmax", "sigmoid", "linear"):
        return name
    # A kernel whose activation is off, or sums and means of such, leave values as they are.
    return "linear" if activation is None and kind in _LINEAR else None


_SHAPE_ONLY = frozenset({"Reshape", "Flatten", "Dropout", "Permute", "QuantizeLayer"})
_LINEAR = frozenset(
    {
        "Dense",
        "Conv1D",
        "Conv2D",
        "Add",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "BatchNormalization",
        "Rescaling",
    }
)


class Teacher:
    """One or several trained models that answer for a batch, never trained themselves.

    The caller's models are not touched: not their weights, `trainable` flags or compile
    state. They always run in inference mode, and no gradient flows into them.

    Args:
        models: The models, Keras 3 or tf_keras. Several are averaged: their
            probabilities for classification, their values for regression.
        from_logits: Whether the outputs are logits, for models where that can't be told.

    Raises:
        InputError: if something in `models` is not a Keras model, or there is none.
    """

    def __init__(self, models, from_logits: bool | None = None):
        models = list(models) if isinstance(models, (list, tuple)) else [models]
        if not models:
            raise InputError("The list of teachers is empty; give at least one model.")
        for model in models:
            if not hasattr(model, "layers") or backends.flavour(model) is None:
                raise InputError(
                    "A teacher must be a Keras 3 or tf_keras model, or a list of them; "
                    f"got {type(model).__name__}."
                )
        self.models = models
        self.from_logits = from_logits

    def check(self, task: str) -> None:
        """Raise unless every model's outputs can be read for this task.

        Raises:
            InputError: where logits and probabilities can't be told apart.
        """
        for model in self.models:
            self._activation(model, task)

    def answers(self, x, task: str) -> tf.Tensor:
        """Return what the teacher says of a batch.

        Args:
            x: A batch of inputs.
            task: One of `losses.TASKS`.

        Returns:
            Float32 logits, or values for `"regression"`; gradients are stopped.
        """
        answers = [
            losses.logits_of(model(x, training=False), self._activation(model, task))
            for model in self.models
        ]
        if len(answers) == 1:
            combined = answers[0]
        elif task == "categorical":
            combined = tf.reduce_logsumexp([tf.nn.log_softmax(a) for a in answers], axis=0)
        elif task == "binary":
            yes = tf.reduce_logsumexp([tf.math.log_sigmoid(a) for a in answers], axis=0)
            no = tf.reduce_logsumexp([tf.math.log_sigmoid(-a) for a in answers], axis=0)
            combined = yes - no
        else:
            combined = tf.reduce_mean(answers, axis=0)
        return tf.stop_gradient(combined)

    def _activation(self, model, task: str) -> str:
        return readable_activation("teacher", model, task, self.from_logits)


def readable_activation(role: str, model, task: str, from_logits: bool | None) -> str:
    """Return how a model's outputs become logits for a task, or raise.

    Args:
        role: `"teacher"` or `"student"`, for the message.
        model: A Keras model.
        task: One of `losses.TASKS`.
        from_logits: What the caller says, or `None` to look at the model.

    Raises:
        InputError: where it can't be told, or the caller contradicts the model.
    """
    if task == "regression":
        return "linear"
    squash = {"categorical": "softmax", "binary": "sigmoid"}[task]
    seen = output_activation(model)
    argument = "from_logits" if role == "student" else "teacher_from_logits"
    if from_logits is None:
        if seen in ("linear", squash):
            return seen
        raise InputError(
            f"Whether the {role} {model.name!r} gives logits or probabilities can't be told from "
            f"its last layer ({seen or 'unknown'} output, {task} task); say {argument}=True for "
            f"logits or {argument}=False for {squash} probabilities."
        )
    said = "linear" if from_logits else squash
    if seen in ("linear", "softmax", "sigmoid") and seen != said:
        raise InputError(
            f"{argument}={from_logits} contradicts the {role} {model.name!r}, whose output is "
            f"{seen}; leave {argument} out."
        )
    return said
