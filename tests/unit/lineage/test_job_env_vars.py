"""What the program of a job learns of OpenLineage, with the provider and the client themselves."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.lineage.job_env_vars import PARENT_ENV_VARS, TRANSPORT, parent_env_vars
from airflow_provider_rayagent.services.job_secrets import MASKED_ENV_VARS
from tests.unit.lineage.support import HTTP, LineageTaskInstance, set_transport, transport_in_job
from tests.unit.operators.conftest import ray
from tests.unit.operators.started_jobs import starting
from tests.unit.operators.submissions import SUBMIT, make_rendered, sent_by
from tests.unit.supervisor import supervise
from tests.unit.support import make_context, task_log

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.support import TaskLog

__all__ = ["ray"]

KEY, TENANT = "k3y-of-lineage", "name-of-a-tenant"
BOTH: dict[str, Any] = {"openlineage_inject_parent_job_info": True, "openlineage_inject_transport_info": True}


def submit(monkeypatch: pytest.MonkeyPatch, **options: Any) -> TaskLog:
    """Execute a task; return its log."""
    context = make_context(LineageTaskInstance())
    supervise(context["ti"], monkeypatch)
    with task_log() as log:
        make_rendered(deferrable=False, **options).execute(context)
    return log


def lineage_sent_by(server: ScriptedAgent) -> dict[str, str]:
    env_vars = sent_by(server)["runtime_env"]["env_vars"]
    return {name: value for name, value in env_vars.items() if name.startswith("OPENLINEAGE")}


def test_a_job_gets_the_run_of_its_try_as_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "prod/airflow")
    found = parent_env_vars(LineageTaskInstance(try_number=2, map_index=3))

    dag_run = LineageTaskInstance().get_template_context()["dag_run"]
    run_id = OpenLineageAdapter.build_task_instance_run_id("night", "follow", 2, dag_run.logical_date, 3)
    root_id = OpenLineageAdapter.build_dag_run_id("night", dag_run.logical_date, 0)
    assert found["OPENLINEAGE_PARENT_ID"] == f"prod/airflow/night.follow/{run_id}"
    assert found["OPENLINEAGE_ROOT_PARENT_ID"] == f"prod/airflow/night/{root_id}"
    assert json.loads(found["OPENLINEAGE_CONTEXT"])["parent"] == {
        "run": {"runId": run_id},
        "job": {"namespace": "prod/airflow", "name": "night.follow"},
        "root": {"run": {"runId": root_id}, "job": {"namespace": "prod/airflow", "name": "night"}},
    }


def test_dbt_reads_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    from openlineage.common.provider.dbt.utils import get_parent_run_metadata

    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "prod/airflow")
    for name, value in parent_env_vars(LineageTaskInstance()).items():
        monkeypatch.setenv(name, value)
    found = get_parent_run_metadata()
    assert (found.job_namespace, found.job_name, found.root_parent_job_name) == (
        "prod/airflow",
        "night.follow",
        "night",
    )


@pytest.mark.parametrize("key", [KEY, "1234567890", "12e5678"])
def test_a_client_in_the_job_sends_as_airflow_does(
    key: str, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"endpoint": "v2", "timeout": 7.5, "verify": False, "compression": "gzip"}
    auth = {"type": "api_key", "apiKey": key}
    set_transport(
        monkeypatch, {**HTTP, **more, "auth": auth, "custom_headers": {"X-Tenant": TENANT, "X-Number": "77777"}}
    )
    printed = f"the key {key} and the tenant {TENANT}\n"
    ray.answers[SUBMIT] = [starting(ray, text=printed)]
    log = submit(monkeypatch, **BOTH)

    env_vars = lineage_sent_by(ray)
    http = transport_in_job(monkeypatch, env_vars)
    assert (http.kind, http.url, http.endpoint, http.timeout) == ("http", HTTP["url"], "v2", 7.5)
    assert (http.config.verify, str(http.config.compression)) == (False, "gzip")
    assert http.config.auth.get_bearer() == f"Bearer {key}"
    assert http.config.custom_headers == {"X-Tenant": TENANT, "X-Number": "77777"}
    assert "the key *** and the tenant ***" in log.messages
    masked = {f"{TRANSPORT}__AUTH__API_KEY", f"{TRANSPORT}__CUSTOM_HEADERS"}
    assert set(json.loads(sent_by(ray)["metadata"][MASKED_ENV_VARS])) == masked
    assert [secret for secret in (key, TENANT) if secret in json.dumps(log.messages)] == []


def test_the_token_in_a_header_and_the_keys_in_urls_are_masked_by_themselves(
    ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = {
        "type": "http",
        "url": "http://lineage.example.com:5000/?api_key=key%2Fof-the-url",
        "endpoint": "v2?token=token-of-the-endpoint",
        "custom_headers": {"Authorization": f"Bearer {KEY}"},
    }
    set_transport(monkeypatch, transport)
    ray.answers[SUBMIT] = [starting(ray, text=f"{KEY} key/of-the-url key%2Fof-the-url token-of-the-endpoint\n")]
    log = submit(monkeypatch, **BOTH)
    assert "*** *** *** ***" in log.messages
    http = transport_in_job(monkeypatch, lineage_sent_by(ray))
    assert (http.url, http.endpoint) == (transport["url"], transport["endpoint"])
    assert http.config.custom_headers == transport["custom_headers"]


def test_of_several_transports_a_job_gets_those_that_work_there(
    ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    several = {
        "first": {**HTTP, "auth": {"type": "api_key", "apiKey": KEY}},
        "second": {**HTTP, "url": "http://user:passw0rd@other.example.com"},
        "file": {"type": "file", "log_file_path": str(tmp_path / "events")},
    }
    set_transport(monkeypatch, {"type": "composite", "continue_on_failure": False, "transports": several})
    log = submit(monkeypatch, **BOTH)

    found = transport_in_job(monkeypatch, lineage_sent_by(ray))
    assert (found.kind, found.config.continue_on_failure) == ("composite", False)
    sent = {each.url: each.config.auth.get_bearer() for each in found.transports}
    assert sent == {HTTP["url"]: f"Bearer {KEY}", "http://user:passw0rd@other.example.com": None}
    assert [message for message in log.messages if "transport 'file'" in message] != []
    assert f"{TRANSPORT}__TRANSPORTS__HTTP2__URL" in json.loads(sent_by(ray)["metadata"][MASKED_ENV_VARS])


@pytest.mark.parametrize(
    ("transport", "what"),
    [
        ({"type": "console"}, "transport 'console'"),
        ({**HTTP, "auth": {"type": "jwt", "apiKey": KEY, "tokenEndpoint": "http://x"}}, "JwtTokenProvider"),
        ({**HTTP, "sslContext": {"caCertPath": "/ca.pem"}}, "certificates in files"),
    ],
)
def test_a_transport_that_would_not_work_in_the_job_is_named_and_left_out(
    transport: dict[str, Any], what: str, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_transport(monkeypatch, transport)
    log = submit(monkeypatch, **BOTH)
    assert sorted(lineage_sent_by(ray)) == sorted(PARENT_ENV_VARS)
    assert len([message for message in log.messages if what in message]) == 1
    assert KEY not in json.dumps(log.messages)


def test_the_authors_own_variables_stand(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    set_transport(monkeypatch, HTTP)
    own = {"OPENLINEAGE_URL": "http://mine.example.com", "OPENLINEAGE_PARENT_ID": "a/b/c"}
    submit(monkeypatch, runtime_env={"env_vars": own}, **BOTH)
    assert lineage_sent_by(ray) == own


def test_without_the_arguments_a_job_gets_nothing(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    set_transport(monkeypatch, HTTP)
    submit(monkeypatch)
    assert lineage_sent_by(ray) == {}


def test_a_job_gets_nothing_if_openlineage_is_disabled(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__DISABLED", "True")
    log = submit(monkeypatch, **BOTH)
    assert lineage_sent_by(ray) == {}
    assert any("OpenLineage is disabled" in message for message in log.messages)


def test_no_error_of_openlineage_fails_the_task(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    set_transport(monkeypatch, {"type": "http", "url": f"no url but {KEY}"})
    log = submit(monkeypatch, **BOTH)
    assert "OPENLINEAGE_PARENT_ID" in lineage_sent_by(ray)
    assert [message for message in log.warnings if "OpenLineage" in message] == [
        "Not all of OpenLineage's variables are passed to the job: ValueError."
    ]


@pytest.mark.parametrize("argument", BOTH)
def test_without_the_provider_the_task_says_what_to_install(
    argument: str, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    with pytest.raises(RayAgentInputError, match="apache-airflow-providers-openlineage"):
        submit(monkeypatch, **{argument: True})
    assert ray.of(SUBMIT) == []
    submit(monkeypatch)
    assert lineage_sent_by(ray) == {}
