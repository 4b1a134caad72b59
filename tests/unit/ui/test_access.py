"""Who may call which route."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from airflow_provider_rayagent.ui import access
from airflow_provider_rayagent.ui.access import OWN_HEADER, is_own_request
from airflow_provider_rayagent.ui.app import WithHeaders, create_app

AIRFLOW = "https://airflow.example.com/team"
CHANGING = ("POST", "DELETE")


def routes() -> list[APIRoute]:
    app = create_app()
    assert isinstance(app, WithHeaders)
    found = app.app.routes
    assert all(isinstance(route, APIRoute) for route in found), "a route of another kind has no access dependency"
    return [route for route in found if isinstance(route, APIRoute)]


def checks_of(route: APIRoute) -> list[str]:
    """Return the names of Airflow's functions that made the access dependencies of a route."""
    calls = [each.call for each in route.dependant.dependencies if each.call is not None]
    return [
        call.__qualname__.partition(".")[0]
        for call in calls
        if call.__module__ == "airflow.api_fastapi.core_api.security" and call.__qualname__.startswith("requires_")
    ]


def test_every_route_checks_the_access() -> None:
    unchecked = [route.path for route in routes() if not checks_of(route)]
    assert unchecked == []


def test_the_access_fits_what_a_route_shows() -> None:
    kinds = {"{connection_id}": "requires_access_connection", "{dag_id}": "requires_access_dag"}
    for route in routes():
        for parameter, check in kinds.items():
            assert (parameter in route.path) == (check in checks_of(route)), route.path
        if not any(parameter in route.path for parameter in kinds):
            assert checks_of(route) == ["requires_authenticated"], route.path


def test_what_changes_something_needs_the_permission_to_edit_the_connection_and_our_own_page_and_is_recorded() -> None:
    changing = [route for route in routes() if set(CHANGING) & (route.methods or set())]
    assert len(changing) == 2
    for route in changing:
        calls = [each.call for each in route.dependant.dependencies]
        edit = [each.dependency for each in access.EDIT_CONNECTION]
        # Airflow's dependencies are called in this order: what is refused is not recorded.
        assert calls[: len(edit)] == edit
        assert [call.__qualname__ for call in calls[len(edit) :] if call] == ["action_logging.<locals>.log_action"]
    assert [route.path for route in routes() if not (route.methods or set()) <= {"GET", *CHANGING}] == []


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"sec-fetch-site": "same-origin", "origin": "https://airflow.example.com"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://airflow.example.com"}, True),
        ({"origin": "http://10.0.0.7:8080", "host": "10.0.0.7:8080"}, True),
        ({}, False),
        ({"origin": "https://evil.example.com"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://airflow.example.com"}, False),
        ({"sec-fetch-site": "same-site", "origin": "https://other.example.com"}, False),
        ({"sec-fetch-site": "none"}, False),
    ],
)
def test_a_request_is_our_own_if_its_origin_is_that_of_airflow(headers: dict[str, str], own: bool) -> None:
    named = {OWN_HEADER.lower(): "1"}
    assert is_own_request({**named, **headers}, AIRFLOW) is own
    assert is_own_request(headers, AIRFLOW) is False


def test_without_a_base_url_the_origin_is_that_of_the_request() -> None:
    headers = {OWN_HEADER.lower(): "1", "host": "airflow.example.com"}
    assert is_own_request({**headers, "origin": "https://airflow.example.com"}, "")
    assert not is_own_request({**headers, "origin": "null"}, "")
