"""The search stops candidates that a smaller one beats, and finishes the smallest good one."""

import dataclasses
import time
import types

import keras
import numpy as np
import pytest

import tfkd
from tfkd import Recipe
from tfkd.compression import costing, pacing, search
from tfkd.compression.budget import Budget
from tfkd.compression.candidates import Candidate, Family
from tfkd.compression.choice import Drop
from tfkd.compression.finished import Finished
from tfkd.compression.finishing import Finisher
from tfkd.compression.front import Trial, front_of, order_of, spread_out
from tfkd.compression.rehearsal import Costs, Goal
from tfkd.compression.stages import Stages
from tfkd.compression.trainer import Trainer
from tfkd.errors import ConversionError, InputError, UnsupportedError, WorkerError
from tfkd.export import to_tflite

optuna = pytest.importorskip("optuna")


def sized(name, size, score=0.0, epochs=4, metric="accuracy"):
    candidate = Candidate(name, None, size, None)
    return Trial(candidate, Costs(size, size, None), score, epochs, metric=metric)


def test_an_order_that_covers_all_sizes():
    rows = [(Candidate(str(n), None, n, None), Costs(n, n, None)) for n in (8, 1, 2, 4, 16)]
    assert [int(one.name) for one, _ in spread_out(rows)] == [1, 16, 4, 2, 8]


@pytest.mark.parametrize(
    ("sizes", "values", "ended"),
    [
        ((10, 20), (0.5, 0.5), True),  # no smaller, no better
        ((10, 20), (0.5, 0.6), False),
        ((20, 10), (0.9, 0.1), False),  # worse, and smaller
    ],
)
def test_a_trial_ends_where_one_no_larger_is_as_good(sizes, values, ended):
    from tfkd.compression.dominated import BYTES, Dominated

    study = optuna.create_study(direction="maximize", pruner=Dominated(8))
    trials = [study.ask() for _ in sizes]
    for trial, size, value in zip(trials, sizes, values, strict=True):
        trial.set_user_attr(BYTES, size)
        for step in (1, 2):
            trial.report(value, step)
    assert trials[1].should_prune() is ended
    trials[1].report(values[1], 3)  # between the rungs
    assert not trials[1].should_prune()


def finisher_of(drop, teacher=0.95):
    score = types.SimpleNamespace(value=teacher)
    return types.SimpleNamespace(
        goal=Goal({}, drop, None), scores_of_teacher=lambda model: {None: score}
    )


@pytest.fixture
def trials():
    rows = [("a", 10, 0.70, 4), ("b", 20, 0.93, 4), ("c", 30, 0.92, 4), ("d", 40, 0.97, 4)]
    return [sized(*row) for row in (*rows, ("e", 50, 0.99, 1))]


def names(found):
    return [one.candidate.name for one in found]


def test_what_is_finished_first(trials):
    """Wanted is 0.94: b is near, c is beaten by b, e was ended; they come after the others.

    Smaller students come last: if the file of d fails verification, a's may not.
    """
    assert names(order_of(finisher_of(0.01), trials)) == ["b", "d", "e", "c", "a"]
    assert names(order_of(finisher_of(0.0, teacher=0.9), trials)) == ["b", "d", "e", "c", "a"]
    assert names(order_of(finisher_of(0.3), trials)) == ["a", "b", "d", "e", "c"]
    assert names(order_of(finisher_of(None), trials)) == ["d", "e", "b", "c", "a"]


def test_of_errors_the_smaller_is_better(trials):
    rows = (("a", 10, -2.0), ("b", 20, -1.1), ("c", 30, -1.0))
    trials = [sized(*row, metric="mae") for row in rows]
    assert names(order_of(finisher_of(0.1), trials)) == ["b", "c", "a"]


def test_of_several_outputs_the_worst_drop_is_compared():
    """Wanted is a drop of 0.04: b is near, and the first; c loses nothing."""
    rows = (("a", 10, -0.07), ("b", 20, -0.05), ("c", 30, 0.01))
    trials = [sized(*row, metric="worst drop") for row in rows]
    assert names(order_of(finisher_of(0.04), trials)) == ["b", "c", "a"]
    assert trials[1].said == "b, worst drop 0.05, 0.0 kB"
    found = front_of(trials)
    assert found.metric == "worst drop"
    assert [one.score for one in found.candidates] == [0.07, 0.05, -0.01]


def dense(units):
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(units, activation="relu"), keras.layers.Dense(3)]
    )


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(400, 6)).astype("float32")
    return tfkd.split(x, x[:, :3].argmax(1))


@pytest.fixture(scope="module")
def teacher(data):
    keras.utils.set_random_seed(0)
    model = dense(160)
    Trainer(data, Recipe(epochs=15, learning_rate=0.01)).fit("teacher", model)
    return model


# With an alpha, no other losses are tried.
RECIPE = Recipe(epochs=8, formats=("float32",), candidates=3, batch_size=16, alpha=0.5)


def made(data, teacher, goal, folder=None, progress=None, **more):
    trainer = Trainer(data, RECIPE, progress=progress)
    finisher = Finisher(trainer, teacher, goal, Stages(folder), **more)
    return *search.smallest(finisher), finisher


def test_the_same_run_gives_the_same_front_and_student(data, teacher, tmp_path):
    goal = Goal({"bytes": 4000}, 0.3, None)
    stages = []
    first, one, _ = made(data, teacher, goal, tmp_path, lambda stage, *_: stages.append(stage))
    told = [stage for stage in stages if stage.startswith("best so far: ")]
    best = max((trial for trial in first if trial.method is None), key=lambda t: t.score)
    assert told and told[-1] == f"best so far: {best.said}"
    second, other, _ = made(data, teacher, goal)
    third, kept, finisher = made(data, teacher, goal, tmp_path)
    assert front_of(first) == front_of(second) == front_of(third)
    for a, b, c in zip(
        *(found.models["student"].get_weights() for found in (one, other, kept)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert not [name for name in finisher.trainer.histories if name.startswith("search")]
    [chosen] = [trial for trial in first if trial.chosen]
    assert f"finishing {chosen.said}" in stages
    assert one.meets(goal) and chosen.costs.bytes == one.files["student_float32"].size <= 4000
    smaller = [t for t in first if t.costs.bytes < chosen.costs.bytes and t.epochs == 2]
    assert all(t.score < chosen.score for t in smaller)


def test_where_nothing_is_small_enough_the_least_is_named(data, teacher):
    with pytest.raises(InputError, match=r"smallest misses it: bytes: [\d,]+, and the target is 9"):
        made(data, teacher, Goal({"bytes": 900}, None, None))


def test_what_is_no_smaller_than_the_teacher_is_left_out(data):
    keras.utils.set_random_seed(0)
    tiny = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    finisher = Finisher(Trainer(data, RECIPE), tiny)
    family, x = Family("dense", (1, 8), dense), data.train.x[:8]
    missed = costing.Missed()
    assert costing._of_a_family(finisher, family, x, 1, missed) == []
    size = finisher.teacher_file.size
    assert f"but the teacher's file has {size:,}" in missed.in_words(finisher.goal)
    missed = costing.Missed()
    assert costing._of_a_family(finisher, Family("dense", (8,), dense), x, 1, missed) == []
    assert "has at least as many parameters as the teacher" in missed.in_words(finisher.goal)


def test_a_reason_of_several_families_is_told_once():
    same, other = UnsupportedError("It has a loop."), UnsupportedError("It is too deep.")
    goal = Goal({}, None, None)
    missed = costing.Missed(refused={"gru": same, "lstm": same})
    assert missed.in_words(goal) == (
        "No student that was tried can be exported: It has a loop. Or give a student."
    )
    missed = costing.Missed(refused={"gru": same, "lstm": same, "dense": other})
    said = "(gru, lstm: It has a loop; dense: It is too deep); give a student."
    assert missed.in_words(goal) == f"No student that was tried can be exported {said}"


@pytest.mark.parametrize(
    ("most", "costed", "chosen"),
    [
        (99, [9, 4, 1, 6], [9, 4, 1, 6]),
        (6, [9, 4, 7, 6, 2, 0], [6, 2, 4, 0]),
        (0, [9, 4, 2, 1, 0], [0]),
        (-1, [9, 4, 2, 1, 0], []),
    ],
)
def test_the_largest_that_fits_is_found_in_few_steps(
    data, teacher, monkeypatch, most, costed, chosen
):
    """Then come students far from it and from each other."""
    asked = []

    def costs(finisher, candidate, x, missed):
        asked.append(candidate.parameters)
        return Costs(1, 1, None) if candidate.parameters <= most else None

    monkeypatch.setattr(costing, "_costs_within", costs)
    monkeypatch.setattr(Family, "candidate", lambda _, size: Candidate(str(size), None, size, None))
    family = Family("kind", tuple(range(10)), None)
    run, missed = Finisher(Trainer(data, RECIPE), teacher), costing.Missed()
    found = costing._of_a_family(run, family, None, 4, missed)
    assert (asked, [one.parameters for one, _ in found]) == (costed, chosen)


@pytest.mark.parametrize(
    ("scores", "taken"),
    [({"kl": 0.80, "dist": 0.79}, None), ({"kl": 0.90, "dist": 0.97}, "dist"), ({}, None)],
)
def test_another_loss_has_to_be_ahead_by_a_standard_error(
    data, teacher, monkeypatch, scores, taken
):
    """Of 60 examples at 0.79 that is 0.053."""
    asked = []

    def trained(finisher, candidate, epochs, trial, earlier, method):
        asked.append(method.name)
        return [0.1, scores.get(method.name, 0.0)]

    monkeypatch.setattr(search, "_trained", trained)
    finisher = Finisher(Trainer(data, dataclasses.replace(RECIPE, alpha=None)), teacher)
    trial = Trial(Candidate("dense 8", dense(8), 83, 80), Costs(10, 1, 1), 0.79, 2)
    found, best = search._under_other_losses(finisher, trial)
    assert asked == [one.method.name for one in found] == ["kl", "standardized_kl", "dist"]
    assert best is trial if taken is None else best.name == f"dense 8, {taken}"
    finisher = Finisher(Trainer(data, RECIPE), teacher)
    assert search._under_other_losses(finisher, trial) == ([], trial)


@pytest.mark.parametrize("epochs", [1, 8])
def test_a_budget_too_short_is_known_before_it_is_spent(data, teacher, epochs):
    recipe = dataclasses.replace(RECIPE, epochs=epochs, candidates=1)
    finisher = Finisher(Trainer(data, recipe), teacher, clock=Budget(0.01))
    with pytest.raises(InputError, match=r"budget of 0 s is too short: 3 epochs"):
        search.smallest(finisher)


def test_a_search_that_used_the_budget_still_finishes_a_student(data, teacher, monkeypatch):
    """CIFAR-10: 3 epochs that take 1,149 s were too many for the 1,705 s that were left."""
    shares = {"least_seconds": 1149, "left": 1705, "epochs": 5, "qat_epochs": 2}, (5, 3)
    over = {"least_seconds": 1.0, "left": 0.9, "epochs": 1, "qat_epochs": 1}, (3, 3)
    for seconds, (found, epochs) in ((3600, shares), (60, over)):
        monkeypatch.setattr(pacing, "timed", lambda *_, found=found: found)
        finisher = Finisher(Trainer(data, RECIPE), teacher, clock=Budget(seconds))
        recipe = pacing.paced(finisher, dense(4), RECIPE)
        assert (recipe.epochs, recipe.qat_epochs) == epochs
    finisher = Finisher(Trainer(data, RECIPE), teacher, clock=Budget(9))
    with pytest.raises(InputError, match=r"3 epochs .* take 1\.0 s, but only 0\.9 s"):
        pacing.paced(finisher, dense(4), RECIPE)


def test_what_is_kept_has_its_own_curves(data, teacher):
    """Two students are finished; the first one loses less, and stays."""
    finisher = Finisher(Trainer(data, RECIPE), teacher)
    keras.utils.set_random_seed(0)
    first, second = finisher.finished(dense(24)), finisher.finished(dense(1))
    assert first.is_better(second)
    assert set(first.histories) == {"baseline", "student"}
    assert first.histories["student"] != second.histories["student"]


@pytest.mark.parametrize(
    ("recipe", "finisher", "again"),
    [
        ({}, {}, set()),
        ({"formats": ("float16",)}, {}, {"costs of dense 8"}),
        ({"alpha": 0.9}, {}, {"search dense 8"}),
        ({"soft_loss": "dist"}, {}, {"search dense 8"}),
        ({}, {"teacher_from_logits": True}, {"costs of dense 8", "search dense 8"}),
        ({}, {"task": "categorical"}, {"costs of dense 8", "search dense 8"}),
    ],
)
def test_what_another_option_decides_is_made_again(
    data, teacher, tmp_path, monkeypatch, recipe, finisher, again
):
    """Each of these was taken from the folder, as the run before had made it."""
    monkeypatch.setattr(costing, "_costs", lambda *_: Costs(100, 10, 10).to_json())
    monkeypatch.setattr(Finisher, "teach", lambda *_: None)
    few = dataclasses.replace(RECIPE, epochs=1, candidates=1)
    made_again, student = [], dense(8)
    for changes, said in (({}, {}), (recipe, finisher)):
        said = dict(said)
        trainer = Trainer(data, dataclasses.replace(few, **changes), task=said.pop("task", None))
        stages = Stages(tmp_path)
        run = Finisher(trainer, teacher, Goal({}, None, None), stages, **said)
        before = set(stages._held.done)
        family = Family("dense", (8,), lambda _: student)
        costing._of_a_family(run, family, data.train.x[:8], 1, costing.Missed())
        one = Candidate("dense 8", student, 83, 80)
        study = optuna.create_study(direction="maximize")
        search._trained(run, one, 1, study.ask(), [])
        made_again.append({name.rsplit(" ", 1)[0] for name in set(stages._held.done) - before})
    assert made_again == [{"costs of dense 8", "search dense 8"}, again]


def test_a_worker_that_fails_excludes_nothing_from_later_runs(data, teacher, tmp_path, monkeypatch):
    """One that ran out of memory once excluded its kind of student for ever."""
    asked = []

    def fails(by):
        def rehearse(*_, **__):
            asked.append(by)
            raise by

        return rehearse

    def run():
        finisher = Finisher(Trainer(data, RECIPE), teacher, Goal({}, None, None), Stages(tmp_path))
        missed, student = costing.Missed(), dense(8)
        family = Family("dense", (8,), lambda _: student)
        found = costing._of_a_family(finisher, family, data.train.x[:8], 1, missed)
        return len(found), {kind: str(error) for kind, error in missed.refused.items()}

    died = WorkerError("The child process ran out of memory.", out_of_memory=True)
    converting = ConversionError("Converting failed.")
    converting.__cause__ = died
    refused = UnsupportedError("There is no kernel.")
    for error in (died, converting, refused):
        monkeypatch.setattr(costing, "rehearse", fails(error))
        keras.utils.set_random_seed(0)
        assert run() == (0, {"dense": str(error)})
    keras.utils.set_random_seed(0)
    monkeypatch.setattr(costing, "rehearse", lambda *_: pytest.fail("asked again"))
    assert run() == (0, {"dense": "There is no kernel."}), "a refusal is kept"
    assert asked == [died, converting, refused]


def test_a_budget_is_shared_out_anew_for_other_epochs(data, teacher, tmp_path, monkeypatch):
    def timed(finisher, student, recipe):
        asked.append(recipe.qat_epochs)
        return {"epochs": 8, "qat_epochs": asked[-1], "least_seconds": 1.0, "left": 9.0}

    asked, student = [], dense(8)
    monkeypatch.setattr(pacing, "timed", timed)
    for epochs in (3, 5, 5):
        recipe = dataclasses.replace(RECIPE, formats=("int8",), qat_epochs=epochs)
        run = Finisher(Trainer(data, recipe), teacher, None, Stages(tmp_path), Budget(1e6))
        assert pacing.paced(run, student, recipe).qat_epochs == epochs
    assert asked == [3, 5]


def test_a_budget_too_short_is_not_kept(data, teacher, tmp_path, monkeypatch):
    """The same call, which has more time once other stages are kept, failed for ever."""
    student, few = dense(8), {"epochs": 1, "qat_epochs": 1, "least_seconds": 9.0, "left": -5.0}
    run = Finisher(Trainer(data, RECIPE), teacher, None, Stages(tmp_path), Budget(60))
    monkeypatch.setattr(pacing, "timed", lambda *_: few)
    with pytest.raises(InputError, match=r"take 9\.0 s, but only 0\.0 s are left"):
        pacing.paced(run, student, RECIPE)
    more = {"epochs": 8, "qat_epochs": 15, "left": 50.0}
    monkeypatch.setattr(pacing, "timed", lambda *_: few | more)
    assert pacing.paced(run, student, RECIPE).epochs == 8


def test_time_is_taken_without_what_the_caller_calls(data, teacher):
    asked, student = [], dense(8)
    recipe = dataclasses.replace(RECIPE, patience=1, callbacks=lambda *_: asked.append(1) or [])
    run = Finisher(Trainer(data, recipe), teacher, None, None, Budget(1e6))
    assert pacing.timed(run, student, recipe)["epochs"] == 8 and not asked


def test_a_teacher_that_sees_each_view_takes_its_time(data):
    def slow(x):
        time.sleep(0.5)
        return np.zeros((len(x), 3), "float32")

    least = []
    for augment in (None, lambda x: x):
        recipe = dataclasses.replace(RECIPE, augment=augment, batch_size=60)
        run = Finisher(Trainer(data, recipe), slow, None, None, Budget(1e6), True)
        least.append(pacing.timed(run, dense(8), recipe)["least_seconds"])
    # 4 batches an epoch, 3 epochs, of 0.8 of the time; the rest is for a busy machine.
    assert least[1] - least[0] > 0.3 * 4 * 3 * 0.5 / 0.8


def test_what_does_not_fit_is_known_before_students_are_costed(data, teacher, monkeypatch):
    monkeypatch.setattr(costing, "_costs", lambda *_: pytest.fail("costed"))
    named = dataclasses.replace(data, class_names=("a", "b", "c", "d"))
    for given, what, message in (
        (named, teacher, "names 4 classes"),
        (data, teacher.predict, "does not show whether it gives logits"),
    ):
        with pytest.raises(InputError, match=message):
            search.smallest(Finisher(Trainer(given, RECIPE), what))


def test_a_trial_leans_on_those_no_larger_alone(data, teacher, monkeypatch):
    """With other bits the sizes are others; a trial that a larger one had ended was taken."""
    beside = {}

    def trained(finisher, candidate, epochs, trial, earlier):
        beside[candidate.name] = [one.candidate.name for one in earlier]
        return [0.5] * epochs

    monkeypatch.setattr(search, "_trained", trained)
    fitting = [(Candidate(str(n), dense(8), n, None), Costs(n, n, None)) for n in (1, 2, 4, 16)]
    search._tried(Finisher(Trainer(data, RECIPE), teacher), fitting)
    assert beside == {"1": [], "16": ["1"], "4": ["1"], "2": ["1"]}


def test_no_accuracy_is_no_error():
    assert sized("a", 10, 0.0).said == "a, 0.0%, 0.0 kB"
    assert sized("a", 10, -0.0, metric="mae").said == "a, error 0, 0.0 kB"
    assert front_of([sized("a", 10, 0.0)]).metric == "accuracy"


def test_what_is_finished_outlives_a_later_failure(data, teacher, monkeypatch):
    """The budget was too short for the second student, and the first one was lost."""
    kept, tried = types.SimpleNamespace(meets=lambda goal: False), []

    def finished(self, model, recipe):
        tried.append(model)
        if len(tried) > 1:
            raise InputError("The budget is too short.")
        return kept

    several = [sized("a", 10, 0.5), sized("b", 20, 0.6)]
    monkeypatch.setattr(search, "affordable", lambda _: [])
    monkeypatch.setattr(search, "_tried", lambda *_: several)
    monkeypatch.setattr(search, "order_of", lambda *_: list(several))
    monkeypatch.setattr(search, "_under_other_losses", lambda _, trial: ([], trial))
    monkeypatch.setattr(Finisher, "finished", finished)
    with pytest.warns(UserWarning, match=r"b, 60.0%.*could not be finished: The budget is too"):
        trials, found = search.smallest(Finisher(Trainer(data, RECIPE), teacher))
    assert found is kept and [one.chosen for one in trials] == [True, False]


@pytest.mark.parametrize(
    ("drops", "budget", "chosen"),
    [
        ((0.004, 0.001, 0.0, 0.0), None, "b"),
        ((0.004, 0.006, 0.0035, 0.0), None, "c"),  # three at most
        ((0.004, 0.006, 0.0035, 0.0), 1e6, "d"),
    ],
)
def test_a_target_that_is_met_by_chance_is_not_met(
    data, teacher, monkeypatch, drops, budget, chosen
):
    """Half a point was met on 54 examples, with a standard error of 2, and missed on the test."""
    several = [sized(name, 10 * place, 0.5) for place, name in enumerate("abcd", 1)]
    left = list(drops)

    def finished(self, model, recipe):
        costs = Costs(1, 1, 1)
        rest = [None] * 4
        return Finished(
            *rest, costs, Drop(None, left.pop(0), "accuracy", {}, 0.002), True, None, {}, recipe
        )

    monkeypatch.setattr(search, "affordable", lambda _: [])
    monkeypatch.setattr(search, "_tried", lambda *_: several)
    monkeypatch.setattr(search, "order_of", lambda *_: list(several))
    monkeypatch.setattr(search, "_under_other_losses", lambda _, trial: ([], trial))
    monkeypatch.setattr(Finisher, "finished", finished)
    goal = Goal({}, 0.005, None)
    run = Finisher(Trainer(data, RECIPE), teacher, goal, None, Budget(budget))
    trials, found = search.smallest(run)
    assert [one.name for one in trials if one.chosen] == [chosen]
    assert found.drop.value == drops["abcd".index(chosen)]


def test_a_kind_that_does_not_fit_is_left_out(data, teacher, monkeypatch):
    """A student whose answers were not those of the labels ended the search."""

    def two_classes(units):
        hidden = keras.layers.Dense(units)
        return keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(2)])

    bad, good = Family("bad", (4,), two_classes), Family("good", (4, 8), dense)
    trainer = Trainer(data, RECIPE)
    for several, kinds in (([bad, good], ["good", "good"]), ([bad], None)):
        monkeypatch.setattr(costing, "families", lambda *_, several=several: several)
        run = Finisher(trainer, teacher, Goal({}, None, None))
        if kinds is None:
            with pytest.raises(InputError, match="outputs of 2 classes"):
                costing.affordable(run)
        else:
            assert [one.kind for one, _ in costing.affordable(run)] == kinds


def test_students_that_are_the_same_are_tried_once(data, teacher, monkeypatch):
    student = dense(8)
    several = [Family(name, (8,), lambda _: student) for name in ("one", "other")]
    monkeypatch.setattr(costing, "families", lambda *_: several)
    run = Finisher(Trainer(data, RECIPE), teacher, Goal({}, None, None))
    assert [one.kind for one, _ in costing.affordable(run)] == ["one"]


def test_students_of_several_teachers_or_of_a_file_are_smaller_too(data, teacher):
    file, goal = to_tflite(teacher, "float32"), Goal({"bytes": 10**6}, None, None)
    whole = Family("dense", (16, 400), dense)
    for one, left in ((file, [16]), ([teacher, teacher], [16]), (teacher.predict, [400, 16])):
        run = Finisher(Trainer(data, RECIPE), one, goal, teacher_from_logits=True)
        found = costing._of_a_family(run, whole, data.train.x[:8], 2, costing.Missed())
        assert [int(candidate.name.split()[1]) for candidate, _ in found] == left


def test_a_short_budget_costs_one_candidate_of_each_kind(data, teacher):
    trainer, goal = Trainer(data, dataclasses.replace(RECIPE, candidates=8)), Goal({}, 0.3, None)
    short = costing.affordable(Finisher(trainer, teacher, goal, None, Budget(1e-9)))
    assert [one.kind for one, _ in short] == ["teacher", "dense"]
    assert len(costing.affordable(Finisher(trainer, teacher, goal))) == 8


def test_a_candidate_that_diverges_is_left_out(data, teacher, monkeypatch):
    """Its error ended the search, although others had trained."""

    def trained(finisher, candidate, epochs, trial, earlier, method=None):
        if candidate.name in bad:
            raise InputError(f"Training of {candidate.name!r} left NaN weights.")
        return [0.5] * epochs

    monkeypatch.setattr(search, "_trained", trained)
    fitting = [(Candidate(str(n), dense(8), n, None), Costs(n, n, None)) for n in (1, 2, 4, 16)]
    finisher, bad = Finisher(Trainer(data, RECIPE), teacher), {"1", "4"}
    with pytest.warns(UserWarning, match="^[14] was left out: Training of '[14]' left NaN"):
        found = search._tried(finisher, fitting)
    assert [one.candidate.name for one in found] == ["16", "2"]
    bad |= {"2", "16"}
    first = pytest.raises(InputError, match="Training of '1' left NaN")
    with pytest.warns(UserWarning, match="was left out"), first:
        search._tried(finisher, fitting)


def test_a_trial_that_diverged_ends_no_other():
    from tfkd.compression.dominated import BYTES, Dominated

    study = optuna.create_study(direction="maximize", pruner=Dominated(8))
    first, second = study.ask(), study.ask()
    for trial in (first, second):
        trial.set_user_attr(BYTES, 10)
        trial.report(0.5, 2)
    assert second.should_prune()
    study.tell(first, state=optuna.trial.TrialState.FAIL)
    assert not second.should_prune()
