"""Heads, inputs, labels, losses and weights are matched by name, or in declared order.

Every value is that of plain Keras on the same weights, in any form in which it may be given.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import crossentropy, predicted

from tfkd import Distiller
from tfkd.distillation.teachers import Teacher
from tfkd.errors import InputError
from tfkd.export import to_tflite
from tfkd.model import binding

NAMES = ("species", "colour")


def heads(package, form, order=NAMES, seed=0):
    """Return a model of two heads of equal shapes, as a list or a dict."""
    package.utils.set_random_seed(seed)
    x = package.Input((4,), name="x")
    made = {name: package.layers.Dense(3, name=name)(x) for name in order}
    return package.Model(x, list(made.values()) if form == "list" else made)


def by_name(model, form, order, x):
    outputs = predicted(model, x)
    return outputs if form == "dict" else dict(zip(order, outputs, strict=True))


def kl(teacher, student):
    return rel_entr(softmax(teacher, -1), softmax(student, -1)).sum(-1).mean()


def fit(student, teacher, x, y, package, loss, compiled=None, eagerly=True, **kwargs):
    """Return the losses of one step; names are bound alike in a traced one, which takes longer."""
    fitted = {k: kwargs.pop(k) for k in ("sample_weight", "cache_teacher") if k in kwargs}
    kwargs.setdefault("soft_loss", "kl")
    distiller = Distiller(student, teacher, temperature=1.0, **kwargs)
    compiled = {"run_eagerly": eagerly, **(compiled or {})}
    distiller.compile(package.optimizers.SGD(0.0), loss, **compiled)
    history = distiller.fit(x, y, batch_size=16, shuffle=False, verbose=0, **fitted).history
    return {name: values[0] for name, values in history.items()}


@pytest.fixture
def data(rng):
    x = rng.normal(size=(16, 4)).astype("float32")
    return x, {name: rng.integers(0, 3, 16) for name in NAMES}


def as_saved_model(model, path):
    model.export(path, verbose=False) if isinstance(model, keras.Model) else model.save(path)
    return path


def signature(model, path):
    loaded = tf.saved_model.load(as_saved_model(model, path))
    HELD.append(loaded)
    return loaded.signatures["serving_default"]


HELD = []  # TensorFlow deletes the variables of a SavedModel with what `load` returned
TEACHERS = {
    "model": lambda model, path: model,
    "SavedModel": as_saved_model,
    "signature": signature,
    ".tflite": lambda m, p: to_tflite(m).save(p + ".tflite"),
    "callable": lambda m, p: lambda x: predicted(m, x),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("of", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_heads_of_a_teacher_go_by_name(kind, of, data, tmp_path):
    x, _ = data
    wanted = binding.outputs_of(heads(keras, "list"), "student")
    for form, order in (("list", NAMES), ("list", NAMES[::-1]), ("dict", NAMES[::-1])):
        nameless = kind == "callable" or (kind in ("SavedModel", "signature") and of is keras)
        if form == "list" and order != NAMES and (nameless or kind == "signature"):
            continue  # the names are not in what is given: only the order is
        model = heads(of, form, order, seed=1)
        theirs = by_name(model, form, order, x)
        teacher = Teacher(TEACHERS[kind](model, str(tmp_path / f"{form}{order[0]}")), True)
        answers, _ = teacher.ask(x, ["categorical"] * 2, wanted=wanted)
        for name, answer in zip(NAMES, answers, strict=True):
            np.testing.assert_allclose(answer, theirs[name], rtol=1e-4, atol=1e-5)


def test_a_teacher_s_heads_in_the_loss(data, package):
    x, y = data
    student, loss = heads(package, "list"), {name: crossentropy(package) for name in NAMES}
    ours = dict(zip(NAMES, predicted(student, x), strict=True))
    for of, form in ((keras, "dict"), (tf_keras, "list")):
        model = heads(of, form, NAMES[::-1], seed=1)
        theirs = by_name(model, form, NAMES[::-1], x)
        want = sum(kl(theirs[name], ours[name]) for name in NAMES)
        got = fit(student, model, x, y, package, loss)["soft_loss"]
        assert got == pytest.approx(want, rel=1e-4)


def test_answers_of_a_cache_and_an_array_go_by_name(data, package):
    x, y = data
    student, teacher = heads(package, "list"), heads(keras, "dict", NAMES[::-1], seed=1)
    loss = [crossentropy(package)] * 2
    want = fit(student, teacher, x, y, package, loss)["soft_loss"]
    assert fit(student, teacher, x, y, package, loss, cache_teacher=True)[
        "soft_loss"
    ] == pytest.approx(want, rel=2e-3)
    answers = predicted(teacher, x)
    got = fit(student, answers, x, y, package, loss, teacher_from_logits=True)
    assert got["soft_loss"] == pytest.approx(want, rel=1e-5)


def test_more_heads_fewer_heads_and_none(data, package):
    x, y = data
    student = heads(package, "list")
    ours = dict(zip(NAMES, predicted(student, x), strict=True))
    loss = {name: crossentropy(package) for name in NAMES}
    keras.utils.set_random_seed(1)
    i = keras.Input((4,))
    more = {name: keras.layers.Dense(3)(i) for name in NAMES} | {"hidden": keras.layers.Dense(9)(i)}
    theirs = keras.Model(i, more).predict(x, verbose=0)
    got = fit(student, keras.Model(i, more), x, y, package, loss)
    assert got["soft_loss"] == pytest.approx(sum(kl(theirs[n], ours[n]) for n in NAMES), rel=1e-4)
    one = keras.Model(i, {"species": more["species"], "hidden": more["hidden"]})
    lacking = "also has 'colour': give.*soft_loss={'colour': None}"
    for teacher in (one, lambda x: predicted(one, x)):
        with pytest.raises(InputError, match=lacking):
            fit(student, teacher, x, y, package, loss, teacher_from_logits=True)
    for teacher, kwargs in [
        (one, {}),
        (one, {"cache_teacher": True}),
        (lambda x: predicted(one, x), {"teacher_from_logits": True}),
    ]:
        named = {"species": "kl", "colour": None}
        got = fit(student, teacher, x, y, package, loss, soft_loss=named, **kwargs)
        assert got["soft_loss"] == pytest.approx(kl(theirs["species"], ours["species"]), rel=2e-3)
    with pytest.raises(InputError, match="2 outputs without a common name"):
        Distiller(student, keras.Model(i, [keras.layers.Dense(3)(i) for _ in range(3)]))


@pytest.mark.parametrize(
    "compiled",
    [
        {"metrics": {"colour": "accuracy"}},
        {"metrics": {"species": ["accuracy"], "colour": ["accuracy"]}},
        {"loss_weights": {"species": 2.0, "colour": 0.5}},
        {"weighted_metrics": {"species": ["accuracy"]}},
    ],
    ids=lambda v: next(iter(v)),
)
def test_dicts_by_name_for_a_list_of_outputs_give_keras_own_history(compiled, data, package, rng):
    x, y = data
    weights = {name: rng.random(16).astype("float32") for name in NAMES}
    loss = {name: crossentropy(package) for name in NAMES}
    student = heads(package, "list")
    # Keras 3 itself takes these weights in a list only.
    plain = heads(package, "list")
    plain.compile(package.optimizers.SGD(0.0), loss, run_eagerly=True, **compiled)
    want = plain.fit(
        x, list(y.values()), sample_weight=list(weights.values()), batch_size=16, verbose=0
    ).history
    got = fit(
        student, heads(keras, "dict", seed=1), x, dict(reversed(y.items())), package, loss,
        compiled, alpha=1.0, sample_weight=weights,
    )  # fmt: skip
    assert set(want) <= set(got)
    for name, (value,) in want.items():
        assert got[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
def test_labels_in_every_form(data, package):
    x, y = data
    loss = {name: crossentropy(package) for name in NAMES}
    teacher = heads(keras, "dict", seed=1)
    for form in ("list", "dict"):
        student = heads(package, form)
        ours = by_name(student, form, NAMES, x)
        distiller = Distiller(student, teacher)
        distiller.compile(package.optimizers.SGD(0.0), loss, run_eagerly=form == "dict")
        want = sum(-log_softmax(ours[n], -1)[np.arange(16), y[n]].mean() for n in NAMES)
        forms = [y, dict(reversed(y.items())), tf.data.Dataset.from_tensor_slices((x, y)).batch(16)]
        forms += [list(y.values()), tuple(y.values())] if form == "list" else []
        for given in forms:
            arguments = (given, None) if isinstance(given, tf.data.Dataset) else (x, given)
            history = distiller.fit(*arguments, verbose=0, **(
                {} if given is arguments[0] else {"batch_size": 16})).history  # fmt: skip
            assert history["hard_loss"][0] == pytest.approx(want, rel=1e-5)
    for wrong, message in [
        ({"species": y["species"], "color": y["colour"]}, "unknown names 'color'.*'colour'"),
        ({"species": y["species"]}, "no labels for 'colour', which have a loss or"),
        (y["species"], r"has 2 outputs \('species', 'colour'\), but labels \(y\) holds one"),
    ]:
        with pytest.raises(InputError, match=message):
            fit(heads(package, "list"), teacher, x, wrong, package, loss)
    # A dict that was declared in another order than Keras flattens it in.
    with pytest.raises(InputError, match="is a list, whose order could be the declared or the"):
        fit(heads(package, "dict"), teacher, x, list(y.values()), package, loss)
    with pytest.raises(InputError, match="loss has the unknown names 'color'"):
        fit(heads(package, "list"), teacher, x, y, package, {"color": "mse"})


def test_a_generator_that_changes_its_labels_names_is_told_so(data, package):
    x, y = data

    def batches():
        for _ in range(2):
            yield x, {"species": y["species"], "color": y["colour"]}

    distiller = Distiller(heads(package, "list"), heads(keras, "list", seed=1))
    distiller.compile("sgd", {name: crossentropy(package) for name in NAMES})
    with pytest.raises(InputError, match=r"labels \(y\) has the unknown names 'color'"):
        distiller.fit(batches(), verbose=0)


def inputs(package, form, order=("query", "body"), seed=0):
    """Return a model of two inputs of equal shapes that it does not treat alike."""
    package.utils.set_random_seed(seed)
    i = {name: package.Input((4,), name=name) for name in order}
    hidden = package.layers.Dense(8, activation="relu")(i["query"])
    outputs = package.layers.Dense(3)(package.layers.Concatenate()([hidden, i["body"]]))
    return package.Model(list(i.values()) if form == "list" else i, outputs)


@pytest.mark.parametrize("of", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("kind", ["model", "SavedModel", ".tflite"])
def test_inputs_go_by_name_and_in_declared_order(kind, of, rng, tmp_path):
    x = {name: rng.normal(size=(16, 4)).astype("float32") for name in ("query", "body")}
    student = binding.inputs_of(inputs(keras, "list"), "student")
    for form, order in itertools.product(("list", "dict"), (("query", "body"), ("body", "query"))):
        model = inputs(of, form, order, seed=1)
        theirs = predicted(model, [x[n] for n in order] if form == "list" else x)
        given = TEACHERS[kind](model, str(tmp_path / f"{form}{order[0]}"))
        teacher = Teacher(given, True, student=student)
        for batch in (x, dict(reversed(x.items())), list(x.values()), tuple(x.values())):
            (answer,), _ = teacher.ask(batch, ["categorical"], [(None, 3)])
            np.testing.assert_allclose(answer, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [("head_2", "head_1"), ("conv1d_7",), ("conv1d_7", "conv1d_2")])
def test_numbers_in_the_names_of_layers_are_no_order(names, rng, tmp_path):
    i = tf_keras.Input((4,), name="conv1d_input")
    model = tf_keras.Model(i, [tf_keras.layers.Dense(3, name=name)(i) for name in names])
    student = keras.Input((4,))
    outputs = [keras.layers.Dense(3)(student) for _ in names]
    wanted = binding.outputs_of(keras.Model(student, outputs), "student")
    x = rng.normal(size=(8, 4)).astype("float32")
    teacher = Teacher(as_saved_model(model, str(tmp_path / "m")), True)
    answers, _ = teacher.ask(x, ["categorical"] * len(names), [(None, 3)] * len(names), wanted)
    for answer, own in zip(answers, model(x) if names[1:] else [model(x)], strict=True):
        np.testing.assert_allclose(answer, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_random_models_bind_as_plain_keras_does(seed, package):
    """Up to four inputs and outputs of equal shapes, in any structure, order and form."""
    rng = np.random.default_rng(seed)
    names = [f"in{i}" for i in rng.permutation(4)[: rng.integers(1, 5)]]
    heads_ = [f"head{i}" for i in rng.permutation(4)[: rng.integers(1, 5)]]

    def made(package, seed):
        package.utils.set_random_seed(int(seed))
        i = {name: package.Input((3,), name=name) for name in rng.permutation(names)}
        both = [package.layers.Dense(3)(tensor) for _, tensor in sorted(i.items())]
        both = package.layers.Concatenate()(both) if len(both) > 1 else both[0]
        o = {name: package.layers.Dense(2, name=name)(both) for name in rng.permutation(heads_)}
        as_dicts = rng.random(2) < 0.5
        ins = dict(i) if as_dicts[0] else list(i.values())
        return package.Model(ins, dict(o) if as_dicts[1] else list(o.values())), list(i), list(o)

    (student, ours, wanted), (model, theirs, given) = made(package, seed), made(keras, seed + 99)
    x = {name: rng.normal(size=(8, 3)).astype("float32") for name in names}
    by_dict = isinstance(model.input, dict)
    answers = predicted(model, x if by_dict else [x[n] for n in theirs])
    answers = answers if isinstance(answers, (dict, list)) else [answers]
    answers = answers if isinstance(answers, dict) else dict(zip(given, answers, strict=True))
    slots = binding.outputs_of(student, "student")
    teacher = Teacher(model, True, student=binding.inputs_of(student, "student"))
    forms = [x, {name: x[name] for name in rng.permutation(names)}]
    if not isinstance(student.input, dict) or ours == sorted(ours):
        forms += [[x[name] for name in ours], tuple(x[name] for name in ours)]
    for batch in forms:
        got, _ = teacher.ask(batch, ["categorical"] * len(slots), wanted=slots)
        for slot, answer in zip(slots.entries, got, strict=True):
            np.testing.assert_allclose(answer, answers[slot.name], rtol=1e-4, atol=1e-5)
    y = {name: np.full(8, i) for i, name in enumerate(wanted)}
    bound = slots.bind({name: y[name] for name in rng.permutation(wanted)}, "labels")
    assert [int(label[0]) for label in bound] == [wanted.index(slot.name) for slot in slots.entries]


def test_a_dict_with_more_than_the_student_takes_feeds_the_teacher(rng, package):
    x = {name: rng.normal(size=(16, 4)).astype("float32") for name in ("query", "body")}
    teacher = inputs(keras, "list", seed=1)
    i = package.Input((4,), name="body")
    student = package.Model(i, package.layers.Dense(3)(i))
    got = fit(student, teacher, x, rng.integers(0, 3, 16), package, crossentropy(package))
    want = kl(predicted(teacher, list(x.values())), predicted(student, x["body"]))
    assert got["soft_loss"] == pytest.approx(want, rel=1e-4)
    with pytest.raises(InputError, match=r"takes the inputs 'query', 'body'.*teacher_inputs="):
        fit(student, teacher, x["body"], np.zeros(16, int), package, crossentropy(package))


@pytest.mark.parametrize("endpoint", ["serve", "serving_default", "tf.function", "layer"])
def test_functions_of_tensors_teach(endpoint, data, package, tmp_path):
    x, y = data
    i = keras.Input((4,))
    model = keras.Model(i, keras.layers.Dense(3)(i))
    teacher = tf.function(lambda z: model(z))
    if endpoint != "tf.function":
        model.export(str(tmp_path), verbose=False)
        loaded = tf.saved_model.load(str(tmp_path))
        teacher = loaded.serve if endpoint == "serve" else loaded.signatures["serving_default"]
        if endpoint == "layer":
            teacher = keras.layers.TFSMLayer(str(tmp_path), call_endpoint="serving_default")
    student = package.Sequential([package.Input((4,)), package.layers.Dense(3)])
    want = kl(predicted(model, x), predicted(student, x))
    if endpoint == "serve":  # TensorFlow's own words for this are of deleted variables
        lost = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
        with pytest.raises(
            InputError, match="that no variable holds any more: keep what tf.saved_mod"
        ):
            fit(
                student, lost, x, y["species"], package, crossentropy(package),
                teacher_from_logits=True, eagerly=False,
            )  # fmt: skip
    for cached in (False, True):
        got = fit(
            student, teacher, x, y["species"], package, crossentropy(package),
            teacher_from_logits=True, cache_teacher=cached, eagerly=cached,
        )  # fmt: skip
        assert got["soft_loss"] == pytest.approx(want, rel=2e-3)


@pytest.mark.parametrize("keys", [("only",), ("one", "two")])
def test_the_only_signature_of_a_folder_teaches_whatever_its_name(keys, data, tmp_path):
    x, y = data
    module = tf.Module()
    module.twice = tf.function(
        lambda x: {"y": 2.0 * x}, input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")]
    )
    tf.saved_model.save(module, tmp_path, dict.fromkeys(keys, module.twice))
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])

    def losses():
        return fit(
            student, str(tmp_path), x, y["species"], keras, crossentropy(keras),
            teacher_from_logits=True,
        )  # fmt: skip

    if len(keys) == 1:
        assert losses()["soft_loss"] == pytest.approx(kl(2 * x, predicted(student, x)), rel=1e-4)
    else:
        with pytest.raises(InputError, match="no signature 'serving_default'; there are .*teacher"):
            losses()


def test_an_unsorted_dict_of_outputs_is_saved_and_goes_on(data, package, tmp_path):
    x, y = data
    distiller = Distiller(heads(package, "dict"), heads(keras, "dict", seed=1))
    distiller.compile(
        "adam", {name: crossentropy(package) for name in NAMES}, {"colour": ["accuracy"]},
        loss_weights={"species": 2.0}, run_eagerly=True,
    )  # fmt: skip
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "d.keras")
    again = package.models.load_model(tmp_path / "d.keras")
    again.teacher = heads(keras, "dict", seed=1)
    a, b = (d.fit(x, y, shuffle=False, verbose=0).history for d in (distiller, again))
    assert set(a) == set(b)
    for name, values in a.items():
        assert b[name] == pytest.approx(values, rel=1e-5), name


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_labels_of_an_output_without_a_loss_are_free(data, package):
    x, y = data
    student, teacher = heads(package, "list"), heads(keras, "list", seed=1)
    loss, alone = {"species": crossentropy(package)}, {"colour": None}
    with_labels = fit(student, teacher, x, y, package, loss, soft_loss=alone)
    without = fit(student, teacher, x, {"species": y["species"]}, package, loss, soft_loss=alone)
    assert with_labels["loss"] == pytest.approx(without["loss"], rel=1e-5)
    metrics = {"metrics": {"colour": ["accuracy"]}}
    with pytest.raises(InputError, match="no labels for 'colour', which have a loss or a metric"):
        fit(student, teacher, x, {"species": y["species"]}, package, loss, metrics, soft_loss=alone)


#: Values of four heads in the structures of a model's outputs; the keys not in sorted order.
NESTED = {
    "list of dict": lambda a, b, c, d: [{"z": a, "c": b}, c],
    "list of dicts": lambda a, b, c, d: [{"z": a, "c": b}, {"z": c, "c": d}],
    "list of list": lambda a, b, c, d: [[a, b], c],
    "list of all": lambda a, b, c, d: [a, {"z": [b, c]}, [{"k": d}]],
    "dict of all": lambda a, b, c, d: {"q": [a, b], "a": {"b": c}},
}


def nested(package, arranged, seed):
    package.utils.set_random_seed(seed)
    x = package.Input((4,))
    made = [package.layers.Dense(3, name=name)(x) for name in ("u", "v", "w", "t")]
    return package.Model(x, arranged(*made))


@pytest.mark.parametrize("form", NESTED)
def test_nested_structures_bind_as_plain_keras_binds_them(form, package, rng, tmp_path):
    arranged, top = NESTED[form], "sparse_top_k_categorical_accuracy"
    x = rng.normal(size=(16, 4)).astype("float32")
    y = arranged(*rng.integers(0, 3, (4, 16)))
    weight = arranged(*rng.uniform(size=(4, 16)).astype("float32"))
    settings = {
        "loss": arranged(*[crossentropy(package)] * 4),
        "loss_weights": arranged(1.0, 0.5, 2.0, 3.0),
        "weighted_metrics": arranged(["accuracy"], [top, "accuracy"], [top], []),
        "run_eagerly": True,
    }
    # Plain Keras 3 has no losses for a list in a list in a list.
    has_plain = package is tf_keras or form != "list of all"
    if has_plain:
        plain = nested(package, arranged, 1)
        plain.compile(package.optimizers.SGD(0.1), **settings)
    distiller = Distiller(nested(package, arranged, 1), nested(keras, arranged, 2), alpha=1.0)
    distiller.compile(package.optimizers.SGD(0.1), **settings)
    batches = tf.data.Dataset.from_tensor_slices((x, tuple_of(y), tuple_of(weight))).batch(8)
    histories = []
    for model in (plain, distiller) if has_plain else (distiller,):
        first = model.fit(x, y, 8, sample_weight=weight, shuffle=False, verbose=0).history
        held_out = {"validation_data": (x, y, weight)}
        then = model.fit(batches, shuffle=False, verbose=0, **held_out).history
        last = model.evaluate(x, y, 8, verbose=0, sample_weight=weight, return_dict=True)
        ours = ("hard_loss", "soft_loss")
        histories.append([
            np.sort(np.ravel([value for name, value in one.items() if name not in ours]))
            for one in (first, then, last)
        ])  # fmt: skip
    for one in zip(*histories, strict=True):
        np.testing.assert_allclose(one[0], one[-1], rtol=1e-6, atol=1e-7)
    distiller.fit(x, y, cache_teacher=True, verbose=0)
    distiller.save(tmp_path / "d.keras")
    again = package.models.load_model(tmp_path / "d.keras")
    got, want = (one.evaluate(x, y, verbose=0, sample_weight=weight) for one in (again, distiller))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def tuple_of(structure):
    """Return a structure with tuples for lists, which `tf.data` takes for arrays."""
    if isinstance(structure, dict):
        return {key: tuple_of(value) for key, value in structure.items()}
    if isinstance(structure, list):
        return tuple(map(tuple_of, structure))
    return structure


def test_heads_without_a_name_beside_dicts_go_by_their_order(package, rng):
    def model(package, keys, seed):
        package.utils.set_random_seed(seed)
        x = package.Input((4,))
        made = [package.layers.Dense(3)(x) for _ in range(4)]
        return package.Model(x, [made[0], dict(zip(keys, made[1:3], strict=True)), made[3]])

    x = rng.normal(size=(16, 4)).astype("float32")
    student, teacher = model(package, "zc", 1), model(keras, "cz", 2)
    soft = ["kl", {"c": "kl", "z": "kl"}, "kl"]
    got = fit(student, teacher, x, None, package, None, soft_loss=soft)["soft_loss"]
    theirs, ours = (
        [one["c"], one["z"], first, last]
        for first, one, last in (predicted(model, x) for model in (teacher, student))
    )
    assert got == pytest.approx(sum(map(kl, theirs, ours)), rel=1e-4)


def test_nested_structures_that_do_not_fit_are_refused(data, package):
    x, y = data
    y, arranged = y["species"], NESTED["list of dict"]
    for loss, labels, message in [
        (
            [{"z": "mse", "d": "mse"}, "mse"],
            [{"z": y, "c": y}, y],
            "loss has the unknown names 'd'",
        ),
        (["mse", "mse"], [{"z": y, "c": y}, y], "loss has 2 entries for the 3 outputs"),
        (["mse"] * 3, [{"z": y, "c": y}, y], "is a list, whose order could be the declared or"),
        (None, [{"z": y}, y], "no labels for 'c', which have a loss or a metric"),
        (None, [y, y], r"3 outputs \('c', 'z', 'w'\), but labels \(y\) holds 2 values"),
    ]:
        loss = arranged(*[crossentropy(package)] * 4) if loss is None else loss
        with pytest.raises(InputError, match=message):
            fit(nested(package, arranged, 1), nested(keras, arranged, 2), x, labels, package, loss)


def counting(package, seed, activation=None, units=3):
    """Return a model of words, for whose output Keras 3 states the shape (None, 1, 3)."""
    package.utils.set_random_seed(seed)
    layers = package.layers
    x = package.Input((1,), dtype="string")
    words = layers.TextVectorization(output_mode="multi_hot", vocabulary=["a", "b"])(x)
    return package.Model(x, layers.Dense(units, activation=activation)(words))


@pytest.mark.parametrize("of", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_shape_that_keras_states_wrongly(of, cached, package, rng):
    x = tf.constant([["a b"], ["b"], ["c"], ["a"]] * 4)
    y = rng.integers(0, 3, 16)
    student, teacher = counting(package, 1, "softmax"), counting(of, 2, "softmax")
    theirs, ours = (np.log(model(x)) for model in (teacher, student))
    for loss, labels in (
        (package.losses.SparseCategoricalCrossentropy(), y),
        (package.losses.CategoricalCrossentropy(), np.eye(3)[y]),
    ):
        got = fit(student, teacher, x, labels, package, loss, cache_teacher=cached)
        assert got["soft_loss"] == pytest.approx(kl(theirs, ours), rel=2e-3)
        hard = -log_softmax(ours, -1)[np.arange(16), y].mean()
        assert got["hard_loss"] == pytest.approx(hard, rel=1e-4)
    with pytest.raises(InputError, match=r"of shape \(None, 4\).*\(None, 3\).*must be equal"):
        Distiller(student, counting(of, 2, units=4))


@keras.saving.register_keras_serializable()
class Flattened(keras.layers.Layer):
    """A user's layer that forgets in its stated shape what it does."""

    def call(self, x):
        return tf.reshape(x, (-1, 4))

    def compute_output_shape(self, shape):
        return shape


def test_a_shape_that_a_user_s_layer_states_wrongly(rng):
    x, y = rng.normal(size=(16, 2, 2)).astype("float32"), rng.integers(0, 4, 16)
    i, layers = keras.Input((2, 2)), keras.layers
    own = keras.Model(i, Flattened()(layers.Dense(2)(i)))
    flat = keras.Model(i, layers.Dense(4)(layers.Flatten()(i)))
    said = {"from_logits": True, "teacher_from_logits": True}
    for student, teacher in ((own, flat), (flat, own)):
        got = fit(student, teacher, x, y, keras, crossentropy(keras), **said)
        want = kl(teacher(x).numpy(), student(x).numpy())
        assert got["soft_loss"] == pytest.approx(want, rel=1e-4)
