"""Log through loguru, structlog, JSON formatters, absl, colorlog and rich."""

from __future__ import annotations

import json
import logging
import sys

MESSAGES = (
    ("debug", "cache is warm"),
    ("info", "epoch 3 error: 0.01"),
    ("warning", "slow reply"),
    ("error", "no reply"),
)


def loguru_lines() -> None:
    from loguru import logger

    for colour in (False, True):
        logger.remove()
        logger.add(sys.stderr, colorize=colour, level=0)
        for level, message in (("trace", "tiny"), *MESSAGES, ("success", "saved"), ("critical", "out of disk")):
            getattr(logger, level)(message)
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logger.exception("division failed")


def structlog_lines() -> None:
    import structlog

    for renderer in (
        structlog.dev.ConsoleRenderer(colors=False),
        structlog.dev.ConsoleRenderer(colors=True),
        structlog.processors.JSONRenderer(),
        structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
    ):
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                renderer,
            ],
            cache_logger_on_first_use=False,
        )
        log = structlog.get_logger()
        for level, message in MESSAGES:
            getattr(log, level)(message, part=7, path="/data/x")


def json_lines() -> None:
    from pythonjsonlogger.json import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("json.orders")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    for level, message in MESSAGES:
        getattr(logger, level)(message)
    try:
        int("x")
    except ValueError:
        logger.exception("bad number")
    for document in (
        {"severity": "ERROR", "message": "from a Google style logger", "logging.googleapis.com/labels": {}},
        {"level": 50, "time": 1764041000123, "pid": 7, "hostname": "h", "msg": "from a pino style logger"},
        {"level": 30, "time": 1764041000124, "pid": 7, "hostname": "h", "msg": "pino info"},
        {"@timestamp": "2026-11-25T03:00:00.000Z", "log.level": "warn", "message": "from an ECS logger"},
        {"ts": 1764041000.1, "lvl": "eror", "msg": "a short name"},
        {"level": 12, "player": "ann", "score": 99},
        {"level": "expert", "player": "bob"},
        {"epoch": 3, "error": 0.01, "accuracy": 0.99},
        {"error": None, "warnings": []},
        {"message": "level: ERROR", "level": "info", "ts": 1},
        {"severity": 3, "items": ["ERROR"]},
        {"epoch": 1, "nested": {"level": "error", "message": "x"}},
    ):
        print(json.dumps(document), flush=True)


def absl_lines() -> None:
    import absl.logging

    absl.logging.use_absl_handler()
    absl.logging.set_verbosity(absl.logging.DEBUG)
    for level, message in MESSAGES:
        getattr(absl.logging, level)(message)


def colour_lines() -> None:
    import colorlog

    handler = colorlog.StreamHandler()
    handler.setFormatter(colorlog.ColoredFormatter("%(log_color)s%(levelname)-8s%(reset)s %(blue)s%(message)s"))
    logger = colorlog.getLogger("colour")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    for level, message in MESSAGES:
        getattr(logger, level)(message)


def rich_lines() -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    for forced in (False, True):
        console = Console(stderr=True, width=100, force_terminal=forced)
        logger = logging.getLogger(f"rich.{forced}")
        logger.handlers, logger.propagate = [RichHandler(console=console)], False
        logger.setLevel(logging.DEBUG)
        for level, message in MESSAGES:
            getattr(logger, level)(message)


for part in (loguru_lines, structlog_lines, json_lines, absl_lines, colour_lines, rich_lines):
    print(f"== {part.__name__}", flush=True)
    part()
