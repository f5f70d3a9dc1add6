"""Answers in a folder are found again, continued after a kill, and refused when damaged."""

import errno
import io
import json
import os
import pathlib
import shutil
import signal
import textwrap

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import dense, predicted

from tfkd import TeacherCache, cache_teacher, hashing, sealed
from tfkd.distillation.cache import store
from tfkd.distillation.cache.columns import Column, Growing
from tfkd.distillation.cache.index import OTHER, UNKNOWN, Index
from tfkd.distillation.teacher_outputs import names_of
from tfkd.errors import InputError


@pytest.fixture
def data(rng):
    return rng.normal(size=(50, 4)).astype("float32"), rng.integers(0, 3, 50)


def answer_of(taught):
    """Return the only output."""
    (answer,) = taught.answers.values()
    return answer


def test_on_disk_and_again_without_the_teacher_running(data, tmp_path):
    x, _ = data
    teacher = dense(keras)
    first = cache_teacher(x, teacher, tmp_path / "c")
    seen = []
    again = cache_teacher(x, teacher, tmp_path / "c", progress=seen.append)
    assert seen == []  # read, not asked
    loaded = TeacherCache.load(tmp_path / "c")
    for other in (again, loaded):
        for name, array in first.attach(x).answers.items():
            np.testing.assert_array_equal(array, other.attach(x).answers[name])
        assert (other.outputs, other.shapes, other.tasks) == (["d"], [(None, 3)], [None])
        assert other.teacher == first.teacher and other.signature == [["", "float32", [4]]]
        assert other.dtypes == {"d": "float16"} and other.size == 50
    assert json.loads((tmp_path / "c" / "manifest.json").read_text())["complete"]


def test_a_stale_cache_is_refused(data, tmp_path):
    x, _ = data
    teacher = dense(keras)
    cache_teacher(x, teacher, tmp_path / "c")
    with pytest.raises(InputError, match="made with another teacher"):
        cache_teacher(x, dense(keras), tmp_path / "c")
    with pytest.raises(InputError, match="for other data"):
        cache_teacher(x + 1, teacher, tmp_path / "c")
    with pytest.raises(InputError, match="for other data"):
        cache_teacher(x[:20], teacher, tmp_path / "c")
    with pytest.raises(InputError, match="made with another dtype"):
        cache_teacher(x, teacher, tmp_path / "c", dtype="float32")
    with pytest.raises(InputError, match="made with another tasks and top_k"):
        cache_teacher(x, teacher, tmp_path / "c", top_k=2, task="categorical")
    with pytest.raises(InputError, match="made with another teacher"):
        cache_teacher(x, teacher, tmp_path / "c", teacher_inputs=lambda x: x * 2)
    with pytest.raises(InputError, match="made with another features"):
        cache_teacher(x, teacher, tmp_path / "c", features=["d"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(InputError, match="holds no cache"):
        cache_teacher(x, teacher, tmp_path / "mine")


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    script = textwrap.dedent("""
        import sys, os, keras, numpy as np
        from tfkd import cache_teacher
        keras.utils.set_random_seed(0)
        teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        x = np.random.default_rng(0).normal(size=(20000, 4)).astype("float32")
        def progress(done):
            if done >= int(sys.argv[2]):
                os.kill(os.getpid(), 9)
        cache = cache_teacher(x, teacher, sys.argv[1], progress=progress)
        error = np.abs(next(iter(cache.attach(x).answers.values())) - teacher(x)).max()
        print(cache.size, bool(error < 0.01))
    """)
    killed = forked.run(script, tmp_path / "c", 10_000)
    assert killed.returncode == -signal.SIGKILL
    shards = sorted(os.listdir(tmp_path / "c"))
    assert "shard-00001.npz" in shards
    stamp = os.stat(tmp_path / "c" / "shard-00000.npz").st_mtime_ns
    done = forked.run(script, tmp_path / "c", 1_000_000)
    assert done.stdout.split() == ["20000", "True"], done.stderr
    assert os.stat(tmp_path / "c" / "shard-00000.npz").st_mtime_ns == stamp


def test_a_model_with_the_same_weights_and_another_activation_is_another_teacher(
    data, tmp_path, package
):
    x, _ = data

    def net(activation, seed=0):
        package.utils.set_random_seed(seed)
        layers = [package.layers.Dense(8, activation), package.layers.Dense(3)]
        return package.Sequential([package.Input((4,)), *layers])

    cache_teacher(x, net("relu"), tmp_path / "c")
    asked = []
    cache_teacher(x, net("relu"), tmp_path / "c", progress=asked.append)  # built again: the same
    assert asked == []
    for other in (net("tanh"), net(lambda z: z * 0.5)):
        with pytest.raises(InputError, match="made with another teacher"):
            cache_teacher(x, other, tmp_path / "c")


def test_the_size_of_a_shard(data, tmp_path, monkeypatch):
    x, _ = data
    cache_teacher(x, dense(keras), tmp_path / "a", shard_size=20)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert [one["rows"] for one in manifest["shards"]] == [20, 20, 10]
    cache_teacher(x, dense(keras), tmp_path / "b", batch_size=10)
    assert len(list((tmp_path / "b").glob("shard-*"))) == 1
    monkeypatch.setattr(store, "SECONDS", 0.0)  # a minute of work is over after every batch
    cache_teacher(x, dense(keras), tmp_path / "c", batch_size=10)
    assert len(list((tmp_path / "c").glob("shard-*"))) == 5


# -- Damaged folders


def shard(folder, number=1):
    return folder / f"shard-{number:05d}.npz"


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def put(folder, held):
    """Write a manifest as if cache_teacher had written it."""
    held = {name: value for name, value in held.items() if name != "blake2b"}
    held["blake2b"] = sealed.checksum_of(held)
    (folder / "manifest.json").write_text(json.dumps(held))


def with_arrays(change, rows=None):
    """Return a damage: a shard that holds other arrays, its checksum put right."""

    def damage(folder):
        with np.load(shard(folder)) as stored:
            names = stored["names"].tolist()
            arrays = {name: stored[f"a{i}"] for i, name in enumerate(names)}
        with np.load(shard(folder, 0)) as other:
            before = other["a0"]
        arrays = change(arrays, before) or arrays
        buffer = io.BytesIO()
        np.savez(
            buffer,
            names=np.array(list(arrays)),
            **{f"a{i}": a for i, a in enumerate(arrays.values())},
        )
        shard(folder).write_bytes(buffer.getvalue())
        held = manifest_of(folder)
        held["shards"][1]["blake2b"] = hashing.checksum(buffer.getvalue())
        if rows is not None:
            held["shards"][1]["rows"] = rows
        put(folder, held)

    return damage


def with_manifest(change, signed=True):
    def damage(folder):
        held = manifest_of(folder)
        held = change(held) or held
        if signed:
            put(folder, held)
        else:
            (folder / "manifest.json").write_text(json.dumps(held))

    return damage


def written(data):
    return lambda folder: (folder / "manifest.json").write_bytes(data)


def truncated(name, keep):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(keep * len(data))])

    return damage


def flipped(folder):
    data = bytearray(shard(folder).read_bytes())
    data[len(data) // 2] ^= 1
    shard(folder).write_bytes(bytes(data))


def swapped(folder):
    os.rename(shard(folder, 0), folder / "x")
    os.rename(shard(folder, 1), shard(folder, 0))
    os.rename(folder / "x", shard(folder, 1))


def a_folder_for_a_shard(folder):
    shard(folder).unlink()
    shard(folder).mkdir()


def a_file_for_the_folder(folder):
    shutil.rmtree(folder)
    folder.write_text("a file")


def pickled(arrays, before):
    return arrays | {"values:0:d": np.full((20, 3), None, object)}


def nans(arrays, before):
    arrays["values:0:d"][3, 1] = np.nan


def key_twice(arrays, before):
    arrays["keys"][1] = arrays["keys"][0]


def key_of_another_shard(arrays, before):
    arrays["keys"][1] = before[0]


def without(name):
    return lambda arrays, before: {n: a for n, a in arrays.items() if n != name}


def changed(name, function):
    return lambda arrays, before: arrays | {name: function(arrays[name])}


def compressed(folder):
    """A shard that can't be read where it lies, its checksum put right."""
    with np.load(shard(folder)) as stored:
        arrays = dict(stored)
    np.savez_compressed(shard(folder), **arrays)
    held = manifest_of(folder)
    held["shards"][1]["blake2b"] = hashing.checksum(shard(folder).read_bytes())
    put(folder, held)


def a_longer_array(folder):
    """A header that names more rows than the file has, its checksum put right."""
    data = shard(folder).read_bytes()
    changed = data.replace(b"'shape': (20, 3)", b"'shape': (90, 3)")
    assert changed != data
    shard(folder).write_bytes(changed)
    held = manifest_of(folder)
    held["shards"][1]["blake2b"] = hashing.checksum(changed)
    put(folder, held)


MANIFEST, SHARD = "manifest.json", "shard-00001.npz"
AGAIN = "name another folder, or delete this one and call cache_teacher again"
DELETE = "Delete that file and call cache_teacher again"
DAMAGES = {
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "cache", "folder"),
    "an empty manifest": (written(b""), MANIFEST, AGAIN),
    "half a manifest": (truncated(MANIFEST, 0.5), MANIFEST, AGAIN),
    "no JSON": (written(b"hello"), MANIFEST, AGAIN),
    "no text": (written(b"\xff\xfe\x00"), MANIFEST, AGAIN),
    "a list": (written(b"[1, 2]"), MANIFEST, AGAIN),
    "null": (written(b"null"), MANIFEST, AGAIN),
    "another file's JSON": (written(b'{"name": "x"}'), MANIFEST, AGAIN),
    "an older format": (with_manifest(lambda h: h | {"format": "tfkd.cache/2"}), MANIFEST, AGAIN),
    "a manifest that is a folder": (
        lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()), MANIFEST, AGAIN,
    ),
    **{
        f"no {name}": (
            with_manifest(lambda h, n=name: {k: v for k, v in h.items() if k != n}), MANIFEST, AGAIN
        )
        for name in ("settings", "shards", "complete", "names", "shapes", "answers", "signature")
    },
    "shards are a number": (with_manifest(lambda h: h | {"shards": 3}), MANIFEST, AGAIN),
    "a shard outside": (
        with_manifest(lambda h: h["shards"][0].update(file="../shard-00000.npz")), MANIFEST, AGAIN
    ),
    "rows are text": (with_manifest(lambda h: h["shards"][0].update(rows="20")), MANIFEST, AGAIN),
    "complete is text": (with_manifest(lambda h: h | {"complete": "yes"}), MANIFEST, AGAIN),
    "another name": (with_manifest(lambda h: h | {"names": ["e"]}, False), MANIFEST, AGAIN),
    "an empty shard": (truncated(SHARD, 0), SHARD, DELETE),
    "half a shard": (truncated(SHARD, 0.5), SHARD, DELETE),
    "a shard's last byte": (truncated(SHARD, 0.999), SHARD, DELETE),
    "one bit": (flipped, "shard-0000", DELETE),
    "swapped shards": (swapped, "shard-0000", DELETE),
    "a shard that is a folder": (a_folder_for_a_shard, SHARD, DELETE),
    "other rows": (with_arrays(lambda a, b: a, rows=19), SHARD, DELETE),
    "no keys": (with_arrays(without("keys")), SHARD, DELETE),
    "no answers": (with_arrays(without("values:0:d")), SHARD, DELETE),
    "an unknown array": (with_arrays(lambda a, b: a | {"z": np.ones(3)}), SHARD, DELETE),
    "keys of the old width": (with_arrays(changed("keys", lambda k: k[:, 0])), SHARD, DELETE),
    "keys in float": (with_arrays(changed("keys", lambda k: k * 1.0)), SHARD, DELETE),
    "answers in integers": (
        with_arrays(changed("values:0:d", lambda v: v.astype(int))), SHARD, DELETE
    ),
    "answers of another width": (
        with_arrays(changed("values:0:d", lambda v: v[:, :2])), SHARD, DELETE
    ),
    "answers of another rank": (
        with_arrays(changed("values:0:d", lambda v: v[:, None])), SHARD, DELETE
    ),
    "fewer answers": (with_arrays(changed("values:0:d", lambda v: v[1:])), SHARD, DELETE),
    "answers in the other byte order": (
        with_arrays(changed("values:0:d", lambda v: v.astype(">f2"))), SHARD, DELETE
    ),
    "a compressed shard": (compressed, SHARD, DELETE),
    "an array of more rows than there are": (a_longer_array, SHARD, DELETE),
    "pickled objects": (with_arrays(pickled), SHARD, DELETE),
    "one NaN": (with_arrays(nans), SHARD, DELETE),
    "a key twice": (with_arrays(key_twice), SHARD, DELETE),
    "another shard's key": (with_arrays(key_of_another_shard), SHARD, DELETE),
    "a file for the folder": (a_file_for_the_folder, "c'", "folder"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:zipfile")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_error_that_names_the_file_and_the_way_out(damage, whole, tmp_path):
    x, teacher, folder = whole
    there = tmp_path / "c"
    shutil.copytree(folder, there)
    change, file, way_out = DAMAGES[damage]
    change(there)
    for read in (lambda: cache_teacher(x, teacher, there), lambda: TeacherCache.load(there)):
        with pytest.raises(InputError) as caught:
            read()
        assert file in str(caught.value) and way_out in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "c"
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    teacher = dense(keras)
    cache_teacher(x, teacher, folder, shard_size=20)
    return x, teacher, folder


def test_a_damaged_shard_alone_is_asked_again(whole, tmp_path):
    x, teacher, folder = whole
    there = tmp_path / "c"
    shutil.copytree(folder, there)
    flipped(there)
    with pytest.raises(InputError, match="shard-00001.npz.*another checksum.*Delete that file"):
        cache_teacher(x, teacher, there)
    shard(there).unlink()
    with pytest.raises(InputError, match="not complete .missing: shard-00001.npz"):
        TeacherCache.load(there)
    stamp = os.stat(shard(there, 0)).st_mtime_ns
    cache = cache_teacher(x, teacher, there, shard_size=10)
    assert os.stat(shard(there, 0)).st_mtime_ns == stamp and not shard(there).exists()
    shards = [(one["file"][:11], one["rows"]) for one in manifest_of(there)["shards"]]
    assert shards == list(
        zip(
            ["shard-00000", "shard-00002", "shard-00003", "shard-00004"],
            [20, 20, 10, 10],
            strict=True,
        )
    )
    for one in (cache, TeacherCache.load(there)):
        found = answer_of(one.attach(x))
        np.testing.assert_allclose(found, predicted(teacher, x), atol=2e-3)


def test_a_run_that_was_killed_over_other_data(whole, tmp_path):
    x, teacher, folder = whole
    there = tmp_path / "c"
    shutil.copytree(folder, there)
    put(there, manifest_of(there) | {"complete": False})
    with pytest.raises(InputError, match="is not complete; call cache_teacher"):
        TeacherCache.load(there)
    with pytest.raises(
        InputError, match="for other data .it has 60 examples, and this data has 50 diff"
    ):
        cache_teacher(x[:50], teacher, there)
    assert cache_teacher(x, teacher, there).size == 60


def test_a_disk_that_fills_loses_the_shard_in_hand_alone(data, tmp_path, monkeypatch):
    x, teacher = data[0], dense(keras)
    replace, full = os.replace, []

    def replaced(source, target):
        if "shard-00001" in str(target) and not full:
            full.append(target)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(InputError) as caught:
        cache_teacher(x, teacher, tmp_path / "c", shard_size=20, batch_size=10)
    said = str(caught.value)
    assert "shard-00001.npz': No space left on device. The 20 examples that were written" in said
    assert "make room" in said and "\n" not in said
    assert {p.name for p in (tmp_path / "c").iterdir()} == {MANIFEST, "shard-00000.npz"}
    stamp = os.stat(shard(tmp_path / "c", 0)).st_mtime_ns
    cache = cache_teacher(x, teacher, tmp_path / "c", shard_size=20)
    assert cache.size == 50 and os.stat(shard(tmp_path / "c", 0)).st_mtime_ns == stamp
    np.testing.assert_allclose(answer_of(cache.attach(x)), predicted(teacher, x), atol=2e-3)


def test_top_k_names_each_class_once(data, tmp_path):
    x, teacher = data[0], dense(keras, units=6)
    cache_teacher(x, teacher, tmp_path / "c", top_k=3, task="categorical", shard_size=20)
    entry = "values:0:d:indices"
    twice = changed(entry, lambda v: np.where([False, True, False], v[:, :1], v))
    for number, damage in enumerate((twice, changed(entry, lambda v: v + np.uint16(4)))):
        shutil.copytree(tmp_path / "c", there := tmp_path / str(number))
        with_arrays(damage)(there)
        with pytest.raises(InputError, match="a class twice|classes above 5"):
            TeacherCache.load(there)


def test_answers_on_disk_stay_there(tmp_path, monkeypatch):
    """A part of the answers is found, in any order and from several shards, as it is in memory."""
    monkeypatch.setattr(store, "BYTES", 100 * 40 * 4)  # 100 rows a shard
    x = np.random.default_rng(0).normal(size=(1000, 4)).astype("float32")
    teacher = dense(keras, units=40)
    held = cache_teacher(x, teacher)
    cache_teacher(x, teacher, tmp_path / "c")
    kept = TeacherCache.load(tmp_path / "c")
    assert len(list((tmp_path / "c").glob("shard-*"))) == 10
    order = np.random.default_rng(1).permutation(1000)[:300]
    for rows in (np.arange(1000), order, order[:1], np.repeat(order[:3], 2), order[:0]):
        want, found = answer_of(held.attach(x[rows])), answer_of(kept.attach(x[rows]))
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, want)
    assert kept._answered.nbytes == 1000 * 40 * 2
    tracked = [one for one in kept._answered._parts if one.sizes or hasattr(one, "columns")]
    assert not tracked  # nothing of them is in memory
    data = tf.data.Dataset.from_tensor_slices(x[order]).batch(64)
    for (ours,), (theirs,) in zip(kept.attach(data), held.attach(data), strict=True):
        np.testing.assert_array_equal(answer_of(ours), answer_of(theirs))


def test_shards_of_two_dtypes_and_lengths_are_one_cache(tmp_path, rng):
    """Float16 where it is fine enough and float32 where not; rows of different lengths."""
    x = rng.normal(size=(40, 4)).astype("float32")
    x[20:] *= 30000
    teacher = dense(keras, kernel_initializer="ones")
    cache = cache_teacher(x, teacher, tmp_path / "c", shard_size=20, batch_size=20)
    files = [one.dtype("0:d").name for one in cache._answered._parts]
    assert files == ["float16", "float32"] and cache.dtypes == {"d": "float32"}
    found = answer_of(cache.attach(x[::-1]))
    np.testing.assert_allclose(found, predicted(teacher, x[::-1]), rtol=2e-3, atol=2e-3)
    sizes = np.array([[2], [1], [3]])
    shard = [Column(np.arange(6, dtype="float32"), sizes), Column(np.ones((2, 4), "float16"))]
    growing = Growing()
    for one in shard:
        growing.add(one)
    whole = growing.column()
    assert whole.shape == [None] and whole.values.dtype == np.float32 and len(growing) == 5
    np.testing.assert_array_equal(whole.take(np.array([2, 0])).values, [3, 4, 5, 0, 1])
    np.testing.assert_array_equal(whole.between(3, 5).values, np.ones((2, 4)))


def test_a_folder_that_changes_while_it_is_used(data, tmp_path):
    cache_teacher(data[0], dense(keras), tmp_path / "c")
    cache = TeacherCache.load(tmp_path / "c")
    file = shard(tmp_path / "c", 0)
    whole = file.read_bytes()
    for changed in (whole[:900], whole[:-900] + bytes(900)):
        file.write_bytes(changed)
        with pytest.raises(
            InputError, match="can't be read any more: it was changed.*open the cache"
        ):
            cache.attach(data[0])
    file.unlink()
    with pytest.raises(InputError, match="can't be read any more: No such file"):
        cache.attach(data[0])


def test_a_folder_that_is_filled_anew_does_not_answer_for_the_old_one(data, tmp_path):
    x, _ = data
    teacher = dense(keras)
    cache = cache_teacher(x, teacher, tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    again = cache_teacher(x[::-1].copy(), teacher, tmp_path / "c")  # other rows, equal bytes
    with pytest.raises(InputError, match="changed or replaced while"):
        cache.attach(x)
    assert predicted(teacher, x) == pytest.approx(answer_of(again.attach(x)), abs=2e-3)


def test_a_folder_is_found_from_elsewhere(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled = cache_teacher(data[0], dense(keras), "c")
    opened = TeacherCache.load("c")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for cache in (filled, opened):
        assert names_of(cache.attach(data[0]).answers) == ["d"]


def test_a_folder_that_two_fill_at_once_is_refused(data, tmp_path):
    x, _ = data
    teacher = dense(keras)
    others = []

    def another(done):
        if done == 10:  # fills it while this one is at its first shard
            others.append(cache_teacher(x[::-1].copy(), teacher, tmp_path / "c", shard_size=10))

    cache = cache_teacher(x, teacher, tmp_path / "c", shard_size=10, progress=another)
    assert len(others) == 1
    with pytest.raises(InputError, match="changed or replaced while"):
        others[0].attach(x)
    assert cache.attach(x)  # its files are the last ones


def test_a_shard_that_another_process_wrote_is_not_taken(data, tmp_path, monkeypatch):
    write = store.write_atomically

    def written_by_another(path, content):
        write(path, content)
        if path.suffix == ".npz":
            write(path, store.shards.bytes_of(np.ones((50, 2), np.int64), {}).getbuffer())

    monkeypatch.setattr(store, "write_atomically", written_by_another)
    with pytest.raises(InputError, match="Another process also writes .*shard-00000.npz"):
        cache_teacher(data[0], dense(keras), tmp_path / "c")


def test_rows_are_found_by_key_and_check(rng):
    keys = np.stack([rng.permutation(5000) - 2500, rng.integers(-9, 9, 5000)], 1)
    index = Index()
    for start in range(0, 5000, 130):
        index.add(keys[start : start + 130])
    assert index.size == 5000 and len(index._runs) < 8
    for _ in range(2):
        np.testing.assert_array_equal(index.find(keys), np.arange(5000))
        assert index.find(np.array([[5000, 0], keys[7] + [0, 1]])).tolist() == [UNKNOWN, OTHER]
        index.merge()
    assert len(index._runs) == 1 and index.nbytes == 24 * 5000
    assert Index().find(keys[:2]).tolist() == [UNKNOWN] * 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_can_not_be_written(data, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Cannot write .* name another folder"):
        cache_teacher(data[0], dense(keras), tmp_path / "c")


def test_a_folder_below_a_file(data, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="Cannot write .*file/c"):
        cache_teacher(data[0], dense(keras), tmp_path / "file" / "c")
    with pytest.raises(InputError, match="There is no cache in"):
        TeacherCache.load(pathlib.Path(tmp_path / "nowhere"))
