"""How Sphinx builds these pages: ``python3 dev.py docs``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow_provider_rayagent import __version__

project = "airflow-provider-rayagent"
version = release = __version__
html_title = "Ray for Airflow"

sys.path.insert(0, str(Path(__file__).parent))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_design", "reference"]
# A reference to a class or error of ours must lead somewhere. Those of Airflow, of Python and of our own inner rooms
# are not looked up: a build needs no network.
nitpicky = True
_OURS = r"(.*\.)?(RayAgent\w+|StreamLimits|FollowOptions|DisplaySettings|Job(Starting|Following)Operator)(\.\w+)?$"
nitpick_ignore_regex = [("py:.*", f"(?!{_OURS}).*")]

_HELP = subprocess.run(
    [sys.executable, "-m", "airflow_provider_rayagent.local.cli", "--help"],
    env={**os.environ, "COLUMNS": "100"},
    capture_output=True,
    text=True,
    check=True,
).stdout

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "substitution"]
myst_substitutions = {"rayagent_local_help": f"```text\n{_HELP}```"}
# A message must be found as the task log has it: no curly quotes.
smartquotes = False

autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
# Longer signatures have one argument per line.
python_maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_copy_source = False
html_show_copyright = False


def setup(app: Any) -> None:
    """Find a reference that the docstrings make by a class's last name alone."""
    app.connect("missing-reference", _by_last_name)


def _by_last_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    if node.get("refdomain") != "py" or node.get("refspecific"):
        return None
    node["refspecific"] = True
    target = node["reftarget"].removeprefix("airflow_provider_rayagent.hooks.log_lines.")
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, node["reftype"], target, node, contnode)
