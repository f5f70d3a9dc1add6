"""Whole channels, blocks and heads go; the model becomes smaller and faster."""
