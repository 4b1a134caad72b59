"""Plain HTTP responses, right and wrong."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.scripted.exchange import Action, Exchange, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

PROXY_PAGE = (
    "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True)
class Answer(Action):
    """A whole response, sent instead of the usual one; on a stream's path instead of the stream.

    :param status: HTTP status.
    :param body: bytes or text as they are, ``None`` for no body, anything else as JSON.
    :param headers: more headers, or other values for the usual ones; ``None`` leaves a header out.
    :param content_type: default JSON for JSON, plain text for text.
    :param length: another Content-Length than the body's; the connection is closed after the body.
    :param delay: seconds before it.
    :param reset: end with an RST after the body; with a ``length`` beyond the body that is a cut answer.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content_type: str | None = None
    length: int | None = None
    delay: float = 0.0
    reset: bool = False

    async def run(self, x: Exchange) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        content, content_type = self._content()
        usual: dict[str, str | None] = {}
        if self.body is not None:
            usual["Content-Type"] = self.content_type or content_type
        if self.status != 204:
            usual["Content-Length"] = str(len(content) if self.length is None else self.length)
        if self.length is not None:
            usual["Connection"] = "close"
        await x.answer(self.status, merged(usual, self.headers), content)
        if self.reset:
            await x.link.reset()
        elif self.length is not None:
            await x.link.close()

    def _content(self) -> tuple[bytes, str]:
        if self.body is None:
            return b"", ""
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode("utf-8", "surrogatepass"), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


def Refuse(  # noqa: N802
    status: int = 503, detail: str | None = None, headers: Mapping[str, str | None] | None = None
) -> Answer:
    """Return FastAPI's way to refuse: ``{"detail": ...}``."""
    words = detail if detail is not None else {401: "Unauthorized", 404: "Not Found"}.get(status, "Refused")
    return Answer(status, {"detail": words}, headers or {})


def Redirect(url: str, status: int = 307) -> Answer:  # noqa: N802
    """Return a redirect."""
    return Answer(status, None, {"Location": url})


def Html(status: int = 502) -> Answer:  # noqa: N802
    """Return a proxy's error page."""
    return Answer(status, PROXY_PAGE.format(status=status), content_type="text/html")
