"""The Maker: every operation as a job, through jobflow's own serialisation."""

from __future__ import annotations

import pytest
from crystals import BCC_FE_CUBE, L10_FENI, MN3PT
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.enumeration import EnumerateSettings, enumerate_orderings
from mmace_flows.structures.makers import StructuresMaker
from mmace_flows.structures.noncollinear import NonCollinearSettings
from mmace_flows.structures.operations import DistortOperation, generate
from mmace_flows.structures.paths import PathSettings
from mmace_flows.structures.random_crystals import ChemicalSpace
from mmace_flows.structures.random_search import SearchSettings
from mmace_flows.structures.screening import Screen
from mmace_flows.structures.selection import SelectSettings
from mmace_flows.structures.turned import SupercellSettings


def candidate(structure):
    return Candidate(structure=structure, operation="base", magnetic_state="NM")


OPERATIONS = [
    (EnumerateSettings(max_cells=2, engine="exact"), [L10_FENI]),
    (NonCollinearSettings(), [MN3PT]),
    (DistortOperation(count=2, moments={}), [L10_FENI, MN3PT]),
    (PathSettings(images=3), [BCC_FE_CUBE, BCC_FE_CUBE]),
    (SupercellSettings(angles=[10.0]), [BCC_FE_CUBE]),
    (SelectSettings(count=1), [L10_FENI, MN3PT, L10_FENI]),
]


@pytest.mark.parametrize(("settings", "structures"), OPERATIONS, ids=lambda value: getattr(value, "operation", ""))
def test_jobs_give_what_the_function_gives(settings, structures, tmp_path):
    parents = [candidate(structure) for structure in structures]
    job = StructuresMaker(settings=settings, group="test", iteration=2).make(parents)
    assert job.name == f"structures: {settings.operation}"
    store = JobStore(MemoryStore())
    output = run_locally(Flow([job]), store=store, root_dir=tmp_path, ensure_success=True)[job.uuid][1].output
    found = [Candidate.model_validate(one) for one in output["candidates"]]
    labels = {} if settings.operation == "select" else {"group": "test", "iteration": 2}
    assert found == generate(parents, settings, **labels)[0] and found
    assert all((one.group, one.iteration) == ("test", 2) for one in found) or settings.operation == "select"


def test_settings_are_tuned_as_users_of_makers_do():
    maker = StructuresMaker(settings=EnumerateSettings()).update_kwargs({"group": "bain"})
    assert maker.group == "bain"


def test_operations_need_their_parents():
    with pytest.raises(UserError, match="no structure to begin with"):
        generate([], EnumerateSettings())
    with pytest.raises(UserError, match="two ends"):
        generate([candidate(L10_FENI)], PathSettings())


def test_what_the_cap_leaves_out_is_told():
    found, lines = generate([candidate(MN3PT)], EnumerateSettings(max_cells=2, max_orderings=4, engine="exact"))
    everything = enumerate_orderings(MN3PT, EnumerateSettings(max_cells=2, engine="exact"))
    assert len(found) == 4 and lines == [
        f"structure 0: {len(everything) - 4} more orderings are left out by max_orderings"
    ]


def test_in_a_campaign_it_tells_and_keeps_its_attempts(tmp_path, monkeypatch):
    pytest.importorskip("pyxtal")
    told, folders = [], []

    class Stores:
        def scratch(self, campaign, key):
            folders.append(tmp_path / campaign / key)
            return folders[-1]

        def event(self, campaign, stage, message, **data):
            told.append((campaign, stage, message, data))

    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", Stores)
    windows = Screen(energy=(-1e9, 1e9), energy_above_lowest=1e9, max_force=1e9, max_pressure=1e9)
    settings = SearchSettings(
        space=ChemicalSpace(elements={"Fe": 1}, atoms=(1, 2)),
        attempts=2,
        steps=0,
        calculator="ase.calculators.lj:LennardJones",
        generator="pyxtal",
        screen=windows,
    )
    outputs = []
    for _ in range(2):  # a job that is run again finds its attempts
        job = StructuresMaker(settings=settings).make(campaign="search-small")
        store = JobStore(MemoryStore())
        outputs.append(
            run_locally(Flow([job]), store=store, root_dir=tmp_path, ensure_success=True)[job.uuid][1].output
        )
    assert outputs[0] == outputs[1] and outputs[0]["candidates"] and folders[0] == folders[1]
    assert len(list(folders[0].glob("attempt-*.json"))) == 2
    assert told[0][0] == "search-small" and told[0][3] == {"ends_job": "structures: random"}
