"""`prune_weights`: a model that trains with more and more of its weights at zero.

    model ──prune_weights──► sparse ──fit, or a Distiller's──► strip_pruning ──► model with zeros

tfmot chooses the weights and masks them. Its wrapper counts the steps here, so that no callback
is needed in `fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfkd.errors import InputError, UnsupportedError, argument, raise_all
from tfkd.model import backends
from tfkd.model.layer_kinds import inner, kind_of
from tfkd.pruning.unstructured.wrapping import carried_back, is_frozen, wrapped

if TYPE_CHECKING:
    import tf_keras

    from tfkd._typing import AnyModel, Names

_SCHEDULES = ("polynomial", "constant")
_EXPONENT = 3


def prune_weights(
    model: AnyModel,
    amount: float | None = None,
    *,
    steps: int | None = None,
    schedule: str | None = None,
    start: float = 0.0,
    frequency: int | None = None,
    pattern: tuple[int, int] | str | Mapping[str, tuple[int, int]] | None = None,
    threshold: float | None = None,
    skip: Names = (),
) -> tf_keras.Model:
    """Return a copy of a model in which training sets the smallest weights to zero.

    Choose it for a smaller download or flash image: zeros compress. Zeros alone make nothing
    faster, since kernels multiply by them as by other numbers; `prune_channels` makes models
    faster. Magnitude pruning with tfmot's masks: each kernel loses its own smallest weights (Zhu &
    Gupta 2017, https://arxiv.org/abs/1710.01878). Train the result with `fit`, or under a teacher
    with `Distiller(sparse, teacher).fit`; no callback is needed. Then `strip_pruning`; and for int8
    `quantize_aware(stripped, preserve="sparsity")`.

    Kernels of dense, convolutional and recurrent layers and embeddings are pruned; biases and
    depthwise kernels are not, nor layers that are frozen (`trainable=False`).

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not
            changed. A Keras 3 model is translated first (see `translate`).
        amount: The fraction of each kernel to set to zero, in (0, 1). Defaults to 0.5; for an m:n
            pattern it is m/n.
        steps: The optimizer step at which a polynomial schedule reaches `amount`. Take about half
            to three quarters of the training steps, so that the remaining weights can recover.
        schedule: `"polynomial"` goes from `start` to `amount`, fast at first, and then leaves
            the mask as it is; `"constant"` masks the full amount from the first step on.
            Defaults to `"polynomial"`; an m:n pattern allows only `"constant"`.
        start: The fraction of zeros at the start of a polynomial schedule, in [0, amount).
        frequency: Steps from one choice of weights to the next. Defaults to 100, or to a
            tenth of `steps` if that is less.
        pattern: `None` for single weights; `(m, n)` or `"m:n"` for m zeros among every n
            weights that follow each other along the input channels (fewer in what is left at
            the end of a row), chosen once, in the first step; `{"block": (rows, columns)}` for
            blocks of a kernel (inputs, outputs) that become zero together, ranked by their mean
            size.
        threshold: Instead of `amount`: the amount of a layer is the fraction of its weights that
            are smaller in size than this.
        skip: Names or paths (`backbone/conv1`) of layers to leave dense, or regular expressions
            that match a whole name or path.

    Returns:
        A `tf_keras.Model`, uncompiled, with the weights of `model`.
        `tfkd.pruning.describe` says which layers are not pruned, and why.

    Raises:
        InputError: for an amount outside (0, 1), a polynomial schedule without steps, settings
            that don't go together, or a pattern that matches no layer.
        UnsupportedError: for a subclassed model, one in which nothing can be pruned, and naming
            every layer that tfmot can't give the pattern.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> sparse = tfkd.prune_weights(model, 0.75, schedule="constant")
        >>> sparse.compile("sgd", "mse")
        >>> history = sparse.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
        >>> int(np.sum(tfkd.strip_pruning(sparse, model).get_weights()[0] == 0))
        24
    """
    from tfkd.pruning.unstructured import tfmot_layers

    zeros, block = _pattern(pattern)
    if schedule is None:
        schedule = "constant" if zeros else "polynomial"
    _check(amount, steps, schedule, start, frequency, zeros, block, threshold)
    if amount is None:
        amount = zeros[0] / zeros[1] if zeros else 0.5
    amount = float(amount)
    if frequency is None:
        frequency = 100 if steps is None else min(100, max(1, steps // 10))

    def rule(layer, calls: int):
        if kind_of(layer) == "MultiHeadAttention":
            return "tfmot's wrapper can't build or call attention"
        weights = tfmot_layers.kernels(layer)
        if not weights:
            if weights is None:
                return None
            return f"tfmot leaves the kernels of {type(layer).__name__} dense"
        if is_frozen(layer, weights):
            return "it is frozen"
        part = amount
        if zeros and (reason := _too_narrow(weights, zeros[1])):
            return reason
        if zeros or block:
            _check_fit(layer, weights, block)
        if threshold is not None:
            values = np.concatenate([np.ravel(weight) for weight in weights])
            part = float(np.mean(np.abs(values) < threshold))
            if part == 0:
                return f"it has no weight smaller than {threshold:g}"
            if part == 1:
                raise UnsupportedError(f"has no weight of size {threshold:g} or more")
        return tfmot_layers.PruneLowMagnitude(
            layer,
            calls,
            pruning_schedule=_schedule(schedule, part, steps, start, frequency, calls),
            block_size=block or (1, 1),
            sparsity_m_by_n=zeros,
        )

    return wrapped(model, skip, rule)


def strip_pruning(sparse: tf_keras.Model, model: AnyModel) -> AnyModel:
    """Return a copy of a model with the weights and zeros that `prune_weights` led to.

    Args:
        sparse: A model made by `prune_weights(model)`, trained since.
        model: The model it was made from, Keras 3 or tf_keras; it is not changed.

    Returns:
        A model of the same class, structure and Keras as `model`. Masked weights are exactly zero,
        whatever the optimizer did to them in the last step.

    Raises:
        InputError: if `sparse` was not made from such a model, or was not trained for the
            steps of its schedule, so that it has fewer zeros than requested.
    """
    from tfkd.pruning.unstructured import tfmot_layers

    pruned = [layer for layer in sparse.layers if isinstance(layer, tfmot_layers.PruneLowMagnitude)]
    if not pruned:
        raise InputError(f"The model {sparse.name!r} does not come from prune_weights.")
    for layer in pruned:
        step, last, calls = int(layer.pruning_step.numpy()), _last_step(layer), layer.calls
        if step < last and layer.trainable:
            raise InputError(
                f"The model was trained for {step // calls} of the {last // calls} steps after "
                f"which {layer.name!r} has the requested zeros; train it further, or give "
                "prune_weights fewer steps."
            )

    def masked(layer):
        if not isinstance(layer, tfmot_layers.PruneLowMagnitude):
            return layer
        for weight, mask, _ in layer.pruning_vars:
            # As in every forward pass, but without negative zeros, which compress worse.
            weight.assign(np.where(mask.numpy(), weight.numpy(), 0))
        return layer.layer

    return carried_back(sparse, model, masked)


def _last_step(layer) -> int:
    """Return the count at which a wrapped layer has the requested zeros."""
    if layer.sparsity_m_by_n:
        return 1
    settings = layer.pruning_schedule.get_config()["config"]
    return settings["end_step"] if settings["end_step"] > 0 else settings["begin_step"]


def _schedule(name: str, amount, steps, start, frequency, calls: int):
    """Return tfmot's schedule, which counts calls: a shared layer has several per step."""
    known = backends.tfmot().sparsity.keras
    if name == "constant":
        return known.ConstantSparsity(amount, calls, frequency=frequency * calls)
    # tfmot updates masks at begin, begin + frequency, ..., and may miss the last step.
    begin = steps - (steps - 1) // frequency * frequency
    return known.PolynomialDecay(
        min(start, amount), amount, begin * calls, steps * calls, _EXPONENT, frequency * calls
    )


def _pattern(given) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Return (m, n) and the block's size; one or both are `None`."""
    if given is None:
        return None, None
    block = isinstance(given, dict)
    pair = given.get("block") if block and set(given) == {"block"} else given
    if isinstance(pair, str):
        pair = [int(part) if part.strip().isdigit() else part for part in pair.split(":")]
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(type(n) is int for n in pair):
        first, second = pair
        if block and first >= 1 and second >= 1 and first * second > 1:
            return None, (first, second)
        if not block and 0 < first < second:
            return (first, second), None
    raise InputError(
        f"pattern must be (m, n) or 'm:n' with 0 < m < n, {{'block': (rows, columns)}} or None, "
        f"got {given!r}."
    )


def _check(amount, steps, schedule, start, frequency, zeros, block, threshold):
    problems = []
    number = (int, float, np.number)
    if amount is not None and not (isinstance(amount, number) and 0 < amount < 1):
        problems.append(f"amount must lie between 0 and 1, got {amount!r}")
    elif amount is not None and zeros and abs(amount - zeros[0] / zeros[1]) > 1e-9:
        problems.append(f"the pattern {zeros[0]}:{zeros[1]} has its own amount; leave amount out")
    if schedule not in _SCHEDULES:
        problems.append(f"schedule must be one of {_SCHEDULES}, got {schedule!r}")
    if threshold is not None and not (isinstance(threshold, number) and 0 < threshold < np.inf):
        problems.append(f"threshold must be a number > 0, got {threshold!r}")
    if threshold is not None and (amount is not None or zeros or block):
        problems.append("threshold replaces amount and can't be combined with a pattern")
    whole = [None if n is None else type(n) is int and n >= 1 for n in (steps, frequency)]
    if whole[0] is False or whole[1] is False:
        problems.append(
            f"steps and frequency must be integers of at least 1, got {steps!r} and {frequency!r}"
        )
    elif zeros and (schedule == "polynomial" or steps or start or frequency):
        problems.append(
            "tfmot chooses the weights of an m:n pattern once, in the first step: leave out steps, "
            "start and frequency, and schedule or make it 'constant'"
        )
    elif schedule == "constant" and (steps or start):
        problems.append(f"steps and start belong to {argument('schedule', 'polynomial')}")
    elif schedule == "polynomial" and not zeros:
        if steps is None:
            problems.append(
                "a polynomial schedule needs steps, the optimizer step by which the amount is "
                "reached, for example half of epochs * batches; or give "
                f"{argument('schedule', 'constant')}"
            )
        elif steps <= (frequency or 1):
            problems.append(
                f"steps must be more than frequency and more than 1, got {steps} and {frequency}"
            )
    most = 0.5 if amount is None else amount
    in_range = isinstance(start, number) and 0 <= start < 1
    if not in_range or (start and threshold is None and isinstance(most, number) and start >= most):
        problems.append(f"start must lie in [0, amount), got {start!r}")
    raise_all(problems)


def _too_narrow(weights, n: int) -> str | None:
    """Return why a layer is too narrow for an m:n pattern."""
    inputs = [weight.shape[-2] for weight in weights]
    if max(inputs) < n:
        return f"it has {max(inputs)} input channels, but the pattern's groups have {n}"
    return None


def _check_fit(layer, weights, block) -> None:
    """Raise if tfmot gives a layer no pattern, or not the documented one."""
    kind = kind_of(inner(layer)) or ""
    ranks = {len(weight.shape) for weight in weights}
    if block:
        if ranks != {2}:
            raise UnsupportedError(
                "has a kernel that is not a matrix, but tfmot prunes blocks of matrices only"
            )
        for weight in weights:
            if any(size <= side for size, side in zip(weight.shape, block, strict=True)):
                raise UnsupportedError(
                    f"has a kernel of {'×'.join(map(str, weight.shape))}, but tfmot needs two "
                    f"blocks of {block[0]}×{block[1]} or more each way"
                )
    elif kind in ("Embedding", "Conv2DTranspose") or "LocallyConnected" in kind:
        raise UnsupportedError("gets tfmot's m:n groups along an axis other than its inputs")
    elif not ranks <= {2, 4}:
        raise UnsupportedError("has a kernel for which tfmot has no m:n groups")
