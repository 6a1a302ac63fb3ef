"""What pw.x 6.7 printed, as it printed it: only lines that nothing reads are left out."""

import numpy as np
import pytest
from ase.units import Bohr, Hartree, Rydberg

from mmace_flows.labels.espresso_output import (
    OutputError,
    find_failure,
    read_exact_magnetism,
    read_output,
    read_version,
    version_number,
)

HEAD = """
     Program PWSCF v.6.7MaX starts on 23Nov2026 at  2:34:26
     number of Kohn-Sham states=           12
     number of k points=     2  Fermi-Dirac smearing, width (Ry)=  0.0110
     Dense  grid:     9771 G-vectors     FFT dimensions: (  27,  30,  32)
     Smooth grid:     3407 G-vectors     FFT dimensions: (  20,  20,  20)
     new r_m :   0.3515 (alat units)  1.9062 (a.u.) for type    1
     total energy              =    -111.62097362 Ry
     estimated scf accuracy    <       0.50544057 Ry
     total magnetization       =     4.00 Bohr mag/cell
     total energy              =    -111.68470841 Ry
     estimated scf accuracy    <       0.00000002 Ry
"""
COLLINEAR = """
     Magnetic moment per site:
     atom:    1    charge:    6.3942    magn:    2.0623    constr:    0.0000
     atom:    2    charge:    6.3938    magn:   -2.0626    constr:    0.0000
"""
VECTORS = """
 ==============================================================================
     atom number    1 relative position :    0.0000   0.0000   0.0000
     charge :     6.393620
     magnetization :          0.020134    0.000020    2.212392
     magnetization/charge:    0.003149    0.000003    0.346031
     polar coord.: r, theta, phi [deg] :     2.212484    0.521410    0.056329
     constrained moment :     0.000000    0.000000    2.200000

 ==============================================================================
     atom number    2 relative position :    0.5070   0.5174   0.5000
     charge :     6.398672
     magnetization :          1.495798   -0.000010    1.525176
     magnetization/charge:    0.233767   -0.000002    0.238358
     polar coord.: r, theta, phi [deg] :     2.136252   44.442817   -0.000390
     constrained moment :     1.500000    0.000000    1.500000
"""
TAIL = """
!    total energy              =    -111.68470853 Ry
     estimated scf accuracy    <          1.4E-09 Ry
     smearing contrib. (-TS)   =      -0.01129635 Ry
     internal energy E=F+TS    =    -111.67341217 Ry
     total magnetization       =     TOTAL Bohr mag/cell
     absolute magnetization    =     4.28 Bohr mag/cell
     convergence has been achieved in  16 iterations

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.00452302    0.01138232   -0.00000001
     atom    2 type  1   force =    -0.00452302   -0.01138232    0.00000001
     The non-local contrib.  to forces
     atom    1 type  1   force =     9.00452302    0.01138232    0.00000000
     atom    2 type  1   force =    -9.00452302   -0.01138232    0.00000000

          total   stress  (Ry/bohr**3)                   (kbar)     P=     -183.26
  -0.00124464   0.00000855   0.00000003         -183.09        1.26        0.00
   0.00000855  -0.00124893   0.00000002            1.26     -183.72        0.00
   0.00000003   0.00000002  -0.00124384            0.00        0.00     -182.98
   JOB DONE.
"""
ONE = HEAD + COLLINEAR + TAIL.replace("TOTAL", "4.01")
# moments of an earlier iteration come first, and must not be taken
TWO = HEAD + VECTORS.replace("2.212392", "9.0") + VECTORS + TAIL.replace("TOTAL", "1.50     0.00     3.70")


def error_of(routine, message):
    frame = " %%%%%%%%%%%%%%\n"
    return f"{HEAD}\n{frame}     Error in routine {routine} (1):\n     {message}\n{frame}\n     stopping ...\n"


def test_numbers_in_the_units_of_the_project():
    result = read_output(ONE, 2, "collinear")
    assert result.free_energy == pytest.approx(-111.68470853 * Rydberg)
    assert result.smearing_energy == pytest.approx(-0.01129635 * Rydberg)
    assert result.forces[0] == pytest.approx(np.array([0.00452302, 0.01138232, -1e-8]) * Rydberg / Bohr)
    # pw.x prints the force per area that the cell exerts: a negative pressure is a positive stress of ASE
    assert result.stress[0, 0] == pytest.approx(183.09 * 0.1 / 160.2177, rel=1e-4)
    assert result.stress[0, 1] == result.stress[1, 0] < 0
    assert (result.iterations, result.kpoints, result.bands, result.density_grid) == (16, 2, 12, (27, 30, 32))
    assert result.energies == pytest.approx([-111.62097362 * Rydberg, -111.68470841 * Rydberg])
    assert result.accuracies == pytest.approx(np.array([0.50544057, 2e-8, 1.4e-9]) * Rydberg)
    assert result.sphere_radius == pytest.approx(1.9062 * Bohr)


def test_moments_of_every_site_are_vectors():
    one, two = read_output(ONE, 2, "collinear"), read_output(TWO, 2, "non-collinear")
    assert one.magmoms.tolist() == [[0, 0, 2.0623], [0, 0, -2.0626]] and one.total_magmom.tolist() == [0, 0, 4.01]
    assert two.magmoms.tolist() == [[0.020134, 0.00002, 2.212392], [1.495798, -0.00001, 1.525176]]
    assert two.targets.tolist() == [[0, 0, 2.2], [1.5, 0, 1.5]] and two.total_magmom.tolist() == [1.5, 0.0, 3.7]
    none = read_output(HEAD + TAIL, 2, "non-collinear")  # spin–orbit coupling without moments
    assert not none.magmoms.any() and none.targets is None and not none.total_magmom.any()
    assert read_output(HEAD + TAIL, 2, "spin-paired").magmoms is None


@pytest.mark.parametrize(
    ("text", "atoms", "what"),
    [
        (ONE.replace("!    total", "total"), 2, "total energy"),
        (ONE.replace("magn:    2.0623", "magn: ********"), 2, "moment for every site"),
        (ONE, 3, "forces"),
        (ONE.split("-183.09")[0], 2, "stress"),
        (ONE.replace("Dense", "Other"), 2, "grid"),
    ],
)
def test_an_output_with_a_hole_is_no_result(text, atoms, what):
    with pytest.raises(OutputError, match=what):
        read_output(text, atoms, "collinear")


def test_a_converged_run_has_no_failure_and_a_cut_one_has():
    assert find_failure(ONE) is None
    assert find_failure(HEAD).message == "pw.x stopped in the middle"
    missed = find_failure(HEAD + "     convergence NOT achieved after 150 iterations: stopping\n   JOB DONE.\n")
    assert (missed.reason, missed.message) == ("scf", "not converged in 150 iterations")


@pytest.mark.parametrize(
    ("routine", "message", "reason"),
    [
        ("readpp", "file Fe.UPF not found", "pseudopotential"),
        ("c_bands", "too many bands are not converged", "scf"),
        ("cdiaghg", "S matrix not positive definite", "scf"),
        ("check_atoms", "atoms #   1 and #   2 overlap!", "geometry"),
        ("davcio", "error writing file ./pw.wfc1", "disk"),
        ("electrons", "charge is wrong: smearing is needed", "scf"),
        ("setup", "something else", "other"),
    ],
)
def test_errors_are_told_apart(routine, message, reason):
    found = find_failure(error_of(routine, message))
    assert found.reason == reason and " ".join(message.split()) in found.message and "\n" not in found.message


def test_a_full_disk_is_seen_in_what_fortran_says():
    assert find_failure(HEAD, "Fortran runtime error: No space left on device").reason == "disk"


def test_versions():
    assert read_version(HEAD) == "6.7MaX" and version_number("6.7MaX") == (6, 7)
    assert version_number("7.3.1") == (7, 3, 1) and version_number("6.4.1") <= (7, 3, 1)
    assert read_version("hello") is None


def test_the_xml_file_has_all_digits(tmp_path):
    result = read_output(ONE, 2, "collinear")
    path = tmp_path / "data-file-schema.xml"
    text = (
        "<espresso><output><convergence_info><scf_conv><n_scf_steps>16</n_scf_steps></scf_conv></convergence_info>"
        "<magnetization><lsda>true</lsda><total>4.0123456</total></magnetization><band_structure>"
        "<two_fermi_energies>0.5 0.4</two_fermi_energies></band_structure></output></espresso>"
    )
    path.write_text(text)
    read_exact_magnetism(path, result)
    assert result.total_magmom.tolist() == [0, 0, 4.0123456]
    assert result.fermi_levels == pytest.approx((0.5 * Hartree, 0.4 * Hartree))
    path.write_text(text.replace(">16<", ">3<"))
    with pytest.raises(OutputError, match="another run"):
        read_exact_magnetism(path, result)
