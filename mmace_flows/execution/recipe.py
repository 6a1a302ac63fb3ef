"""Recipes: Python files under `workflows/` that say what a campaign does, loaded by path.

A recipe has a pydantic settings class (``extra="forbid"``), ``PRESETS: dict[str, Settings]``,
``build(settings, campaign) -> Flow`` and ``estimate(settings) -> CostEstimate``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from mmace.errors import UserError, unknown_key_message
from mmace_flows.execution.explain import explain
from mmace_flows.execution.trust import trust_folder

if TYPE_CHECKING:
    from jobflow import Flow

    from mmace_flows.schemas.campaign import CostEstimate

NEEDED = ("PRESETS", "build", "estimate")


@dataclass(frozen=True)
class Recipe:
    """A loaded recipe file."""

    path: Path
    module: ModuleType

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def preset(self, name: str) -> BaseModel:
        """Settings of a preset. Raises UserError that names the nearest right one."""
        presets: dict[str, BaseModel] = self.module.PRESETS
        if name not in presets:
            message = unknown_key_message(name, presets, str(self.path))
            raise UserError(message.replace("unknown setting", "unknown preset"))
        return presets[name]

    def settings(self, preset: str, changes: Sequence[str] = ()) -> BaseModel:
        """Settings of a preset with ``key=value`` changes; dots reach into nested settings, values are YAML.

        Raises UserError that names the key, and the nearest right one.
        """
        base = self.preset(preset)
        values = base.model_dump()
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals or not key.strip():
                raise UserError(f"--set {change}: expected key=value")
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise UserError(
                    f"--set {change}: the value is not readable ({' '.join(str(error).split())})"
                ) from error
            _put(values, key.strip().split("."), value, change, base)
        return self.check(type(base), values, "--set")

    def check(self, kind: type[BaseModel], values: dict[str, Any], where: str) -> BaseModel:
        """Validated settings. Raises UserError with the first thing that is wrong."""
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            raise UserError(f"{where} {explain(kind, values, error)}") from error

    def build(self, settings: BaseModel, campaign: str) -> Flow:
        """The campaign's flow."""
        return self.module.build(settings, campaign)

    def estimate(self, settings: BaseModel) -> CostEstimate:
        """What the campaign is expected to cost."""
        return self.module.estimate(settings)


def load_recipe(path: Path) -> Recipe:
    """Load a recipe file. Raises UserError if it is missing, does not run, or lacks a part."""
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path("workflows")
        known = sorted(str(found) for found in folder.glob("*.py")) if folder.is_dir() else []
        raise UserError(f"{path}: no such recipe; " + (f"known: {', '.join(known)}" if known else "give a .py file"))
    path = path.resolve()
    trust_folder(path.parent)
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise UserError(f"{path}: a recipe is a .py file whose name is a Python name, like feni.py")
    module = sys.modules.get(name)
    if module is None or getattr(module, "__file__", None) != str(path):
        module = _import(path, name)
    missing = [part for part in NEEDED if not hasattr(module, part)]
    if missing:
        raise UserError(f"{path}: not a recipe, it lacks {', '.join(missing)}; see workflows/feni.py")
    return Recipe(path, module)


def _import(path: Path, name: str) -> ModuleType:
    """Import under the file's own name, by which workers find jobs that are defined in the recipe."""
    other = None if name in sys.modules else importlib.util.find_spec(name)
    if name in sys.modules or (other is not None and Path(other.origin or "").resolve() != path):
        raise UserError(f"{path}: a Python module is called '{name}' too; rename the recipe")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it is a .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        line = _line_in(path, error)
        raise UserError(f"{path}{line}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return module


def _line_in(path: Path, error: BaseException) -> str:
    """``:12`` for the last line of the recipe that the error went through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _put(values: dict[str, Any], keys: list[str], value: Any, change: str, model: Any) -> None:
    """Replace one value in nested settings. Raises UserError for a key that is not there.

    ``model``: what ``values`` were dumped from. Where it is a plain mapping, whose keys are of another package's
    settings and checked by them, a key that is not there is added.
    """
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if key not in values and not (last and isinstance(model, dict)):
            raise UserError(unknown_key_message(key, values, f"--set {change}"))
        if last:
            values[key] = value
        elif isinstance(values[key], dict):
            values = values[key]
            model = model.get(key) if isinstance(model, dict) else getattr(model, key, None)
        else:
            raise UserError(f"--set {change}: '{key}' holds a value, not further settings")
