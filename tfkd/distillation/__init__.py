"""A student learns from a teacher.

distiller.py           `Distiller`
tf_keras_distiller.py  its twin for tf_keras students
step.py                `fit`, `evaluate` and one optimizer step
scoring.py             the teacher's and the student's scores around it
lessons.py             how each output learns
objective.py           labels, answers and outputs of a batch become the two losses
validation.py          what is checked of a pair, its settings and its data
assertions.py          checks inside graphs that fail with tfkd's own errors
worth.py               what a teacher is worth: scores and their intervals
callbacks.py           `StudentCheckpoint`, `StopDistillation`
teachers/              whatever can teach
teacher_outputs.py     a teacher's answers for a batch, encoded beside the inputs
cache/                 the teacher's answers, kept
"""
