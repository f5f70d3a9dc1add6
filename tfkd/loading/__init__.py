"""A saved model: checked as data, then read by the Keras that wrote it."""
