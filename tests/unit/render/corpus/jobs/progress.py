"""Progress bars: tqdm alone, nested, among log lines; rich."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logging.basicConfig(level=logging.INFO)
for _ in tqdm(range(5), desc="plain", mininterval=0):
    time.sleep(0.02)
for _ in tqdm(range(2), desc="outer"):
    for _ in tqdm(range(3), desc="inner errors=0", leave=False, mininterval=0):
        time.sleep(0.02)
for number in tqdm(range(4), desc="among lines", mininterval=0):
    if number == 2:
        logging.warning("in the middle of a bar")
        print("a print in the middle of a bar", flush=True)
with logging_redirect_tqdm():
    for number in tqdm(range(4), desc="redirected", mininterval=0):
        if number == 2:
            logging.error("above the bar")
            tqdm.write("written above the bar")
for number in range(4):
    sys.stdout.write(f"\rstep {number} of 4, ERROR: {number}")
    sys.stdout.flush()
print()
print("done", flush=True)
