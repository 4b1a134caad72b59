"""A folder of plugins: each sub-folder has a manifest, ``plugin.yaml``, that says which commands its actions are.

The folder is read anew for every request, so that a plugin can be added or changed while the agent runs.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "plugin.yaml"
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=60)]


class PluginError(LocalAgentError):
    """The folder of plugins, or a manifest in it, can't be used; the message names file and field."""


class Action(BaseModel):
    """What a plugin can be asked to do.

    :param command: shell command; runs in the plugin's folder.
    :param num_cpus: CPUs that Ray keeps for the command.
    :param num_gpus: GPUs that Ray keeps for the command.
    """

    model_config = ConfigDict(extra="forbid")

    command: str = Field(min_length=1, pattern=r"^[^\r\n\x00]*\S[^\r\n\x00]*$")
    description: str = ""
    num_cpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    num_gpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Manifest(BaseModel):
    """What ``plugin.yaml`` holds."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    version: str = Field(pattern=r"^[A-Za-z0-9._+-]+$", max_length=60)
    description: str = ""
    actions: dict[_Name, Action] = Field(min_length=1)


@dataclass(frozen=True)
class Plugin:
    """One release of a plugin.

    :param folder: where its commands run; absolute.
    """

    folder: Path
    manifest: Manifest

    @property
    def lookup(self) -> str:
        """``name@version``, by which a release is asked for."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def action(self, name: str) -> Action:
        """Return one action.

        :raises RayAnswerError: 400 if there is no such action.
        """
        try:
            return self.manifest.actions[name]
        except KeyError:
            known = ", ".join(sorted(self.manifest.actions))
            raise RayAnswerError(f"The plugin {self.lookup} has no action {name!r}; it has {known}.", 400) from None

    def entrypoint(self, name: str) -> str:
        """Return the shell command that runs an action in the plugin's folder."""
        return f"cd {shlex.quote(str(self.folder))} && {self.action(name).command}"

    def as_row(self) -> dict[str, Any]:
        """Return the release as the agent describes it."""
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
    """The plugins in a folder.

    :param path: has a sub-folder for each plugin; one without a manifest is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def all(self) -> list[Plugin]:
        """Return every plugin, sorted by name and version.

        :raises PluginError: if the folder can't be read, a manifest is malformed, or two are for the same release.
        """
        try:
            folders = sorted(each for each in self.path.iterdir() if (each / MANIFEST).exists())
        except OSError as error:
            raise PluginError(f"Cannot read the folder of plugins {self.path}: {error.strerror}.") from error
        found: dict[str, Plugin] = {}
        for plugin in map(read_plugin, folders):
            if plugin.lookup in found:
                where = found[plugin.lookup].folder
                raise PluginError(f"{plugin.folder / MANIFEST}: {plugin.lookup} is in {where} already (name, version).")
            found[plugin.lookup] = plugin
        return [found[lookup] for lookup in sorted(found)]

    def find(self, lookup: str) -> Plugin:
        """Return a plugin by ``name@version``, or by its name if there is one version of it.

        :raises RayAnswerError: 404 if there is none, 400 if there are several.
        :raises PluginError: as :meth:`all`.
        """
        plugins = self.all()
        found = [plugin for plugin in plugins if lookup in (plugin.lookup, plugin.manifest.name)]
        if not found:
            known = ", ".join(plugin.lookup for plugin in plugins) or "none"
            raise RayAnswerError(f"There is no plugin {lookup!r} in {self.path}; there is {known}.", 404)
        if len(found) > 1:
            names = ", ".join(plugin.lookup for plugin in found)
            raise RayAnswerError(f"There are several versions of {lookup!r}: ask for one of {names}.", 400)
        return found[0]

    def at(self, path: str) -> Plugin:
        """Return the plugin in a folder of this machine; a relative path begins at the folder of plugins.

        :raises RayAnswerError: 400 if there is no plugin.
        :raises PluginError: if its manifest is malformed.
        """
        folder = self.path / path
        if not (folder / MANIFEST).is_file():
            raise RayAnswerError(f"plugin_path: {folder} has no {MANIFEST}.", 400)
        return read_plugin(folder.resolve())


def read_plugin(folder: Path) -> Plugin:
    """Return the plugin in a folder.

    :raises PluginError: if its manifest can't be read or is malformed.
    """
    path = folder / MANIFEST
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Plugin(folder, Manifest.model_validate(content))
    except OSError as error:
        raise PluginError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PluginError(f"{path}: not UTF-8: {error}.") from error
    except yaml.YAMLError as error:
        raise PluginError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the manifest'}: {each['msg']}" for each in error.errors()
        )
        raise PluginError(f"{path}: {problems}.") from error
