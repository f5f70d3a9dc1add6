"""The sentences of text_lstm.py and bert_to_lstm.py, and their words as numbers."""

import pathlib
import re
import shutil
from collections import Counter

import numpy as np

LAYOUT = """Expected: a folder with files *train*, *test* and maybe *dev* (SST-2), 1 or 0 and a text
a line: "1 a gripping film ." / "0 a long , dull film ."
or with texts in train/pos/*.txt, train/neg/*.txt, test/pos/*.txt and test/neg/*.txt (IMDB)."""
GOOD = "good great fine superb warm witty fresh clever moving bright honest lovely vivid charming"
BAD = "bad dull flat stale weak tired silly noisy empty clumsy tedious bland shallow pointless"
NOUNS = ["film", "plot", "cast", "music", "ending", "script", "director", "camera", "story"]


def generated(examples, seed):
    """Return sentences in which 'not' inverts a word and 'but' outweighs the words before it."""
    rng, pairs, adjectives = np.random.default_rng(seed), [], (BAD.split(), GOOD.split())
    for _ in range(examples):
        words, label = [], int(rng.integers(2))
        for i in range(rng.integers(1, 4)):
            joint = str(rng.choice(["and", "but"])) if i else ""
            label = 1 - label if joint == "but" else label
            turned = int(rng.random() < 0.2)
            adjective = adjectives[label ^ turned][int(14 * rng.random() ** 2)]  # some are rare
            words += [joint, "the", rng.choice(NOUNS), "is", "not" * turned, adjective]
        pairs.append((" ".join(word for word in words if word), label))
    return pairs


def read(folder, part):
    """Return the pairs (text, label) of a part, in either layout."""
    if (folder / part).is_dir():
        reviews = [(path, label) for label, kind in enumerate(("neg", "pos"))
                   for path in sorted((folder / part / kind).glob("*.txt"))]  # fmt: skip
        return [(path.read_text("utf-8"), label) for path, label in reviews]
    files = [path for path in folder.glob(f"*{part}*") if path.is_file()]
    lines = [line for path in files for line in path.read_text("utf-8").splitlines()]
    lines = [line.split(None, 1) for line in lines if line.strip()]
    if not all(len(line) == 2 and line[0] in ("0", "1") for line in lines):
        raise ValueError(f"in {part} there is a line that is not 0 or 1 and a text")
    return [(text, int(label)) for label, text in lines]


def load(folder=None, examples=1500):
    """Return the texts (a list) and the labels (an array) of train, validation and test."""
    if folder is None:
        train, validation, test = (generated(examples, seed) for seed in range(3))
    else:
        train, validation, test = (read(folder, part) for part in ("train", "dev", "test"))
    if not validation:
        order = np.random.default_rng(0).permutation(len(train))
        few = len(train) // 8
        train, validation = [train[i] for i in order[few:]], [train[i] for i in order[:few]]
    parts = (train, validation, test)
    if min(len({label for _, label in part}) for part in parts) < 2:
        raise ValueError("each part needs texts with 0 and texts with 1")
    return [([text for text, _ in part], np.array([y for _, y in part])) for part in parts]


def words_of(text):
    """Split a text as `words_encode` in text_words.h does."""
    return re.findall("[a-z0-9']+", text.encode("ascii", "replace").decode().lower())


def vocabulary_of(texts, most):
    """Return the commonest words that occur at least twice, in alphabetical order."""
    counts = Counter(word for text in texts for word in words_of(text))
    return sorted(word for word, count in counts.most_common(most) if count > 1)


def encode(texts, vocabulary, length):
    """Return the numbers of the words (texts, length), padded in front with 0; 1 is unknown."""
    numbers = {word: number for number, word in enumerate(vocabulary, 2)}
    ids = np.zeros((len(texts), length), "int32")
    for row, text in zip(ids, texts, strict=True):
        found = [numbers.get(word, 1) for word in words_of(text)][-length:]
        row[length - len(found) :] = found
    return ids


def write_words(vocabulary, length, folder):
    """Write the C and C++ code that turns a text into the file's input on a device."""
    longest = max(map(len, vocabulary))
    known = ", ".join(f'"{word}"' for word in vocabulary)
    sizes = f"words_count = {len(vocabulary)}, words_length = {length}, words_longest = {longest}"
    array = f"static const char* const words_known[words_count] = {{{known}}};"
    text = f"// In alphabetical order, from number 2.\nenum {{ {sizes} }};\n{array}\n"
    (folder / "vocabulary.h").write_text(text)
    shutil.copy(pathlib.Path(__file__).with_name("text_words.h"), folder)
