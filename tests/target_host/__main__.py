"""Run `python -m target_host`."""

import sys

from target_host.cli import main

sys.exit(main())
