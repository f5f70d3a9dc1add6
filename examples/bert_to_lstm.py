"""A BERT classifier of KerasHub teaches the small LSTM of text_lstm.py, on the same sentences.

pip install keras-hub
python examples/bert_to_lstm.py
python examples/bert_to_lstm.py --data sst2 --preset bert_tiny_en_uncased_sst2 --fine-tune 0
"""

import pathlib

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from text_lstm import accuracy, arguments, run, sentences


def small_bert(words, length):
    """Return a classifier with random weights, whose tokens are the words of the vocabulary."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=tokens, lowercase=True)
    return keras_hub.models.BertTextClassifier(
        keras_hub.models.BertBackbone(
            vocabulary_size=len(tokens),
            num_layers=2,
            num_heads=2,
            hidden_dim=64,
            intermediate_dim=128,
            max_sequence_length=length,
        ),
        num_classes=2,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=length
        ),
    )


def bert(options, words):
    """Return the classifier of `--preset`, or a small one without it, for texts of some tokens."""
    length = 2 * options.length  # a word may be several tokens
    if options.preset is None:
        return small_bert(words, length)
    head = {"num_classes": 2} if options.fine_tune else {}  # a new one, or that of the preset
    classifier = keras_hub.models.BertTextClassifier.from_preset(options.preset, **head)
    classifier.preprocessor.sequence_length = length
    return classifier


def gives_logits(classifier):
    """Tell whether a classifier's head has no activation; a preset may have a softmax."""
    return classifier.activation is keras.activations.linear


def main(args=None):
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--preset", help="of KerasHub, a name or a folder; default a small BERT")
    parser.add_argument(
        "--fine-tune", type=int, metavar="EPOCHS", help="default 3; for the small one 10"
    )
    parser.set_defaults(out=pathlib.Path("bert_to_lstm"))
    options = parser.parse_args(args)
    parts, words = sentences(options)
    (texts, _, y), _, (test_texts, _, y_test) = parts
    if options.fine_tune is None:
        options.fine_tune = 3 if options.preset else 8 if options.quick else 10

    def teach(seed):
        teacher = bert(options, words)
        rate = 5e-5 if options.preset else 1e-3  # pretrained weights are changed with care
        is_logits = gives_logits(teacher)
        hard = keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)
        teacher.compile(keras.optimizers.Adam(rate), hard)
        if options.fine_tune:
            data = tf.data.Dataset.from_tensor_slices((texts, y)).shuffle(len(y), seed).batch(32)
            teacher.fit(data, epochs=options.fine_tune, shuffle=False, verbose=0)
        score = accuracy(teacher.predict(np.array(test_texts), verbose=0), y_test)
        # BERT has its own tokens, so it is asked here, once, and its answers are the teacher.
        return score, (teacher.predict(np.array(texts), verbose=0), is_logits)

    return run(options, parts, words, teach)


if __name__ == "__main__":
    main()
