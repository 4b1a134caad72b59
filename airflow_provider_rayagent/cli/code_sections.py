"""What the documentation says of a code, for a terminal."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.text.codes import Code

_PAGE = Path(__file__).with_name("error-codes.md")
"""A link to the page in ``docs``; the wheel has a copy."""
_SECTION = r"^### {}\n(.*?)(?=^##|^\(|\Z)"
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_ROLE = re.compile(r"\{[a-z]+\}`\.?([^`]+)`")


def section_of(text: str) -> str:
    """Return the section about a code, without markup.

    :param text: the code, such as ``RA-206``; the letters may be missing.
    :raises RayAgentInputError: if there is no such code.
    """
    name = f"RA-{text.strip().upper().removeprefix('RA').removeprefix('-')}"
    if name not in {code.value for code in Code}:
        raise RayAgentInputError(f"There is no code {shown(text)}: give one that begins a message, such as RA-206.")
    page = _PAGE.read_text(encoding="utf-8")
    found = re.search(_SECTION.format(name), page, re.MULTILINE | re.DOTALL)
    section = found[1].strip() if found else ""
    plain = _ROLE.sub(r"\1", _LINK.sub(r"\1", section)).replace("*", "").replace("`", "")
    return f"{name}\n\n{plain}"
