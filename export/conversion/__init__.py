"""A model becomes a file.

to_tflite.py   `to_tflite`, stage by stage
formats.py     what a file can hold
request.py     the arguments of `to_tflite`
plan.py        the model and its data, read and checked
lowering.py    the model in the form that the converter needs
tracing.py     a model as the SavedModel that the converter reads
converter.py   the converter, in the child process
narrowing.py   weights of 4 bits, two in a byte
repairs.py     repairs of the converter's faults, in the bytes of the file
audit.py       does the file match the request, and does it run?
diagnosis.py   why the child process died, and the way out
form_costs.py  `recurrent_forms`: what the forms of recurrent layers cost
recurrent/     the forms in which recurrent layers go into a file
"""
