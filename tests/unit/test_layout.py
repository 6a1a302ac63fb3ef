"""The rules of the house that can be read off the source: which room imports which, what never appears in a file."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("mmace_flows", "model", "workflows", "scripts", "tests", "docs", "db_config", "benchmarks", ".ci")
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".json", ".sh", ""}
SOURCES = sorted(
    p for folder in ("mmace_flows", "model", "workflows", "scripts") for p in (ROOT / folder).rglob("*.py")
)
PUBLIC = [p for p in SOURCES if not p.name.startswith("_") or p.name == "__init__.py"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, at import time) of every absolute import, also those inside functions."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in inside
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno, id(node) not in inside


def text_files() -> list[Path]:
    """Every text file of the project: those that git knows; in an unpacked archive, those of the known folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return sorted(p for p in files if p.suffix in TEXT and p.is_file() and p.stat().st_size < 2**20)


def test_the_potential_does_not_know_the_pipeline() -> None:
    forbidden = {
        "mmace_flows",
        "jobflow",
        "maggma",
        "pymatgen",
        "pydantic",
        "fireworks",
        "atomate2",
        "pymongo",
        "typer",
    }
    wrong = [
        f"{relative(path)}:{line} imports {module}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "model")
        for module, line, _ in imports(path)
        if module.split(".")[0] in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_between_the_rooms_point_one_way() -> None:
    """schemas import no other room, nothing imports the command line, and only the command line knows recipes."""
    wrong = []
    for path in SOURCES:
        room = relative(path).split("/")[1] if path.is_relative_to(ROOT / "mmace_flows") else path.parts[-2]
        for module, line, _ in imports(path):
            parts = module.split(".")
            if parts[0] == "workflows":
                wrong.append(f"{relative(path)}:{line} imports a recipe")
            if parts[:2] == ["mmace_flows", "cli"] and room not in ("cli", "__init__.py"):
                wrong.append(f"{relative(path)}:{line} imports the command line")
            if room == "schemas" and parts[0] == "mmace_flows" and parts[1:2] != ["schemas"]:
                wrong.append(f"{relative(path)}:{line} imports {module} into the schemas")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", PUBLIC, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{relative(path)} has no docstring"


def test_no_file_is_too_long() -> None:
    lengths = {relative(p): len(p.read_text().splitlines()) for p in [*SOURCES, *(ROOT / "tests").rglob("*.py")]}
    assert {name: length for name, length in lengths.items() if length >= 450} == {}


def test_nothing_is_unpickled() -> None:
    wrong = []
    for path in SOURCES:
        wrong += [
            f"{relative(path)}:{line} imports {module}"
            for module, line, _ in imports(path)
            if module.split(".")[0] in {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        ]
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name == "torch.load" and keywords.get("weights_only") != "True":
                wrong.append(f"{relative(path)}:{node.lineno} torch.load without weights_only=True")
            if name in {"np.load", "numpy.load"} and keywords.get("allow_pickle", "False") != "False":
                wrong.append(f"{relative(path)}:{node.lineno} numpy.load with allow_pickle")
            if keywords.get("shell", "False") != "False" or name == "os.system":
                wrong.append(f"{relative(path)}:{node.lineno} a shell")
            if name in {"yaml.load", "eval", "exec"}:
                wrong.append(f"{relative(path)}:{node.lineno} {name}")
    assert not wrong, "\n".join(wrong)


def test_no_path_of_one_machine_and_no_package_index() -> None:
    # spelled in pieces, so that this file does not find itself
    machine = re.compile(r"(?<![\w.~/<])/(?:" + "|".join(["work", "home", "root", "opt", "Users", "mnt"]) + r")/[\w.]")
    index = re.compile(
        "|".join(["py" + r"pi\.org", "python" + "hosted", r"download\.py" + "torch", "--extra" + "-index-url"])
    )
    wrong = []
    for path in text_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if machine.search(line) or index.search(line):
                wrong.append(f"{relative(path)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_the_command_line_starts_without_heavy_packages() -> None:
    """`mmace --help` must answer at once, so importing the command line must not import what takes seconds."""
    code = "import json, sys, mmace_flows.cli.app; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    heavy = {
        "torch",
        "pymatgen",
        "gpaw",
        "ase",
        "scipy",
        "matplotlib",
        "jobflow",
        "fireworks",
        "maggma",
        "atomate2",
        "e3nn",
    }
    assert heavy & set(json.loads(done.stdout)) == set()


def test_no_heavy_import_in_recipes_command_line_at_import_time() -> None:
    wrong = [
        f"{relative(path)}:{line} imports {module} at import time"
        for path in SOURCES
        if path.is_relative_to(ROOT / "mmace_flows" / "cli")
        for module, line, at_import in imports(path)
        if at_import and module.split(".")[0] in {"torch", "pymatgen", "gpaw", "atomate2", "mmace_flows.learning"}
    ]
    assert not wrong, "\n".join(wrong)


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports test files by their names alone."""
    seen: dict[str, Path] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.name not in ("conftest.py", "__init__.py"):
            assert path.name not in seen, f"{relative(path)} and {relative(seen[path.name])}; rename one"
            seen[path.name] = path
