"""The URLs of pages about a job: which templates are valid, and what is filled in."""

from __future__ import annotations

import string
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.connection.page_urls import NOW, PAGES, PLACEHOLDERS, fill, page_values
from tests.unit.support import HOSTILE_IDS

NODE = "ab" * 28
JOB = {"status": "RUNNING", "start_time": 1_700_000_000_123, "driver_node_id": NODE}
ENDED = {**JOB, "status": "FAILED", "end_time": 1_700_000_060_456}
ALL = "https://pages.example.com/{host}/{node_id}?job={job_id}&from={start}&to={end}"
OTHERS = PAGES[1:]
"""The fields whose template need not have the job id."""
BAD = [
    "javascript:alert('{job_id}')",
    "data:text/html,{job_id}",
    "https:///jobs/{job_id}",
    "https://pages.example.com/my jobs/{job_id}",
    "https://pages.example.com\\@evil.example.com/{job_id}",
    "https://pages.example.com/\x00{job_id}",
    "https://pages.example.com/\u202e{job_id}",
    "https://pages.example.com/\ud800{job_id}",
    "/jobs/{job_id}",
    "pages.example.com/{job_id}",
    "{job_id}",
    7,
    True,
    ["https://pages.example.com/{job_id}"],
]
HOSTILE_VALUES = [
    *("../../admin", "..", "a/b", "/", "\\", "?q=1", "#top", "&to=0", "=", "%2F", "%", "a b", "+", ":8080", "@evil"),
    *('"', "'", "<script>", "\n", "\r\nX: y", "\x00", "javascript:alert(1)", "https://evil.example.com", "é", "漢"),
    *("{job_id}", "{", "}", "\\1", "\\g<0>", ";", "|", "\ud800", "\u202e"),
]


def problem_of(name: str, template: object) -> str:
    config = read_config(host="agent", extra={name: template})
    assert name not in config.page_urls("j1", ENDED)
    [problem] = config.page_problems
    assert problem.startswith("The connection's ")
    assert f"({name}) " in problem
    return problem


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("template", BAD, ids=ascii)
def test_what_is_no_web_address_is_refused(name: str, template: object) -> None:
    problem = problem_of(name, template)
    assert "must be an http or https URL" in problem
    example = problem.rpartition("such as ")[2].removesuffix(".")
    assert read_config(host="agent", extra={name: example}).page_problems == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "https://pages.example.com/{job}/{job_id}",
            "has {job} in it, but only {job_id}, {node_id}, {cluster}, {host}, ",
        ),
        ("https://pages.example.com/{}/{job_id}", "has {} in it"),
        ("https://pages.example.com/{0}/{job_id}", "has {0} in it"),
        ("https://pages.example.com/{job_id.x}/{job_id}", "has {job_id.x} in it, but only {job_id}, "),
        ("https://pages.example.com/{job_id[0]}/{job_id}", "has {job_id[0]} in it"),
        ("https://pages.example.com/{job_id!r}/{job_id}", "has {job_id!r} in it"),
        ("https://pages.example.com/{end:>10}/{job_id}", "has {end:>10} in it"),
        ("https://pages.example.com/{job_id|lower}/{job_id}", "has {job_id|lower} in it"),
        ("https://pages.example.com/{{job_id}}", "has {{job_id}} in it"),
        ("https://pages.example.com/{job_id}/{job_id", "has {job_id in it"),
        ("https://pages.example.com/{job_id/{job_id}", "has {job_id in it"),
        ("https://pages.example.com/{job_id}?from=start}", "has start} in it"),
        ("https://{cluster}/{job_id}", "has {cluster} in it, but its Service URL (host) has not"),
        ("https://{host}/{job_id}", "has {host} in its host name"),
        ("https://{node_id}.example.com/{job_id}", "has {node_id} in its host name"),
        ("https://me:s3cret@pages.example.com/{job_id}", "a user name or password"),
        ("https://me:s3cret/3@pages.example.com/{job_id}", "a user name or password"),
        ("https://pages.example.com:0/{job_id}", "an invalid port"),
        ("https://pages.example.com:99999/{job_id}", "an invalid port"),
    ],
)
@pytest.mark.parametrize("name", PAGES)
def test_what_is_wrong_with_a_template_is_told_without_its_password(name: str, template: str, words: str) -> None:
    problem = problem_of(name, template)
    assert words in problem
    assert "s3cret" not in problem


def test_only_the_page_of_the_job_itself_must_have_its_id() -> None:
    template = "https://pages.example.com/all"
    assert "with {job_id} in it" in problem_of("job_url", template)
    for name in OTHERS:
        assert read_config(host="agent", extra={name: template}).page_urls("j1") == {name: template}


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_field_is_no_problem(empty: object) -> None:
    config = read_config(host="agent", extra=dict.fromkeys(PAGES, empty))
    assert (config.page_urls("j1", ENDED), list(config.page_problems)) == ({}, [])


def test_a_bad_template_does_not_take_the_others_along() -> None:
    config = read_config(host="agent", extra={"metrics_url": "no", "logs_url": "https://logs.example.com/{job_id}"})
    assert config.page_urls("j1") == {"logs_url": "https://logs.example.com/j1"}
    assert len(config.page_problems) == 1


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("template", "page"),
    [
        ("  https://pages.example.com/{job_id}\n", "https://pages.example.com/j1"),
        ("http://[::1]:8265/#/jobs/{job_id}", "http://[::1]:8265/#/jobs/j1"),
        ("http://{job_id}.pages.example.com", "http://j1.pages.example.com"),
        ('https://logs.example.com?q={"job":"{job_id}"}', 'https://logs.example.com?q={"job":"j1"}'),
        (
            'https://logs.example.com?q={cluster!~"a",b="c"}&r={job_id="{job_id}"}&s={end%3D"1"}&start={start}',
            'https://logs.example.com?q={cluster!~"a",b="c"}&r={job_id="j1"}&s={end%3D"1"}&start=1700000000123',
        ),
        (
            "https://pages.example.com/team@home/{job_id}?a=%7B&b={job_id}",
            "https://pages.example.com/team@home/j1?a=%7B&b=j1",
        ),
        (ALL, f"https://pages.example.com/agent%3A8000/{NODE}?job=j1&from=1700000000123&to=1700000060456"),
    ],
)
def test_a_template_may_be_any_web_address(name: str, template: str, page: str) -> None:
    config = read_config(host="agent", port=8000, extra={name: template})
    assert config.page_urls("j1", ENDED) == {name: page}
    assert list(config.page_problems) == []


@pytest.mark.parametrize(
    ("parts", "host"),
    [
        ({"host": "agent"}, "agent"),
        ({"host": "https://Ray.example.com:8265/prefix"}, "ray.example.com:8265"),
        ({"host": "::1", "port": 8265}, "[::1]:8265"),
    ],
    ids=str,
)
def test_the_host_is_host_and_port_of_the_service(parts: dict[str, Any], host: str) -> None:
    url = read_config(**parts, extra={"logs_url": "https://pages.example.com/?at={host}"}).page_urls("j1")["logs_url"]
    assert parse_qs(urlsplit(url).query) == {"at": [host]}


def values(job: dict[str, Any] | None, **options: Any) -> dict[str, str]:
    return {name[1:-1]: value for name, value in page_values("j1", "http://agent:8000/", job, **options).items()}


def test_the_times_are_those_of_the_job_and_now_while_it_has_not_ended() -> None:
    known = {"job_id": "j1", "node_id": NODE, "host": "agent:8000", "start": "1700000000123"}
    assert values(JOB) == {**known, "end": NOW}
    # The time of a link is for a job whose start is not known.
    assert values(ENDED, start=5.0) == {**known, "end": "1700000060456"}
    assert values({**ENDED, "end_time": None}) == {**known, "end": NOW}
    assert values({**ENDED, "status": "RUNNING"}) == {**known, "end": NOW}


@pytest.mark.parametrize("start", [None, 0, -1, True, "1700000000123", float("nan"), 10**400, []])
def test_a_job_whose_start_is_not_known_starts_when_the_link_is_made(start: object) -> None:
    job = {**JOB, "start_time": start}
    assert values(job, start=1_700_000_000.5)["start"] == "1700000000500"
    assert "start" not in values(job)
    assert values(None, start=1_700_000_000.5) == {
        "job_id": "j1",
        "host": "agent:8000",
        "start": "1700000000500",
        "end": NOW,
    }


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=ascii)
def test_an_id_that_is_none_is_not_filled_in(hostile: Any) -> None:
    extra = {"logs_url": "https://logs.example.com/{node_id}", "history_url": "https://history.example.com/{end}"}
    config = read_config(host="agent", extra={"job_url": "https://ray.example.com/{job_id}", **extra})
    now = "https://history.example.com/now"
    assert config.page_urls("j1", {**JOB, "driver_node_id": hostile}) == {
        "job_url": "https://ray.example.com/j1",
        "history_url": now,
    }
    assert config.page_urls(hostile, JOB) == {"logs_url": f"https://logs.example.com/{NODE}", "history_url": now}


def test_a_secret_of_the_connection_is_no_node() -> None:
    config = read_config(host="agent", token="s3cret-token", extra={"logs_url": "https://logs.example.com/{node_id}"})
    assert config.page_urls("j1", {**JOB, "driver_node_id": "s3cret-token"}) == {}


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=ascii)
def test_a_value_cannot_add_anything_to_the_url(value: str) -> None:
    template = "https://pages.example.com/a/{node_id}/z?x={node_id}&y={job_id}#{node_id}"
    url = fill(template, {"{node_id}": value, "{job_id}": "j1"})
    assert set(url) <= {*string.ascii_letters, *string.digits, *"-_.~%:/?&=#"}
    parts = urlsplit(url)
    sent = value.replace("\ud800", "?")
    assert (parts.scheme, parts.netloc) == ("https", "pages.example.com")
    assert [unquote(each) for each in parts.path.split("/")] == ["", "a", sent, "z"]
    assert parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) == {"x": [sent], "y": ["j1"]}
    assert unquote(parts.fragment) == sent


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_without_one_of_its_values_a_template_is_no_url(placeholder: str) -> None:
    known = {each: "x" for each in PLACEHOLDERS if each != placeholder}
    assert fill(f"https://pages.example.com/{placeholder}", known) == ""
    assert fill("https://pages.example.com/", known) == "https://pages.example.com/"
