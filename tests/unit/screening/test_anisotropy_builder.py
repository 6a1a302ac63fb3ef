"""The table's builder: what goes on top, what is made again, hulls, and builds that are cut short."""

from __future__ import annotations

import math

import pytest
from anisotropy_samples import Collections, prediction, run, structure
from rich.console import Console

from mmace_flows.properties.anisotropy import EV_PER_CUBIC_ANGSTROM
from mmace_flows.schemas.anisotropy_entry import AnisotropyEntry
from mmace_flows.screening.builder import AnisotropyBuilder, BuildSummary, build_anisotropy
from mmace_flows.screening.entries import dft_method
from mmace_flows.screening.hull import Hulls
from mmace_flows.screening.output import as_table
from mmace_flows.screening.table import row_of

FEPT = structure(["Fe", "Pt"])


@pytest.fixture
def stores() -> Collections:
    return Collections()


def test_a_prediction_and_a_run_of_one_parent_make_one_row_with_dft_on_top(stores: Collections) -> None:
    stores.add(prediction(FEPT, k1=4.0))
    build_anisotropy(stores)
    ((only, row),) = stores.entries().items()
    assert only == ("FePt", "FM") and row["level"] == "model" and row["dft"] is None and row["values"]["k1"] == 4.0
    stores.add(run(FEPT, k1_volume=0.003))
    build_anisotropy(stores)
    ((_, stored),) = stores.entries().items()
    entry = AnisotropyEntry.from_store(stored)
    assert entry.level == "DFT" and entry.values == entry.dft and entry.model is not None and entry.model.k1 == 4.0
    volume = 2.72 * 2.72 * 3.71
    assert entry.values.k1 == pytest.approx(0.003 / volume * EV_PER_CUBIC_ANGSTROM)  # E/V = K1 sin²θ as put in
    assert (entry.space_group, entry.space_group_number, entry.crystal_system) == ("P4/mmm", 123, "tetragonal")
    assert entry.chemical_system == "Fe-Pt" and entry.elements == ["Fe", "Pt"] and entry.num_elements == 2
    assert entry.volume_per_atom == pytest.approx(volume / 2) and entry.magnetization == pytest.approx(1.5)
    assert entry.campaigns == ["screening", "tests"]
    assert entry.structure.magmoms == [[0.0, 0.0, pytest.approx(1.5)]] * 2  # along the easy direction, z


def test_orderings_are_rows_of_their_own(stores: Collections) -> None:
    stores.add(
        prediction(FEPT), prediction(FEPT.model_copy(update={"magmoms": [[0, 0, 1], [0, 0, -1]]}), ordering="AFM")
    )
    assert build_anisotropy(stores).made == 2
    assert set(stores.entries()) == {("FePt", "FM"), ("FePt", "AFM")}


def test_a_row_of_an_ordering_that_dft_left_says_so(stores: Collections) -> None:
    ferrimagnet = FEPT.model_copy(update={"magmoms": [[0, 0, 3], [0, 0, -1]]})
    stores.add(prediction(ferrimagnet, ordering="FiM"), prediction(FEPT))
    build_anisotropy(stores)
    assert stores.entries()["FePt", "FiM"]["became"] is None
    stores.add(run(ferrimagnet, 0.003).model_copy(update={"magnetic_state_reached": "FM"}))
    build_anisotropy(stores)
    rows = stores.entries()
    assert rows["FePt", "FiM"]["became"] == "FM" and rows["FePt", "FiM"]["level"] == "model"
    assert rows["FePt", "FM"]["became"] is None and rows["FePt", "FM"]["level"] == "DFT"
    shown = row_of(AnisotropyEntry.from_store(rows["FePt", "FiM"]))
    console = Console(width=200)
    with console.capture() as text:
        console.print(as_table([shown]))
    assert "FiM → FM" in text.get()
    stores.add(run(ferrimagnet, 0.003, cutoff=800.0).model_copy(update={"magnetic_state_reached": "FiM"}))
    build_anisotropy(stores)
    row = stores.entries()["FePt", "FiM"]
    assert row["became"] is None and row["level"] == "DFT"  # another run stayed


def test_the_newest_model_and_the_best_run_count(stores: Collections) -> None:
    stores.add(
        prediction(FEPT, k1=1.0, model="a" * 32, created="2026-01-01T00:00:00+00:00"),
        prediction(FEPT, k1=2.0, model="b" * 32, created="2026-03-01T00:00:00+00:00"),
    )
    stores.add(
        run(FEPT, 0.004, cutoff=500.0, created="2025-01-01T00:00:00+00:00"),
        run(FEPT, 0.001, cutoff=300.0, created="2026-05-01T00:00:00+00:00"),
    )
    build_anisotropy(stores)
    ((_, row),) = stores.entries().items()
    assert row["model"]["k1"] == 2.0
    assert row["dft"]["k1_mev_per_atom"] == pytest.approx(2.0)  # 4 meV per cell of two atoms: the higher cutoff's


@pytest.mark.parametrize(("grid", "expected"), [([4, 4, 3], 1.5), ([20, 20, 16], 0.5)])
def test_a_grid_and_a_spacing_of_k_points_are_compared(stores: Collections, grid: list[int], expected: float) -> None:
    """A spacing of 0.03 Å⁻¹ is a grid of 13 × 13 × 9 points for this cell."""
    stores.add(run(FEPT, 0.003, kpoint_spacing=0.03), run(FEPT, 0.001, kpoint_spacing=None, kpoints=grid))
    build_anisotropy(stores)
    ((_, row),) = stores.entries().items()
    assert row["dft"]["k1_mev_per_atom"] == pytest.approx(expected)


def test_a_second_build_does_nothing_and_a_changed_source_is_made_again(stores: Collections) -> None:
    one, other = prediction(FEPT), prediction(structure(["Co", "Pt"]))
    stores.add(one, other)
    assert build_anisotropy(stores).made == 2
    before = stores.entries()
    assert build_anisotropy(stores) == BuildSummary(unchanged=2)
    assert stores.entries() == before
    changed = one.model_dump(mode="json")
    changed["values"]["k1"] = 7.0
    changed["last_updated"] = "2026-06-01"
    stores.predictions.update([changed])
    summary = build_anisotropy(stores)
    assert (summary.made, summary.unchanged) == (1, 1)
    assert stores.entries()["FePt", "FM"]["values"]["k1"] == 7.0
    assert stores.entries()["CoPt", "FM"] == before["CoPt", "FM"]


def test_rows_whose_sources_are_gone_are_removed(stores: Collections) -> None:
    stores.add(prediction(FEPT), prediction(structure(["Co", "Pt"])))
    build_anisotropy(stores)
    stores.predictions.remove_docs({"structure.symbols": "Co"})
    assert build_anisotropy(stores).removed == 1
    assert set(stores.entries()) == {("FePt", "FM")}


@pytest.mark.parametrize("rows_written", [0, 1, 2, 3])
def test_a_build_that_was_cut_short_is_finished_by_the_next(stores: Collections, rows_written: int) -> None:
    for other in ("Pt", "Pd", "Ni", "Al"):
        stores.add(prediction(structure(["Fe", other])))
    builder = AnisotropyBuilder(stores.spin_orbit, stores.predictions, stores.anisotropy, chunk_size=1)

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        assert total == 4
        if done > rows_written:
            raise Killed

    with pytest.raises(Killed):
        builder.build(kill)
    assert len(stores.entries()) == rows_written + 1
    summary = build_anisotropy(stores)
    assert (summary.made, summary.unchanged) == (3 - rows_written, rows_written + 1)
    assert len(stores.entries()) == 4


def test_a_source_that_makes_no_row_is_set_aside_and_the_others_are_made(stores: Collections) -> None:
    bad = prediction(structure(["Fe", "Al"])).model_dump(mode="json")
    bad["structure"]["cell"] = [[0.0, 0.0, 0.0]] * 3
    stores.predictions.update([bad])
    stores.add(prediction(FEPT))
    summary = build_anisotropy(stores)
    assert summary.made == 1
    ((which, why),) = summary.set_aside
    assert which.endswith("FM") and "not periodic" in why


def test_failed_runs_make_no_row(stores: Collections) -> None:
    stores.add(run(FEPT).model_copy(update={"status": "failed"}))
    assert build_anisotropy(stores) == BuildSummary()


def test_energy_above_the_hull_of_the_same_model_only(stores: Collections) -> None:
    """Elements at −4 and −5 eV per atom: FePt at −4.4 lies 0.1 above their mixture."""
    fept = prediction(FEPT, energy=-4.4)
    stores.add(fept, prediction(structure(["Fe"]), energy=-4.0))
    build_anisotropy(stores)
    assert stores.entries()["FePt", "FM"]["energy_above_hull"] is None  # nothing is known of Pt
    stores.add(prediction(structure(["Pt"]), energy=-5.0, model="another" * 4))
    build_anisotropy(stores)
    assert stores.entries()["FePt", "FM"]["energy_above_hull"] is None  # nor does another model tell
    stores.add(prediction(structure(["Pt"]), energy=-5.0))
    summary = build_anisotropy(stores)
    row = stores.entries()["FePt", "FM"]
    assert row["energy_above_hull"] == pytest.approx(0.1) and summary.hulls_mended == 1
    assert stores.entries()["Fe", "FM"]["energy_above_hull"] == 0.0


def test_dft_rows_are_compared_with_labels_of_the_same_settings(stores: Collections) -> None:
    stores.add(run(FEPT, free_energy=-8.8))
    for symbol, energy, settings in (("Fe", -4.0, {}), ("Pt", -5.0, {}), ("Pt", -50.0, {"cutoff": 999.0})):
        label = {"label_key": f"{symbol}{energy}", "status": "converged", "free_energy": energy, "engine": "gpaw"}
        label |= {"structure": {"symbols": [symbol]}, "settings": run(FEPT).settings["dft"] | settings}
        stores.labels.update([label])
    build_anisotropy(stores)
    assert stores.entries()["FePt", "FM"]["energy_above_hull"] == pytest.approx(0.1)
    assert dft_method("gpaw", {"a": 1, "b": 2}) == dft_method("gpaw", {"b": 2, "a": 1})


def test_hull_ignores_energies_that_are_none_or_not_finite() -> None:
    hulls = Hulls()
    for energy in (None, math.nan, math.inf, -4.0, -3.0):
        hulls.add("m", ["Fe"], energy)
    assert hulls.above("m", ["Fe", "Fe"], -3.5) == pytest.approx(0.5)
    assert hulls.above("m", ["Fe"], None) is None and hulls.above("other", ["Fe"], -1.0) is None
