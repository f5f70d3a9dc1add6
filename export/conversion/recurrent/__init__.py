"""The forms in which recurrent layers go into a file.

choice.py     which of them a model takes
forms.py      fused and unrolled
unrolled.py   a layer as straight-line code
step.py       one time step a call, the state outside
loop.py       the step as the body of a loop of integers
"""
