"""A real S3 server: what the vendors' clients ask of a bucket, over HTTP, in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

REGION = "eu-central-1"


@dataclass(frozen=True)
class S3Server:
    """An S3 server at `url`, for every process that has `environment` in its own."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process must have in its environment to reach the server: AWS's own names."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "brushloop",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_DEFAULT_REGION": REGION,
            # a machine's own configuration of AWS must not lead anywhere else
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A client of AWS's own, for what a test does beside the product."""
        import boto3  # slow, and few tests ask for a bucket

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="brushloop",
            aws_secret_access_key="not-a-secret",
        )

    def new_bucket(self, name: str = "scans") -> str:
        """Make a bucket with a name that no other test has; its address `s3://…`."""
        bucket = f"{name}-{uuid4().hex[:12]}"
        place = {"LocationConstraint": REGION}
        self.client().create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        return f"s3://{bucket}"

    def put(self, address: str, data: bytes) -> str:
        """Store an object at an address below a bucket; the address."""
        bucket, _, key = address.removeprefix("s3://").partition("/")
        self.client().put_object(Bucket=bucket, Key=key, Body=data)
        return address

    def objects(self, address: str) -> dict[str, bytes]:
        """Name below the address → bytes of everything that lies there."""
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        client, found = self.client(), {}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for row in (row for page in pages for row in page.get("Contents", ())):
            body = client.get_object(Bucket=bucket, Key=row["Key"])["Body"]
            found[row["Key"].removeprefix(prefix).lstrip("/")] = body.read()
        return found


@contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """An S3 server on a free port of this machine while entered."""
    from moto.server import ThreadedMotoServer  # slow, and few tests ask for a bucket

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        server.stop()
