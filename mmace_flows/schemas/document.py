"""What all documents have in common. Nothing heavy is imported here: the status reads documents of campaigns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


def content_hash(data: Any) -> str:
    """SHA-256 (first 32 hex digits) of JSON-able ``data``, independent of key order."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Document(BaseModel):
    """Base of every document: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form that names its class. Makers hold documents, and jobflow's queue asks for this."""
        kind = type(self)
        return {"@module": kind.__module__, "@class": kind.__name__, **self.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `as_dict`, or from plain fields."""
        return cls.model_validate({key: value for key, value in data.items() if not key.startswith("@")})

    @classmethod
    def from_store(cls, stored: Mapping[str, Any]) -> Self:
        """Without what a store adds (``_id``, ``last_updated``, …). Raises pydantic's ValidationError."""
        return cls.model_validate({name: stored[name] for name in cls.model_fields if name in stored})
