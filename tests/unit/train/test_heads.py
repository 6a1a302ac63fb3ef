"""Several levels of theory in one model: heads in data, E0 of each, training, errors, and one head alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmace import MagneticCalculator, Potential, build_graph, load, model_hash, save
from mmace.errors import UserError
from mmace.heads import single_head, with_heads
from mmace.train import TrainingConfig, errors_of_heads, evaluate_configurations, predict, read_configurations, train
from mmace.train.atomic_energies import isolated_atom_energies, set_atomic_energies
from mmace.train.heads import heads_of_data

from .conftest import isolated_atom, small_config

OFFSET = {26: 1.5, 28: -0.7}  # eV per atom between the two levels of theory


def two_levels(make_data, count: int = 12, factor: float = 1.3):
    """Structures labelled by the teacher, and again with other atomic energies and a stiffer interaction."""
    low = make_data(count)
    high = copy.deepcopy(low)
    for configuration in high:
        atoms = -8.0 - 5.0
        configuration.head = "high"
        configuration.energy = factor * (configuration.energy - atoms) + atoms + OFFSET[26] + OFFSET[28]
        for name in ("forces", "stress", "magnetic_forces"):
            setattr(configuration, name, factor * getattr(configuration, name))
    return low, high


def two_headed(seed: int = 3) -> Potential:
    model = Potential(small_config(heads=("low", "high"), seed=seed))
    model.set_atomic_energies({"Fe": -8.0, "Ni": -5.0}, "low")
    model.set_atomic_energies({"Fe": -6.5, "Ni": -5.7}, "high")
    return model


def test_heads_come_from_the_data_in_their_order(make_data):
    low, high = two_levels(make_data, 2)
    assert heads_of_data(low) == ("default",)
    assert heads_of_data([*high, *low]) == ("default", "high")
    named = [replace(c, head="pbe") for c in low]
    assert heads_of_data([*named, *high]) == ("pbe", "high")


def test_head_is_read_from_extended_xyz_and_written(tmp_path, make_data):
    from mmace.data.extxyz import to_text

    low, high = two_levels(make_data, 2)
    (tmp_path / "data.extxyz").write_text("".join(to_text(c) for c in [*low, *high]))
    assert [c.head for c in read_configurations(tmp_path / "data.extxyz")] == [None, None, "high", "high"]


def test_a_second_head_learns_offset_and_difference(tmp_path, make_data):
    low, high = two_levels(make_data)
    config = TrainingConfig(epochs=40, batch_size=4, schedule="cosine", learning_rate=0.02, num_threads=1)
    result = train(small_config(seed=1), config, [*low, *high], [*low, *high], tmp_path)
    model = result.model
    assert model.config.heads == ("default", "high")
    difference = (model.atomic_energies[1] - model.atomic_energies[0]).sum()
    assert float(difference) == pytest.approx(OFFSET[26] + OFFSET[28], abs=0.3)
    predictions = predict(model, [*low, *high])
    errors = errors_of_heads(predictions, [*low, *high], model.config.heads)
    swapped = errors_of_heads(predict(model, [replace(c, head="high") for c in low]), low, model.config.heads)
    spread = float(np.std([c.energy / 2 for c in high]))
    for head in ("default", "high"):
        assert errors[head]["all"]["count"] == 12
        assert errors[head]["all"]["energy_rmse"] < 0.5 * spread
        assert errors[head]["all"]["forces_rmse"] < 0.5 * np.sqrt(np.mean([np.square(c.forces) for c in low]))
    # the heads are no copies: the other one's answer is off by the offset
    assert swapped["default"]["all"]["energy_rmse"] > 3 * errors["default"]["all"]["energy_rmse"]
    alone = evaluate_configurations(single_head(model, "high"), [replace(c, head=None) for c in high])
    assert alone["all"]["forces_rmse"] == pytest.approx(errors["high"]["all"]["forces_rmse"], rel=1e-9)


def test_a_single_head_has_the_numbers_of_the_whole(tmp_path, make_data):
    model, (configuration,) = two_headed(), make_data(1)
    atoms = configuration.to_atoms()
    save(model, tmp_path / "model.safetensors")
    for number, head in enumerate(("low", "high")):
        graph = build_graph(atoms, model.config.elements, model.config.r_max, head=number)
        whole = model(graph)
        atoms.calc = MagneticCalculator(tmp_path / "model.safetensors", head=head)
        assert atoms.get_potential_energy() == pytest.approx(float(whole["energy"]), rel=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), whole["forces"].numpy(), rtol=1e-9, atol=1e-12)
        one = load(tmp_path / "model.safetensors", head=head)
        assert one.config.heads == (head,)
        assert torch.equal(one.atomic_energies[0], model.atomic_energies[number])
    assert MagneticCalculator(model).model.config.heads == ("low",)
    with pytest.raises(UserError, match="unknown head 'hihg'; did you mean 'high'"):
        MagneticCalculator(model, head="hihg")
    with pytest.raises(UserError, match=r"model\.safetensors: unknown head 'r2scan'"):
        load(tmp_path / "model.safetensors", head="r2scan")


def test_added_heads_start_as_the_one_they_are_like(make_data):
    model, data = two_headed(), make_data(2)
    more = with_heads(model, ["high", "higher"], like="high")
    assert more.config.heads == ("low", "high", "higher")
    for head, like in (("low", "low"), ("high", "high"), ("higher", "high")):
        one = predict(more, [replace(c, head=head) for c in data])
        other = predict(model, [replace(c, head=like) for c in data])
        assert [p.energy for p in one] == pytest.approx([p.energy for p in other], rel=1e-12)
    assert model_hash(with_heads(model, ["low"])) == model_hash(model)


def test_an_unknown_head_is_refused_where_it_stands(tmp_path, make_data):
    low, high = two_levels(make_data, 3)
    with pytest.raises(UserError, match=r"random:0: head: unknown setting 'high'; known: low"):
        train(small_config(heads=("low",)), TrainingConfig(epochs=1), high, low, tmp_path)


def test_atomic_energies_of_every_head(make_data):
    model = two_headed()
    atoms = [isolated_atom(-3.0), isolated_atom(-3.5), replace(isolated_atom(-2.0), head="high")]
    assert isolated_atom_energies(atoms, 3.5) == {"Fe": -3.5}
    set_atomic_energies(model, "isolated_atoms", [atoms[0], atoms[1], atoms[2]])
    assert model.atomic_energies[:, 0].tolist() == [-3.5, -2.0]
    set_atomic_energies(model, {"Fe": -1.0, "Ni": -2.0}, atoms)
    assert model.atomic_energies.tolist() == [[-1.0, -2.0], [-1.0, -2.0]]
    set_atomic_energies(model, {"low": {"Fe": -1.5}, "high": {"Fe": -2.5}}, atoms)
    assert model.atomic_energies[:, 0].tolist() == [-1.5, -2.5]
    set_atomic_energies(model, "least_squares", [*atoms[:1], *atoms[2:]])
    assert model.atomic_energies[:, 0].tolist() == pytest.approx([-3.0, -2.0])


def test_an_atom_alone_in_a_small_cell_is_not_isolated():
    atom = isolated_atom(-3.0)
    small = replace(atom, cell=2.5 * np.eye(3), pbc=np.ones(3, dtype=bool), energy=-9.0)
    large = replace(atom, cell=12.0 * np.eye(3), pbc=np.ones(3, dtype=bool), energy=-3.2)
    assert isolated_atom_energies([atom, small, large], 5.0) == {"Fe": -3.2}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("isolated_atoms", "no E0 of Ni: no configuration of head low is that atom alone"),
        ({"Fe": -1.0}, "no E0 of Ni: atomic_energies has no value for it"),
        ({"Fe": "much", "Ni": 1.0}, "atomic_energies: Fe: 'much'; give a chemical symbol"),
        ({"Fee": -1.0}, "atomic_energies: Fee: -1.0; give a chemical symbol"),
        ({"lo": {"Fe": 1.0}}, "unknown setting 'lo'; did you mean 'low'"),
    ],
)
def test_atomic_energies_that_cannot_be_had_are_refused(make_data, source, message):
    with pytest.raises(UserError) as caught:
        set_atomic_energies(two_headed(), source, [*make_data(1), isolated_atom()])
    assert message in str(caught.value)
