"""The Python that repeats a run, for the reader of a result to paste into a script."""

from __future__ import annotations

import numbers

from tfkd import losses
from tfkd.comparison.methods import Method
from tfkd.comparison.runs import Runner
from tfkd.losses.outputs import Configured, option_of
from tfkd.model import task as tasks


def spelled(value, otherwise: str) -> str:
    """Return the Python for a value.

    Args:
        value: Anything.
        otherwise: What to write for a value that has no literal and is no loss of tfkd.

    Example:
        >>> spelled([0.1, "kl", losses.KLDivergence(reverse=True)], "x")
        "[0.1, 'kl', tfkd.losses.KLDivergence(reverse=True, class_weights=None)]"
    """
    return _spelled(value) or otherwise


def _spelled(value) -> str | None:
    if value is None or isinstance(value, (bool, str)):
        return repr(value)
    if isinstance(value, numbers.Integral):
        return repr(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, (list, tuple)):
        parts = [_spelled(one) for one in value]
        return None if None in parts else f"[{', '.join(parts)}]"
    name = type(value).__name__
    if isinstance(value, Configured) and getattr(losses, name, None) is type(value):
        parts = {key: _spelled(one) for key, one in value.get_config().items()}
        if None not in parts.values():
            return f"tfkd.losses.{name}({', '.join(f'{k}={v}' for k, v in parts.items())})"
    return None


def summary(method: Method) -> str:
    """Return a method's settings in a few words, for a table."""
    if method.label_smoothing:
        return f"no teacher, labels smoothed by {method.label_smoothing:g}"
    if method.settings is None:
        return "no teacher"
    parts = []
    for name, value in method.settings.items():
        text = f"{value:g}" if isinstance(value, float) else spelled(value, type(value).__name__)
        text = text.replace("tfkd.losses.", "").strip("'")
        if text != method.name:
            parts.append(f"{name} {text}")
    return ", ".join(parts) or "Distiller's defaults"


def call(runner: Runner, method: Method, seed: int) -> str:
    """Return a program that trains a method's student as the first run did.

    The program reads `student`, `teacher` and `data` as `compare` got them (and `methods`,
    `teacher_inputs` where a literal can't express their values) and leaves the trained student in
    `model`.

    Args:
        runner: The runner that trained the student.
        method: The method.
        seed: The first seed, whose weights are the student's own.
    """
    budget, package = runner.budget, runner.students.package.__name__
    lines = ["import keras", "import tfkd"]
    lines += ["import tf_keras"] * (package != "keras")
    lines += ["", f"keras.utils.set_random_seed({seed})"]
    model = "student()" if runner.students.is_factory else "student"
    lines.append(f"model = {model}")
    trained = "model"
    if method.settings is not None:
        trained = "distiller"
        arguments = ["model", "teacher"]
        for name, value in (dict(method.settings) | runner.options).items():
            otherwise = name if name in runner.options else f"methods[{method.name!r}][{name!r}]"
            arguments.append(f"{name}={spelled(value, otherwise)}")
        lines.append(f"distiller = tfkd.Distiller({', '.join(arguments)})")
    lines.append(f"{trained}.compile({_optimizer(budget, package, runner.steps)}, "
                 f"{_loss(runner, method, package)})")  # fmt: skip
    y = "data.train.y"
    if method.label_smoothing and runner.task == "categorical":
        shape = tuple(runner.students.example.output_shape)
        labels = runner.data.train.labels
        if labels.shape != tasks.filled(shape, labels):
            y = f"keras.utils.to_categorical(data.train.y, {shape[-1]})"
    cached = method.settings is not None and runner.caches
    arguments = f"batch_size={budget.batch_size}, epochs={budget.epochs}"
    arguments += ", cache_teacher=True" if cached else ""
    if runner.data.class_weight is not None:
        arguments += f", class_weight={dict(runner.data.class_weight)!r}"
    lines += [f"keras.utils.set_random_seed({seed})"]
    if runner.data.train.in_memory:
        lines.append(f"{trained}.fit(data.train.x, {y}, {arguments})")
    else:
        batches = f"data.train.dataset({budget.batch_size}, seed={seed})"
        if y != "data.train.y":
            lines.append("import tensorflow as tf")
            batches += f".map(lambda x, y, *more: (x, tf.one_hot(y, {shape[-1]}), *more))"
        arguments = arguments.replace(f"batch_size={budget.batch_size}", "shuffle=False")
        lines.append(f"{trained}.fit({batches}, {arguments})")
    return "\n".join(lines)


def _optimizer(budget, package: str, steps: int) -> str:
    schedule = (
        f"{package}.optimizers.schedules.CosineDecay({spelled(budget.learning_rate, '')}, {steps})"
    )
    if budget.optimizer == "sgd":
        return f"{package}.optimizers.SGD({schedule}, momentum=0.9, nesterov=True)"
    return f"{package}.optimizers.Adam({schedule})"


def _loss(runner: Runner, method: Method, package: str) -> str:
    loss = runner.loss_of(method)
    arguments = []
    from_logits = option_of(loss, "from_logits")
    if from_logits is not None:
        arguments.append(f"from_logits={bool(from_logits)}")
    if method.label_smoothing:
        arguments.append(f"label_smoothing={method.label_smoothing!r}")
    return f"{package}.losses.{type(loss).__name__}({', '.join(arguments)})"
