"""The public names of `tfkd.pruning`, for type checkers, editors and `__init__.py`."""

from .channels import prune_channels as prune_channels
from .clustering import cluster_weights as cluster_weights
from .clustering import strip_clustering as strip_clustering
from .iteration import spiral as spiral
from .rounds import Spiral as Spiral
from .slimming import Slimming as Slimming
from .weights import prune_weights as prune_weights
from .weights import strip_pruning as strip_pruning
from .zeros import Sparsity as Sparsity
from .zeros import sparsity as sparsity
