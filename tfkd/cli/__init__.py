"""What is typed, and what it does.

parser.py     commands, options and their help
commands.py   what each command does
bundles.py    `--micro` and `--android` of `tfkd export`
console.py    messages, progress and JSON
"""
