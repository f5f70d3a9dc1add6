"""The command line: commands, their options and what they do.

parser.py             commands, options and their help
training_options.py   those of the commands that train
commands.py           what each command does
training.py           what those do that train
boards.py             `tfkd boards`
reading.py            what is typed and read: data, numbers, sizes, percentages
bundles.py            `--micro`, `--android` and `--web` of `tfkd export`
options.py            how messages name an argument of Python: as the option that is typed
console.py            messages, progress and JSON
"""
