"""The whole pipeline: a teacher in, verified files and their report out.

pipeline.py          `compress`, its `Recipe` and its result
mixed_precision.py   `choose_bits`: which layers get weights of 4 bits
evidence.py          checks, answers beside the teacher's and the call, for the report
settings.py          `Training` and `Target`: how to train, where to end
trainer.py           models of either Keras, fitted the same way on the same data
twin.py              the tf_keras model that trains in a Keras 3 model's place
demo.py              the pipeline on handwritten digits
"""
