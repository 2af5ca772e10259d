"""An S3 service on this machine (moto) with public buckets, and the manifest of what lies in them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping

import boto3
import pandas as pd
from moto.server import ThreadedMotoServer

KEY = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


class Service:
    """An S3 service inside a ``with`` block; objects are put with a key and read without."""

    def __enter__(self) -> Service:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.client = boto3.client("s3", endpoint_url=self.endpoint, **KEY)
        self.bucket = ""
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def put(self, series: Mapping[str, Mapping[str, bytes]], acl: str = "public-read") -> pd.DataFrame:
        """Put files (bytes by name) of series (by UID) into a new bucket; the manifest that an index would give."""
        self.bucket = f"idc-test-{uuid.uuid4()}"
        self.client.create_bucket(Bucket=self.bucket)
        for uid, files in series.items():
            for name, body in files.items():
                self.client.put_object(Bucket=self.bucket, Key=f"{folder(uid)}/{name}", Body=body, ACL=acl)
        return manifest(series, self.bucket)

    def remove(self, uid: str, name: str) -> None:
        """Remove one object."""
        self.client.delete_object(Bucket=self.bucket, Key=f"{folder(uid)}/{name}")


def folder(uid: str) -> str:
    """The folder of a series in the bucket, which as in the IDC is not named by its UID."""
    return "crdc-" + uid.replace(".", "-")


def manifest(series: Mapping[str, Mapping[str, bytes]], bucket: str = "nowhere") -> pd.DataFrame:
    """One row a series: series_uid, url, instances, bytes."""
    rows = [
        (uid, f"s3://{bucket}/{folder(uid)}/", len(files), sum(map(len, files.values())))
        for uid, files in series.items()
    ]
    return pd.DataFrame(rows, columns=["series_uid", "url", "instances", "bytes"])


def made_up(series: int, files: int, size: int = 1000) -> dict[str, dict[str, bytes]]:
    """Random files of different lengths, by series UID and name."""
    return {
        f"1.2.{number}": {f"{name:04}.dcm": os.urandom(size + name) for name in range(files)}
        for number in range(series)
    }
