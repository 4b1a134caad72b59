"""Decode the bytes of a connection: WebSocket frames, server-sent events, log bodies. Pure; internal."""
