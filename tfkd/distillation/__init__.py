"""A student learns from a teacher.

distiller.py           `Distiller`
tf_keras_distiller.py  its twin for tf_keras students
step.py                one optimizer step, and all that `fit` does around it
scoring.py             the teacher's and the student's scores around it
lessons.py             how each output learns
objective.py           labels, answers and outputs of a batch become the two losses
validation.py          what is checked of a pair, its settings and its data
assertions.py          checks inside graphs that speak in our words
worth.py               what a teacher is worth: scores and their intervals
callbacks.py           `StudentCheckpoint`, `StopDistillation`
teachers/              whatever can teach
teacher_outputs.py     what a teacher says of a batch, encoded beside the inputs
cache/                 its answers, kept
"""
