"""Prune a little, distil, and go on from the student.

spiral.py       `spiral`, round by round
evaluation.py   what it goes by: costs and scores beside the original's
file_size.py    the bytes of the file that a model becomes
checkpoint.py   what it keeps in its folder
result.py       what it did, as a table and a picture
"""
