"""A folder of plugins: each sub-folder has a manifest, ``plugin.yaml``, that says which commands its actions are.

The folder is read anew for every request, so that a plugin can be added or changed while the agent runs.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError
from airflow_provider_rayagent.local.files import regular_file

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "plugin.yaml"
MAX_MANIFEST = 64_000
"""Longest manifest in bytes."""
MAX_PROBLEMS = 1_000
"""Most characters that are said about a malformed one."""
# With a bound pydantic looks at the text, and refuses halves of surrogate pairs.
_Text = Annotated[str, Field(max_length=2_000)]
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
    description: _Text = ""
    num_cpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    num_gpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Manifest(BaseModel):
    """What ``plugin.yaml`` holds."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    version: str = Field(pattern=r"^[A-Za-z0-9._+-]+$", max_length=60)
    description: _Text = ""
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


@dataclass(frozen=True)
class Plugins:
    """The plugins of a folder.

    :param usable: sorted by name and version.
    :param faults: why others are not, by the name of their sub-folder, or by their release if several are of one.
    """

    usable: list[Plugin] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


class PluginFolder:
    """The plugins in a folder.

    :param path: has a sub-folder for each plugin; one without a manifest is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._read: dict[Path, tuple[tuple[int, ...], Plugin | str]] = {}

    def read(self) -> Plugins:
        """Return the plugins that are in the folder now. A manifest that can't be used is a fault of its plugin alone.

        :raises PluginError: if the folder can't be read.
        """
        try:
            folders = sorted(each for each in self.path.iterdir() if os.path.lexists(each / MANIFEST))
        except OSError as error:
            raise PluginError(f"Cannot read the folder of plugins {self.path}: {error.strerror}.") from error
        plugins = Plugins()
        read: list[Plugin] = []
        self._read = {folder: self._read_if_changed(folder) for folder in folders}
        for folder, (_, plugin) in self._read.items():
            if isinstance(plugin, str):
                plugins.faults[folder.name] = plugin
            else:
                read.append(plugin)
        times = Counter(plugin.lookup for plugin in read)
        for plugin in sorted(read, key=lambda plugin: plugin.lookup):
            if times[plugin.lookup] == 1:
                plugins.usable.append(plugin)
            else:
                where = ", ".join(str(each.folder) for each in read if each.lookup == plugin.lookup)
                plugins.faults[plugin.lookup] = f"{plugin.lookup} is in several folders, so none is used: {where}."
        return plugins

    def _read_if_changed(self, folder: Path) -> tuple[tuple[int, ...], Plugin | str]:
        # A manifest can be made that takes seconds to parse, and every request for a plugin reads all.
        version: tuple[int, ...] = ()
        with contextlib.suppress(OSError):
            found = (folder / MANIFEST).stat()
            version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._read.get(folder)
        if known is not None and version and known[0] == version:
            return known
        try:
            return version, read_plugin(folder)
        except PluginError as error:
            return version, str(error)

    def find(self, lookup: str) -> Plugin:
        """Return a plugin by ``name@version``, or by its name if there is one version of it.

        :raises RayAnswerError: 404 if there is none, 400 if there are several.
        :raises PluginError: if the folder can't be read; or if there is none, and a manifest that may be its cannot be
            used.
        """
        plugins = self.read()
        found = [plugin for plugin in plugins.usable if lookup in (plugin.lookup, plugin.manifest.name)]
        if not found:
            name = lookup.partition("@")[0]
            for key in (lookup, name):
                if key in plugins.faults:
                    raise PluginError(plugins.faults[key])
            known = ", ".join(plugin.lookup for plugin in plugins.usable) or "none"
            broken = f" Not usable: {', '.join(plugins.faults)}." if plugins.faults else ""
            raise RayAnswerError(f"There is no plugin {lookup!r} in {self.path}; there is {known}.{broken}", 404)
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
        if "\0" in path or not os.path.lexists(folder / MANIFEST):
            raise RayAnswerError(f"plugin_path: {str(folder)!r} has no {MANIFEST}.", 400)
        return read_plugin(folder.resolve())


def read_plugin(folder: Path) -> Plugin:
    """Return the plugin in a folder.

    :raises PluginError: if its manifest can't be read or is malformed.
    """
    path = folder / MANIFEST
    try:
        return Plugin(folder, Manifest.model_validate(yaml.safe_load(_text_of(path))))
    except PluginError:
        raise
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
        raise PluginError(f"{path}: {problems[:MAX_PROBLEMS]}.") from error
    except Exception as error:
        # PyYAML lets through whatever its constructors raise: ValueError, KeyError, RecursionError and others.
        raise PluginError(f"{path}: YAML that cannot be used: {type(error).__name__}: {str(error)[:200]}.") from error


def _text_of(path: Path) -> str:
    with regular_file(path) as file:
        content = file.read(MAX_MANIFEST + 1)
    if len(content) > MAX_MANIFEST:
        raise PluginError(f"{path}: longer than {MAX_MANIFEST:,} bytes.")
    return content.decode("utf-8")
