"""Last-layer uncertainty: features, covariance, calibration, files, selection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from mmace import MagneticCalculator, Potential, PotentialConfig, build_graph
from mmace.committee import Committee
from mmace.errors import UserError
from mmace.train import Configuration
from mmace.uncertainty import (
    CommitteeUncertainty,
    LastLayer,
    fit_last_layer,
    last_layer_features,
    load_uncertainty,
    save_uncertainty,
    select_most_uncertain,
)
from mmace.uncertainty.features import number_of_features, structure_means
from mmace.uncertainty.selection import scores


def potential(seed: int = 0, **changes) -> Potential:
    settings = {"elements": ["Fe"], "r_max": 3.5, "hidden": "4x0e", "l_pos": 2, "correlation": 2, "num_bessel": 4}
    model = Potential(PotentialConfig(**{**settings, "radial_hidden": (8,), "seed": seed, **changes}))
    model.set_energy_scale(0.3)
    return model


def structures(count: int, seed: int = 0, cell: float = 2.8) -> list[Atoms]:
    """Rattled bcc iron, nearly ferromagnetic."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[cell] * 3, pbc=True)
        atoms = atoms.repeat((1 + index % 2, 1, 1))
        atoms.positions += generator.normal(scale=0.05, size=(len(atoms), 3))
        atoms.set_initial_magnetic_moments([0, 0, 2.0] + 0.1 * generator.normal(size=(len(atoms), 3)))
        found.append(atoms)
    return found


def labelled(model: Potential, frames: list[Atoms], noise: float = 0.0, seed: int = 0) -> list[Configuration]:
    generator = np.random.default_rng(seed)
    found = []
    for atoms in frames:
        energy = float(model(build_graph(atoms, ["Fe"], 3.5), stress=False)["energy"])
        energy += noise * len(atoms) * generator.normal()
        moments = atoms.get_initial_magnetic_moments()
        found.append(Configuration(atoms.numbers, atoms.positions, atoms.cell, True, moments, energy=energy))
    return found


def test_features_are_the_gradient_of_the_energy_by_the_last_readout():
    model = potential(heads=("a", "b"))
    frames = structures(3)
    graph = build_graph(frames, ["Fe"], 3.5, head=1)
    rows = structure_means(last_layer_features(model, graph), graph) * graph.num_atoms.unsqueeze(1)
    for index, atoms in enumerate(frames):
        energy = model(build_graph(atoms, ["Fe"], 3.5, head=1), stress=False, create_graph=True)["energy"].sum()
        gradients = torch.autograd.grad(energy, list(model.readouts[-1].parameters()))
        expected = torch.cat([gradient.reshape(-1) for gradient in gradients])
        torch.testing.assert_close(rows[index], expected, atol=1e-12, rtol=1e-9)


def test_variance_is_the_textbook_one():
    model = potential()
    training, new = structures(12), structures(5, seed=1)
    fitted, _ = fit_last_layer(model, labelled(potential(1), training), ridge=1e-3)
    phi = structure_means(last_layer_features(model, g := build_graph(training, ["Fe"], 3.5)), g)
    star = structure_means(last_layer_features(model, g := build_graph(new, ["Fe"], 3.5)), g)
    information = phi.T @ phi
    information += 1e-3 * information.diagonal().mean() * torch.eye(len(information), dtype=torch.float64)
    variance = (star * torch.linalg.solve(information, star.T).T).sum(1)
    estimate = fitted.estimate(build_graph(new, ["Fe"], 3.5))
    torch.testing.assert_close(estimate.energy_per_atom, fitted.calibration.scale * variance.sqrt())
    torch.testing.assert_close(estimate.energy, estimate.energy_per_atom * estimate.num_atoms)
    assert estimate.atoms.shape == (sum(len(atoms) for atoms in new),)
    assert (estimate.atoms > 0).all()


def test_calibration_on_held_out_data_and_unlike_structures():
    """Labels come from other weights of the same last layer, so that the linear picture is the truth."""
    model, teacher = potential(), potential()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in teacher.readouts[-1].parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    training = labelled(teacher, structures(60), noise=1e-7)
    held_out = labelled(teacher, structures(60, seed=5), noise=1e-7)
    fitted, report = fit_last_layer(model, training, held_out)
    assert report.held_out
    assert report.after.count == 60
    assert 0.4 < report.after.coverage_68 < 0.9
    assert report.after.nll <= report.before.nll + 1e-9
    assert report.after.miscalibration_area < 0.2
    near = scores(structures(10, seed=7), fitted)
    far = scores(structures(10, seed=7, cell=2.45), fitted)
    assert far.mean() > 1.5 * near.mean()


def test_without_held_out_data_the_report_says_so():
    _, report = fit_last_layer(potential(), labelled(potential(1), structures(8)))
    assert not report.held_out


def test_files_belong_to_their_model(tmp_path):
    model = potential()
    fitted, report = fit_last_layer(model, labelled(potential(1), structures(8)), power_law=True)
    path = save_uncertainty(fitted, tmp_path / "uncertainty.safetensors", report.to_dict())
    again = load_uncertainty(path, model)
    graph = build_graph(structures(2, seed=9), ["Fe"], 3.5)
    torch.testing.assert_close(again.estimate(graph).energy, fitted.estimate(graph).energy)
    with pytest.raises(UserError, match="made for the model"):
        load_uncertainty(path, potential(1))
    (tmp_path / "junk").write_bytes(b"\x05\0\0\0\0\0\0\0[1,2]")
    with pytest.raises(UserError, match="not an uncertainty"):
        load_uncertainty(tmp_path / "junk", model)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged"):
        load_uncertainty(path, model)


@pytest.mark.parametrize(
    ("ridge", "energies", "word"), [(0.0, True, "positive"), (None, False, "no training structure has an energy")]
)
def test_unusable_input_is_refused(ridge, energies, word):
    data = labelled(potential(1), structures(4))
    if not energies:
        for configuration in data:
            configuration.energy = None
    with pytest.raises(UserError, match=word):
        fit_last_layer(potential(), data, ridge=ridge)


def test_selection_prefers_the_unknown_and_avoids_copies():
    model = potential()
    fitted, _ = fit_last_layer(model, labelled(potential(1), structures(20)))
    near, far = structures(6, seed=11), structures(2, seed=12, cell=2.45)
    pool = [*near, far[0], far[0].copy(), far[1]]
    by_size = select_most_uncertain(pool, fitted, 3, distinct=False)
    assert sorted(by_size) == [6, 7, 8]
    distinct = select_most_uncertain(pool, fitted, 3)
    assert distinct[0] == by_size[0]
    assert set(select_most_uncertain(pool, fitted, 2)) == {6, 8}
    assert len(set(select_most_uncertain(pool, fitted, 99))) == len(pool)
    assert select_most_uncertain(pool, fitted, 0) == []
    assert len(select_most_uncertain(pool, fitted, 2, measure="atoms")) == 2
    with pytest.raises(UserError, match="has no 'forces'"):
        select_most_uncertain(pool, fitted, 2, measure="forces")
    with pytest.raises(UserError, match="count"):
        select_most_uncertain(pool, fitted, -1)


def test_greedy_choice_is_the_posterior_variance():
    """Each next structure has the largest variance once the chosen ones are in the training data."""
    fitted, _ = fit_last_layer(potential(), labelled(potential(1), structures(6)), ridge=1e-2)
    pool = structures(15, seed=21, cell=2.6)
    z = fitted.whitened(build_graph(pool, ["Fe"], 3.5))[0]
    chosen = select_most_uncertain(pool, fitted, 4)
    information = torch.eye(z.shape[1], dtype=z.dtype)
    for number, pick in enumerate(chosen):
        variance = (z * torch.linalg.solve(information, z.T).T).sum(1)
        variance[chosen[:number]] = 0.0
        assert float(variance[pick]) == pytest.approx(float(variance.max()), rel=1e-9)
        information = information + torch.outer(z[pick], z[pick])


def test_committee_speaks_the_same_language():
    committee = CommitteeUncertainty(Committee([potential(0), potential(1)]))
    pool = structures(4, seed=2)
    graph = build_graph(pool, ["Fe"], 3.5)
    estimate = committee.estimate(graph)
    assert estimate.forces.shape == (graph.positions.shape[0], 3)
    picked = select_most_uncertain(pool, committee, 2, measure="forces")
    largest = [float(part.norm(dim=1).max()) for part in estimate.forces.split([len(atoms) for atoms in pool])]
    assert picked[0] == int(np.argmax(largest))


def test_calculator_gives_uncertainties(tmp_path):
    model = potential()
    fitted, _ = fit_last_layer(model, labelled(potential(1), structures(8)))
    path = save_uncertainty(fitted, tmp_path / "u.safetensors")
    atoms = structures(2)[1]
    expected = float(fitted.estimate(build_graph(atoms, ["Fe"], 3.5)).energy)
    for given in (fitted, path):
        atoms.calc = MagneticCalculator(model, uncertainty=given)
        atoms.get_potential_energy()
        assert atoms.calc.results["energy_uncertainty"] == pytest.approx(expected)
        assert atoms.calc.results["energies_uncertainty"].shape == (len(atoms),)
        assert "forces_uncertainty" not in atoms.calc.results
    committee = Committee([model, potential(1)])
    atoms.calc = MagneticCalculator(model, uncertainty=committee)
    atoms.get_forces()
    assert atoms.calc.results["forces_uncertainty"].shape == (len(atoms), 3)
    assert atoms.calc.results["energy_uncertainty"] > 0
    with pytest.raises(UserError, match="made for other elements"):
        MagneticCalculator(model, uncertainty=Committee([potential(0, elements=["Ni"]), potential(1, elements=["Ni"])]))


def test_wrong_shape_is_refused():
    with pytest.raises(UserError, match="fit it again"):
        LastLayer(potential(), torch.zeros(3, 3))
    assert number_of_features(potential().readouts[-1]) == 4 * 16 + 16
