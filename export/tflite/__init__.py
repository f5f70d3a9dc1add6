"""A `.tflite` file: read, changed, described."""
