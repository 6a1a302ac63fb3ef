"""`mmace atom-curve`: what it takes and refuses, and the files it writes from labels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.cli import app as cli
from mmace_flows.cli.atoms import parsed_moments
from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.gpaw_engine import GPAWEngine


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0:2:0.5", [0, 0.5, 1, 1.5, 2]), ("0:1:0.3", [0, 0.3, 0.6, 0.9]), ("3,1", [3, 1]), ("2", [2])],
)
def test_moments(text, numbers):
    assert parsed_moments(text) == pytest.approx(numbers)


@pytest.mark.parametrize("text", ["", "a", "0:1", "1:0:0.5", "0:1:0", "-1,2", "nan", "0:inf:1"])
def test_wrong_moments(text):
    with pytest.raises(UserError, match="--moments"):
        parsed_moments(text)


def test_an_unknown_element_is_one_line(tmp_path, capsys):
    assert cli.run(["atom-curve", "Xx", "-o", str(tmp_path / "a.extxyz")]) == 2
    assert capsys.readouterr().err == "error: atom curve: 'Xx' is not a chemical symbol\n"


class _Store(dict):
    """Labels in memory."""

    def query_one(self, criteria: dict[str, Any]) -> Any:
        return self.get(criteria["label_key"])

    def update(self, docs: Any, key: Any = None) -> None:
        for doc in docs:
            self[doc[key]] = doc


def test_energies_fits_and_plots_stand_side_by_side(tmp_path, capsys, monkeypatch):
    """The engine is replaced by a parabola in m², so that the fits are known; the real one: tests/engines."""
    computed = []

    def run(self, structure, folder, name="gpaw", start_attempt=0):
        moment = structure.magmoms[0][2]
        computed.append(moment)
        energy = -3.0 - 0.5 * moment**2 + 0.02 * moment**4
        magmoms = np.array([[0.0, 0.0, 0.9 * moment]])  # what is within the sphere
        return EngineResult(
            True, ["first attempt"], energy=energy, free_energy=energy, forces=np.zeros((1, 3)), magmoms=magmoms,
            total_magmom=moment, wall_seconds=1.0,
        )  # fmt: skip

    monkeypatch.setattr(GPAWEngine, "run", run)
    monkeypatch.setattr(GPAWEngine, "version", lambda self: "1")
    store = _Store()

    class Stores:
        labels = store

        def scratch(self, campaign: str, name: str) -> Any:
            return tmp_path

    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda settings: Stores())
    output = tmp_path / "atoms.extxyz"
    arguments = ["atom-curve", "Fe", "--moments", "0:5:0.5", "-o", str(output), "--json"]
    assert cli.run(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["labelled"] == 11 and said["failed"] == 0
    names = ["atoms.extxyz", "atoms-spline.json", "atoms-spline.png", "atoms-chebyshev.json", "atoms-chebyshev.png"]
    assert said["files"] == [str(tmp_path / name) for name in names]

    from mmace.one_body import OneBodyCurve
    from mmace.one_body_file import load_one_body

    for method in ("spline", "chebyshev"):
        stored = load_one_body(tmp_path / f"atoms-{method}.json")["Fe"]
        curve = OneBodyCurve(stored["width"], np.array(stored["coefficients"]))
        # |m| is the total moment, not what is within the sphere
        assert curve([2.0, 3.5]) == pytest.approx([-2.0 + 0.32, -6.125 + 0.02 * 3.5**4], abs=0.03)
    assert cli.run(arguments) == 2  # the file is there
    assert "--overwrite" in capsys.readouterr().err
    assert cli.run([*arguments, "--overwrite"]) == 0
    assert len(computed) == 11  # found in the store the second time
