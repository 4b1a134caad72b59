"""The connection form, the hook and the documentation know the same fields."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from airflow._shared.secrets_masker import redact

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.connection.fields import EXTRA_FIELDS, FIELDS, field_name
from airflow_provider_rayagent.connection.permitted_files import FOLDERS
from airflow_provider_rayagent.get_provider_info import get_provider_info

PAGE = Path(__file__).parents[2] / "docs" / "connection.md"
SECRETS = {"user_token"}
OF_SEVERAL_CLUSTERS = {"clusters", "test_cluster"}
"""Fields that change nothing in a connection to one cluster; ``connection/test_admitted_clusters.py`` tests them."""
SAMPLES: dict[str, Any] = {
    "service": "ray",
    "clusters": "*.emr.internal, 10.20.0.0/16",
    "test_cluster": "production",
    "token_file": "/var/run/secrets/ray/token",
    "user_token": "user-token",
    "tenant": "acme",
    "verify": False,
    "ca_bundle": "/ca.pem",
    "client_cert": "/client.pem",
    "client_key": "/client-key.pem",
    "headers": {"X-Key": "value"},
    "connect_timeout": 5,
    "read_timeout": 2.5,
    "job_url": "https://ray.example.com/{job_id}",
    "metrics_url": "https://grafana.example.com/d/ray?from={start}&to={end}",
    "logs_url": "https://logs.example.com/?node={node_id}",
    "history_url": "https://history.example.com/{host}",
    "job_namespace": "production",
}


def connection_type() -> dict[str, Any]:
    found: dict[str, Any] = get_provider_info()["connection-types"][0]
    return found


def form() -> dict[str, Any]:
    fields: dict[str, Any] = connection_type()["conn-fields"]
    return fields


def read(**extra: Any) -> ServiceConfig:
    return read_config(host="agent", extra=extra)


def test_the_form_has_the_fields_that_the_hook_reads_under_the_names_that_its_messages_use() -> None:
    assert {name: field["label"] for name, field in form().items()} == EXTRA_FIELDS
    assert connection_type()["ui-field-behaviour"]["relabeling"] == FIELDS


@pytest.fixture(autouse=True)
def _patient() -> None:
    """Keep the real timeouts."""


@pytest.mark.parametrize("name", sorted(EXTRA_FIELDS.keys() - OF_SEVERAL_CLUSTERS))
def test_what_is_entered_in_a_field_reaches_the_hook(name: str) -> None:
    together = {"client_cert": SAMPLES["client_cert"]} if name == "client_key" else {}
    jsonschema.validate(SAMPLES[name], form()[name]["schema"])
    assert read(**together, **{name: SAMPLES[name]}) != read(**together)


def test_a_form_that_is_left_as_it_comes_up_is_no_extra_at_all() -> None:
    extra = {name: field["schema"].get("default") for name, field in form().items()}
    assert read(**extra) == read()


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
def test_the_hook_takes_the_least_and_the_most_that_the_form_does(name: str) -> None:
    schema = form()[name]["schema"]
    for seconds in (schema["minimum"], schema["maximum"]):
        assert getattr(read(**{name: seconds}), name) == seconds


def test_the_help_tells_the_timeouts_that_apply_without_an_entry() -> None:
    for name in ("connect_timeout", "read_timeout"):
        assert f"Empty: {getattr(read(), name):g}." in form()[name]["description"]


def test_the_fields_that_do_not_apply_are_hidden() -> None:
    assert set(connection_type()["ui-field-behaviour"]["hidden-fields"]) == {"login", "schema"}


def test_the_documentation_has_the_same_fields_as_the_form() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## The fields")[2]
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \|", table, re.MULTILINE)
    documented = {name: label for label, name in rows if name != "schema"}
    assert documented == {**FIELDS, "port": "Port", **EXTRA_FIELDS}


def test_the_documentation_has_the_defaults_of_the_folders() -> None:
    [shown] = re.findall(r"^```ini\n(\[rayagent\].*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    options = configparser.ConfigParser()
    options.read_string(shown)
    documented = {name: value.replace("\n", " ") for name, value in options["rayagent"].items()}
    declared = get_provider_info()["config"]["rayagent"]["options"]
    assert documented == FOLDERS == {name: declared[name]["default"] for name in FOLDERS}
    assert declared.keys() - FOLDERS.keys() == {"page"}


def test_the_urls_of_pages_in_the_documentation_and_the_help_are_valid() -> None:
    examples = re.findall(r"^https://grafana\S+$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    helped = re.findall(r"such as (https://\S*\})", " ".join(field["description"] for field in form().values()))
    assert (len(examples), len(helped)) == (2, 2)
    for url in examples + helped:
        assert read(metrics_url=url).page_urls("j1", start=1.0).keys() == {"metrics_url"}, url


def test_every_field_has_a_label_and_says_what_goes_there() -> None:
    for name, field in form().items():
        assert field["description"].endswith(".")
        assert field_name(name) == f"{field['label']} ({name})"


def test_secrets_are_masked_in_the_form() -> None:
    masked = {name for name, field in form().items() if field["schema"].get("format") == "password"}
    assert masked == SECRETS


def test_airflow_hides_the_secrets_of_the_extra_wherever_it_shows_a_connection() -> None:
    headers = dict.fromkeys(("Authorization", "X-Auth-Token", "Client-Secret", "X-Password"), "s3cret")
    shown = str(redact({**SAMPLES, "headers": headers, "user_token": "s3cret"}))
    assert "s3cret" not in shown
    assert [name for name in headers if name not in shown] == []
