"""`mmace build`, `query` and `serve` with what people get wrong: one line, exit code 2, and no database made."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmace_flows.cli.app import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query", "anisotropy", "--elements", "Xx"], "elements: 'Xx' is no chemical element"),
        (["query", "anisotropy", "--min-k1", "abc"], "'--min-k1'"),
        (["query", "anisotropy", "--sort", "-k9"], "sort: 'k9' is no sort; did you mean"),
        (["query", "anisotropy", "--format", "tbl"], "--format: unknown format 'tbl'; did you mean 'table'?"),
        (["query", "anisotropy", "-o", "nowhere/out.csv"], "--output nowhere/out.csv: there is no folder nowhere"),
        (["query", "anisotropy", "--page", "300"], "page: pages reach to row 10,000"),
        (["query", "anisotropy", "--elements", "Fe"], "there is no database in"),
        (["build", "anisotropy"], "there is no database in"),
        (["serve"], "there is no database in"),
        (["serve", "--host", "0.0.0.0"], "--host 0.0.0.0: other machines could read your results; give a token"),
        (["serve", "--token-file", "missing"], "--token-file missing: cannot be read (No such file or directory)"),
    ],
)
def test_one_line_and_no_new_database(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("MMACE_DATABASE", "MMACE_SERVE_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "--data-dir", str(tmp_path / "data")]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: ") and words in line and said.out == ""
    assert not (tmp_path / "data").exists()
