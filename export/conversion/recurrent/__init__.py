"""The forms in which recurrent layers go into a file.

choice.py     which of them a model takes
forms.py      fused and unrolled
unrolled.py   a layer as straight-line code
step.py       one time step a call, the state outside; its data calibrate the loop too
loop.py       the calibrated step file as the body of an integer loop
"""
