"""Validate arguments that are sent as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError


def json_object(value: object, name: str) -> dict[str, Any]:
    """Return a mapping as a JSON object.

    :param name: name of the argument, for the message.
    :raises RayAgentInputError: if it is not a mapping or not serializable as JSON.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RayAgentInputError(f"{name} must be a mapping with strings as keys, not {type(value).__name__}.")
    try:
        sent: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise RayAgentInputError(f"{name} cannot be sent as JSON: {error}.") from None
    return sent
