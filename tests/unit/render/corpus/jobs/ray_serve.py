"""Ray Serve: an application that answers, fails and is deleted."""

from __future__ import annotations

import logging
import time

import requests
from fastapi import FastAPI
from ray import serve

api = FastAPI()
PORT = 28000


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(api)
class Shop:
    @api.get("/orders/{number}")
    def order(self, number: int) -> dict[str, int]:
        logging.getLogger("ray.serve").info("order %d, errors: 0", number)
        if number == 3:
            raise ValueError("no such order")
        return {"order": number}


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Broken:
    def __init__(self) -> None:
        raise RuntimeError("no weights")

    def __call__(self) -> str:
        return ""


serve.start(http_options={"port": PORT, "host": "127.0.0.1"})
serve.run(Shop.bind(), name="shop", route_prefix="/shop")
for path in ("shop/orders/1", "shop/orders/3", "shop/orders/x", "elsewhere"):
    print(path, requests.get(f"http://127.0.0.1:{PORT}/{path}", timeout=20).status_code, flush=True)
time.sleep(2)
try:
    serve.run(Broken.bind(), name="broken", route_prefix="/broken")
except Exception as error:
    print("deployment failed:", str(error)[:300], flush=True)
serve.delete("shop")
serve.delete("broken")
time.sleep(2)
serve.shutdown()
