"""Whether a request comes from our own page; who may call which route is tested with a real API server."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.ui.access import OWN_HEADER, is_own_request

AIRFLOW = "https://airflow.example.com/team"


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
