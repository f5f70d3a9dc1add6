"""`python -m tfkd`."""

import sys

from tfkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
