"""Stores in memory are those of the learning tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))
