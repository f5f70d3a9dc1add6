"""The public names of `tfkd.pruning`, for type checkers, editors and `__init__.py`."""

from .iterative.result import Spiral as Spiral
from .iterative.spiral import spiral as spiral
from .report import PruningReport as PruningReport
from .report import describe as describe
from .structured.channels import prune_channels as prune_channels
from .structured.labels import Channels as Channels
from .structured.labels import NotPrunable as NotPrunable
from .structured.registry import Call as Call
from .structured.registry import PruningRule as PruningRule
from .structured.registry import register as register
from .structured.slimming import Slimming as Slimming
from .unstructured.clustering import cluster_weights as cluster_weights
from .unstructured.clustering import strip_clustering as strip_clustering
from .unstructured.sparsity import Sparsity as Sparsity
from .unstructured.sparsity import sparsity as sparsity
from .unstructured.weights import prune_weights as prune_weights
from .unstructured.weights import strip_pruning as strip_pruning
