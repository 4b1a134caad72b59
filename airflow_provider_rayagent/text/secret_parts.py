"""Which parts of headers and URLs are secrets, and which environment variables. Pure."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIN_COOKIE = 8
"""Characters; a shorter cookie value is not a secret, but a word such as ``true``."""
_SECRET_FIELD = re.compile(r"auth|cookie|credential|key|pass|secret|session|token", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:auth|credentials?|keys?|pass|pwd|[a-z0-9]*(?:api_?key|passphrase|passwd|password|secret)s?|[a-z0-9]*token)"
    r"(?:_|$)",
    re.IGNORECASE,
)


def is_secret_field(name: str) -> bool:
    """Whether the name of a header, or of a parameter of a URL, says that its value is a secret."""
    return _SECRET_FIELD.search(name) is not None


def is_secret_variable(name: str) -> bool:
    """Whether a word of an environment variable's name says that its value is a secret; not ``TOKENIZERS`` or so."""
    return _SECRET_VARIABLE.search(name) is not None


def header_secrets(name: str, value: str) -> Iterator[str]:
    """Yield the value of a header, and the parts of it that are secrets on their own.

    These are the credentials in ``Bearer …`` or ``Token …`` (RFC 9110, section 11.4), the password in ``Basic …``
    (RFC 7617, section 2), and the value of each cookie (RFC 6265, section 4.2.1).
    """
    yield value
    scheme, _, credentials = value.partition(" ")
    yield credentials.strip()
    if scheme.lower() == "basic":
        try:
            user_and_password = base64.b64decode(credentials, validate=True).decode("utf-8", "replace")
        except ValueError:  # Not Base64, or not ASCII.
            return
        yield user_and_password.partition(":")[2]
    if name.lower() == "cookie":
        values = (pair.partition("=")[2].strip() for pair in value.split(";"))
        yield from (each for each in values if len(each) >= _MIN_COOKIE)


def uri_secrets(value: str) -> Iterator[str]:
    """Yield the password in a URI, and the values in its query whose names say that they are secrets.

    A URI has them percent-encoded, but programs print what they have decoded.
    """
    if "@" not in value and "?" not in value:  # Parsing takes long for thousands of values.
        return
    try:
        parts = urlsplit(value)
        yield unquote(parts.password or "")
        # A sentence with a question mark has no query.
        query = [] if " " in value else parse_qsl(parts.query)
    except ValueError:  # It is no URI.
        return
    yield from (text for name, text in query if is_secret_field(name))
