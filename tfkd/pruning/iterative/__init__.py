"""Prune a little, distil, and continue from the student.

spiral.py       `spiral`, round by round
evaluation.py   its criteria: costs and scores beside the original's
file_size.py    the bytes of the file that a model becomes
checkpoint.py   what it keeps in its folder
result.py       its result, as a table and a picture
"""
