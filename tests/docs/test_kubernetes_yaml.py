"""Every YAML block of the documentation can be read, and what it says to Kubernetes is valid there.

Kubernetes' own schemas are in the package ``kubernetes-validate``. They refuse keys that they do not know. Custom
resources have none there: of a RayCluster, only the pods are checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.connection.permitted_files import API_SERVER_FOLDERS, FOLDERS, TLS_FOLDERS, TOKEN_FOLDERS
from airflow_provider_rayagent.get_provider_info import get_provider_info
from airflow_provider_rayagent.services.ray_service import RAY
from tests.docs.conftest import PAGES, ROOT, code_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = [*sorted(PAGES.glob("*.md")), ROOT / "README.md"]
VERSION = kubernetes_validate.latest_version()
GROUPS = {"apps", "batch", "networking.k8s.io", "rbac.authorization.k8s.io"}
"""Those of Kubernetes itself that have a name; it has the schemas of all their objects."""
WORKERS = (("workers",), ("workers", "celery"), ("workers", "kubernetes"))
COMPONENTS = (*WORKERS, ("scheduler",), ("triggerer",), ("apiServer",), ("dagProcessor",))
"""Where the values of Airflow's chart have volumes and variables of a pod."""
IMAGE = {"name": "any", "image": "any"}


def documents(text: str) -> list[Any]:
    """Return the documents in the YAML blocks of a page."""
    return [document for block in code_blocks(text, "yaml") for document in yaml.safe_load_all(block)]


def check_all(text: str) -> None:
    """Fail if a document of a page is not valid."""
    for document in documents(text):
        check(document)


def check(document: Any) -> None:
    """Fail if what a document says to Kubernetes is not valid.

    :raises kubernetes_validate.ValidationError: if a key is unknown or missing, or has a value of the wrong type.
    """
    if not isinstance(document, dict):
        return
    group, slash, _ = str(document.get("apiVersion", "")).rpartition("/")
    if "kind" in document and (group in GROUPS or (document["apiVersion"] == "v1" and not slash)):
        kubernetes_validate.validate(document, VERSION, strict=True)
    elif "kind" in document:
        for template in pod_templates(document):
            check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, **template})
    else:
        for pod in pods_of_values(document):
            check(pod)


def pod_templates(part: Any) -> Iterator[dict[str, Any]]:
    """Yield the pod templates in a custom resource, at any depth."""
    if isinstance(part, dict):
        if "containers" in part.get("spec", ()):
            yield part
        for each in part.values():
            yield from pod_templates(each)
    elif isinstance(part, list):
        for each in part:
            yield from pod_templates(each)


def pods_of_values(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pods of the components, as Airflow's chart assembles them from its values."""
    secrets = [
        {
            "name": each["envName"],
            "valueFrom": {"secretKeyRef": {"name": each["secretName"], "key": each["secretKey"]}},
        }
        for each in values.get("secret", ())
    ]
    for path in COMPONENTS:
        component = values
        for key in path:
            component = component.get(key) or {}
        container = {
            **IMAGE,
            "env": [*secrets, *values.get("env", ()), *component.get("env", ())],
            "volumeMounts": [*values.get("volumeMounts", ()), *component.get("extraVolumeMounts", ())],
        }
        volumes = [*values.get("volumes", ()), *component.get("extraVolumes", ())]
        assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in volumes}
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "any"},
            "spec": {"containers": [container], "volumes": volumes},
        }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_block_is_valid(path: Path) -> None:
    check_all(path.read_text(encoding="utf-8"))


def test_every_block_is_found() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in FILES}
    begun = {name: text.count("```yaml") for name, text in texts.items() if "```yaml" in text}
    assert {"install.md", "kubernetes.md", "ray-clusters.md"} <= set(begun)
    assert {name: len(code_blocks(texts[name], "yaml")) for name in begun} == begun


# The checker itself.

TEXT = (PAGES / "kubernetes.md").read_text(encoding="utf-8")
MISSPELLED = [
    ("stringData:", "stringDatas:"),
    ("type: kubernetes.io/service-account-token", "types: kubernetes.io/service-account-token"),
    ("automountServiceAccountToken:", "automountServiceAcountToken:"),
    ("resourceNames:", "resourceName:"),
    ("roleRef:", "roleref:"),
    ("subjects:", "subject:"),
    ("policyTypes:", "policyType:"),
    ("namespaceSelector:", "namespaceSelectors:"),
    ("operator: In", "operators: In"),
    ("protocol: TCP", "protocols: TCP"),
    # In the values of the chart, and in pods of the RayCluster.
    ("readOnly:", "readonly:"),
    ("mountPath:", "mountpath:"),
    ("projected:", "project:"),
    ("items:", "item:"),
    ("serviceAccountName:", "serviceAcountName:"),
    ("image:", "images:"),
]


@pytest.mark.parametrize(("right", "wrong"), MISSPELLED, ids=[right for right, _ in MISSPELLED])
def test_a_misspelled_key_is_noticed(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(kubernetes_validate.ValidationError):
        check_all(TEXT.replace(right, wrong))


def test_a_mount_without_its_volume_is_noticed() -> None:
    [values] = (document for document in documents(TEXT) if "kind" not in document)
    values["triggerer"] = {"extraVolumeMounts": values["triggerer"]["extraVolumeMounts"]}
    with pytest.raises(AssertionError):
        check(values)


def test_text_that_is_not_yaml_is_noticed() -> None:
    with pytest.raises(yaml.YAMLError):
        documents(TEXT.replace("kind: NetworkPolicy", "kind: [NetworkPolicy"))


# The parts of the page belong together.

VALUES, *_ = (document for document in documents(TEXT) if "kind" not in document)


def the(kind: str, name: str) -> Any:
    """Return the object of a kind and a name."""
    [found] = (each for each in documents(TEXT) if each.get("kind") == kind and each["metadata"]["name"] == name)
    return found


def test_the_connection_uses_the_mounted_files_of_permitted_folders() -> None:
    [reference] = VALUES["secret"]
    connection = json.loads(the("Secret", reference["secretName"])["stringData"][reference["secretKey"]])
    config = read_config(host=connection["host"], extra=connection["extra"])
    [mount] = VALUES["triggerer"]["extraVolumeMounts"]
    folder = mount["mountPath"]
    [volume] = VALUES["triggerer"]["extraVolumes"]
    sources = [each for source in volume["projected"]["sources"] for each in source.values()]
    files = {item["path"] for each in sources for item in each["items"]}
    cluster = the("RayCluster", "my-cluster")["metadata"]

    assert config.service is RAY
    assert config.base_url == f"http://{cluster['name']}-head-svc.{cluster['namespace']}:8265/"
    assert files == {"token", "ca.crt"}
    assert connection["extra"]["token_file"] == f"{folder}/token"
    assert f'"ca_bundle": "{folder}/ca.crt"' in TEXT
    assert folder in FOLDERS[TOKEN_FOLDERS].split(", ")
    assert folder in FOLDERS[TLS_FOLDERS].split(", ")
    assert VALUES["config"]["rayagent"] == {API_SERVER_FOLDERS: folder}
    assert API_SERVER_FOLDERS in get_provider_info()["config"]["rayagent"]["options"]


def test_the_account_of_the_token_and_that_of_the_cluster_may_use_the_cluster() -> None:
    cluster, token = the("RayCluster", "my-cluster"), the("Secret", "ray-token")
    account = token["metadata"]["annotations"]["kubernetes.io/service-account.name"]
    role, binding = the("Role", "use-my-cluster"), the("RoleBinding", "use-my-cluster")
    pods = [template["spec"]["serviceAccountName"] for template in pod_templates(cluster)]

    assert pods == [cluster["metadata"]["name"]] * 2
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {(each["name"], each["namespace"]) for each in binding["subjects"]} == {
        (account, token["metadata"]["namespace"]),
        (pods[0], cluster["metadata"]["namespace"]),
    }
    for name, namespace in ((account, token["metadata"]["namespace"]), (pods[0], cluster["metadata"]["namespace"])):
        assert the("ServiceAccount", name)["metadata"]["namespace"] == namespace
    [rule] = role["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == ([cluster["metadata"]["name"]], ["ray:write"])


def test_the_policy_selects_the_head_of_the_cluster_and_admits_who_has_a_mount() -> None:
    cluster, policy = the("RayCluster", "my-cluster")["metadata"], the("NetworkPolicy", "ray-head")
    labels = {"ray.io/cluster": cluster["name"], "ray.io/node-type": "head"}
    within, others = policy["spec"]["ingress"]
    [airflow, *_] = others["from"]

    assert policy["metadata"]["namespace"] == cluster["namespace"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert "ports" not in within
    assert airflow["podSelector"]["matchExpressions"][0]["values"] == ["worker", "triggerer", "api-server"]
    assert {"workers", "triggerer", "apiServer"} <= set(VALUES)
    assert [port["port"] for port in others["ports"]] == [8265]


def test_the_mapping_has_the_form_that_the_command_takes() -> None:
    mapping = yaml.safe_load((PAGES / "statsd-mapping.yml").read_text(encoding="utf-8"))
    assert all("match" in each and "name" in each for each in mapping["mappings"])
    assert 'yq \'{"statsd": {"extraMappings": .mappings}}\' statsd-mapping.yml' in TEXT
