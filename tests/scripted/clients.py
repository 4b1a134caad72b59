"""Clients for the tests of the scripted agent: the usual libraries, and bare sockets that see every byte."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from tests.scripted.server import ScriptedAgent


def get(agent: ScriptedAgent, path: str, **options: Any) -> Any:
    import requests

    return requests.get(agent.url + path, timeout=PATIENCE, **options)


def ws_events(agent: ScriptedAgent, job_id: str = "j1") -> tuple[list[str], str]:
    """Return the messages of one WebSocket, and the name of what ended it (``closed CODE``)."""
    import websocket

    messages: list[str] = []
    ws: Any = websocket.create_connection(f"{agent.url.replace('http', 'ws', 1)}jobs/{job_id}/logs/", timeout=PATIENCE)
    try:
        while True:
            opcode, data = ws.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return messages, f"closed {int.from_bytes(data[:2], 'big')}"
            if opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
                messages.append(data.decode())
    except (websocket.WebSocketException, OSError) as error:
        return messages, type(error).__name__
    finally:
        ws.shutdown()


def raw_request(agent: ScriptedAgent, path: str, upgrade: bool = False) -> socket.socket:
    """Return a socket on which a request was sent and nothing read."""
    sock = socket.create_connection(("127.0.0.1", agent.port), timeout=PATIENCE)
    lines = [f"GET {agent.base_path}{path} HTTP/1.1", "Host: x"]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return sock


def read_all(sock: socket.socket) -> tuple[bytes, str]:
    """Return what comes until the end, and how it ended."""
    data = b""
    with sock:
        try:
            while block := sock.recv(65536):
                data += block
        except ConnectionResetError:
            return data, "reset"
        except TimeoutError:
            return data, "silent"
    return data, "fin"
