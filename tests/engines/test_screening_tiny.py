"""The screening recipe at its smallest: search, orderings, GPAW with spin–orbit coupling, models, ranking, query."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_tools import mmace

pytest.importorskip("gpaw")
pytest.importorskip("chgnet")
pytest.importorskip("pyxtal")
pytestmark = pytest.mark.engine

RECIPE = Path(__file__).parents[2] / "workflows" / "mca_screening.py"


def test_from_a_chemical_space_to_a_ranked_table(tmp_path):
    said = mmace(tmp_path, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "2")
    assert "rank: round 2" in said or "computed every ordering" in said
    entries = json.loads(mmace(tmp_path, "query", "anisotropy", "--format", "json", "--sort", "-k1"))["entries"]
    levels = [one["level"] for one in entries]
    assert levels.count("DFT") >= 3
    k1 = [one["values"]["k1"] for one in entries]
    assert k1 == sorted(k1, reverse=True)
    mmace(tmp_path, "report", "mca_screening-tiny", "-o", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "screening report" in page and "Ranking" in page
    again = mmace(tmp_path, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "1", "--name", "again")
    assert "direction 10 of 14" not in again, "runs of DFT are found in the store"
