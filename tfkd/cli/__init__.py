"""The command line: commands, their options and what they do.

parser.py     commands, options and their help
commands.py   what each command does
boards.py     `tfkd boards`
bundles.py    `--micro` and `--android` of `tfkd export`
options.py    how messages name an argument of Python: as the option that is typed
console.py    messages, progress and JSON
"""
