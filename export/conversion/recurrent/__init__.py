"""The forms in which recurrent layers go into a file."""
