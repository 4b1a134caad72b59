"""uvicorn by itself: requests, an error in a handler, warnings of its own."""

from __future__ import annotations

import threading
import time

import requests
import uvicorn
from fastapi import FastAPI

api = FastAPI()


@api.get("/fine")
def fine() -> str:
    return "fine"


@api.get("/broken")
def broken() -> str:
    raise ValueError("broken handler")


for colours in (False, True):
    server = uvicorn.Server(uvicorn.Config(api, port=28010, use_colors=colours, log_level="trace"))
    thread = threading.Thread(target=server.run)
    thread.start()
    time.sleep(2)
    for path in ("fine", "broken", "errors?level=ERROR"):
        requests.get(f"http://127.0.0.1:28010/{path}", timeout=10)
    server.should_exit = True
    thread.join()
server = uvicorn.Server(uvicorn.Config("nowhere:app", port=28010))
try:
    server.run()
except SystemExit as error:
    print("exit", error.code)
