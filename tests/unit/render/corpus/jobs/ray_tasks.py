"""Tasks and actors that log, warn, print, crash and fail; the driver's last word is an uncaught error."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import warnings

import ray

ray.init()
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s -- %(message)s")


@ray.remote(max_retries=0)
def chatty(number: int) -> int:
    logging.basicConfig(level=logging.DEBUG)
    log = logging.getLogger("worker.chatty")
    print(f"task {number} begins, errors: 0")
    log.info("reading part %d", number)
    log.warning("part %d is old", number)
    warnings.warn(f"part {number} has no index", UserWarning, stacklevel=1)
    sys.stderr.write("plain words on stderr\n")
    try:
        {}[f"part {number}"]
    except KeyError:
        log.exception("part %d is missing", number)
    return number


@ray.remote(max_retries=0)
def boom() -> None:
    raise ValueError("boom in a task")


@ray.remote(max_retries=1)
def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@ray.remote(max_retries=1, retry_exceptions=True)
def retried() -> None:
    raise TimeoutError("try again")


@ray.remote
class Counter:
    def __init__(self, start: int) -> None:
        logging.basicConfig(level=logging.INFO, format="[%(asctime)s] [%(levelname)s] %(message)s")
        self.total = start

    def add(self, number: int) -> int:
        self.total += number
        logging.info("total is %d", self.total)
        if self.total > 3:
            logging.error("total is too high: %d", self.total)
        return self.total

    def fail(self) -> None:
        raise RuntimeError("the actor's method failed")

    def die(self) -> None:
        os._exit(7)


@ray.remote
class Stillborn:
    def __init__(self) -> None:
        raise OSError("no model file")

    def ping(self) -> str:
        return "pong"


def attempt(reference: ray.ObjectRef) -> None:
    try:
        ray.get(reference)
    except Exception:
        logging.getLogger("driver").exception("could not get it")


print(ray.get([chatty.remote(number) for number in range(3)]))
counter = Counter.remote(0)
print(ray.get([counter.add.remote(number) for number in range(4)]))
attempt(boom.remote())
attempt(crash.remote())
attempt(retried.remote())
attempt(counter.fail.remote())
attempt(counter.die.remote())
attempt(counter.add.remote(1))
attempt(Stillborn.remote().ping.remote())


@ray.remote
def nested() -> None:
    ray.get(boom.remote())


attempt(nested.remote())
unhandled = boom.remote()
time.sleep(3)
del unhandled
lost = Counter.options(name="bound").remote(0)
with contextlib.suppress(Exception):
    ray.get(Counter.options(num_cpus=64).remote(0).add.remote(1), timeout=40)
time.sleep(2)
print("the driver is about to fail", flush=True)
ray.get(nested.remote())
