"""Which level of the tests runs: the landing check, or the full check (``python3 dev.py test --all``).

The landing check is the same on every run. The full check plays other random cases each time.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

FULL = os.environ.get("TEST_LEVEL") == "full"
"""Whether the full check runs. Tests with the marker ``full`` run only then."""
SEED = "TEST_SEED"
"""The environment variable with the first seed of the random cases. Without it, the full check draws one."""
# In the environment, since the workers of pytest-xdist must have the same.
FIRST_SEED = int(os.environ.setdefault(SEED, str(secrets.randbelow(10**12)) if FULL else "0"))


def by_level(landing: T, full: T) -> T:
    """Return the value for the level that runs."""
    return full if FULL else landing


def seeds(count: int, known: Sequence[int] = ()) -> list[int]:
    """Return the seeds of random cases: those that once failed, then ``count`` others."""
    return [*known, *range(FIRST_SEED, FIRST_SEED + count)]


def seeded(seed: int) -> str:
    """Describe a failed case by its seed, and how to play it again."""
    return f"seed {seed} of those from {FIRST_SEED} on (again, as the first: {SEED}={seed})"


def load_profile() -> None:
    """Set what Hypothesis tries, whatever profile it has chosen by itself from the environment."""
    from hypothesis import HealthCheck, settings

    common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    settings.register_profile("landing", common, max_examples=100, derandomize=True, database=None)
    settings.register_profile("full", common, max_examples=300, derandomize=False, print_blob=True)
    settings.load_profile(by_level("landing", "full"))
