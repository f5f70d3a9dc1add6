"""Files and folders are complete or absent."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from tfkd import files
from tfkd.errors import InputError
from tfkd.files import staged_folder, write_atomically


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with staged_folder(out) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
    assert [p.name for p in out.iterdir()] == ["a"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_nothing_is_left(tmp_path, error):
    def interrupted():
        with staged_folder(tmp_path / "deep" / "out") as folder:
            (folder / "a").write_text("1")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_only_files_of_the_same_name(tmp_path):
    (tmp_path / "mine").write_text("keep")
    (tmp_path / "a").write_text("old")
    with pytest.raises(InputError, match="not empty.*give force=True"), staged_folder(tmp_path):
        pass
    with staged_folder(tmp_path, force=True) as folder:
        (folder / "a").write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "mine"]
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "mine").read_text() == "keep"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("")
    with (
        pytest.raises(InputError, match="is a file; name a folder"),
        staged_folder(tmp_path / "out"),
    ):
        pass


def test_a_folder_that_cannot_be_written():
    with pytest.raises(InputError, match="Cannot write"), staged_folder("/proc/none/out"):
        pass


def test_atomic_write(tmp_path):
    path = write_atomically(tmp_path / "f", b"1")
    write_atomically(path, b"22")
    assert path.read_bytes() == b"22"
    assert os.listdir(tmp_path) == ["f"]
    with pytest.raises(InputError, match="Cannot write"):
        write_atomically(tmp_path / "none" / "f", b"")


@pytest.mark.parametrize("kind", ["folder for a file", "file for a folder", "fails midway"])
def test_replacing_is_all_or_nothing(tmp_path, monkeypatch, kind):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "a").write_text("old")
    if kind == "file for a folder":
        (out / "new").write_text("mine")
    new = {"folder for a file": ["a", "sub"], "file for a folder": ["a", "new/b"]}
    if kind == "fails midway":
        rename = os.rename

        def failing(source, target):
            if str(source).endswith("z"):
                raise OSError(28, "No space left on device")
            rename(source, target)

        monkeypatch.setattr(os, "rename", failing)
    before = {p: p.is_file() and p.read_text() for p in out.rglob("*")}

    def write():
        with staged_folder(out, force=True) as folder:
            for name in new.get(kind, ["a", "deep/er/b", "z"]):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("new")

    with pytest.raises(InputError, match=r"but a (file|folder) is there|No space left"):
        write()
    assert {p: p.is_file() and p.read_text() for p in out.rglob("*")} == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_link_is_followed_and_one_to_nothing_is_an_error(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with staged_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("1")
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["a"]
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "dangling").symlink_to("nothing")
    with (
        pytest.raises(InputError, match="is a broken link"),
        staged_folder(tmp_path / "dangling"),
    ):
        pass


def test_the_next_run_removes_what_a_killed_one_left(tmp_path, monkeypatch):
    killed = (
        "import os, sys, pathlib\n"
        "from tfkd.files import staged_folder\n"
        "with staged_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'a').write_text('1')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", killed, str(out)], check=False)
    (left,) = tmp_path.iterdir()
    kept = [tmp_path / ".out.notes", tmp_path / ".other.abcdefgh"]
    for path in kept:
        path.write_text("mine")
    with staged_folder(out) as folder:
        assert not left.exists()
        monkeypatch.setattr(files, "_hidden", {})
        write_atomically(out, b"")  # does not touch what is being worked on
        assert folder.exists()
        out.unlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["out", *(p.name for p in kept)])


def test_what_another_has_just_begun_is_left_alone(tmp_path, monkeypatch):
    """Between its making and its locking, the folder's lock keeps others from removing it."""
    locked = files._locked

    def slow(handle):
        monkeypatch.setattr(files, "_locked", locked)
        monkeypatch.setattr(files, "_hidden", {})
        other = threading.Thread(target=write_atomically, args=(tmp_path / "out", b"1"))
        other.start()
        time.sleep(0.1)
        begun.append(other)
        return locked(handle)

    begun = []
    monkeypatch.setattr(files, "_PATIENCE", 10.0)
    monkeypatch.setattr(files, "_locked", slow)
    with staged_folder(tmp_path / "out") as folder:
        begun[0].join(10)
        assert folder.exists() and (tmp_path / "out").read_bytes() == b"1"
        (tmp_path / "out").unlink()


def test_what_is_being_replaced_is_no_leftover(tmp_path, monkeypatch):
    """Another process that writes the same name leaves the files that may have to come back."""
    out = tmp_path / "out"
    out.mkdir()
    for name in "abc":
        (out / name).write_text("old")
    rename = os.rename

    def failing(source, target):
        if pathlib.Path(source).name == "b" and pathlib.Path(target).parent == out:
            other = "import sys; from tfkd.files import staged_folder as s\n"
            other += "with s(sys.argv[1], force=True) as f: (f / 'z').write_text('1')"
            subprocess.run([sys.executable, "-c", other, str(out)], check=True)
            raise OSError(28, "No space left on device")
        rename(source, target)

    def replace():
        with staged_folder(out, force=True) as folder:
            for name in "abc":
                (folder / name).write_text("new")

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(InputError, match="No space left"):
        replace()
    left = {path.name: path.read_text() for path in out.iterdir()}
    assert left == {"a": "old", "b": "old", "c": "old", "z": "1"}


def test_writing_inside_a_folder_that_is_being_filled_waits_for_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 60.0)
    with staged_folder(tmp_path / "out") as folder:
        start = time.monotonic()
        write_atomically(folder / "inside", b"1")
        assert time.monotonic() - start < 5.0
    assert (tmp_path / "out" / "inside").read_bytes() == b"1"


def test_what_was_finished_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_finished", [])
    write_atomically(tmp_path / "f", b"1")

    def half():
        with staged_folder(tmp_path / "out") as folder:
            write_atomically(folder / "inside", b"1")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        half()
    assert files.finished() == [tmp_path / "f"]
