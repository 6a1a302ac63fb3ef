"""The anisotropy recipe at its smallest: queue, GPAW, force theorem, analysis; and again without computing anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_tools import mmace

pytest.importorskip("gpaw")
pytestmark = pytest.mark.engine

RECIPE = Path(__file__).parents[2] / "workflows" / "anisotropy.py"


def test_iron_platinum_from_the_queue_to_its_constants(tmp_path):
    said = mmace(tmp_path, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "1")
    line = next(line for line in said.splitlines() if "K1" in line)
    assert "FePt: ΔE_A" in line and "meV per formula unit; cut of the bands" in line
    assert float(line.split("K1 ")[1].split()[0]) > 5.0  # MJ/m³; four-fold axis easy
    again = mmace(tmp_path, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "1", "--name", "again")
    assert "direction 14 of 14" not in again  # found in the store
    assert line.split("FePt: ")[1] in again
