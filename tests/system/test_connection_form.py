"""The connection's form and its button *Test*, in a browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.connection.fields import EXTRA_FIELDS, FIELDS
from airflow_provider_rayagent.get_provider_info import get_provider_info
from tests.scripted import Html, ScriptedAgent
from tests.stack.browser import Page, browser_page
from tests.stack.processes import NO_AGENT
from tests.stack.watch import wait_until
from tests.system.support import needs_airflow_3_3
from tests.system.test_secrets import places_with
from tests.unit.certificates import Authority, TlsFront

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.airflow import Json
    from tests.system.support import System

CONN = "rayagent_form"
TOKEN, USER_TOKEN, HEADER = "token-of-the-form", "user-token-of-the-form", "header-of-the-form"
HEADERS = {"X-Auth-Token": HEADER, "X-Team": "blue"}
JOB_URL = "https://ray.example.com/#/jobs/{job_id}"
METRICS_URL = "https://grafana.example.com/d/ray?node={node_id}&from={start}&to={end}"
CONN_FIELDS = get_provider_info()["connection-types"][0]["conn-fields"].values()
SECTIONS = {
    section: {field["label"] for field in CONN_FIELDS if field["schema"]["section"] == section}
    for section in {field["schema"]["section"]: None for field in CONN_FIELDS}
}
"""The labels of the fields of each."""
SWITCH = "[data-scope=switch][data-part=control]"
HIDES_ALL_SECRETS = needs_airflow_3_3("stores the field Headers as text, and shows it")
KEEP_TEXTS = """
(body) => {
    window.texts = [];
    const look = () => { if (window.texts.at(-1) !== body.innerText) window.texts.push(body.innerText); };
    new MutationObserver(look).observe(body, {childList: true, subtree: true, characterData: true});
}
"""
GOOD, BAD = "Test Connection Successful", "Test Connection Failed"


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedAgent]:
    with ScriptedAgent(token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def page(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(list_of(system, CONN), tmp_path_factory.mktemp("form"), size=(1400, 1200)) as opened:
        yield opened


@pytest.fixture(scope="module")
def saved(system: System, scripted: ScriptedAgent, page: Page) -> str:
    """The id of a connection that was entered in the form."""
    page.click("button", "Add Connection")
    page.enter("input[name=connection_id]", CONN)
    page.choose("input[role=combobox]", "Ray agent")
    page.wait_until(lambda text: "Service URL" in text)
    unfold(page, "TLS")
    page.click(SWITCH)
    page.wait_for(SWITCH, ["unchecked"], see="(each) => each.dataset.state")
    unfold(page, "User and tenant")
    page.enter("[name=element_user_token]", USER_TOKEN)
    page.enter("[name=element_tenant]", "acme")
    unfold(page, "Headers and timeouts")
    page.enter("[name=element_headers]", json.dumps(HEADERS))
    page.enter("[name=element_read_timeout]", "20")
    unfold(page, "Jobs")
    page.enter("[name=element_job_url]", JOB_URL)
    page.enter("[name=element_metrics_url]", METRICS_URL)
    unfold(page, "Standard Fields")
    page.enter("input[name=host]", scripted.url.rstrip("/"))
    page.enter("input[name=port]", str(scripted.port))
    page.enter("input[name=password]", TOKEN)
    save(page)
    return CONN


def list_of(system: System, conn_id: str) -> str:
    """Return the address of the list of the connections whose ids begin so."""
    return f"{system.airflow.url}/connections?name_pattern={conn_id}"


def unfold(page: Page, section: str) -> None:
    """Open a section of the form; Airflow 3.4 shows all of them open, under headings that are no buttons."""
    page.wait_until(lambda text: section in text)
    if page.look("button", section):
        page.click("button", section)


def save(page: Page) -> None:
    page.click("button", "Save")
    page.wait_until(lambda text: "Standard Fields" not in text and CONN in text)


def stored(system: System, conn_id: str) -> tuple[Json, Json]:
    """Return a connection, and its extra, as Airflow's API shows them."""
    connection = system.api("GET", f"connections/{conn_id}")
    return connection, json.loads(connection["extra"])


def press_test(page: Page) -> str:
    """Press *Test* for the only connection that is listed; return all that the page says then."""
    # Airflow removes its message after some seconds.
    page.find("body", see=KEEP_TEXTS)
    page.click("button", "Test Connection")

    def told() -> str | None:
        texts = page.look("body", see="() => window.texts")[0]
        return next((text for text in texts if GOOD in text or BAD in text), None)

    return wait_until(told, "the page does not say what the test found")


@pytest.mark.each_airflow
def test_the_form_has_every_field_with_its_label_and_not_those_that_do_not_apply(system: System, page: Page) -> None:
    page.click("button", "Add Connection")
    page.choose("input[role=combobox]", "Ray agent")
    assert set(EXTRA_FIELDS.values()) <= set().union(*SECTIONS.values())
    wait_for_labels(page, set(FIELDS.values()))
    assert page.look("input[name=login], input[name=schema], input[name=url_schema]") == []
    for section, own in SECTIONS.items():
        unfold(page, section)
        wait_for_labels(page, own)
    page.open(list_of(system, CONN))


def wait_for_labels(page: Page, expected: set[str]) -> None:
    """Wait until these labels are among those that the form shows."""

    def missing() -> set[str]:
        return expected - {text.strip().split("\n")[0] for text in page.look("label")}

    wait_until(lambda: not missing() or None, lambda: f"the form does not show {missing()}")


@pytest.mark.each_airflow
@HIDES_ALL_SECRETS
def test_what_was_entered_is_stored_and_no_secret_is_shown(system: System, saved: str, page: Page) -> None:
    connection, extra = stored(system, saved)

    assert connection["password"] == "***"
    assert {name: value for name, value in extra.items() if value is not None} == {
        "user_token": "***",
        "tenant": "acme",
        "verify": False,
        "headers": {"X-Auth-Token": "***", "X-Team": "blue"},
        "read_timeout": 20,
        "job_url": JOB_URL,
        "metrics_url": METRICS_URL,
    }
    assert_no_secret(json.dumps(connection) + page.text())


def assert_no_secret(text: str) -> None:
    assert [secret for secret in (TOKEN, USER_TOKEN, HEADER) if secret in text] == []


@pytest.mark.each_airflow
def test_the_test_button_sends_what_was_entered_and_says_that_all_is_well(
    saved: str, scripted: ScriptedAgent, page: Page
) -> None:
    words = press_test(page)

    assert GOOD in words
    assert f"Connected to an agent at {scripted.url}" in words
    assert_sent(scripted)


def assert_sent(scripted: ScriptedAgent) -> None:
    """The agent got the secrets that were entered in the form."""
    sent = scripted.of("GET health/")[-1].headers
    wanted = {"authorization": TOKEN, "synapse-user": f"Token {USER_TOKEN}", "synapse-tenant": "Token acme"}
    wanted |= {name.lower(): value for name, value in HEADERS.items()}
    assert {name: sent.get(name) for name in wanted} == wanted


@pytest.mark.each_airflow
@HIDES_ALL_SECRETS
def test_an_edit_begins_with_what_is_stored_and_keeps_the_secrets(
    system: System, saved: str, scripted: ScriptedAgent, page: Page
) -> None:
    page.open(list_of(system, saved))
    page.click("button", "Edit Connection")
    shown = [[scripted.url.rstrip("/"), "text"], ["***", "password"]]
    page.wait_for("input[name=host], input[name=password]", shown, see="(each) => [each.value, each.type]")
    unfold(page, "TLS")
    page.wait_for(SWITCH, ["unchecked"], see="(each) => each.dataset.state")
    unfold(page, "User and tenant")
    page.enter("[name=element_tenant]", "acme")
    page.wait_for("[name=element_user_token]", [["***", "password"]], see="(each) => [each.value, each.type]")
    unfold(page, "Headers and timeouts")
    headers = [{**HEADERS, "X-Auth-Token": "***"}]
    page.wait_for("[name=element_headers]", headers, see="(each) => each.value && JSON.parse(each.value)")
    assert_no_secret(page.text())
    page.enter("[name=element_read_timeout]", "30")
    save(page)

    _, extra = stored(system, saved)
    assert (extra["read_timeout"], extra["verify"]) == (30, False)
    before = len(scripted.requests)
    assert GOOD in press_test(page)
    assert len(scripted.requests) > before
    assert_sent(scripted)


@pytest.fixture(scope="module")
def peers(scripted: ScriptedAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of what is not a good agent."""
    with (
        TlsFront(Authority(tmp_path_factory.mktemp("certificates")).issue("server"), scripted.port) as front,
        ScriptedAgent(answers={"*": [Html(404)]}) as page,
    ):
        yield {
            "token": scripted.url,
            "nobody": NO_AGENT,
            "name": f"http://no-such-agent.invalid:{scripted.port}",
            "tls": front.url,
            "page": page.url,
            "link": scripted.url,
        }


@pytest.mark.parametrize(
    ("peer", "what", "remedy"),
    [
        pytest.param("token", "rejected the token (401)", "check the Token (password)", marks=pytest.mark.each_airflow),
        ("nobody", "Nothing listens at", "check Service URL (host) and port; is the agent running?"),
        ("name", "Cannot resolve the host name", "check the Service URL (host)"),
        ("tls", "TLS handshake with", "as CA bundle (ca_bundle)"),
        ("page", "is not a Ray agent", "check the Service URL (host), its port and path"),
        ("link", "Connected to an agent", "Job page (job_url) must be an http or https URL with {job_id} in it"),
    ],
)
def test_the_test_button_says_what_is_wrong_and_what_to_do(
    peer: str, what: str, remedy: str, system: System, peers: dict[str, str], page: Page
) -> None:
    url = peers[peer].rstrip("/")
    port = int(url.rpartition(":")[2])
    password, extra = ("wrong", None) if peer == "token" else (TOKEN, {"job_url": "https://ray.example.com/"})
    conn_id = system.connect(f"{CONN}_bad_{peer}", host=url, port=port, password=password, extra=extra)
    page.open(list_of(system, conn_id))
    page.wait_until(lambda text: conn_id in text)
    words = press_test(page)

    assert BAD in words
    assert what in words
    assert remedy in words
    assert_no_secret(words)


@pytest.mark.each_airflow
@HIDES_ALL_SECRETS
def test_no_secret_of_the_form_is_in_anything_that_airflow_has_written(system: System, saved: str) -> None:
    for secret in (TOKEN, USER_TOKEN, HEADER):
        assert places_with(system, secret) == set()
