"""The command line: commands, their options and what they do.

parser.py             commands, options and their help
training_options.py   options of the commands that train
commands.py           what each command does
training.py           what the training commands do
boards.py             `tfkd boards`
reading.py            values as typed: data, numbers, sizes, percentages
bundles.py            `--micro`, `--android` and `--web` of `tfkd export`
options.py            how messages name a Python argument: as the option to type
console.py            messages, progress and JSON
"""
