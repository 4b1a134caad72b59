"""Methods of the hooks that submit jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import working_dir_error
from airflow_provider_rayagent.hooks.service_hook import ServiceHook
from airflow_provider_rayagent.services.call import FileContent
from airflow_provider_rayagent.services.validation import shown, validate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_rayagent.working_dir.packing import Package


UPLOADED = "Uploaded %s to the cluster (%d files, %d bytes): %s"
PRESENT = "The cluster already has %s (%d files, %d bytes): %s"
PROGRESS = "Uploading: %d of %d bytes sent."
PROGRESS_SECONDS = 5.0


class _Progress:
    """Logs the progress of a long upload every few seconds."""

    def __init__(self, log: Any, package: Package) -> None:
        self._log = log
        self._size = package.size
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, sent: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._log.info(PROGRESS, sent, self._size)


def _packed(
    path: str | Path, root: str | Path | None, excludes: Sequence[str] | None
) -> AbstractContextManager[Package]:
    from airflow_provider_rayagent.working_dir.packing import pack

    return pack(_path(path, "path").resolve(), root=None if root is None else _path(root, "root"), excludes=excludes)


def _path(value: str | Path, name: str) -> Path:
    # An empty text would be the current folder.
    return Path(value if isinstance(value, os.PathLike) else validate_text(value, name))


async def _upload(hook: ServiceHook, pack: Callable[[], AbstractContextManager[Package]], name: object) -> str:
    # Not the package's own ``with``: packing takes long, so that asyncio code enters its context in a thread.
    with ExitStack() as stack:
        package = await hook._compute(lambda: stack.enter_context(pack()))
        # Retries read the same temporary file, so that each sends the bytes of which the package has its name.
        content = FileContent(package.file, package.size, _Progress(hook.log, package))
        is_new = await hook._send(lambda service: service.upload_package(package.name, content))
        hook.log.info(UPLOADED if is_new else PRESENT, name, package.files, package.size, package.uri)
        return package.uri


class SubmissionMethods(ServiceHook):
    """Methods of :class:`RayAgentAsyncHook` that submit jobs."""

    async def submit_job(
        self,
        entrypoint: str,
        *,
        job_id: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        entrypoint_num_cpus: float | None = None,
        entrypoint_num_gpus: float | None = None,
        entrypoint_memory: int | None = None,
        entrypoint_resources: Mapping[str, float] | None = None,
        entrypoint_label_selector: Mapping[str, str] | None = None,
        wait_for_scale_up: bool = False,
    ) -> str:
        """Submit a job to Ray's dashboard or to a local agent.

        Ray starts at most one job with an id, so the request is retried if its response is lost.

        :param entrypoint: shell command that runs on one node of the cluster.
        :param job_id: id for the job (Ray's submission id), 1 to 100 characters of ``A-Z a-z 0-9 _ -``; default: a
            random one.
        :param runtime_env: Ray's runtime environment: JSON, with ``working_dir`` and ``py_modules`` as remote URIs; see
            :meth:`upload_working_dir`.
        :param metadata: strings that are shown with the job.
        :param entrypoint_num_cpus: CPUs to reserve for the command itself, in addition to those of its Ray tasks.
        :param entrypoint_num_gpus: GPUs to reserve for it.
        :param entrypoint_memory: bytes of memory to reserve for it.
        :param entrypoint_resources: custom resources to reserve for it.
        :param entrypoint_label_selector: labels that its node must have, such as
            ``{"ray.io/accelerator-type": "H100"}``; Ray 2.54 or newer.
        :param wait_for_scale_up: submit a job whose command fits on no present node; the cluster may add one.
        :return: the job's id.
        :raises RayAgentInputError: if an argument is invalid.
        :raises RayAgentHTTPError: with ``status_code`` 409 if there is a job with this id. It may be the one of this
            call, if its first response was lost.
        :raises RayAgentResourcesError: if the command fits on no node.
        :raises RayAgentUnsupportedError: if the connection is to an agent, which runs plugins only, or if Ray is too
            old for an argument.
        """
        submitted: str = await self._send(
            lambda service: service.submit_job(
                entrypoint,
                job_id=job_id,
                runtime_env=runtime_env,
                metadata=metadata,
                entrypoint_num_cpus=entrypoint_num_cpus,
                entrypoint_num_gpus=entrypoint_num_gpus,
                entrypoint_memory=entrypoint_memory,
                entrypoint_resources=entrypoint_resources,
                entrypoint_label_selector=entrypoint_label_selector,
                wait_for_scale_up=wait_for_scale_up,
            )
        )
        return submitted

    async def upload_working_dir(
        self, path: str | Path, *, root: str | Path | None = None, excludes: Sequence[str] | None = None
    ) -> str:
        """Upload a folder or a zip file to the cluster, unless it has it already.

        The URI is the ``working_dir`` of a runtime environment. Use it within ten minutes: Ray may delete a package
        that no job uses.

        :param path: the folder. Files that its ``.gitignore`` and ``.rayignore`` name are left out, and those that a
            ``.gitignore`` above it in its repository or in ``root`` names.
        :param root: folder that no symbolic link may leave; ``None``: links may point anywhere.
        :param excludes: further patterns of files to leave out, as in a ``.gitignore`` in the folder, like ``excludes``
            of Ray's runtime environment. A zip file takes none.
        :return: the URI.
        :raises RayAgentInputError: if it cannot be packed, or is larger than 100 MiB.
        :raises RayAgentUnsupportedError: if the connection is to an agent, which runs plugins only.
        """
        return await _upload(self, lambda: _packed(path, root, excludes), path)

    async def upload_files(self, files: Mapping[str, bytes], *, name: str = "files") -> str:
        """Upload files that are in memory to the cluster, unless it has them already.

        The URI is one of the ``py_modules``, or the ``working_dir``, of a runtime environment. Use it within ten
        minutes: Ray may delete a package that no job uses.

        :param files: the content by relative path.
        :param name: description of the files, for the task log.
        :return: the URI.
        :raises RayAgentInputError: if ``files`` is no such mapping.
        :raises RayAgentUnsupportedError: if the connection is to an agent, which runs plugins only.
        """
        from airflow_provider_rayagent.working_dir.packing import pack_files

        if not isinstance(files, Mapping):
            raise working_dir_error(f"files must be a mapping of paths to bytes, not {shown(files)}.")
        for path, content in files.items():
            validate_text(path, "path of a file")
            if not isinstance(content, bytes):
                raise working_dir_error(f"The content of {shown(path)} must be bytes, not {type(content).__name__}.")
        return await _upload(self, lambda: pack_files(files), name)
