"""The scripts with which the tests look at a page find faults that are planted in one."""

import pytest
from every_page import STANDARDS, violations

TEXTS = "".join(f'<p style="font-size: {size}px">Readable text.</p>' for size in range(10, 20))
PAGE = '<html lang="en"><head><title>A page</title></head><body><main><h1>A page</h1>{}{}</main></body></html>'


@pytest.fixture(scope="module")
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(
    "planted",
    [
        '<p style="color: #aaa">faint</p>',
        '<p style="color: #aaa">faint</p>' * 300,
        '<div style="background: #333"><p>as dark as its ground</p></div>',
        '<div style="background: rgba(60, 60, 60, 0.9)"><p>as dark as its ground</p></div>',
        '<div style="opacity: 0.4"><p>faint with all that holds it</p></div>',
    ],
)
def test_faint_text_is_found_wherever_it_stands(page, planted):
    page.set_content(PAGE.format(TEXTS, planted))
    (found,) = violations(page, [])
    assert found.startswith("color-contrast: <p")


def test_a_name_that_is_lacking_is_found(page):
    page.set_content(PAGE.format(TEXTS, '<img src="data:," style="width: 30px"><a href="#"></a>'))
    assert {each.split(":")[0] for each in violations(page, STANDARDS)} == {"image-alt", "link-name"}


def test_nothing_is_found_where_nothing_is_wrong(page):
    page.set_content(PAGE.format(TEXTS, '<p style="display: none; color: #aaa">hidden</p>'))
    assert violations(page, STANDARDS) == []
    assert page.locator("[data-one]").count() == 0


def test_a_page_without_text_is_no_clean_page(page):
    page.set_content(PAGE.format("", ""))
    assert violations(page, STANDARDS) == ["no text was seen"]
