"""Single weights become zero, or few values; the compressed file becomes smaller."""
