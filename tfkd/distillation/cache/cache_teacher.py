"""A teacher's answers, kept so that it runs once per example and not once per epoch.

Answers are looked up by the content of the example, not by its place: a dataset may be shuffled and
batched anew after the teacher ran, and an example that the teacher never saw (because the pipeline
changes it at random) raises an error instead of getting a wrong answer.

    dataset ──once──► keys (two 64-bit hashes of each x) + answers
            ──attach──► TeacherBatch(x, answers)

With random augmentation the teacher runs once, on the clean image, and the student sees another
view of it in every epoch; seed the random part to repeat a run:

    cache = tfkd.cache_teacher(dataset, teacher)

    def view(taught, y):
        return tfkd.TeacherBatch(augment(taught.x), taught.answers), y

    distiller.fit(cache.attach(dataset).map(view), epochs=20)

A teacher that should see the same augmented view as the student has to run in every step:
leave the cache out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfkd.distillation import teacher_outputs
from tfkd.distillation.cache import store as cache_store
from tfkd.distillation.cache.columns import Column
from tfkd.distillation.cache.examples import Examples
from tfkd.distillation.cache.store import About, Store
from tfkd.distillation.cache.teacher_cache import CHANGING, TeacherCache, keys_of
from tfkd.distillation.teacher_outputs import TeacherOutputs, decode, names_of
from tfkd.distillation.teachers import Teacher, fingerprint_of
from tfkd.errors import InputError, argument
from tfkd.loading import file_check
from tfkd.model.examples import show_signature, signature

if TYPE_CHECKING:
    from tfkd._typing import AnyTeacher, Arrays, Names, PathLike

__all__ = [
    "CHANGING",
    "About",
    "TeacherCache",
    "about_of",
    "cache_answers",
    "cache_teacher",
    "decode",
    "feature_shapes",
    "names_of",
]
_DTYPES = ("auto", "float16", "float32")


def cache_teacher(
    data: Arrays,
    teacher: AnyTeacher | None,
    path: PathLike | None = None,
    *,
    dtype: str = "auto",
    top_k: int | None = None,
    features: Names = (),
    task: str | None = None,
    from_logits: bool | None = None,
    teacher_inputs: Callable | None = None,
    batch_size: int = 256,
    shard_size: int | None = None,
    progress: Callable[[int], None] | None = None,
    trusted: bool = False,
) -> TeacherCache:
    """Run a teacher once on every example of a data set, and keep its answers.

    Choose it when several runs share a teacher, or the teacher is costly: later epochs
    cost as much as training the student alone. `Distiller.fit(x, y, cache_teacher=True)` does the
    same for one call of `fit`.

    Args:
        data: A finite, batched `tf.data.Dataset` or `keras.utils.PyDataset` (tf_keras:
            `Sequence`) of `x` or `(x, y, ...)`, or arrays `x` of shape (examples, ...).
        teacher: Whatever `Distiller` takes as a teacher, except an array.
        path: A folder for the answers. They are written in shards, and after an interruption
            the next call continues from the last one. Memory holds only 24 bytes per example
            and the answers of a batch. `None` keeps all answers in memory.
        dtype: `"float16"` (2 bytes per number; three decimal digits), `"float32"`, or
            `"auto"`: float16, except for regression and where rounding would cost more than 1e-3 of
            the answers' standard deviation.
        top_k: Keep only the k largest logits of each example and the mass of the others,
            spread evenly over them: for thousands of classes. Softmax outputs only.
        features: Names or paths of teacher layers to keep as well.
        task: `"categorical"`, `"binary"` or `"regression"`. Defaults to what the teacher's
            last layer shows: softmax, sigmoid, or values that are kept as they are (logits).
        from_logits: As `teacher_from_logits` of `Distiller`.
        teacher_inputs: As in `Distiller`: turns a batch of `x` into the input of the teacher.
        batch_size: Examples per batch, if `data` is arrays.
        shard_size: Examples per file of the folder: an interruption can lose as many.
            Defaults to 4,096, to as many as 64 MB hold, or to fewer after a minute of work.
        progress: Called with the number of examples done.
        trusted: As in `Distiller`.

    Returns:
        A `TeacherCache`; give it to `Distiller.fit(..., cache_teacher=cache)`.

    Raises:
        InputError: for a teacher with stateful layers, whose answers depend on the order of
            the examples; for empty or infinite data, data that changes from pass to pass, answers
            that are not finite, or a folder that is damaged, or holds the answers of another
            teacher, other data or other settings.
    """
    _check_dtype(dtype)
    if shard_size is not None and not (type(shard_size) is int and shard_size >= 1):
        raise InputError(f"shard_size must be a whole number of at least 1, got {shard_size!r}.")
    if not isinstance(teacher, Teacher):
        with file_check.trusting(trusted):
            teacher = Teacher(teacher, from_logits, features, teacher_inputs)
    teacher.check_stateless()
    tasks, shapes = _what_it_gives(teacher, task)
    _check_top_k(top_k, tasks, shapes)
    names = _names_of(teacher, len(shapes))
    # A folder belongs to its teacher's hash; a cache in memory needs no hash.
    known = fingerprint_of(teacher) if path is None else teacher.fingerprint()
    about = About(names, tasks, shapes, list(features), known)
    settings = {"dtype": dtype, "top_k": top_k, "features": about.features, "tasks": tasks}
    settings["from_logits"] = teacher.from_logits
    examples = Examples(data, min(batch_size, shard_size or batch_size))
    store = Store(about, dtype, path, settings | {"teacher": about.teacher}, shard_size)
    if store.complete:
        return _checked(examples, store)
    asked = ["regression" if one is None else one for one in tasks]

    def ask(x):
        outputs, found = teacher.ask(x, asked, shapes)
        if top_k is not None:
            outputs = [teacher_outputs.keep_top(one, top_k) for one in outputs]
        return outputs, found

    return _collect(examples, ask, teacher.in_graph, store, teacher, progress)


def cache_answers(
    x, ask, in_graph, tasks, shapes, names=None, dtype="auto", teacher=None
) -> TeacherCache:
    """Make the in-memory cache of `Distiller.fit(..., cache_teacher=True)`.

    Args:
        x: Arrays of shape (examples, ...), or a finite dataset, also one that is opened already.
        ask: Function from a batch to a list of float32 outputs, logits or values (`None` for an
            output that isn't asked for), and a dict of features.
        in_graph: Whether `ask` consists of TensorFlow operations.
        tasks: One of `losses.SOFT_TASKS` per output.
        shapes: The outputs' shapes, batch included.
        names: Their names; `output0`, `output1` ... by default.
        dtype: As for `cache_teacher`.
        teacher: The `Teacher` that `ask` asks, for its fingerprint.
    """
    _check_dtype(dtype)
    names = teacher_outputs.unnamed(len(tasks)) if names is None else list(names)
    shapes = [tuple(shape) for shape in shapes]
    about = About(names, list(tasks), shapes, [], fingerprint_of(teacher))
    return _collect(Examples(x, 256), ask, in_graph, Store(about, dtype), teacher)


def encode_arrays(arrays: list[np.ndarray | None], names=None) -> dict[str, np.ndarray]:
    """Return a teacher's outputs, given as arrays, in the form in which a cache holds them.

    Args:
        arrays: Logits or values (examples, ...) per output; `None` for an output that isn't asked
            for.
        names: The outputs' names; `output0`, `output1` ... by default.
    """
    names = teacher_outputs.unnamed(len(arrays)) if names is None else names
    values = [None if one is None else np.asarray(one, np.float32) for one in arrays]
    return TeacherOutputs(names, values).encode()


def about_of(answers: Mapping[str, Any]) -> About:
    """Return what is known of the answers in data that a cache was attached to.

    Their tasks, shapes and teacher are not.

    Args:
        answers: Encoded answers, or their specs.
    """
    held = TeacherOutputs.read(answers)
    unknown: list = [None] * len(held.names)
    return About(held.names, unknown, unknown, list(held.features), None)


def feature_shapes(answers: Mapping[str, Any]) -> dict[str, tuple]:
    """Return the shape of each feature among encoded answers, or among their specs."""
    features = TeacherOutputs.read(answers).features
    return {name: (None, *feature.shape[1:]) for name, feature in features.items()}


def _collect(examples, ask, in_graph, store: Store, teacher, progress=None) -> TeacherCache:
    """Ask the teacher about every example that is not in the store yet."""

    def encoded(x):
        outputs, features = ask(x)
        return TeacherOutputs(store.about.names, list(outputs), features).encode()

    # A Python teacher is called outside any graph: it may run TensorFlow itself, and in
    # a graph it would wait for the thread that waits for it.
    if in_graph:
        encoded = _in_graph(encoded, examples)
    before, done = store.known.size, 0
    seen = np.zeros(before, bool)
    for x in examples:
        _note_signature(store.about, signature(x))
        keys = keys_of(x)
        rows = store.fresh(keys)
        if len(rows):
            answers = {name: np.asarray(value) for name, value in encoded(x).items()}
            _check_answers(answers, len(keys), done)
            store.add(keys[rows], {name: Column(one[rows]) for name, one in answers.items()})
        if before:
            held = store.known.find(keys)
            seen[held[held < before]] = True
        done += len(keys)
        if progress is not None:
            progress(done)
    if done == 0:
        raise InputError("The data holds no examples.")
    # If the data is not reopened for this check, the first epoch checks it.
    if not examples.read_once and (store.known.find(keys_of(next(iter(examples)))) < 0).any():
        raise InputError(CHANGING)
    if not seen.all():
        raise _of_other_data(store, seen.sum() + store.known.size - before)
    # A callable that counts its calls, say, has another fingerprint after each of them.
    if store.path is None and not in_graph and fingerprint_of(teacher) != store.about.teacher:
        store.about.teacher = None
    answers = store.finish()
    return TeacherCache(store.known, answers, _of_what_is_there(store.about, answers.names))


def _in_graph(ask, examples: Examples):
    """Return a function of a batch as one graph for all batch sizes."""
    spec = examples.spec
    if spec is None:
        return tf.function(ask, reduce_retracing=True, autograph=False)
    return tf.function(ask, autograph=False).get_concrete_function(spec)


def _of_what_is_there(about: About, names) -> About:
    """Return what is known of the requested outputs, and the features."""
    found = [teacher_outputs.parse(name) for name in names]
    heads = sorted({index for index, _, _ in found if index is not None})
    return About(
        *([given[i] for i in heads] for given in (about.names, about.tasks, about.shapes)),
        [name for index, name, _ in found if index is None], about.teacher, about.signature,
    )  # fmt: skip


def _checked(examples, store: Store) -> TeacherCache:
    """Return the cache of a complete store, if it holds these examples."""
    cache = TeacherCache(store.known, store.load(), store.about)
    seen = np.zeros(cache.size, bool)
    for x in examples:
        rows = cache.rows(keys_of(x))
        if rows is None:
            raise _of_other_data(store, None)
        seen[rows] = True
    if not seen.all():
        raise _of_other_data(store, seen.sum())
    return cache


def _of_other_data(store, given) -> InputError:
    found = "others" if given is None else f"{given} different ones"
    return InputError(
        f"The cache in {str(store.path)!r} is for other data (it has {store.known.size} examples, "
        f"and this data has {found}); name another folder."
    )


def _note_signature(about: About, given: list) -> None:
    """Record the inputs' signature; sizes that differ between batches are free."""
    if not about.signature:
        about.signature = given
        return
    if [one[:2] for one in about.signature] != [one[:2] for one in given]:
        raise InputError(
            f"The inputs change from {show_signature(about.signature)} to {show_signature(given)}; "
            "give all batches the same structure and dtypes, also to continue a cache."
        )
    about.signature = [
        [place, dtype, cache_store.merged(ours, theirs)]
        for (place, dtype, ours), (_, _, theirs) in zip(about.signature, given, strict=True)
    ]


def _check_answers(answers, count: int, done: int) -> None:
    short = [f"{n} {v.shape}" for n, v in answers.items() if v.ndim < 1 or len(v) != count]
    if short:
        raise InputError(
            f"The teacher returned {', '.join(short)} for a batch of {count}: it must return one "
            "answer per example."
        )
    for name, value in answers.items():
        broken = ~np.isfinite(value).reshape(count, -1).all(axis=1)
        if broken.any():
            raise InputError(
                f"The teacher's answers are not all finite (in {name}: {broken.sum()} of the "
                f"examples {done} to {done + count - 1}, the first is {done + broken.argmax()}): "
                "check the teacher's weights and its inputs."
            )


def _check_dtype(dtype) -> None:
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be 'auto', 'float16' or 'float32', got {dtype!r}.")


def _check_top_k(top_k, tasks, shapes) -> None:
    if top_k is None:
        return
    if any(task != "categorical" for task in tasks):
        kinds = ", ".join("unknown (values or logits)" if t is None else t for t in tasks)
        raise InputError(
            f"top_k is for softmax outputs, but this teacher's are: {kinds}. Leave top_k out, or "
            f"give {argument('task', 'categorical')} if they are logits of one class out of many."
        )
    least = min(shape[-1] for shape in shapes)
    if not (type(top_k) is int and 1 <= top_k < least):
        raise InputError(
            f"top_k must be at least 1 and less than the {least} classes, got {top_k!r}."
        )


def _what_it_gives(teacher: Teacher, task) -> tuple[list[str | None], list[tuple]]:
    """Return task and shape of each output."""
    shapes = teacher.output_shapes
    if shapes is None:
        raise InputError(
            "The shape of this teacher's outputs is unknown until it runs; cache it with "
            f"{argument('cache_teacher', True, of='fit')}, which knows the shape from the student."
        )
    if task is not None:
        if task not in ("categorical", "binary", "regression"):
            raise InputError(f"task must be 'categorical', 'binary' or 'regression', got {task!r}.")
        return [task] * len(shapes), shapes
    if teacher.from_logits is True and len(teacher.sources) == 1:
        return [None] * len(shapes), shapes  # values kept as they are
    names = {"softmax": "categorical", "sigmoid": "binary", "linear": None}
    source = teacher.sources[0]
    if len(teacher.sources) > 1 or source.activations is None or None in source.activations:
        raise InputError(
            f"Give {argument('task', 'categorical')}, 'binary' or 'regression' for this teacher "
            f"(and {argument('from_logits')}, where its last layer does not show it): the cache "
            "needs this to store its answers."
        )
    return [names[one] for one in source.activations], shapes


def _names_of(teacher: Teacher, count: int) -> list[str]:
    """Return the outputs' names; `output0` for an output without a name."""
    slots = teacher.outputs.entries
    others = teacher_outputs.unnamed(count)
    names = [slot.label if slot.given else other for slot, other in zip(slots, others, strict=True)]
    return names if len(set(names)) == count else others
