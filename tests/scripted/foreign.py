"""The answers of a server that is no service of Ray, whose text nobody must see who only may edit connections."""

from __future__ import annotations

import json

from tests.scripted.answers import Answer

WORDS = ("internal-metadata-secret", "AKIA2E0A8F3B244C9986")
"""What must not be told."""
SECRET = " ".join(WORDS)
_OBJECT = {"AccessKeyId": SECRET, "Code": [SECRET], "error": {"reason": SECRET}}
_HEADERS = {
    "Location": f"https://{WORDS[0]}:{WORDS[1]}@login.example.com:8443/sign-in;{WORDS[1]}?{WORDS[0]}#{WORDS[1]}",
    "Server": SECRET,
    "WWW-Authenticate": f'Bearer realm="{SECRET}"',
    "Retry-After": SECRET,
}
BODIES: dict[str, tuple[str, str]] = {
    "a text": (SECRET, "text/plain"),
    "JSON that is none": (SECRET, "application/json"),
    "cut JSON": (json.dumps(_OBJECT)[:-1], "application/json"),
    "a list of texts": (json.dumps([SECRET, SECRET]), "application/json"),
    "a list of objects": (json.dumps([_OBJECT]), "application/json"),
    "an object": (json.dumps(_OBJECT), "application/json"),
    "a page": (f"<html><head><title>{SECRET}</title></head><body>{SECRET}</body></html>", "text/html"),
    "a page that is called text": (f"<!DOCTYPE html>\n<title>{SECRET}</title>{SECRET}", "text/plain"),
}
"""Bodies and their types by name."""


def foreign(body: str, status: int) -> Answer:
    """Return the answer with one of :data:`BODIES`, and with headers that have the secret."""
    text, content_type = BODIES[body]
    return Answer(status, text, _HEADERS, content_type)


def told_in(texts: list[str]) -> list[str]:
    """Return the texts that tell a part of the secret."""
    return [text for text in texts if any(word.lower() in text.lower() for word in WORDS)]
