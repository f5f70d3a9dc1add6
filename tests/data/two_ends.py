"""Models of two inputs and two outputs of one shape, and values for them in every form."""

import warnings

from tiny_models import predicted

from tfkd.export import TFLiteModel
from tfkd.export.tflite import schema, writer

#: Names and keys in the declared order: sorted they come in another, and keys and names differ.
INPUTS, OUTPUTS = ("z", "a"), ("second", "first")
INPUT_KEYS, OUTPUT_KEYS = ("night", "day"), ("v", "u")


def two_ended(package, keyed=False):
    """Return a model whose ends can be crossed without an error, in either Keras."""
    layers = package.layers
    ends = [package.Input((4,), name=name) for name in INPUTS]
    # Not joined as they are: a Concatenate gives both inputs of an int8 file one scale.
    both = layers.Add()(
        [layers.Dense(3, name=f"of_{end}")(x) for end, x in zip("za", ends, strict=True)]
    )
    outputs = [
        layers.Dense(3, activation="softmax", name=name)(x)
        for name, x in zip(OUTPUTS, (ends[0], both), strict=True)
    ]
    if keyed:
        ends, outputs = (
            dict(zip(keys, values, strict=True))
            for keys, values in ((INPUT_KEYS, ends), (OUTPUT_KEYS, outputs))
        )
    return functional(package, ends, outputs, name="two_ended")


def functional(package, inputs, outputs, **kwargs):
    """Return a model, without Keras 3's warning of keys that are not the layers' names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="When providing `inputs` as a dict")
        return package.Model(inputs, outputs, **kwargs)


def forms(values, names, keys=None):
    """Return the forms in which values may be given, by a name for each.

    Args:
        values: In the declared order.
        names: Of the layers.
        keys: The model's own; then its order is no longer one that a list has.
    """
    found = {}
    for called, known in (("layer name", names), ("key", keys)):
        if known is not None:
            pairs = list(zip(known, values, strict=True))
            found[f"dict by {called}"] = dict(pairs)
            found[f"dict by {called}, reversed"] = dict(reversed(pairs))
    if keys is None:
        found |= {"list": list(values), "tuple": tuple(values)}
    return found


def reversed_ends(file):
    """Return the same file with inputs and outputs the other way round."""
    model = schema.parse(file.data)
    graph = model.subgraphs[0]
    graph.inputs, graph.outputs = list(graph.inputs)[::-1], list(graph.outputs)[::-1]
    return TFLiteModel(writer.pack(model))


def drawn(rng, examples=24):
    """Return values for both inputs, in the declared order and of other sizes."""
    return [(rng.normal(size=(examples, 4)) * size).astype("float32") for size in (1, 3)]


def plain(model, x, keyed=False):
    """Return what Keras itself answers, in the declared order of the outputs."""
    given = dict(zip(INPUT_KEYS, x, strict=True)) if keyed else x
    answers = predicted(model, given)
    return [answers[key] for key in OUTPUT_KEYS] if keyed else list(answers)
