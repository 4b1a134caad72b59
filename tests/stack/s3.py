"""An S3 object store: the server of ``moto``, which stores everything in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.processes import Server, signals_held
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "logs"
REGION = "us-east-1"
CREDENTIALS = ("any-key-id", "any-secret-key")
"""The server requires credentials but accepts any."""


class ObjectStore:
    """A running object store with one bucket.

    :ivar url: base URL of the server.
    :ivar bucket: the bucket's name.
    """

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{port}"
        self.bucket = BUCKET
        self._client = self.client("s3")

    def client(self, service: str) -> Any:
        """Return a client of a service of AWS, all of which the server has."""
        import boto3
        from botocore.config import Config

        key_id, secret = CREDENTIALS
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(proxies={}, retries={"max_attempts": 1}),
        )

    def connection(self) -> dict[str, Any]:
        """Return the Airflow connection to it, in its JSON form."""
        key_id, secret = CREDENTIALS
        extra = {"endpoint_url": self.url, "region_name": REGION}
        return {"conn_type": "aws", "login": key_id, "password": secret, "extra": extra}

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects with a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        content: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def wait_until_ready(self) -> None:
        """Wait until the server responds, and create the bucket."""
        from botocore.exceptions import BotoCoreError

        failure = ""

        def creates_bucket() -> bool | None:
            nonlocal failure
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except BotoCoreError as error:
                failure = str(error)
                return None
            return True

        wait_until(creates_bucket, lambda: f"the object store is not ready: {failure}\n{self.server.tail()}")


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run an object store on a free port of 127.0.0.1 until the block ends."""
    [port] = free_ports(1)
    with contextlib.ExitStack() as stack:
        with signals_held():
            folder = Path(tempfile.mkdtemp(prefix="s3-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            server = Server(command, name="the object store", env=os.environ, cwd=folder, output=folder / "s3.log")
            stack.callback(server.stop)
        running = ObjectStore(server, port)
        running.wait_until_ready()
        yield running
