"""Settings of Quantum ESPRESSO, and which pseudopotential an element gets."""

import hashlib

import numpy as np
import pytest
from espresso_folder import write_upf_1, write_upf_2
from pydantic import ValidationError

from mmace.errors import UserError
from mmace_flows.labels.engine import get_engine
from mmace_flows.labels.espresso_engine import EspressoEngine
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.pseudopotentials import choose, read_header
from mmace_flows.schemas.label import label_key
from mmace_flows.structures.base_cells import bain_structure

ITERATIONS = {"mixing", "diagonalization", "max_iterations"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MMACE_PSEUDO_DIR", str(tmp_path))
    write_upf_2(tmp_path / "Fe.small.UPF", "Fe", kind="US", valence=8.0, functional=" SLA  PW   PBE  PBE")
    write_upf_2(tmp_path / "Fe.semicore.upf", "Fe", kind="PAW", valence=16.0, functional=" SLA  PW   PBX  PBC")
    write_upf_2(tmp_path / "Fe.lda.UPF", "Fe", valence=16.0, functional=" SLA  PZ   NOGX NOGC")
    write_upf_1(tmp_path / "Fe.rel.UPF", "Fe", relativistic=True)
    write_upf_1(tmp_path / "Pt.rel.UPF", "Pt", relativistic=True)
    return tmp_path


def test_presets_are_the_stated_ones():
    paper = EspressoSettings.paper()
    assert (paper.cutoff, paper.xc) == (816.0, "PBE")
    # 0.29 Å⁻¹ with the 2π on the 3.9 Å cubic cell: 2π/3.9/0.29 = 5.6 points
    assert paper.grid(np.eye(3) * 3.9) == (6, 6, 6)
    assert EspressoSettings.small(kpoints=(2, 2, 2)).kpoint_spacing is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kpoints": (2, 2, 2), "kpoint_spacing": 0.1}, "exactly one"),
        ({"kpoints": (0, 2, 2)}, "at least 1"),
        ({"kpoints": (2, 2, 2), "cutoff": 500.0, "density_cutoff": 1000.0}, "four times"),
        ({"kpoints": (2, 2, 2), "fix_total_magmom": True, "spin_orbit": True}, "collinear"),
        ({"kpoints": (2, 2, 2), "pseudopotentials": {"Fe": "../Fe.UPF"}}, "without folder"),
        ({"kpoints": (2, 2, 2), "cutof": 500.0}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        EspressoSettings(**changes)


def test_a_second_attempt_changes_iterations_and_nothing_else():
    for settings in (EspressoSettings.small(), EspressoSettings.paper(constraint="atomic")):
        before, after = settings.model_dump(), settings.safer().model_dump()
        assert {name for name in before if before[name] != after[name]} == ITERATIONS
        assert settings.safer().mixing.beta < settings.mixing.beta


def test_even_grids_avoid_gamma_unless_asked():
    assert EspressoSettings(kpoints=(4, 3, 1)).grid_shift((4, 3, 1)) == (1, 0, 0)
    assert EspressoSettings(kpoints=(4, 3, 1), gamma=True).grid_shift((4, 3, 1)) == (0, 0, 0)


def test_headers_of_both_versions_are_read(folder):
    soft, old = read_header(folder / "Fe.small.UPF"), read_header(folder / "Pt.rel.UPF")
    assert (soft.element, soft.kind, soft.functional, soft.valence, soft.relativistic) == ("Fe", "US", "PBE", 8, False)
    assert (old.element, old.kind, old.functional, old.valence, old.relativistic) == ("Pt", "US", "PBE", 10, True)


def test_the_file_with_semicore_states_of_the_right_functional_is_chosen(folder):
    assert choose(folder, "Fe", "PBE", spin_orbit=False).name == "Fe.semicore.upf"
    assert choose(folder, "Fe", "PBE", spin_orbit=True).name == "Fe.rel.UPF"
    assert choose(folder, "Fe", "LDA", spin_orbit=False).name == "Fe.lda.UPF"
    with pytest.raises(UserError, match=r"no fully relativistic LDA .* for Fe.*Fe\.lda\.UPF \(LDA, scalar\)"):
        choose(folder, "Fe", "LDA", spin_orbit=True)
    # pw.x averages fully relativistic files over the spin only if they are norm-conserving
    with pytest.raises(UserError, match=r"no scalar relativistic PBE pseudopotential for Pt.*Pt\.rel\.UPF"):
        choose(folder, "Pt", "PBE", spin_orbit=False)
    write_upf_2(folder / "Pt.dojo.upf", "Pt", valence=18.0, relativistic=True)
    assert choose(folder, "Pt", "PBE", spin_orbit=False).name == "Pt.dojo.upf"
    with pytest.raises(UserError, match=r"no scalar relativistic PBE pseudopotential for Ni.*MMACE_PSEUDO_DIR"):
        choose(folder, "Ni", "PBE", spin_orbit=False)


def test_hashes_of_the_files_are_part_of_the_key_and_only_of_elements_that_are_there(folder):
    settings = EspressoSettings(kpoints=(2, 2, 2), pseudopotentials={"Fe": "Fe.small.UPF", "Pt": "Pt.UPF"})
    engine = EspressoEngine.for_elements(settings, ["Fe", "Fe"])
    digest = hashlib.sha256((folder / "Fe.small.UPF").read_bytes()).hexdigest()
    assert engine.settings_dict()["pseudopotentials"] == {"Fe": {"file": "Fe.small.UPF", "sha256": digest}}
    structure = bain_structure(11.4, 1.0, "FM")
    key = label_key(structure, "espresso", engine.settings_dict())
    write_upf_2(folder / "Fe.small.UPF", "Fe", kind="US", valence=8.0, functional="PBE")
    changed = EspressoEngine.for_elements(settings, ["Fe"])
    assert label_key(structure, "espresso", changed.settings_dict()) != key
    # the document's settings mean the old file, which is gone
    with pytest.raises(UserError, match=r"is not the pseudopotential that the settings mean.*MMACE_PSEUDO_DIR"):
        get_engine("espresso", engine.settings_dict())
    assert get_engine("espresso", changed.settings_dict()).settings_dict() == changed.settings_dict()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Fe.none.UPF", "no such pseudopotential for Fe"),
        ("Pt.rel.UPF", "is a pseudopotential of Pt, not of Fe"),
        ("Fe.lda.UPF", "made for LDA, but xc is PBE"),
        ("Fe.cut.UPF", "cut short"),
        ("Fe.text.UPF", "not a UPF pseudopotential"),
    ],
)
def test_a_wrong_or_broken_file_is_one_clear_line(folder, name, message):
    whole = (folder / "Fe.small.UPF").read_text()
    (folder / "Fe.cut.UPF").write_text(whole[: whole.index("</UPF>")])
    (folder / "Fe.text.UPF").write_text("hello\n")
    settings = EspressoSettings(kpoints=(2, 2, 2), pseudopotentials={"Fe": name})
    with pytest.raises(UserError, match=message) as caught:
        EspressoEngine.for_elements(settings, ["Fe"])
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_spin_orbit_wants_relativistic_files(folder):
    settings = EspressoSettings(kpoints=(2, 2, 2), spin_orbit=True, pseudopotentials={"Fe": "Fe.semicore.upf"})
    with pytest.raises(UserError, match="not fully relativistic, but spin_orbit is on"):
        EspressoEngine.for_elements(settings, ["Fe"])
    settings = EspressoSettings(kpoints=(2, 2, 2), pseudopotentials={"Fe": "Fe.rel.UPF"})
    with pytest.raises(UserError, match="fully relativistic, but spin_orbit is off"):
        EspressoEngine.for_elements(settings, ["Fe"])


def test_without_a_folder_the_mend_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MMACE_PSEUDO_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"MMACE_PSEUDO_DIR: .*nowhere is no folder"):
        EspressoEngine.for_elements(EspressoSettings(kpoints=(2, 2, 2)), ["Fe"])
    monkeypatch.delenv("MMACE_PSEUDO_DIR")
    monkeypatch.setattr("mmace_flows.labels.pseudopotentials.DEBIAN_FOLDER", tmp_path / "neither")
    with pytest.raises(UserError, match="apt-get install quantum-espresso-data"):
        EspressoEngine.for_elements(EspressoSettings(kpoints=(2, 2, 2)), ["Fe"])
