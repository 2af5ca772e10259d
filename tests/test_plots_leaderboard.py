"""Figures of the leaderboard: they draw the ranks they were given, in the colour of their source, and stay legible."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from numpy.testing import assert_allclose, assert_array_equal
from test_plots_curation import words
from test_plots_extraction import boxes_are_apart

from tumorbench_utils import plots, published
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.models import TEN
from tumorbench_utils.plots import leaderboard


def study():
    """Ranks of ten models in six cohorts as published, by title."""
    wide = published.figures("auc").pivot(index="model", columns="cohort", values="auc")
    wide = wide.rename(index=lambda name: TEN.get(name).title, columns=lambda name: COHORTS.get(name).title)
    return wide.rank(ascending=False)


RANKS = study()
TIED = pd.DataFrame({"one": [1.0, 2.5, 2.5, np.nan], "two": [4.0, 3.0, 2.0, 1.0]}, index=list("abcd"))
LONG = ["Random encoder (untrained ResNet-18)", "Astra (third-party copy)", "Radiomics (handcrafted)"]
MEANS = pd.DataFrame({"title": [*LONG, "d"], "mean_rank": [1.2, 2.0, 2.9, 3.9]})
BANDS = MEANS.assign(low=[1.0, np.nan, 2.0, 3.1], high=[1.9, np.nan, 3.3, 4.0])
GROUPS = [LONG[:2], LONG[1:], ["d"]]


def pairs(titles, several):
    rows = []
    for first, one in enumerate(titles):
        for second, two in enumerate(titles):
            if first != second:
                rows.append((one, two, 4 * several * (first < second) + (first < second), several, first > second))
    return pd.DataFrame(rows, columns=["first", "second", "wins", "ties", "losses"]).astype(
        {"wins": int, "losses": int}
    )


def single():
    """One cohort: a beats b, a and c are not told apart, b and c were not compared."""
    rows = [("a", "b", 1, 0, 0), ("b", "a", 0, 0, 1), ("a", "c", 0, 1, 0), ("c", "a", 0, 1, 0), ("b", "c", 0, 0, 0)]
    return pd.DataFrame(rows, columns=["first", "second", "wins", "ties", "losses"])


def beyond(n=10):
    table = pd.DataFrame({"title": list(RANKS.index[:n]), "retest": np.linspace(0, 1, n), "kappa": np.nan})
    return table.assign(retest_low=table["retest"] - 0.1, retest_high=table["retest"] + 0.1, speed=3.0, focus=0.1)


def narrow():
    """Ticks of several figures with signs in three panels beside each other, as of one run."""
    table = pd.DataFrame({"title": LONG, "one": [-0.118, -0.16, -0.238], "two": [0.27, 0.5, 0.695]})
    return table.assign(three=table["one"] / 100)


PANELS = {"retest": "retest identification", "kappa": "kappa", "speed": "seconds a patch", "focus": "tumour focus"}

FIGURES = {
    "heat, study": lambda: leaderboard.rank_heatmap(RANKS, published=True),
    "heat, seen": lambda: leaderboard.rank_heatmap(RANKS, RANKS > 3),
    "heat, tied": lambda: leaderboard.rank_heatmap(TIED),
    "heat, long": lambda: leaderboard.rank_heatmap(pd.DataFrame({"PHANTOM A": [1.0, 2, 3]}, index=LONG)),
    "heat, none": lambda: leaderboard.rank_heatmap(pd.DataFrame()),
    "lines, study": lambda: leaderboard.trajectories(RANKS, published=True),
    "lines, tied": lambda: leaderboard.trajectories(TIED),
    "lines, long": lambda: leaderboard.trajectories(pd.DataFrame(1.0, index=LONG, columns=["PHANTOM A", "B"])),
    "lines, one cohort": lambda: leaderboard.trajectories(TIED[["one"]]),
    "means": lambda: leaderboard.mean_ranks(BANDS),
    "means, none": lambda: leaderboard.mean_ranks(BANDS.head(0)),
    "difference": lambda: leaderboard.critical_difference(MEANS, 1.5, GROUPS),
    "difference, too long": lambda: leaderboard.critical_difference(MEANS, 9.0, [list(MEANS["title"])]),
    "difference, unknown": lambda: leaderboard.critical_difference(MEANS, np.nan, []),
    "difference, none": lambda: leaderboard.critical_difference(MEANS.head(0), 1.0, []),
    "wins": lambda: leaderboard.pairwise_wins(pairs(list(RANKS.index), 3)),
    "wins, one cohort": lambda: leaderboard.pairwise_wins(single()),
    "wins, long": lambda: leaderboard.pairwise_wins(pairs(LONG, 2)),
    "wins, none": lambda: leaderboard.pairwise_wins(single().head(0)),
    "facets": lambda: leaderboard.facets(beyond(), PANELS),
    "facets, one": lambda: leaderboard.facets(beyond(2), {"speed": "seconds a patch"}),
    "facets, signs": lambda: leaderboard.facets(narrow(), dict.fromkeys(("one", "two", "three"), "focus minus blind")),
    "facets, none": lambda: leaderboard.facets(beyond(), {"kappa": "kappa"}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible_apart_and_within_the_figure_with_its_mark_too(name, monkeypatch):
    figure = FIGURES[name]()
    page = plots.Shown(figure, "A caption", "What <it> shows", "phantom, untrained")._repr_html_()
    boxes_are_apart(figure, monkeypatch)
    assert "phantom, untrained" in words(figure) and plots.INK not in page and len(page) < 250_000


def tiles(figure):
    """(words, colour, opacity) of the tiles of a sheet, row by row as they were drawn."""
    (axis,) = figure.axes
    found = []
    for patch in axis.patches:
        if isinstance(patch, Rectangle):
            left, top, wide, high = *patch.get_xy(), patch.get_width(), patch.get_height()
            places = [(text.get_text(), *text.get_position()) for text in axis.texts]
            inside = [words for words, x, y in places if left < x < left + wide and top < y < top + high]
            found.append((inside[0] if inside else "", to_hex(patch.get_facecolor()), patch.get_alpha()))
    return found


# Ranks


def test_tiles_hold_the_rank_of_their_row_and_column_and_ties_say_so():
    found = tiles(leaderboard.rank_heatmap(TIED))
    assert [each[0] for each in found] == ["1", "4", "2.5=", "3", "2.5=", "2", "–", "1"]
    alphas = {each[0]: each[2] for each in found}
    assert alphas["1"] > alphas["2"] > alphas["2.5="] > alphas["3"] > alphas["4"] > alphas["–"] == 0
    assert {each[1] for each in found} == {plots.OURS.lower()}
    published_tiles = tiles(leaderboard.rank_heatmap(TIED, published=True))
    assert {each[1] for each in published_tiles} == {plots.PUBLISHED.lower()}


def test_a_dagger_is_where_the_cohort_may_be_in_the_pretraining_data_and_nowhere_else():
    seen = pd.DataFrame(False, index=TIED.index, columns=list(TIED))
    seen.loc["b", "one"] = seen.loc["a", "two"] = True
    assert [each[0] for each in tiles(leaderboard.rank_heatmap(TIED, seen))][:4] == ["1", "4†", "2.5=†", "3"]
    assert sum("†" in each[0] for each in tiles(leaderboard.rank_heatmap(TIED, seen))) == 2


def test_daggers_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="rows and columns of ranks"):
        leaderboard.rank_heatmap(TIED, TIED.iloc[::-1] > 1)


def test_every_line_goes_through_the_ranks_of_its_model_and_ends_at_its_title():
    figure = leaderboard.trajectories(TIED)
    (axis,) = figure.axes
    lines = [line for line in axis.lines if line.get_marker() == "o"]
    assert sorted(tuple(np.nan_to_num(line.get_ydata())) for line in lines) == [(0, 1), (1, 4), (2.5, 2), (2.5, 3)]
    ends = {text.get_text(): text.xy[1] for text in axis.texts}
    assert ends == {"d": 1, "c": 2, "b": 3, "a": 4}
    low, high = sorted(axis.get_ylim())
    assert (low, high) == (0.5, 4.5) and axis.get_ylim()[0] > axis.get_ylim()[1]  # 1 is on top


def test_the_three_of_the_best_mean_rank_are_in_colour_the_others_grey():
    figure = leaderboard.trajectories(RANKS, published=True)
    (axis,) = figure.axes
    coloured = {tuple(line.get_ydata()) for line in axis.lines
                if line.get_marker() == "o" and line.get_color() == plots.PUBLISHED}  # fmt: skip
    best = RANKS.mean(axis=1).nsmallest(3).index
    assert coloured == {tuple(RANKS.loc[title]) for title in best}
    assert all(line.get_markerfacecolor() == "none" for line in axis.lines if line.get_marker() == "o")


@pytest.mark.parametrize(
    ("ranks", "few"),
    [
        ((1, 2, 3, 4), 3),
        ((1, 2, 3.5, 3.5), 2),
        ((1, 3, 3, 3), 1),
        ((2.5, 2.5, 2.5, 2.5), 0),
        ((1, 2.5, 2.5), 3),
        ((1, 2), 2),
    ],
)
def test_a_tie_hands_out_no_colour(ranks, few):
    assert leaderboard.leading(pd.DataFrame({"one": ranks, "two": ranks}, index=list("abcd")[: len(ranks)])) == few


def test_equal_last_ranks_have_titles_in_places_of_their_own():
    figure = leaderboard.trajectories(pd.DataFrame(2.0, index=list("abc"), columns=["one", "two"]))
    assert sorted(text.xy[1] for text in figure.axes[0].texts) == [1, 2, 3]


def test_mean_ranks_are_drawn_as_they_are_with_lines_where_there_is_an_interval():
    figure = leaderboard.mean_ranks(BANDS)
    (axis,) = figure.axes
    marks = next(line for line in axis.lines if len(line.get_xdata()) == 4)
    assert_array_equal(marks.get_xdata(), BANDS["mean_rank"])
    assert (np.diff(marks.get_ydata()) > 0).all() and axis.get_ylim()[0] > axis.get_ylim()[1]
    segments = [segment[:, 0] for segment in axis.collections[0].get_segments()]
    assert_allclose(segments, [[1.0, 1.9], [2.0, 3.3], [3.1, 4.0]])


# Critical difference


def test_bars_join_the_models_of_a_clique_and_a_model_alone_has_none():
    shuffled = MEANS.iloc[[2, 0, 3, 1]]
    figure = leaderboard.critical_difference(shuffled, 1.5, GROUPS)
    (axis,) = figure.axes
    marks = next(line for line in axis.lines if line.get_marker() == "o")
    assert_array_equal(marks.get_xdata(), MEANS["mean_rank"])  # the best first
    rows = dict(zip(MEANS["title"], marks.get_ydata(), strict=True))
    bars = [line for line in axis.lines if line.get_linewidth() == 3.5]
    ends = [sorted(bar.get_ydata()) for bar in bars]
    assert_allclose(ends, [[rows[LONG[0]] - 0.08, rows[LONG[1]] + 0.08], [rows[LONG[1]] - 0.08, rows[LONG[2]] + 0.08]])
    assert len({bar.get_xdata()[0] for bar in bars}) == 2  # beside each other


def test_the_critical_difference_is_as_long_as_it_says():
    figure = leaderboard.critical_difference(MEANS, 1.5, GROUPS)
    scale = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [1.05, 1.05]]
    assert [np.ptp(line.get_xdata()) for line in scale] == [1.5, 1.5]
    assert "critical difference 1.50" in words(figure)
    assert "critical difference 9.00, longer than the axis" in words(FIGURES["difference, too long"]())
    assert not any("critical" in text for text in words(FIGURES["difference, unknown"]()))


def test_a_clique_of_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="holds nobody"):
        leaderboard.critical_difference(MEANS, 1.0, [["nobody", LONG[0]]])


# Pairs, and the rest


def test_of_one_cohort_a_tile_says_win_loss_or_tie_in_the_row_of_the_first():
    found = tiles(leaderboard.pairwise_wins(single()))
    assert [each[0] for each in found[:5]] == ["+", "−", "=", "=", "–"]
    colours = (plots.OURS, plots.SECOND, plots.MUTED, plots.MUTED)
    assert [each[1] for each in found[:4]] == [each.lower() for each in colours]
    assert len(found) == 5 + 3  # and the diagonal


def test_of_several_cohorts_a_tile_counts_wins_and_losses():
    found = tiles(leaderboard.pairwise_wins(pairs(["a", "b"], 1)))
    assert [each[0] for each in found] == ["5:0", "0:1", "", ""]


def test_facets_draw_each_measure_that_is_known_with_its_interval():
    figure = leaderboard.facets(beyond(3), PANELS)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    titles = [axis.get_title(loc="left").replace("\n", " ") for axis in shown]
    assert titles == ["retest identification", "seconds a patch", "tumour focus"]
    marks = next(line for line in shown[0].lines if line.get_marker() == "o")
    assert_allclose(marks.get_xdata(), [0, 0.5, 1])
    lines = [each[:, 0] for each in shown[0].collections[0].get_segments()]
    assert_allclose(lines, [[-0.1, 0.1], [0.4, 0.6], [0.9, 1.1]])
    assert [text.get_text() for text in shown[1].get_yticklabels()] == ["", "", ""]


def test_a_narrow_panel_has_at_most_two_labels():
    for axis in leaderboard.facets(narrow(), {"one": "one", "two": "two", "three": "three"}).axes:
        assert len(axis.get_xticks()) == (1 if axis.get_title(loc="left") == "three" else 2)
        low, high = axis.get_xlim()
        assert all(low <= tick <= high for tick in axis.get_xticks())


def test_what_was_measured_on_phantoms_is_hollow():
    table = beyond(3).assign(retest_mark=["", "phantom", ""])
    axis = leaderboard.facets(table, {"retest": "retest"}).axes[0]
    marks = {line.get_markerfacecolor(): list(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"}
    assert marks == {plots.CONTROL: [0, 1], "none": [0.5]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leaderboard.mean_ranks(MEANS), "mean_ranks: the table has no column low, high"),
        (lambda: leaderboard.critical_difference(BANDS.drop(columns="mean_rank"), 1, []), "no column mean_rank"),
        (lambda: leaderboard.pairwise_wins(single().drop(columns="ties")), "no column ties"),
    ],
)
def test_a_table_without_a_column_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
