"""The report: complete, partial, self-contained, and true to its documents."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic import bain_labels, label_of, moved, training_labels

from mmace.errors import UserError
from mmace_flows.learning.dataset import DataSetSettings, build_dataset
from mmace_flows.properties.bain import BainPath, BainPoint
from mmace_flows.report import data as make
from mmace_flows.report.build import render, write_report
from mmace_flows.report.data import ReportData
from mmace_flows.schemas.campaign import Campaign
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.loop import BranchErrors, LoopState
from mmace_flows.structures.base_cells import bain_structure


def loop_state(iteration: int, labels: list[LabelDocument], bain: list[LabelDocument], error: float) -> LoopState:
    """A state whose model is off by ``error`` eV per atom everywhere."""
    dataset = build_dataset(labels, bain, DataSetSettings())
    errors = {
        branch: BranchErrors(
            count=4, energy_rmse=error, energy_mae=error, forces_rmse=10 * error, stress_rmse=error / 10
        )
        for branch in ("all", "NM", "FM", "AFM")
    }
    points = [
        BainPoint(
            state=label.candidate.magnetic_state, c_over_a=label.candidate.details["c_over_a"],
            energy=label.free_energy / 4 + error, magmoms=label.magmoms, converged=True,
            state_reached=label.magnetic_state_reached, dft_energy=label.free_energy / 4, dft_magmoms=label.magmoms,
            dft_state_reached=label.magnetic_state_reached, energy_at_dft_moments=label.free_energy / 4 + error,
            label_key=label.label_key,
        )
        for label in bain
    ]  # fmt: skip
    converged = [label for label in labels if label.status == "converged"]
    energies = [label.free_energy / 4 for label in converged]
    forces = np.concatenate([np.ravel(label.forces) for label in converged])
    parity = {
        "energy_dft": energies, "energy_model": [energy + error for energy in energies],
        "forces_dft": forces.tolist(), "forces_model": (forces + 10 * error).tolist(),
        "stress_dft": [0.01, 0.02], "stress_model": [0.011, 0.02],
        "moments_dft": [2.2, 0.6, -2.2], "moments_model": [2.3, 0.5, -2.1], "moments_unconverged": 1,
    }  # fmt: skip
    return LoopState(
        campaign="feni-test", iteration=iteration, training_keys=dataset.training_keys, test_keys=dataset.test_keys,
        bain_keys=dataset.bain_keys, failed_keys=sorted(dataset.set_aside), dataset_hash=dataset.dataset_hash,
        model_hash=f"{iteration}" * 32, test_errors=errors, train_errors=errors, bain_errors=errors,
        symmetry_error=2e-5,
        decision="continue" if iteration == 1 else "stop", reason=f"reason <{iteration}>",
        details={
            "dataset": dataset.model_dump(), "set_aside": dataset.set_aside,
            "bain": BainPath(points=points, volume_per_atom=11.4).model_dump(),
            "parity": {"train": parity, "test": parity, "bain": parity},
            "histories": [[{"epoch": e, "loss": 1 / e, "energy_rmse": 0.1 / e} for e in range(1, 30)]],
            "committee": ["a"], "core_seconds": {"train": 60.0}, "versions": {"torch": "2"},
        },
        created="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture(scope="module")
def full() -> ReportData:
    structure = moved(bain_structure(11.4, 1.2, "AFM"), 55)
    changed = label_of(structure, "AFM", magnetic_state_reached="FM", ordering_changed=True)
    failed = label_of(
        moved(structure, 56), "AFM", "metropolis", iteration=2, status="failed", error="SCF <not> converged",
        energy=None, free_energy=None, forces=None, magmoms=None,
    )  # fmt: skip
    labels = [*training_labels(), changed, failed]
    bain = bain_labels()
    campaign = Campaign(
        campaign="feni-test", recipe="workflows/feni.py", preset="small", settings={"text": "</script>"},
        settings_hash="f" * 32, code_version="0.1.0", created="2026-01-01T00:00:00Z",
    )  # fmt: skip
    states = [loop_state(1, labels, bain, 0.03), loop_state(2, labels, bain, 0.004)]
    return ReportData("feni-test", campaign, states, [*labels, *bain], {"label": {"COMPLETED": 19, "FIZZLED": 1}})


class Checker(HTMLParser):
    """Collects what a browser would fetch, anchors, and tags that are never closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "src" or (name == "href" and tag in ("link", "image")):
                self.fetched.append(str(value))
            if name in ("href", "xlink:href") and tag in ("a", "use"):
                self.links.append(str(value))
            if name == "id":
                self.ids.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.fetched == []
    assert "@import" not in page and "<script" not in page
    assert not re.search(r"url\((?!#)", page)
    ids = set(checker.ids)
    for link in checker.links:
        assert link.startswith("#") and link[1:] in ids, link
    return checker


def test_the_page_is_self_contained_and_well_formed(full: ReportData) -> None:
    page = render(full)
    checker = check(page)
    for anchor in ("bain", "coverage", "errors", "parity", "learning", "aside", "provenance"):
        assert f'<section id="{anchor}">' in page
    assert len(checker.ids) == len(set(checker.ids)), "ids repeat between figures"
    for svg in re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(svg)
        assert "#010203" not in svg
        assert "currentColor" in svg
    assert page.count("<svg ") == 4


def test_what_users_wrote_is_escaped(full: ReportData) -> None:
    page = render(full)
    assert "SCF &lt;not&gt; converged" in page
    assert "reason &lt;2&gt;" in page
    assert "&lt;/script&gt;" in page


def test_headline_names_the_better_iteration_and_the_decision(full: ReportData) -> None:
    page = render(full)
    assert "<b>4.0 <small>meV/atom</small></b><span>test energy RMSE, iteration 2 (n = 4)</span>" in page
    assert "Stopped after iteration 2." in page
    assert "AFM" in page and "FM" in page


def test_errors_that_are_zero_by_symmetry_are_not_shown_as_merits(full: ReportData) -> None:
    def rows(page: str) -> dict[tuple[str, str], list[str]]:
        """Cells of the table of errors, by set and branch; cells that repeat are left out there."""
        found, title, branch = {}, "", ""
        table = page.split('<section id="errors">')[1].split("</table>")[0]
        for line in re.findall(r"<tr.*?</tr>", table)[1:]:
            cells = re.findall(r"<td[^>]*>(.*?)</td>", line)
            title, branch = cells[0] or title, cells[1] or branch
            found[title, branch] = cells[4:]
        return found

    def with_errors(state: LoopState, forces: float) -> LoopState:
        zero = {
            branch: error.model_copy(
                update={"forces_rmse": forces, "magnetic_forces_rmse": 0.0 if branch == "NM" else 0.02}
            )
            for branch, error in state.bain_errors.items()
        }
        return state.model_copy(update={"bain_errors": zero, "test_errors": zero})

    page = render(replace(full, states=[with_errors(full.states[0], 1e-9)]))
    check(page)
    table = rows(page)
    assert table["Bain path", "FM"][1] == table["Bain path", "all"][1] == "–*"
    assert [table["Bain path", branch][3] for branch in ("all", "NM", "FM", "AFM")] == ["20.0", "–*", "20.0", "20.0"]
    assert table["test", "FM"][1] == "0", "DFT has forces there, so a small error is a merit"
    assert "zero by symmetry" in page
    wrong = rows(render(replace(full, states=[with_errors(full.states[0], 0.3)])))
    assert wrong["Bain path", "FM"][1] == "300", "a model that breaks the symmetry is not hidden"
    assert "zero by symmetry" not in render(full)


def test_a_report_before_the_first_model_and_before_the_first_label(full: ReportData) -> None:
    early = ReportData("feni-test", full.campaign, [], [*training_labels(2), *bain_labels((1.0, 1.4))])
    page = render(early)
    check(page)
    assert "Still running" in page
    assert '<section id="bain">' in page and '<section id="coverage">' in page
    assert '<section id="errors">' not in page
    empty = render(ReportData("feni-test", None, [], []))
    check(empty)
    assert '<section id="provenance">' in empty


def test_bain_energies_are_relative_to_the_lowest_ferromagnetic_dft_point(full: ReportData) -> None:
    first, second = make.bain_panels(full)
    assert min(first.dft["FM"][1]) == pytest.approx(0.0)
    np.testing.assert_allclose(np.subtract(first.model["AFM"][1], first.dft["AFM"][1]), 30.0, atol=1e-6)
    np.testing.assert_allclose(np.subtract(second.at_dft_moments["NM"][1], second.dft["NM"][1]), 4.0, atol=1e-6)
    assert first.dft["FM"][0] == sorted(first.dft["FM"][0])


def test_parity_is_in_units_people_read(full: ReportData) -> None:
    energy, force, stress, moment = make.parities(full.states[0])
    assert stress.sets["test"][0][0] == pytest.approx(0.01 * 160.21766208)
    assert min(energy.sets["train"][0]) == pytest.approx(0.0)
    assert (force.error_unit, moment.error_unit) == ("meV/Å", "μB")


def test_coverage_and_costs_count_every_label_once(full: ReportData) -> None:
    points, bain = make.coverage(full)
    assert len(points) == 20
    assert len(bain) == 4  # four places, three states each
    assert bain[0] == pytest.approx((0.95, 11.4), abs=1e-3)
    costs = {stage: (count, seconds) for stage, count, seconds in make.stage_costs(full)}
    assert costs["DFT: Bain path"] == (12, 120.0)
    assert costs["train"] == (2, 120.0)


def test_set_aside_labels_have_reasons(full: ReportData) -> None:
    ((_, what, why),) = make.set_aside(full)
    assert "metropolis, AFM" in what
    assert "SCF <not> converged" in why
    assert [label.magnetic_state_reached for label in make.changed_orderings(full.labels)] == ["FM"]


def test_writing_is_atomic_and_figures_are_pngs(full: ReportData, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    write_report(full, output, tmp_path / "figures")
    assert (tmp_path / "figures" / "bain.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "report.html"]
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(full, tmp_path / "file" / "report.html")


def test_the_same_documents_give_the_same_page(full: ReportData) -> None:
    assert render(full) == render(full)
    assert json.dumps(full.campaign.settings, indent=2)[:10]
