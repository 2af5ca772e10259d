"""A stand-in for the server of Kubernetes: it keeps the jobs that it is sent, and runs those that want no GPU here."""

import json
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    "users": [{"name": "me", "user": {}}],
}


class Server:
    """The server inside a ``with`` block: ``jobs`` are the bodies by name, ``config`` what a client needs to know."""

    def __enter__(self):
        self.jobs, self.ended = {}, {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.endswith("/jobs"):
                    server.start(body)
                self.answer(body, 201)

            def do_GET(self):
                if self.path.endswith("/status"):
                    name = self.path.split("/")[-2]
                    return self.answer(server.jobs[name] | {"status": server.status(name)})
                return self.answer({"kind": "PodList", "items": []})

            def do_DELETE(self):
                self.answer({"kind": "Status", "status": "Success"})

            def answer(self, content, status=200):
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self._server.server_port}"
        self.config = CONFIG | {"clusters": [{"name": "here", "cluster": {"server": address}}]}
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def start(self, body):
        name, container = body["metadata"]["name"], body["spec"]["template"]["spec"]["containers"][0]
        self.jobs[name] = body
        if "nvidia.com/gpu" in container["resources"]["limits"]:
            self.ended[name] = None  # no such node here
        else:
            self.ended[name] = subprocess.Popen([*container["command"], *container["args"]], cwd="/")

    def status(self, name):
        code = self.ended[name].poll() if self.ended[name] else 1
        return {} if code is None else {"failed": 1} if code else {"succeeded": 1}
