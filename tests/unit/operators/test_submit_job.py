"""The operator that submits a job to Ray: one job a task, its files, its environment and its secrets, both ways."""

from __future__ import annotations

import io
import json
import zipfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseHook, Variable

from airflow_provider_rayagent.exceptions import (
    RayAgentError,
    RayAgentInputError,
    RayAgentJobNotStartedError,
    RayAgentJobStoppedError,
    RayAgentResourcesError,
    RayAgentRunFailedError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.services.job_secrets import masked_names
from tests.scripted import Answer, Grow, Job, Play, Reset, ScriptedAgent, SetStatus, Sleep
from tests.scripted.ray_dialect import taken, version
from tests.unit.both_ways import both_ways
from tests.unit.clusters import NODES, USED
from tests.unit.operators.started_jobs import PRINTED, ROOT, starting, until_attached
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator, make_rendered, sent_by
from tests.unit.supervisor import supervise
from tests.unit.support import TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.both_ways import Run
    from tests.unit.support import Connect, Serve


run = both_ways(make_rendered)


def test_a_job_is_submitted_and_followed_and_its_result_returned(run: Run, ray: ScriptedAgent) -> None:
    context = make_context()
    with task_log() as log:
        details = run(
            context=context,
            runtime_env={"pip": ["torch"]},
            working_dir="s3://bucket/code.zip",
            metadata={"team": "vision"},
            entrypoint_num_cpus=0.5,
            entrypoint_memory=1000,
            entrypoint_resources={"disk": 1},
            entrypoint_label_selector={"zone": "a"},
            wait_for_scale_up=True,
        )
    sent = sent_by(ray)
    env_vars = sent["runtime_env"].pop("env_vars")
    assert sent == {
        "entrypoint": "python train.py",
        "submission_id": ROOT,
        "runtime_env": {"pip": ["torch"], "working_dir": "s3://bucket/code.zip"},
        "metadata": {
            "team": "vision",
            **ORIGIN,
            "airflow_try_number": "1",
            "airflow_owner": "research",
            "airflow_triggered_by": "ada",
            "airflow_wait": "True",
        },
        "entrypoint_num_cpus": 0.5,
        "entrypoint_memory": 1000,
        "entrypoint_resources": {"disk": 1},
        "entrypoint_label_selector": {"zone": "a"},
    }
    told = {"DAG_ID": "night", "DAG_RUN_ID": "run-7", "TASK_ID": "follow", "TRY_NUMBER": "1"}
    assert {name: env_vars[f"AIRFLOW_CTX_{name}"] for name in told} == told
    assert ray.of("PUT") == []
    assert (details["submission_id"], details["status"], details["result"]) == (ROOT, "SUCCEEDED", {"loss": 0.5})
    assert context["ti"].xcoms["job_id"] == ROOT
    assert log.lines_of(PRINTED) == ["epoch 1"]
    assert f"Started job {ROOT}: python train.py." in log.messages


@pytest.mark.parametrize("lost", [Reset(), Answer(502, "Bad Gateway"), Answer(200, "{}", length=99, reset=True)])
def test_a_lost_answer_leads_to_the_one_job(lost: Any, run: Run, ray: ScriptedAgent) -> None:
    start = starting(ray, Play(lost) if isinstance(lost, Reset) else lost)
    ray.answers[SUBMIT] = [start, taken(ROOT)]
    with task_log() as log:
        assert run()["status"] == "SUCCEEDED"
    assert len({json.loads(sent.body)["submission_id"] for sent in ray.of(SUBMIT)}) == 1
    assert log.lines_of(PRINTED) == ["epoch 1"]


@pytest.mark.parametrize(
    ("details", "kind", "code", "first"),
    [
        ({"error_type": "RUNTIME_ENV_SETUP_FAILURE"}, "runtime_env", "RA-104", "Platform failure: the runtime"),
        (
            {"error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": 3},
            "program",
            "RA-101",
            "The program failed: exit code 3.",
        ),
        ({"error_type": "OF_A_LATER_RAY"}, None, "RA-107", f"Job {ROOT} ended as FAILED"),
    ],
)
def test_the_error_of_a_failed_job_has_its_cause(
    details: dict[str, Any], kind: str | None, code: str, first: str, run: Run, ray: ScriptedAgent
) -> None:
    job = ray.jobs[ROOT] = Job("", "RUNNING", ROOT, details={"metadata": ORIGIN, **details})
    with task_log() as log:
        job.timeline = [until_attached(log), SetStatus("FAILED")]
        with pytest.raises(RayAgentRunFailedError) as raised:
            run(context=make_context(TaskInstance(try_number=2)))
    assert raised.value.failure_kind == kind
    assert str(raised.value).startswith(f"{code}: {first}")


@pytest.mark.parametrize("metadata", [{}, {**ORIGIN, "airflow_run_id": "run-6"}])
def test_a_job_of_somebody_else_is_not_taken(metadata: dict[str, str], run: Run, ray: ScriptedAgent) -> None:
    ray.jobs["mine"] = Job("", "SUCCEEDED", "mine", details={"metadata": metadata})
    with pytest.raises(RayAgentInputError, match="Job mine already exists and was not submitted by this task"):
        run(job_id="mine")
    assert ray.of("POST") == []


def test_a_folder_is_uploaded_once_and_named_by_its_content(run: Run, ray: ScriptedAgent, tmp_path: Path) -> None:
    source = tmp_path / "jobs" / "train"
    source.mkdir(parents=True)
    (source / "train.py").write_text("print('hello')\n")
    context = make_context(dag=SimpleNamespace(fileloc=str(tmp_path / "jobs" / "dag.py")))
    with task_log() as log:
        run(context=context, working_dir="train")
        run(context=context, working_dir="train", job_id="other")
    uris = {json.loads(sent.body)["runtime_env"]["working_dir"] for sent in ray.of(SUBMIT)}
    ((name, content),) = ray.packages.items()
    assert uris == {f"gcs://{name}"}
    assert zipfile.ZipFile(io.BytesIO(content)).read("train.py") == b"print('hello')\n"
    assert len(ray.of("PUT")) == 1
    assert [message.split(" ")[:2] for message in log.messages if "gcs://" in message] == [
        ["Uploaded", str(source)],
        ["The", "cluster"],
    ]


def test_a_folder_outside_of_the_bundle_is_refused_before_anything_is_sent(
    run: Run, ray: ScriptedAgent, tmp_path: Path
) -> None:
    ti = TaskInstance()
    ti.bundle_instance = SimpleNamespace(path=tmp_path / "bundle")  # type: ignore[attr-defined]
    (tmp_path / "bundle" / "dags").mkdir(parents=True)
    context = make_context(ti, dag=SimpleNamespace(fileloc=str(tmp_path / "bundle" / "dags" / "dag.py")))
    with pytest.raises(RayAgentInputError, match="outside of the DAG bundle"):
        run(context=context, working_dir="../..")
    assert ray.of("PUT") == ray.of("POST") == []


def test_values_of_the_environment_are_sent_and_shown_nowhere(
    run: Run, ray: ScriptedAgent, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("http://database", conn_id="db", password="conn-s3cret")
    monkeypatch.setenv("AIRFLOW_VAR_MY_KEY", "variable-s3cret")
    uri = BaseHook.get_connection("db").get_uri()
    secrets = {"A": "literal-s3cret", "B": "hidden-word", "C": "variable-s3cret", "D": uri}
    text = "".join(f"my {name} is {value}\n" for name, value in secrets.items())
    ray.answers[SUBMIT] = [starting(ray, text=text, status="FAILED")]
    context = make_context()
    context["word"] = "hidden-word"
    with task_log() as log, pytest.raises(RayAgentError) as caught:
        run(
            context=context,
            runtime_env={"env_vars": {"A": secrets["A"], "B": "{{ word }}"}},
            env_from_variables={"C": "my_key"},
            env_from_connections={"D": "db"},
        )
    env_vars = sent_by(ray)["runtime_env"]["env_vars"]
    assert {name: env_vars[name] for name in secrets} == secrets
    shown = json.dumps([log.messages, str(caught.value), str(context["ti"].xcoms)])
    assert [value for value in secrets.values() if value in shown] == []
    assert log.lines_of("".join(f"my {name} is ***\n" for name in secrets)) == [f"my {name} is ***" for name in secrets]


def test_a_job_is_followed_to_its_end_though_its_variables_are_gone(run: Run, ray: ScriptedAgent) -> None:
    secret = "variable-s3cret"
    details = {"metadata": {**ORIGIN, **masked_names({"C": secret})}, "runtime_env": {"env_vars": {"C": secret}}}
    printed = f'it is {secret}\n__RAYAGENT_RESULT_START__["{secret}"]__RAYAGENT_RESULT_END__\n'
    ray.jobs[ROOT] = Job(
        "", "RUNNING", ROOT, timeline=[Sleep(0.6), Grow(printed), SetStatus("SUCCEEDED")], details=details
    )
    context = make_context(TaskInstance(try_number=2))
    with task_log() as log:
        ended = run(context=context, env_from_variables={"C": "no-longer-there"})
    # A result is data: what is masked is what is shown of a job.
    assert ended["result"] == [secret]
    assert log.lines_of("it is ***") == ["it is ***"]
    assert secret not in json.dumps(log.messages)


@pytest.mark.parametrize("status", ["SUCCEEDED", "STOPPED"])
def test_no_backend_for_xcoms_decides_the_outcome(
    status: str, run: Run, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(TaskInstance, "xcom_push", refuse)
    monkeypatch.setattr(TaskInstance, "xcom_pull", refuse)
    ray.answers[SUBMIT] = [starting(ray, status=status)]
    with task_log() as log:
        if status == "SUCCEEDED":
            assert run()["result"] == {"loss": 0.5}
        else:
            with pytest.raises(RayAgentJobStoppedError):
                run()
    assert "RA-310: Failed to push the XCom job_id: no disk" in log.warnings
    assert len(ray.jobs) == 1


def test_an_amount_that_no_node_has_is_refused_and_nothing_is_left(run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentResourcesError, match=r"GPU 64\. The most that any node has: GPU"):
        run(entrypoint_num_gpus=64)
    assert ray.of("POST") == []
    assert run(entrypoint_num_gpus=64, wait_for_scale_up=True)["status"] == "SUCCEEDED"


def test_a_job_that_stays_pending_is_told_with_what_it_requires_and_what_is_free(run: Run, ray: ScriptedAgent) -> None:
    ray.nodes[:], ray.used = NODES, USED
    ray.answers[SUBMIT] = [starting(ray, first="PENDING", timeline=())]
    with pytest.raises(RayAgentJobNotStartedError) as caught:
        run(entrypoint_num_gpus=4, entrypoint_memory=2**30, start_timeout=1.0)
    assert str(caught.value).endswith(
        "Required: 4 GPUs, 1 GiB of memory. "
        "Free in the cluster: 2.5 of 4 GPUs, 22.9 of 24 CPUs, 96 of 96 GiB of memory."
    )


def test_a_ray_that_is_too_old_is_named(run: Run, ray: ScriptedAgent) -> None:
    ray.answers["GET api/version"] = [version("2.44.1")]
    with pytest.raises(RayAgentUnsupportedError, match=r"Ray 2\.44\.1 is too old"):
        run()
    assert ray.of("POST") == []


def test_an_agent_is_refused_in_one_sentence(run: Run, serve: Serve) -> None:
    agent = serve()
    with pytest.raises(RayAgentUnsupportedError, match="use RayAgentRunPluginOperator"):
        run()
    assert agent.of("POST") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entrypoint": " "}, "entrypoint must be a shell command"),
        ({"entrypoint": "x" * 200_000}, "entrypoint is longer than"),
        ({"entrypoint_num_cpus": -1}, "entrypoint_num_cpus must be a number of at least 0"),
        ({"entrypoint_num_gpus": float("nan")}, "entrypoint_num_gpus must be a number"),
        ({"entrypoint_num_gpus": "two"}, "entrypoint_num_gpus must be a number of at least 0, not 'two'"),
        ({"entrypoint_memory": 1.5}, "entrypoint_memory must be a whole number of bytes"),
        ({"entrypoint_resources": {"CPU": 1}}, "use entrypoint_num_cpus"),
        ({"metadata": {"a": ["b"]}}, "must be a string"),
        ({"metadata": '{"a": "b"}'}, "metadata must be a mapping with strings as keys, not str"),
        ({"runtime_env": "{{ word }}"}, "runtime_env must be a mapping with strings as keys, not str"),
        ({"working_dir": 7}, "working_dir must be a non-empty string"),
        ({"runtime_env": {"pip": object()}}, "cannot be sent as JSON"),
        ({"runtime_env": {"working_dir": "./src"}}, "local path"),
        ({"runtime_env": {"working_dir": "s3://a/b.zip"}, "working_dir": "s3://a/b.zip"}, "are both set"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, r"env_vars\['A'\] must be a string"),
        ({"runtime_env": {"conda": "x" * 200_000}}, "Ray takes at most"),
        ({"env_from_variables": {"A": "missing"}}, "no Airflow variable 'missing'"),
        ({"env_from_connections": {"A": "missing"}}, "no Airflow connection 'missing'"),
        ({"job_id": "a/b"}, "is not valid"),
    ],
)
def test_bad_input_is_named_before_anything_is_sent(
    options: dict[str, Any], message: str, run: Run, ray: ScriptedAgent
) -> None:
    with pytest.raises(RayAgentInputError, match=message):
        run(**options)
    assert ray.of("POST") == ray.of("PUT") == []


def test_a_value_that_the_task_may_not_read_is_named(
    run: Run, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AirflowSecretsBackendAccessDenied(PermissionError):  # noqa: N818 - the name in Airflow 3.3
        pass

    def deny(*_: object) -> None:
        raise AirflowSecretsBackendAccessDenied("Access denied for variable 'a'")

    monkeypatch.setattr(Variable, "get", deny)
    with pytest.raises(RayAgentInputError, match="This task may not read the Airflow variable 'a', which"):
        run(env_from_variables={"A": "a"})
    assert ray.of("POST") == []


def test_rays_own_words_about_a_rejected_request_are_shown(run: Run, ray: ScriptedAgent) -> None:
    ray.answers[SUBMIT] = [Answer(400, "Traceback (most recent call last):\n  File x\nTypeError: unknown field 'a'")]
    with pytest.raises(RayAgentError, match="TypeError: unknown field 'a'"):
        run()


def test_a_task_that_is_killed_while_it_packs_submits_nothing(
    ray: ScriptedAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("")
    context = make_context(dag=SimpleNamespace(fileloc=str(tmp_path / "dag.py")))
    supervisor = supervise(context["ti"], monkeypatch)
    supervisor.state = "failed"
    operator = make_operator(working_dir=".")
    ray.on_request = lambda request: operator.on_kill() if request.method == "PUT" else None
    with pytest.raises(RayAgentError, match="was killed"):
        operator.execute(context)
    assert ray.of(SUBMIT) == []
