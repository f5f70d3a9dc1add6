"""A student learns from a teacher.

distiller.py           `Distiller`
tf_keras_distiller.py  its twin for tf_keras students
pair.py                student and teacher in one model: made, given another teacher, saved
compiled.py            which losses, weights and metrics belong to which output
step.py                one optimizer step, one step of an evaluation, and their metrics
fitting.py             `fit`, `evaluate` and what they do around the steps
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
