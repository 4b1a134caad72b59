"""Which files that a connection names are opened: only regular ones in the folders that the deployment permits."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection import permitted_files
from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.connection.permitted_files import PermittedFolders, permitted_path
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from tests.scripted import Job, ScriptedAgent
from tests.unit.token_files import MountedToken
from tests.unit.transports import GET_JOB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.transports import Transport

TOKEN = "a-s3cret-token"
VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "permitted"
    path.mkdir()
    return path


def permit(*folders: Path) -> PermittedFolders:
    return PermittedFolders(tuple(map(str, folders)), "[rayagent] token_folders")


def status_with(transport: Transport, token_file: Path, folders: PermittedFolders) -> str:
    with ScriptedAgent(Job(), token=TOKEN) as server:
        config = read_config(host=server.url, extra={"token_file": str(token_file)}, token_folders=folders)
        try:
            return str(transport.send(config, GET_JOB)["status"])
        except RayAgentConfigError:
            assert server.requests == []
            raise


def test_a_mounted_token_is_read_after_each_change(folder: Path, transport: Transport) -> None:
    mounted = MountedToken(folder, "old")
    mounted.replace(TOKEN)
    assert status_with(transport, mounted.path, permit(folder)) == "SUCCEEDED"


def test_a_permitted_folder_may_be_a_link_and_has_folders(tmp_path: Path, folder: Path, transport: Transport) -> None:
    (folder / "ray").mkdir()
    (folder / "ray" / "token").write_text(TOKEN)
    link = tmp_path / "run"
    link.symlink_to(folder)
    assert status_with(transport, link / "ray" / "token", permit(tmp_path / "missing", link)) == "SUCCEEDED"
    assert status_with(transport, folder / "ray" / "token", permit(link)) == "SUCCEEDED"


def a_file_outside(folder: Path) -> Path:
    path = folder.parent / "passwords"
    path.write_text(TOKEN)
    return path


def a_file_beside_with_the_name_of_the_folder(folder: Path) -> Path:
    path = folder.with_name("permitted-not")
    path.write_text(TOKEN)
    return path


def a_link_out_of_the_folder(folder: Path) -> Path:
    path = folder / "token"
    path.symlink_to(a_file_outside(folder))
    return path


def a_folder_that_links_out_of_the_folder(folder: Path) -> Path:
    a_file_outside(folder)
    (folder / "up").symlink_to(folder.parent)
    return folder / "up" / "passwords"


def a_link_out_of_the_folder_behind_a_link_to_itself(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / ".." / a_link_out_of_the_folder(folder).name


def a_path_that_goes_up(folder: Path) -> Path:
    return folder / ".." / a_file_outside(folder).name


def a_missing_file_outside(folder: Path) -> Path:
    return folder.parent / "missing"


FORBIDDEN = (
    a_file_outside,
    a_file_beside_with_the_name_of_the_folder,
    a_link_out_of_the_folder,
    a_folder_that_links_out_of_the_folder,
    a_link_out_of_the_folder_behind_a_link_to_itself,
    a_path_that_goes_up,
    a_missing_file_outside,
)


@pytest.mark.parametrize("make", FORBIDDEN)
def test_no_other_file_is_read(make: Callable[[Path], Path], folder: Path, transport: Transport) -> None:
    path = make(folder)
    with pytest.raises(RayAgentConfigError) as error:
        status_with(transport, path, permit(folder))
    assert error.value.detail == (
        f"The connection's Token file (token_file) may not be opened here: {path}. With Airflow's option "
        f"[rayagent] token_folders, it must be in one of {folder}; links must not lead out of it."
    )


def test_a_path_that_no_file_can_have_is_not_permitted(folder: Path, transport: Transport) -> None:
    with pytest.raises(RayAgentConfigError, match="may not be opened here"):
        status_with(transport, folder / "to\0ken", permit(folder))


def test_a_link_that_may_not_be_read_is_not_permitted(
    folder: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def readlink(path: str) -> str:
        raise PermissionError(errno.EACCES, "denied", path)  # As of /proc/1/root, unless the tests run as root.

    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.setattr(os, "readlink", readlink)
    with pytest.raises(RayAgentConfigError, match="may not be opened here"):
        status_with(transport, link / "token", permit(folder))


def test_without_folders_no_file_is_read(folder: Path, transport: Transport) -> None:
    with pytest.raises(RayAgentConfigError, match="must be in a folder named there, and none is"):
        status_with(transport, a_file_outside(folder), permit())


def test_a_relative_folder_is_not_taken_for_one_of_the_process(
    folder: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "token").write_text(TOKEN)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(RayAgentConfigError) as error:
        status_with(transport, folder / "token", permit(folder, Path(folder.name)))
    assert error.value.detail == "Airflow's option [rayagent] token_folders must name absolute paths, not permitted."


def test_a_folder_may_be_a_file(folder: Path, transport: Transport) -> None:
    path = folder / "ray"
    path.write_text(TOKEN)
    assert status_with(transport, path, permit(path)) == "SUCCEEDED"


IDENTITY = (
    r"may not be opened here: {}. It belongs to the identity of this pod or machine, which is used for no connection. "
    "Mount a file for the service into another folder, such as a projected token."
)
TOKEN_OF_THE_POD = "/var/run/secrets/kubernetes.io/serviceaccount/token"
IDENTITIES = (
    TOKEN_OF_THE_POD,
    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
    "/var/run/secrets/openshift/serviceaccount/token",
    "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
    "/var/run/secrets/azure/tokens/azure-identity-token",
    "/var/run/secrets/azure/wi/token/azure-identity-token",
    "/var/run/secrets/tokens/gcp-ksa/token",
    "/var/run/secrets/tokens/istio-token",
    "/var/run/secrets/workload-spiffe-credentials/private_key.pem",
    "/var/run/secrets/workload-spiffe-uds/socket",
    "/var/run/service-account/token",
)


@pytest.mark.parametrize("above", ["/", "/var/run/secrets", "/run", "the folder itself", "the file itself"])
@pytest.mark.parametrize("path", [*IDENTITIES, *(path.removeprefix("/var") for path in IDENTITIES)])
def test_where_the_identity_of_a_pod_is_nothing_is_opened(path: str, above: str) -> None:
    above = {"the folder itself": f"{Path(path).parent}/", "the file itself": path}.get(above, above)
    with pytest.raises(RayAgentConfigError) as error:
        permitted_path(permit(Path(above)), "token_file", path)
    assert IDENTITY.format(path) in error.value.detail


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/root{}",
        "/proc/self/cwd/../../../../../../../../../..{}",
        "//{}",
        "{}/",
        "/nowhere/..{}",
        "/tmp/..{}",
        "/var/run/../run/.{}/../token",
    ],
)
def test_no_spelling_of_its_path_opens_the_identity_of_a_pod(path: str) -> None:
    path = path.format(TOKEN_OF_THE_POD if not path.startswith("/var") else TOKEN_OF_THE_POD.removeprefix("/var/run"))
    with pytest.raises(RayAgentConfigError, match="identity of this pod"):
        permitted_path(permit(Path("/")), "token_file", path)


def test_no_link_leads_to_the_identity_of_a_pod(folder: Path) -> None:
    (folder / "token").symlink_to(TOKEN_OF_THE_POD)
    (folder / "up").symlink_to("/var/run/secrets")
    for path in (folder / "token", folder / "up" / "kubernetes.io" / "serviceaccount" / "token"):
        for folders in (permit(folder), permit(Path("/")), permit(), None):
            with pytest.raises(RayAgentConfigError, match="identity of this pod"):
                permitted_path(folders, "token_file", str(path))


def test_the_folder_of_an_identity_may_be_a_link(
    folder: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = MountedToken(folder, TOKEN)
    link = folder.parent / "identity"
    link.symlink_to(folder)
    assert status_with(transport, mounted.path, permit(folder)) == "SUCCEEDED"
    monkeypatch.setattr(permitted_files, "_IDENTITY_FOLDERS", (str(link),))
    with pytest.raises(RayAgentConfigError, match="identity of this pod"):
        status_with(transport, mounted.path, permit(folder))


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_file_that_the_environment_names_as_an_identity_is_not_sent(
    variable: str, folder: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = MountedToken(folder, TOKEN)
    other = folder / "other"
    other.write_text(TOKEN)
    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.setenv(variable, str(link / "token"))
    for change in range(2):
        for path in (mounted.path, link / "token", folder / "..data" / "token"):
            with pytest.raises(RayAgentConfigError) as error:
                status_with(transport, path, permit(Path("/")))
            assert IDENTITY.format(path) in error.value.detail
        mounted.replace(f"{TOKEN}{change}")
    assert status_with(transport, other, permit(folder)) == "SUCCEEDED"
    mounted.replace(TOKEN)
    monkeypatch.setenv(variable, "")
    assert status_with(transport, mounted.path, permit(folder)) == "SUCCEEDED"


@pytest.mark.parametrize("permitted", [True, False])
def test_a_pipe_is_not_waited_for(permitted: bool, folder: Path, transport: Transport) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    with pytest.raises(RayAgentConfigError, match="not a regular file" if permitted else "may not be opened"):
        status_with(transport, path, permit(folder if permitted else Path("/nowhere")))


@pytest.mark.parametrize("field", ["ca_bundle", "client_cert", "client_key"])
def test_the_files_for_tls_must_be_in_their_folders(field: str, folder: Path, transport: Transport) -> None:
    extra: dict[str, Any] = {"client_cert": str(folder / "cert")} if field == "client_key" else {}
    extra[field] = str(a_link_out_of_the_folder(folder))
    with ScriptedAgent(Job()) as server:
        host = server.url.replace("http:", "https:")
        with pytest.raises(RayAgentConfigError, match=rf"\({field}\) may not be opened here: {folder}"):
            transport.send(read_config(host=host, extra=extra, tls_folders=permit(folder)), GET_JOB)
        assert server.requests == []


@pytest.mark.parametrize("anywhere", [True, False])
@pytest.mark.parametrize("field", ["ca_bundle", "client_cert", "client_key"])
def test_the_files_for_tls_are_not_those_of_an_identity(
    field: str, anywhere: bool, folder: Path, transport: Transport
) -> None:
    extra: dict[str, Any] = {"client_cert": str(folder / "cert")} if field == "client_key" else {}
    extra[field] = str(folder / "link")
    (folder / "link").symlink_to(Path(TOKEN_OF_THE_POD).parent)
    tls_folders = None if anywhere else permit(Path("/"))
    with pytest.raises(RayAgentConfigError, match=rf"\({field}\) may not be opened here: .* identity of this pod"):
        transport.send(read_config(host="https://127.0.0.1:1", extra=extra, tls_folders=tls_folders), GET_JOB)


@pytest.mark.parametrize("anywhere", [True, False])
def test_a_pipe_for_tls_is_not_waited_for(anywhere: bool, folder: Path, transport: Transport) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    tls_folders = None if anywhere else permit(folder)
    config = read_config(host="https://127.0.0.1:1", extra={"ca_bundle": str(path)}, tls_folders=tls_folders)
    with pytest.raises(RayAgentConfigError, match=r"CA bundle \(ca_bundle\) is not a file: "):
        transport.send(config, GET_JOB)
