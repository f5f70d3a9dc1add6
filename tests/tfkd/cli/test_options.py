"""A message names an argument as its caller writes it: in Python, or as an option of a command."""

import ast
import re

import in_a_child
import pytest
from floors import modules

from tfkd.cli import parser
from tfkd.errors import InputError, argument, spelled
from tfkd.export.runtime.worker import Worker

COMMANDS = (
    *("demo", "compress", "distill", "prune", "export", "inspect", "verify", "benchmark"),
    *("compare", "boards"),
)
#: What a model, an array file or a loss object is made with in Python, whoever asks for it.
OF_OTHER_PACKAGES = {
    *("mask_zero", "stateful", "trainable", "use_ema", "data_format", "unroll", "interpolation"),
    *("dtype", "training", "mask", "loss", "x_train", "y_train"),
}
#: Files that print Python or shell for the user to run.
PRINTS_CODE = (
    *("comparison/spelling.py", "compression/recipe.py"),
    *("cli/parser.py", "cli/reading.py"),
)
ARGUMENT = re.compile(r"(?<![\w{.-])([a-z][a-z_0-9]*)=(?!=)")
OPTION = re.compile(r"(?:tfkd (\w+) )?(--[a-z][a-z0-9-]*)")


@pytest.fixture(scope="module")
def spellings():
    return {name: one.get_default("spelling") for name, one in parser.commands().items()}


@pytest.fixture(scope="module")
def mentions():
    """What is written in the code as `argument(...)`, without values that are computed."""
    seen = set()
    for path, _, _ in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "argument":
                continue
            name, *values = node.args
            if not isinstance(name, ast.Constant):
                continue
            fixed = [one.value for one in values if isinstance(one, ast.Constant)]
            more = {one.arg: ast.literal_eval(one.value) for one in node.keywords}
            seen.add((name.value, tuple(fixed), tuple(sorted(more.items()))))
    return sorted(seen, key=repr)


def functions(path):
    """Yield every text in the functions of a file that is no docstring."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            docstring = function.body[0].value if ast.get_docstring(function) else None
            for node in ast.walk(function):
                if isinstance(node, ast.Constant) and node is not docstring:
                    yield node


def test_no_message_writes_an_argument_by_hand():
    by_hand = [
        f"{path}:{node.lineno}: {node.value}"
        for path, _, _ in modules()
        if not str(path).endswith(PRINTS_CODE)
        for node in functions(path)
        if isinstance(node.value, str) and "\n" not in node.value
        if set(ARGUMENT.findall(node.value)) - OF_OTHER_PACKAGES
    ]
    assert not by_hand, "take tfkd.errors.argument:\n" + "\n".join(by_hand)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_is_an_option_or_is_said_to_be_pythons(spellings, mentions, command):
    options = {name: set(one._option_string_actions) for name, one in parser.commands().items()}
    assert len(mentions) > 60
    with spelled(spellings[command]):
        for name, value, more in mentions:
            text = argument(name, *value, **dict(more))
            assert not ARGUMENT.search(text), text
            named = OPTION.findall(text)
            assert named or "of --data" in text or text.endswith("(in Python)"), text
            for other, option in named:
                assert option in options[other or command], text


@pytest.mark.parametrize(
    ("command", "given", "python", "typed"),
    [
        ("export", ("recurrent", "step"), "recurrent='step'", "--recurrent step"),
        ("export", ("recurrent", "x"), "recurrent='x'", "recurrent 'x' (in Python)"),
        ("export", ("allow_flex", True), "allow_flex=True", "--allow-flex"),
        ("export", ("float_io", False), "float_io=False", "no --float-io"),
        ("export", ("skip",), "skip=", "--skip"),
        ("export", ("skip", ["a", "b c"]), "skip=['a', 'b c']", "--skip a --skip 'b c'"),
        ("benchmark", ("threads", [1, 2]), "threads=[1, 2]", "--threads 1 2"),
        ("benchmark", ("isolate", True), "isolate=True", "no --no-isolate"),
        ("benchmark", ("inputs",), "inputs=", "x_test of --data"),
        ("compare", ("task", "binary"), "task='binary'", "--task binary"),
        ("compare", ("teacher_inputs",), "teacher_inputs=", "teacher_inputs (in Python)"),
    ],
)
def test_an_argument_in_both_languages(spellings, command, given, python, typed):
    assert argument(*given) == python
    with spelled(spellings[command]):
        assert argument(*given) == typed
    assert argument(*given) == python


@pytest.mark.parametrize("command", ["compress", "distill"])
def test_what_the_commands_that_train_call_otherwise(spellings, command):
    with spelled(spellings[command]):
        assert argument("teacher_from_logits", False) == "--teacher-outputs probabilities"
        assert argument("teacher_from_logits", True) == "--teacher-outputs logits"
        assert argument("class_weight", "balanced") == "--balanced"
        assert argument("size", like="(height, width)").startswith("--image-size")


def test_an_argument_of_another_function_names_its_command(spellings):
    def told():
        return argument("skip", ["a"], of="to_tflite"), argument("skip", of="quantize_aware")

    assert told() == ("to_tflite(..., skip=['a'])", "quantize_aware(..., skip=)")
    with spelled(spellings["verify"]):
        assert told() == ("tfkd export --skip a", "skip of quantize_aware (in Python)")
    with spelled(spellings["export"]):
        assert told()[0] == "--skip a"


def test_a_shape_is_shown_as_each_side_writes_it(spellings):
    def told():
        return argument("shapes", like="{name: shape}"), argument("min_runs", alone=True)

    assert told() == ("shapes={name: shape}", "min_runs")
    with spelled(spellings["export"]):
        assert told()[0] == "--shape NAME=N,N"
    with spelled(spellings["benchmark"]):
        assert told()[1] == "--min-runs"


def test_a_child_process_speaks_as_its_parent(spellings):
    with Worker() as worker:
        with pytest.raises(InputError, match=r"give to_tflite\(\.\.\., batch=2\)"):
            worker.call(in_a_child.refuse)
        with (
            spelled(spellings["benchmark"]),
            pytest.raises(InputError, match="give tfkd export --batch 2"),
        ):
            worker.call(in_a_child.refuse)
