"""Both fits of the one-body magnetic energy: accuracy, evenness, zero at m = 0, a tail that rises."""

import numpy as np
import pytest
import torch
from ase import Atoms

from mmace import Potential, PotentialConfig, build_graph
from mmace.errors import UserError
from mmace.one_body import fit_chebyshev, fit_spline

MOMENTS = np.linspace(0.0, 4.0, 9)
ENERGIES = 3.0 - 0.9 * MOMENTS**2 / 8 + 0.3 * np.cos(MOMENTS)  # still falling at the end
FITS = {"chebyshev": lambda m, e: fit_chebyshev(m, e, 5.0), "spline": fit_spline}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_fit_goes_through_the_data_and_rises_behind(fit):
    curve = fit(MOMENTS, ENERGIES)
    np.testing.assert_allclose(curve(MOMENTS), ENERGIES - ENERGIES[0], atol=2e-3)
    assert curve([0.0])[0] == 0.0
    np.testing.assert_array_equal(curve([-1.3]), curve([1.3]))
    tail = curve(np.linspace(4.2, 12.0, 40))
    assert (np.diff(tail) > 0).all() and tail[-1] > curve([4.0])[0]


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_noise_is_smoothed(fit):
    noise = np.random.default_rng(0).normal(0, 0.02, len(MOMENTS))
    fine = np.linspace(0, 4, 200)
    wiggles = np.abs(np.diff(fit(MOMENTS, ENERGIES + noise)(fine), n=2)).max()
    assert wiggles < 10 * np.abs(np.diff(fit(MOMENTS, ENERGIES)(fine), n=2)).max()


def test_isolated_atom_has_the_one_body_energy_and_its_slope():
    curve = fit_spline(MOMENTS, ENERGIES)
    model = Potential(PotentialConfig(elements=["Fe", "Ni"], hidden="4x0e", m_max={"Fe": 4.5}))
    model.set_atomic_energies({"Fe": -8.0})
    model.set_one_body({"Fe": curve})

    def energy(moment: float) -> dict[str, torch.Tensor]:
        atoms = Atoms("Fe", [[0, 0, 0]])
        atoms.set_initial_magnetic_moments([[0.0, moment, 0.0]])
        return model(build_graph(atoms, ["Fe", "Ni"], 5.0), stress=False)

    for moment in (0.0, 1.7, 3.9, 4.2):
        out = energy(moment)
        assert float(out["energy"]) == pytest.approx(-8.0 + curve([moment])[0], abs=1e-9)
        slope = (energy(moment + 1e-5)["energy"] - energy(moment - 1e-5)["energy"]) / 2e-5
        assert float(out["magnetic_forces"][0, 1]) == pytest.approx(-float(slope), abs=1e-5)


@pytest.mark.parametrize(
    ("moments", "energies", "word"),
    [([1.0], [2.0], "at least 2"), ([0.0, 1.0], [1.0], "one energy per moment"), ([0, 1, 2], [0, np.nan, 1], "finite")],
)
def test_unusable_data_are_refused(moments, energies, word):
    with pytest.raises(UserError, match=word):
        fit_spline(moments, energies)


def test_moment_beyond_m_max_is_refused():
    with pytest.raises(UserError, match="raise m_max"):
        fit_chebyshev([0.0, 1.0, 6.0], [0.0, 1.0, 2.0], m_max=5.0)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())
def test_a_curve_that_falls_to_its_end_rises_behind_it(fit):
    m = np.linspace(0.0, 4.0, 12)
    curve = fit(m, -0.1 * m**2)
    behind = curve(np.linspace(5.0 if fit is FITS["chebyshev"] else 4.0, 9.0, 200))
    assert (np.diff(behind) > -1e-9).all()
