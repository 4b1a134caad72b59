"""Print lines until a file is there, an hour at most, and then how many as the result."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

release = Path(os.environ["RELEASE"])
print("the key is", os.environ["API_KEY"], "and the task", os.environ["AIRFLOW_CTX_TASK_ID"])
count = 0
while not release.exists() and count < 36_000:
    count += 1
    print(f"line {count}", flush=True)
    time.sleep(0.1)
print("__RAYAGENT_RESULT_START__")
print(json.dumps({"lines": count}))
print("__RAYAGENT_RESULT_END__", flush=True)
