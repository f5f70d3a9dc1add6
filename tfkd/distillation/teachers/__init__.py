"""All kinds of teachers as one: an object that answers a batch with logits or values.

    Keras 3 or tf_keras model, `.keras`, `.h5` ─► ModelSource ────┐
    SavedModel folder ─────────────────────────► SavedSource ─────┤
    function of tensors, layer, signature ─────► FunctionSource ──┤
    callable of arrays ────────────────────────► PythonSource ────┤
    `.tflite`, TFLiteModel ────────────────────► TFLiteSource ────┼─► Teacher ─► answers, features
    array of outputs ──────────────────────────► ArrayTeacher, attached to the data by `fit`

`activations` tells logits from probabilities, `sources` opens what was given, `memory` finds state
that answers depend on besides the examples, `functions` checks what a user's function answers,
`batches` cuts the examples into batches of the one size that a model takes, `teacher` combines the
sources and asks them.
"""

from tfkd._renamed import with_old_names
from tfkd.distillation.teachers.activations import readable_activation
from tfkd.distillation.teachers.teacher import (
    ARRAY_NEEDS_ARRAYS,
    ArrayTeacher,
    Teacher,
    TeacherBatch,
    answers_beside,
    carries_answers,
    check_all_taught,
    check_shape,
    check_sizes,
    fingerprint_of,
)
from tfkd.output_kind import output_activations

__all__ = [
    "ARRAY_NEEDS_ARRAYS",
    "ArrayTeacher",
    "Teacher",
    "TeacherBatch",
    "answers_beside",
    "carries_answers",
    "check_all_taught",
    "check_shape",
    "check_sizes",
    "fingerprint_of",
    "output_activations",
    "readable_activation",
]

__getattr__ = with_old_names(
    __name__,
    None,
    {
        "Taught": f"{__name__}.teacher:TeacherBatch",
        "raise_untaught": f"{__name__}.teacher:check_all_taught",
    },
)
