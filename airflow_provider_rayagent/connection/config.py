"""The configuration of a client, read from the parts of an Airflow connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_rayagent.connection.admitted_clusters import read_entries
from airflow_provider_rayagent.connection.credentials import TokenFile, read_headers
from airflow_provider_rayagent.connection.fields import EXTRA_FIELDS, field_name, text_of
from airflow_provider_rayagent.connection.page_urls import fill, page_values, read_pages
from airflow_provider_rayagent.connection.service_clock import ServiceClock
from airflow_provider_rayagent.connection.service_url import read_service_url
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.validation import is_loopback, shown, validate_timeout
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from airflow_provider_rayagent.text.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.connection.permitted_files import PermittedFolders
    from airflow_provider_rayagent.services.service import Service

# Both are the defaults of the agent's own client.
DEFAULT_CONNECT_TIMEOUT = 3.0
DEFAULT_READ_TIMEOUT = 10.0
MAX_IDLE_SECONDS = 4.0
"""A connection that was idle for longer is not reused: uvicorn closes it after 5 seconds, just when the next request
for a job's status is due, and a request that is sent at that moment is lost."""
MAX_NAMESPACE = 100
UNENCRYPTED = "The token is sent without encryption: use https, unless nobody else can read that network."

SERVICES: Mapping[str, Service] = {service.name: service for service in (AGENT, RAY)}


@dataclass(frozen=True)
class ServiceConfig:
    """Configuration of a client for one agent.

    :param base_url: absolute ``http`` or ``https`` URL, ending with a slash.
    :param cluster: the value in it for the placeholder ``{cluster}``; ``None``: the connection has none.
    :param headers: request headers, including secret ones, but not that of the token in ``token_file``.
    :param connect_timeout: seconds to connect, and until a log stream is accepted.
    :param read_timeout: seconds to wait for data of a response.
    :param verify: whether to verify the server's certificate, or the path of the CA bundle to verify it with.
    :param client_cert: paths of certificate and key, or of one file with both.
    :param pages: templates of the URLs of a job's web pages, by the connection's field.
    :param page_problems: what is wrong with other templates; an invalid one must not fail a task.
    :param job_namespace: distinguishes the ids of this Airflow's jobs from those of others; ``None``: not set.
    :param credentials: redacts the secrets of the connection alone.
    :param redact: redacts secrets in what is shown: those of the connection, and those of jobs that are added to it.
        Copies with other timeouts share both.
    :param service: the service that the agent implements.
    :param token_file: the token, if it is in a file; copies with other timeouts share what it has read.
    :param tls_folders: where the files of ``verify`` and ``client_cert`` must be; ``None``: anywhere.
    :param clock: the clock of the service; copies with other timeouts share it.
    :param uses_proxies: whether the proxies of the process's environment apply.
    """

    base_url: str
    cluster: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    read_timeout: float = DEFAULT_READ_TIMEOUT
    verify: bool | str = True
    client_cert: str | tuple[str, str] | None = None
    pages: Mapping[str, str] = field(default_factory=dict)
    page_problems: Sequence[str] = ()
    job_namespace: str | None = None
    # Not compared: ``lease`` in ``transport/pool.py`` finds the shared client by an equal configuration, and each one
    # that is read has objects of its own.
    credentials: Redactor = field(default_factory=Redactor, repr=False, compare=False)
    redact: Redactor = field(default_factory=Redactor, repr=False, compare=False)
    service: Service = AGENT
    token_file: TokenFile | None = None
    tls_folders: PermittedFolders | None = None
    clock: ServiceClock = field(default_factory=ServiceClock, repr=False, compare=False)
    uses_proxies: bool = True

    @property
    def has_token(self) -> bool:
        """Whether requests have a token."""
        return self.token_file is not None or self.service.credentials[0].header in self.headers

    @property
    def exposes_token(self) -> bool:
        """Whether requests have a token that passes a network without encryption."""
        parts = urlsplit(self.base_url)
        return self.has_token and parts.scheme == "http" and not is_loopback(parts.hostname or "")

    def url(self, path: str) -> str:
        """Return the absolute URL of a path relative to the base URL."""
        return self.base_url + path

    def page_urls(
        self, job_id: str, job: Mapping[str, Any] | None = None, *, start: float | None = None
    ) -> dict[str, str]:
        """Return the URLs of a job's web pages by the connection's field, as far as they are known.

        The arguments are those of :func:`page_values`.
        """
        values = page_values(job_id, self.base_url, job, cluster=self.cluster, start=start, redact=self.redact)
        return {name: url for name, template in self.pages.items() if (url := fill(template, values))}


def read_config(
    *,
    host: str | None,
    port: object = None,
    schema: str | None = None,
    token: str | None = None,
    extra: Mapping[str, Any] | None = None,
    cluster: object = None,
    mask: Callable[[str], object] = str,
    token_folders: PermittedFolders | None = None,
    tls_folders: PermittedFolders | None = None,
) -> ServiceConfig:
    """Return the configuration for the parts of a connection. Reads no file.

    :param host: host name, IP address, or a URL with scheme, port and path prefix.
    :param port: port number; a port in ``host`` takes precedence.
    :param schema: ``http`` (the default) or ``https``; a scheme in ``host`` takes precedence.
    :param token: the agent token.
    :param extra: the connection's extra, see :data:`EXTRA_FIELDS`.
    :param cluster: the value for the placeholder ``{cluster}``; ``None``: there is none.
    :param mask: called with every form of a secret that is read later, before it is used.
    :param token_folders: where a token file must be; ``None``: anywhere.
    :param tls_folders: where the other files must be; ``None``: anywhere.
    :raises RayAgentConfigError: if a field is missing or malformed; the message names the field.
    """
    # A field that is left empty in the form may be stored, as null or an empty text.
    extra = {key: value for key, value in (extra or {}).items() if key in EXTRA_FIELDS and value not in (None, "")}
    service = _service(extra)
    url, entries = read_service_url(host, port, schema, service), read_entries(extra.get("clusters", ""))
    address = url.admitted(cluster, entries)
    headers, secrets = read_headers(service, token, extra)
    credentials = Redactor(secrets)
    token_file = TokenFile.of(service, token, extra, credentials, mask, token_folders, address)
    if token_file is not None:
        # The header of the file's token comes with each request, so the client must not have another one.
        headers = {name: value for name, value in headers.items() if name.lower() != token_file.header.lower()}
    base_url = url.filled(address)
    pages, page_problems = read_pages(extra, service.job_page(base_url), address)
    return ServiceConfig(
        base_url=base_url,
        cluster=None if address is None else str(address),
        headers=headers,
        connect_timeout=_seconds(extra, "connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        read_timeout=_seconds(extra, "read_timeout", DEFAULT_READ_TIMEOUT),
        verify=_verify(extra),
        client_cert=_client_cert(extra),
        pages=pages,
        page_problems=page_problems,
        job_namespace=_job_namespace(extra),
        credentials=credentials,
        redact=Redactor(base=credentials),
        service=service,
        token_file=token_file,
        tls_folders=tls_folders,
    )


def _service(extra: Mapping[str, Any]) -> Service:
    value = extra.get("service", AGENT.name)
    service = SERVICES.get(value) if isinstance(value, str) else None
    if service is None:
        raise RayAgentConfigError(
            f"The connection's {field_name('service')} must be {' or '.join(SERVICES)}, not {shown(value)}."
        )
    # Ignored, such a credential would be missing from the requests, and nobody would know why they are rejected.
    others = {credential.field for other in SERVICES.values() for credential in other.credentials}
    for name in sorted(others - {credential.field for credential in service.credentials}):
        if name in extra:
            raise RayAgentConfigError(
                f"The connection has a {field_name(name)}, which {service.label} does not take: leave it empty."
            )
    return service


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name, default)
    try:
        # Both raise a ValueError: a RayAgentInputError is one.
        return validate_timeout(float(value) if isinstance(value, str) else value, name)
    except ValueError:
        raise RayAgentConfigError(
            f"The connection's {field_name(name)} must be a number of seconds greater than 0 "
            f"and up to {MAX_TIMEOUT:g}, not {shown(value)}."
        ) from None


def _verify(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify", True)
    if isinstance(value, str):
        # In a connection that is given as a URI, every field of the extra is text.
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        value = known.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise RayAgentConfigError(
            f"The connection's {field_name('verify')} must be true or false, not {value!r}; "
            f"the path of a CA's file goes to the {field_name('ca_bundle')}."
        )
    bundle = _text(extra, "ca_bundle")
    return bundle if value and bundle else value


def _client_cert(extra: Mapping[str, Any]) -> str | tuple[str, str] | None:
    cert, key = _text(extra, "client_cert"), _text(extra, "client_key")
    if key and not cert:
        raise RayAgentConfigError(
            f"The connection has a {field_name('client_key')} but no {field_name('client_cert')}."
        )
    return (cert, key) if cert and key else cert


def _job_namespace(extra: Mapping[str, Any]) -> str | None:
    value = extra.get("job_namespace")
    text = text_of(value)
    if text is not None and (not isinstance(text, str) or not text.strip() or len(text) > MAX_NAMESPACE):
        raise RayAgentConfigError(
            f"The connection's {field_name('job_namespace')} must be a text of up to {MAX_NAMESPACE} characters, "
            f"not {shown(value)}."
        )
    return None if text is None else text.strip()


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is not None and not isinstance(value, str):
        raise RayAgentConfigError(f"The connection's {field_name(name)} must be a path, not {value!r}.")
    return value
