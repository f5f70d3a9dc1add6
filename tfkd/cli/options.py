"""How messages name the options of a command: a Python argument as the user types it."""

from __future__ import annotations

import argparse
import dataclasses
import shlex

# Python function → the command that calls it.
_COMMANDS = {
    "to_tflite": "export",
    "micro_bundle": "export",
    "android_bundle": "export",
    "web_bundle": "export",
    "fits": "export",
    "verify": "verify",
    "benchmark": "benchmark",
    "profile": "benchmark",
    "compare": "compare",
    "compress": "compress",
    "spiral": "prune",
}
# Arguments whose option has another name, as messages name them.
_DATA = {"x": "x_test of --data", "y": "y_test of --data"}
_LEARNT = {"size": "--image-size", "class_weight": "--balanced"}
_TAUGHT = {**_LEARNT, "teacher_from_logits": "--teacher-outputs"}
# The option's names for the values of such an argument.
_WORDS = {"teacher_from_logits": {True: "logits", False: "probabilities"}}
_OTHERWISE = {
    "export": {
        **_DATA,
        "representative_data": "x_train of --data",
        "shapes": "--shape",
        "class_names": "--classes",
        "preprocessing": "--mean and --std",
    },
    "verify": _DATA,
    "benchmark": {"inputs": "x_test of --data", "isolate": "--no-isolate"},
    "compare": {"folder": "--out"},
    "compress": {**_TAUGHT, "target": "--max-drop"},
    "distill": _TAUGHT,
    "prune": {**_LEARNT, "folder": "--out"},
}


@dataclasses.dataclass(frozen=True)
class _Option:
    """One option: its text, its metavar, and its values."""

    text: str
    metavar: str
    is_flag: bool
    many: bool
    choices: tuple | None
    negated: bool = False

    def typed(self, value, like: str) -> str | None:
        """Return the option with a value as typed, or `None` if it does not accept the value."""
        if value is ...:
            return f"{self.text} {self.metavar}" if like and not self.is_flag else self.text
        if self.is_flag:
            return self.text if bool(value) != self.negated else f"no {self.text}"
        values = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, dict) or not all(
            isinstance(item, (str, int, float)) and (self.choices is None or item in self.choices)
            for item in values
        ):
            return None
        quoted = [shlex.quote(str(item)) for item in values]
        if self.many:
            return f"{self.text} {' '.join(quoted)}"
        return " ".join(f"{self.text} {item}" for item in quoted)


@dataclasses.dataclass(frozen=True)
class Spelling:
    """Names arguments in messages as options of one command (see `tfkd.errors.argument`).

    An argument of a function that another command calls is named with that command; one
    that the command line lacks is marked "(in Python)".
    """

    command: str
    options: dict[str, dict[str, _Option | str]]

    def __call__(self, name: str, value: object, of: str, like: str, alone: bool) -> str:
        """Write an argument as the user types it."""
        command = _COMMANDS.get(of) if of else self.command
        option = self.options.get(command or "", {}).get(name)
        text = option if isinstance(option, str) else None
        if isinstance(option, _Option):
            words = _WORDS.get(name, {})
            text = option.typed(words[value] if isinstance(value, bool) and words else value, like)
        if text is None:
            python = name if value is ... else f"{name} {value!r}"
            return f"{python} of {of} (in Python)" if of else f"{python} (in Python)"
        return text if command == self.command else text.replace("--", f"tfkd {command} --", 1)

    def with_option(self, name: str, option: str) -> Spelling:
        """Return the same with an argument that this run takes from another option."""
        own = self.options[self.command]
        return Spelling(self.command, {**self.options, self.command: {**own, name: own[option]}})


def set_spellings(parsers: dict[str, argparse.ArgumentParser]) -> None:
    """Let each command's parser give `spelling`, by the command's name, with its options."""
    options = {name: _options_of(name, parser) for name, parser in parsers.items()}
    for name, parser in parsers.items():
        parser.set_defaults(spelling=Spelling(name, options))


def _options_of(command: str, parser) -> dict[str, _Option | str]:
    actions = [action for action in parser._actions if action.option_strings]
    by_text = {action.option_strings[-1]: _option(action) for action in actions}
    options: dict[str, _Option | str] = {
        action.dest: by_text[action.option_strings[-1]] for action in actions
    }
    for name, text in _OTHERWISE.get(command, {}).items():
        options[name] = by_text.get(text, text)
        if text.startswith("--no-"):
            options[name] = dataclasses.replace(by_text[text], negated=True)
    return options


def _option(action: argparse.Action) -> _Option:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return _Option(
        action.option_strings[-1],
        metavar,
        action.nargs == 0,
        action.nargs == "+",
        None if action.choices is None else tuple(action.choices),
    )
