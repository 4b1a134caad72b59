"""Tasks and actors of a real Ray that wait for resources which nobody has."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.ui.pending_work import waiting_tasks
from tests.local.test_following import config_of_agent, config_of_ray
from tests.local.test_plain_ray import send
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

PROGRAM = """
import time, ray
ray.init()

@ray.remote(num_cpus=300)
def shard(number):
    return number

@ray.remote(num_cpus=400)
class Model:
    def predict(self):
        return 1

@ray.remote
def merge(part):
    return part

shards = [shard.remote(number) for number in range(3)]
model = Model.remote()
others = [merge.remote(shards[0]), model.predict.remote()]
time.sleep(3600)
"""


@pytest.mark.parametrize("config_of", [config_of_agent, config_of_ray])
def test_tasks_and_actors_that_wait_are_found_with_their_job(
    agent: LocalAgent, config_of: Callable[[LocalAgent], ServiceConfig]
) -> None:
    config = config_of(agent)
    job_id = agent.submit(f"python -c {shlex.quote(textwrap.dedent(PROGRAM))}")
    pending = agent.submit("echo never", entrypoint_num_cpus=500)

    def groups() -> Any:
        tasks = send(config, lambda service: service.list_waiting_tasks())
        found = waiting_tasks(tasks, send(config, lambda service: service.list_jobs()), str)["groups"]
        own = [each for each in found if each["job_id"] == job_id]
        assert own == found, "what waits for another job"
        return own if len(own) == 2 else None

    found = wait_until(groups, "the tasks do not wait")
    for name in (job_id, pending):
        agent.request("POST", f"jobs/{name}/stop/")
    assert [(each["kind"], each["name"], each["count"]) for each in found] == [
        ("task", "shard", 3),
        ("actor", "Model.__init__", 1),
    ]
    assert [each["resources"]["CPU"] for each in found if each["resources"]] in ([300.0, 400.0], [])
    agent.wait(job_id)
