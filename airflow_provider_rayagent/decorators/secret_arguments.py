"""The secrets among the arguments of a function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk._shared.secrets_masker import _secrets_masker, redact

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_SECRET = "tokens"  # noqa: S105 - texts consist of tokens
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_WORD = re.compile(r"[\W_]+")


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
    """Whether a name has one of the words that Airflow takes for secret (``[core] sensitive_var_conn_names``).

    Airflow itself searches for parts of words (``SecretsMasker.should_hide_value_for_key``), such as ``token`` in
    ``tokenizer``, whose value would be masked wherever the job prints it.
    """
    masker = _secrets_masker()
    if not masker.should_hide_value_for_key(name):  # type: ignore[no-untyped-call]
        return False
    words = f"_{_joined(name)}_"
    singular = [_joined(field) for field in masker.sensitive_variables_fields]
    return any(
        f"_{field}_" in words for field in [*singular, *(f"{field}s" for field in singular)] if field != _NOT_SECRET
    )


def _joined(name: str) -> str:
    return "_".join(_NO_WORD.split(_CAMEL_CASE.sub("_", name).lower())).strip("_")
