"""Assertions inside graphs whose messages come out as `InputError`.

marked(message) ─► assertion ─fails─► TensorFlow's error ─as_input_errors()─► InputError(message)
"""

from __future__ import annotations

import contextlib
import re

import tensorflow as tf

from tfkd.errors import InputError, TfkdError

#: Delimiters of our message in the text of TensorFlow's error.
_MARK, _END = "tfkd says:", ":tfkd."
#: Errors of a callable teacher, as TensorFlow reports them.
_FROM_PYTHON = re.compile(r"InputError: (.*?)\s*\nTraceback", re.DOTALL)
#: TensorFlow's message for a number that an Embedding's table does not have.
_LOOKED_UP = re.compile(r"indices\S* = (-?\d+) is not in \[0, (\d+)\)")
#: TensorFlow's messages on the other machines when one is lost, and its name for that one.
_LEFT, _TASK = "Collective ops is aborted", re.compile(r"/job:(\w+)/replica:\d+/task:(\d+)\s")


def marked(*parts):
    """Return a message for an assertion, so that `as_input_errors` finds it in TensorFlow's error.

    Args:
        *parts: Its text: strings and scalar string tensors.
    """
    if all(isinstance(part, str) for part in parts):
        return f"{_MARK} {''.join(parts)}{_END}"
    return tf.strings.join([f"{_MARK} ", *parts, _END])


def assertion(holds, say):
    """Return an assertion whose message is made only where it fails.

    `tf.debugging.Assert` would put a second branch into the graph. What a branch holds is part of
    the graph that runs at each step, taken or not; a function that stays one is a single node.

    Args:
        holds: Scalar boolean tensor.
        say: Function that returns the result of `marked`.
    """
    apart = tf.function(say, autograph=False, experimental_attributes={"_noinline": True})
    text = tf.cond(holds, lambda: tf.constant(""), apart)
    return tf.raw_ops.Assert(condition=holds, data=[text], summarize=1000)


@contextlib.contextmanager
def as_input_errors():
    """Turn TensorFlow's errors of marked assertions into `InputError`, and free our own errors.

    This includes the error for a number that a table does not have, and the one that the workers
    of a strategy get when one of them has left. In tf_keras's step our own errors come wrapped,
    with the code of the step in their text.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        text = str(error)
        found = re.search(rf"{_MARK} (.*?){_END}", text, re.DOTALL) or _FROM_PYTHON.search(text)
        if found is None and (found := _LOOKED_UP.search(text)):
            raise InputError(
                f"A model looked up the number {found[1]} in a table (as a rule an Embedding) with "
                f"the numbers from 0 to {int(found[2]) - 1}: correct the examples, or give a "
                "model with a larger table."
            ) from error
        if found is None:
            raise
        raise InputError(found[1].replace("\\'", "'")) from None
    except tf.errors.UnknownError as error:
        found = _FROM_PYTHON.search(str(error))
        if found is None:
            raise
        raise InputError(found[1]) from None
    except tf.errors.OpError as error:
        if _LEFT not in str(error):
            raise
        lost = ", ".join(sorted({" ".join(task) for task in _TASK.findall(str(error))}))
        raise InputError(
            f"A worker stopped during training ({lost or 'which one is unknown'}), and the others "
            "can't continue without it. Start all of them again; with the callback "
            "BackupAndRestore, training continues after the last finished epoch."
        ) from None
    except TfkdError:
        raise
    except Exception as error:
        cause = error
        while cause is not None and not isinstance(cause, TfkdError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from None
