"""Thorough random tests, and real pauses, since the clock is virtual."""

from __future__ import annotations

import pytest

from tests.tail.figures import load_profile

load_profile()


@pytest.fixture(autouse=True)
def _short_pauses() -> None:
    """Keep the real pauses."""
