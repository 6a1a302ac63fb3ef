"""What is wrong with a recipe's settings, in the user's words rather than in pydantic's."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mmace.errors import unknown_key_message

COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}
SHOWN = 60  # characters of a wrong value


def explain(kind: type[BaseModel], values: dict[str, Any], error: ValidationError) -> str:
    """The first thing that is wrong with ``values`` of ``kind``: dotted key, what is wanted, what was given."""
    first = error.errors()[0]
    place, annotation, value = _setting(kind, values, first["loc"])
    if first["type"] == "extra_forbidden" and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return unknown_key_message(str(first["loc"][-1]), annotation.model_fields, place)
    wanted = _in_words(place, annotation, value)
    if wanted is not None and first["type"] != "value_error":
        return f"{place}: expected {wanted}, got {_short(value)}"
    field = ".".join(str(part) for part in first["loc"]) or "settings"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] in ("missing", "value_error") and isinstance(first["input"], dict):
        return f"{field}: {message}"  # the message says it all, and the whole settings would bury it
    return f"{field}: {message}, got {_short(first['input'])}"


def _setting(kind: type[BaseModel], values: Any, location: tuple[int | str, ...]) -> tuple[str, Any, Any]:
    """Dotted key, annotation and given value of the innermost setting on the way to ``location``."""
    annotation: Any = kind
    passed: list[str] = []
    for part in location:
        fields = annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}
        if part not in fields or not isinstance(values, dict) or part not in values:
            break
        annotation, values = _without_none(fields[str(part)].annotation), values[part]
        passed.append(str(part))
    return ".".join(passed) or "settings", annotation, values


def _in_words(place: str, annotation: Any, value: Any) -> str | None:
    """What a setting wants, for those kinds whose errors are hard to read; None for the others."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not isinstance(value, dict):
        return f"a mapping of settings, or one of them, like {place}.{next(iter(annotation.model_fields))}=…"
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and arguments and set(arguments) <= {int, float}:
        kind, example = (
            ("whole numbers", "4, 4, 2, 1") if set(arguments) == {int} else ("numbers", "0.9, 1.1, 1.2, 1.3")
        )
        listed = ", ".join(example.split(", ")[: len(arguments)])
        return f"{COUNTS.get(len(arguments), str(len(arguments)))} {kind}, like [{listed}]"
    if get_origin(annotation) is dict and not isinstance(value, dict):
        return "a mapping, like {name: value}"
    return None


def _without_none(annotation: Any) -> Any:
    """``X`` for ``X | None``."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
