"""Figures of the judges beside kNN: what is drawn is what the tables say."""

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils.plots import CHANCE, WIDTH
from tumorbench_utils.plots.base import percent
from tumorbench_utils.plots.probes import ends, forest, p_words, promises, reliability, shots


def rows(*given, columns=("title", "series", "value", "low", "high")):
    return pd.DataFrame(given, columns=list(columns))


def marks(axis, label):
    """x and y of the points of a series."""
    line = next(line for line in axis.get_lines() if line.get_label() == label)
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_numbers_are_written_alike():
    assert [percent(0.17), percent(1), percent(0.0042, 1)] == ["17 %", "100 %", "0.4 %"]
    assert [p_words(p) for p in (0.0471, 0.001, 0.00099, np.nan)] == ["0.047", "0.001", "<0.001", "–"]


def test_a_caption_has_a_few_values_whole_and_of_more_the_highest_and_the_lowest():
    words = ["a", "b", "c", "d"]
    assert ends([1, 3, 2], words[:3]) == "a; b; c"
    assert ends([1, np.nan, 3, 2], words) == "Highest is c; lowest is a"
    assert ends([np.nan] * 4, words) == "a; b; c; d"
    assert ends([], []) == ""


def test_a_forest_has_every_value_in_its_row_with_its_interval():
    table = rows(("A", "kNN", 0.6, 0.5, 0.7), ("A", "linear", 0.65, 0.6, 0.72), ("B", "kNN", 0.4, 0.3, 0.5))
    figure = forest(table, "AUC")
    (axis,) = figure.axes
    assert figure.get_figwidth() == WIDTH
    x, y = marks(axis, "kNN")
    assert list(x) == [0.6, 0.4] and y[1] > y[0]
    lines = [np.asarray(path.vertices) for each in axis.collections for path in each.get_paths()]
    assert sorted((line[0, 0], line[-1, 0]) for line in lines) == [(0.3, 0.5), (0.5, 0.7), (0.6, 0.72)]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["A", "B"]
    assert any(list(line.get_xdata()) == [CHANCE, CHANCE] for line in axis.get_lines())


def test_a_forest_has_a_line_and_a_title_of_its_own_and_rows_that_lie_apart():
    table = rows(("A", "kNN", -0.1, -0.2, 0.0), ("B", "kNN", 0.05, 0.0, 0.1), ("A", "linear", 0.0, -0.1, 0.1))
    axis = forest(table, "difference", 0.0, "Learnt in A,\ntested in B").axes[0]
    (_, knn), (_, linear) = marks(axis, "kNN"), marks(axis, "linear")
    assert knn[0] < linear[0] < knn[1]  # A's two above B's
    assert any(list(line.get_xdata()) == [0, 0] and line.get_linestyle() == ":" for line in axis.lines)
    assert axis.get_title(loc="left") == "Learnt in A,\ntested in B" and axis.get_xlabel() == "difference"


def test_a_forest_draws_the_chance_of_each_row_if_it_has_one():
    table = rows(("A", "kNN", 0.6, 0.5, 0.7), ("B", "kNN", 0.4, 0.3, 0.5)).assign(chance=[0.2, 0.3])
    axis = forest(table, "precision").axes[0]
    lines = [np.asarray(path.vertices) for each in axis.collections for path in each.get_paths()]
    assert sorted(line[0, 0] for line in lines if line[0, 0] == line[-1, 0]) == [0.2, 0.3]
    assert not any(list(line.get_xdata()) == [CHANCE, CHANCE] for line in axis.get_lines())


def test_a_forest_of_too_many_series_or_columns_that_lack_is_refused():
    with pytest.raises(ValueError, match="5 series cannot be told apart"):
        forest(rows(*[("A", str(i), 0.5, 0.4, 0.6) for i in range(5)]), "AUC")
    with pytest.raises(ValueError, match="no column low"):
        forest(rows(("A", "kNN", 0.5, 0.4, 0.6)).drop(columns="low"), "AUC")


def test_shots_have_a_panel_a_title_and_the_full_auc():
    columns = ("title", "judge", "m", "auc", "low", "high")
    table = rows(
        *[(t, j, m, 0.5 + m / 50, 0.4, 0.8) for t in "AB" for j in ("class mean", "kNN") for m in (10, 1)],
        columns=columns,
    )
    figure = shots(table, {"A": 0.7, "B": np.nan})
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["A", "B"]
    assert list(marks(figure.axes[0], "class mean")[1]) == pytest.approx([0.52, 0.7])
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["1", "10"]
    dashed = [
        [line.get_ydata()[0] for line in axis.get_lines() if line.get_linestyle() == "--"] for axis in figure.axes
    ]
    assert dashed == [[0.7], []]


def test_reliability_draws_points_on_the_right_axes():
    points = pd.DataFrame({"predicted": [0.1, 0.8], "observed": [0.3, 0.6], "low": [0.2, 0.5], "high": [0.4, 0.7]})
    figure = reliability({"A": {"kNN": points}, "B": {"kNN": points, "linear": points}})
    assert len(figure.axes) == 2
    x, y = marks(figure.axes[1], "linear")
    assert list(x) == [0.1, 0.8] and list(y) == [0.3, 0.6]
    assert [list(each) for each in marks(figure.axes[0], "as predicted")] == [[0, 1], [0, 1]]


def test_promises_show_shares_and_the_distribution_of_p():
    table = rows(
        ("one", 0.2, 0.1, 0.3, 0.05),
        ("two", 0.05, 0.02, 0.1, 0.05),
        columns=("test", "share", "low", "high", "promised"),
    )
    figure = promises(table, [0.5, np.nan, 0.1])
    assert len(figure.axes) == 2
    step = figure.axes[1].get_lines()[0]
    assert list(step.get_xdata()) == [0, 0.1, 0.5] and list(step.get_ydata()) == [0, 0.5, 1]
    assert list(figure.axes[0].get_lines()[0].get_xdata()) == [0.2, 0.05]
    assert len(promises(table, [np.nan]).axes) == 1


def test_nothing_to_show_is_a_sentence():
    for figure, words in [
        (forest(pd.DataFrame(), "AUC"), "there is no AUC"),
        (shots(pd.DataFrame(), {}), "Too few patients"),
        (reliability({}), "No predictions"),
        (promises(pd.DataFrame(), []), "No outcomes of chance"),
    ]:
        assert words in figure.axes[0].texts[0].get_text()
