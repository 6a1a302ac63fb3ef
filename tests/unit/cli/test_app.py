"""The command line: exit codes, one line for errors, quick help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmace.errors import UserError
from mmace_flows.cli import app as application


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("MMACE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runn"], ["No such command 'runn'", "'run'"]),
        (["run", "--presett", "x", "recipe.py"], ["No such option: --presett", "--preset", "mmace run --help"]),
        (["run"], ["Missing argument"]),
        (["run", "no_recipe.py"], ["no_recipe.py", "no such recipe"]),
        (["run", "r.py", "--workers", "0"], ["--workers"]),
        (["resume", "nobody", "--workers", "two"], ["--workers", "valid integer"]),
    ],
)
def test_errors_are_one_line(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and len(output.err.splitlines()) == 1 and not output.out
    assert all(word in output.err for word in words), output.err


def test_errors_inside_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mmace_flows.execution import settings

    def raising(error: BaseException):
        def load_settings(**overrides: object) -> None:
            raise error

        return load_settings

    monkeypatch.setattr(settings, "load_settings", raising(UserError("file: field\n is wrong")))
    assert application.run(["status"]) == 2
    assert capsys.readouterr().err == "error: file: field is wrong\n"
    monkeypatch.setattr(settings, "load_settings", raising(OSError(28, "No space left on device", "some/file")))
    assert application.run(["status"]) == 2
    assert capsys.readouterr().err == "error: some/file: no space left on device\n"
    monkeypatch.setattr(settings, "load_settings", raising(KeyboardInterrupt()))
    assert application.run(["status"]) == 130
    monkeypatch.setattr(settings, "load_settings", raising(RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError):
        application.run(["status"])


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    from mmace_flows import __version__

    assert application.run(["--version"]) == 0
    assert capsys.readouterr().out == f"mmace-flows {__version__}\n"
    assert application.run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("run", "resume", "status", "report", "train", "evaluate", "doctor", "db"):
        assert f"  {command} " in text


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom mmace_flows.cli.app import run\nrun(['--help'])\n"
        "heavy = {'torch', 'ase', 'numpy', 'pymatgen', 'jobflow', 'fireworks', 'maggma', 'pymongo', 'pydantic'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, f"imported: {result.stderr}"


def test_empty_data_folder_starts_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "empty"
    assert application.run(["status", "--json", "--data-dir", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert application.run(["status", "feni", "--data-dir", str(folder)]) == 2
    assert "no campaign 'feni'" in capsys.readouterr().err
    assert application.run(["db", "status", "--json", "--data-dir", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["running"] is False
    assert application.run(["db", "stop", "--data-dir", str(folder)]) == 0
    assert not folder.exists()
