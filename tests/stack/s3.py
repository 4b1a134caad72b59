"""An S3 object store: the server of ``moto``, which stores everything in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.stack.processes import Server, free_ports, signals_held

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "logs"
REGION = "us-east-1"
CREDENTIALS = ("any-key-id", "any-secret-key")
"""The server requires credentials but accepts any."""


class S3Error(Exception):
    """The object store did not start."""


class ObjectStore:
    """A running object store with one bucket.

    :ivar url: base URL of the server.
    :ivar bucket: the bucket's name.
    """

    def __init__(self, server: Server, port: int) -> None:
        import boto3
        from botocore.config import Config

        self.server = server
        self.url = f"http://127.0.0.1:{port}"
        self.bucket = BUCKET
        key_id, secret = CREDENTIALS
        self._client: Any = boto3.client(
            "s3",
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

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until the server responds, and create the bucket.

        :raises S3Error: if the server exits, or does not respond within ``timeout`` seconds.
        """
        from botocore.exceptions import BotoCoreError

        deadline = time.monotonic() + timeout
        while True:
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except BotoCoreError as error:
                failure = error
            else:
                return
            if (code := self.server.returncode()) is not None:
                raise S3Error(f"the object store ended with {code}:\n{self.server.tail()}")
            if time.monotonic() > deadline:
                raise S3Error(f"the object store is not ready after {timeout:g} s: {failure}\n{self.server.tail()}")
            time.sleep(0.1)


@contextlib.contextmanager
def object_store(timeout: float = 60.0) -> Iterator[ObjectStore]:
    """Run an object store on a free port of 127.0.0.1 until the block ends.

    :param timeout: seconds within which it must respond.
    :raises S3Error: if it does not start.
    """
    [port] = free_ports(1)
    with contextlib.ExitStack() as stack:
        with signals_held():
            folder = Path(tempfile.mkdtemp(prefix="s3-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            server = Server(command, env=os.environ, cwd=folder, output=folder / "s3.log")
            stack.callback(server.stop)
        running = ObjectStore(server, port)
        running.wait_until_ready(timeout)
        yield running
