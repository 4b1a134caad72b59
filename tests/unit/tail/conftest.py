"""Real pauses, since the clock is virtual."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_pauses() -> None:
    """Keep the real pauses."""
