"""A driver whose core worker writes to stderr, too: Ray's C++ lines. Wants RAY_LOG_TO_STDERR=1."""

from __future__ import annotations

import time

import ray

ray.init()


@ray.remote
def work(number: int) -> int:
    return number


@ray.remote
class Actor:
    def ping(self) -> str:
        return "pong"


print(sum(ray.get([work.remote(number) for number in range(20)])))
actor = Actor.remote()
print(ray.get(actor.ping.remote()))
ray.kill(actor)
time.sleep(2)
try:
    ray.get(actor.ping.remote())
except ray.exceptions.RayActorError as error:
    print(type(error).__name__, error)
big = [ray.put(bytes(9_000_000)) for _ in range(12)]
print(len(big))
