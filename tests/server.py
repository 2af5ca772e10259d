"""A web server on this machine that misbehaves on request."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE = 30  # seconds that a held answer waits at most


@dataclass(frozen=True)
class Answer:
    """How one request is answered; by default as a well-behaved server that knows ranges does.

    ``status`` is sent in place of the file. ``body`` is sent in place of the file's bytes. ``ranges=False`` sends
    the whole file whatever was asked for. After ``cut`` bytes of the body the connection is closed, although the full
    length was announced, and, if there is a ``hold``, only once that event is set.
    """

    status: int | None = None
    body: bytes | None = None
    ranges: bool = True
    cut: int | None = None
    hold: threading.Event | None = None


class Server:
    """Serves ``files`` (bytes by path) inside a ``with`` block; ``script`` holds the answers to the next requests.

    ``requests`` lists (path, Range header or None) of every request so far.
    """

    def __init__(self, files: Mapping[str, bytes], script: Iterable[Answer] = ()):
        self.files = dict(files)
        self.script = list(script)
        self.requests: list[tuple[str, str | None]] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def url(self, path: str = "") -> str:
        """Address of ``path``."""
        return f"http://127.0.0.1:{self._http.server_port}/{path}"

    @property
    def ranges(self) -> list[str | None]:
        """Range header of every request so far."""
        return [requested for _, requested in self.requests]

    def next_answer(self, path: str, requested: str | None) -> Answer:
        """Record a request and take its answer from the script."""
        with self._lock:
            self.requests.append((path, requested))
            return self.script.pop(0) if self.script else Answer()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path, requested = self.path.lstrip("/").partition("?")[0], self.headers.get("Range")
                answer = server.next_answer(path, requested)
                body = server.files.get(path) if answer.body is None else answer.body
                start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and answer.ranges else 0
                if answer.status or body is None:
                    self.head(answer.status or 404, 0)
                elif start and start >= len(body):
                    self.head(416, 0)
                else:
                    self.head(206 if start else 200, len(body) - start)
                    self.send(body[start:], answer)

            def head(self, status: int, length: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
                self.end_headers()

            def send(self, body: bytes, answer: Answer) -> None:
                self.wfile.write(body[: answer.cut])
                self.wfile.flush()
                if answer.hold is not None:
                    answer.hold.wait(PATIENCE)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
