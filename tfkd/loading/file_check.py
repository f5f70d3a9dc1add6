"""Checks of what a model's file declares, as data, before any Keras or TensorFlow loads it.

    .keras ───────► sizes and names in the zip ──┬─► config.json: classes, functions, operations
    .h5 ──────────► links and sizes of datasets ─┘   (every module, class and function by name)
    SavedModel ───► operations of its graph and functions, sizes of variables, Keras metadata

A file may name only Keras's and registered classes, functions that compute, and operations without
side effects. The checks refuse any other file.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import math
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterator

from tfkd.errors import InputError, argument

LAMBDA = (
    "it has a Lambda layer, whose code tfkd does not run; replace it with built-in layers or a "
    "registered class of your own and save it again."
)
_trusted = contextvars.ContextVar("tfkd_trusted", default=False)


class UnregisteredError(InputError):
    """A class in a file that is neither one of Keras's nor registered.

    Attributes:
        name: Its name in the file.
    """

    def __init__(self, name: str, package: str):
        super().__init__(
            f"it uses the class {name[:80]!r}, which is not registered; {registering(package)}."
        )
        self.name = name


@contextlib.contextmanager
def trusting(trusted: bool = True):
    """Allow any operation in SavedModels that are read inside this context.

    Args:
        trusted: Whether to allow it; `False` changes nothing, so an outer `True` stays in force.
    """
    token = _trusted.set(trusted or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


# Limits of how many more bytes a file may declare than it holds. Keras writes weights
# uncompressed; archives and datasets compressed by hand stay below these limits.
_RATIO = 100
_SLACK = 1 << 26
#: Most bytes of the states that stateful layers keep between calls, which no file holds.
_MOST_STATES = 1 << 30
_TEXT = 1 << 28


def _check_size(declared: int, present: int, what: str) -> None:
    if declared > _SLACK + _RATIO * present:
        raise InputError(
            f"{what} declare {declared:,} bytes, but the file holds {present:,} for them."
        )


@contextlib.contextmanager
def bounded(present: int):
    """Raise before Keras creates weights that a file declares but does not hold.

    Args:
        present: Bytes of weights in the file.

    Raises:
        InputError: if the weights are refused, in place of whatever error the building code raises.
    """
    import tensorflow as tf

    declared, refused = 0, []

    def checked(make, **arguments):
        nonlocal declared
        declared += _variable_bytes(tf, arguments)
        try:
            _check_size(declared, present, "its layers' weights")
        except InputError as error:
            refused.append(error)
            raise
        return make(**arguments)

    # Every variable that this thread builds, in either Keras, goes through this scope.
    try:
        with tf.variable_creator_scope(checked):
            yield
    except Exception:
        if not refused:
            raise
    if refused:
        raise refused[0]


def _variable_bytes(tf, arguments) -> int:
    """Return the size of a variable before it is created, without computing its values."""
    value, shape = arguments.get("initial_value"), tf.TensorShape(arguments.get("shape"))
    dtype = arguments.get("dtype")
    if not (shape.is_fully_defined() and dtype):
        with tf.__internal__.FuncGraph("size").as_default():  # captures eager tensors
            value = tf.convert_to_tensor(value() if callable(value) else value)
        shape, dtype = value.shape, value.dtype
    return (shape.num_elements() or 0) * tf.as_dtype(dtype).size


# Archives


def check_archive(path) -> tuple[dict, int]:
    """Check a `.keras` file's members and weights by their headers.

    Args:
        path: The file.

    Returns:
        Its configuration, as data, and the bytes of its weights.

    Raises:
        InputError: for members that Keras doesn't write, or sizes that the file doesn't hold.
    """
    path, present = pathlib.Path(path), 0
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise InputError("it holds two members with the same name.")
        for name in names:
            parts = name.split("/")
            if name not in _MEMBERS and (parts[0] != "assets" or {"..", "."} & set(parts)):
                raise InputError(f"it holds {name[:80]!r}, which Keras doesn't write.")
            if "\\" in name or ":" in name:
                raise InputError(f"it holds {name[:80]!r}, which is not a plain name.")
        _check_size(sum(m.file_size for m in members), path.stat().st_size, "its members")
        for name in ("metadata.json", "config.json"):
            if archive.getinfo(name).file_size > _TEXT:
                raise InputError(f"its {name} has {archive.getinfo(name).file_size:,} bytes.")
        config = json.loads(archive.read("config.json"))
        if _WEIGHTS in names:
            with archive.open(_WEIGHTS) as member:
                seekable = archive.getinfo(_WEIGHTS).compress_type == zipfile.ZIP_STORED
                present = check_hdf5(member if seekable else io.BytesIO(member.read()))
    return config, present


_WEIGHTS = "model.weights.h5"
_MEMBERS = {"metadata.json", "config.json", _WEIGHTS, "assets/"}


# HDF5


def check_hdf5(source) -> int:
    """Check the links and datasets of an HDF5 file by their headers; no values are read.

    Args:
        source: The path, or a file-like object.

    Returns:
        The bytes that its datasets take in the file.

    Raises:
        InputError: for data in other files, or sizes that the file doesn't hold.
    """
    import h5py

    declared = stored = 0
    seen = set()
    with h5py.File(source, "r") as file:
        groups = [file]
        while groups:
            group = groups.pop()
            for name in group:
                where = f"{group.name.rstrip('/')}/{name}"[:80]
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise InputError(f"{where!r} is a link, which tfkd does not follow.")
                address = h5py.h5o.get_info(group.id, name.encode()).addr
                if address in seen:
                    continue
                seen.add(address)
                part = group[name]
                if isinstance(part, h5py.Group):
                    groups.append(part)
                elif isinstance(part, h5py.Dataset):
                    if part.external or part.is_virtual:
                        raise InputError(f"the values of {where!r} are in another file.")
                    declared += part.nbytes
                    stored += part.id.get_storage_size()
    _check_size(declared, stored, "its datasets")
    return stored


def config_of_hdf5(path) -> dict:
    """Return the configuration of an `.h5` file, as data."""
    import h5py

    with h5py.File(path, "r") as file:
        return json.loads(file.attrs["model_config"])


# Configurations

# Classes that run code or read files named in a configuration.
_REFUSED = {
    "ClassMethod", "DenseFeatures", "FlaxLayer", "InstanceMethod", "InstanceProperty", "JaxLayer",
    "LinearModel", "SequenceFeatures", "TFSMLayer", "TensorFlowOpLayer", "TorchModuleWrapper",
    "WideDeepModel",
}  # fmt: skip
# Values that Keras writes as objects.
_VALUES = {
    "CompositeTensor", "TensorShape", "TypeSpec", "__bytes__", "__ellipsis__", "__keras_tensor__",
    "__numpy__", "__slice__", "__tensor__", "__tuple__",
}  # fmt: skip
_SPECS = {"RaggedTensorSpec", "SparseTensorSpec", "TensorSpec"}
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda"}
_LOOKUPS = ("StringLookup", "IntegerLookup", "TextVectorization")
# Every function in these modules of TensorFlow only computes from tensors.
_COMPUTING = re.compile(
    r"(compat\.v1\.)?((__operators__|bitwise|image|linalg|math|nn|signal)\.[a-z]\w*"
    r"|random\.(stateless_\w+|normal|uniform|truncated_normal|categorical|gamma|poisson|shuffle))"
)
_SYMBOLS = {
    "abs", "acos", "acosh", "add", "add_n", "argmax", "argmin", "argsort", "asin", "asinh",
    "atan", "atan2", "atanh", "batch_to_space", "bitcast", "boolean_mask", "broadcast_to",
    "cast", "ceil", "clip_by_norm", "clip_by_value", "complex", "concat", "convert_to_tensor",
    "cos", "cosh", "cumsum", "debugging.check_numerics", "depth_to_space", "divide",
    "edit_distance", "einsum", "ensure_shape", "equal", "exp", "expand_dims",
    "experimental.numpy.take_along_axis", "eye", "fill", "floor", "floor_div", "floordiv",
    "floormod", "gather", "gather_nd", "greater", "greater_equal", "identity", "less",
    "less_equal", "log", "log1p", "logical_and", "logical_not", "logical_or", "matmul",
    "maximum", "meshgrid", "minimum", "mod", "multiply", "negative", "norm", "not_equal",
    "one_hot", "ones", "ones_like", "pad", "pow", "quantization.fake_quant_with_min_max_args",
    "quantization.fake_quant_with_min_max_vars", "range", "rank", "realdiv", "reciprocal",
    "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min",
    "reduce_prod", "reduce_sum", "repeat", "reshape", "reverse", "reverse_sequence", "roll",
    "round", "rsqrt", "saturate_cast", "scatter_nd", "searchsorted", "sequence_mask", "shape",
    "shape_n", "sigmoid", "sign", "sin", "sinh", "size", "slice", "sort", "space_to_batch",
    "space_to_batch_nd", "space_to_depth", "split", "sqrt", "square", "squeeze", "stack",
    "stop_gradient", "strided_slice", "subtract", "tan", "tanh", "tensor_scatter_nd_add",
    "tensor_scatter_nd_update", "tensordot", "tile", "to_float", "to_int32", "top_k",
    "transpose", "truediv", "truncatediv", "truncatemod", "unique", "unstack", "where", "zeros",
    "zeros_like",
}  # fmt: skip
_BACKEND_SYMBOLS = {
    "abs", "all", "any", "argmax", "argmin", "batch_dot", "batch_flatten", "bias_add",
    "binary_crossentropy", "cast", "categorical_crossentropy", "clip", "concatenate", "cos",
    "cumprod", "cumsum", "dot", "elu", "equal", "exp", "expand_dims", "flatten", "gather",
    "greater", "greater_equal", "hard_sigmoid", "l2_normalize", "less", "less_equal", "log",
    "max", "maximum", "mean", "min", "minimum", "not_equal", "one_hot", "ones_like",
    "permute_dimensions", "pow", "prod", "relu", "repeat", "repeat_elements", "reshape",
    "resize_images", "reverse", "round", "sigmoid", "sign", "sin", "softmax", "softplus",
    "softsign", "sparse_categorical_crossentropy", "sqrt", "square", "squeeze", "stack", "std",
    "stop_gradient", "sum", "switch", "tanh", "tile", "transpose", "var", "zeros_like",
}  # fmt: skip
# Functions of Keras that compute; the builders, such as `get`, build objects of any name.
_FUNCTIONS = re.compile(
    r"(tf_)?keras\.(src\.)?(activations|constraints|initializers|losses|metrics|ops|regularizers)\b"
)
_BUILDERS = {"deserialize", "get", "serialize"}
_FUNCTION_MODULES = (
    "activations", "constraints", "initializers", "losses", "metrics", "ops", "regularizers",
)  # fmt: skip
_BASES = (
    "layers.Layer", "Operation", "Model", "initializers.Initializer", "regularizers.Regularizer",
    "constraints.Constraint", "losses.Loss", "metrics.Metric", "optimizers.Optimizer",
    "optimizers.legacy.Optimizer", "optimizers.schedules.LearningRateSchedule",
    "random.SeedGenerator", "dtype_policies.DTypePolicy", "dtype_policies.DTypePolicyMap",
    "mixed_precision.Policy", "quantizers.Quantizer", "quantizers.QuantizationConfig",
)  # fmt: skip


def check_config(config, package, *, root: bool = True, revived: bool = False) -> None:
    """Check every class, function and operation that a configuration names.

    Args:
        config: The configuration of a model, as data.
        package: The Keras that will build the model: `keras` or `tf_keras`.
        root: Whether it is the configuration of a whole model.
        revived: Whether Keras replaces unknown classes by their saved functions, as it does in
            SavedModels.

    Raises:
        InputError: for the first unknown name, or for too large states.
    """
    known = _Known(package)
    if root:
        if not _is_object(config):
            raise InputError("its configuration is not that of a model.")
        model = known.class_of(config)
        if model is None or not issubclass(model, package.Model):
            raise InputError(f"its root {str(config['class_name'])[:80]!r} is not a model.")
        # The model is not compiled.
        config = {key: value for key, value in config.items() if key != "compile_config"}
    sizes, graphs = _States(), []
    for part in _dicts(config):
        sizes.add(part)
        if _is_object(part):
            _check_object(part, known, revived)
        if isinstance(part.get("layers"), list):
            graphs.append([layer for layer in part["layers"] if isinstance(layer, dict)])
    for layers in graphs:
        _check_nodes(layers)
    if sizes.bytes > _MOST_STATES:
        raise InputError(
            f"its stateful layers declare {sizes.bytes:,} bytes of states; at most "
            f"{_MOST_STATES:,} are allowed."
        )


class _States:
    """States of stateful recurrent layers: no file holds them, building a model allocates them."""

    def __init__(self):
        self.batch, self.places, self.widths = 1, 1, []

    def add(self, part) -> None:
        """Count the states in a part of a configuration."""
        config = part.get("config")
        if _is_object(part) and isinstance(config, dict) and config.get("stateful") is True:
            is_image = "ConvLSTM" in str(part["class_name"])
            self.widths.append((_widest(config), is_image))
        for name in ("batch_shape", "batch_input_shape"):
            shape = part.get(name)
            if isinstance(shape, list):
                shape = [size if isinstance(size, int) else 1 for size in shape]
                self.batch = max(self.batch, *shape[:1], 1)
                self.places = max(self.places, math.prod(shape[2:-1]))

    @property
    def bytes(self) -> int:
        """Upper bound: two states per layer, for a ConvLSTM in all places of the largest input."""
        places = sum(width * (self.places if is_image else 1) for width, is_image in self.widths)
        return 2 * 4 * self.batch * places


def _widest(config) -> int:
    """Return the largest `units` or `filters` of a layer or its cells."""
    sizes = (part.get(name) for part in _dicts(config) for name in ("units", "filters"))
    return max([1, *(size for size in sizes if isinstance(size, int))])


def _dicts(config) -> Iterator[dict]:
    """Yield a configuration's dicts, however deep, each before those inside it."""
    parts = [config]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield part
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def _check_nodes(layers) -> None:
    """Raise for a layer called on constants only: Keras would run it at once, at any size."""
    names = {name for layer in layers if isinstance(name := layer.get("name"), str)}
    for layer in layers:
        nodes = layer.get("inbound_nodes")
        for node in nodes if isinstance(nodes, list) else []:
            if not _has_tensor(node, names):
                raise InputError(
                    f"its layer {str(layer.get('name'))[:80]!r} is not called on a layer's output."
                )


def _has_tensor(node, names) -> bool:
    """Tell whether a call has a layer's result among its arguments."""
    parts = [node]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("class_name") == "__keras_tensor__":
                return True
            parts += part.values()
        elif isinstance(part, list):
            if len(part) >= 3 and isinstance(part[0], str) and part[0] in names:
                return True
            parts += part
    return False


def _is_object(part) -> bool:
    return isinstance(part, dict) and "class_name" in part and "config" in part


def _check_object(part, known, revived) -> None:
    name, config = part["class_name"], part["config"]
    if not isinstance(name, str):
        raise InputError("it names a class by something other than a string.")
    if name == "__lambda__":
        raise InputError(LAMBDA)
    if name in _VALUES:
        return
    if name == "__typespec__":
        module = str(part.get("module"))
        if part.get("spec_name") not in _SPECS or not module.startswith("tensorflow.python."):
            raise InputError(f"it names the unknown type {str(part.get('spec_name'))[:80]!r}.")
        return
    if name == "function":
        known.check_function(part)
        return
    kind = known.class_of(part)
    config = config if isinstance(config, dict) else {}
    short = name.split(">")[-1]
    if short == "Lambda" or known.is_layer(kind, "Lambda"):
        raise InputError(LAMBDA)
    for word in (short, getattr(kind, "__name__", short)):
        if word in _REFUSED:
            raise InputError(f"it has a {word} layer, which runs or reads what the file names.")
    if short in _OPERATIONS and not _is_operation(short, config.get("function")):
        raise InputError(
            f"its {short} layer calls {str(config.get('function'))[:80]!r}, which is not an "
            "operation of models."
        )
    if isinstance(config.get("vocabulary"), str) and known.is_layer(kind, *_LOOKUPS):
        raise InputError(f"its {short} layer reads the file {config['vocabulary'][:80]!r}.")
    if kind is None and not (revived and part.get("module") is None):
        raise UnregisteredError(short, known.flavour)


def _is_operation(kind, symbol) -> bool:
    if not isinstance(symbol, str):
        return False
    if kind == "SlicingOpLambda":
        return symbol == "__operators__.getitem"
    head, _, tail = symbol.rpartition(".")
    if head in ("keras.backend", "keras.activations"):
        return tail in _BACKEND_SYMBOLS
    return bool(_COMPUTING.fullmatch(symbol)) or symbol.removeprefix("compat.v1.") in _SYMBOLS


class _Known:
    """The classes and functions of one Keras, including those registered with it."""

    def __init__(self, package):
        self.package = package
        self.flavour = package.__name__
        found = (_attribute(package, path) for path in _BASES)
        self._bases = tuple(base for base in found if isinstance(base, type))
        for module in _TENSORFLOW & sys.modules.keys():
            self._bases += (sys.modules[module].Initializer,)

    def class_of(self, part) -> type | None:
        """Return the class that Keras would build an object from; `None` if it is unknown."""
        name = part["class_name"]
        module = part.get("module")
        # As in Keras: its newer format states a module, `None` for classes of `__main__`, and
        # looks up only the registered name.
        registered = self._registered(
            part.get("registered_name", name) if "module" in part else name
        )
        if registered is not None:
            if not isinstance(registered, type):
                raise InputError(f"its class {name[:80]!r} is a function.")
            return registered
        if module is None:
            found = [_attribute(self.package, f"{place}.{name}") for place in _CLASS_MODULES]
            found += [_attribute(sys.modules.get(self._local(m)), name) for m in _INTERNAL]
        else:
            found = [self._in_module(module, name)]
        known = [kind for kind in found if isinstance(kind, type)]
        return next((kind for kind in known if issubclass(kind, self._bases)), None)

    def is_layer(self, kind, *names: str) -> bool:
        """Tell whether a class is one of Keras's layers, or derived from it."""
        layers = tuple(getattr(self.package.layers, name) for name in names)
        return kind is not None and issubclass(kind, layers)

    def check_function(self, part) -> None:
        """Raise unless a function is registered, or computes and belongs to Keras."""
        name, module = part["config"], part.get("module")
        if not isinstance(name, str):
            raise InputError("it names a function by something other than a string.")
        if self._registered(name) is not None:
            return
        if module in (None, "builtins"):
            places = _FUNCTION_MODULES
            found = [_attribute(self.package, f"{place}.{name}") for place in places]
        else:
            found = [self._in_module(module, name)]
        if not any(self._computes(function) for function in found):
            raise InputError(
                f"it uses the function {name[:80]!r} of {str(module)[:80]!r}, which is neither "
                f"registered nor one of {self.flavour}'s."
            )

    def _computes(self, function) -> bool:
        origin = getattr(function, "__module__", None) or ""
        return (
            callable(function)
            and getattr(function, "__name__", "get") not in _BUILDERS
            and bool(_FUNCTIONS.match(origin))
        )

    def _registered(self, name):
        if not isinstance(name, str):
            return None
        return self.package.saving.get_registered_object(name)

    def _in_module(self, module, name):
        """Look up a name in a module that is already imported; a file imports none."""
        if not isinstance(module, str) or not isinstance(name, str):
            return None
        module = self._local(module)
        if module.split(".")[0] != self.flavour and module not in _TENSORFLOW:
            return None
        return _attribute(sys.modules.get(module), name)

    def _local(self, module: str) -> str:
        """Return the module of tf_keras for one of `keras`; in Keras 3, the module itself."""
        if self.flavour == "tf_keras" and module.split(".")[0] == "keras":
            return f"tf_{module}"
        return module


# TensorFlow's own initializers, which some of tf_keras's applications use.
_TENSORFLOW = {"tensorflow.python.ops.init_ops", "tensorflow.python.ops.init_ops_v2"}
_CLASS_MODULES = (
    "layers", "models", "initializers", "regularizers", "constraints", "losses", "metrics",
    "optimizers", "optimizers.schedules", "dtype_policies", "mixed_precision", "quantizers",
)  # fmt: skip
# Modules of classes that files name and no public module holds.
_INTERNAL = (
    "keras.src.models", "keras.src.engine.functional", "keras.src.layers.core.tf_op_layer",
    "keras.src.layers.serialization", "keras.src.layers",
)  # fmt: skip


def _attribute(owner, path):
    """Return the attribute at a dotted path; `None` if there is none."""
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner


# SavedModels

# Operations that keep state inside the process, draw numbers or call functions. Every other
# operation that TensorFlow registers as stateful is refused: it may act outside the process.
_STATEFUL = re.compile(
    r"""
    Anonymous(Mutable)?(Dense)?HashTable(OfTensors)? | (Mutable)?(Dense)?HashTable(OfTensors)?(V2)?
    | Assert | Assign(Add|Sub)?VariableOp | Case | CheckNumerics(V2)? | CudnnRNN\w* | DeepCopy
    | DestroyResourceOp | DeviceIndex | DisableCopyOnRead | Empty | GuaranteeConst | If
    | InitializeTableV2 | LookupTable(Export|Find|Import|Insert|Remove|Size)V2 | Multinomial
    | NonDeterministicInts | ParameterizedTruncatedNormal | PlaceholderWithDefault
    | Random(Crop|Gamma|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)
    | ReadVariableOp | Resource(Gather(Nd)?|Scatter\w+|Apply\w+|SparseApply\w+|CountUpTo)
    | ResourceStridedSliceAssign | Rng(ReadAndSkip|Skip) | SampleDistortedBoundingBox(V2)?
    | Stack(Close|Pop|Push)?V2 | Stateful\w+ | StatelessRandomGetAlg | TensorArray\w*V[23]
    | TensorArrayGradWithShape | TruncatedNormal | VarHandleOp | VarIsInitializedOp | VariableV2
    | Variable | VariableShape | While
    """,
    re.VERBOSE,
)
# Operations that TensorFlow registers as stateless, although they read or write.
_OUTSIDE = re.compile(
    r"""
    \w*(Dataset|File|Iterator|PyFunc|Reader|Record)\w* | Debug\w+ | (De|En)codeProto\w* | \w*TPU\w*
    | GenerateVocabRemapping | InitializeTableFromTextFile | LoadAndRemap\w+ | Sharded\w+
    | CopyHost | ImmutableConst | RemoteFusedGraphExecute | Skipgram | XlaCallModule
    | XlaCustomCall\w* | XlaHostCompute
    """,
    re.VERBOSE,
)
# Operations that save and restore a SavedModel's variables; a model's functions have none.
_CHECKPOINT = {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}


def check_saved_model(path) -> int:
    """Check a SavedModel's operations and sizes without loading it.

    Args:
        path: The folder.

    Returns:
        The bytes of its variables.

    Raises:
        InputError: for operations that act outside the process, unless the model is trusted.
    """
    path = pathlib.Path(path)
    files = sorted(path.glob("saved_model.*"))
    if len(files) != 1 or files[0].suffix not in (".pb", ".pbtxt"):
        names = ", ".join(file.name for file in files) or "no saved_model.pb"
        raise InputError(f"it holds {names}; tfkd reads one saved_model.pb or saved_model.pbtxt.")
    present = sum(file.stat().st_size for file in (path / "variables").glob("variables.data-*"))
    if _trusted.get():
        return present
    model = _parsed(files[0])
    for graph in model.meta_graphs:
        found = _operations(graph)
        if found:
            name, where = min(found.items())
            raise InputError(
                f"its operation {name[:80]} ({where[:80]!r}) may read, write or run things "
                "outside the model. If you know where it comes from and what it does, load it with "
                f"{argument('trusted', True)}."
            )
        _check_variables(graph, present)
        for asset in graph.asset_file_def:
            if pathlib.PurePosixPath(asset.filename).is_absolute() or ".." in asset.filename:
                raise InputError(f"its asset {asset.filename[:80]!r} lies outside the folder.")
    return present


def check_signature(path, what: str) -> None:
    """Check a SavedModel of which only the signature is needed.

    Args:
        path: The folder.
        what: The word for the folder in a message.

    Raises:
        InputError: as `check_saved_model`, and for a damaged folder; the message names the folder.
    """
    try:
        check_saved_model(path)
    except Exception as error:  # protobuf raises many types for a damaged file
        reason = " ".join(str(error).split())
        raise InputError(f"The {what} {str(path)!r} can't be read: {reason}") from error


def _parsed(file):
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    if file.suffix == ".pb":
        return saved_model_pb2.SavedModel.FromString(file.read_bytes())
    return text_format.Parse(file.read_text(), saved_model_pb2.SavedModel())


def _operations(graph) -> dict[str, str]:
    """Return forbidden operations, each with the place where it first occurs."""
    functions = {f.signature.name: list(f.node_def) for f in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    found: dict[str, str] = {}
    for where, part in (("", nodes.values()), *functions.items()):
        for node in part:
            if node.op not in _CHECKPOINT and not _computes(node.op, functions):
                found.setdefault(node.op, f"{where}/{node.name}".lstrip("/"))
    restoring = [graph.saver_def.restore_op_name]
    for refused, ends, called in (
        (_CHECKPOINT, _ends(graph, nodes), _methods(graph)),
        (_CHECKPOINT - {"RestoreV2"}, restoring, []),
    ):
        for where, part in _run(nodes, functions, ends, called):
            for node in part:
                if node.op in refused:
                    found.setdefault(node.op, where)
    return found


def _computes(name: str, functions) -> bool:
    """Tell whether an operation acts on nothing outside the process."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(name)
    if definition is None:
        return name in functions
    if _OUTSIDE.fullmatch(name):
        return False
    return not definition.is_stateful or bool(_STATEFUL.fullmatch(name))


def _ends(graph, nodes) -> list[str]:
    """Return the nodes that run (signatures, initializers), except those that save and restore."""
    saver = graph.saver_def
    kept = {saver.save_tensor_name, saver.restore_op_name, saver.filename_tensor_name}
    kept = {_name(name) for name in kept}
    read = {_name(given) for node in nodes.values() for given in node.input}
    ends = [name for name in nodes if name not in read and name not in kept]
    for signature in graph.signature_def.values():
        ends += [_name(tensor.name) for tensor in signature.outputs.values()]
    return ends


def _methods(graph) -> list[str]:
    """Return the functions of a SavedModel's objects."""
    objects = graph.object_graph_def
    names = list(objects.concrete_functions)
    for part in objects.nodes:
        names += part.function.concrete_functions
        names.append(part.bare_concrete_function.concrete_function_name)
    return names


def _run(nodes, functions, ends, called):
    """Yield what some nodes and functions run: each node, and the nodes of each called function."""
    ends, called = [_name(end) for end in ends], list(called)
    seen = set()
    while ends:
        name = ends.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        node = nodes[name]
        yield name, [node]
        ends += map(_name, node.input)
        called += _calls(node, functions)
    reached = set()
    while called:
        name = called.pop()
        if name in reached or name not in functions:
            continue
        reached.add(name)
        yield name, functions[name]
        for node in functions[name]:
            called += _calls(node, functions)


def _name(given: str) -> str:
    return given.removeprefix("^").split(":")[0]


def _calls(node, functions):
    """Return the functions that a node calls, by its attributes or as its operation."""
    names = [node.op] if node.op in functions else []
    for value in node.attr.values():
        names += [value.func.name, *(function.name for function in value.list.func)]
    return names


def _check_variables(graph, present: int) -> None:
    from tensorflow import dtypes

    declared = 0
    for part in graph.object_graph_def.nodes:
        if part.WhichOneof("kind") != "variable":
            continue
        count = 1
        for dimension in part.variable.shape.dim:
            count *= max(dimension.size, 0)
        declared += count * dtypes.as_dtype(part.variable.dtype).size
    _check_size(declared, present, "its variables")


def check_metadata(path, package) -> None:
    """Check the configurations of a tf_keras SavedModel.

    Args:
        path: The folder.
        package: `tf_keras`.

    Raises:
        InputError: as `check_config`.
    """
    from tf_keras.protobuf import saved_metadata_pb2

    data = (pathlib.Path(path) / "keras_metadata.pb").read_bytes()
    for node in saved_metadata_pb2.SavedMetadata.FromString(data).nodes:
        if node.metadata:
            config = json.loads(node.metadata)
            config.pop("training_config", None)  # the model is not compiled
            check_config(config, package, root=False, revived=True)


def registering(package: str) -> str:
    """Return how to register a class with a Keras before loading a file that uses it."""
    return (
        f"decorate it with @{package}.saving.register_keras_serializable() and import its module "
        "before loading the file (the command line imports no module: do it in Python)"
    )
