"""What is written is what is read, to the last digit, in every format that is written."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import configurations, same, sample, written

from mmace.data import iterate, open_writer
from mmace.errors import UserError

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(configurations(), min_size=1, max_size=4))
def test_extended_xyz(tmp_path, data):
    path = written(tmp_path / "data.extxyz", data, overwrite=True)
    for one, other in zip(data, iterate(path), strict=True):
        same(one, other)


@quick
@given(st.lists(configurations(periodic=True), min_size=1, max_size=4))
def test_mlip_cfg(tmp_path, data):
    path = written(tmp_path / "data.cfg", data, overwrite=True)
    for one, other in zip(data, iterate(path), strict=True):
        same(one, other, digits=12)  # the virial is the stress times the volume


@quick
@given(st.lists(configurations(), min_size=1, max_size=6, unique_by=lambda c: c.positions.tobytes()))
def test_deepmd_folders(tmp_path, data):
    path = written(tmp_path / "folder", data, "deepmd_spin", overwrite=True)
    found = {configuration.positions.tobytes(): configuration for configuration in iterate(path)}
    assert len(found) == len(data)
    for one in data:
        same(one, found[one.positions.tobytes()], digits=12)


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
values = st.one_of(
    words.map(lambda text: "a" + text), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False)
)


@quick
@given(st.dictionaries(st.from_regex(r"[a-z_]{2,8}", fullmatch=True), values, max_size=4), st.floats(0.01, 100))
def test_what_else_is_known_of_a_configuration_stays_with_it(tmp_path, info, weight):
    info.pop("pbc", None)
    one = sample(weight=weight)
    one.info, one.arrays = dict(info), {"charge": np.array([0.25, -1.5]), "tag": np.array(["a", "b"])}
    (other,) = iterate(written(tmp_path / "data.extxyz", [one], overwrite=True))
    assert other.info == info
    assert other.weight == weight
    np.testing.assert_array_equal(other.arrays["charge"], one.arrays["charge"])
    assert other.arrays["tag"].tolist() == ["a", "b"]


@pytest.mark.parametrize("name", ["data.extxyz", "data.cfg"])
def test_head_weight_and_features(tmp_path, name):
    one = sample(head="r2SCAN", weight=0.25)
    one.info = {"parent": "mp-13", "step": 4}
    (other,) = iterate(written(tmp_path / name, [one]))
    same(one, other, digits=12)
    assert other.info == one.info
    with pytest.raises(UserError, match="a head or a weight"):
        written(tmp_path / "folder", [one], "deepmd_spin")


def test_text_with_blanks_quotes_and_backslashes_stays(tmp_path):
    one = sample()
    one.info = {"source": 'folder one/a "b" \\c=d', "flag": True, "steps": 3}
    path = written(tmp_path / "data.extxyz", [one])
    assert next(iterate(path)).info == one.info
    assert ase.io.read(path).info["source"] == one.info["source"]


def test_ase_reads_what_is_written(tmp_path):
    one = sample(3)
    atoms = ase.io.read(written(tmp_path / "data.extxyz", [one]))
    np.testing.assert_array_equal(atoms.positions, one.positions)
    np.testing.assert_array_equal(np.asarray(atoms.cell), one.cell)
    np.testing.assert_array_equal(atoms.arrays["REF_magmom"], one.magmoms)
    np.testing.assert_array_equal(atoms.arrays["REF_magforces"], one.magnetic_forces)
    np.testing.assert_array_equal(np.reshape(atoms.info["REF_stress"], (3, 3)), one.stress)
    assert atoms.info["REF_energy"] == one.energy


@pytest.mark.parametrize("name", ["data.extxyz.gz", "data.cfg.gz"])
def test_compressed(tmp_path, name):
    path = written(tmp_path / name, [sample(1), sample(2)])
    assert gzip.open(path).read(3)
    for one, other in zip([sample(1), sample(2)], iterate(path), strict=True):
        same(one, other, digits=12)


def test_large_systems_are_written_in_several_sets(tmp_path, monkeypatch):
    monkeypatch.setattr("mmace.data.writing.SET_SIZE", 3)
    data = [sample(seed) for seed in range(8)]
    path = written(tmp_path / "folder", data, "deepmd_spin", elements=("Ni", "Fe"))
    (system,) = path.iterdir()
    assert sorted(p.name for p in system.glob("set.*")) == ["set.000", "set.001", "set.002"]
    assert (system / "type_map.raw").read_text().split() == ["Ni", "Fe"]
    assert (system / "type.raw").read_text().split() == ["1", "0"]
    for one, other in zip(data, iterate(path), strict=True):
        same(one, other, digits=12)


def test_a_failed_writing_leaves_nothing_and_what_was_there(tmp_path):
    for name, format in (("data.cfg", None), ("folder", "deepmd_spin")):
        path = written(tmp_path / name, [sample(1)], format)
        slab = sample(2, labels=(), pbc=[True, True, False])
        with pytest.raises(UserError, match="periodic"):
            written(path, [sample(3), slab], format, overwrite=True)
        same(next(iterate(path)), sample(1), digits=12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.cfg", "folder"]


def test_nothing_is_overwritten_unasked(tmp_path):
    path = written(tmp_path / "data.extxyz", [sample(1)])
    with pytest.raises(UserError, match=r"is there already; .*--overwrite"), open_writer(path):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else"):
        written(tmp_path / "mine", [sample(1)], "deepmd_spin", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("data.json", None, "matpes_json is only read; write extxyz, mlip_cfg, deepmd_spin"),
        ("data", None, "which format"),
        ("data.extxyz", "mlip_cgf", "unknown format 'mlip_cgf'; did you mean 'mlip_cfg'"),
    ],
)
def test_targets_that_cannot_be(tmp_path, name, format, message):
    with pytest.raises(UserError, match=message):
        written(tmp_path / name, [sample(1)], format)
    assert list(tmp_path.iterdir()) == []
