"""What every page of the book must be, at one width: the tests of test_every_page_on_a_desktop.py and ..._phone.py.

Two files, so that two processes share the pages.
"""

from itertools import dropwhile
from pathlib import Path

import axe_playwright_python
import pytest
from chapters import pages

MAX_BYTES = 3_000_000  # of a page with all it loads
MAX_PAINT = 1000  # ms until a page shows something, from a server on this machine
CONTRAST = 4.5  # WCAG 2.2, level AA, for text of normal size


def script(name):
    """A function of JavaScript beside this file, without the comment before it, as the browser takes it."""
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(dropwhile(lambda line: line.startswith("//"), lines))


INSPECTION, ACCESSIBILITY = script("inspection.js"), script("accessibility.js")
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
FIRST_PAINT = """() => new Promise(told => {
    const seen = list => list.getEntriesByName('first-contentful-paint').forEach(each => told(each.startTime));
    new PerformanceObserver(seen).observe({type: 'paint', buffered: true});  // it may come after all has loaded
})"""
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE_SEES = {(1280, "light"): STANDARDS, (390, "dark"): []}  # the second differs in its colours alone


def opened_at(width):
    """Fixture: every page of the quick book, as it loads at ``width``; opened once, asked everything at once."""

    @pytest.fixture(scope="module", params=pages(), ids=lambda page: "-".join(Path(page).with_suffix("").parts[-2:]))
    def loaded(visit, request):
        with visit(request.param, width) as visited:
            yield visited

    return loaded


def faults_of_loading(visited, site):
    """What is wrong with how a page came, by what should have been."""
    urls = [request.url for request in visited.requests]
    size = visited.loaded()
    return {
        "the page is there": visited.status if visited.status != 200 else None,
        "every file arrives": visited.failures,
        "the console is silent": visited.messages,
        "nothing comes from another host": [url for url in urls if not url.startswith((site, "data:", "blob:"))],
        "the page is light": None if 20_000 < size < MAX_BYTES else f"{size:,} bytes",
        "requests were seen": None if len(urls) > 5 else urls,
    }


def faults_of_sight(seen, theme):
    """What is wrong with what a page shows (see inspection.js), by what should have been."""
    figures = [each for each in seen["figures"] if min(len(each["caption"]), len(each["alternative"])) <= 20]
    written, rendered, wrong = seen["formulas"]
    texts = 4 * (len(seen["figures"]) - seen["viewers"])  # a viewer has no text in its images
    return {
        "the theme is the one the reader's system asks for": None if seen["theme"] == theme else seen["theme"],
        "the page does not scroll sideways": max(seen["overhang"], 0),
        "nothing is wider than the screen": seen["wide"],
        "there is one heading of the first level": None if len(seen["headings"]) == 1 else seen["headings"],
        "there is no traceback": seen["traceback"],
        "no object of Python is printed": seen["printed"],
        "every image has an alternative text": seen["imagesWithoutText"],
        "every link and button has a name": seen["controlsWithoutName"],
        "every figure has a caption and an alternative text": figures,
        "text of figures is readable": seen["unreadable"],
        "text of figures was seen": None if seen["textsOfFigures"] >= texts else seen["textsOfFigures"],
        "formulas are rendered": None if (rendered, wrong) == (written, 0) else seen["formulas"],
    }


def told(faults):
    return {should: what for should, what in faults.items() if what}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_whole_readable_and_accessible(loaded, site, theme):
    page = loaded.page
    page.emulate_media(color_scheme=theme)  # as when the reader's system changes at dusk
    page.evaluate(FRAMES)
    faults = faults_of_loading(loaded, site) | faults_of_sight(page.evaluate(INSPECTION, CONTRAST), theme)
    rules = AXE_SEES.get((page.viewport_size["width"], theme))
    if rules is not None:
        faults["axe finds nothing"] = violations(page, rules)
    assert told(faults) == {}


def test_what_shows_first_comes_within_a_second(loaded):
    """Of ten tries the best, since other tests use the machine too; the first one mostly does."""
    paints = [loaded.page.evaluate(FIRST_PAINT)]
    while paints[-1] >= MAX_PAINT and len(paints) < 10:
        loaded.page.reload()
        paints.append(loaded.page.evaluate(FIRST_PAINT))
    assert 0 < min(paints) < MAX_PAINT


def violations(page, rules):
    """What axe finds against ``rules`` (WCAG 2.2, levels A and AA, its own good practice) and in contrast."""
    page.evaluate(AXE)
    found = page.evaluate(ACCESSIBILITY, rules)
    return found["faults"] if found["looks"] > 5 else ["no text was seen"]
