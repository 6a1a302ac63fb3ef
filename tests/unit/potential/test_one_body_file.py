"""Energies of isolated atoms from files, their fits judged and kept, and a training that uses them."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mmace.errors import UserError
from mmace.one_body_data import AtomGrid, read_atom_grids
from mmace.one_body_file import FitOptions, curve_from_dict, fit_one_body, load_one_body, save_one_body
from mmace_flows.cli.app import run

MOMENTS = np.linspace(0.0, 4.0, 9)
ENERGIES = -3.0 - 0.5 * MOMENTS**2 + 0.03 * MOMENTS**4  # lowest at 2.89 μB


def write_csv(path, moments=MOMENTS, energies=ENERGIES, element="Fe") -> None:
    lines = ["element,moment,energy", *(f"{element},{m},{e}" for m, e in zip(moments, energies, strict=True))]
    path.write_text("\n".join(lines) + "\n")


def write_atoms(path) -> None:
    frames = []
    for moment, energy in zip(MOMENTS, ENERGIES, strict=True):
        atoms = Atoms("Fe", [[0, 0, 0]])
        atoms.arrays["REF_magmom"] = np.array([[0.0, 0.6 * moment, -0.8 * moment]])
        atoms.info["REF_energy"] = energy
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


def test_both_formats_give_the_same_grid(tmp_path):
    write_csv(tmp_path / "atoms.csv")
    write_atoms(tmp_path / "atoms.extxyz")
    for name in ("atoms.csv", "atoms.extxyz"):
        grids = read_atom_grids(tmp_path / name)
        assert list(grids) == ["Fe"]
        np.testing.assert_allclose(grids["Fe"].moments, MOMENTS, atol=1e-7)
        np.testing.assert_allclose(grids["Fe"].energies, ENERGIES, atol=1e-7)


@pytest.mark.parametrize("method", ["spline", "chebyshev"])
def test_fit_is_judged_and_survives_the_file(tmp_path, method):
    fit = fit_one_body(AtomGrid(MOMENTS, ENERGIES), FitOptions(method))
    assert np.abs(fit.residuals).max() < 5e-3
    assert fit.atomic_energy == pytest.approx(-3.0, abs=5e-3)
    assert fit.left_out_rms < 0.1
    assert fit.rises_from == pytest.approx(np.sqrt(0.5 / 0.06), abs=0.1)
    assert not fit.falls_at_end
    curves = load_one_body(save_one_body({"Fe": fit}, tmp_path / "fe.json"))
    again = curve_from_dict(curves["Fe"], "here")
    np.testing.assert_array_equal(again(MOMENTS), fit.curve(MOMENTS))


def test_energies_that_still_fall_are_said_and_turned_up():
    fit = fit_one_body(AtomGrid(MOMENTS[:6], ENERGIES[:6]), FitOptions())
    assert fit.falls_at_end
    assert 2.5 <= fit.rises_from < 3.5


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("element,energy\nFe,1\n", "no column moment"),
        ("element,moment,energy\nXx,1,2\n", "line 2: 'Xx' is not a chemical symbol"),
        ("element,moment,energy\n# why\nFe,1,2\nFe,one,2\n", "line 4: moment and energy must be numbers"),
        ("element,moment,energy\nFe,1,nan\n", "finite"),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, word):
    (tmp_path / "atoms.csv").write_text(text)
    with pytest.raises(UserError, match=word):
        read_atom_grids(tmp_path / "atoms.csv")


def test_other_refusals(tmp_path):
    pair = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.0]])
    pair.arrays["REF_magmom"], pair.info["REF_energy"] = np.zeros((2, 3)), 1.0
    ase.io.write(tmp_path / "pair.extxyz", pair, format="extxyz")
    with pytest.raises(UserError, match="2 atoms; one-body data are single atoms"):
        read_atom_grids(tmp_path / "pair.extxyz")
    with pytest.raises(UserError, match="did you mean 'spline'"):
        fit_one_body(AtomGrid(MOMENTS, ENERGIES), FitOptions("splin"))
    with pytest.raises(UserError, match="knots is 2"):
        fit_one_body(AtomGrid(MOMENTS, ENERGIES), FitOptions(knots=2))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(UserError, match="not a file of one-body energies"):
        load_one_body(tmp_path / "other.json")
    bad = {"format": "mmace-one-body", "version": 1, "elements": {"Fe": {"curve": {"width": 1, "coefficients": [1]}}}}
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    with pytest.raises(UserError, match="Fe: not a one-body curve"):
        load_one_body(tmp_path / "bad.json")


def test_the_command_writes_curve_and_plot(tmp_path, capsys):
    write_csv(tmp_path / "atoms.csv")
    out = tmp_path / "fe.json"
    assert run(["fit-one-body", str(tmp_path / "atoms.csv"), "-o", str(out), "--method", "chebyshev", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["elements"]["Fe"]["count"] == 9
    assert result["elements"]["Fe"]["residual_rms"] < 2e-3
    assert (tmp_path / "fe.png").read_bytes()[:4] == b"\x89PNG"
    write_csv(tmp_path / "falling.csv", MOMENTS[:6], ENERGIES[:6])
    assert run(["fit-one-body", str(tmp_path / "falling.csv"), "-o", str(out)]) == 0
    assert "still falls at the largest moment" in capsys.readouterr().out
