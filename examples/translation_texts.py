"""The texts of translation_or_sequence.py, and their characters as numbers."""

import numpy as np

LAYOUT = """Expected: a text file, on each line what is given, a tab and what is wanted:
7 march 1984\t840307 / 12.3.99\t990312"""
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905


def written(examples, seed=0):
    """Return dates as people write them, each with its yymmdd."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(examples):
        day, month, year = rng.integers(1, 29), rng.integers(12), rng.integers(100)
        forms = f"{day}.{month + 1}.{year:02d}", f"{day} {MONTHS[month]} {year:02d}"
        pairs.append((str(rng.choice(forms)), f"{year:02d}{month + 1:02d}{day:02d}"))
    return pairs


def read(path):
    lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line]
    if len(lines) < 20 or not all(len(line) == 2 and all(line) for line in lines):
        raise ValueError("there must be 20 lines and more, with one tab in each")
    return [(given, wanted) for given, wanted in lines]


class Codec:
    """Texts as numbers: the given text, ">", the wanted text, "<", and padding with 0.

    A step reads a character and predicts the next; predictions within the given text weigh nothing.
    """

    def __init__(self, pairs):
        known = sorted({character for pair in pairs for text in pair for character in text})
        self.characters = ["", ">", "<", *known]
        self.numbers = {character: number for number, character in enumerate(self.characters)}
        self.steps = max(len(given) + len(wanted) for given, wanted in pairs) + 1
        self.most = max(len(wanted) for _, wanted in pairs) + 1

    def encode(self, pairs):
        """Return inputs and labels (examples, steps), and a weight for each label, 0 or 1."""
        both = np.zeros((len(pairs), self.steps + 1), "int32")
        weights = np.zeros((len(pairs), self.steps), "float32")
        for row, weight, (given, wanted) in zip(both, weights, pairs, strict=True):
            text = f"{given}>{wanted}<"
            row[: len(text)] = [self.numbers[character] for character in text]
            weight[len(given) : len(text) - 1] = 1
        return both[:, :-1], both[:, 1:], weights

    def decode(self, numbers):
        return "".join(self.characters[number] for number in numbers).split("<")[0]
