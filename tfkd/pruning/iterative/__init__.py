"""Prune a little, distil, and go on from the student."""
