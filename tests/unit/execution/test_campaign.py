"""Campaigns that exist with other settings, or do not exist."""

from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from mmace.errors import UserError
from mmace_flows.cli.app import app
from mmace_flows.execution.campaign import _difference, require_database
from mmace_flows.execution.recipe import Recipe
from mmace_flows.execution.settings import load_settings
from mmace_flows.schemas.campaign import Campaign


class Calculation(BaseModel):
    cutoff: float = 300.0
    kpoints: tuple[int, int, int] = (4, 4, 2)


class Settings(BaseModel):
    dft: Calculation = Calculation()
    seed: int = 0


def difference(new: Settings) -> str:
    old = Campaign(
        campaign="c", recipe="r.py", preset="small", settings=Settings().model_dump(mode="json"), settings_hash="",
        code_version="", created="", details={"recipe_file": "/r.py"},
    )  # fmt: skip
    return _difference(old, Recipe(Path("/r.py"), pytest), new)


def test_only_the_settings_that_differ_are_named() -> None:
    assert difference(Settings(dft=Calculation(cutoff=400.0))) == "dft.cutoff: 300.0 there, 400.0 here"
    three = Settings(dft=Calculation(cutoff=400.0, kpoints=(2, 2, 1)), seed=1)
    assert difference(three) == (
        "dft.cutoff: 300.0 there, 400.0 here; dft.kpoints: [4, 4, 2] there, [2, 2, 1] here; and 1 more"
    )


@pytest.mark.parametrize("command", ["report", "resume", "status"])
def test_without_a_database_the_campaign_is_named_and_nothing_is_started(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [command, "foo", "--data-dir", str(tmp_path / "data")])
    assert result.exit_code != 0 and "no campaign 'foo'" in str(result.exception) + result.output
    assert not (tmp_path / "data").exists()
    with pytest.raises(UserError, match=r"^no campaign: there is no database in"):
        require_database(load_settings(data_dir=tmp_path / "data"), None)
