"""`mmace soc`: what it refuses, and what it says of a result in the store."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mmace_flows.cli import app as cli
from mmace_flows.cli import spin_orbit
from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions


@pytest.fixture
def fept(tmp_path) -> str:
    atoms = Atoms("FePt", cell=[2.73, 2.73, 3.76], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    atoms.set_initial_magnetic_moments([3.0, 0.4])
    write(tmp_path / "fept.extxyz", atoms)
    return str(tmp_path / "fept.extxyz")


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--directions", "lebedev:15"], None, "there are 14 and 26 points"),
        (["--directions", "lebdev:14"], None, "did you mean 'lebedev'"),
        (["--engine", "vasp"], None, "--engine vasp"),
        (["--preset", "smal"], None, "did you mean 'small'"),
        (["--axis", "0,0"], None, "give three numbers"),
        (["--axis", "0,0,0"], None, "not all zero"),
        ([], "bnads: 300", "did you mean 'bands'"),
        ([], "dft: {cutof: 300}", "dft: unknown setting 'cutof'; did you mean 'cutoff'"),
        ([], "directions: lebedev:15", "there are 14 and 26 points"),
        ([], "dft: 3", "dft"),
    ],
)
def test_wrong_input_is_one_line(fept, tmp_path, capsys, arguments, settings, said):
    if settings is not None:
        (tmp_path / "s.yaml").write_text(settings)
        arguments = ["--settings", str(tmp_path / "s.yaml")]
    assert cli.run(["soc", fept, "--data-dir", str(tmp_path / "data"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "data").exists()  # refused before a database was started


def test_moments_are_asked_for(tmp_path, capsys):
    atoms = Atoms("Fe", cell=[2.5] * 3, pbc=True)
    write(tmp_path / "nm.extxyz", atoms)
    assert cli.run(["soc", str(tmp_path / "nm.extxyz")]) == 2
    assert "nm.extxyz: configuration 0: the structure has no moments" in capsys.readouterr().err


def test_a_settings_file_changes_the_preset_and_options_win(tmp_path):
    (tmp_path / "s.yaml").write_text("dft: {kpoints: [2, 2, 2]}\ndirections: lebedev:50\n")
    chosen = spin_orbit._settings("gpaw", "small", tmp_path / "s.yaml", "lebedev:14")
    small = SpinOrbitSettings.small()
    assert chosen.dft.kpoints == (2, 2, 2) and chosen.dft.kpoint_spacing is None
    assert chosen.dft.cutoff == small.dft.cutoff and chosen.directions == "lebedev:14"


class _Store(dict):
    """Documents in memory."""

    def query_one(self, criteria: dict[str, Any]) -> Any:
        return self.get(criteria["spin_orbit_key"])


def test_what_is_said_of_a_stored_result(fept, tmp_path, capsys, monkeypatch):
    vectors = directions("lebedev:50")
    energies = -3.0 + 2e-3 * (1.0 - vectors[:, 2] ** 2)

    def found(structure: MagneticStructure, *_: Any) -> tuple[SpinOrbitDocument, bool]:
        document = SpinOrbitDocument(
            spin_orbit_key="k", status="converged", structure=structure, parent="p", directions=vectors.tolist(),
            energies=energies.tolist(), lengths=[2.9, 0.4], magnetic_state_reached="FM", opposite_error=1e-5, bands=20,
            band_cut_error=2e-5, engine="gpaw", engine_version="1", settings={}, created="now", code_version="1",
        )  # fmt: skip
        return document, False

    monkeypatch.setattr("mmace_flows.labels.gpaw_spin_orbit.find_or_compute_spin_orbit", found)

    class Stores:
        spin_orbit = _Store()

        def scratch(self, campaign: str, name: str) -> Any:
            return tmp_path

    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda settings: Stores())
    assert cli.run(["soc", fept]) == 0
    said = capsys.readouterr().out
    assert "easy axis (0.00 0.00 1.00)" in said and "ΔE_A 1 meV per atom, 2 meV per cell" in said
    assert "K1 1 meV per atom, 2 meV per formula unit" in said and "found in the database" in said
    assert "opposite directions 0.01, cut of the bands 0.02" in said and "hardness κ" in said
    assert cli.run(["soc", fept, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    volume = 2.73**2 * 3.76
    assert result["anisotropy"]["k1"] == pytest.approx(2e-3 / volume * 160217.6634)
    assert np.shape(result["document"]["directions"]) == (50, 3)
