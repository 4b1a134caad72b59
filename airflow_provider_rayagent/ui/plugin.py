"""Register the Ray page in the Airflow UI, unless ``[rayagent] page`` is off.

Every component of Airflow imports this module, but only the API server serves the page. Therefore everything else in
this package is imported at the first request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.plugins_manager import AirflowPlugin

from airflow_provider_rayagent.ui import TASK_CLASSES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/rayagent"
_TASK_QUERY = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
_APPLIES_TO_SINCE = (3, 4)
"""Older versions of Airflow show a tab on the task instances of all operators."""


class LazyApp:
    """The ASGI application of the page, which is imported at the first request."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._app is None:
            from airflow_provider_rayagent.ui.app import create_app

            # In a thread, since the imports would block the API server. Two first requests may both do it, to no harm.
            self._app = await asyncio.to_thread(create_app)
        await self._app(scope, receive, send)


def is_page_on() -> bool:
    """Return whether the deployment has the page: Airflow's option ``[rayagent] page``.

    Every component of Airflow needs this module, so an invalid value is no error. The page is then off, since somebody
    has tried to say something about it.
    """
    # Not that of the task SDK, which not every component has loaded.
    from airflow.configuration import conf

    try:
        return bool(conf.getboolean("rayagent", "page", fallback=True))
    # An AirflowConfigException, of which Airflow has more than one class, or what a secrets backend raises.
    except Exception as error:  # noqa: BLE001
        from airflow_provider_rayagent.text.codes import Code, coded
        from airflow_provider_rayagent.text.sanitization import shown_error

        text = "The Ray page is off, since Airflow's option [rayagent] page cannot be read: set it to True or False. %s"
        logging.getLogger(__name__).warning(coded(Code.CONNECTION_SETTING, text), shown_error(error))
        return False


def external_views(version: str) -> list[dict[str, Any]]:
    """Return the pages for a version of Airflow; URLs are relative to its base URL."""
    views: list[dict[str, Any]] = [
        # Relative, since `[api] base_url` may have a path below which Airflow mounts its applications.
        {"name": "Ray", "href": f".{PREFIX}/", "destination": "nav", "url_route": "ray", **_icons()}
    ]
    if _release(version) >= _APPLIES_TO_SINCE:
        views.append(
            {
                "name": "Ray job",
                "href": f".{PREFIX}/task?{_TASK_QUERY}",
                "destination": "task_instance",
                "url_route": "ray-job",
                "applies_to": {"operator": list(TASK_CLASSES)},
                **_icons(),
            }
        )
    return views


def _release(version: str) -> tuple[int, ...]:
    # Two parts only: the third one of a pre-release, such as `0b1`, is not a number.
    return tuple(int(part) for part in version.split(".")[:2])


def _icons() -> dict[str, str]:
    return {
        "icon": f".{PREFIX}/static/icon.svg",
        "icon_dark_mode": f".{PREFIX}/static/icon-dark.svg",
    }


class RayAgentPlugin(AirflowPlugin):
    """The page *Ray*, and the tab *Ray job* of a task instance (Airflow 3.4), unless they are off."""

    name = "rayagent"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Ray"}] if is_page_on() else []
    external_views = external_views(airflow_version) if fastapi_apps else []
