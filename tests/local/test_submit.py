"""Jobs submitted to a real Ray, over its dashboard and over the local agent: one job an id, its files, its secrets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import CONFLICT, RayAgentHTTPError, RayAgentResourcesError
from airflow_provider_rayagent.services.call import FileContent
from airflow_provider_rayagent.services.job_secrets import masked_names, secrets_of
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.working_dir.packing import pack
from tests.local.test_following import config_of_agent, config_of_ray, follow_blocking
from tests.local.test_plain_ray import send, send_async
from tests.stack.holding import holding_proxy
from tests.stack.job_logs import lines_of_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

SERVICES: dict[str, Callable[[LocalAgent], ServiceConfig]] = {"ray": config_of_ray, "agent": config_of_agent}
SECRET = "s3cret-value-of-the-job"


@pytest.fixture(params=SERVICES)
def config(request: pytest.FixtureRequest, agent: LocalAgent) -> ServiceConfig:
    return SERVICES[request.param](agent)


def submit(config: ServiceConfig, entrypoint: str, **submission: Any) -> str:
    job_id: str = send(config, lambda service: service.submit_job(entrypoint, **submission))
    return job_id


def lines_of(config: ServiceConfig, job_id: str) -> list[str]:
    """Follow a job to its end; return the lines of its program."""
    followed = follow_blocking(config, job_id, ("websocket",))
    assert followed.job["status"] == "SUCCEEDED", followed.job["message"]
    return lines_of_program(followed.lines, followed.job)


def test_ten_submissions_at_once_with_one_id_start_one_job(
    agent: LocalAgent, config: ServiceConfig, tmp_path: Path
) -> None:
    job_id = f"at-once-over-{config.service.name}"
    ran = tmp_path / "ran"

    def submit_one(number: int) -> str:
        try:
            return submit(config, f"echo {number} >> {ran}", job_id=job_id)
        except RayAgentHTTPError as error:
            return "taken" if error.status_code == CONFLICT else error.detail

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(submit_one, range(10)))
    agent.wait(job_id)

    assert sorted(answers) == [job_id, *["taken"] * 9]
    assert len(ran.read_text(encoding="utf-8").splitlines()) == 1


def test_a_job_runs_on_a_node_with_its_labels(config: ServiceConfig) -> None:
    node_id = send(config, lambda service: service.list_nodes())[0]["node_id"]
    assert lines_of(config, submit(config, "echo here", entrypoint_label_selector={"ray.io/node-id": node_id})) == [
        "here"
    ]


def test_a_submission_whose_answer_is_lost_starts_one_job(agent: LocalAgent, tmp_path: Path) -> None:
    config = config_of_ray(agent)
    ran = tmp_path / "ran"
    with holding_proxy(agent.ray_address, "/api/jobs/") as proxy, ThreadPoolExecutor(1) as pool:
        through_proxy = BlockingServiceClient(replace(config, base_url=f"{proxy.url}/"))
        sent = pool.submit(through_proxy.send, config.service.submit_job(f"echo once >> {ran}"))
        proxy.wait_for_answer()
        proxy.drop()
        job_id = sent.result()
    agent.wait(job_id)

    assert ran.read_text(encoding="utf-8") == "once\n"


def test_a_job_runs_in_its_working_dir_which_is_uploaded_once(config: ServiceConfig, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import helper; print('helper says', helper.WORD)\n", encoding="utf-8")
    # A package of its own for each service, since Ray keeps packages.
    (tmp_path / "helper.py").write_text(f"WORD = 'hello {config.service.name}'\n", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("big.bin\n", encoding="utf-8")
    (tmp_path / "big.bin").write_bytes(b"x" * 100)
    with pack(tmp_path, root=tmp_path) as package:
        content = FileContent(package.file, package.size)
        uploaded = [
            sent(config, lambda service: service.upload_package(package.name, content))
            for sent in (send, send_async, send)
        ]
        uri = package.uri

    job_id = submit(config, "python main.py && ls *.*", runtime_env={"working_dir": uri})

    assert uploaded == [True, False, False]
    assert lines_of(config, job_id) == [f"helper says hello {config.service.name}", "helper.py", "main.py"]


def test_the_environment_reaches_the_job_and_its_details_tell_what_to_mask(config: ServiceConfig) -> None:
    env_vars = {"API_KEY": SECRET, "PLAIN": "plain-text"}
    job_id = submit(
        config,
        'echo "$API_KEY and $PLAIN"',
        runtime_env={"env_vars": env_vars},
        metadata=masked_names({"API_KEY": SECRET}),
    )

    assert lines_of(config, job_id) == [f"{SECRET} and plain-text"]
    assert secrets_of(send(config, lambda service: service.get_job(JobId(job_id)))) == [SECRET]


def test_a_command_that_fits_on_no_node_is_refused(config: ServiceConfig) -> None:
    with pytest.raises(RayAgentResourcesError, match=r"GPU 64\. The most that any node has: GPU 0"):
        submit(config, "true", job_id="too-large", entrypoint_num_gpus=64)

    jobs = send(config, lambda service: service.list_jobs())
    assert "too-large" not in [job["submission_id"] for job in jobs]


def test_reserved_resources_are_those_of_the_entrypoint(config: ServiceConfig) -> None:
    job_id = submit(config, "echo ok", entrypoint_num_cpus=0.5, entrypoint_memory=1_000_000)

    assert lines_of(config, job_id) == ["ok"]
