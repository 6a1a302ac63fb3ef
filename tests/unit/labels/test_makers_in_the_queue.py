"""Jobs of Quantum ESPRESSO and of VASP: what they carry through the queue."""

import pytest
from analytic_engine import AnalyticEngine
from monty.json import MontyDecoder, jsanitize

from mmace_flows.labels.espresso_makers import EspressoLabelMaker, EspressoRelaxMaker
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.relaxation import RelaxSettings
from mmace_flows.labels.vasp_makers import VaspLabelMaker, VaspRelaxMaker
from mmace_flows.labels.vasp_settings import VaspSettings
from mmace_flows.structures.base_cells import bain_candidates


def through_the_queue(job):
    return MontyDecoder().process_decoded(jsanitize(job, strict=True, enum_values=True, allow_bson=True))


ESPRESSO = EspressoSettings.small(constraint="atomic", pseudopotentials={"Fe": "Fe.upf"})
VASP = VaspSettings.small(spin_orbit=True, potcars={"Fe": "Fe_pv"})


@pytest.mark.parametrize(
    ("engine", "settings", "makers"),
    [
        ("espresso", ESPRESSO, (EspressoLabelMaker, EspressoRelaxMaker)),
        ("vasp", VASP, (VaspLabelMaker, VaspRelaxMaker)),
    ],
)
def test_settings_survive_the_queue_and_reach_the_engine(engine, settings, makers, labels, job_stores, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mmace_flows.labels.engine.get_engine",
        lambda name, settings, symbols: asked.append((name, settings, set(symbols))) or AnalyticEngine(),
    )
    candidate = bain_candidates([1.2], ["AFM"])[0]
    for maker in [kind(settings=settings) for kind in makers]:
        job = through_the_queue(maker.make(candidate, "feni"))
        assert type(job.maker) is type(maker) and job.maker.settings == settings
        assert job.name == f"{maker.stage}: bain AFM c/a 1.200"
        job.maker.run.original(job.maker, candidate, "feni")
    assert [name for name, _, _ in asked] == [engine] * 2
    assert asked[0][1] == settings.model_dump(mode="json") and asked[0][2] == {"Fe", "Ni"}
    assert makers[1]().relax == RelaxSettings.small() and labels.count() >= 1
