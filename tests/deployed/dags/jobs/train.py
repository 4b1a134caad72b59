"""Print an epoch a second, and then the last loss as the result."""

from __future__ import annotations

import json
import sys
import time

epochs = int(sys.argv[1])
for epoch in range(1, epochs + 1):
    time.sleep(1)
    print(f"epoch {epoch}: loss {0.5**epoch}")
print("__RAYAGENT_RESULT_START__")
print(json.dumps({"epochs": epochs, "loss": 0.5**epochs}))
print("__RAYAGENT_RESULT_END__")
