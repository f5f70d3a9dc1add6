"""Values bind to inputs and outputs by name or by order, or raise."""

import random

import keras
import numpy as np
import pytest
import tf_keras
from two_ends import INPUT_KEYS, INPUTS, OUTPUT_KEYS, OUTPUTS, forms, functional, two_ended

from tfkd import quantize_aware
from tfkd.errors import InputError
from tfkd.model import binding

TWO = binding.named(["b", "a"], "input", "model 'm'", ordered=True)
ONE = binding.named(["x"], "input", "model 'm'", ordered=True)


@pytest.mark.parametrize("keyed", [False, True])
def test_every_form_comes_out_in_the_flat_order(package, keyed):
    model = two_ended(package, keyed)
    for slots, names, keys in (
        (binding.inputs_of(model), INPUTS, INPUT_KEYS),
        (binding.outputs_of(model), OUTPUTS, OUTPUT_KEYS),
    ):
        values = [f"for {name}" for name in names]
        flat = [values[1], values[0]] if keyed else values  # by sorted key
        assert slots.labels == ([keys[1], keys[0]] if keyed else list(names))
        for form, given in forms(values, names, keys if keyed else None).items():
            assert slots.bind(given, "x") == flat, form


def test_a_list_has_no_order_where_keys_were_declared_in_another(package):
    slots = binding.inputs_of(two_ended(package, keyed=True))
    assert not slots.ordered
    with pytest.raises(InputError, match="'day', 'night'.*declared or the sorted.*give a dict"):
        slots.bind([1, 2], "x")
    ends = {key: package.Input((2,), name=f"of_{key}") for key in ("a", "b")}
    model = functional(package, ends, package.layers.Concatenate()(list(ends.values())))
    assert binding.inputs_of(model).bind([1, 2], "x") == [1, 2]


def test_one_slot_takes_the_value_itself():
    for given in (5, [5], (5,), {"x": 5}):
        assert ONE.bind(given, "x") == [5]
    assert ONE.bind([1, 2, 3], "x") == [[1, 2, 3]]  # a list of numbers is an array
    assert ONE.bind([], "x") == [[]]
    array = np.zeros(3)
    assert ONE.bind([array], "x", arrays=True)[0] is array
    assert ONE.bind({"x": [5]}, "x", arrays=True) == [[5]]
    for number in (5, 5.0, True, np.int64(5), "five"):
        assert ONE.bind([number], "y", arrays=True) == [[number]]
        assert ONE.bind([number], "loss_weights") == [number]


def test_types_that_are_one_value():
    config = {"class_name": "mse"}
    assert ONE.bind(config, "loss", unstructured=[dict]) == [config]
    assert ONE.bind([config], "loss", unstructured=[dict]) == [config]
    assert ONE.bind([1], "loss", unstructured=[list]) == [[1]]
    with pytest.raises(InputError, match="2 inputs .*, but loss holds one .list."):
        TWO.bind([1, 2], "loss", unstructured=[list])


BAD = {
    "another number": ([1, 2, 3], "2 inputs .'b', 'a'., but x holds 3 values: give a list of 2"),
    "one array": (np.zeros(2), "holds one .ndarray.: give a list of 2 .* or a dict"),
    "a string": ("ab", "holds one .str."),
    "unknown": ({"a": 1, "b": 2, "c": 3}, "unknown names 'c'; the inputs of the .* are 'b', 'a'"),
    "missing": ({"a": 1}, "lacks 'b'; it has 'a', and the inputs .* are 'b', 'a'"),
    "nothing": ({}, "lacks 'b', 'a'; it has none"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_names_both_sides(case):
    given, message = BAD[case]
    with pytest.raises(InputError, match=message):
        TWO.bind(given, "x")


def test_missing_and_extra_where_they_are_allowed():
    assert TWO.bind({"a": 1}, "y", missing=True) == [None, 1]
    assert TWO.bind({}, "y", missing=True) == [None, None]
    assert TWO.bind({"a": 1, "c": 3, "b": 2}, "x", extra=True) == [2, 1]
    assert TWO.bind({"c": 3, "a": 1}, "y", missing=True, extra=True) == [None, 1]
    with pytest.raises(InputError, match="unknown names 'c'"):
        TWO.bind({"a": 1, "c": 3}, "y", missing=True)
    with pytest.raises(InputError, match="lacks 'b'"):
        TWO.bind({"a": 1, "c": 3}, "x", extra=True)


def slots(*entries, ordered=True, owner="model 'm'"):
    return binding.Slots(owner, "input", entries, ordered)


def test_keys_go_before_names_and_are_not_mixed_into_them():
    # Each key is the other's layer: wholly read as keys, as Keras does.
    crossed = slots(binding.Slot("b", key="a"), binding.Slot("a", key="b"))
    assert crossed.bind({"a": 1, "b": 2}, "x") == [1, 2]
    mixed = slots(binding.Slot("first", key="p"), binding.Slot("second", key="q"))
    assert mixed.bind({"q": 2, "first": 1}, "x") == [1, 2]
    twice = {"p": 1, "first": 3, "q": 2}
    with pytest.raises(InputError, match="'p', 'first', 'q', which match .* more than one way"):
        mixed.bind(twice, "x")
    half = slots(binding.Slot("b", key="a"), binding.Slot("c", key="b"))
    # "b" is a key and another's layer: the whole decides.
    assert half.bind({"b": 1, "c": 2}, "x") == [1, 2]
    assert half.bind({"b": 1, "a": 2}, "x") == [2, 1]
    with pytest.raises(InputError, match="more than one way"):
        half.bind({"b": 1}, "x", missing=True, extra=True)


def test_names_that_two_slots_share():
    same = slots(
        binding.Slot("logits", aliases=frozenset({"one/logits"})),
        binding.Slot("logits", aliases=frozenset({"two/logits"})),
    )
    assert same.bind([1, 2], "x") == [1, 2]
    assert same.bind({"two/logits": 2, "one/logits": 1}, "x") == [1, 2]
    with pytest.raises(InputError, match="more than one way"):
        same.bind({"logits": 1}, "x", missing=True)


def test_wrapped_layers_keep_their_names():
    x = tf_keras.Input((4,), name="x")
    heads = [tf_keras.layers.Dense(2, name=name)(x) for name in ("species", "sex")]
    model = tf_keras.Model(x, heads)
    aware = quantize_aware(model)
    outputs = binding.outputs_of(aware)
    assert outputs.bind({"sex": 1, "species": 0}, "y") == [0, 1]
    plain = binding.outputs_of(model)
    assert plain.match(outputs) == outputs.match(plain) == [0, 1]
    prefixes = ("quant", "prune_low_magnitude", "cluster")
    for prefix in prefixes:
        wrapper = type("Wrapper", (tf_keras.layers.Wrapper,), {"call": lambda s, x: s.layer(x)})
        wrapped = [
            wrapper(tf_keras.layers.Dense(2, name=name), name=f"{prefix}_{name}")(x)
            for name in ("species", "sex")
        ]
        found = binding.outputs_of(tf_keras.Model(x, wrapped))
        assert found.bind({"sex": 1, "species": 0}, "y") == [0, 1]
        assert found.bind({f"{prefix}_sex": 1, f"{prefix}_species": 0}, "y") == [0, 1]


def test_layers_of_nested_models(package):
    def part(name):
        inputs = package.Input((3,))
        head = package.layers.Dense(2, name="logits")
        return package.Model(inputs, head(inputs), name=name)

    x = package.Input((3,), name="x")
    model = package.Model(x, [part("one")(x), part("two")(x)])
    found = binding.outputs_of(model)
    assert found.bind([1, 2], "y") == [1, 2]
    assert found.bind({"two": 2, "one": 1}, "y") == [1, 2]


def test_structures_inside_structures(package):
    ends = {name: package.Input((2,), name=name) for name in ("z", "m", "a")}
    both = {"eyes": {"left": ends["z"], "right": ends["a"]}, "age": [ends["m"]]}
    model = functional(package, both, package.layers.Concatenate()(list(ends.values())))
    found = binding.inputs_of(model)
    assert found.labels == ["age/0", "eyes/left", "eyes/right"] and not found.ordered
    x = {name: np.full((1, 2), i, "float32") for i, name in enumerate(ends)}
    nested = {"eyes": {"right": x["a"], "left": x["z"]}, "age": [x["m"]]}
    want = model.predict(nested, verbose=0)
    for given in (nested, {"eyes/left": x["z"], "age/0": x["m"], "eyes/right": x["a"]}, x):
        flat = found.bind(given, "x")
        assert [one[0, 0] for one in flat] == [1, 0, 2]
    assert want[0].tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(InputError, match="'eyes/left', .* give each once"):
        found.bind({**nested, "eyes/left": 0}, "x")
    with pytest.raises(InputError, match="unknown names 'eyes/up'"):
        found.bind({"eyes": {"up": 0}}, "x")


def test_what_a_model_without_a_graph_gives():
    values = {"b": [np.zeros((5, 2)), np.zeros((5, 3))], "a": np.zeros((5, 1))}
    found = binding.slots_of_values(values, "output", "teacher 't'")
    assert found.labels == ["a", "b/0", "b/1"]
    assert [slot.shape for slot in found.entries] == [(None, 1), (None, 2), (None, 3)]


def test_values_without_a_graph():
    arrays = [np.zeros((5, 2)), np.zeros((5, 3))]
    listed = binding.slots_of_values(arrays, "output", "teacher 't'")
    assert listed.labels == ["output_0", "output_1"] and listed.ordered
    assert not any(slot.given for slot in listed.entries)
    keyed = binding.slots_of_values({"b": arrays[0], "a": arrays[1]}, "output", "teacher 't'")
    assert keyed.labels == ["a", "b"] and not keyed.ordered
    (alone,) = binding.slots_of_values(arrays[0], "output", "teacher 't'").entries
    assert alone.name == "output_0" and alone.key is None


def test_which_names_keras_made_up(package):
    x = package.Input((4,), name="pixels")
    layer = package.layers
    made_up, chosen = layer.Dense(2), layer.Dense(2, name="dense_of_mine")
    model = package.Model(x, [made_up(x), chosen(x), layer.LayerNormalization()(x)])
    given = [slot.given for slot in binding.outputs_of(model).entries]
    assert given == [False, True, False]
    assert [slot.given for slot in binding.inputs_of(model).entries] == [True]
    assert (
        not binding.inputs_of(package.Sequential([package.Input((4,)), layer.Dense(1)]))
        .entries[0]
        .given
    )


def named(*names, ordered=True, owner="teacher 't'"):
    return binding.named(names, "output", owner, ordered=ordered)


def test_match_by_chosen_names():
    ours = named("species", "sex", owner="student 's'")
    assert ours.match(named("sex", "species")) == [1, 0]
    assert ours.match(named("hidden", "sex", "species")) == [2, 1]
    assert ours.match(named("sex", "hidden")) == [None, 0]
    assert ours.match(named("sex")) == [None, 0]
    assert ours.match(named("sex", "species", ordered=False)) == [1, 0]
    assert named("a").match(named("b")) == [0]


def test_match_by_order_where_no_name_is_shared():
    ours = named("species", "sex", owner="student 's'")
    assert ours.match(named("output_0", "output_1")) == [0, 1]
    assert ours.match(named("kind", "gender")) == [0, 1]
    assert ours.match(named("one", "two", "three")) == [None, None]
    with pytest.raises(InputError, match="student 's': 'species', 'sex'; teacher 't': 'k', 'g'"):
        ours.match(named("k", "g", ordered=False))


def test_match_refuses_generated_names_in_another_order():
    ours = named("dense_1", "dense_2", owner="student 's'")
    with pytest.raises(InputError, match="same generated names in another order"):
        binding.named(["output_0", "output_1"], "output", "student 's'", ordered=True).match(
            named("output_1", "output_0")
        )
    assert ours.match(named("dense_1", "dense_2")) == [0, 1]


def test_match_refuses_two_that_fit_one():
    ours = slots(binding.Slot("a", aliases=frozenset({"x"})), binding.Slot("x"))
    theirs = slots(binding.Slot("x"), binding.Slot("q"), owner="teacher 't'")
    with pytest.raises(InputError, match="Two inputs match the same one by name .*rename them"):
        ours.match(theirs)


def model_of(package, rng, count, keyed):
    """Return a random model of as many inputs and outputs, and both sides' names and keys."""

    def words():
        return ["".join(rng.sample("abcdefghij", 4)) for _ in range(count)]

    names, heads, keys, out_keys = words(), words(), words(), words()
    ends = [package.Input((2,), name=f"i{name}") for name in names]
    total = package.layers.Add()(ends) if count > 1 else ends[0]
    outs = [
        package.layers.Dense(2, name=f"o{name}")(package.layers.Concatenate()([end, total]))
        for name, end in zip(heads, ends, strict=True)
    ]
    rng.shuffle(outs)
    structure = (ends, outs)
    if keyed:
        structure = dict(zip(keys, ends, strict=True)), dict(zip(out_keys, outs, strict=True))
    return functional(package, *structure), [end.name.split(":")[0] for end in ends], keys, out_keys


@pytest.mark.parametrize("seed", range(12))
def test_random_models_answer_as_plain_keras(package, seed):
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    count, keyed = 1 + seed % 4, seed % 3 == 0
    model, names, keys, out_keys = model_of(package, rng, count, keyed)
    x = [numbers.normal(size=(3, 2)).astype("float32") for _ in range(count)]
    names = [f"{name}" for name in names]
    plain = dict(zip(keys, x, strict=True)) if keyed else x
    want = model.predict(plain, verbose=0)
    ends, outs = binding.inputs_of(model), binding.outputs_of(model)
    given = forms(x, names, keys if keyed else None)
    for _ in range(4):
        pairs = list(zip(names, x, strict=True))
        rng.shuffle(pairs)
        given[f"shuffled {pairs}"] = dict(pairs)
    for form, value in given.items():
        flat = ends.bind(value, "x", arrays=True)
        # As Keras flattens its own structure.
        fed = dict(zip(sorted(keys), flat, strict=True)) if keyed else flat
        got = model.predict(fed, verbose=0)
        for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(want), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=form)
    if keyed:
        # Labels by key and by layer name end at the outputs that have them.
        labels = {key: want[key] for key in rng.sample(out_keys, count)}
        for a, b in zip(outs.bind(labels, "y"), keras.tree.flatten(want), strict=True):
            np.testing.assert_array_equal(a, b)
        by_layer = {slot.name: want[slot.key] for slot in rng.sample(list(outs.entries), count)}
        for a, b in zip(outs.bind(by_layer, "y"), keras.tree.flatten(want), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(50))
def test_random_names_bind_alike_in_every_order(seed):
    rng = random.Random(seed)
    count = rng.randint(1, 4)
    names = rng.sample("abcdefghij", 2 * count)
    names, keys = names[:count], names[count:]
    keyed = rng.random() < 0.5
    ours = slots(
        *(
            binding.Slot(name, key=key if keyed else None)
            for name, key in zip(names, keys, strict=True)
        )
    )
    values = list(range(count))
    for known in [names, keys][: 1 + keyed]:
        pairs = list(zip(known, values, strict=True))
        rng.shuffle(pairs)
        assert ours.bind(dict(pairs), "x") == values
        if count > 1:
            with pytest.raises(InputError, match="lacks"):
                ours.bind(dict(pairs[1:]), "x")
        with pytest.raises(InputError, match="unknown"):
            ours.bind(dict([*pairs, ("?", 0)]), "x")
    assert ours.bind(values if count > 1 else values[0], "x") == values
    places = rng.sample(range(count), count)
    theirs = slots(*(ours.entries[place] for place in places), owner="teacher 't'")
    assert [places[i] for i in ours.match(theirs)] == values
