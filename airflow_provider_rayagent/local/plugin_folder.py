"""The plugin folder: each subfolder contains a manifest, ``plugin.yaml``, which defines the commands of its actions.

The folder is read again for each request, so plugins can be added or changed while the agent runs.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_rayagent.local.errors import LocalAgentError, RayResponseError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "plugin.yaml"
# With a maximum length, pydantic inspects the text and rejects lone surrogates.
_Text = Annotated[str, Field(max_length=2_000)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=60)]


class PluginError(LocalAgentError):
    """The plugin folder, or a manifest in it, cannot be used; the message names the file and the field."""


class Action(BaseModel):
    """An action of a plugin.

    :param command: shell command, run in the plugin's folder.
    :param num_cpus: CPUs that Ray reserves for the command.
    :param num_gpus: GPUs that Ray reserves for the command.
    """

    model_config = ConfigDict(extra="forbid")

    # In the entrypoint, a second line would run even if `cd` fails. A NUL cannot be in an argument of a process.
    command: str = Field(min_length=1, pattern=r"^[^\r\n\x00]*\S[^\r\n\x00]*$")
    description: _Text = ""
    num_cpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    num_gpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Manifest(BaseModel):
    """Contents of ``plugin.yaml``."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    version: str = Field(pattern=r"^[A-Za-z0-9._+-]+$", max_length=60)
    description: _Text = ""
    actions: dict[_Name, Action] = Field(min_length=1)


@dataclass(frozen=True)
class Plugin:
    """One release of a plugin.

    :param folder: absolute path of the folder in which its commands run.
    """

    folder: Path
    manifest: Manifest

    @property
    def lookup(self) -> str:
        """``name@version``, which identifies a release in requests."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def action(self, name: str) -> Action:
        """Return one action.

        :raises RayResponseError: 400 if there is no such action.
        """
        try:
            return self.manifest.actions[name]
        except KeyError:
            known = ", ".join(sorted(self.manifest.actions))
            raise RayResponseError(f"The plugin {self.lookup} has no action {name!r}, only {known}.", 400) from None

    def entrypoint(self, name: str) -> str:
        """Return the shell command that runs an action in the plugin's folder."""
        return f"cd {shlex.quote(str(self.folder))} && {self.action(name).command}"

    def as_row(self) -> dict[str, Any]:
        """Return the release as JSON primitives."""
        manifest = self.manifest
        return {
            "id": self.lookup,
            "plugin": manifest.name,
            "version": manifest.version,
            "description": manifest.description,
            "path": str(self.folder),
            "actions": {name: action.model_dump() for name, action in manifest.actions.items()},
        }


class PluginFolder:
    """A folder of plugins.

    :param path: folder with a subfolder for each plugin; subfolders without a manifest are ignored.
    """

    def __init__(self, path: Path) -> None:
        # Ray runs jobs in another directory, in which a relative path would name another folder.
        self.path = path.absolute()

    def read(self) -> list[Plugin]:
        """Return the plugins that are currently in the folder, sorted by name and version.

        :raises PluginError: if the folder or one of the manifests cannot be used, or if two have the same release.
        """
        try:
            folders = [each for each in self.path.iterdir() if (each / MANIFEST).exists()]
        except OSError as error:
            raise PluginError(f"Cannot read the plugin folder {self.path}: {error.strerror}.") from error
        plugins = sorted((read_plugin(folder) for folder in folders), key=lambda plugin: plugin.lookup)
        # Sorted by what is compared, so equal ones are neighbors.
        for first, second in pairwise(plugins):
            if first.lookup == second.lookup:
                raise PluginError(f"{first.lookup} is in several folders: {first.folder}, {second.folder}.")
        return plugins

    def find(self, lookup: str) -> Plugin:
        """Return a plugin by ``name@version``, or by its name if there is only one version.

        :raises RayResponseError: 404 if there is none, 400 if there are several.
        :raises PluginError: if the folder or a manifest cannot be used.
        """
        plugins = self.read()
        found = [plugin for plugin in plugins if lookup in (plugin.lookup, plugin.manifest.name)]
        if not found:
            known = ", ".join(plugin.lookup for plugin in plugins) or "none"
            raise RayResponseError(f"There is no plugin {lookup!r} in {self.path}. Available: {known}.", 404)
        if len(found) > 1:
            names = ", ".join(plugin.lookup for plugin in found)
            raise RayResponseError(f"There are several versions of {lookup!r}. Specify one: {names}.", 400)
        return found[0]

    def find_by_path(self, path: str) -> Plugin:
        """Return the plugin in any folder on this machine; a relative path is resolved against the plugin folder.

        :raises RayResponseError: 400 if there is no plugin.
        :raises PluginError: if its manifest is malformed.
        """
        folder = self.path / path
        if "\0" in path or not (folder / MANIFEST).exists():
            raise RayResponseError(f"plugin_path: {str(folder)!r} has no {MANIFEST}.", 400)
        return read_plugin(folder.resolve())


def read_plugin(folder: Path) -> Plugin:
    """Return the plugin in a folder.

    :raises PluginError: if its manifest cannot be read or is malformed.
    """
    path = folder / MANIFEST
    try:
        return Plugin(folder, Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the manifest'}: {each['msg']}" for each in error.errors()
        )
        raise PluginError(f"{path}: {problems}.") from error
    except Exception as error:
        # PyYAML does not wrap the errors of its constructors: ValueError, KeyError, RecursionError and others.
        raise PluginError(f"{path}: {type(error).__name__}: {error}") from error
