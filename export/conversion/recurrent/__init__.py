"""The forms of recurrent layers in a file.

choice.py     choice of the form for a model
forms.py      fused and unrolled
unrolled.py   a layer as straight-line code
step.py       one time step per call, the state outside; its data also calibrate the loop
loop.py       the calibrated step file as the body of an integer loop
"""
