"""How each kind of layer is rounded or rewritten; `tfkd.quantization.table` lists them.

A rule gets the `Rewriter`, the source layer and the `Value`s it is called with, and returns
the `Value` (or list of them) that it makes.
"""
