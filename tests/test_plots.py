"""Every figure draws, is valid SVG of the page's width, and carries its caption and alternative text."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tumorbench_utils import plots

RNG = np.random.default_rng(0)
FOREST = pd.DataFrame(
    {"title": ["A", "A", "B"], "series": ["published", "as in the study", "as in the study"],
     "auc": [0.6, 0.61, 0.5], "low": [0.55, 0.5, 0.4], "high": [0.65, 0.7, 0.6]}
)  # fmt: skip
FOLLOWED = pd.DataFrame(
    {
        "label": RNG.integers(0, 2, 60).astype(float),
        "time_days": RNG.exponential(800, 60),
        "event": RNG.integers(0, 2, 60),
    }
)
PREDICTED = pd.DataFrame(
    {"split": np.repeat([0, 1], 30), "label": RNG.integers(0, 2, 60), "probability": RNG.random(60)}
)
PAIRED = pd.DataFrame(
    {"control": ["x", "y"], "difference": [0.1, -0.1], "low": [0, -0.2], "high": [0.2, 0], "p_holm": [0.1, 0.2]}
)
FIGURES = {
    "cohort with follow-up": lambda: plots.cohort_glance(FOLLOWED, "endpoint"),
    "cohort without follow-up": lambda: plots.cohort_glance(FOLLOWED[["label"]], "endpoint"),
    "forest": lambda: plots.auc_forest(FOREST),
    "curves": lambda: plots.validation_curves(
        RNG.random((3, 9)), [1, 5, 9], pd.DataFrame({"k": range(1, 10), "auc": RNG.random(9)}), 0
    ),
    "roc": lambda: plots.roc_bands({"A": PREDICTED, "B": PREDICTED, "C": PREDICTED, "D": PREDICTED}),
    "differences": lambda: plots.differences(PAIRED),
    "spread": lambda: plots.spread({"orders": RNG.random(50)}, {"reported": 0.5}, "AUC"),
    "heat map": lambda: plots.auc_heatmap(pd.DataFrame(RNG.random((3, 2)), index=list("abc"), columns=["x", "y"])),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_accessible_inline_svg(name):
    page = plots.Shown(FIGURES[name](), 'A caption with "quotes" & <signs>', "What <it> shows")._repr_html_()
    figure = ElementTree.fromstring(page.replace("xlink:href", "href"))
    svg, caption = list(figure)
    assert svg.get("role") == "img" and svg.get("aria-label") == "What <it> shows"
    assert caption.text == 'A caption with "quotes" & <signs>'
    assert svg.get("viewBox").split()[2] == f"{plots.WIDTH * 72:g}"  # the width all figures share, in points
    assert plots.INK not in page and "currentColor" in page  # text takes the colour of the page
    assert "<script" not in page and "<metadata" not in page
    ids = [element.get("id") for element in svg.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_two_figures_of_a_page_share_no_identifier():
    pages = [plots.Shown(plots.auc_forest(FOREST), "c", alt)._repr_html_() for alt in ("one", "two")]
    found = [{e.get("id") for e in ElementTree.fromstring(page.replace("xlink:href", "href")).iter()} for page in pages]
    assert found[0] & found[1] == {None}


def test_the_same_figure_gives_the_same_bytes():
    first, second = (plots.Shown(plots.auc_forest(FOREST), "c", "a")._repr_html_() for _ in range(2))
    assert first == second


def test_published_marks_are_hollow():
    figure = plots.auc_forest(FOREST)
    fills = {
        line.get_marker(): line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() in "Do"
    }
    assert fills["D"] == "none" and fills["o"] != "none"


def test_follow_up_curve_is_the_kaplan_meier_estimate():
    time, event = np.array([1.0, 2, 3, 4]) * 365.25, np.array([1, 0, 1, 0])
    table = pd.DataFrame({"label": [0.0, 1, 1, 1], "time_days": time, "event": event})
    curve = plots.cohort_glance(table, "endpoint").axes[1].lines[0]
    drawn = dict(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
    # by hand: 3/4 alive after year 1; of two at risk in year 3 one dies: 3/4 x 1/2
    assert drawn[1.0] == pytest.approx(0.75) and drawn[3.0] == pytest.approx(0.375)
    assert stats.ecdf(stats.CensoredData([1, 3], right=[2, 4])).sf.evaluate(3.5) == pytest.approx(0.375)


def test_tables_hide_the_index_and_round():
    text = plots.table(pd.DataFrame({"auc": [0.57912], "n": [1234]}), "A caption").to_html()
    assert "0.579" in text and "1,234" in text and "A caption" in text


def test_cells_of_tables_may_wrap_but_not_inside_of_an_interval_and_long_ones_keep_a_width():
    frame = pd.DataFrame({"rule": ["a sentence that says at length what was asked of whom", "short"],
                          "file": ["x" * 21, "0.71 (0.60 to 0.81)"], "mixed": [0.12345, "two"],
                          "n": [1, 2]})  # fmt: skip
    styler = plots.table(frame, published=["n"])
    text = styler.to_html()
    assert "0.71 (0.60\xa0to\xa00.81)" in text and "0.123<" in text and "what was asked of whom" in text
    assert re.findall(r"row(\d) col(\d) tb-long", text) == [("0", "0"), ("0", "1")]
    assert text.count("tb-published") == 2
    assert frame["file"][1] == "0.71 (0.60 to 0.81)"  # the table itself is as it was


def test_rows_of_a_table_stand_together_below_what_they_share():
    frame = pd.DataFrame({"judge": ["a", "b", "a"], "n": [1000, 2, 3], "auc": [0.5, np.nan, -0.001],
                          "way": ["X → Y", "Y → X", "X → Y"]})  # fmt: skip
    styler = plots.table(frame, digits=2, published=["auc"], by="way")
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in styler.to_html().split("<tr>")[2:]]
    assert cells == [["X → Y", "", ""], ["a", "1,000", "0.50"], ["a", "3", "0.00"], ["Y → X", "", ""], ["b", "2", "–"]]
    assert styler.to_html().count("tb-group") == 2 and styler.to_html().count("tb-published") == 2


def test_provenance_names_versions_parameters_and_inputs():
    record = {"versions": {"numpy": "2"}, "parameters": {"cohort": "x"}, "inputs": {"a.parquet": "f" * 64}}
    text = plots.provenance(record).to_html()
    assert "numpy" in text and "cohort" in text and "f" * 16 + "…" in text


def test_a_mark_is_in_the_figure_the_caption_and_the_alternative_text():
    page = plots.Shown(plots.auc_forest(FOREST), "What it shows", "Dots", "phantom")._repr_html_()
    assert ">phantom</text>" in page and "<figcaption>PHANTOM: What it shows" in page and "PHANTOM: Dots" in page
    plain = plots.Shown(plots.auc_forest(FOREST), "What it shows", "Dots")._repr_html_()
    assert "phantom" not in plain.lower()
