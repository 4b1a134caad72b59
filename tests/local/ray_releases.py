"""A Ray of the newest or the oldest supported release."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Literal

from tests.stack.interpreters import interpreter
from tests.stack.ray import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def cluster_of(release: Literal["newest", "oldest"]) -> Iterator[Cluster]:
    """Run a :class:`Cluster` of the newest or the oldest supported Ray until the block ends."""
    oldest = release == "oldest"
    python = interpreter("RAYAGENT_OLDEST_RAY_PYTHON", "ray") if oldest else sys.executable
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(cluster(python=python))
        while oldest and not running.survives_its_start():
            stack.close()
            running = stack.enter_context(cluster(python=python))
        yield running
