"""The anisotropy recipe at its smallest: queue, GPAW, force theorem, analysis; and again without computing anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gpaw")
pytestmark = pytest.mark.engine

RECIPE = Path(__file__).parents[2] / "workflows" / "anisotropy.py"


def mmace(data_dir: Path, *arguments: str) -> str:
    environment = {**os.environ, "MMACE_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mmace_flows.cli.app", *arguments],
        env=environment, cwd=data_dir, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_iron_platinum_from_the_queue_to_its_constants(tmp_path):
    said = mmace(tmp_path, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "1")
    line = next(line for line in said.splitlines() if "K1" in line)
    assert "FePt: ΔE_A" in line and "meV per formula unit; cut of the bands" in line
    assert float(line.split("K1 ")[1].split()[0]) > 5.0  # MJ/m³; four-fold axis easy
    again = mmace(tmp_path, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "1", "--name", "again")
    assert "direction 14 of 14" not in again  # found in the store
    assert line.split("FePt: ")[1] in again
