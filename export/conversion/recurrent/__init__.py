"""The forms in which recurrent layers go into a file.

forms.py   fused and unrolled, and what converters make of them mended
step.py    one time step a call, the state outside
loop.py    the step as the body of a loop of integers
"""
