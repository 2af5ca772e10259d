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
from tumorbench_utils.plots.probes import forest

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


def test_the_worst_case_is_named_with_its_rank_and_cohort():
    table = pd.DataFrame({"rank": [1, 2, 2, 4], "title": ["A", "B", "C", "D"],
                          "head": ["kNN", "linear probe", "kNN", "kNN"],
                          "where": ["site B", "site A", "site A", "site B"],
                          "value": [0.7, 0.6, 0.6, 0.5]})  # fmt: skip
    figure = external.worst(ends(table))
    axis = figure.axes[0]
    named = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    assert named == ["1. A, in site B", "2. B, in site A", "2. C, in site A", "4. D, in site B"]
    found = sorted(marks(axis, "o") + marks(axis, "s"), key=lambda mark: mark[1])
    assert [x for x, _, _ in found] == list(table["value"])
    assert [same_color(colour, SECOND) for _, _, colour in found] == [False, True, False, False]
    best = external.worst(ends(table.assign(head=["linear probe", "kNN", "kNN", "kNN"]))).axes[0]
    assert [same_color(colour, SECOND) for _, _, colour in marks(best, "s")] == [True]  # not by who is first
    one = external.slopes(compared().query("head == 'linear probe'"), "A", "B").axes[0]
    assert all(same_color(colour, SECOND) for _, _, colour in marks(one, "s")) and not marks(one, "o")


def test_cohorts_are_counted_by_class_and_their_volumes_drawn_with_medians():
    a = pd.DataFrame({"label": [1] * 3 + [0] * 5, "volume_ml": [1, 2, 4, 10, 20, 30, 40, np.nan]})
    b = pd.DataFrame({"label": [1] * 2 + [0] * 2, "volume_ml": [5.0, 7, 0, 3]})
    figure = external.sites({"site A": a, "site B": b})
    counts = [bar[0].get_width() for bar in figure.axes[0].containers if isinstance(bar, BarContainer)]
    assert counts == [3, 5, 2, 2]
    shown = words(figure)
    assert {"3 (38 %)", "5 (62 %)", "2 (50 %)"} <= set(shown)
    medians = [x for x, _, _ in marks(figure.axes[1], "|")]
    assert medians == [2, 25, 6, 3]  # what is no number, or 0, has no place on the axis
    assert figure.axes[1].get_xscale() == "log" and len(figure.axes) == 2
    assert len(external.sites({"site A": a.drop(columns="volume_ml")}).axes) == 1


@pytest.mark.parametrize(
    "figure",
    [
        lambda: external.slopes(compared(), "PHANTOM, site A", "PHANTOM, site B"),
        lambda: external.worst(compared().rename(columns=lambda name: name.removesuffix("_external"))
                               .assign(where="PHANTOM, site B", rank=1)),
        lambda: forest(ends(compared().assign(series="one", value=0.7).drop_duplicates("title")),
                       "AUC for the cohort", title="PHANTOM, site A\nor PHANTOM, site B?"),
        lambda: forest(ends(compared().rename(columns={"head": "series", "value_within": "value"})),
                       "difference in AUC, external − within", 0.0, "Learnt in PHANTOM, site A,\ntested in PHANTOM, B"),
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
    ):
        assert sentence in words(figure)
    with pytest.raises(ValueError, match="slopes: the table has no column low_external"):
        external.slopes(compared().drop(columns="low_external"), "a", "b")
    with pytest.raises(ValueError, match="worst: the table has no column where"):
        external.worst(pd.DataFrame({"rank": [1], "title": ["A"], "head": "kNN", "value": 1, "low": 1, "high": 1}))
