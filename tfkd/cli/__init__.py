"""What is typed, and what it does.

parser.py     commands, options and their help
commands.py   what each command does
bundles.py    `--micro` and `--android` of `tfkd export`
options.py    an argument of Python, named in messages as the option that is typed
console.py    messages, progress and JSON
"""
