"""Running pw.x, with programs in its place that crash, are killed, or fill the disk."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from espresso_folder import fake_pw, write_upf_2

from mmace.errors import UserError
from mmace_flows.execution.processes import process_start
from mmace_flows.labels import espresso_program
from mmace_flows.labels.espresso_engine import EspressoEngine
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.labelling import find_or_compute
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.base_cells import bain_structure

NOT_CONVERGED = "print('     convergence NOT achieved after %d iterations: stopping' % text.count('mixing'))\n"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    folder = tmp_path / "pseudo"
    folder.mkdir()
    write_upf_2(folder / "Fe.UPF", "Fe")
    write_upf_2(folder / "Ni.UPF", "Ni", valence=10.0)
    monkeypatch.setenv("MMACE_PSEUDO_DIR", str(folder))

    def make(body, **changes):
        monkeypatch.setenv("MMACE_ESPRESSO_COMMAND", fake_pw(tmp_path, body))
        espresso_program._version_of.cache_clear()
        return EspressoEngine.for_elements(EspressoSettings(kpoints=(1, 1, 1), **changes), ["Fe", "Ni"])

    return make


def run(engine, tmp_path, state="FM"):
    return engine.run(bain_structure(11.4, 1.2, state), tmp_path / "runs", "label")


def test_a_missing_program_is_one_line(monkeypatch):
    monkeypatch.setenv("MMACE_ESPRESSO_COMMAND", "mpirun-of-nobody -n 2 pw.x")
    with pytest.raises(UserError, match=r"'mpirun-of-nobody' is not a program.*apt-get install quantum-espresso"):
        espresso_program.espresso_version()
    monkeypatch.setenv("MMACE_ESPRESSO_COMMAND", "pw.x 'open")
    with pytest.raises(UserError, match=r"MMACE_ESPRESSO_COMMAND: .* is not a command"):
        espresso_program.espresso_version()


def test_another_program_is_not_taken_for_pw(monkeypatch):
    monkeypatch.setenv("MMACE_ESPRESSO_COMMAND", "echo")
    with pytest.raises(UserError, match=r"'echo' is not a pw\.x that runs"):
        espresso_program.espresso_version()


def test_the_version_comes_from_the_program(engine):
    assert engine("").version() == "6.7MaX"


def test_not_converged_twice_is_a_failed_label(engine, labels, tmp_path):
    candidate = Candidate(structure=bain_structure(11.4, 1.2, "FM"), operation="test", magnetic_state="FM")
    document, _ = find_or_compute(candidate, engine(NOT_CONVERGED), labels, tmp_path / "runs")
    assert document.status == "failed" and document.engine_version == "6.7MaX"
    assert [line.split(":")[0] for line in document.attempts] == ["first attempt", "safer mixing"]
    assert document.error == "SCF not converged in 3 iterations"
    kept = sorted(path.name.removeprefix(document.label_key) for path in (tmp_path / "runs").iterdir())
    assert kept == [".0.in", ".0.out", ".1.in", ".1.out"]


@pytest.mark.parametrize(
    ("body", "error", "attempts"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SCF broke down: pw.x crashed with SIGSEGV", 2),
        ("print('  Error in routine check_atoms (1):\\n   atoms # 1 and # 2 overlap!')", "atoms too close", 1),
        ("print('  Error in routine setup (1):\\n   no luck')", r"pw.x: no luck \(setup\)", 1),
        ("print('JOB DONE')", "pw.x: pw.x's output has no total energy", 1),
        ("print('x', file=sys.stderr)", r"stopped in the middle \(x\)", 1),
    ],
)
def test_what_the_structure_is_to_blame_for_is_a_failed_result(engine, tmp_path, body, error, attempts):
    result = run(engine(body), tmp_path)
    assert not result.converged and len(result.attempts) == attempts and "\n" not in result.error
    assert re.search(error, result.error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"ended by SIGKILL \(out of memory\?\)"),
        ("sys.exit(128 + signal.SIGTERM)", "ended by SIGTERM"),
        ("sys.exit('No space left on device')", "no space left on the disk"),
        ("print('  Error in routine readpp (1):\\n   file Fe.UPF not readable')", "pseudopotentials: Fe.UPF, Ni.UPF"),
    ],
)
def test_what_the_machine_is_to_blame_for_becomes_no_label(engine, labels, tmp_path, body, message):
    candidate = Candidate(structure=bain_structure(11.4, 1.2, "FM"), operation="test", magnetic_state="FM")
    with pytest.raises(UserError, match=message) as caught:
        find_or_compute(candidate, engine(body), labels, tmp_path / "runs")
    assert "\n" not in str(caught.value) and labels.count() == 0
    assert not [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]


def test_what_a_killed_run_left_is_removed_by_the_next(engine, tmp_path):
    left = tmp_path / "runs" / f"label.0.work-{os.uname().nodename}-999999999-1"
    left.mkdir(parents=True)
    (left / "pw.out").write_text("half")
    run(engine(NOT_CONVERGED), tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_pw_ends_with_the_process_that_started_it(engine, tmp_path, ending):
    engine(f"open({str(tmp_path / 'pid')!r} + '.new', 'w').write(str(os.getpid()))\n"
           f"os.replace({str(tmp_path / 'pid')!r} + '.new', {str(tmp_path / 'pid')!r})\n"
           "import time\ntime.sleep(60)\n")  # fmt: skip
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from mmace_flows.labels.engine import get_engine\n"
        "from mmace_flows.structures.base_cells import bain_structure\n"
        "engine = get_engine('espresso', {'kpoints': (1, 1, 1)}, ['Fe', 'Ni'])\n"
        "engine.run(bain_structure(11.4, 1.2, 'FM'), Path(sys.argv[1]))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "runs")], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 90
    while not (tmp_path / "pid").exists() and time.monotonic() < end and parent.poll() is None:
        time.sleep(0.1)
    child = int((tmp_path / "pid").read_text())
    assert process_start(child) is not None
    parent.send_signal(ending)
    parent.wait(timeout=30)
    while process_start(child) is not None and time.monotonic() < end:
        time.sleep(0.1)
    assert process_start(child) is None
    assert not list((tmp_path / "runs").glob("*.in"))
    if ending == signal.SIGINT:
        assert not list((tmp_path / "runs").iterdir())


def test_structures_that_pw_cannot_take_are_refused_before_anything_runs(engine, tmp_path):
    pw = engine("raise SystemExit('must not run')")
    structure = bain_structure(11.4, 1.2, "FM")
    for wrong, message in (
        ({"pbc": [True, True, False]}, "periodic in three directions"),
        ({"magmoms": [[0.0, 0.0, np.nan]] * 4}, "NaN"),
        ({"symbols": ["Fe", "Co", "Fe", "Co"]}, "none for Co"),
    ):
        with pytest.raises(UserError, match=message):
            pw.run(structure.model_copy(update=wrong), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
