"""A copy of a model in which tfmot's wrappers replace layers, and the way back."""

from __future__ import annotations

import warnings
from collections import Counter

from tfkd import translation
from tfkd.errors import InputError, UnsupportedError, argument, raise_all
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import SPARSIFYING, kind_of
from tfkd.pruning import report
from tfkd.translation import layers as translated_layers
from tfkd.translation.copies import again, copy_of


def wrapped(model, skip, rule):
    """Return a tf_keras copy of a model in which wrappers replace some of its layers.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras.
        skip: Names and regular expressions of layers to leave as they are.
        rule: Function from a layer and its number of calls to its wrapper, to a reason for leaving
            it whole, or to `None` if there is no rule. It may raise `UnsupportedError`.

    Returns:
        The model, of which a `PruningReport` is kept.

    Raises:
        UnsupportedError: with all that `rule` raised, or if nothing is wrapped.
    """
    backends.tfmot()
    if backends.is_quantize_aware(model):
        raise InputError("The model is quantize-aware; prune or cluster before quantize_aware.")
    if any(kind_of(layer) in SPARSIFYING for layer in getattr(model, "layers", ())):
        raise InputError("The model is pruned or clustered already; strip it first.")
    other = translation.other_precision(model)
    if other:
        warnings.warn(other, stacklevel=3)
    translated, names_of = translation.counterparts(model, float32=True)
    source = graph.walk(translated)
    translation.check_frozen(model)
    skipped = graph.matching(translation.aliases(model, source, names_of), skip, "skip")
    calls = Counter(id(call.layer) for call in source.calls)
    made, whole, problems = {}, {}, []
    for name, layer in source.layers:
        if not any(len(weight.shape) > 1 for weight in layer.weights):
            continue
        if name in skipped:
            whole[name] = "left out by skip"
            continue
        try:
            found = rule(layer, calls[id(layer)])
        except UnsupportedError as error:
            problems.append(f"layer {name!r} ({type(layer).__name__}) {error}")
            continue
        if found is None:
            whole[name] = f"{type(layer).__name__} has no rule in tfmot"
        elif isinstance(found, str):
            whole[name] = found
        else:
            made[id(layer)] = found
    raise_all(
        problems,
        UnsupportedError,
        fix=f"Leave them out with {argument('skip', like='[...]')}.",
        code="tfmot-weights",
    )
    if not made:
        reasons = "; ".join(f"{name}: {why}" for name, why in whole.items())
        raise UnsupportedError(
            f"Nothing in this model can be pruned or clustered: {reasons or 'it has no kernels'}.",
            code="nothing-to-prune",
        )
    return _rebuilt(source, made, whole)


def _rebuilt(source: graph.Graph, made: dict, whole: dict[str, str]):
    copies = dict(made)

    def apply(call, args, kwargs):
        layer = call.layer
        if id(layer) not in copies:
            copies[id(layer)] = again(layer, call.name)
        return copies[id(layer)](*args, **kwargs)

    rebuilt = graph.rebuild(source, backends.tf_keras(), apply)
    for _, layer in source.layers:
        if id(layer) not in made:
            translated_layers.copy_state(layer, copies[id(layer)])
    report.keep(rebuilt, report.PruningReport(whole))
    return rebuilt


def carried_back(trained, model, plain):
    """Return a copy of a model with the weights of the model that `wrapped` made from it.

    Args:
        trained: The model with wrappers.
        model: The model that it was made from.
        plain: Function from a layer of `trained` to a layer without its wrapper.

    Raises:
        InputError: if `trained` was not made from `model`.
    """
    _, names_of = translation.counterparts(model, float32=True)
    held = {layer.name: layer for layer in trained.layers}
    stripped = copy_of(model)
    copies = dict(graph.walk(stripped).layers)
    for path, layer in graph.walk(model).layers:
        if not getattr(layer, "weights", ()):
            continue
        name = names_of[id(layer)]
        if name not in held:
            raise InputError(
                f"The model {trained.name!r} has no layer {name!r}: it was not made from this "
                "model."
            )
        try:
            translated_layers.copy_state(plain(held[name]), copies[path])
        except (UnsupportedError, ValueError) as error:
            raise InputError(
                f"The layer {path!r} is different in {trained.name!r} ({error}), which was not "
                "made from this model."
            ) from error
    return stripped


def is_frozen(layer, weights) -> bool:
    """Tell whether any of these weights of a layer does not train."""
    trained = {id(weight) for weight in layer.trainable_weights}
    return not trained.issuperset(map(id, weights))


def called(layer, inputs, args, kwargs):
    """Call a wrapped layer with the arguments of its wrapper."""
    if not layer._expects_mask_arg:
        kwargs.pop("mask", None)
    return layer(inputs, *args, **kwargs)
