"""Settings that `compress`, `spiral` and `compare` share, and which of them are refused."""

import json

import numpy as np
import pytest

import tfkd
from tfkd import Recipe, Target, Training
from tfkd.comparison.runs import budget_of
from tfkd.compression.budget import Budget
from tfkd.compression.recipe import Call
from tfkd.errors import InputError


def test_what_is_not_said_is_the_callers():
    said = Training(seed=3, learning_rate=0.1)
    assert Training.of(said, {}, epochs=4, learning_rate=1e-3) == Training(
        epochs=4, learning_rate=0.1, seed=3
    )
    assert Training.of(None, {"epochs": 7}, epochs=4).epochs == 7
    assert Training.of(None, {"epochs": None}, epochs=4).epochs == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"batch_size": None}, "batch_size must be a whole number of at least 1, got None"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number > 0, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be a number > 0, got inf"),
        ({"optimizer": "lion"}, r"optimizer must be one of \('adam', 'sgd'\), got 'lion'"),
        ({"augment": 3}, "augment must be a function of a batch of x, got 3"),
        ({"seed": 2**32}, r"seed must be an integer from 0 to 2\*\*32 - 1"),
        ({"seed": -1, "epochs": 1.5}, "epochs must.*1.5; seed must"),
    ],
)
@pytest.mark.parametrize("kind", [Training, Recipe])
def test_values_out_of_range_are_refused_at_once(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


def test_a_recipe_is_a_training_with_values_of_its_own():
    recipe = Recipe(0.1, 4.0, optimizer="sgd", augment=_flip)
    assert isinstance(recipe, Training) and (recipe.alpha, recipe.temperature) == (0.1, 4.0)
    assert (recipe.epochs, recipe.learning_rate, recipe.batch_size) == (40, 3e-3, 32)
    assert json.loads(json.dumps(recipe.to_json()))["augment"] == "_flip"
    with pytest.raises(InputError, match="epochs must be .* got None"):
        Recipe(epochs=None)
    with pytest.raises(InputError, match="qat_epochs must.*threads must.*qat_learning_rate must"):
        Recipe(qat_epochs=0, threads=0, qat_learning_rate=0)


def _flip(x):
    return x[:, ::-1]


def test_numbers_of_numpy_become_pythons():
    """YAML and JSON can't hold NumPy's: a run failed after all its training."""
    accuracy = np.array([True, True, False]).mean()
    target = Target(drop=1 - accuracy, macs=np.int64(900), bytes=np.float32(0.5))
    assert target == Target(drop=1 - float(accuracy), macs=900, bytes=0.5)
    assert {type(one) for one in (target.drop, target.macs, target.bytes)} == {int, float}
    assert type(Target(latency_us=np.float64(3)).latency) is float
    recipe = Recipe(
        np.float64(0.5), epochs=np.int64(3), seed=np.uint32(7), learning_rate=np.logspace(-3, 0)[9],
        bits={np.str_(".*"): np.int64(4)}, formats=(np.str_("int8"),),
    )  # fmt: skip
    call = Call(recipe, target, budget=np.int64(60), task=np.str_("binary"))
    for value in (*vars(recipe).values(), call.budget, call.task, *recipe.bits, *recipe.formats):
        assert not isinstance(value, np.generic)
    assert type(recipe.bits[".*"]) is int and json.loads(json.dumps(call.to_json()))["epochs"] == 3
    assert type(Training(seed=np.int64(3)).seed) is int
    assert Budget.of(np.int64(60)).seconds == 60.0


def test_a_drop_is_read_as_people_write_it():
    assert Target(drop="0.5%").drop == Target(drop="0.005").drop == 0.005
    with pytest.raises(InputError, match="drop must be a number >= 0, got 'half'"):
        Target(drop="half")


def test_a_target_is_read_from_a_dict():
    assert Target.of({"macs": 0.5, "drop": 0}) == Target(macs=0.5, drop=0)
    assert Target.of(None) == Target() and Target(macs=2e6, drop=0.1).costs == {"macs": 2e6}
    with pytest.raises(InputError, match="must be a tfkd.Target or a dict, got 'half'"):
        Target.of("half")
    with pytest.raises(InputError, match=r"'flops'; target\['macs'\] must be .* -1; drop must be"):
        Target.of({"flops": 1, "macs": -1, "drop": "much"})
    with pytest.raises(InputError, match=r"\['macs'\] .* '1M'; target\['latency'\] .* '5ms'"):
        Target(macs="1M", latency="5ms", bytes="64k")


def test_a_budget_is_a_training_without_what_a_comparison_chooses():
    assert budget_of(3) == Training(epochs=3, learning_rate=3e-3)
    assert budget_of(Training(optimizer="sgd")) == Training(
        epochs=20, learning_rate=3e-3, optimizer="sgd"
    )
    with pytest.raises(InputError, match="budget has no 'seed'. It takes epochs"):
        budget_of(Training(seed=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": {"epochs": 1}}, "training must be a tfkd.Training"),
        ({"training": Training(), "epochs": 1, "seed": 2}, "Give epochs=, seed= in training"),
        ({"max_drop": 0.1, "target": Target(drop=0.1)}, "max_drop or a target with drop, not both"),
        ({"target": Target()}, "give target, max_drop or both"),
        ({"max_drop": True}, "max_drop must be a number >= 0, got True"),
    ],
)
def test_a_spiral_is_told_once(digits, options, message):
    with pytest.raises(InputError, match=message):
        tfkd.spiral(None, digits, **{"target": {"macs": 0.5}, **options})


def test_an_option_that_a_spiral_lacks_is_a_type_error(digits):
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        tfkd.spiral(None, digits, target={"macs": 0.5}, epoch=3)
