"""Does a file compute the same as its model?

verify.py         `verify`
references.py     the references that a file is compared with
layer_errors.py   which layer loses how much
"""
