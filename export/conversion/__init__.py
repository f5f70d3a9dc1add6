"""A model becomes a file.

to_tflite.py   `to_tflite`, `recurrent_forms`
tracing.py     a model as the SavedModel that the converter reads
converter.py   the converter, in the child
repairs.py     what the converter gets wrong, mended in its bytes
diagnosis.py   why it died, and the way out
recurrent/     the forms in which recurrent layers go into a file
"""
