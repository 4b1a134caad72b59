"""The secrets among the arguments of a function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk._shared.secrets_masker import _secrets_masker, redact

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""The words of ``hf_token``, ``accessToken`` and ``AWSSecretKey``."""


def secret_texts(value: Any, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the texts in arguments that Airflow knows as secrets, and the texts and numbers with secret names.

    :param value: JSON; of arguments, an object.
    :param is_secret: whether all of it is secret.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from secret_texts(item, is_secret=is_secret or is_secret_name(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secret_texts(item, is_secret=is_secret)
    elif isinstance(value, str):
        if is_secret or redact(value) != value:
            yield value
    elif is_secret and isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)


def is_secret_name(name: str) -> bool:
    """Whether a word of a name is, or ends with, what Airflow takes for secret (``[core] sensitive_var_conn_names``).

    Airflow itself searches anywhere in words (``SecretsMasker.should_hide_value_for_key``), and finds ``token`` in
    ``tokenizer`` and ``max_tokens``, whose values would be masked wherever the job prints them.
    """
    masker = _secrets_masker()
    if not masker.should_hide_value_for_key(name):  # type: ignore[no-untyped-call]
        return False
    words = _joined(name)
    return any(
        # The plural too, but texts consist of tokens.
        re.search(f"{re.escape(field)}{'' if field == 'token' else 's?'}(?:_|$)", words)
        for field in map(_joined, masker.sensitive_variables_fields)
        if field
    )


def _joined(name: str) -> str:
    return "_".join(_WORDS.findall(name)).lower()
