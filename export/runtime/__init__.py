"""Where files run: in a child process, on this machine."""
