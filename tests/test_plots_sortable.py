"""The sortable table: what its cells say, and how it sorts, filters and downloads in a real browser."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_plots_saliency import in_browser

from tests.book.conftest import watched
from tumorbench_utils.plots.sortable import Column, Filter, SortableError, sortable

NAN = float("nan")
TABLE = pd.DataFrame(
    [
        # ties in accuracy (a, b), numbers that differ only behind the digits shown (a, d), text with markup
        ("alpha", 0.7, 0.6, 0.8, "", "", NAN, "MIT", False, ""),
        ("Beta <b>& co</b>", 0.7, NAN, NAN, "phantom", "", 0.886, "Apache-2.0", False, ""),
        ("gamma", NAN, NAN, NAN, "", 'not "run"', 0.5, None, False, ""),
        ("delta", 0.7004, 0.65, 0.75, "", "", 0.9, "none", True, "untrained, control"),
        ("epsilon", -0.2, -0.3, 0.1, "", "", 12345.0, "MIT", True, "control"),
    ],
    columns=["title", "auc", "auc_low", "auc_high", "auc_mark", "auc_why", "study", "licence", "control", "tags"],
)
COLUMNS = [
    Column("title", "model"),
    Column("auc", "within", help="mean AUC"),
    Column("study", "AUC", published=True),
    Column("licence", "licence"),
]
FILTERS = [Filter("control", "hide controls"), Filter("computed", "hide phantoms", cells="phantom")]
TABLE["computed"] = False
RECORD = {"versions": {"tumorbench": "0.1"}, "inputs": {"x.csv": "ab"}}


def made(table=TABLE, caption="Five <rows>", **options):
    return sortable(table, caption, COLUMNS, FILTERS, RECORD, tags="tags", **options)


def cells(page):
    """Cells of each row of the body, as HTML."""
    rows = re.findall(r"<tr data-flags[^>]*>(.*?)</tr>", page)
    return [re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row) for row in rows]


def test_cells_hold_numbers_with_their_intervals_and_the_exact_value_to_sort_by():
    (first, beta, *_, last) = cells(made().html)
    assert first[1] == (' data-value="0.7"', "0.70<small>0.60 to 0.80</small>")
    assert beta[1][0] == ' data-mark="phantom" data-value="0.7"'
    assert beta[1][1] == "0.70<span data-tags><span>phantom</span></span>"  # no interval known
    assert last[1] == (' data-value="-0.2"', "−0.20<small>−0.30 to 0.10</small>")
    assert last[2] == (' class="tb-published" data-value="12345.0"', "12,345.00")


def test_a_missing_value_is_a_dash_with_its_reason_and_without_a_value_to_sort_by():
    gamma = cells(made().html)[2]
    assert gamma[1] == (' title="not &quot;run&quot;"', "–")
    assert gamma[3] == ("", "–")
    infinite = TABLE.assign(study=[np.inf, -np.inf, 0.5, 0.9, 1.0])
    assert [row[2][1] for row in cells(made(infinite).html)[:2]] == ["–", "–"]


def test_a_value_has_a_tip_if_the_table_gives_one():
    table = pd.DataFrame({"model": ["a", "b"], "n": [2.0, 1.0], "n_tip": ["one & two", ""]})
    page = sortable(table, "Counts.", (Column("model", "model"), Column("n", "cohorts", digits=0))).html
    assert '<td title="one &amp; two" data-value="2.0">2</td>' in page and '<td data-value="1.0">1</td>' in page


def test_text_is_escaped_wherever_it_stands():
    table = TABLE.assign(licence="<i>", auc_why="<i>", auc_mark="<i>", tags="<i>")
    page = sortable(table, "<i>", [Column("title", "<i>", help="<i>"), *COLUMNS[1:]], [Filter("control", "<i>")],
                    tags="tags")  # fmt: skip
    assert "<i>" not in page.html and "<b>" not in page.html
    assert "Beta &lt;b&gt;&amp; co&lt;/b&gt;" in page.html


def test_tags_stand_under_the_head_of_their_row():
    found = [row[0][1] for row in cells(made().html)]
    assert found[3] == "delta<span data-tags><span>untrained</span><span>control</span></span>"
    assert found[0] == "alpha"


def test_a_table_asks_for_nothing_shares_no_identifier_and_is_the_same_again():
    pages = [made(caption=caption).html for caption in ("one", "two")]
    ids = [re.findall(r'\bid="([^"]+)"', page) for page in pages]
    assert all(len(each) == 1 for each in ids) and ids[0] != ids[1]
    for page, (key,) in zip(pages, ids, strict=True):
        bare = re.sub(r"base64,[A-Za-z0-9+/=]*", "", page)
        assert "http" not in bare and "//" not in bare and "src=" not in bare and "@import" not in bare
        assert "\n" not in page.split("<script>")[0]  # no line that Markdown would end the figure at
        assert f'getElementById("{key}")' in page
    assert made(caption="one").html == pages[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sortable(TABLE, "c", [Column("speed", "s")]), "no column speed; it has title, auc"),
        (lambda: sortable(TABLE, "c", COLUMNS, [Filter("phantom", "f")]), "no column phantom"),
        (lambda: sortable(TABLE, "c", COLUMNS, tags="labels"), "no column labels"),
        (lambda: sortable(TABLE, "c", []), "no column to show"),
    ],
)
def test_columns_that_are_not_there_are_named(call, message):
    with pytest.raises(SortableError, match=message):
        call()


def test_an_empty_table_has_heads_and_no_rows():
    page = made(TABLE.head(0)).html
    assert page.count("<th ") == 4 and "<output>0 rows</output>" in page


# In a browser


def names(page):
    """The models of the rows in sight, from the top, in the first of the tables of a page."""
    rows = page.locator("figure").first.locator("tbody tr:visible th")
    return [each.split("\n")[0].strip() for each in rows.all_inner_texts()]


def looked_at(page):
    """Whether the page is as wide as its screen, the first column stays in sight, and text stands out.

    The edge of the box fades as long as there is more beyond it, which is waited for.
    """
    box = page.locator("[data-box]").first
    before = box.locator("tbody th").first.bounding_box()["x"]
    first = box.locator("tbody th").first.bounding_box()["width"] / box.bounding_box()["width"]
    more = page.locator("figure").first.locator("[data-more]")
    more.wait_for(timeout=5000)
    fades = more.evaluate("e => getComputedStyle(e).maskImage") != "none"
    box.evaluate("e => { e.scrollLeft = 10000; }")
    more.wait_for(state="detached", timeout=5000)
    moved = box.evaluate("e => e.scrollLeft")
    after = box.locator("tbody th").first.bounding_box()["x"]
    box.evaluate("e => { e.scrollLeft = 0; }")
    colours = "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor]; }"
    cell = [sum(map(int, re.findall(r"\d+", each)[:3])) / 765 for each in box.locator("td").first.evaluate(colours)]
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return {"overflow": wide, "scrolled": moved, "stays": after - before, "first": first, "fades": fades,
            "dark": cell[0] > 0.8 > 0.2 > cell[1], "light": cell[1] > 0.8 > 0.2 > cell[0]}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a reader sees and does on a page with two tables, in one visit of a browser."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    theme = '<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>t</title>'
    path.write_text(f"<!doctype html>{theme}{made().html}{made(caption='second').html}", encoding="utf-8")

    def task(chromium):
        found = {}
        page = chromium.new_context(viewport={"width": 390, "height": 900}, accept_downloads=True).new_page()
        visit = watched(page)
        page.goto(path.as_uri())
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            found[theme] = looked_at(page)
        first = page.locator("figure").first
        heads, said = first.locator("thead th"), first.locator("output")
        found["at first"] = names(page), said.inner_text()

        def after(key, action):
            action()
            sorts = heads.evaluate_all("all => all.map(each => each.getAttribute('aria-sort'))")
            found[key] = names(page), said.inner_text(), sorts

        for key in ("down", "up"):
            after(key, heads.nth(1).get_by_role("button").click)
        box = first.get_by_label("hide phantoms")
        after("blank", box.check)
        found["cell"] = first.locator("tbody tr", has_text="Beta").locator("td").first.inner_text()
        after("back", box.uncheck)
        after("text", heads.nth(0).get_by_role("button").click)
        heads.nth(2).get_by_role("button").focus()
        after("enter", lambda: page.keyboard.press("Enter"))
        after("space", lambda: page.keyboard.press("Space"))
        page.keyboard.press("Tab")
        found["tab"] = page.evaluate("document.activeElement.closest('th')?.dataset.name")
        after("hidden", lambda: first.get_by_label("hide controls").check())
        after("searched", lambda: first.get_by_label("Search rows").fill("  BETA apache "))
        after("nothing", lambda: first.get_by_label("Search rows").fill("beta mit"))
        found["second"] = page.locator("figure").nth(1).locator("tbody tr:visible").count()
        for kind in ("csv", "json"):
            with page.expect_download() as download:
                first.get_by_role("link", name=f"leaderboard.{kind}").click()
            found[kind] = download.value.suggested_filename, Path(download.value.path()).read_text("utf-8")
        found["asked"] = [each.url for each in visit.requests if not each.url.startswith(("file:", "data:"))]
        found["complaints"] = visit.messages
        bare = chromium.new_context(java_script_enabled=False).new_page()
        bare.goto(path.as_uri())
        found["bare"] = names(bare), bare.locator("input:visible").count(), bare.locator("button").count()
        return found

    return in_browser(task)


ORDER = ["alpha", "Beta <b>& co</b>", "gamma", "delta", "epsilon"]
NONE = "none"


def test_rows_start_in_the_order_of_the_table(seen):
    assert seen["at first"] == (ORDER, "5 of 5 rows")


def test_a_click_sorts_by_the_exact_number_keeps_ties_in_order_and_puts_what_is_missing_last(seen):
    rows, said, sorts = seen["down"]
    assert rows == ["delta", "alpha", "Beta <b>& co</b>", "epsilon", "gamma"]
    assert said == "5 of 5 rows, by within, descending" and sorts == [NONE, "descending", NONE, NONE]


def test_a_second_click_turns_the_order_and_what_is_missing_stays_last(seen):
    rows, _, sorts = seen["up"]
    assert rows == ["epsilon", "alpha", "Beta <b>& co</b>", "delta", "gamma"]
    assert sorts == [NONE, "ascending", NONE, NONE]


def test_text_is_sorted_upwards_first_and_without_regard_to_capitals(seen):
    rows, _, sorts = seen["text"]
    assert rows == ["alpha", "Beta <b>& co</b>", "delta", "epsilon", "gamma"]
    assert sorts == ["ascending", NONE, NONE, NONE]


def test_the_keyboard_reaches_every_head_and_sorts_by_enter_and_space(seen):
    rows, _, sorts = seen["enter"]  # 12,345 is above 0.9 though its first digit is not
    assert rows == ["epsilon", "delta", "Beta <b>& co</b>", "gamma", "alpha"]
    assert sorts[2] == "descending" and seen["space"][2][2] == "ascending"
    assert seen["space"][0] == ["gamma", "Beta <b>& co</b>", "delta", "epsilon", "alpha"]
    assert seen["tab"] == "licence"


def test_checkbox_and_search_hide_rows_and_say_how_many_are_left(seen):
    assert seen["hidden"][:2] == (["gamma", "Beta <b>& co</b>", "alpha"], "3 of 5 rows, by AUC, ascending")
    assert seen["searched"][:2] == (["Beta <b>& co</b>"], "1 of 5 rows, by AUC, ascending")
    assert seen["nothing"][0] == []


def test_cells_of_phantoms_can_be_blanked_and_are_then_sorted_as_missing(seen):
    rows, said, _ = seen["blank"]
    assert rows == ["epsilon", "alpha", "delta", "Beta <b>& co</b>", "gamma"] and said.startswith("5 of 5 rows")
    assert seen["cell"] == "–" and seen["back"] == seen["up"]


def test_another_table_of_the_page_stays_as_it_is(seen):
    assert seen["second"] == 5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_the_table_scrolls_in_its_own_box_and_the_models_stay_in_sight(seen, theme):
    found = seen[theme]
    assert found["overflow"] <= 0 < found["scrolled"] and abs(found["stays"]) < 1.5
    assert found["first"] < 0.36 and found["fades"]
    assert found[theme]  # colours of the reader's theme


def test_the_csv_that_is_downloaded_is_the_table(seen):
    name, text = seen["csv"]
    assert name == "leaderboard.csv"
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["title"] for row in rows] == ORDER and rows[3]["auc"] == "0.7004" and rows[2]["auc"] == ""
    assert set(rows[0]) == set(TABLE)


def test_the_json_that_is_downloaded_has_the_rows_and_what_they_were_made_of(seen):
    name, text = seen["json"]
    whole = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert name == "leaderboard.json" and whole["provenance"] == RECORD
    assert [row["title"] for row in whole["rows"]] == ORDER
    assert whole["rows"][2]["auc"] is None and whole["rows"][3]["control"] is True


def test_nothing_is_asked_for_and_nothing_complains(seen):
    assert (seen["asked"], seen["complaints"]) == ([], [])


def test_without_javascript_it_is_a_plain_table(seen):
    rows, inputs, buttons = seen["bare"]
    assert (rows, inputs, buttons) == (ORDER, 0, 0)


def test_numbers_of_numpy_and_accents_survive_the_download():
    table = TABLE.assign(title="Ünï", auc=np.float32(0.5), control=np.array([1, 0, 1, 0, 1], np.int64))
    data = re.search(r"application/json;charset=utf-8;base64,([^\"]*)", made(table).html)[1]
    row = json.loads(base64.b64decode(data))["rows"][0]
    assert (row["title"], row["auc"], row["control"]) == ("Ünï", 0.5, 1)
