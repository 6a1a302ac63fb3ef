"""JSON schema of dataclasses of settings: types, defaults, and what the source says of each field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import types
import typing
from typing import Any

from mmace.coupling import SYMMETRIES
from mmace.fields import LABELS
from mmace.train.config import ATOMIC_ENERGIES, DEVICES, SCHEDULES, TRAINABLE

CHOICES = {
    "schedule": SCHEDULES,
    "trainable": TRAINABLE,
    "device": DEVICES,
    "symmetry": SYMMETRIES,
    "dtype": ("float32", "float64"),
    "distance_transform": ("none", "agnesi"),
}
_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", types.NoneType: "null"}


def dataclass_schema(cls: type) -> dict[str, Any]:
    """JSON schema of a dataclass of plain values, lists, mappings and other dataclasses. Unknown keys are not allowed;
    fields without default are required."""
    hints, words = typing.get_type_hints(cls), field_descriptions(cls)
    properties, required = {}, []
    for field in dataclasses.fields(cls):
        if field.name == "anisotropy":  # settings of the same kind once more
            kind: dict[str, Any] = {"anyOf": [{"type": "object"}, {"type": "null"}]}
        else:
            kind = _of_type(hints[field.name])
        schema = {"description": words[field.name], **kind}
        if field.name in CHOICES:
            schema["enum"] = list(CHOICES[field.name])
        if field.name == "atomic_energies":  # of the texts only these mean something
            schema["anyOf"][0]["enum"] = list(ATOMIC_ENERGIES)
        if field.name == "weights":
            _name_labels(schema)
        if field.default is not dataclasses.MISSING:
            schema["default"] = _plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            schema["default"] = _plain(field.default_factory())
        else:
            required.append(field.name)
        properties[field.name] = schema
    made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**made, "required": required} if required else made


def field_descriptions(cls: type) -> dict[str, str]:
    """What the source says of each field: the text below it, or the comment behind it."""
    source = inspect.getsource(cls)
    body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
    lines = source.splitlines()
    found: dict[str, str] = {}
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            text = after.value.value
        elif comment := re.search(r"  # (.*)$", lines[(statement.end_lineno or 1) - 1]):
            text = comment[1]
        found[statement.target.id] = re.sub(r"\bNone\b", "null", " ".join(text.split()))
    return found


def _of_type(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of_type(argument) for argument in arguments]}
    if origin in (list, tuple):
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is dict:
        values = arguments[1]
        return {"type": "object"} if values is Any else {"type": "object", "additionalProperties": _of_type(values)}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return dataclass_schema(hint)
    return {"type": _NAMES[hint]}


def _name_labels(schema: dict[str, Any]) -> None:
    """Weights of the loss have the names of the labels."""
    mapping = schema["anyOf"][0] if "anyOf" in schema else schema
    weight = {"type": "number", "minimum": 0}
    mapping |= {"properties": {label.name: weight for label in LABELS}, "additionalProperties": False}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
