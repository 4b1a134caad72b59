"""An HTTP proxy on 127.0.0.1, with what proxies do: absolute URLs, tunnels, passwords."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.unit.loop_server import LoopServer, first_of, pipe

if TYPE_CHECKING:
    from collections.abc import Awaitable

HOP_BY_HOP = ("connection", "proxy-authorization", "proxy-connection", "upgrade")


class Proxy(LoopServer):
    """A forward proxy.

    :param user: user and password that it demands, ``user:password``.
    :param upgrades: whether it passes ``Upgrade`` on; most do not.
    """

    def __init__(self, user: str | None = None, *, upgrades: bool = True) -> None:
        super().__init__()
        self._user = user
        self._upgrades = upgrades
        self.requests: list[str] = []
        """The first line of each request that was let through."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            line, headers = _parsed(head)
            if self._user is not None and headers.get("proxy-authorization") != f"Basic {_basic(self._user)}":
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
            method, target, _ = line.split(" ")
            host, port = _address(target if "://" in target else f"//{target}")
            upstream_reader, upstream = await asyncio.open_connection(host, port)
            with contextlib.closing(upstream):
                if method == "CONNECT":
                    self.requests.append(line)
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    forth: Awaitable[None] = pipe(reader, upstream)
                else:
                    forth = self._forward(head, reader, upstream)
                await first_of(forth, pipe(upstream_reader, writer))

    async def _forward(self, head: bytes, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        """Pass requests on, none of which has a body."""
        while True:
            line, headers = _parsed(head)
            self.requests.append(line)
            method, target, version = line.split(" ")
            parts = urlsplit(target)
            upgrade = self._upgrades and "upgrade" in headers
            dropped = HOP_BY_HOP[1:3] if upgrade else HOP_BY_HOP
            kept = [f"{name}: {value}" for name, value in headers.items() if name not in dropped]
            upstream.write("\r\n".join([f"{method} {parts.path} {version}", *kept, "", ""]).encode("latin-1"))
            if upgrade:
                await pipe(reader, upstream)
                return
            head = await reader.readuntil(b"\r\n\r\n")


def _parsed(head: bytes) -> tuple[str, dict[str, str]]:
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return line, {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def _basic(user: str) -> str:
    return base64.b64encode(user.encode()).decode()
