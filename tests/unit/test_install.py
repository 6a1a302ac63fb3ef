"""The installer: what it decides, what it says when something is missing, and that it goes on after a break."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of scripts/."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return lambda name: importlib.import_module(name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the set-up reads, without an environment."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def error_lines(output: str) -> list[str]:
    """The installer's own words; make adds a line of its own, which starts with `make`."""
    return [line for line in output.splitlines() if line and not line.startswith("make")]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
class TestMakefile:
    def test_help_is_the_default_and_names_every_target(self, checkout: Path) -> None:
        text = (checkout / "Makefile").read_text()
        targets = re.search(r"\.PHONY: (.*)", text).group(1).split()
        shown = subprocess.run(["make"], cwd=checkout, capture_output=True, text=True, check=True).stdout
        for target in targets:
            assert re.search(rf"^  {target}\s+\S", shown, re.MULTILINE), target

    def test_no_python_that_is_new_enough(self, checkout: Path, tmp_path: Path) -> None:
        programs = tmp_path / "bin"
        programs.mkdir()
        old = programs / "python3"
        old.write_text("#!/bin/sh\nexit 1\n")  # what a Python 3.9 answers to the question for its version
        old.chmod(0o755)
        done = subprocess.run(
            [shutil.which("make"), "install"],
            cwd=checkout, env={"PATH": str(programs)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        (line,) = error_lines(done.stderr)
        assert line.startswith("error: no Python 3.11 or newer") and "apt-get install python3" in line


def run_installer(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/install.py"], cwd=checkout, env=environment, capture_output=True, text=True
    )


def test_no_compiler(checkout: Path, tmp_path: Path) -> None:
    done = run_installer(checkout, PATH=str(tmp_path), MMACE_NO_APT="1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no C++ compiler") and "apt-get install g++" in line


def test_a_compiler_that_cannot_link_is_no_compiler(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert load("siteconfig").find_compiler() is None


def test_gpaw_config_that_does_not_exist(checkout: Path) -> None:
    done = run_installer(checkout, PATH=os.environ["PATH"], MMACE_NO_APT="1", GPAW_CONFIG="nowhere/siteconfig.py")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: GPAW_CONFIG names nowhere/siteconfig.py, which is no file: mend it or unset it"
    ]


def test_full_disk(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    machine = load("machine")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**9))
    with pytest.raises(load("console").InstallError, match=r"only 1.0 GB free in .*; the set-up needs 4 GB: free some"):
        machine.check_machine(load("console").Console(tmp_path / "log", 1), tmp_path)


@pytest.mark.parametrize("part", ["venv", "headers"])
def test_python_without_a_part(load, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = load("machine")
    monkeypatch.setattr(machine.siteconfig, "find_compiler", lambda: "g++")
    monkeypatch.setattr(machine, f"lacks_{part}", lambda: True)
    monkeypatch.setenv("MMACE_NO_APT", "1")
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-{'venv' if part == 'venv' else 'dev'}"
    with pytest.raises(load("console").InstallError, match=f"apt-get install {re.escape(package)}"):
        machine.check_machine(load("console").Console(tmp_path / "log", 1), tmp_path)


@pytest.mark.parametrize(
    ("retries", "words"),
    [("1", "pip reached no package index: check the network"), ("0", "no package index that pip asked has vesin")],
)
def test_no_network(load, tmp_path: Path, retries: str, words: str) -> None:
    """pip's own words when nothing answers, not an invented text. Without retries pip does not say why."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--index-url", "http://127.0.0.1:9/simple", "--retries", retries,
         "-d", str(tmp_path), "vesin"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert words in load("diagnose").cause_of(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for this Python"),
        ("ERROR: Could not install: [Errno 13] Permission denied: 'lib/x.py'", "no permission to write lib/x.py"),
        ("Building\nERROR: something nobody foresaw\n", "ERROR: something nobody foresaw"),
        ("Building\n", "the reason is at the end of the log"),
    ],
)
def test_one_line_for_each_cause(load, output: str, words: str) -> None:
    cause = load("diagnose").cause_of(output)
    assert words in cause and "\n" not in cause


def siteconfig_values(text: str) -> dict[str, object]:
    values: dict[str, object] = {}
    exec(text, values)
    return {key: values[key] for key in ("mpi", "compiler", "libraries", "noblas", "nolibxc", "fftw")}


def test_siteconfig_with_everything_and_with_nothing(load) -> None:
    siteconfig = load("siteconfig")
    full = siteconfig_values(siteconfig.siteconfig("g++", {"xc": True, "openblas": True, "fftw3": True}))
    assert full == {
        "mpi": False, "compiler": "g++", "libraries": ["xc", "openblas", "fftw3"],
        "noblas": False, "nolibxc": False, "fftw": True,
    }  # fmt: skip
    bare = siteconfig_values(siteconfig.siteconfig("g++", {}))
    assert bare == {
        "mpi": False, "compiler": "g++", "libraries": [], "noblas": True, "nolibxc": True, "fftw": False
    }  # fmt: skip


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
def test_probing_compiles_and_links(load, tmp_path: Path) -> None:
    """A compiler that refuses libxc: libxc is not used, whatever else is there is found as with the real compiler."""
    siteconfig = load("siteconfig")
    wrapper = tmp_path / "compiler"
    wrapper.write_text('#!/bin/sh\ncase "$*" in *-lxc*) exit 1;; esac\nexec g++ "$@"\n')
    wrapper.chmod(0o755)
    assert siteconfig.works("g++", "c++17")
    assert siteconfig.probe(str(wrapper)) == {**siteconfig.probe("g++"), "xc": False}


def test_stamp_changes_with_everything_the_environment_depends_on(load, checkout: Path, tmp_path: Path) -> None:
    install = load("install")
    stamps = [install.stamp_of(checkout, "fftw = True\n"), install.stamp_of(checkout, "fftw = False\n")]
    for name in ("pyproject.toml", "constraints.txt"):
        (checkout / name).write_text((checkout / name).read_text() + "# changed\n")
        stamps.append(install.stamp_of(checkout, "fftw = True\n"))
    moved = tmp_path / "moved"
    checkout.rename(moved)
    stamps.append(install.stamp_of(moved, "fftw = True\n"))
    assert len(set(stamps)) == 5


def test_up_to_date_only_with_a_finished_environment(load, checkout: Path) -> None:
    install: ModuleType = load("install")
    installer = install.Installer(checkout)
    assert not installer.up_to_date()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    Path(installer.python).touch()
    installer.siteconfig.write_text("mpi = False\n")
    assert not installer.up_to_date()
    installer.stamp.write_text(install.stamp_of(checkout, "mpi = False\n"))
    assert installer.up_to_date()
    installer.siteconfig.write_text("mpi = True\n")
    assert not installer.up_to_date()


def test_a_set_up_that_is_up_to_date_does_nothing(load, checkout: Path) -> None:
    installer = load("install").Installer(checkout)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    Path(installer.python).touch()
    installer.siteconfig.write_text("mpi = False\n")
    installer.stamp.write_text(load("install").stamp_of(checkout, "mpi = False\n"))
    done = run_installer(checkout, PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_packages_that_a_killed_pip_left_incomplete_are_found(load, tmp_path: Path) -> None:
    for name, files in {"whole": ["whole.py"], "half": [], "norecord": ["norecord.py"]}.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        for file in files:
            (tmp_path / file).touch()
        if name != "norecord":
            (folder / "RECORD").write_text(f"{name}.py,,\n__pycache__/{name}.cpython-311.pyc,,\n")
    assert load("diagnose").incomplete_distributions(tmp_path) == ["half", "norecord"]


def test_two_set_ups_do_not_run_at_once(load, checkout: Path) -> None:
    first = load("install").Installer(checkout)
    first.acquire()
    code = (
        "import sys; sys.path.insert(0, 'scripts'); from pathlib import Path; import install; "
        "install.Installer(Path.cwd()).acquire(); print('mine', flush=True)"
    )
    second = subprocess.Popen([sys.executable, "-c", code], cwd=checkout, stdout=subprocess.PIPE, text=True)
    try:
        assert "waiting" in second.stdout.readline()
        assert second.poll() is None
        os.close(first.lock)
        assert second.stdout.readline() == "mine\n"
        assert second.wait(timeout=20) == 0
    finally:
        second.kill()
        second.stdout.close()


def test_every_dependency_is_pinned_and_nothing_points_elsewhere() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
            pins[normal(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    missing = [name for name in wanted if normal(re.match(r"[\w.-]+", name).group()) not in pins]
    assert not missing, f"not pinned in constraints.txt: {missing}"
    assert pins["torch"] == "2.13.0" and pins["gpaw"] == "26.7.0"


def normal(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
