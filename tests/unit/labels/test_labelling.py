"""Labels: found by content, complete, never computed twice, failures set aside."""

import json

import numpy as np
import pytest
from analytic_engine import AnalyticEngine

from mmace.errors import UserError
from mmace_flows.labels import labelling
from mmace_flows.schemas.label import LabelDocument, label_key
from mmace_flows.structures.base_cells import bain_candidates
from mmace_flows.structures.distort import distort

CANDIDATE = distort(bain_candidates([1.2], ["AFM"])[0].structure, seed=1)


def test_a_label_is_complete(engine, labels, tmp_path):
    document, computed = labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path, "feni")
    assert computed and document.status == "converged" and document.error is None
    empty = {name for name in LabelDocument.model_fields if getattr(document, name) is None}
    assert empty == {"error", "magnetic_forces"}
    assert np.shape(document.magmoms) == np.shape(document.forces) == (4, 3) and np.shape(document.stress) == (3, 3)
    assert (document.magnetic_state_asked, document.magnetic_state_reached, document.ordering_changed) == (
        "AFM",
        "AFM",
        False,
    )
    assert document.label_key == label_key(CANDIDATE.structure, "analytic", engine.settings_dict())
    json.dumps(document.model_dump(mode="json"))


def test_what_is_stored_is_not_computed_again(engine, labels, tmp_path):
    first, _ = labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path)
    again, computed = labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path)
    assert not computed and again == first and len(engine.computed) == 1 and labels.count() == 1


def test_other_settings_moments_or_positions_are_other_labels(labels, tmp_path):
    structure = CANDIDATE.structure
    moved = structure.model_copy(update={"positions": (np.asarray(structure.positions) + 1e-4).tolist()})
    flipped = structure.model_copy(update={"magmoms": (-np.asarray(structure.magmoms)).tolist()})
    for changed in (structure, moved, flipped):
        _, computed = labelling.find_or_compute(
            CANDIDATE.model_copy(update={"structure": changed}), AnalyticEngine(), labels, tmp_path
        )
        assert computed
    assert labelling.find_or_compute(CANDIDATE, AnalyticEngine(epsilon=0.2), labels, tmp_path)[1]
    assert labels.count() == 4


def test_a_failure_is_set_aside_and_not_tried_again_unless_asked(labels, tmp_path):
    document, _ = labelling.find_or_compute(CANDIDATE, AnalyticEngine(fail_after=0), labels, tmp_path)
    assert document.status == "failed" and document.error == "SCF not converged" and len(document.attempts) == 2
    assert document.energy is None and document.forces is None and document.magnetic_state_reached is None
    better = AnalyticEngine()
    assert labelling.find_or_compute(CANDIDATE, better, labels, tmp_path)[0].status == "failed"
    assert not better.computed
    retried, computed = labelling.find_or_compute(CANDIDATE, better, labels, tmp_path, retry_failed=True)
    assert computed and retried.status == "converged" and labels.count() == 1


def test_a_changed_ordering_is_noticed(engine, labels, tmp_path):
    weak = CANDIDATE.structure.model_copy(update={"magmoms": [[0, 0, 0.105]] * 4})
    document, _ = labelling.find_or_compute(CANDIDATE.model_copy(update={"structure": weak}), engine, labels, tmp_path)
    assert (document.magnetic_state_asked, document.magnetic_state_reached) == ("FM", "NM")
    assert document.ordering_changed


def test_summary_and_line(engine, labels, tmp_path):
    document, _ = labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path)
    summary = labelling.label_summary(document)
    assert summary["energy_per_atom"] == pytest.approx(document.free_energy / 4)
    assert (summary["operation"], summary["magnetic_state"], summary["group"]) == ("distort", "AFM", "train")
    line = labelling.summary_line(document)
    assert line.startswith("train distort AFM seed 1: ")
    bain, _ = labelling.find_or_compute(bain_candidates([1.0], ["NM"])[0], engine, labels, tmp_path)
    assert labelling.summary_line(bain).startswith("bain NM c/a 1.000: ")
    assert "\n" not in line and "eV/atom, AFM (+1.98 +0.54 -1.98 -0.54 μB)" in line
    failed, _ = labelling.find_or_compute(CANDIDATE, AnalyticEngine(epsilon=0.3, fail_after=0), labels, tmp_path)
    assert "set aside, SCF not converged" in labelling.summary_line(failed)
    assert labelling.label_summary(failed)["energy_per_atom"] is None


def test_made_again_from_the_document_alone(engine, labels, tmp_path, monkeypatch):
    labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path)
    document = labelling.find_label(label_key(CANDIDATE.structure, "analytic", {"epsilon": 0.1}), labels)
    fresh = []

    def from_document(name, settings):
        assert name == "analytic"
        fresh.append(AnalyticEngine(**settings))
        return fresh[-1]

    monkeypatch.setattr(labelling, "get_engine", from_document)
    assert labelling.recompute_label(document, tmp_path).energy == document.energy
    assert fresh[0].attempts_started == [0]
    raw = {**document.model_dump(mode="json"), "_id": "of the store", "last_updated": "now"}
    assert labelling.recompute_label(raw, str(tmp_path)).energy == document.energy
    with pytest.raises(UserError, match=f"label {document.label_key}: structure: field required"):
        labelling.recompute_label({key: raw[key] for key in raw if key != "structure"}, tmp_path)
    second = document.model_copy(update={"attempts": ["first attempt: no", "safer mixing: yes"]})
    labelling.recompute_label(second, tmp_path)
    assert fresh[2].attempts_started == [1]  # straight the attempt that had converged


def test_documents_that_were_changed_or_failed_are_not_made_again(engine, labels, tmp_path):
    document, _ = labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path)
    with pytest.raises(UserError, match="were changed"):
        labelling.recompute_label(document.model_copy(update={"settings": {"epsilon": 9.0}}), tmp_path)
    with pytest.raises(UserError, match="it failed"):
        labelling.recompute_label(document.model_copy(update={"status": "failed"}), tmp_path)
    with pytest.raises(UserError, match="engine 'analytic' is unknown"):
        labelling.recompute_label(document, tmp_path)


def test_one_line_tells_moments_of_every_kind(engine, labels, tmp_path):
    vectors = np.array([[2.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0], [0, 0, 0.1]])
    structure = CANDIDATE.structure.model_copy(update={"magmoms": vectors.tolist()})
    canted = CANDIDATE.model_copy(update={"structure": structure})
    document, _ = labelling.find_or_compute(canted, engine, labels, tmp_path)
    assert "non-collinear (+1.80 +0.00 +0.00, +0.00 +0.90 +0.00, " in labelling.summary_line(document)
    document, _ = labelling.find_or_compute(CANDIDATE, engine, labels, tmp_path)
    assert "AFM (+" in labelling.summary_line(document) and "\n" not in labelling.summary_line(document)
