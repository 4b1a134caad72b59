"""A receiver of OpenLineage events over HTTP."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.stack.http_servers import receiver_of_posts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Received:
    """An event, and the headers that it came with."""

    event: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def facets(self) -> dict[str, Any]:
        """The facets of its run."""
        facets: dict[str, Any] = self.event["run"]["facets"]
        return facets

    @property
    def run_id(self) -> str:
        return str(self.event["run"]["runId"])

    @property
    def parent(self) -> str:
        """The id of the run that its facet ``parent`` names."""
        return str(self.facets["parent"]["run"]["runId"])


@dataclass
class LineageReceiver:
    """What has been received.

    :param url: where to send events.
    """

    url: str
    received: list[Received] = field(default_factory=list)

    def of(self, job_name: str, *kinds: str) -> list[Received]:
        """Return the events of a job in the order of their times; of some kinds, such as ``COMPLETE``, or of all."""
        events = [
            each
            for each in list(self.received)
            if each.event["job"]["name"] == job_name and (not kinds or each.event["eventType"] in kinds)
        ]
        return sorted(events, key=lambda each: str(each.event["eventTime"]))


@contextlib.contextmanager
def lineage_receiver() -> Iterator[LineageReceiver]:
    """Receive events until the block ends."""

    receiver = LineageReceiver("")

    def receive(body: bytes, headers: Mapping[str, str]) -> None:
        receiver.received.append(Received(json.loads(body), headers))

    with receiver_of_posts(receive) as receiver.url:
        yield receiver
