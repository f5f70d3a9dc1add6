"""`compare`: the same student trained in several ways, chosen on validation, reported on test.

checks ─► teacher asked once ─► methods × seeds (─► search) ─► choice on validation ─► test
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfkd.comparison import methods as methods_
from tfkd.comparison import spelling
from tfkd.comparison.methods import Method
from tfkd.comparison.result import Compared, Comparison, Gain
from tfkd.comparison.runs import Runner, budget_of
from tfkd.comparison.search import optuna
from tfkd.comparison.search import search as search_
from tfkd.comparison.store import Run, Store
from tfkd.comparison.students import Students
from tfkd.compression.settings import Training, is_whole
from tfkd.compression.trainer import Progress
from tfkd.data import Data, Part, as_data
from tfkd.errors import InputError, UnsupportedError, raise_all
from tfkd.export.latency import statistics
from tfkd.model.fingerprint import contents, fingerprint, trainee

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, AnyTeacher, PathLike
    from tfkd.data.door import AnyData


def compare(
    student: AnyModel,
    teacher: AnyTeacher,
    data: AnyData,
    *,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any] | None] | str | None = None,
    seeds: int | Sequence[int] = 3,
    budget: int | Mapping[str, Any] | Training = 20,
    search: int = 0,
    metric: str | None = None,
    task: str | None = None,
    teacher_from_logits: bool | None = None,
    teacher_inputs: Callable | None = None,
    folder: PathLike | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Find out which way of distilling helps on this data, if any does.

    Trains the same student by each method with each seed, and also without a teacher. Chooses the
    method with the best mean score on the validation part after the last epoch, and uses the test
    part once, for that method and for training alone. Within a seed all methods start from the same
    weights and see the same batches, so that gains over training alone are paired. The teacher runs
    once per example, for all runs together.

    Args:
        student: A Functional or Sequential Keras 3 or tf_keras model with one output, or a function
            without arguments that returns a new model. The first seed starts from a model's
            weights; the other seeds draw new weights for all layers that are trained. Not changed.
        teacher: Whatever `Distiller` takes: a model, a file, a callable, an array of answers for
            the training part, a list of teachers. Not changed.
        data: A `Data`, or what `as_data` takes: `(x, y)`, a path.
        methods: Names of methods, or a dict of name → arguments of `Distiller` (`alpha`,
            `temperature`, `soft_loss`, `features`) or `{"label_smoothing": share}`. Known names are
            `"auto"` (Distiller's default), the soft losses of `tfkd.losses`, and
            `"label_smoothing"` (0.1, without a teacher). Defaults to auto, kl, standardized_kl,
            dist and label_smoothing, and for other tasks binary_kl, mse and teacher_bounded;
            methods that don't fit the task are left out. `"alone"` (no teacher) is always included.
        seeds: The number of seeds (0, 1, ...), or the seeds themselves. With fewer than two there
            are no intervals.
        budget: Epochs of each run, or a `Training` or a dict with some of its `epochs` (20),
            `batch_size` (32), `learning_rate` (0.003) and `optimizer` (`"adam"`).
        search: Trials of an Optuna search over method, alpha and temperature, on the validation
            score of the first seed; its best is trained with all seeds and joins the comparison.
            Needs the extra `compare`.
        metric: The score: `"accuracy"`, `"precision"`, `"recall"`, `"f1"`, `"auc"`, `"rmse"` or
            `"mae"`. Defaults to accuracy for classes, auc for several labels an example, rmse for
            values.
        task: `"categorical"`, `"binary"`, `"multilabel"` or `"regression"`. Needed where it does
            not follow from the student's output and the labels.
        teacher_from_logits: As for `Distiller`: whether the teacher's outputs are logits. Needed
            where the model does not show it.
        teacher_inputs: As for `Distiller`: a function from a batch of `x` to the teacher's input.
        folder: Where to keep finished runs, and at the end `compare.json`, `compare.svg` and
            `student.keras`. An interrupted comparison continues when it is called again with the
            same student, teacher, data and budget; further methods and seeds add runs.
        progress: Called as `progress(method, epochs_done, epochs)`, with the epochs of all seeds of
            the method.

    Returns:
        A `Comparison`; print it for the table.

    Raises:
        InputError: for arguments out of range, methods that are unknown or don't fit the task, a
            teacher with other classes, labels that can't be scored, or a folder of another
            comparison; before anything is trained.
        MissingDependencyError: if `search` is given and Optuna is not installed.
        UnsupportedError: for a student that can't be copied, or has several outputs.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> x = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")
        >>> data = tfkd.split(x, (x.sum(1) > 0).astype(int))
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> teacher = lambda x: np.stack([-x.sum(1), x.sum(1)], axis=1)
        >>> found = tfkd.compare(
        ...     student, teacher, data, methods=["kl"], seeds=1, budget=1, teacher_from_logits=True
        ... )
        >>> [one.name for one in found.methods]
        ['alone', 'kl']
    """
    data = as_data(data)
    if data.outputs:
        raise UnsupportedError(
            "compare decides by one score, but the labels are for several outputs: use compress, "
            "which trains such a student with and without its teacher."
        )
    seeds = _checked(data, seeds, search)
    store = Store(folder)
    students = Students(student, seeds[0])
    options = {"teacher_from_logits": teacher_from_logits, "teacher_inputs": teacher_inputs}
    runner = Runner(
        students,
        teacher,
        data,
        budget_of(budget),
        task,
        metric,
        {name: value for name, value in options.items() if value is not None},
        store,
        progress,
    )
    chosen, left_out = methods_.resolve(methods, runner.task, students.example.output_shape[-1])
    runner.check(chosen)
    if search and not any(one.settings is not None for one in chosen):
        raise InputError(
            "The search needs a method with a teacher, and methods names none: add one, or leave "
            "search out."
        )
    if folder is not None:
        store.open(_identity(student, runner, data, options))
    keys = [store.key(one, seed) for one in chosen if one.settings is not None for seed in seeds]
    runner.prepare(bool(search) or any(store.find(key) is None for key in keys))
    runs, trials = _all_runs(runner, chosen, seeds, left_out), ()
    if search:
        taught = [one for one in chosen if one.name in runs]
        found, trials = search_(runner, taught, seeds[0], search)
        runs |= _all_runs(runner, [found], seeds, left_out)
        chosen.append(found)
    by_name = {one.name: one for one in chosen if one.name in runs}
    result = _reported(runner, by_name, runs, left_out, seeds, trials)
    if folder is not None:
        result.save(folder)
    return result


def _checked(data, seeds, search) -> tuple[int, ...]:
    """Return the seeds as a tuple; raise for invalid arguments."""
    problems = []
    if is_whole(seeds, 0):
        problems += ["seeds must be at least 1, got 0"] * (seeds == 0)
        seeds = range(seeds)
    elif not isinstance(seeds, Iterable) or isinstance(seeds, str):
        problems.append(f"seeds must be a number of at least 1, or a list of them, got {seeds!r}")
        seeds = ()
    else:
        seeds = list(seeds)
        whole = seeds and all(is_whole(one, 0) for one in seeds)
        if not whole or len(set(seeds)) < len(seeds):
            problems.append(f"seeds must be different whole numbers of at least 0, got {seeds!r}")
    if not is_whole(search, 0):
        problems.append(f"search must be a number of trials, got {search!r}")
    problems += [
        f"data.{part} must be a tfkd.Samples of examples and labels, got "
        f"{type(getattr(data, part)).__name__}"
        for part in ("train", "validation", "test")
        if not isinstance(getattr(data, part), Part)
    ]
    raise_all(problems)
    if search:
        optuna()
    return tuple(int(one) for one in seeds)


def _identity(student, runner: Runner, data: Data, options) -> dict:
    """Return all that determines the result of a run, except method and seed."""
    parts = [contents(part) for part in (data.train, data.validation, data.test)]
    if data.class_weight is not None:
        options = {**options, "class_weight": dict(data.class_weight)}
    return {
        "student": fingerprint(trainee(student)),
        "teacher": [runner.fingerprint()],
        "data": parts,
        "budget": runner.spent,
        "task": runner.task,
        "metric": runner.metric,
        "first_seed": runner.students.first,
        **options,
    }


def _all_runs(runner: Runner, chosen, seeds, left_out) -> dict[str, list[Run]]:
    """Return the runs of each method whose runs all succeeded; warn about the others."""
    runs: dict[str, list[Run]] = {one.name: [] for one in chosen}
    for done, seed in enumerate(seeds):
        for method in chosen:
            if method.name in left_out:
                continue
            run = runner.run(method, seed, method.name, done, len(seeds))
            runs[method.name].append(run)
            if run.error is not None:
                left_out[method.name] = f"it failed with seed {seed}: {run.error}"
    return {name: found for name, found in runs.items() if name not in left_out}


def _reported(runner: Runner, chosen, runs, left_out, seeds, trials) -> Comparison:
    """Choose on the validation part, then score on the test part."""
    validation = {name: tuple(run.validation for run in found) for name, found in runs.items()}
    means = {name: sum(scores) / len(scores) for name, scores in validation.items()}
    best = methods_.ALONE
    for name, mean in means.items():
        if runner.is_better(mean, means[best]):
            best = name
    test = {
        name: tuple(runner.score(runner.weights(chosen[name], seed), "test") for seed in seeds)
        for name in dict.fromkeys((methods_.ALONE, best))
    }
    order = sorted(range(len(seeds)), key=lambda i: validation[best][i])
    teacher = {part: runner.teacher_score(part) for part in ("validation", "test")}
    return Comparison(
        best=best,
        methods=tuple(
            _compared(runner, method, runs[name], validation, test)
            for name, method in chosen.items()
        ),
        left_out=left_out,
        metric=runner.metric,
        higher_is_better=not runner.is_error,
        task=runner.task,
        seeds=seeds,
        budget=runner.spent,
        data={
            "name": runner.data.name,
            "train": len(runner.data.train),
            "validation": len(runner.data.validation),
            "test": len(runner.data.test),
        },
        teacher=None if None in teacher.values() else teacher,
        trials=trials,
        call=spelling.call(runner, chosen[best], seeds[0]),
        student=runner.trained(chosen[best], seeds[order[(len(order) - 1) // 2]]),
    )


def _compared(runner: Runner, method: Method, runs, validation, test) -> Compared:
    name, is_alone = method.name, method.name == methods_.ALONE

    def gain(scores) -> Gain | None:
        if is_alone or name not in scores:
            return None
        sign = -1 if runner.is_error else 1
        pairs = zip(scores[name], scores[methods_.ALONE], strict=True)
        return Gain(*statistics.mean([sign * (ours - alone) for ours, alone in pairs]))

    scores = test.get(name)
    return Compared(
        name=name,
        settings=spelling.summary(method),
        validation=validation[name],
        mean=sum(validation[name]) / len(validation[name]),
        gain=gain(validation),
        test=scores,
        test_mean=None if scores is None else sum(scores) / len(scores),
        test_gain=gain(test),
        seconds=sum(run.seconds for run in runs),
    )
