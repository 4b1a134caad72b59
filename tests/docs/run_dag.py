"""Run a DAG file as ``dag.test()`` does: ``python -m tests.docs.run_dag FILE [CONF]``.

Reads the file with Airflow's ``DagBag``, runs the DAG that has the file's name, and prints what came of it as JSON,
in the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(path: Path, conf: dict[str, Any]) -> int:
    """Run the DAG; return 1 if the file can't be read."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(path, bundle_name="dags-folder")
    if bag.import_errors or list(bag.dags) != [path.stem]:
        print(bag.import_errors, list(bag.dags))
        return 1
    run = bag.dags[path.stem].test(run_conf=conf)
    tasks = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
    print(json.dumps({"state": str(run.state), "tasks": tasks}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
