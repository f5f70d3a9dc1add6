"""The whole road: a teacher in, verified files and their report out."""
