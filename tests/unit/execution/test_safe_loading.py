"""Which documents become objects, and which are refused before anything of theirs is imported or run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fireworks import Firework
from jobflow import Flow, job
from jobflow.managers.fireworks import flow_to_workflow
from monty.json import MontyDecoder

from mmace_flows.execution import safe_loading, trust
from mmace_flows.execution.policy import spec as needs_spec
from mmace_flows.execution.safe_loading import RefusedDocument, check_document, check_spec
from mmace_flows.schemas.needs import Needs


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trust, "PACKAGES", list(trust.PACKAGES))
    safe_loading.install()
    yield


HOSTILE: list[dict[str, Any]] = [
    {"@module": "os", "@callable": "system", "@bound": None},
    {"@module": "subprocess", "@class": "Popen", "args": ["true"]},
    {"@module": "subprocess", "@callable": "run"},
    {"@module": "builtins", "@callable": "eval"},
    {"@module": "importlib", "@callable": "import_module"},
    {"@module": "maggma.stores.mongolike", "@class": "MongoStore", "database": "x", "collection_name": "y"},
    {"@module": "jobflow.core.store", "@class": "JobStore", "docs_store": {}},
    {"@module": "mmace_flows.execution.workers", "@callable": "Workers"},
    {"@module": "mmace_flows.labels.makers.os", "@callable": "system"},
    {"@module": "mmace_flows.labels.labelling", "@callable": "platform.os.system"},
    {"@module": "antigravity", "@class": "anything"},
    {"@module": ["os"], "@callable": "system"},
    {"@module": "os", "@callable": "system", "@bound": {"@module": "os", "@class": "environ"}},
    {"a": [{"b": {"@module": "posix", "@callable": "system"}}]},
]


@pytest.mark.parametrize("document", HOSTILE, ids=str)
def test_hostile_documents_are_refused(document: dict[str, Any]) -> None:
    before = set(sys.modules)
    with pytest.raises((RefusedDocument, ModuleNotFoundError)) as refusal:
        MontyDecoder().process_decoded(document)
    assert "\n" not in str(refusal.value)
    assert "antigravity" not in set(sys.modules) - before


TASKS = [
    {"_fw_name": "ScriptTask", "script": "touch here"},
    {"_fw_name": "PyTask", "func": "os.system", "args": ["touch here"]},
    {"_fw_name": "{{fireworks.user_objects.firetasks.script_task.ScriptTask}}", "script": "touch here"},
    {"_fw_name": "FileDeleteTask", "files_to_delete": ["here"]},
]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_only_jobs_are_tasks(task: dict[str, Any]) -> None:
    with pytest.raises(RefusedDocument, match="only jobflow jobs run"):
        Firework.from_dict({"spec": {"_tasks": [task]}, "fw_id": 1})


@pytest.mark.parametrize(
    "spec",
    [
        {"_files_prev": {"a": "/etc/passwd"}, "_files_in": {"a": "here"}},
        {"_launch_dir": "/somewhere"},
        {"_recovery": {"_prev_dir": "/etc", "_mode": "cp"}},
        {"_trackers": [{"filename": "/etc/passwd", "nlines": 25}]},
        {"_background_tasks": []},
        {"_queueadapter": {"pre_rocket": "touch here"}},
        {"_queueadapter": {"walltime": "1:00\ntouch here"}},
    ],
    ids=str,
)
def test_what_firework_would_do_beside_the_job_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(RefusedDocument):
        check_spec({"_tasks": [], "campaign": "c", **spec})


def test_needs_of_the_policy_pass() -> None:
    check_spec({"_tasks": [], **needs_spec(Needs(gpus=1, category="gpu"))})


@job
def harmless(number: int) -> int:
    return number + 1


def test_jobs_pass_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is defined in a file of its own, once its folder is trusted; its helper functions do not."""
    flow = Flow([harmless(1)])
    (firework,) = flow_to_workflow(flow, store=None).fws
    document = firework.to_db_dict()
    # this module is imported already, so its jobs may run; a job of a module that is not must be trusted
    again = Firework.from_dict(document).tasks[0]["job"]
    assert again.function.original(4) == 5
    with pytest.raises(RefusedDocument, match="not a job"):
        MontyDecoder().process_decoded({"@module": __name__, "@callable": "guarded"})


def test_recipes_of_a_trusted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quite_new_recipe.py").write_text(
        "from jobflow import job\n\n@job\ndef add(a):\n    return a\n\ndef other(a):\n    return a\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reference = {"@module": "quite_new_recipe", "@callable": "add", "@bound": None}
    with pytest.raises(RefusedDocument):
        MontyDecoder().process_decoded(reference)
    assert "quite_new_recipe" not in sys.modules, "it was not even imported"
    trust.trust_folder(tmp_path)
    try:
        assert MontyDecoder().process_decoded(reference).original(3) == 3
        with pytest.raises(RefusedDocument, match=r"quite_new_recipe\.other, which is not a job"):
            MontyDecoder().process_decoded(reference | {"@callable": "other"})
    finally:
        trust.FOLDERS.remove(tmp_path.resolve())
        sys.modules.pop("quite_new_recipe", None)


def test_plain_data_pass() -> None:
    """What results are made of."""
    import numpy as np
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]], site_properties={"magmom": [2.2]})
    assert MontyDecoder().process_decoded(structure.as_dict()) == structure
    array = {"@module": "numpy", "@class": "array", "dtype": "float64", "data": [1.0, 2.0]}
    assert np.allclose(MontyDecoder().process_decoded(array), [1.0, 2.0])
    check_document({"a": [structure.as_dict(), array]})
    with pytest.raises(RefusedDocument):
        check_document({"a": [{"b": {"@module": "os", "@callable": "system"}}]})
