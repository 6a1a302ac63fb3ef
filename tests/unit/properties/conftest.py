"""Puts the synthetic documents of the learning tests within reach."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))
