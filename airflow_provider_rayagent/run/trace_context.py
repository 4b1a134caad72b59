"""The trace of a task, which its job continues (W3C Trace Context)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = ("TRACEPARENT", "TRACESTATE")
"""The names for environment variables in OpenTelemetry's specification ("Environment Variables as Context Propagation
Carriers")."""


def trace_env_vars(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables by which a job continues the trace of the task that runs now.

    There are none while Airflow does not trace, and none if the author has set one of them: half of another context is
    none.

    :param own: the variables of the author.
    """
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Without a provider, the span is one of the no-op tracer, which is not sampled: the sampler of the job would then
    # drop all of its spans (``ParentBased`` in ``opentelemetry/sdk/trace/sampling.py``).
    provider = trace.get_tracer_provider()
    is_traced = not isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
    if not is_traced or not own.keys().isdisjoint(VARIABLES):
        return {}
    carrier: dict[str, str] = {}
    # Airflow makes the span of the task current (``_make_task_span`` in ``airflow/sdk/execution_time/task_runner.py``).
    TraceContextTextMapPropagator().inject(carrier)
    return {name.upper(): value for name, value in carrier.items()}
