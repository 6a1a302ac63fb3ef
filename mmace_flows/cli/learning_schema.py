"""The JSON schema of the settings file, from the dataclasses that read it: `mmace train --schema`."""

from __future__ import annotations

import json
from typing import Any

from mmace_flows.cli.learning_sections import SECTIONS


def settings_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the settings file."""
    from mmace.config import PotentialConfig
    from mmace.train import TrainingConfig
    from mmace.train.schema import dataclass_schema

    sections = {name: dict(schema) for name, schema in SECTIONS.items()}
    model = dataclass_schema(PotentialConfig)
    model.pop("required")  # the elements come from the data
    sections["model"] |= model
    sections["training"] |= dataclass_schema(TrainingConfig)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of mmace train and mmace finetune",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"
