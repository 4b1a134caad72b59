"""The arguments of ``@task.ray``: JSON, secrets, resources and packages, and mapped tasks."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_rayagent.decorators.ray_task import ray_task
from airflow_provider_rayagent.decorators.rayagent_task import plain_json
from airflow_provider_rayagent.decorators.secret_arguments import is_secret_name
from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentRunFailedError
from airflow_provider_rayagent.text import storable
from tests.unit.both_ways import both_ways
from tests.unit.decorators.cluster import packages_of
from tests.unit.decorators.test_ray_task import make_task
from tests.unit.operators.submissions import SUBMIT, sent_by
from tests.unit.support import TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.both_ways import Run

run = both_ways(make_task)
made: list[Any] = []


def make_and_keep(**options: Any) -> Any:
    made.append(make_task(**options))
    return made[-1]


run_and_keep = both_ways(make_and_keep)


def returns(value: Any) -> Any:
    return value


class Frame:
    """As pandas names it."""


Frame.__name__ = Frame.__qualname__ = "DataFrame"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Frame(), f"is a {__name__}.DataFrame, not JSON: write it to storage and pass its path"),
        (float("nan"), "is nan, which JSON does not have: pass None or text"),
        ({"rows": [1, {2}]}, "['rows'][1] is a set, not JSON: pass a list"),
        ({1: 2}, "has the key 1; keys of a JSON object are strings"),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), "is a datetime.datetime, not JSON: pass its isoformat()"),
        (b"x", "is a bytes, not JSON: pass text"),
        (2**70, "is an integer of more than 64 bits: pass its str()"),
        ("x\0", "has a NUL character"),
        ({"__classname__": "a"}, "has the key '__classname__', which Airflow reserves"),
        ("x" * 10_000_000, "has 10,000,002 characters as JSON, more than 1,000,000: write it to storage"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_an_argument_that_is_not_json_is_named(value: Any, words: str, run: Run, ray: ScriptedAgent) -> None:
    named = "The argument value of returns" + ("" if words.startswith("[") else " ")
    with pytest.raises(RayAgentInputError, match=re.escape(named + words)):
        run(function=returns, call={"value": value})
    assert ray.of(SUBMIT) == []


def returns_two(a: str, b: str) -> None: ...


def test_the_arguments_together_have_a_limit(run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentInputError, match="The total of all arguments of returns_two has 1,200,0"):
        run(function=returns_two, call={"a": "x" * 600_000, "b": "x" * 600_000})


def test_default_args_may_have_the_short_names() -> None:
    with DAG("defaults", schedule=None, default_args={"num_gpus": 2, "resources": {"disk": 1}, "num_cpus": 3}):
        make: Any = ray_task(returns, num_cpus=1)
        task = make(1).operator
    found = (task.entrypoint_num_gpus, task.entrypoint_resources, task.entrypoint_num_cpus)
    assert found == (2, {"disk": 1}, 1)


def returns_a_set() -> Any:
    return {"ids": {1}}


class Level(IntEnum):
    HIGH = 3

    def __eq__(self, other: object) -> bool:
        # Otherwise, if it is compared with all 64-bit integers, this test would not end.
        raise AssertionError(f"compared with {other}")

    __hash__ = int.__hash__


def test_an_integer_with_a_name_is_an_integer(run: Run, ray: ScriptedAgent) -> None:
    assert run(function=returns, call={"value": [Level.HIGH]}) == [3]


def returns_a_level() -> Any:
    from enum import IntEnum

    class Priority(IntEnum):
        HIGH = 3

        def __eq__(self, other: object) -> bool:
            raise AssertionError(f"compared with {other}")

        __hash__ = int.__hash__

    return [Priority.HIGH]


def test_a_function_returns_an_integer_with_a_name(run: Run, ray: ScriptedAgent) -> None:
    assert run(function=returns_a_level) == [3]


def returns_names() -> dict[str, Any]:
    return {"loss": 0.5, "../../../../dag-runs/payroll/forged": {}, "val/loss": 1, "job_id": "other"}


@pytest.mark.parametrize("pushes", [True, False])
def test_outputs_that_cannot_be_xcoms_are_in_the_returned_value_alone(
    pushes: bool, run_and_keep: Run, ray: ScriptedAgent
) -> None:
    ti = TaskInstance()
    with task_log() as log:
        found = run_and_keep(function=returns_names, do_xcom_push=pushes, context=make_context(ti))
    assert found == returns_names()
    # Airflow would push all outputs.
    assert not made[-1].multiple_outputs
    assert ti.xcoms.get("loss") == (0.5 if pushes else None)
    assert ti.xcoms["job_id"] != "other"
    assert "val/loss" not in ti.xcoms
    about = [message for message in log.messages if message.startswith("RA-310: An output of the function")]
    assert len(about) == (3 if pushes else 0)


def test_airflow_pushes_the_outputs_if_all_can_be_xcoms(run_and_keep: Run, ray: ScriptedAgent) -> None:
    run_and_keep(function=returns, call={"value": {"loss": 1}}, multiple_outputs=True)
    assert made[-1].multiple_outputs


def returns_much() -> str:
    return "x" * 100_000


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (returns_a_set, "The return value of returns_a_set['ids'] is a set, not JSON: pass a list."),
        (returns_much, "returns_much has 100,002 characters as JSON, more than 60,000"),
    ],
)
def test_what_a_function_returns_is_json(function: Any, words: str, run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentRunFailedError, match=re.escape(words)):
        run(function=function)


def prints(password: str, url: str) -> int:
    print(f"with {password}")
    return 1


SECRET = "hidden-word-of-the-argument"


def test_a_secret_argument_is_masked_and_not_in_rays_list_of_jobs(run: Run, ray: ScriptedAgent) -> None:
    with task_log() as log:
        assert run(function=prints, call={"password": SECRET, "url": "s3://b"}) == 1
    assert "with ***" in log.messages
    assert SECRET not in json.dumps(sent_by(ray))
    (package,) = packages_of(sent_by(ray), ray)
    assert SECRET.encode() in package.read("rayagent_task/call.json")


def prints_its_arguments(tokenizer: str, password: int, settings: dict[str, Any]) -> Any:
    print(f"with {tokenizer}, {password} and {settings}")
    return tokenizer


def test_a_name_is_secret_if_a_whole_word_of_it_is(run: Run, ray: ScriptedAgent) -> None:
    call = {"tokenizer": "bert-base", "password": 918273645, "settings": {"apiKey": ["abcdef-7"], "max_tokens": 40_960}}
    with task_log() as log:
        assert run(function=prints_its_arguments, call=call) == "bert-base"
    assert "with bert-base, *** and {'apiKey': ['***'], 'max_tokens': 40960}" in log.messages


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("token", True),
        ("hf_token", True),
        ("accessToken", True),
        ("api_keys", True),
        ("db-password", True),
        ("SECRETS", True),
        ("tokens", False),
        ("max_new_tokens", False),
        ("tokenizer", False),
        ("secretary", False),
        ("token_izer", True),
        ("dbpassword", True),
        ("APIToken", True),
        ("AWSSecretKey", True),
        ("password2", True),
        ("authtoken1", True),
        ("my_passwords", True),
        ("passwordless", False),
        ("größe", False),
        ("", False),
        ("_", False),
    ],
)
def test_which_names_are_secret(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


def test_resources_requirements_and_modules(run: Run, ray: ScriptedAgent) -> None:
    asked = {"num_cpus": 1, "num_gpus": 0.5, "memory": 1000, "resources": {"disk": 1}, "label_selector": {"zone": "a"}}
    env = {"py_modules": ["s3://bucket/ours.zip"]}
    run(function=returns, call={"value": 1}, requirements=["emoji"], runtime_env=env, wait_for_scale_up=True, **asked)
    sent = sent_by(ray)
    assert {name: sent[f"entrypoint_{name}"] for name in asked} == asked
    assert sent["runtime_env"]["pip"] == ["emoji"]
    assert sent["runtime_env"]["py_modules"][0] == "s3://bucket/ours.zip"
    assert sent["entrypoint"] == "python -m rayagent_task returns"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"requirements": ["emoji"], "runtime_env": {"pip": ["a"]}},
            "requirements and runtime_env['pip'] are both set",
        ),
        ({"requirements": "emoji"}, "requirements must be a list of packages, not 'emoji'"),
        ({"num_cpus": 1, "entrypoint_num_cpus": 2}, "num_cpus and entrypoint_num_cpus are both set"),
    ],
)
def test_options_that_contradict_are_refused(options: Any, words: str, run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentInputError, match=re.escape(words)):
        run(function=returns, call={"value": 1}, **options)
    assert ray.of(SUBMIT) == []


def test_what_is_checked_on_the_cluster_can_be_stored() -> None:
    assert plain_json.MAX_DEPTH + 1 == storable.MAX_DEPTH
    assert plain_json.INTEGERS == storable.INTEGERS
    assert set(plain_json.RESERVED_KEYS) == storable.RESERVED_KEYS


@pytest.mark.parametrize("depth", [plain_json.MAX_DEPTH, plain_json.MAX_DEPTH + 1])
def test_the_deepest_value_returns(depth: int, run: Run, ray: ScriptedAgent) -> None:
    value = json.loads("[" * depth + "]" * depth)
    if depth > plain_json.MAX_DEPTH:
        with pytest.raises(RayAgentInputError, match="is nested more than 99 deep"):
            run(function=returns, call={"value": value})
    else:
        assert run(function=returns, call={"value": value}) == value


def test_a_mapped_task_hides_its_environment_and_has_custom_resources() -> None:
    env = {"env_vars": {"KEY": SECRET}}
    with DAG("night", schedule=None) as dag:
        before = BaseOperator(task_id="before").output
        task: Any = ray_task(returns).override(resources={"disk": 1}, runtime_env=env, task_id="follow")
        mapped = task.expand(value=before).operator
    assert SECRET not in json.dumps(DagSerialization.to_dict(dag))
    assert mapped.upstream_task_ids == {"before"}
    operator: Any = mapped.unmap({"op_kwargs": {"value": 2}})
    assert operator.entrypoint_resources == {"disk": 1}
    assert operator.op_kwargs == {"value": 2}
    assert operator._env_vars.templates == {"KEY": SECRET}


def test_several_outputs() -> None:
    def many() -> dict[str, int]:
        return {"a": 1}

    assert make_task(many).multiple_outputs
    assert not make_task(many, multiple_outputs=False).multiple_outputs
