"""The placeholder ``{cluster}`` in a connection: what is admitted, and what is refused before any request."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.text.codes import Code

IN_HOST = "http://{cluster}-head-svc.ray:8265"
IN_PATH = "https://gateway.example.com/ray/{cluster}/"
WHOLE_HOST = "http://{cluster}:8265"
SERVICE = {"service": "ray"}


def config_of(host: str, cluster: object, **extra: Any) -> ServiceConfig:
    return read_config(host=host, token="s3cret-token", cluster=cluster, extra={**SERVICE, **extra})


def refusal_of(host: str, cluster: object, **extra: Any) -> str:
    with pytest.raises(RayAgentConfigError) as caught:
        config_of(host, cluster, **extra)
    assert caught.value.code is Code.CLUSTER_REFUSED, caught.value
    assert "s3cret" not in str(caught.value)
    return caught.value.detail


@pytest.mark.parametrize(
    ("host", "cluster", "base_url"),
    [
        (IN_HOST, "train-x7", "http://train-x7-head-svc.ray:8265/"),
        (IN_HOST, "7b", "http://7b-head-svc.ray:8265/"),
        (IN_HOST, "2130706433", "http://2130706433-head-svc.ray:8265/"),
        (IN_HOST, "Train", "http://train-head-svc.ray:8265/"),
        ("{cluster}.{cluster}-ns.svc", "a", "http://a.a-ns.svc/"),
        (IN_PATH, "Train-X", "https://gateway.example.com/ray/Train-X/"),
        (IN_PATH, "48213", "https://gateway.example.com/ray/48213/"),
        # As a template gives it in a DAG with ``render_template_as_native_obj``.
        (IN_PATH, 48213, "https://gateway.example.com/ray/48213/"),
        ("http://[::1]:8000/{cluster}", "a", "http://[::1]:8000/a/"),
    ],
)
def test_a_label_fills_the_host_name_or_the_path(host: str, cluster: object, base_url: str) -> None:
    config = config_of(host, cluster)
    assert (config.base_url, config.cluster) == (base_url, str(cluster))


@pytest.mark.parametrize(
    ("clusters", "cluster", "base_url"),
    [
        ("*.emr.internal", "ip-10-0-0-1.emr.internal", "http://ip-10-0-0-1.emr.internal:8265/"),
        ("*.emr.internal", "A.EMR.internal", "http://a.emr.internal:8265/"),
        ("head.*.example", "head.team.example", "http://head.team.example:8265/"),
        ("head-1", "head-1", "http://head-1:8265/"),
        ("other, head-1", "head-1", "http://head-1:8265/"),
        ("10.20.0.0/16", "10.20.255.7", "http://10.20.255.7:8265/"),
        ("fd00::/8", "fd00::7", "http://[fd00::7]:8265/"),
        ("fd00::/8", "[FD00:0::7]", "http://[fd00::7]:8265/"),
        ("10.20.1.5", "10.20.1.5", "http://10.20.1.5:8265/"),
        ("10.20.1.5:9000", "10.20.1.5:9000", "http://10.20.1.5:9000/"),
        ("*.x:9000-9010", "a.x:9010", "http://a.x:9010/"),
        ("10.20.0.0/16:9000", "10.20.1.5:9000", "http://10.20.1.5:9000/"),
        ("[fd00::/8]:9000", "[fd00::7]:9000", "http://[fd00::7]:9000/"),
        ("127.0.0.1:8265-8300", "127.0.0.1:8266", "http://127.0.0.1:8266/"),
        ("localhost", "localhost", "http://localhost:8265/"),
        ("::1", "::1", "http://[::1]:8265/"),
        ("127.0.0.1/32", "127.0.0.1", "http://127.0.0.1:8265/"),
    ],
)
def test_a_whole_host_must_match_an_entry(clusters: str, cluster: str, base_url: str) -> None:
    config = config_of(WHOLE_HOST, cluster, clusters=clusters)
    assert config.base_url == base_url
    assert config_of(WHOLE_HOST, config.cluster, clusters=clusters) == config
    assert config_of(WHOLE_HOST, cluster, clusters=clusters.split(",")).base_url == base_url


NO_LABELS = (
    *("a/b", "a@b", "a.b", "a:1", "a#b", "a?b", "a\\b", "a%2fb", "a b", " a", "a\n", "a\0b", "", "-a", "a-", "_a", "ä"),
    *("a" * 64, "{{ params.cluster }}", "{cluster}", "..", "a\u3002b", "\uff41", "\u017f", "\u212a", "\ud800", "None"),
    *(None, True, 1.5, ["a"], {"a": 1}, b"a", float("nan")),
)


@pytest.mark.parametrize("cluster", NO_LABELS, ids=ascii)
@pytest.mark.parametrize("host", [IN_HOST, IN_PATH])
def test_what_is_no_label_is_refused(host: str, cluster: object) -> None:
    refusal_of(host, cluster)


@pytest.mark.parametrize(
    ("host", "cluster", "words"),
    [
        (IN_HOST, "", "its template or XCom has no value"),
        (IN_HOST, "None", "its template or XCom has no value"),
        (IN_HOST, None, "name the cluster"),
        (IN_HOST, "a" * 60, "1 to 63 letters, digits and hyphens"),
        (f"{{cluster}}.{'x' * 63}.{'x' * 63}.{'x' * 63}", "a" * 63, "up to 253 characters"),
        ("http://{cluster}.ray.svc", "2130706433", "the label 2130706433 is a number"),
        ("http://{cluster}", "0x7f000001", "0x7f000001 is a number"),
        ("http://ray.{cluster}", "0x7F", "the label 0x7f is a number"),
        ("http://{cluster}.0.0.1", "127", "the label 127 is a number"),
        ("http://{cluster}.localhost", "a", "a.localhost is this machine"),
        ("http://local{cluster}", "host", "localhost is this machine"),
        ("http://agent", "a", "has no {cluster} in it"),
    ],
)
def test_the_error_says_what_is_wrong(host: str, cluster: object, words: str) -> None:
    assert words in refusal_of(host, cluster)


@pytest.mark.parametrize(
    ("clusters", "cluster"),
    [
        (None, "anything"),
        ("*.emr.internal", "emr.internal"),
        ("*.emr.internal", "a.b.emr.internal"),
        ("*.emr.internal", "a.emr.internal.evil.example"),
        ("*.emr.internal", "a.emr.internal."),
        ("*.emr.internal", "a.emr.internal:8265"),
        ("*.emr.internal", "a.emr.internal/x"),
        ("*.emr.internal", "a.emr.internal@evil.example"),
        ("*.emr.internal", "*.emr.internal"),
        ("*.emr.internal", "1.emr.internal"),
        ("10.20.0.0/16", "10.20.evil.example"),
        ("10.20.0.0/16", "10.21.0.1"),
        ("10.20.0.0/16", "10.20.1"),
        ("10.20.0.0/16", "10.20.0.010"),
        ("10.20.0.0/16", "10.20.0.1:8265"),
        ("10.20.0.0/16", "::ffff:10.20.0.1"),
        ("10.20.0.0/16", "[::ffff:10.20.0.1]"),
        ("10.20.0.1:9000", "10.20.0.1"),
        ("10.20.0.1:9000", "10.20.0.1:9001"),
        ("10.20.0.1:9000-9001", "10.20.0.1:9000-9001"),
        ("10.20.0.1:9000", "10.20.0.1:09000"),
        ("10.20.0.1:9000", "10.20.0.1:"),
        ("10.20.0.1:9000", "10.20.0.1:٩٠٠٠"),
        ("0.0.0.0/0", "127.0.0.1"),
        ("0.0.0.0/0", "127.1.2.3"),
        ("0.0.0.0/0", "0.0.0.0"),
        ("0.0.0.0/0", "169.254.169.254"),
        ("0.0.0.0/0", "2130706433"),
        ("0.0.0.0/0", "0x7f.1"),
        ("0.0.0.0/0", "0177.0.0.1"),
        ("0.0.0.0/0", "::1"),
        ("::/0", "::1"),
        ("::/0", "::"),
        ("::/0", "fe80::1"),
        ("::/0", "fd00::1%eth0"),
        ("::/0", "::ffff:127.0.0.1"),
        ("::/0", "::ffff:7f00:1"),
        ("*.localhost", "a.localhost"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "127.0.0.2"),
        ("localhost", "127.0.0.1"),
        ("head", "localhost"),
    ],
)
def test_a_whole_host_that_matches_no_entry_is_refused(clusters: str | None, cluster: str) -> None:
    refusal_of(WHOLE_HOST, cluster, clusters=clusters)


def test_the_error_names_the_field_and_what_must_be_entered_exactly() -> None:
    assert "matches no entry of the connection's Clusters (clusters)." in refusal_of(WHOLE_HOST, "a.b")
    words = "matches no entry of the connection's Clusters (clusters), and this one must be entered exactly."
    assert words in refusal_of(WHOLE_HOST, "169.254.169.254", clusters="169.254.0.0/15")


def test_entries_also_limit_a_label() -> None:
    assert config_of(IN_HOST, "Prod", clusters="dev, prod").cluster == "Prod"
    assert "matches no entry" in refusal_of(IN_HOST, "other", clusters="dev, prod")


@pytest.mark.parametrize(
    "clusters",
    [
        *("*", "a.*", "*.*", "ray-*.example", "a..b", "10.20.0.0/33", "10.20.0.1/16", "10.20", "127.0.0.0/8"),
        *(
            "169.254.0.0/16",
            "fe80::/10",
            "a:0",
            "a:70000",
            "a:20-10",
            "a:x",
            "a b",
            "http://a",
            "a/b",
            "::ffff:1.2.3.4",
        ),
        *(7, {"a": 1}, [7]),
    ],
    ids=ascii,
)
def test_an_entry_that_is_wrong_is_told(clusters: object) -> None:
    with pytest.raises(RayAgentConfigError, match=r"Clusters \(clusters\)"):
        config_of(WHOLE_HOST, "a", clusters=clusters)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("http://{namespace}.example.com", "only {cluster} is filled in"),
        ("http://example.com/{cluster", "only {cluster} is filled in"),
        ("http://{cluster}/x/{cluster}", "as host and in the path"),
        ("http://example.com:{cluster}", "is not a valid URL"),
        ("{cluster}://example.com", "http or https"),
        ("http://{cluster}@example.com", "user name"),
        ("http://example.com?x={cluster}", "without '?' and '#'"),
    ],
)
def test_the_placeholder_stands_in_the_host_or_the_path_only(host: str, words: str) -> None:
    with pytest.raises(RayAgentConfigError) as caught:
        config_of(host, "a", clusters="a")
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("host", "cluster", "path"),
    [
        (IN_HOST, "train-x7", "/run/secrets/ray/train-x7/auth_token"),
        (WHOLE_HOST, "10.20.0.1:9000", "/run/secrets/ray/10.20.0.1/auth_token"),
    ],
)
def test_each_cluster_may_have_a_token_file(host: str, cluster: str, path: str) -> None:
    extra = {**SERVICE, "token_file": "/run/secrets/ray/{cluster}/auth_token", "clusters": "train-x7, 10.20.0.1:9000"}
    token_file = read_config(host=host, cluster=cluster, extra=extra).token_file
    assert token_file is not None
    assert token_file.path == path


def test_a_token_file_has_the_placeholder_only_if_the_url_has() -> None:
    with pytest.raises(RayAgentConfigError, match=r"Token file \(token_file\) has \{cluster\} in it"):
        read_config(host="agent", extra={"token_file": "/run/secrets/ray/{cluster}"})


@pytest.mark.parametrize(
    ("cluster", "url"),
    [
        ("a.example", "https://a.example.logs.example.com:3000/?c=a.example&h=a.example%3A8265&j=j1"),
        (
            "[fd00::7]:9000",
            "https://[fd00::7].logs.example.com:3000/?c=%5Bfd00%3A%3A7%5D%3A9000&h=%5Bfd00%3A%3A7%5D%3A9000&j=j1",
        ),
    ],
)
def test_links_have_the_cluster_and_the_host_of_the_service(cluster: str, url: str) -> None:
    template = "https://{cluster}.logs.example.com:3000/?c={cluster}&h={host}&j={job_id}"
    config = config_of(WHOLE_HOST, cluster, logs_url=template, clusters="*.example, [fd00::7]:9000")
    assert config.page_urls("j1")["logs_url"] == url
    assert list(config.page_problems) == []


def test_configurations_of_two_clusters_differ() -> None:
    # ``lease`` in ``transport/pool.py`` shares the client of an equal configuration.
    assert config_of(IN_PATH, "a") != config_of(IN_PATH, "b")
