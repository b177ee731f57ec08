"""Run the program with `python -m releasectl`."""

import sys

from releasectl.cli import main

if __name__ == "__main__":
    sys.exit(main())
