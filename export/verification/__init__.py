"""Does a file compute what its model does?

verify.py         `verify`
references.py     what a file is compared with
layer_errors.py   which layer loses how much
"""
