"""The package under test lies in tests/, which is not on the path of every run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
