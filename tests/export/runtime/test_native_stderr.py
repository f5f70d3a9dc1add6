"""Lines that native code writes to stderr."""

import os

import pytest

from tfkd.export.runtime import native_stderr


def test_lines_written_below_python_are_kept_and_stderr_is_put_back(capfd):
    with native_stderr.captured() as said:
        assert said() == []
        os.write(2, b"  first \n\n")
        os.write(2, b"second \xff\n")
        assert said() == ["first", "second \ufffd"]
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "outside\n"


def test_stderr_is_put_back_after_an_error(capfd):
    def fail():
        with native_stderr.captured():
            os.write(2, b"lost\n")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "outside\n"
