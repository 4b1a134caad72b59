"""Where the files of a DAG are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context


def bundle_folders(context: Context) -> tuple[Path, Path]:
    """Return the folder of the DAG file of a running task, and that of its DAG bundle."""
    dag_folder = Path(context["dag"].fileloc).parent
    # ``dag.test()`` of older Airflow versions has no bundle.
    bundle = getattr(context["ti"], "bundle_instance", None)
    return dag_folder, Path(bundle.path) if bundle is not None else dag_folder
