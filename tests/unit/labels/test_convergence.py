"""Convergence studies with an engine whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from ase.build import bulk
from convergence_engine import ConvergingEngine
from maggma.stores import MemoryStore
from pydantic import ValidationError

from mmace.errors import UserError
from mmace_flows.labels.convergence import PointResults, anisotropy_of, check_probes, judge, probes
from mmace_flows.labels.convergence_run import check_study, expected_costs, run_study
from mmace_flows.labels.convergence_settings import GPA, ConvergenceSettings, tolerances_from
from mmace_flows.labels.convergence_text import settings_file, warning_lines
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument, spin_orbit_key
from mmace_flows.schemas.structure import Candidate, MagneticStructure


def fe(a: float = 2.8, moment: float = 2.2) -> Candidate:
    atoms = bulk("Fe", a=a, cubic=True)
    atoms.set_initial_magnetic_moments(None)
    structure = MagneticStructure.from_atoms(atoms, [moment, moment])
    return Candidate(structure=structure, operation="file", magnetic_state="FM" if moment else "NM")


@pytest.fixture
def stores(monkeypatch):
    made = []

    def get_engine(name, settings, symbols):
        made.append(ConvergingEngine(settings))
        return made[-1]

    monkeypatch.setattr("mmace_flows.labels.batch.get_engine", get_engine)
    labels = MemoryStore(key="label_key")
    labels.connect()
    labels.engines = made
    return labels


SETTINGS = ConvergenceSettings(
    cutoffs=[600, 300, 400, 500],
    kpoints=[0.2, 0.1, 0.05],
    smearings=[0.1, 0.02, 0.01],
    tolerances=tolerances_from("energy=2meV,forces=100meV/A", ["energy", "forces"]),
)


def test_each_parameter_is_chosen_as_the_known_errors_say(stores, tmp_path):
    structures = probes([fe()])
    study = run_study(SETTINGS, structures, stores, None, tmp_path)
    cutoff, kpoints, smearing = study.scans
    assert [point.value for point in cutoff.points] == [300, 400, 500, 600]
    # a difference of energies knows only the difference of the volumes: 6 % of the error
    engine = ConvergingEngine(cutoff.points[0].settings)
    for point in cutoff.points[:-1]:
        errors = [
            [ConvergingEngine(one.settings).error(structure.structure) for structure in structures]
            for one in (point, cutoff.points[-1])
        ]
        assert point.errors["energy"] == pytest.approx(
            abs((errors[0][1] - errors[0][0]) - (errors[1][1] - errors[1][0]))
        )
        assert point.errors["forces"] == pytest.approx(10 * max(np.subtract(*errors)), rel=1e-6)
    # forces are off by 10 eV/Å · 10 e^(−cutoff/50) · 1.1: 270 meV/Å at 300 eV and 37 meV/Å at 400 eV
    assert cutoff.best.value == 400 and cutoff.shown
    assert engine.settings.kpoint_spacing == 0.1 and engine.settings.smearing_width == 0.02  # the middle, until scanned
    assert all(point.settings["cutoff"] == 400 for point in kpoints.points)
    assert all(point.settings["kpoint_spacing"] == kpoints.best.value for point in smearing.points)
    assert study.recommended["cutoff"] == 400 and study.converged
    # the absolute energy falls by 10 meV per eV of cutoff, and nothing is said to be unconverged
    assert study.cutoff_slope == pytest.approx(-0.01, abs=2e-3)


def test_nothing_is_computed_twice(stores, tmp_path):
    structures = probes([fe()])
    first = run_study(SETTINGS, structures, stores, None, tmp_path)
    computed = sum(len(engine.computed) for engine in stores.engines)
    # 4 + 3 + 3 points of two structures; the chosen cutoff and the chosen grid are in two scans each
    assert computed == 2 * (4 + 3 + 3 - 2)
    told = []
    again = run_study(SETTINGS, structures, stores, None, tmp_path, on_result=told.append)
    assert again == first and sum(len(engine.computed) for engine in stores.engines) == computed
    assert len(told) == 20 == len(expected_costs(SETTINGS, structures)) and not any(one.computed for one in told)


def test_it_is_said_where_nothing_shows_that_the_finest_is_enough(stores, tmp_path):
    tight = SETTINGS.model_copy(update={"tolerances": tolerances_from("0.0001meV", ["energy"])})
    study = run_study(tight, probes([fe()]), stores, None, tmp_path)
    assert not study.converged and not study.scans[0].shown and study.recommended["cutoff"] == 600
    assert "not shown to be within tolerance: cutoff" in settings_file(study)


def test_a_value_that_fits_by_chance_is_not_taken(stores, tmp_path):
    """From the chosen value on, all finer ones are within the tolerance too."""
    study = run_study(SETTINGS, probes([fe()]), stores, None, tmp_path)
    results = []
    for number, point in enumerate(study.scans[0].points):
        labels = [stores.query_one({"label_key": key}) for key in point.label_keys]
        documents = PointResults(
            labels=[{k: v for k, v in one.items() if k not in ("_id", "last_updated")} for one in labels]
        )
        if number == 2:
            documents.labels[0].free_energy += 1.0
        results.append((point.value, point.settings, documents))
    scan = judge(SETTINGS, "cutoff", results)
    assert scan.best.value == 600 and not scan.shown


def test_a_point_that_fails_is_not_chosen_and_is_told(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mmace_flows.labels.batch.get_engine",
        lambda name, settings, symbols: ConvergingEngine(settings, fails_at=600.0),
    )
    study = run_study(SETTINGS, probes([fe()]), stores, None, tmp_path)
    assert study.scans[0].best.value == 500 or study.scans[0].best.value == 400
    assert study.scans[0].points[-1].failed == "SCF not converged"
    assert "cutoff 600 eV: not converged: SCF not converged" in warning_lines(study)
    monkeypatch.setattr(
        "mmace_flows.labels.batch.get_engine",
        lambda name, settings, symbols: ConvergingEngine(settings, fails_at=settings["cutoff"]),
    )
    with pytest.raises(UserError, match="no value of cutoff"):
        run_study(SETTINGS, probes([fe(2.81)]), stores, None, tmp_path)


def test_another_magnetic_state_is_told_and_reversed_moments_are_not(stores, tmp_path):
    study = run_study(SETTINGS, [fe(), fe(2.9), fe(2.9, 0.0)], stores, None, tmp_path)
    results = []
    for number, point in enumerate(study.scans[0].points):
        labels = [stores.query_one({"label_key": key}) for key in point.label_keys]
        documents = PointResults(
            labels=[{k: v for k, v in one.items() if k not in ("_id", "last_updated")} for one in labels]
        )
        sign = -1.0 if number == 0 else 0.1 if number == 1 else 1.0
        documents.labels[1].magmoms = (sign * np.array(documents.labels[1].magmoms)).tolist()
        results.append((point.value, point.settings, documents))
    scan = judge(SETTINGS, "cutoff", results)
    assert [point.other_state for point in scan.points] == [[], [1], [], []]
    assert scan.points[0].errors["moments"] == 0.0


def test_the_settings_file_is_what_mmace_label_takes(stores, tmp_path):
    from mmace_flows.cli.engine_settings import engine_settings

    study = run_study(SETTINGS, probes([fe()]), stores, None, tmp_path)
    file = tmp_path / "settings.yaml"
    file.write_text(settings_file(study))
    for preset in ("small", "paper"):  # nothing of the preset is left: its bands and slope belong to other cells
        assert engine_settings("gpaw", preset, file) == study.recommended
    assert "cutoff_slope: -0.01" in file.read_text() and yaml.safe_load(file.read_text())["cutoff_slope"] == 0.0
    assert GPAWSettings.model_validate(study.recommended).cutoff == 400


def test_anisotropy_is_the_mean_of_both_ways():
    directions = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    document = SpinOrbitDocument(
        spin_orbit_key="k", status="converged", structure=fe().structure, parent="p", directions=directions,
        energies=[3.0, 3.2, 9.0, 9.0, 1.0, 1.4], engine="gpaw", engine_version="1", settings={}, created="now",
        code_version="1",
    )  # fmt: skip
    assert anisotropy_of(document) == pytest.approx((3.1 - 1.2) / 2)


def test_failed_ground_states_are_computed_again_if_asked_for(monkeypatch, tmp_path):
    computed = []

    def run(structure, settings, folder, campaign, progress):
        computed.append(settings.dft.cutoff)
        directions = [[1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]]
        failed = computed == [300.0]  # the first one of all
        return SpinOrbitDocument(
            spin_orbit_key=spin_orbit_key(structure, "gpaw", settings.model_dump(mode="json")), structure=structure,
            status="failed" if failed else "converged", error="SCF not converged" if failed else None, parent="p",
            directions=directions, energies=[1.0, 1.0, 0.0, 0.0], engine="gpaw", engine_version="1", settings={},
            created="now", code_version="1",
        )  # fmt: skip

    monkeypatch.setattr("mmace_flows.labels.gpaw_spin_orbit.run_spin_orbit", run)
    store = MemoryStore(key="spin_orbit_key")
    store.connect()
    settings = ConvergenceSettings(cutoffs=[300, 400], kpoints=[0.1], smearings=[0.1], quantities=["anisotropy"])
    first = run_study(settings, [fe()], None, store, tmp_path)
    assert first.scans[0].points[0].failed == "SCF not converged"
    assert run_study(settings, [fe()], None, store, tmp_path) == first and computed == [300.0, 400.0]
    again = run_study(settings, [fe()], None, store, tmp_path, retry_failed=True)
    assert computed == [300.0, 400.0, 300.0] and again.scans[0].points[0].failed is None


def test_structures_that_cannot_be_judged_are_refused_before_anything_is_computed():
    with pytest.raises(UserError, match="give a second structure"):
        check_probes(SETTINGS, probes([fe()], volume=1.0, displacement=0.0))
    check_probes(SETTINGS, probes([fe(), fe(2.9)], volume=1.0, displacement=0.0))
    of_directions = SETTINGS.model_copy(update={"quantities": ["anisotropy"]})
    with pytest.raises(UserError, match="anisotropy needs moments"):
        check_probes(of_directions, probes([fe(moment=0.0)]))
    canted = fe()
    canted.structure.magmoms[0] = [2.0, 0.0, 0.0]
    with pytest.raises(UserError, match="not along one axis"):
        check_study(SETTINGS, [canted])


@pytest.mark.parametrize(
    ("text", "quantities", "quantity", "value"),
    [
        ("2meV", ["energy", "forces"], "energy", 0.002),
        ("2meV", ["energy", "forces"], "forces", 0.01),
        ("2meV", ["energy"], "stress", 0.2 * GPA),
        ("20meV/Å", ["forces"], "energy", 0.004),
        ("energy=2meV,forces=20meV/Å", ["energy"], "forces", 0.02),
        ("0.5GPa", ["stress"], "stress", 0.5 * GPA),
        ("50ueV", ["anisotropy"], "anisotropy", 5e-5),
        ("0.02μB", ["moments"], "energy", 0.002),
    ],
)
def test_tolerances_are_read_with_their_units(text, quantities, quantity, value):
    assert tolerances_from(text, quantities)[quantity] == pytest.approx(value)


@pytest.mark.parametrize("text", ["2", "-2meV", "2GPa", "meV", "enrgy=2meV", "", "energy=nanmeV", "energy="])
def test_what_is_no_tolerance_is_refused(text):
    with pytest.raises(UserError, match="--tolerance"):
        tolerances_from(text, ["energy", "forces"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoffs": [300], "kpoints": [0.1], "smearings": [0.1]}, "nothing to scan"),
        ({"kpoints": [0.1, (4, 4, 4)]}, "not both"),
        ({"smearings": [0.1, -0.1]}, "positive"),
        ({"engine": "espresso", "quantities": ["anisotropy"]}, "gpaw only"),
    ],
)
def test_studies_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ConvergenceSettings(**{"cutoffs": [300, 400], "kpoints": [0.1, 0.2], "smearings": [0.1], **changes})


def test_grids_are_scanned_from_the_smaller_one():
    study = ConvergenceSettings(cutoffs=[400], kpoints=[(6, 6, 4), (4, 4, 2)], smearings=[0.1])
    assert study.kpoints == [(4, 4, 2), (6, 6, 4)]
    assert study.start()["kpoints"] == [6, 6, 4] and study.start()["kpoint_spacing"] is None


def test_settings_of_the_file_are_where_it_starts():
    study = ConvergenceSettings(
        cutoffs=[300, 400, 500],
        kpoints=[0.1, 0.05],
        smearings=[0.1],
        dft={"cutoff": 350, "kpoints": [2, 2, 2], "xc": "LDA"},
    )
    start = study.start()
    assert (start["cutoff"], start["kpoints"], start["kpoint_spacing"], start["xc"]) == (350.0, [2, 2, 2], None, "LDA")
    with pytest.raises(UserError, match="did you mean 'cutoff'"):
        study.model_copy(update={"dft": {"cutof": 1}}).start()
