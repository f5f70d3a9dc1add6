"""Files and folders are whole or not there."""

import os

import pytest

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
    with pytest.raises(InputError, match="not empty.*--force"), staged_folder(tmp_path):
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
