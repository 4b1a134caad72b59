"""What the tests of the page share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.ui.page_thread import page_thread

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


@pytest.fixture(scope="session", autouse=True)
def _page_thread() -> AbstractEventLoop:
    """Start the thread, which does not end, before a test that must leave no thread behind."""
    return page_thread.loop
