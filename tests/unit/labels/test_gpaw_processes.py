"""GPAW in several processes: refused where it cannot be, and the way of a result from process to process."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest
from ase import Atoms

from mmace.errors import UserError
from mmace_flows.labels import gpaw_processes
from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.gpaw_engine import GPAWEngine
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure

SETTINGS = GPAWSettings(kpoints=(2, 2, 2))
STRUCTURE = MagneticStructure.from_atoms(Atoms("Fe", cell=[2.4, 2.4, 2.4], pbc=True), [2.0])

CHILD = """
import json, sys
from pathlib import Path
told = json.loads(Path(sys.argv[1]).read_text())
assert told["settings"]["kpoints"] == [2, 2, 2] and told["structure"]["symbols"] == ["Fe"]
values = json.loads({values!r})
if values is None:
    sys.exit("something is wrong with this machine")
Path(told["result_file"]).write_text(json.dumps(values))
"""


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setenv("MMACE_GPAW_PROCESSES", "2")


def test_without_mpi_several_processes_are_refused_in_one_line(two_processes, monkeypatch, tmp_path):
    monkeypatch.setattr(gpaw_processes, "built_with_mpi", lambda: False)
    with pytest.raises(UserError, match="MMACE_GPAW_PROCESSES: 2 processes, but this GPAW is built without MPI"):
        GPAWEngine(SETTINGS).run(STRUCTURE, tmp_path)
    monkeypatch.setattr(gpaw_processes, "built_with_mpi", lambda: True)
    monkeypatch.setattr(gpaw_processes, "mpiexec", lambda: None)
    with pytest.raises(UserError, match="mpiexec is not on PATH"):
        GPAWEngine(SETTINGS).run(STRUCTURE, tmp_path)


def stand_in(monkeypatch, tmp_path, values) -> None:
    """A program in place of mpiexec and GPAW, which gives ``values``."""
    monkeypatch.setattr(gpaw_processes, "built_with_mpi", lambda: True)
    monkeypatch.setattr(gpaw_processes, "mpiexec", lambda: "mpiexec")
    child = tmp_path / "child.py"
    child.write_text(CHILD.format(values=json.dumps(values)))
    monkeypatch.setattr(gpaw_processes, "command", lambda processes, job: [sys.executable, str(child), str(job)])


def test_the_result_comes_back_as_it_was(two_processes, monkeypatch, tmp_path):
    made = EngineResult(
        converged=True, energy=-8.0, free_energy=-8.1, forces=np.ones((1, 3)), stress=np.eye(3),
        magmoms=np.array([[0, 0, 2.1]]), total_magmom=2.2, scf_iterations=17, details={"bands": 9},
    )  # fmt: skip
    stand_in(monkeypatch, tmp_path, gpaw_processes.as_json(made, None))
    result = GPAWEngine(SETTINGS).run(STRUCTURE, tmp_path)
    assert result.attempts == ["first attempt: converged in 17 iterations"] and result.error is None
    for name, value in asdict(made).items():
        if name not in ("attempts", "wall_seconds"):
            np.testing.assert_array_equal(getattr(result, name), value, err_msg=name)
    assert not list(tmp_path.glob("*.json"))


def test_what_does_not_converge_there_is_tried_again(two_processes, monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, gpaw_processes.as_json(EngineResult(), "SCF not converged in 333 iterations"))
    result = GPAWEngine(SETTINGS).run(STRUCTURE, tmp_path)
    assert not result.converged and len(result.attempts) == 2


def test_processes_that_end_without_a_result_are_the_machines_fault(two_processes, monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, None)
    with pytest.raises(UserError, match="GPAW in 2 processes: something is wrong with this machine"):
        GPAWEngine(SETTINGS).run(STRUCTURE, tmp_path)


def test_mpi_is_told_to_share_the_machine(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OMPI_MCA_hwloc_base_binding_policy"):
        monkeypatch.delenv(name, raising=False)
    told = "import os, sys; sys.exit(' '.join(os.environ.get(name, 'unset') for name in sys.argv[1:]))"
    names = ["OMP_NUM_THREADS", "OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_mpi_yield_when_idle"]
    assert gpaw_processes._run([sys.executable, "-c", told, *names]) == (1, "1 none 1\n")
