"""Run DAGs as ``dag.test()`` does: ``python -m tests.docs.run_dags NAME CONF NAME CONF …``.

The DAGs are those of Airflow's DAG folder, read with its ``DagBag``; each ``CONF`` is JSON. What a run prints is
followed by a line that begins with ``MARK`` and tells what came of it, as JSON.
"""

from __future__ import annotations

import json
import sys

MARK = "=== what came of it: "


def main(arguments: list[str]) -> int:
    """Run the DAGs; return 1 if a file of the folder can't be read."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag()
    if bag.import_errors:
        print(bag.import_errors)
        return 1
    for name, conf in zip(arguments[::2], arguments[1::2], strict=True):
        run = bag.dags[name].test(run_conf=json.loads(conf))
        tasks = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
        print(f"{MARK}{json.dumps({'state': str(run.state), 'tasks': tasks})}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
