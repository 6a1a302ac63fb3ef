"""Jobs: names, what they carry through the queue, and what they do when run."""

import numpy as np
import pytest
from analytic_engine import AnalyticEngine
from jobflow import JobStore, run_locally
from jobflow.utils.log import initialize_logger
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, jsanitize

from mmace_flows.labels.gpaw_makers import GPAWLabelMaker, GPAWRelaxMaker
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.relaxation import RelaxSettings
from mmace_flows.schemas.label import label_key
from mmace_flows.structures.base_cells import bain_candidates, base_candidates
from mmace_flows.structures.distort import DistortSettings, distort


@pytest.fixture
def stores(monkeypatch, job_stores):
    """The stores that a job opens, and the analytic engine in GPAW's place."""
    job_stores.engines = []

    def engine(settings):
        assert isinstance(settings, GPAWSettings)
        job_stores.engines.append(AnalyticEngine())
        return job_stores.engines[-1]

    monkeypatch.setattr("mmace_flows.labels.gpaw_engine.GPAWEngine", engine)
    return job_stores


def run(job):
    store = JobStore(MemoryStore())
    store.connect()
    initialize_logger(level=50)
    return run_locally(job, store=store, ensure_success=True, log=False)[job.uuid][1].output


def through_the_queue(job):
    """What a worker gets: the job as JSON in the database, and back."""
    return MontyDecoder().process_decoded(jsanitize(job, strict=True, enum_values=True, allow_bson=True))


def test_names_say_the_stage_before_the_colon():
    candidate = bain_candidates([1.2], ["AFM"])[0]
    assert GPAWLabelMaker().make(candidate, "feni").name == "dft: bain AFM c/a 1.200"
    distorted = distort(base_candidates()[0].structure, 5, details={"base": "fcc"})
    assert GPAWLabelMaker(stage="dft 2").make(distorted, "feni").name == "dft 2: train distort FM fcc seed 5"
    assert GPAWRelaxMaker().make(base_candidates()[1], "feni").name.startswith("relax: train base FM bcc")


def test_a_job_survives_the_queue_with_all_its_settings(stores):
    settings = GPAWSettings.small(cutoff=417.0)
    candidate = bain_candidates([1.2], ["AFM"])[0]
    job = through_the_queue(GPAWLabelMaker(settings=settings).make(candidate, "feni"))
    assert job.name == "dft: bain AFM c/a 1.200"
    assert job.maker.settings == settings
    assert run(job)["label_key"] == label_key(candidate.structure, "analytic", {"epsilon": 0.1})


def test_settings_can_be_changed_the_usual_way(stores):
    job = GPAWLabelMaker().make(bain_candidates([1.2], ["AFM"])[0], "feni")
    job.update_maker_kwargs({"settings": GPAWSettings.paper()})
    assert job.maker.settings.cutoff == 600.0


def test_a_label_job_computes_once_stores_and_tells(stores):
    maker = GPAWLabelMaker()
    candidate = bain_candidates([1.2], ["AFM"])[0]
    output = run(maker.make(candidate, "feni"))
    assert {"label_key", "status", "energy_per_atom", "operation", "magnetic_state", "group"} <= set(output)
    assert output["status"] == "converged" and output["group"] == "bain"
    stored = stores.labels.query_one({"label_key": output["label_key"]})
    assert stored["campaign"] == "feni" and stored["candidate"]["details"]["c_over_a"] == 1.2
    again = run(maker.make(candidate, "feni"))
    assert again["label_key"] == output["label_key"] and not again["computed"]
    assert [len(engine.computed) for engine in stores.engines] == [1, 0]
    campaign, stage, message, data = stores.events[0]
    assert (campaign, stage) == ("feni", "dft") and "eV/atom" in message
    assert data["energy_per_atom"] == output["energy_per_atom"] and data["seconds"] == 0.5


def test_a_relax_job_gives_its_frames_and_resumes(stores):
    start = distort(
        bain_candidates([1.2], ["FM"])[0].structure, 1, DistortSettings(volume_scale=(1.0, 1.0), displacement=0.1)
    )
    maker = GPAWRelaxMaker(relax=RelaxSettings(force_max=0.02, max_steps=40, frames=3))
    output = run(through_the_queue(maker.make(start, "feni")))
    assert output["status"] == "converged" and len(output["labels"]) == 3
    for label in output["labels"]:
        assert label["operation"] == "relax" and label["group"] == "train"
        assert np.isfinite(stores.labels.query_one({"label_key": label["label_key"]})["free_energy"])
    assert len(stores.events) == output["steps"]
    again = run(maker.make(start, "feni"))
    assert again["computed"] == 0 and [x["label_key"] for x in again["labels"]] == [
        x["label_key"] for x in output["labels"]
    ]
