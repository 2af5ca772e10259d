"""An S3 service on this machine (moto) with public buckets, and the manifest of what lies in them."""

from __future__ import annotations

import http.client
import os
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

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


class Between:
    """A server between a client and a service, inside a ``with`` block; ``requests`` are those that came through.

    ``wrong(method, path)`` says of a request what goes wrong: None for nothing, "closed" for a connection that ends
    without an answer, "denied" for a refusal.
    """

    def __init__(self, service: Service, wrong: Callable[[str, str], str | None] = lambda method, path: None):
        self._service, self.wrong, self.requests = urlsplit(service.endpoint).netloc, wrong, []

    def __enter__(self) -> Between:
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                wrong = between.wrong(self.command, self.path)
                if wrong == "closed":
                    self.close_connection = True
                elif wrong == "denied":
                    self.close_connection = True
                    self.answer(403, [], b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
                else:
                    between.requests.append((self.command, self.path))
                    self.forward(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def forward(self, body: bytes) -> None:
                connection = http.client.HTTPConnection(between._service)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                self.answer(answer.status, answer.getheaders(), answer.read())
                connection.close()

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

            def answer(self, status: int, headers: list, body: bytes) -> None:
                self.send_response(status)
                given = {name.lower(): value for name, value in headers if name.lower() != "transfer-encoding"}
                for name, value in ({"content-length": str(len(body))} | given).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
