"""The quick book, built if it is not up to date, served on this machine and opened in Chromium."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from filelock import FileLock
from playwright.sync_api import sync_playwright

pytest.register_assert_rewrite("every_page")

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "runs" / "quick" / "book"
sys.path.insert(0, str(ROOT / "workflow"))
from pdf import ARGUMENTS, BROWSERS  # noqa: E402


@pytest.fixture(scope="session")
def html():
    """Folder of the built book, made the way `make book` makes it; a run that is up to date stays as it is.

    TUMORBENCH_BOOK names a book that is built already, to look at that one.
    """
    if given := os.environ.get("TUMORBENCH_BOOK"):
        return Path(given)
    (ROOT / "runs").mkdir(exist_ok=True)
    command = [sys.executable, "workflow/run.py", "--profile", "quick"]
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with FileLock(ROOT / "runs" / ".book.lock"):  # one file of tests builds it, another waits
        done = subprocess.run(command, cwd=ROOT, env=environment, **pipes)
    if done.returncode:
        pytest.fail(f"the book could not be built:\n{done.stdout[-4000:]}", pytrace=False)
    return BOOK / "_build" / "html"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def site(html):
    """Address of the served book, with a slash at its end."""
    handler = functools.partial(Quiet, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        reason = f"no browser: none of {', '.join(BROWSERS)} is on the path"
        if os.environ.get("TUMORBENCH_BROWSER") == "required":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A page in the browser, and all that happened while it loaded."""

    page: object
    status: int = 0
    messages: list[str] = field(default_factory=list)  # errors and warnings of the console, uncaught exceptions
    requests: list = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def loaded(self):
        """Bytes of all that the page consists of, also where the browser still has them of an earlier page."""
        return self.page.evaluate(
            "performance.getEntries().reduce((sum, each) => sum + (each.encodedBodySize ?? 0), 0)"
        )

    def leave(self):
        """Let the tab show nothing, with nothing remembered, for the next visit."""
        self.page.evaluate("localStorage.clear(), sessionStorage.clear()")
        self.page.goto("about:blank")  # what was still loading is broken off now, not in the next visit
        self.messages, self.requests, self.failures = [], [], []


def arrived(answer):
    return answer.ok or answer.status == requests.codes.not_modified


def watched(page):
    """A visit that records from now on what ``page`` requests and complains of."""
    visit = Visit(page)
    page.on("console", lambda each: visit.messages.append(each.text) if each.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: visit.messages.append(f"exception: {error}"))
    page.on("request", lambda request: visit.requests.append(request))
    page.on("requestfailed", lambda request: visit.failures.append(f"{request.failure} {request.url}"))
    page.on(
        "response", lambda answer: None if arrived(answer) else visit.failures.append(f"{answer.status} {answer.url}")
    )
    return visit


SETTLED = """async () => {
    if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
    await document.fonts.ready;
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


@pytest.fixture(scope="session")
def visit(site, browser):
    """Open a page of the book at a width and in a theme, as a reader's system asks for it: a context manager.

    Tabs are used again, as by a reader who goes from page to page: a new window costs more than the page in it. A tab
    that breaks is left where it is.
    """
    spare = []
    with browser.new_context() as context:

        @contextmanager
        def opened(name, width=1280, theme="light"):
            visit = spare.pop() if spare else watched(context.new_page())
            visit.page.bring_to_front()  # Chromium draws a tab behind others once a second
            visit.page.set_viewport_size({"width": width, "height": 900})
            visit.page.emulate_media(color_scheme=theme)
            visit.status = visit.page.goto(f"{site}{name}", wait_until="load").status
            visit.page.evaluate(SETTLED)
            yield visit
            visit.leave()
            spare.append(visit)

        yield opened
