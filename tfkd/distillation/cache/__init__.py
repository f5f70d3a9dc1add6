"""What the teacher said, kept, so that it runs once an example."""
