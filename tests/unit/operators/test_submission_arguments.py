"""The arguments of a submission: hidden values, templates, paths, and what Airflow stores of a mapped task."""

from __future__ import annotations

import io
import json
import zipfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
from tests.unit.operators.submissions import SUBMIT, make_operator, rendered, sent_by
from tests.unit.supervisor import supervise
from tests.unit.support import make_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow.sdk.definitions.mappedoperator import MappedOperator

    from tests.scripted import ScriptedAgent


class Upstream(BaseOperator):
    """A task whose output is the value of an argument."""


def values_of(operator: RayAgentSubmitJobOperator, **context: Any) -> dict[str, str]:
    """Return the environment variables that an operator would send."""
    return operator._env_vars.values(operator.runtime_env, lambda text: operator.render_template(text, context))  # type: ignore[arg-type]


def test_templates_show_the_names_of_the_environment_only() -> None:
    operator = make_operator(runtime_env={"pip": ["{{ word }}"], "env_vars": {"KEY": "{{ word }}", "N": "plain"}})
    assert operator.runtime_env == {"pip": ["{{ word }}"], "env_vars": {"KEY": "***", "N": "***"}}
    rendered(operator)
    assert operator.runtime_env == {"pip": ["hidden-word"], "env_vars": {"KEY": "***", "N": "***"}}
    # A value is rendered once: what came of it is data.
    assert values_of(operator, word="{{ other }}") == {"KEY": "{{ other }}", "N": "plain"}


def test_the_output_of_another_task_is_a_value_of_the_environment() -> None:
    output = SimpleNamespace(resolve=lambda context: "{{ from xcom }}")
    operator = make_operator(runtime_env={"env_vars": {"KEY": "text", "OUT": output}})
    assert operator.runtime_env["env_vars"] == {"KEY": "***", "OUT": output}
    rendered(operator)
    assert operator.runtime_env["env_vars"] == {"KEY": "***", "OUT": "***"}
    assert values_of(operator) == {"KEY": "text", "OUT": "{{ from xcom }}"}


def test_an_environment_that_is_assigned_later_replaces_the_first() -> None:
    operator = make_operator(runtime_env={"env_vars": {"KEPT": "{{ word }}", "DROPPED": "x"}})
    shown = operator.runtime_env["env_vars"]
    operator.runtime_env = {"env_vars": {"KEPT": shown["KEPT"], "TEAM": "blue-{{ word }}"}}
    rendered(operator)
    assert operator.runtime_env == {"env_vars": {"KEPT": "***", "TEAM": "***"}}
    assert values_of(operator, word="w") == {"KEPT": "w", "TEAM": "blue-w"}
    # After rendering, as a hook before the execution may do.
    operator.runtime_env = {"env_vars": {"TEAM": "***", "LATE": "{{ data }}"}}
    assert values_of(operator, word="w") == {"TEAM": "blue-w", "LATE": "{{ data }}"}
    operator.runtime_env = None
    assert values_of(operator) == {}


def test_text_instead_of_an_environment_is_not_shown() -> None:
    operator = rendered(make_operator(runtime_env="{{ word }}"))
    assert operator.runtime_env == "***"


def test_an_environment_of_a_mapped_task_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"env_vars": {"A": "{{ word }}"}, "pip": ["{{ word }}"]}
    with DAG("night"):
        mapped = RayAgentSubmitJobOperator.partial(task_id="follow", entrypoint="{{ word }}").expand(
            runtime_env=Upstream(task_id="before").output
        )
    # As Airflow returns the mapped values and the ids of those that it must not render.
    monkeypatch.setattr(
        type(mapped),
        "_expand_mapped_kwargs",
        lambda self, context: ({**self.partial_kwargs, "runtime_env": given}, {id(given)}),
    )
    context: Any = {"word": "hidden-word", "ti": SimpleNamespace(map_index=0), "dag_run": SimpleNamespace(conf={})}
    monkeypatch.setattr(
        "airflow.sdk.execution_time.context.context_update_for_unmapped",
        lambda context, task: context.__setitem__("task", task),
    )
    mapped.render_template_fields(context)
    operator = context["task"]
    assert operator.entrypoint == "hidden-word"
    assert operator.runtime_env == {"env_vars": {"A": "***"}, "pip": ["{{ word }}"]}
    assert values_of(operator, word="hidden-word") == {"A": "{{ word }}"}


def test_values_stay_text_in_a_dag_with_native_rendering(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    with DAG("night", render_template_as_native_obj=True):
        operator = make_operator(
            runtime_env="{{ {'env_vars': {'N': '8', 'VERSION': word}} }}",
            metadata={"version": "3"},
        )
        other = make_operator(task_id="other", runtime_env={"env_vars": {"N": "8", "VERSION": "{{ word }}"}})
    context = make_context(word="1.10")
    supervise(context["ti"], monkeypatch)
    for each, job_id in ((operator, "one"), (other, "two")):
        each.job_id = job_id
        each.render_template_fields(context)
        each.execute(context)
    sent = [json.loads(request.body) for request in ray.of(SUBMIT)]
    assert [{name: body["runtime_env"]["env_vars"][name] for name in ("N", "VERSION")} for body in sent] == [
        {"N": "8", "VERSION": "1.10"},
        {"N": "8", "VERSION": "1.10"},
    ]
    assert sent[0]["metadata"]["version"] == "3"


def test_what_to_reserve_may_be_a_template(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context()
    supervise(context["ti"], monkeypatch)
    amounts: dict[str, Any] = {
        "entrypoint_num_cpus": "{{ half }}",
        "entrypoint_num_gpus": SimpleNamespace(resolve=lambda context: 0.25),
        "entrypoint_memory": "{{ count }}",
        "entrypoint_resources": {"disk": "{{ count }}"},
        "entrypoint_label_selector": {"zone": "{{ count }}"},
    }
    rendered(make_operator(wait_for_scale_up=True, **amounts), half=0.5, count=3).execute(context)
    sent = sent_by(ray)
    assert {name: sent[name] for name in amounts} == {
        "entrypoint_num_cpus": 0.5,
        "entrypoint_num_gpus": 0.25,
        "entrypoint_memory": 3,
        "entrypoint_resources": {"disk": 3},
        "entrypoint_label_selector": {"zone": "3"},
    }


def test_a_path_is_a_working_dir_without_what_is_excluded(
    ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir()
    for name in ("train.py", "key.pem"):
        (tmp_path / "job" / name).write_text("x\n")
    context = make_context(dag=SimpleNamespace(fileloc=str(tmp_path / "dag.py")))
    supervise(context["ti"], monkeypatch)
    rendered(make_operator(working_dir=tmp_path / "job", runtime_env={"excludes": ["*.pem"]})).execute(context)
    ((name, content),) = ray.packages.items()
    assert sent_by(ray)["runtime_env"]["working_dir"] == f"gcs://{name}"
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["train.py"]


SECRET = "s3cret-of-the-environment"
partial = RayAgentSubmitJobOperator.partial


def environment() -> dict[str, Any]:
    return {"pip": ["emoji"], "env_vars": {"KEY": SECRET, "OUT": BaseOperator(task_id="before").output}}


def of_partial() -> tuple[MappedOperator, dict[str, Any]]:
    return partial(task_id="mapped", runtime_env=environment()).expand(entrypoint=["a", "b"]), {"entrypoint": "a"}


def of_expand() -> tuple[MappedOperator, dict[str, Any]]:
    mapped = partial(task_id="mapped", entrypoint="a").expand(runtime_env=[environment()])
    return mapped, {"runtime_env": mapped.expand_input.value["runtime_env"][0]}


def of_expand_kwargs() -> tuple[MappedOperator, dict[str, Any]]:
    mapped = partial(task_id="mapped").expand_kwargs([{"entrypoint": "a", "runtime_env": environment()}])
    return mapped, dict(mapped.expand_input.value[0])


@pytest.mark.parametrize("make", [of_partial, of_expand, of_expand_kwargs])
def test_values_in_a_dag_file_are_not_stored_and_the_task_has_them(
    make: Callable[[], tuple[MappedOperator, dict[str, Any]]],
) -> None:
    with DAG("night", schedule=None) as dag:
        mapped, arguments = make()
    stored = json.dumps(DagSerialization.to_dict(dag))
    assert SECRET not in stored
    assert "emoji" in stored
    if make is not of_expand_kwargs:  # In which Airflow looks for no outputs of tasks.
        assert mapped.upstream_task_ids == {"before"}
    operator: Any = mapped.unmap(arguments)
    assert operator.runtime_env["pip"] == ["emoji"]
    assert operator.runtime_env["env_vars"]["KEY"] == "***"
    assert operator._env_vars.templates == {"KEY": SECRET}


def test_other_values_are_mapped_as_ever() -> None:
    with DAG("night", schedule=None):
        output = BaseOperator(task_id="before").output
        assert partial(task_id="a", entrypoint="a").expand(runtime_env=output).upstream_task_ids == {"before"}
        assert partial(task_id="b").expand_kwargs(output).upstream_task_ids == {"before"}
        assert partial(task_id="c", runtime_env=None).expand(entrypoint=["a"]).partial_kwargs["runtime_env"] is None
