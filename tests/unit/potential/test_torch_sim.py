"""The potential in torch-sim: the calculator's numbers for many systems at once, dynamics, refusals."""

from __future__ import annotations

import operator
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mmace import MagneticCalculator, Potential, PotentialConfig
from mmace.errors import UserError

torch_sim = pytest.importorskip("torch_sim", reason="the extra torch-sim is not installed")

from mmace.torch_sim import MagneticModel, magnetic, magnetic_state  # noqa: E402

CPU = torch.device("cpu")


@cache
def potential(symmetry: str = "soc", dtype: str = "float64") -> Potential:
    return Potential(
        PotentialConfig(
            elements=["Ni", "Fe"],
            symmetry=symmetry,
            hidden="4x0e",
            r_max=3.5,
            correlation=2,
            radial_hidden=(16,),
            pair_repulsion=True,
            m_max={"Fe": 3.0, "Ni": 1.5},
            seed=3,
            dtype=dtype,
        )
    )


def crystal(seed: int, repeat: int = 1, noise: float = 0.08) -> Atoms:
    """A distorted FeNi cell of two atoms, repeated, with random moments and a skewed cell."""
    rng = np.random.default_rng(seed)
    cell = bulk("Fe", cubic=True).cell.array + rng.normal(0, 0.1, (3, 3))
    atoms = Atoms("FeNi", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, pbc=True).repeat((repeat, 1, 1))
    atoms.positions += rng.normal(0, noise, atoms.positions.shape)
    atoms.set_initial_magnetic_moments(rng.uniform(-0.9, 0.9, (len(atoms), 3)))
    return atoms


STRUCTURES = [crystal(0, 3), crystal(1), crystal(2, 2)]


def assert_same(out: dict[str, torch.Tensor], structures: list[Atoms], tolerance: float = 1e-9) -> None:
    first = 0
    for number, atoms in enumerate(structures):
        rows = slice(first, first := first + len(atoms))
        expected = atoms.calc.results
        assert float(out["energy"][number]) == pytest.approx(atoms.get_potential_energy(), abs=tolerance)
        np.testing.assert_allclose(out["forces"][rows], atoms.get_forces(), atol=tolerance)
        np.testing.assert_allclose(out["stress"][number], atoms.get_stress(voigt=False), atol=tolerance)
        np.testing.assert_allclose(out["magnetic_forces"][rows], expected["magnetic_forces"], atol=tolerance)
        np.testing.assert_allclose(out["magmoms"][rows], expected["magmoms"], atol=tolerance)


def with_calculator(structures: list[Atoms], **options) -> list[Atoms]:
    copies = [atoms.copy() for atoms in structures]
    for atoms in copies:
        atoms.calc = MagneticCalculator(potential(), **options)
        atoms.get_potential_energy()
    return copies


@pytest.mark.parametrize("search", [None, "standard_nl"])
def test_many_systems_at_once_equal_the_calculator(search):
    search = search and getattr(torch_sim.neighbors, search)
    state = magnetic_state(STRUCTURES)
    assert state.magnetic_forces.isnan().all()
    out = MagneticModel(potential(), CPU, neighbor_list_fn=search)(state)
    assert_same(out, with_calculator(STRUCTURES))
    torch.testing.assert_close(state.magnetic_forces, out["magnetic_forces"])
    for made, atoms in zip(state.to_atoms(), STRUCTURES, strict=True):
        np.testing.assert_allclose(made.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())


def test_relaxed_moments_equal_the_calculator_and_start_warm():
    options = {"mode": "collinear", "gradient_tolerance": 1e-6}
    model = MagneticModel(potential(), CPU, moments="relaxed", **options)
    state = magnetic_state(STRUCTURES)
    out = model(state)
    assert_same(out, with_calculator(STRUCTURES, moments="relaxed", **options), tolerance=1e-5)
    torch.testing.assert_close(state.magmoms, out["magmoms"])
    first = sum(relaxation.evaluations for relaxation in model.last_relaxation)
    state.positions = state.positions + 1e-4
    model(state)
    assert sum(relaxation.evaluations for relaxation in model.last_relaxation) == 3 < first


def test_float32_free_molecules_and_dictionaries():
    model = MagneticModel(potential(), CPU, dtype=torch.float32)
    assert model.dtype == torch.float32 and potential().config.dtype == "float64"
    exact = with_calculator(STRUCTURES)
    out = model(magnetic_state(STRUCTURES, dtype=torch.float32))
    assert out["forces"].dtype == torch.float32
    np.testing.assert_allclose(out["energy"], [atoms.get_potential_energy() for atoms in exact], atol=3e-5)
    molecule = Atoms("FeNi", positions=[[0, 0, 0], [0, 0, 2.2]], magmoms=[2.0, -0.5])
    state = magnetic_state([molecule, molecule])
    fields = {name: getattr(state, name) for name in ("positions", "cell", "pbc", "atomic_numbers", "system_idx")}
    out = MagneticModel(potential(), CPU)({**fields, "magmoms": state.magmoms})
    molecule.calc = MagneticCalculator(potential())
    np.testing.assert_allclose(out["energy"], molecule.get_potential_energy())
    assert out["stress"].isnan().all()


def test_torch_sims_own_validation():
    for symmetry, start in (("none", None), ("soc", {"Fe": 2.2})):
        model = Potential(PotentialConfig(elements=["Si", "Fe"], hidden="4x0e", symmetry=symmetry, r_max=4.0))
        wrapped = MagneticModel(model, CPU, start=start)
        torch_sim.models.interface.validate_model_outputs(wrapped, CPU, torch.float64)


@pytest.mark.parametrize("moments", ["fixed", "relaxed"])
def test_energy_is_conserved(moments):
    options = {"gradient_tolerance": 1e-4} if moments == "relaxed" else {}
    model = MagneticModel(potential(), CPU, moments=moments, **options)
    state = magnetic_state(STRUCTURES[1:])
    step = torch.tensor(0.5e-3 * torch_sim.units.MetalUnits.time, dtype=torch.float64)
    begin, update = magnetic(torch_sim.nve)(model, dt=step, kT=torch.tensor(0.02, dtype=torch.float64), seed=1)
    state = begin(state)
    kinetic, total = [], []
    for _ in range(20):
        state = update(state)
        kinetic.append(
            torch_sim.calc_kinetic_energy(momenta=state.momenta, masses=state.masses, system_idx=state.system_idx)
        )
        total.append(state.energy + kinetic[-1])
    exchanged = torch.stack(kinetic).amax(0) - torch.stack(kinetic).amin(0)
    drift = torch.stack(total).amax(0) - torch.stack(total).amin(0)
    assert (exchanged > 1e-3).all() and (drift < 0.02 * exchanged).all(), (exchanged, drift)
    if moments == "relaxed":
        assert state.magnetic_forces.abs().max() < 1e-4


def test_fire_lowers_each_energy_and_moments_follow_their_atoms_through_swaps():
    """torch-sim sorts the systems, takes converged ones out and puts others in; each must keep its own moments."""
    structures = [crystal(5), crystal(1), crystal(5), crystal(7, 2)]
    structures[2].set_initial_magnetic_moments(-2.0 * structures[2].get_initial_magnetic_moments())
    model = MagneticModel(potential(), CPU)
    state = magnetic_state(structures)
    before = model(state)["energy"]
    batcher = torch_sim.InFlightAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=6)
    end = torch_sim.optimize(
        system=state,
        model=model,
        optimizer=magnetic(torch_sim.optimizers.fire),
        convergence_fn=torch_sim.generate_force_convergence_fn(0.05, include_cell_forces=False),
        autobatcher=batcher,
        max_steps=60,
    )
    torch.testing.assert_close(end.magmoms, state.magmoms)
    assert (end.energy < before - 1e-3).all()
    torch.testing.assert_close(model(end)["energy"], end.energy)


@pytest.mark.parametrize("name", ["nvt_langevin", "nvt.nvt_nose_hoover", "npt_langevin", "npt.npt_nose_hoover"])
def test_integrators_hand_moments_on(name):
    # torch-sim's Nosé–Hoover chains are for one system alone
    model, start = MagneticModel(potential(), CPU), magnetic_state(STRUCTURES[-1:] if "nose" in name else STRUCTURES)
    options = {"kT": 0.02, "dt": 1e-3, **({"external_pressure": 0.0} if "npt" in name else {})}
    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in options.items()}
    begin, update = magnetic(operator.attrgetter(name)(torch_sim.integrators))(model, **tensors)
    before = start.positions.clone()
    state = update(begin(start))
    torch.testing.assert_close(state.magmoms, start.magmoms)
    assert not torch.equal(state.positions, before)
    torch.testing.assert_close(state.magnetic_forces, model.results["magnetic_forces"])
    torch.testing.assert_close(state.split()[-1].magmoms, start[-1].magmoms)


def test_moments_per_element_need_no_wrapping():
    structures = [atoms.copy() for atoms in STRUCTURES]
    for atoms in structures:
        atoms.set_initial_magnetic_moments([{"Fe": [0, 0, 2.2], "Ni": [0.6, 0, 0]}[each] for each in atoms.symbols])
    model = MagneticModel(potential(), CPU, start={"Fe": 2.2, "Ni": [0.6, 0, 0]})
    kwargs = {"model": model, "integrator": torch_sim.nve, "n_steps": 1, "temperature": 0.0, "timestep": 0.0}
    end = torch_sim.integrate(system=structures, **kwargs)
    np.testing.assert_allclose(end.energy, [a.get_potential_energy() for a in with_calculator(structures)])
    assert set(model.results) >= {"magmoms", "magnetic_forces"}


def test_wrong_inputs_give_one_line():
    model = MagneticModel(potential(), CPU)
    state = magnetic_state(STRUCTURES)
    plain = torch_sim.initialize_state(STRUCTURES, CPU, torch.float64)
    broken = state.clone()
    broken.positions[0, 0] = torch.nan
    flat = state.clone()
    flat.cell[1] = 0.0
    slab = STRUCTURES[0].copy()
    slab.pbc = [True, True, False]
    cases = [
        (lambda: model(plain), "carries no moments.*magnetic_state.*magnetic\\(torch_sim.nve\\)"),
        (lambda: magnetic(torch_sim.nve)(model, dt=torch.tensor(1.0), kT=torch.tensor(0.0))[0](plain), "no moments"),
        (lambda: MagneticModel(potential(), CPU, start={"Fe": 2.0})(state), "leave one of them out"),
        (lambda: model(broken), "finite numbers.*smaller time step"),
        (lambda: model(flat), "without volume"),
        (lambda: model(magnetic_state(bulk("Co"))), "does not know the element Co"),
        (lambda: magnetic_state(slab), "pbc must be all True or all False"),
        (lambda: magnetic_state(STRUCTURES, moments=[1.0, 2.0]), r"shape \[2\]; the batch has 12 atoms"),
        (lambda: magnetic_state(STRUCTURES, moments={"Xx": 1.0}), "'Xx' is not a chemical symbol"),
        (lambda: magnetic_state(STRUCTURES, moments={"Fe": [1.0, 2.0]}), "one or three"),
        (lambda: magnetic_state(plain), "give moments"),
        (lambda: magnetic_state("a.cif"), "must be ASE atoms"),
        (lambda: MagneticModel(potential(), CPU, moments="relax"), "did you mean 'relaxed'"),
        (lambda: MagneticModel(potential(), CPU, moments="relaxed", mod="full"), "did you mean 'mode'"),
        (lambda: MagneticModel(potential(), CPU, mode="full"), "only means something with moments='relaxed'"),
        (lambda: MagneticModel(potential(), CPU, start=[2.0]), "start gives moments per element"),
        (lambda: MagneticModel(potential(), CPU, dtype=torch.float16), "torch.float32 or torch.float64"),
        (lambda: MagneticModel(potential("none"), CPU, moments="relaxed"), "has no moments"),
    ]
    for call, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_without_torch_sim_the_extra_is_named():
    code = "import sys; sys.modules['torch_sim'] = None\nimport mmace.torch_sim"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "UserError" in last and "pip install mmace-flows[torch-sim]" in last
