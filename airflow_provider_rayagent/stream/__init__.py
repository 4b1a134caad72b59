"""Bytes of a connection in, events out: WebSocket frames, server-sent events, log bodies. Pure; internal."""
