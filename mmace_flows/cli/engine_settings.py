"""Settings of an engine on the command line: a preset and a file that changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PRESETS = ("small", "paper")


def engine_settings(engine: str, preset: str, path: Path | None) -> dict[str, Any]:
    """The preset with what the file changes, JSON-able. Raises UserError, one line with file and field."""
    from pydantic import ValidationError

    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.execution.explain import explain
    from mmace_flows.labels.engine import settings_class

    kind: Any = settings_class(engine)
    if preset not in PRESETS:
        raise UserError(unknown_key_message(preset, PRESETS, "--preset").replace("unknown setting", "unknown preset"))
    changes = {} if path is None else file_changes(kind, path)
    for given, other in (("kpoints", "kpoint_spacing"), ("kpoint_spacing", "kpoints")):
        if changes.get(given) is not None:  # one replaces the other, which may stand in the preset
            changes.setdefault(other, None)
    try:
        chosen = getattr(kind, preset)(**changes)
    except ValidationError as error:
        raise UserError(f"{path} {explain(kind, changes, error)}") from error
    values: dict[str, Any] = chosen.model_dump(mode="json")
    return values


def file_changes(kind: Any, path: Path) -> dict[str, Any]:
    """What a settings file says, its keys checked against the document ``kind``. Raises UserError."""
    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.execution.settings import read_yaml

    if not path.is_file():
        raise UserError(f"--settings {path}: no such file")
    changes: dict[str, Any] = read_yaml(path)
    for key in changes:
        if key not in kind.model_fields:
            raise UserError(unknown_key_message(str(key), kind.model_fields, str(path)))
    return changes
