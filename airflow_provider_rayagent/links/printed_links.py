"""Links from a task to pages that its job names while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.text.xcom_keys import key_of_printed_link

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow.sdk.types import TaskInstanceKey


class PrintedLink(BaseOperatorLink):
    """A link that the job prints while it runs.

    :param name: its name, in the job's message and on the button.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The name of the button."""
        return self._name

    @property
    def xcom_key(self) -> str:
        """The key of the XCom with the URL."""
        return key_of_printed_link(self._name)

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the URL that the job of ``operator`` has printed; empty if there is none."""
        return str(operator.url_of_printed_link(self._name))


def make_printed_links(names: Sequence[str], taken: Collection[str]) -> list[PrintedLink]:
    """Return the links for an argument ``printed_links``.

    :param taken: names of other buttons of the task.
    :raises RayAgentInputError: if a name is invalid or taken.
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise RayAgentInputError(f"printed_links must be a list of names, not {names!r:.100}.")
    for name in names:
        if name in taken:
            raise RayAgentInputError(f"printed_links has the name {name!r}, which another button of the task has.")
    return [PrintedLink(name) for name in names]
