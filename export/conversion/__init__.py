"""A model becomes a file."""
