"""Report an OpenLineage run, with the task of this job as its parent."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import parent_run as facets
from openlineage.client.uuid import generate_new_uuid

parent = json.loads(os.environ["OPENLINEAGE_CONTEXT"])["parent"]
root = facets.Root(
    run=facets.RootRun(**parent["root"]["run"]),
    job=facets.RootJob(**parent["root"]["job"]),
)
facet = facets.ParentRunFacet(
    run=facets.Run(**parent["run"]), job=facets.Job(**parent["job"]), root=root
)
run = Run(str(generate_new_uuid()), facets={"parent": facet})
client = OpenLineageClient()  # It sends to where Airflow sends its events.
for state in (RunState.START, RunState.COMPLETE):
    event = RunEvent(
        eventType=state,
        eventTime=datetime.now(timezone.utc).isoformat(),
        run=run,
        job=Job("ray", "train"),
        outputs=[OutputDataset("s3://models", "rate/model.pt")],
        producer="https://example.com/train",
    )
    client.emit(event)
