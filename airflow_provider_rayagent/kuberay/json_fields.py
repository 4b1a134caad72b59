"""Read fields of what Kubernetes has answered, whatever their types. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


def object_in(values: Fields, field: str) -> Fields:
    """Return an object; empty if there is none."""
    found = values.get(field)
    return found if isinstance(found, Mapping) else {}


def objects_in(values: Fields, field: str) -> list[Fields]:
    """Return the objects in a list; none if there is no list."""
    found = values.get(field)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def text_in(values: Fields, field: str) -> str:
    """Return a text; empty if there is none."""
    found = values.get(field)
    return found if isinstance(found, str) else ""
