"""The commands that print tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]

from airflow_provider_rayagent.cli.tables import gpu_rows
from tests.scripted import Answer, Application, Job, Refuse, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.clusters import NODES, USED, rows
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.cli.conftest import Airflow, Ask
    from tests.unit.support import Connect

SERVICES = ("agent", "ray")


def job(job_id: str, age: int, status: str = "SUCCEEDED", **fields: Any) -> Job:
    return Job(job_id=job_id, status=status, started=1_700_000_000_000 - 1000 * age, **fields)


@pytest.mark.parametrize("service", SERVICES)
def test_jobs_are_listed_newest_first(service: Any, connect: Connect, airflow: Airflow) -> None:
    found = [job("old", 9), job("new", 1), job("middle", 5, "FAILED")]
    with ScriptedAgent(*found, service=service) as agent:
        connect(agent, extra={"service": service})
        rows = json.loads(airflow("jobs", "-o", "json").out)
        two = airflow("jobs", "--limit", "2", "-o", "plain")
        failed = yaml.safe_load(airflow("jobs", "--status", "failed", "-o", "yaml").out)
        table = airflow("jobs")
    assert [row["job_id"] for row in rows] == ["new", "middle", "old"]
    assert rows[0]["start_time"] == "2023-11-14 22:13:19+00:00"
    assert [line.split()[0] for line in two.lines] == ["job_id", "new", "middle"]
    assert [row["job_id"] for row in failed] == ["middle"]
    assert table.code == 0
    assert table.lines[0].split(" | ")[0].strip() == "job_id"


def test_no_jobs_are_no_error(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        assert airflow("jobs")[:2] == (0, "No data found\n")
        assert airflow("jobs", "-o", "json")[:2] == (0, "[]\n")


def test_text_of_a_job_is_shown_as_it_is_but_for_secrets_and_control_characters(
    connect: Connect, airflow: Airflow
) -> None:
    words = f"python [bold]x[/bold] :smile: {TOKEN} \x1b[2J"
    with ScriptedAgent(job("j1", 1, entrypoint=words)) as agent:
        connect(agent)
        for output in ("table", "plain", "json"):
            out = airflow("jobs", "-o", output).out
            assert "python [bold]x[/bold] :smile: *** " in out
            assert "\x1b[2J" not in out


def test_a_list_and_a_stop_show_no_secret_of_a_job(connect: Connect, airflow: Airflow) -> None:
    secret = "hunter2-secret"
    details = {"runtime_env": {"env_vars": {"KEY": secret}}, "metadata": {"airflow_masked_env_vars": '["KEY"]'}}
    long = f"python train.py {'x' * 175} {TOKEN}"
    found = [
        job("j1", 1, "RUNNING", entrypoint=f"train --key {secret}", details=details),
        job("j2", 2, entrypoint=long),
    ]
    with ScriptedAgent(*found) as agent:
        connect(agent)
        listed = [airflow("jobs", "-o", output).out for output in ("table", "plain", "json")]
        stopped = airflow("stop", "j1", "--yes")
    for out in (*listed, stopped.out, stopped.err):
        assert secret not in out
        # The end of the entrypoint is cut off in the middle of the token.
        assert TOKEN[:6] not in out
    assert "train --key ***" in listed[2]
    assert "train --key ***" in stopped.err


@pytest.mark.parametrize("service", SERVICES)
def test_one_job_is_shown_without_its_secrets(service: Any, connect: Connect, airflow: Airflow) -> None:
    details = {
        "runtime_env": {"env_vars": {"PASSWORD": "hunter2-secret"}},
        "metadata": {"airflow_masked_env_vars": '["PASSWORD"]', "who": "ada"},
    }
    found = job("j1", 1, "FAILED", message="first\nhunter2-secret", details=details)
    with ScriptedAgent(found, service=service) as agent:
        connect(agent, extra={"service": service})
        [shown] = json.loads(airflow("jobs", "j1", "-o", "json").out)
        table = airflow("jobs", "j1").out
    assert shown["status"] == "FAILED"
    assert shown["message"] == "first\n***"
    assert "runtime_env" not in shown
    assert "hunter2" not in table + str(shown)
    assert any(line.split(" | ")[0].strip() == "status" for line in table.splitlines())


def test_why_a_job_waits_is_shown_with_it(connect: Connect, airflow: Airflow) -> None:
    actor = {"name": "_ray_internal_job_actor_j1", "required_resources": {"GPU": 64.0, "hunter2-secret": 1.0}}
    answers = {"GET api/v0/actors": [rows(actor)]}
    with ScriptedAgent(job("j1", 1, "PENDING"), nodes=NODES, answers=answers, service="ray") as agent:
        connect(agent, extra={"service": "ray"}, password="hunter2-secret")
        done = airflow("jobs", "j1")
    assert done.code == 0
    assert done.err == ("Job j1 waits: it requires 64 GPUs and 1 ***; no node has more than 4 GPUs or any ***.\n")


@pytest.mark.parametrize("service", SERVICES)
def test_nodes_are_listed(service: Any, ask: Ask) -> None:
    rows = json.loads(ask(ScriptedAgent(nodes=NODES, service=service), "nodes", "-o", "json").out)
    assert [row["state"] for row in rows] == ["ALIVE", "ALIVE", "DEAD"]
    assert rows[1] == {
        "node_id": "b" * 56,
        "ip": "10.0.0.2",
        "state": "ALIVE",
        "is_head": "False",
        "cpus": "16",
        "gpus": "4",
        "memory_gib": "64",
    }


def test_a_node_of_another_form_is_listed(ask: Ask) -> None:
    nodes = [{"node_id": "n1", "alive": False}, {"node_id": "n2", "alive": True, "resources_total": "?"}]
    rows = json.loads(ask(ScriptedAgent(nodes=nodes), "nodes", "-o", "json").out)
    assert [(row["state"], row["cpus"]) for row in rows] == [("DEAD", None), ("ALIVE", None)]


def test_every_accelerator_of_a_node_is_listed() -> None:
    node = {"state": "ALIVE", "gpu": {"total": 2.0}, "accelerator_type": "A10", "accelerator_types": ["A10", "T4"]}
    assert [row["accelerator_type"] for row in gpu_rows({"nodes": [node]})] == ["A10, T4"]


@pytest.mark.parametrize("service", SERVICES)
def test_gpus_are_listed_with_what_is_free(service: Any, ask: Ask) -> None:
    done = ask(ScriptedAgent(nodes=NODES, used=USED, service=service), "gpus", "-o", "json")
    [row] = json.loads(done.out)
    # An agent tells only what is free in the whole cluster.
    free = None if service == "agent" else "2.5"
    assert (row["node_id"], row["accelerator_type"], row["gpus"], row["free"]) == ("b" * 56, "A100", "4", free)
    assert done.err.startswith(f"Free in the cluster: {'2' if service == 'agent' else '2.5'} of 4 GPUs, ")


@pytest.mark.parametrize("service", SERVICES)
def test_applications_are_listed(service: Any, connect: Connect, airflow: Airflow) -> None:
    apps = [Application("a", details={"message": "one\ntwo"}), Application("b", status="DEPLOY_FAILED")]
    with ScriptedAgent(applications=apps, service=service) as agent:
        connect(agent, extra={"service": service})
        rows = json.loads(airflow("apps", "-o", "json").out)
        plain = airflow("apps", "-o", "plain").lines
    assert [(row["name"], row["status"]) for row in rows] == [("a", "RUNNING"), ("b", "DEPLOY_FAILED")]
    assert rows[0]["message"] == "one\ntwo"
    assert len(plain) == 3


def test_an_agent_that_does_not_tell_its_resources_is_reported(ask: Ask) -> None:
    done = ask(ScriptedAgent(answers={"GET resources/cluster/": [Refuse(404)]}), "gpus")
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("RA-209: The agent does not report the resources of its cluster")


@pytest.mark.parametrize("command", ["jobs", "nodes", "gpus", "apps"])
@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        (Refuse(401, f"bad token {TOKEN}"), 5, "answered 401: bad token ***"),
        (Answer(200, "no list"), 5, "got invalid JSON"),
        (Refuse(500, "broken"), 5, "answered 500: broken"),
    ],
)
def test_an_error_is_one_sentence_on_stderr(command: str, step: Step, code: int, words: str, ask: Ask) -> None:
    done = ask(ScriptedAgent(answers={"*": [step]}), command)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_what_is_wrong_with_the_connection_is_told(connect: Connect, airflow: Airflow) -> None:
    connect(NO_AGENT, "away")
    connect("", "empty")
    away, empty, none = (airflow("jobs", "--conn-id", name) for name in ("away", "empty", "none"))
    assert (away.code, empty.code, none.code) == (5, 2, 2)
    assert away.err.startswith("RA-201: Nothing listens at ")
    assert empty.err.startswith("RA-208: The connection has no Service URL (host)")
    assert none.err.startswith("RA-208: There is no Airflow connection 'none': create it")


@pytest.mark.parametrize(
    ("service", "answers"),
    [
        ("agent", {"GET resources/cluster/": [Answer(200, {"gpu": [1], "nodes": [{"gpus": [{}]}]})]}),
        ("ray", {"GET api/cluster_status": [Answer(200, {"data": {"clusterStatus": [1]}})]}),
    ],
)
def test_gpus_in_an_unknown_form_are_one_sentence_on_stderr(
    service: Any, answers: Any, connect: Connect, airflow: Airflow
) -> None:
    with ScriptedAgent(service=service, nodes=NODES, used=USED, answers=answers) as agent:
        connect(agent, extra={"service": service})
        done = airflow("gpus")
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("RA-205: ")
    assert "in an unknown form" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_node_whose_gpus_are_in_an_unknown_form_is_listed_without_their_number() -> None:
    nodes = [{"node_id": "a", "gpu": [1, 2]}, {"node_id": "b", "gpu": {"total": "x"}}, {"node_id": "c", "gpus": 4}]
    assert [(row["node_id"], row["gpus"], row["free"]) for row in gpu_rows({"nodes": nodes})] == [
        ("a", None, None),
        ("b", None, None),
    ]
