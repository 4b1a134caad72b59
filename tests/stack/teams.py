"""An Airflow with teams, each with a DAG of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def team_settings(folder: Path, teams: Sequence[str], dag_file: str) -> dict[str, str]:
    """Write a bundle with one DAG file for each team; return the settings of an Airflow that has them.

    :param dag_file: text of the DAG file, in which ``{team}`` is replaced.
    """
    bundles = []
    for team in teams:
        path = folder / team
        path.mkdir()
        (path / "dag.py").write_text(dag_file.format(team=team), encoding="utf-8")
        classpath = "airflow.dag_processing.bundles.local.LocalDagBundle"
        bundles.append({"name": team, "classpath": classpath, "kwargs": {"path": str(path)}, "team_name": team})
    return {"AIRFLOW__CORE__MULTI_TEAM": "True", "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}
