"""Scripts in separate processes, which need not import TensorFlow again.

`python -c` spends 4 s of processor time on imports. Here they are made once, in a process that does
nothing else, and each script runs in a fork of it: TensorFlow is imported there and not yet set up.
A test of what a bare process imports or prints starts one itself.
"""

import dataclasses
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["keras", "tf_keras", "tfkd.distillation.distiller"])


@dataclasses.dataclass
class Started:
    """A script that runs."""

    process: multiprocessing.Process
    output: tempfile.TemporaryDirectory

    def wait(self, timeout=400):
        """Return how it ended and what it printed, as `subprocess.run` does."""
        with self.output as folder:
            self.process.join(timeout)
            self.process.kill()  # nothing, if it has ended
            self.process.join()
            said = []
            for name in ("out", "err"):
                with open(os.path.join(folder, name), errors="replace") as file:
                    said.append(file.read())
        return subprocess.CompletedProcess(self.process.name, self.process.exitcode, *said)


def start(script, *arguments, environment=None):
    """Start a script, text as for `python -c`, with its arguments and more variables."""
    output = tempfile.TemporaryDirectory()
    words = [str(argument) for argument in arguments]
    process = _CONTEXT.Process(target=_execute, args=(script, words, environment, output.name))
    process.start()
    return Started(process, output)


def run(script, *arguments):
    """Run a script to its end; return how it ended and what it printed."""
    return start(script, *arguments).wait()


def _execute(script, words, environment, folder):
    for number, name in enumerate(("out", "err"), 1):
        file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    warnings.simplefilter("ignore")
    sys.argv = ["-c", *words]
    os.environ.update(environment or {})
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
