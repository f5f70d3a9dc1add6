"""Single weights become zero, or few values; the compressed file becomes smaller.

weights.py       `prune_weights`: single weights, patterns and blocks at zero, through tfmot
clustering.py    `cluster_weights`: few different values, through tfmot
wrapping.py      a copy of a model with tfmot's wrappers, and the way back
tfmot_layers.py  the wrappers, imported when they are needed
sparsity.py      `sparsity`: how many weights are zero, and how small they compress
"""
