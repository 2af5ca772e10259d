"""Figures of external validation draw what their tables say, and their texts fit a phone."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.container import BarContainer
from numpy.testing import assert_allclose
from test_plots_curation import drawn, overlap, words

from tumorbench_utils.plots import external
from tumorbench_utils.plots.base import MUTED, OURS, SECOND, WIDTH, Shown

LONG = "Random encoder (untrained ResNet-18), second recipe of its authors, with a name that does not end"
TITLES = ["FMCIB", LONG, "Tumour volume"]


def ends(table, half=0.08, suffix=""):
    value = table[f"value{suffix}"]
    return table.assign(**{f"low{suffix}": value - half, f"high{suffix}": value + half})


def compared(titles=TITLES):
    rows = [(title, head) for title in titles for head in ("kNN", "linear probe")]
    table = pd.DataFrame(rows, columns=["title", "head"])
    table["value_within"], table["value_external"] = 0.8 - 0.01 * table.index, 0.6 + 0.01 * table.index
    return ends(ends(table, suffix="_within"), suffix="_external")


def marks(axis, shape):
    """(x, y, colour) of every mark of a shape, those of the legend left out."""
    lines = [line for line in axis.lines if line.get_marker() == shape]
    return [(x, y, line.get_color()) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def segments(axis):
    return [tuple(np.sort(path[:, 0])) for each in axis.collections for path in each.get_segments()]


def test_pairs_of_figures_are_joined_and_drawn_as_they_are():
    figure = external.slopes(compared(), "site A", "site B")
    axis = figure.axes[0]
    table = compared()
    for head, shape, colour in (("kNN", "o", OURS), ("linear probe", "s", SECOND)):
        found = marks(axis, shape)
        rows = table[table["head"] == head]
        assert_allclose([x for x, _, _ in found], rows["value_external"])
        assert all(same_color(each, colour) for _, _, each in found)
        assert [y for _, y, _ in found] == sorted(y for _, y, _ in found)  # the order of the table, from the top down
    within = marks(axis, "|")
    assert sorted(x for x, _, _ in within) == pytest.approx(sorted(table["value_within"]))
    assert all(same_color(colour, MUTED) for _, _, colour in within)
    joins = [line.get_xdata() for line in axis.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2]
    pairs = {tuple(np.round(each, 6)) for each in joins}
    assert pairs >= {
        tuple(np.round(pair, 6)) for pair in zip(table["value_within"], table["value_external"], strict=True)
    }
    limits = {tuple(np.round(pair, 6)) for pair in segments(axis)}
    for which in ("within", "external"):
        expected = zip(table[f"low_{which}"], table[f"high_{which}"], strict=True)
        assert limits >= {tuple(np.round(pair, 6)) for pair in expected}
    assert "Learnt in site A,\ntested in site B" in words(figure)


def test_forest_marks_each_series_in_its_row_and_says_the_line():
    table = pd.DataFrame({"title": ["A", "B", "A"], "series": ["kNN", "kNN", "linear"], "value": [-0.1, 0.05, 0.0]})
    figure = external.forest(ends(table), "difference", 0.0)
    axis = figure.axes[0]
    knn, linear = marks(axis, "o"), marks(axis, "s")
    assert [x for x, _, _ in knn] == [-0.1, 0.05] and [x for x, _, _ in linear] == [0.0]
    assert knn[0][1] < linear[0][1] < knn[1][1]  # A's two above B's
    assert {tuple(np.round(pair, 6)) for pair in segments(axis)} == {(-0.18, -0.02), (-0.03, 0.13), (-0.08, 0.08)}
    assert any(list(line.get_xdata()) == [0, 0] and line.get_linestyle() == ":" for line in axis.lines)
    assert axis.get_xlabel() == "difference"
    with pytest.raises(ValueError, match="5 series, of which at most 4"):
        external.forest(ends(pd.DataFrame({"title": "A", "series": list("abcde"), "value": 0.5})), "AUC")


def test_the_worst_case_is_ranked_ties_share_a_rank_and_the_cohort_is_named():
    table = pd.DataFrame({"title": ["A", "B", "C", "D"], "head": ["kNN", "linear probe", "kNN", "kNN"],
                          "where": ["site B", "site A", "site A", "site B"],
                          "value": [0.7, 0.6, 0.6, 0.5]})  # fmt: skip
    figure = external.worst(ends(table))
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["1. A", "2. B", "2. C", "4. D"]
    assert [text.get_text() for text in axis.texts] == [f"in {where}" for where in table["where"]]
    assert_allclose([text.xy[0] for text in axis.texts], table["value"])
    found = sorted(marks(axis, "o") + marks(axis, "s"), key=lambda mark: mark[1])
    assert [x for x, _, _ in found] == list(table["value"])
    assert [same_color(colour, SECOND) for _, _, colour in found] == [False, True, False, False]


def test_cohorts_are_counted_by_class_and_their_volumes_drawn_with_medians():
    a = pd.DataFrame({"label": [1] * 3 + [0] * 5, "volume_ml": [1, 2, 4, 10, 20, 30, 40, np.nan]})
    b = pd.DataFrame({"label": [1] * 2 + [0] * 2, "volume_ml": [5.0, 7, 0, 3]})
    figure = external.sites({"site A": a, "site B": b})
    counts = [bar[0].get_width() for bar in figure.axes[0].containers if isinstance(bar, BarContainer)]
    assert counts == [3, 5, 2, 2]
    shown = words(figure)
    assert {"3 (38%)", "5 (62%)", "2 (50%)"} <= set(shown)
    medians = [x for x, _, _ in marks(figure.axes[1], "|")]
    assert medians == [2, 25, 6, 3]  # what is no number, or 0, has no place on the axis
    assert figure.axes[1].get_xscale() == "log" and len(figure.axes) == 2
    assert len(external.sites({"site A": a.drop(columns="volume_ml")}).axes) == 1


@pytest.mark.parametrize(
    "figure",
    [
        lambda: external.slopes(compared(), "PHANTOM, site A", "PHANTOM, site B"),
        lambda: external.worst(compared().rename(columns=lambda name: name.removesuffix("_external"))
                               .assign(where="PHANTOM, site B")),
        lambda: external.forest(ends(compared().assign(series="PHANTOM, site A or PHANTOM, site B?",
                                                       value=0.7).drop_duplicates("title")), "AUC for the cohort"),
        lambda: external.sites({"PHANTOM, site A": pd.DataFrame({"label": [0, 1] * 600, "volume_ml": 3.0})}),
    ],
)  # fmt: skip
def test_texts_are_legible_apart_and_within_the_width_of_a_phone(figure, monkeypatch):
    made = figure()
    texts = drawn(made, monkeypatch)
    assert len(texts) > 5 and made.get_figwidth() == WIDTH
    assert min(text.get_fontsize() for text, _ in texts) >= 8
    for text, ((left, low), (right, high)) in texts:
        inside = left > -0.5 and low > -0.5 and right < WIDTH * 72 + 0.5 and high < made.get_figheight() * 72 + 0.5
        assert inside, text.get_text()
    clash = [(a.get_text(), b.get_text()) for (a, one), (b, other) in combinations(texts, 2) if overlap(one, other) > 1]
    assert clash == []
    assert "<svg" in Shown(made, "Caption.", "Text.", "phantom")._repr_html_()


def test_empty_tables_say_so_and_lacking_columns_are_named():
    for figure, sentence in (
        (external.slopes(pd.DataFrame(), "a", "b"), "No model was judged in another cohort."),
        (external.worst(pd.DataFrame()), "No model was judged in another cohort."),
        (external.forest(pd.DataFrame(), "AUC", lacking="Nobody."), "Nobody."),
    ):
        assert sentence in words(figure)
    with pytest.raises(ValueError, match="slopes: the table has no column low_external"):
        external.slopes(compared().drop(columns="low_external"), "a", "b")
    with pytest.raises(ValueError, match="worst: the table has no column where"):
        external.worst(pd.DataFrame({"title": ["A"], "head": "kNN", "value": 1, "low": 1, "high": 1}))
