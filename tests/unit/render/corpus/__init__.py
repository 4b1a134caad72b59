"""Logs of real jobs on a real Ray, each line with the level that it has; see README.md."""

from __future__ import annotations

import logging

LETTERS = {
    None: "-",
    logging.DEBUG: "D",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "C",
}
"""What stands before a line of its level; ``-`` where nothing tells a level."""
