"""A receiver of spans over HTTP (OTLP), and the settings with which Airflow sends them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.stack.http_servers import receiver_of_posts
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class SpanReceiver:
    """What has been received.

    :param url: where to send spans.
    """

    url: str
    received: list[Span] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """The environment of an Airflow that sends its spans here."""
        return {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": self.url,
        }

    def span(self, name: str) -> Span:
        """Wait for the only span of this name."""

        def find() -> Span | None:
            found = [each for each in list(self.received) if each.name == name]
            assert len(found) <= 1, f"several spans {name}"
            return found[0] if found else None

        return wait_until(find, lambda: f"there is no span {name}, only {sorted(each.name for each in self.received)}")

    def described(self) -> str:
        """Return a line for each span: its trace, id, parent and name."""
        rows = [
            (each.trace_id.hex(), each.span_id.hex(), each.parent_span_id.hex(), each.name) for each in self.received
        ]
        return "\n".join(map(" ".join, rows))

    def ancestors(self, name: str) -> list[str]:
        """Return the names of the spans above one, up to the first that was not received."""
        span: Span | None = self.span(name)
        names: list[str] = []
        while span is not None:
            parent = (span.trace_id, span.parent_span_id)
            span = next((each for each in list(self.received) if (each.trace_id, each.span_id) == parent), None)
            names += [span.name] if span is not None else []
        return names


@contextlib.contextmanager
def span_receiver() -> Iterator[SpanReceiver]:
    """Receive spans until the block ends."""

    receiver = SpanReceiver("")

    def receive(body: bytes, _: object) -> None:
        resources = ExportTraceServiceRequest.FromString(body).resource_spans
        receiver.received += [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    with receiver_of_posts(receive) as url:
        receiver.url = f"{url}/v1/traces"
        yield receiver
