"""Log through Python's logging in the formats that programs use, with prints in between."""

from __future__ import annotations

import logging
import sys

FORMATS = {
    "default": logging.BASIC_FORMAT,
    "usual": "%(asctime)s %(levelname)s %(name)s: %(message)s",
    "dashes": "%(asctime)s - %(name)s - %(levelname)s - %(message)s",
    "brackets": "[%(asctime)s] [%(levelname)s] %(message)s",
    "level_first": "[%(levelname)s] %(message)s",
    "flask": "[%(asctime)s] %(levelname)s in %(module)s: %(message)s",
    "gunicorn": "[%(asctime)s +0000] [%(process)d] [%(levelname)s] %(message)s",
    "airflow": "[%(asctime)s] {%(filename)s:%(lineno)d} %(levelname)s - %(message)s",
    "bars": "%(asctime)s | %(levelname)-8s | %(name)s:%(funcName)s:%(lineno)d - %(message)s",
    "padded": "%(levelname)-8s %(name)s:%(filename)s:%(lineno)d %(message)s",
    "process": "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(threadName)s %(name)s %(message)s",
    "transformers": "[%(levelname)s|%(filename)s:%(lineno)s] %(asctime)s >> %(message)s",
    "lightning": "%(levelname)s: %(message)s",
    "time_only": "%(asctime)s [%(levelname)s] %(name)s: %(message)s",
    "no_level": "%(asctime)s %(name)s: %(message)s",
    "celery": "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
}
MESSAGES = (
    (logging.DEBUG, "loaded 3 shards"),
    (logging.INFO, "epoch 1: loss=0.53 error=0.02"),
    (logging.INFO, "no errors found"),
    (logging.INFO, "retrying after ERROR 503 from the store"),
    (logging.WARNING, "disk is 91% full"),
    (logging.ERROR, "cannot write part 7"),
    (logging.CRITICAL, "giving up"),
    (logging.WARNING, "two lines:\n  the second one"),
)
PRINTS = ("done with a part", "errors: 0", "  an indented line of output", "")

for name, layout in FORMATS.items():
    print(f"== {name}")
    sys.stdout.flush()
    datefmt = "%H:%M:%S" if name == "time_only" else "%Y-%m-%d %H:%M:%S" if name in ("gunicorn", "process") else None
    logging.basicConfig(level=logging.DEBUG, format=layout, datefmt=datefmt, force=True)
    logger = logging.getLogger("shop.orders")
    for number, (level, message) in enumerate(MESSAGES):
        logger.log(level, message)
        print(PRINTS[number % len(PRINTS)], flush=True)
    try:
        {}["missing"]
    except KeyError:
        logger.exception("order 12 failed")
    print("after the traceback", flush=True)
logging.basicConfig(level=logging.INFO, force=True)
logging.getLogger("root.child").warning("")
logging.info("%s", {"level": "error", "count": 0})
