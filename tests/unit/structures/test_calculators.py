"""Calculators by name."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from crystals import BCC_FE_CUBE

from mmace.errors import UserError
from mmace_flows.structures.calculators import make_calculator, predicted_lengths
from mmace_flows.structures.operations import RattleOperation, generate


def test_chgnet_has_its_weights_with_it_and_predicts_moments():
    pytest.importorskip("chgnet")
    atoms = bulk("Fe", cubic=True)
    atoms.calc = make_calculator("chgnet")
    assert atoms.get_potential_energy() / 2 == pytest.approx(-8.35, abs=0.1)
    lengths = predicted_lengths(atoms.calc, 2)
    assert lengths == pytest.approx([2.4, 2.4], abs=0.3)


def test_chgnet_is_not_disturbed_by_vectors():
    pytest.importorskip("chgnet")
    calculator = make_calculator("chgnet")
    turned = BCC_FE_CUBE.model_copy(update={"magmoms": [[2.0, 0, 0], [0, 2.0, 1.0]]})
    plain = calculator.get_potential_energy(BCC_FE_CUBE.to_atoms())
    assert calculator.get_potential_energy(turned.to_atoms()) == pytest.approx(plain)


def test_any_ase_calculator_and_our_own_potential(tmp_path):
    from ase.calculators.lj import LennardJones

    from mmace import Potential, PotentialConfig, save

    assert isinstance(make_calculator("ase.calculators.lj:LennardJones"), LennardJones)
    config = PotentialConfig(elements=["Fe"], hidden="4x0e", l_pos=1, correlation=2, r_max=3.5, m_max={"Fe": 4.0})
    file = save(Potential(config), tmp_path / "model.safetensors")
    calculator = make_calculator(str(file))
    atoms = BCC_FE_CUBE.model_copy(update={"magmoms": [[0, 0, 2.0]] * 2}).to_atoms()
    assert np.isfinite(calculator.get_potential_energy(atoms))
    atoms.calc = calculator
    atoms.get_potential_energy()
    assert predicted_lengths(calculator, 2) is None  # its moments are what it was given


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chgent", "did you mean 'chgnet'"),
        ("nothing.safetensors", "no such file"),
        ("ase.nothing:Nothing", "cannot be made"),
        ("ase.calculators.lj:Nothing", "cannot be made"),
    ],
)
def test_unknown_calculators(name, message):
    with pytest.raises(UserError, match=message):
        make_calculator(name)


def test_without_chgnet_it_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mmace-flows\[search\]'"):
        make_calculator("chgnet")


def test_walks_with_any_potential():
    """Metropolis with ASE's EMT, in a cell that is no Bain cell."""
    from ase.calculators.emt import EMT
    from crystals import plain

    from mmace_flows.schemas.structure import Candidate
    from mmace_flows.structures.metropolis import MetropolisSettings

    start = plain(bulk("Ni", cubic=True)).model_copy(update={"magmoms": [[0, 0, 0.6]] * 4})
    parent = Candidate(structure=start, operation="file", magnetic_state="FM")
    told: list[dict] = []
    walk = MetropolisSettings(steps=40, temperature=1500.0, ratio_range=(1e-3, 1e3), minimum_distance=1.5)
    settings = RattleOperation(calculator="emt", count=3, walk=walk, seed=2)
    found, lines = generate([parent], settings, progress=told.append)
    assert len(found) == 3 and told[-1]["done"] == told[-1]["total"] == 40 and "moves accepted" in lines[0]
    assert found == generate([parent], settings)[0]
    for candidate in found:
        assert candidate.operation == "metropolis" and candidate.parent == start.hash()
        energy = EMT().get_potential_energy(candidate.structure.to_atoms()) / 4
        assert energy == pytest.approx(candidate.details["model_energy_per_atom"])
        assert candidate.structure.magmoms == start.magmoms
    guarded = settings.model_copy(
        update={"volume_factor": (0.9999, 1.0001), "walk": walk.model_copy(update={"strain": 0.1})}
    )
    held, _ = generate([parent], guarded)
    volume = abs(np.linalg.det(start.cell))
    assert [abs(np.linalg.det(c.structure.cell)) for c in held] == pytest.approx([volume] * len(held), rel=1e-4)
