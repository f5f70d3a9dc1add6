"""`python -m tfkd`."""

import sys

from tfkd.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
