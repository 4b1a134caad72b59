"""The connection form and the hook know the same fields; `tests/docs` looks at their page."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.agent.config import EXTRA_FIELDS
from airflow_provider_rayagent.get_provider_info import get_provider_info

SECRETS = {"user_token"}


def form() -> dict[str, Any]:
    fields: dict[str, Any] = get_provider_info()["connection-types"][0]["conn-fields"]
    return fields


def test_the_form_has_the_fields_that_the_hook_reads() -> None:
    assert sorted(form()) == sorted(EXTRA_FIELDS)


def test_every_field_has_a_label_and_says_what_goes_there() -> None:
    for field in form().values():
        assert field["label"]
        assert field["description"].endswith(".")


def test_secrets_are_masked_in_the_form() -> None:
    masked = {name for name, field in form().items() if field["schema"].get("format") == "password"}

    assert masked == SECRETS
