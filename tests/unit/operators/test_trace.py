"""The trace of a task that its job continues."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from tests.unit.operators.submissions import make_rendered, sent_by
from tests.unit.support import make_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.scripted import ScriptedAgent

NAMES = {"TRACEPARENT", "TRACESTATE"}
PARENT = SpanContext(0xABC, 0xDEF, is_remote=True, trace_state=TraceState([("vendor", "x")]))
"""Not sampled, as that of a run in an Airflow that does not trace."""
SAMPLED = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1), trace_state=PARENT.trace_state)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """The provider of an Airflow that traces."""
    # The real one can be installed once in a process.
    installed = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: installed)
    return installed


def submitted_in(
    ray: ScriptedAgent, parent: SpanContext, provider: trace.TracerProvider, **options: Any
) -> Mapping[str, str]:
    """Run a task in a span, as Airflow does; return those environment variables of its job, and the span's id."""
    context = trace.set_span_in_context(NonRecordingSpan(parent))
    with provider.get_tracer("airflow").start_as_current_span("worker.follow", context=context) as span:
        make_rendered(**options).execute(make_context())
    sent: dict[str, str] = sent_by(ray)["runtime_env"]["env_vars"]
    return {"span": f"{span.get_span_context().span_id:016x}"} | {
        name: value for name, value in sent.items() if name in NAMES
    }


def test_a_job_continues_the_trace_of_its_task(ray: ScriptedAgent, provider: TracerProvider) -> None:
    sent = submitted_in(ray, SAMPLED, provider)
    assert sent["TRACEPARENT"] == f"00-{0xABC:032x}-{sent['span']}-01"
    assert sent["TRACESTATE"] == "vendor=x"
    assert sent["span"] != f"{0xDEF:016x}"


def test_a_task_that_is_not_sampled_has_a_job_that_is_not(ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert re.fullmatch(rf"00-{0xABC:032x}-\w+-00", submitted_in(ray, PARENT, provider)["TRACEPARENT"])


@pytest.mark.parametrize("off", [trace.NoOpTracerProvider(), trace.ProxyTracerProvider()], ids=["no-op", "proxy"])
def test_a_job_gets_no_trace_from_an_airflow_that_does_not_trace(
    off: trace.TracerProvider, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: off)
    assert submitted_in(ray, PARENT, off).keys() == {"span"}


def test_a_job_gets_no_trace_from_a_task_without_a_span(ray: ScriptedAgent, provider: TracerProvider) -> None:
    make_rendered().execute(make_context())
    assert NAMES.isdisjoint(sent_by(ray)["runtime_env"]["env_vars"])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_authors_own_value_wins_and_is_not_mixed_with_another_trace(
    name: str, ray: ScriptedAgent, provider: TracerProvider
) -> None:
    sent = submitted_in(ray, SAMPLED, provider, runtime_env={"env_vars": {name: "own-value"}})
    assert {key: value for key, value in sent.items() if key != "span"} == {name: "own-value"}
