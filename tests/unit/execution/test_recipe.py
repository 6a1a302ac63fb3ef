"""Recipes: loaded by path, changed by --set, refused in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmace.errors import UserError
from mmace_flows.execution.recipe import load_recipe

TEXT = """
from pydantic import BaseModel, ConfigDict, Field

class Training(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epochs: int = Field(5, ge=1)

class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    iterations: int = 2
    kpts: list[int] = [3, 3, 3]
    grid: tuple[int, int, int] | None = (4, 4, 2)
    counts: dict[str, int] = {"NM": 1}
    training: Training = Training()

PRESETS = {"small": Settings(), "paper": Settings(iterations=3)}

def build(settings, campaign):
    return settings, campaign

def estimate(settings):
    return settings.iterations
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "some_recipe.py"
    path.write_text(TEXT)
    yield path
    sys.modules.pop("some_recipe", None)


def test_changes_reach_into_nested_settings(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    settings = recipe.settings("paper", ["training.epochs=7", "kpts=[1, 2, 3]"])
    assert settings.model_dump() == {
        "iterations": 3, "kpts": [1, 2, 3], "grid": (4, 4, 2), "counts": {"NM": 1}, "training": {"epochs": 7},
    }  # fmt: skip
    assert recipe.settings("small", ["counts.FM=2"]).model_dump()["counts"] == {"NM": 1, "FM": 2}, "keys are free there"
    assert recipe.preset("paper").model_dump()["training"] == {"epochs": 5}, "the preset itself is untouched"
    assert load_recipe(recipe_file).module is recipe.module, "jobs defined in it keep their identity"


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        ("smal", "", "unknown preset 'smal'; did you mean 'small'"),
        ("small", "iteration=3", "unknown setting 'iteration'; did you mean 'iterations'"),
        ("small", "training.epoch=3", "unknown setting 'epoch'; did you mean 'epochs'"),
        ("small", "iterations=many", "--set iterations: .*integer.*'many'"),
        ("small", "training.epochs=0", "--set training.epochs: .*greater than or equal to 1"),
        ("small", "iterations", "expected key=value"),
        ("small", "iterations.x=1", "holds a value"),
        ("small", "kpts=[1", "not readable"),
        ("small", "training=3", "--set training: expected a mapping of settings, or one of them, like training.epochs"),
        ("small", "training={epoch: 3}", "--set training: unknown setting 'epoch'; did you mean 'epochs'"),
        ("small", "grid=[4, 4]", r"--set grid: expected three whole numbers, like \[4, 4, 2\], got \[4, 4\]"),
        ("small", "grid=[4, 4, x]", "--set grid: expected three whole numbers"),
        ("small", "grid=4", "--set grid: expected three whole numbers"),
        ("small", "counts=4", "--set counts: expected a mapping, like {name: value}, got 4"),
        ("small", "counts={NM: many}", "--set counts.NM: .*integer.*'many'"),
    ],
)
def test_wrong_settings(preset: str, change: str, message: str, recipe_file: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(recipe_file).settings(preset, [change] if change else [])
    assert "\n" not in str(caught.value)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(tmp_path / "nothing.py")
    broken = tmp_path / "broken_recipe.py"
    broken.write_text("x = 1\nprint(undefined)\n")
    with pytest.raises(UserError, match=r"broken_recipe.py:2: NameError"):
        load_recipe(broken)
    broken.write_text("def f(:\n")
    with pytest.raises(UserError, match=r"broken_recipe.py:1: SyntaxError"):
        load_recipe(broken)
    empty = tmp_path / "empty_recipe.py"
    empty.write_text("PRESETS = {}\n")
    with pytest.raises(UserError, match="lacks build, estimate"):
        load_recipe(empty)
    taken = tmp_path / "json.py"
    taken.write_text(TEXT)
    with pytest.raises(UserError, match="called 'json' too"):
        load_recipe(taken)
