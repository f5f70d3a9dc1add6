"""A model becomes a file.

to_tflite.py   `to_tflite`, stage by stage
formats.py     what a file can hold
request.py     what is asked for
plan.py        the model and its data, read and checked
lowering.py    the form that the converter gets
tracing.py     a model as the SavedModel that the converter reads
converter.py   the converter, in the child
narrowing.py   weights of 4 bits, two in a byte
repairs.py     fixes for what the converter gets wrong, in its bytes
audit.py       is the file what was asked for, and does it run?
diagnosis.py   why it died, and the way out
form_costs.py  `recurrent_forms`: what the forms of recurrent layers cost
recurrent/     the forms in which recurrent layers go into a file
"""
