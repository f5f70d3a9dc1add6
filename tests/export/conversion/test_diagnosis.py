"""A crash is reported with the operation, its cause and a way out."""

import keras
import pytest
import zoo

from tfkd.errors import ConversionError, WorkerError
from tfkd.export import to_tflite
from tfkd.export.conversion import audit, converter, diagnosis

JOB = converter.ConversionJob("nowhere", "int8")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WorkerError("It did not answer within 3 s.", timed_out=True), "larger timeout="),
        (WorkerError("It ran out (status 1).", out_of_memory=True), "fewer examples"),
        (
            WorkerError("died by SIGKILL", signal=9, out_of_memory=True),
            "fewer examples",
        ),
        (
            WorkerError("TypeError: no"),
            "Converting x failed: TypeError: no .docs/errors.md#converter-failed.$",
        ),
        (WorkerError("died by SIGSEGV", signal=11), "Formats without calibration"),
    ],
)
def test_causes(error, words):
    told = diagnosis.crash_error(error, "Converting x", JOB, {})
    with pytest.raises(ConversionError, match=words):
        raise told


def test_the_operation_that_kills_is_found():
    """TensorFlow Lite's 16-bit SUB of layer normalization aborts (seen in LiteRT 2.3)."""
    model = zoo.build(keras, "attention")
    made = {}

    def keep(file, *rest):
        made["file"] = file
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "try_out", keep)
        to_tflite(model, "int16x8", zoo.inputs_for(model))
    kind, tensor = diagnosis.fatal_op(made["file"].data)
    assert kind == "SUB" and tensor.startswith("layer_normalization")


def test_a_sound_file_has_no_such_operation(files):
    assert diagnosis.fatal_op(files["int8"].data) is None
