"""What a submission sends, what is refused before, and which values of a job's environment are secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError, RayAgentResourcesError
from airflow_provider_rayagent.services.job_secrets import MASKED_ENV_VARS, masked_names, secret_values, secrets_of
from airflow_provider_rayagent.services.ray_responses import check_resources
from airflow_provider_rayagent.services.submission import MAX_BODY_BYTES, MAX_STRING_BYTES, submission_body

NODES = [
    {"state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 1e9, "disk": 1.0}},
    {"state": "ALIVE", "resources_total": {"CPU": 16.0, "GPU": 1.0}},
    {"state": "DEAD", "resources_total": {"CPU": 64.0, "GPU": 8.0}},
]


def test_arguments_that_are_not_given_are_not_sent() -> None:
    assert submission_body("true", job_id="j1") == {"entrypoint": "true", "submission_id": "j1"}
    # Zero is an amount.
    assert submission_body("true", job_id="j1", entrypoint_num_gpus=0)["entrypoint_num_gpus"] == 0


def test_a_command_of_several_lines_is_sent_unchanged() -> None:
    command = "set -e\n\tpython a.py 'é'\n"
    assert submission_body(command, job_id="j1")["entrypoint"] == command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entrypoint": None}, "must be a shell command"),
        ({"entrypoint": "a\0b"}, "NUL"),
        ({"entrypoint": "\ud800"}, "not valid Unicode"),
        ({"entrypoint": "é" * (MAX_STRING_BYTES // 2 + 1)}, "entrypoint is longer than"),
        ({"job_id": "a/b"}, "is not valid"),
        ({"job_id": "a" * 101}, "is not valid"),
        ({"runtime_env": ["pip"]}, "must be a mapping"),
        ({"runtime_env": {"py_modules": ["./lib"]}}, "local path"),
        ({"runtime_env": {"py_modules": "s3://bucket/lib.zip"}}, "must be a list of URIs"),
        ({"runtime_env": {"py_modules": 7}}, "must be a list of URIs"),
        ({"runtime_env": {"env_vars": {"A=B": "x"}}}, "invalid name"),
        ({"runtime_env": {"env_vars": ["A"]}}, "must be a mapping of names"),
        ({"metadata": {"a": None}}, "must be a string"),
        ({"entrypoint_num_cpus": True}, "must be a number"),
        ({"entrypoint_num_cpus": "1"}, "must be a number"),
        ({"entrypoint_memory": -1}, "must be a whole number of bytes"),
        ({"entrypoint_resources": {"disk": "1"}}, "must be a number"),
        ({"entrypoint_label_selector": ["a"]}, "must be a mapping"),
        ({"entrypoint_label_selector": {"a": 1}}, r"value of entrypoint_label_selector\['a'\] must be a string"),
        ({"metadata": {"a": "x" * MAX_STRING_BYTES}}, "Runtime_env and metadata would be sent as"),
        ({"entrypoint_resources": {str(n): 1 for n in range(MAX_BODY_BYTES // 8)}}, "The job would be sent as"),
    ],
)
def test_what_ray_would_fail_on_later_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RayAgentInputError, match=message):
        submission_body(**{"entrypoint": "true", "job_id": "j1", **arguments})


def test_no_value_of_the_environment_is_in_an_error() -> None:
    for value in ("s3cret\0", "s3cret" * MAX_STRING_BYTES, "s3cret\ud800"):
        with pytest.raises(RayAgentInputError) as caught:
            submission_body("true", job_id="j1", runtime_env={"env_vars": {"KEY": value}})
        assert "KEY" in str(caught.value)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("required", [{}, {"CPU": 16}, {"CPU": 4, "disk": 1}, {"GPU": 0.5, "CPU": 16}])
def test_an_entrypoint_has_to_fit_on_one_live_node(required: dict[str, float]) -> None:
    check_resources(NODES, required)


@pytest.mark.parametrize(
    ("required", "most"),
    [
        ({"GPU": 2}, "GPU 1"),
        ({"CPU": 16, "disk": 1}, "CPU 16, disk 1"),
        ({"TPU": 1}, "TPU 0"),
    ],
)
def test_what_no_node_has_is_named_with_the_most_that_one_has(required: dict[str, float], most: str) -> None:
    with pytest.raises(RayAgentResourcesError, match=f"The most that any node has: {most}"):
        check_resources(NODES, required)


def test_a_cluster_without_a_node_yet_decides_nothing() -> None:
    check_resources([], {"CPU": 1_000})
    check_resources(NODES[2:], {"CPU": 1_000})


def test_the_values_of_the_named_variables_are_secret_and_no_others() -> None:
    env_vars = {"KEY": "long-enough", "PIN": "1234", "FLAG": "False", "CONTEXT": "of-airflow"}
    metadata = masked_names({name: env_vars[name] for name in ("KEY", "PIN", "FLAG")})
    job = {"metadata": metadata, "runtime_env": {"env_vars": {**env_vars, "API_TOKEN": "not-named"}}}
    assert secrets_of(job) == ["long-enough"]
    assert secret_values(env_vars) == ["long-enough", "of-airflow"]
    assert masked_names({}) == {}


@pytest.mark.parametrize(
    ("value", "password"),
    [
        ("postgres://ada:s3cret%2Fword@db:5432/x?sslmode=require", "s3cret/word"),
        ("https://:s3cret-word@host", "s3cret-word"),
        ("postgres://ada@db/x", None),
        ("http://[not a uri", None),
        ("postgres://ada:1234@db/x", None),
    ],
)
def test_the_password_in_a_uri_is_secret_on_its_own(value: str, password: str | None) -> None:
    assert secret_values({"DATABASE_URL": value}) == [value, *([password] if password else [])]


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("https://host/v1?api_key=s3cret%2Fkey&project=analytics#top", ["s3cret/key"]),
        ("v1?apikey=s3cret-key&token=", ["s3cret-key"]),
        ("https://ada:passw0rd@host?access_token=s3cret+key", ["passw0rd", "s3cret key"]),
        ("Which key?key=not this", []),
        ("https://[host?key=s3cret-key", []),
        ("https://host?" + "&" * 100_000, []),
    ],
)
def test_a_key_in_the_query_of_a_uri_is_secret_on_its_own(value: str, keys: list[str]) -> None:
    assert secret_values({"URL": value}) == [value, *keys]


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ({"Authorization": "Bearer s3cret-token"}, ["Bearer s3cret-token", "s3cret-token"]),
        ({"authorization": "Basic YWRhOnMzY3JldA=="}, ["Basic YWRhOnMzY3JldA==", "YWRhOnMzY3JldA==", "s3cret"]),
        ({"Cookie": "a=s3cret-of-a; b=true"}, ["a=s3cret-of-a; b=true", "b=true", "s3cret-of-a"]),
        ({"X-Title": "Team Analytics", "X-Number": 7}, ["Team Analytics"]),
    ],
)
def test_the_secret_part_of_a_header_for_openlineage_is_secret_on_its_own(
    headers: dict[str, Any], parts: list[str]
) -> None:
    value = json.dumps(headers)
    assert secret_values({"OPENLINEAGE__TRANSPORT__CUSTOM_HEADERS": value}) == [value, *parts]


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"metadata": None, "runtime_env": None},
        {"metadata": {MASKED_ENV_VARS: "not JSON"}, "runtime_env": {"env_vars": {"A": "value-of-a"}}},
        {"metadata": {MASKED_ENV_VARS: "7"}, "runtime_env": {"env_vars": {"A": "value-of-a"}}},
        {"metadata": {MASKED_ENV_VARS: '[["A"], {}]'}, "runtime_env": {"env_vars": {"A": "value-of-a"}}},
        {"metadata": {MASKED_ENV_VARS: '["A"]'}, "runtime_env": {"env_vars": ["A"]}},
        {"metadata": {MASKED_ENV_VARS: '["A", "B"]'}, "runtime_env": {"env_vars": {"A": 7}}},
    ],
)
def test_odd_details_of_a_job_have_no_secrets(job: dict[str, Any]) -> None:
    assert secrets_of(job) == []


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("OPENAI_API_KEY", True),
        ("apikey", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("HF_TOKEN", True),
        ("PGPASSWORD", True),
        ("DB_PASS", True),
        ("GITHUB_PAT", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("MAX_TOKENS", False),
        ("KEYBOARD", False),
        ("COMPASS", False),
        ("RAYAGENT_RESUME_KEY", False),
        ("PYTHONPATH", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("metadata", [None, {"owner": "ada"}, {MASKED_ENV_VARS: "not JSON"}, {MASKED_ENV_VARS: "7"}])
def test_of_a_job_that_names_no_secret_variables_their_names_decide(
    name: str, is_secret: bool, metadata: dict[str, str] | None
) -> None:
    job = {"metadata": metadata, "runtime_env": {"env_vars": {name: "value-of-it", "SECRET": 7}}}
    assert secrets_of(job) == (["value-of-it"] if is_secret else [])
