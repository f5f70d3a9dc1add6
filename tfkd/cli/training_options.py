"""The options of the commands that train: `tfkd compress`, `tfkd distill` and `tfkd prune`."""

from __future__ import annotations

from tfkd.cli.reading import amount, fraction, percentage, size, whole_number


def add_compress(commands, output):
    """Add the parser of `tfkd compress`."""
    compress = commands.add_parser(
        "compress",
        parents=[output],
        help="Make the smallest model that does a teacher's job on a device.",
        description="Look for a student, or take --student. Train it under the teacher and "
        "without it, then quantization-aware. Write verified and timed .tflite files with a "
        "report. Untrained copies pass through all stages first, so that a stage refuses a model "
        "before any training. An interrupted command continues where it stopped. The exit status "
        "is 1 if the target is not met.",
    )
    _add_teacher(compress)
    _add_data(compress)
    compress.add_argument(
        "--out",
        metavar="DIR",
        default="tfkd-compress",
        help="Write into this folder, and keep finished stages in it. (default: %(default)s)",
    )
    compress.add_argument(
        "--force", action="store_true", help="Replace files of the same name in DIR."
    )
    compress.add_argument(
        "--student",
        metavar="MODEL",
        help="A .keras or .h5 file. (default: compress looks for a student among smaller versions "
        "of the teacher and small nets for its kind of input)",
    )
    compress.add_argument(
        "--board",
        metavar="NAME",
        help="Fit the int8 file to this board. tfkd boards lists them.",
    )
    limits = _add_limits(compress)
    limits.add_argument(
        "--max-arena",
        type=size,
        metavar="BYTES",
        help="Limit of the RAM for a call on TensorFlow Lite for Microcontrollers, such as 60k.",
    )
    compress.add_argument(
        "--budget", metavar="TIME", help="Finish in about this time, such as 20min or 2h."
    )
    compress.add_argument(
        "--recipe",
        metavar="YAML",
        help="Read the options that are not given here from this file, such as the recipe.yaml of "
        "another run.",
    )
    _add_recipe_of_compress(compress)
    compress.set_defaults(run="compress")
    return compress


def add_distill(commands, output):
    """Add the parser of `tfkd distill`."""
    distill = commands.add_parser(
        "distill",
        parents=[output],
        help="Train a student under a teacher, and keep it if the teacher helped.",
        description="Train the student under the teacher and, from the same weights, without it. "
        "Write the one with the better score on the validation part of the data.",
    )
    _add_teacher(distill)
    distill.add_argument(
        "--student", metavar="MODEL", required=True, help="A .keras or .h5 file; it is not changed."
    )
    _add_data(distill)
    distill.add_argument(
        "--out",
        metavar="FILE",
        default="student.keras",
        help="Write this .keras file. (default: %(default)s)",
    )
    distill.add_argument("--force", action="store_true", help="Replace FILE if it exists.")
    _add_losses(_add_recipe(distill, epochs=40, learning_rate="3e-3"))
    distill.set_defaults(run="distill")
    return distill


def add_prune(commands, output):
    """Add the parser of `tfkd prune`."""
    prune = commands.add_parser(
        "prune",
        parents=[output],
        help="Remove channels from a model, round by round, and train it in between.",
        description="Prune a little, train under the original model, and repeat until the target "
        "is met. The result is an ordinary smaller model. An interrupted command continues from "
        "its last round. The exit status is 1 if the target is not met.",
    )
    prune.add_argument("model", metavar="MODEL", help="A trained model: a .keras or .h5 file.")
    _add_data(prune)
    prune.add_argument(
        "--out",
        metavar="DIR",
        default="tfkd-prune",
        help="Write student.keras, spiral.json and spiral.svg into this folder. (default: "
        "%(default)s)",
    )
    _add_limits(prune)
    prune.add_argument(
        "--teacher", metavar="MODEL", help="The teacher. (default: MODEL before it is pruned)"
    )
    recipe = _add_recipe(prune, epochs=4, learning_rate="1e-3")
    recipe.add_argument(
        "--step",
        type=fraction,
        default=0.2,
        metavar="A",
        help="Take this part of the costs in a round. (default: %(default)s)",
    )
    recipe.add_argument(
        "--rounds",
        type=whole_number(1),
        default=20,
        metavar="N",
        help="Make at most N rounds. (default: %(default)s)",
    )
    recipe.add_argument(
        "--final-epochs",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="Train for N epochs at the end. (default: %(default)s)",
    )
    recipe.add_argument(
        "--criterion",
        choices=("l1", "l2", "bn_scale", "taylor", "random"),
        default="l1",
        metavar="C",
        help="Rank channels by l1, l2, bn_scale, taylor or random. (default: %(default)s)",
    )
    recipe.add_argument(
        "--round-to",
        type=whole_number(1),
        default=8,
        metavar="N",
        help="Keep channels to a multiple of N. (default: %(default)s)",
    )
    recipe.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="LAYER",
        help="Leave this layer its channels: its name or path, or a regular expression that "
        "matches the whole of it. May be repeated.",
    )
    recipe.add_argument(
        "--format",
        choices=("int8", "float32", "float16", "dynamic"),
        default="int8",
        metavar="F",
        help="Measure bytes and latency of this file: int8, float32, float16 or dynamic. "
        "(default: %(default)s)",
    )
    prune.set_defaults(run="prune")
    return prune


def _add_recipe_of_compress(parser):
    recipe = _add_recipe(parser, epochs=40, learning_rate="3e-3")
    _add_losses(recipe)
    recipe.add_argument(
        "--qat-epochs",
        type=whole_number(1),
        metavar="N",
        help="Epochs of quantization-aware training. (default: 15)",
    )
    recipe.add_argument(
        "--bits",
        type=int,
        choices=(8, 4),
        metavar="N",
        help="Bits of the weights in the int8 file: 8 or 4. (default: 8, and 4 where the target or "
        "the board asks for fewer bytes)",
    )
    recipe.add_argument(
        "--formats",
        nargs="+",
        choices=("float32", "float16", "dynamic", "int8"),
        metavar="F",
        help="Which files to make: float32, float16, dynamic or int8. (default: float32 float16 "
        "int8)",
    )
    recipe.add_argument(
        "--candidates",
        type=whole_number(1),
        metavar="N",
        help="Train N students for a while, if none is given. (default: 15)",
    )
    recipe.add_argument(
        "--search-epochs",
        type=whole_number(1),
        metavar="N",
        help="Epochs of the best of them. (default: a quarter of --epochs)",
    )


def _add_teacher(parser):
    parser.add_argument(
        "teacher", metavar="TEACHER", help="A .keras, .h5 or .tflite file or a SavedModel folder."
    )
    parser.add_argument(
        "--teacher-outputs",
        choices=("logits", "probabilities"),
        metavar="KIND",
        help="Say that the teacher answers in logits or probabilities, where its graph does not "
        "show it.",
    )
    parser.add_argument(
        "--task",
        choices=("categorical", "binary", "multilabel", "regression"),
        metavar="NAME",
        help="Name the kind of the labels where the data does not show it: categorical, binary, "
        "multilabel or regression.",
    )


def _add_data(parser):
    parser.add_argument(
        "--data",
        metavar="PATH",
        required=True,
        help="An .npz file with x_train, y_train, x_test and y_test, or with x and y (of several "
        "outputs y_train_NAME and so on); a .csv file with a header; or a folder with a subfolder "
        "of images for each class.",
    )
    parser.add_argument(
        "--label",
        nargs="+",
        metavar="COLUMN",
        help="The column or columns of a .csv file that hold the labels. (default: label)",
    )
    parser.add_argument(
        "--features",
        nargs="+",
        metavar="COLUMN",
        help="The columns of a .csv file that hold the features. (default: all others)",
    )
    parser.add_argument(
        "--length",
        type=whole_number(1),
        metavar="N",
        help="The lines of a .csv file are the steps of a series: cut it into windows of N "
        "steps. --label names features to forecast, or the labels of the steps.",
    )
    parser.add_argument(
        "--horizon",
        type=whole_number(0),
        metavar="N",
        help="Steps to forecast (default: 1), or from the end of a window to the labelled step "
        "(default: 0).",
    )
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=whole_number(1),
        metavar=("H", "W"),
        help="Resize images to this height and width. (default: they all have one size)",
    )
    parser.add_argument(
        "--balanced", action="store_true", help="Weight the classes equally in the hard loss."
    )


def _add_limits(parser):
    limits = parser.add_argument_group(
        "limits; a number below 1 is a fraction of the original's value"
    )
    limits.add_argument(
        "--max-drop",
        type=percentage,
        metavar="X",
        help="How much worse the score may become, such as 0.5%%: in accuracy, or as a part of "
        "the RMSE.",
    )
    limits.add_argument(
        "--max-bytes", type=size, metavar="BYTES", help="Bytes of the file, such as 64k."
    )
    for name, said in (
        ("macs", "Multiply-accumulates of one example."),
        ("parameters", "Number of weights."),
        ("latency", "Microseconds of a call in the interpreter on this machine."),
    ):
        limits.add_argument(f"--max-{name}", type=amount, metavar="N", help=said)
    return limits


def _add_recipe(parser, epochs: int, learning_rate: str):
    recipe = parser.add_argument_group("how to train")
    recipe.add_argument(
        "--epochs",
        type=whole_number(1),
        metavar="N",
        help=f"Epochs of each training. (default: {epochs})",
    )
    recipe.add_argument(
        "--learning-rate",
        type=amount,
        metavar="X",
        help=f"Start with this rate. (default: {learning_rate})",
    )
    recipe.add_argument(
        "--batch-size", type=whole_number(1), metavar="N", help="Examples per step. (default: 32)"
    )
    recipe.add_argument(
        "--optimizer",
        choices=("adam", "sgd"),
        metavar="NAME",
        help="Take adam, or sgd with a Nesterov momentum of 0.9. (default: adam)",
    )
    recipe.add_argument(
        "--schedule",
        choices=("cosine", "constant"),
        metavar="NAME",
        help="Let the rate fall to zero along a cosine, or keep it constant. (default: cosine)",
    )
    recipe.add_argument(
        "--patience",
        type=whole_number(1),
        metavar="N",
        help="End a training after N epochs without a lower validation loss. (default: no end)",
    )
    recipe.add_argument(
        "--seed", type=whole_number(0), metavar="N", help="Seed of all random numbers. (default: 0)"
    )
    recipe.add_argument(
        "--tensorboard", metavar="DIR", help="Log each training for TensorBoard in this folder."
    )
    return recipe


def _add_losses(recipe):
    recipe.add_argument(
        "--soft-loss",
        metavar="NAME",
        help="How the student learns from the teacher, such as kl or dist. (default: auto)",
    )
    recipe.add_argument(
        "--alpha", type=fraction, metavar="A", help="Weight of the labels. (default: the loss's)"
    )
    recipe.add_argument(
        "--temperature",
        type=amount,
        metavar="T",
        help="Soften both distributions. (default: the loss's)",
    )
