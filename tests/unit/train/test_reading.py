"""Extended-XYZ files: what is read, what is refused and how it is said."""

from __future__ import annotations

import logging

import ase.io
import numpy as np
import pytest

from mmace.errors import UserError
from mmace.train import check_elements, check_moments, read_configurations

HEADER = '2\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:REF_magmom:R:3 REF_energy=-1.0 pbc="T T T"\n'
ROWS = "Fe 0 0 0 0 0 2\nNi 1.5 1.5 1.5 0 0 0.6\n"


def refused(path, **arguments) -> str:
    """The one line that a bad file is refused with."""
    with pytest.raises(UserError) as caught:
        read_configurations(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_round_trip(tmp_path, iron):
    second = iron.copy()
    del second.arrays["REF_forces"], second.info["REF_stress"]
    ase.io.write(tmp_path / "data.extxyz", [iron, second], format="extxyz")
    first, other = read_configurations(tmp_path / "data.extxyz")
    assert first.energy == -16.5
    np.testing.assert_allclose(first.magmoms, iron.arrays["REF_magmom"])
    np.testing.assert_allclose(first.forces, iron.arrays["REF_forces"])
    np.testing.assert_allclose(first.stress, iron.info["REF_stress"].reshape(3, 3))
    np.testing.assert_allclose(first.magnetic_forces, iron.arrays["REF_magforces"])
    assert other.forces is None
    assert other.stress is None
    assert first.name == f"{tmp_path / 'data.extxyz'}: configuration 0 (line 1)"
    assert other.name == f"{tmp_path / 'data.extxyz'}: configuration 1 (line 5)"


def test_one_column_is_collinear_along_z_and_said_once(tmp_path, iron, caplog):
    iron.arrays["REF_magmom"] = np.array([2.2, -2.1])
    ase.io.write(tmp_path / "data.extxyz", [iron] * 3, format="extxyz")
    with caplog.at_level(logging.WARNING, logger="mmace"):
        configurations = read_configurations(tmp_path / "data.extxyz")
    np.testing.assert_allclose(configurations[2].magmoms, [[0, 0, 2.2], [0, 0, -2.1]])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'data.extxyz'}: 'REF_magmom' has one column in 3 of 3 configurations; taken as collinear along z"
    ]


def test_keys_that_ase_moves_to_a_calculator(tmp_path, iron):
    renamed = iron.copy()
    for old, new in (("REF_magmom", "magmoms"), ("REF_forces", "forces")):
        renamed.arrays[new] = renamed.arrays.pop(old)
    energy, stress = renamed.info.pop("REF_energy"), renamed.info.pop("REF_stress")
    path = tmp_path / "data.extxyz"
    ase.io.write(path, renamed, format="extxyz")
    text = path.read_text().split("\n")
    text[1] += f' energy={energy} stress="{" ".join(str(x) for x in stress)}"'
    path.write_text("\n".join(text))
    assert "the file has 'magmoms': read it with the key magmoms=magmoms" in refused(path)
    assert "the file has 'energy': read it with the key energy=energy" in refused(path, keys={"magmoms": "magmoms"})
    keys = {"magmoms": "magmoms", "energy": "energy", "forces": "forces", "stress": "stress"}
    (configuration,) = read_configurations(path, keys)
    assert configuration.energy == energy
    np.testing.assert_allclose(configuration.stress, stress.reshape(3, 3))
    np.testing.assert_allclose(configuration.forces, iron.arrays["REF_forces"])
    np.testing.assert_allclose(configuration.magmoms, iron.arrays["REF_magmom"])


def test_unknown_field_in_keys(tmp_path):
    with pytest.raises(UserError, match="unknown field 'spin'"):
        read_configurations(tmp_path / "data.extxyz", {"spin": "magmoms"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no configurations in the file"),
        ("\n\n", "no configurations in the file"),
        ("Fe 0 0 0\n", r"configuration 0 (line 1): not extended XYZ: expected the number of atoms, found 'Fe 0 0 0'"),
        ("2\nplain comment\nFe 0 0 0\nNi 1 1 1\n", "configuration 0 (line 2): not extended XYZ: no 'Properties='"),
        (HEADER + ROWS + HEADER + "Fe 0 0 0 0 0 2\n", "configuration 1 (line 5): the file ends after 1 of 2 atoms"),
        (HEADER + ROWS + HEADER, "configuration 1 (line 5): the file ends after 0 of 2 atoms"),
        (HEADER + ROWS + HEADER.replace("-1.0", "nan") + ROWS, "configuration 1 (line 5): energy contains NaN"),
        (HEADER + ROWS.replace("0.6", "nan"), "configuration 0 (line 1): magmoms contains NaN"),
        (HEADER + ROWS.replace("0.6", "inf"), "configuration 0 (line 1): magmoms contains NaN or infinity"),
        (HEADER + ROWS.replace("0.6", "x"), "configuration 0 (line 1): not valid extended XYZ"),
        (HEADER.replace("REF_energy=-1.0", "REF_energy") + ROWS, "configuration 0 (line 1): energy is not numbers"),
        (HEADER.replace("REF_energy=-1.0", "") + ROWS, "no energy under 'REF_energy' in any configuration"),
        (HEADER.replace("REF_magmom", "DFT_magmom") + ROWS, "(line 1): no moments under 'REF_magmom'; the file has"),
        (HEADER.replace("REF_magmom", "velo") + ROWS, "no moments under 'REF_magmom'; add REF_magmom:R:3"),
        (HEADER.replace("pbc", 'REF_stress="1 2 3 4" pbc') + ROWS, "stress has shape (4,)"),
        (HEADER.replace("REF_magmom:R:3", "REF_magmom:R:2:x:R:1") + ROWS, "magmoms has shape (2, 2)"),
        (HEADER + ROWS.replace("Ni", "Qq"), "not valid extended XYZ"),
        (
            HEADER.replace("-1.0", '"-1.0 -2.0"') + ROWS,
            "configuration 0 (line 1): energy must be one number per configuration, found 2 numbers",
        ),
        (
            HEADER + ROWS + HEADER + ROWS.replace("0.6", "-21"),
            "configuration 1 (line 5): magmoms of atom 1 (Ni) is 21 μB, more than 20 μB; check units",
        ),
        (
            HEADER.replace("REF_magmom:R:3", "REF_magmom:R:3:REF_forces:R:3")
            + "Fe 0 0 0 0 0 2 0 0 -1001\nNi 1.5 1.5 1.5 0 0 0.6 1 1 1\n",
            "configuration 0 (line 1): forces of atom 0 (Fe) is 1001 eV/Å, more than 1000 eV/Å; check units",
        ),
        (
            HEADER + ROWS.replace("1.5 1.5 1.5", "0 0 0.05"),
            "configuration 0 (line 1): atom 0 (Fe) and atom 1 (Ni) are 0.050 Å apart, less than 0.1 Å; correct",
        ),
        (
            HEADER + ROWS + HEADER + ROWS.replace("1.5 1.5 1.5", "3 3 2.96"),
            "configuration 1 (line 5): atom 0 (Fe) and atom 1 (Ni) are 0.040 Å apart through the cell's boundary",
        ),
        (
            HEADER.replace("3 0 0 0 3 0 0 0 3", "3 0 0 3 0 0 0 0 3") + ROWS,
            "configuration 0 (line 1): the cell is periodic but its vectors span no volume",
        ),
        (
            HEADER.replace("3 0 0 0 3 0 0 0 3", "0.05 0 0 0 3 0 0 0 3") + ROWS,
            "configuration 0 (line 1): atom 0 (Fe) and atom 0 (Fe) are 0.050 Å apart through the cell's boundary",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.extxyz"
    path.write_text(text)
    assert message in refused(path)


def test_missing_and_binary_files_are_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "missing.extxyz")
    assert "is a folder; give" in refused(tmp_path)
    (tmp_path / "binary.extxyz").write_bytes(b"\xff\xfe\x00\x80")
    assert "not a text file" in refused(tmp_path / "binary.extxyz")


def test_unknown_element_is_named(make_data):
    data = make_data(2)
    check_elements(data, ["Ni", "Fe", "O"])
    with pytest.raises(UserError, match=r"random:0: element Ni is not known to the model \(it knows Fe\)"):
        check_elements(data, ["Fe"])


def test_moments_beyond_the_range_are_warned_of(make_data, caplog):
    data = make_data(3)
    data[1].magmoms[0] = [0, 5.0, 0]
    with caplog.at_level(logging.WARNING, logger="mmace"):
        check_moments(data, {"Fe": 4.0, "Ni": 4.0})
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "moments of Fe reach 5.00 μB in the data but the model is made for at most 4.00 μB"
    ]


def test_limits_of_distances_hold_only_where_the_cell_is_periodic(tmp_path):
    path = tmp_path / "open.extxyz"
    rows = ROWS.replace("1.5 1.5 1.5", "0 0 2.95")
    path.write_text(HEADER.replace("T T T", "F F F") + rows)
    assert len(read_configurations(path)) == 1
    path.write_text(HEADER.replace("T T T", "T T F") + rows)
    assert len(read_configurations(path)) == 1
    path.write_text(HEADER.replace('Lattice="3 0 0 0 3 0 0 0 3" ', "").replace("T T T", "F F F") + rows)
    assert len(read_configurations(path)) == 1
    path.write_text(HEADER + rows)
    assert "0.050 Å apart" in refused(path)
