"""What every page of the book must be, at one width: the tests of test_every_page_on_a_desktop.py and ..._phone.py.

Two files, so that two processes share the pages.
"""

from pathlib import Path

import axe_playwright_python
import pytest
from chapters import pages

MAX_BYTES = 3_000_000  # of a page with all it loads
MAX_PAINT = 1000  # ms until a page shows something, from a server on this machine
CONTRAST = 4.5  # WCAG 2.2, level AA, for text of normal size
INSPECTION = (Path(__file__).parent / "inspection.js").read_text(encoding="utf-8").partition("contrast =>")
INSPECTION = "".join(INSPECTION[1:])  # the browser takes a function, without the comment before it
FIRST_PAINT = """() => new Promise(told => {
    const seen = list => list.getEntriesByName('first-contentful-paint').forEach(each => told(each.startTime));
    new PerformanceObserver(seen).observe({type: 'paint', buffered: true});  // it may come after all has loaded
})"""
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE_SEES = {(1280, "light"): STANDARDS, (390, "dark"): ["color-contrast"]}  # the second differs in its colours alone
# Roles of references are docutils' own. Of figures and formulas only the outside is looked at: what is drawn inside has
# a test of its own, through all that is painted behind it, and tens of thousands of elements, which take axe minutes
AXE_WHERE = {"exclude": [[".citation-list"]]}
AXE_LOOKS = """async ([where, how]) => {
    const pictures = document.querySelectorAll('figure.tb-figure svg, mjx-container');
    const drawn = [...pictures].map(each => [each, [...each.childNodes]]);
    drawn.forEach(([each]) => each.replaceChildren());
    const found = await axe.run(where, how);
    drawn.forEach(([each, inside]) => each.replaceChildren(...inside));
    return found;
}"""
AXE_HOW = {
    "resultTypes": ["violations"],
    "preload": False,  # it would fetch style sheets again, from wrong addresses
}


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


def faults_of_sight(seen):
    """What is wrong with what a page shows (see inspection.js), by what should have been."""
    figures = [each for each in seen["figures"] if min(len(each["caption"]), len(each["alternative"])) <= 20]
    written, rendered, wrong = seen["formulas"]
    texts = 4 * (len(seen["figures"]) - seen["viewers"])  # a viewer has no text in its images
    return {
        "the theme is the one the reader's system asks for": None if seen["theme"] == seen["asked"] else seen["theme"],
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
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    faults = faults_of_loading(loaded, site) | faults_of_sight(page.evaluate(INSPECTION, CONTRAST))
    if rules := AXE_SEES.get((page.viewport_size["width"], theme)):
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
    """What axe finds against ``rules`` (WCAG 2.2, levels A and AA, its own good practice): rule, and where."""
    page.evaluate(AXE)
    found = page.evaluate(AXE_LOOKS, [AXE_WHERE, AXE_HOW | {"runOnly": rules}])["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:150]} ({len(each['nodes'])})" for each in found]
