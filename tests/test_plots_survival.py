"""Figures of survival draw what their tables say, and their texts are legible and apart."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from numpy.testing import assert_allclose
from test_plots_curation import drawn, overlap, words

from tumorbench_utils.plots import Shown, base, survival

TITLES = ["FMCIB", "Random encoder (untrained ResNet-18), second recipe of its authors", "Clinical covariates"]
RNG = np.random.default_rng(0)


def forest(titles=TITLES):
    rows = [
        (title, head, measure, value, value - 0.06, value + 0.05)
        for title in titles
        for head in survival.HEADS
        for measure in survival.PANELS
        for value in [RNG.uniform(0.5, 0.7)]
        if not (title.startswith("Clinical") and head == "knn_survival")
    ]
    return pd.DataFrame(rows, columns=["title", "head", "measure", "value", "low", "high"])


def followed(parts, n=120, longest=4000):
    """Curves, times and groups; the first five patients belong to none."""
    time, group = np.ceil(RNG.uniform(1, longest, n)), np.arange(n) % parts
    group[:5] = -1
    curves = []
    for name in range(parts):
        days = np.unique(np.append(0, time[group == name]))
        alive = np.linspace(1, 0.05, len(days)) ** (1 + name)
        table = {"group": name, "time": days, "survival": alive, "low": alive * 0.8, "high": np.minimum(alive * 1.2, 1)}
        curves.append(pd.DataFrame(table))
    return pd.concat(curves, ignore_index=True), time, group


def panels(longest=4000):
    halves, thirds = followed(2, longest=longest), followed(3, longest=longest)
    return {"Cut at the median risk": halves, "Cut at the tertiles": thirds}


FIGURES = {
    "forest": lambda: survival.survival_forest(forest()),
    "one": lambda: survival.survival_forest(forest(TITLES[:1])),
    "many": lambda: survival.survival_forest(forest([f"Model number {n}" for n in range(14)])),
    "undefined": lambda: survival.survival_forest(forest().assign(low=np.nan, high=np.nan)),
    "groups": lambda: survival.risk_curves(panels(), 730),
    "short": lambda: survival.risk_curves(panels(longest=300), 730),
    "nobody": lambda: survival.risk_curves({}, 730),
    "empty": lambda: survival.survival_forest(forest().head(0)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible_apart_and_within_the_figure(name, monkeypatch):
    figure = FIGURES[name]()
    texts = drawn(figure, monkeypatch)
    assert texts and min(text.get_fontsize() for text, _ in texts) >= 8
    for text, ((left, low), (right, high)) in texts:
        wide, tall = base.WIDTH * 72 + 0.5, figure.get_figheight() * 72 + 0.5
        assert left > -0.5 and low > -0.5 and right < wide and high < tall, text
    for (one, a), (two, b) in combinations(texts, 2):
        assert overlap(a, b) < 0.5, (one, two)


def test_every_value_is_a_mark_in_the_panel_of_its_measure_and_the_row_of_its_title():
    table = forest()
    figure = survival.survival_forest(table)
    for axis, measure in zip(figure.axes, survival.PANELS, strict=True):
        for head, (_, shape, colour) in survival.HEADS.items():
            some = table[(table["measure"] == measure) & (table["head"] == head)]
            marks = [line for line in axis.lines if line.get_marker() == shape and len(line.get_xdata())]
            assert_allclose(marks[0].get_xdata(), some["value"])
            assert same_color(marks[0].get_color(), colour)
            lines = next(each for each in axis.collections if same_color(each.get_color()[0], colour))
            ends = np.array([segment[:, 0] for segment in lines.get_segments()])
            assert_allclose(ends, some[["low", "high"]])
            assert_allclose([segment[0, 1] for segment in lines.get_segments()], marks[0].get_ydata())
        left, right = axis.get_xlim()
        assert left < table["low"].min() and right > table["high"].max() and left < 0.5 < right
    places = figure.axes[0].get_yticks()
    cox = figure.axes[0].lines[0].get_ydata()
    assert np.abs(cox - places).max() < 0.1
    assert len([text for text in words(figure) if text in ("Cox", "nearest neighbours")]) == 2


def test_curves_are_steps_in_years_with_bands_and_the_numbers_at_risk_below():
    given = panels()
    figure = survival.risk_curves(given, 730)
    for number, (curves, time, group) in enumerate(given.values()):
        axis, below = figure.axes[2 * number : 2 * number + 2]
        parts = curves["group"].max() + 1
        steps = [line for line in axis.lines if line.get_drawstyle() == "steps-post"]
        assert len(steps) == parts == len(axis.collections)
        for name, line in enumerate(steps):
            rows = curves[curves["group"] == name]
            assert_allclose(line.get_xdata(), rows["time"] / 365.25)
            assert_allclose(line.get_ydata(), rows["survival"])
            assert same_color(line.get_color(), survival.GROUPS[parts][name])
            assert f"{(group == name).sum()} patients" in line.get_label()
            edge = axis.collections[name].get_paths()[0].vertices
            assert edge[:, 1].min() == pytest.approx(rows["low"].min())
        ticks = axis.get_xticks()
        told = [int(text.get_text()) for text in below.texts[1:]]
        expected = [((group == name) & (time >= tick * 365.25)).sum() for name in range(parts) for tick in ticks]
        assert told == expected
        assert below.get_xlim() == axis.get_xlim() == (0, ticks[-1]) and len(ticks) <= 8
        dotted = [line for line in axis.lines if line.get_linestyle() == ":"]
        assert_allclose(dotted[0].get_xdata(), 730 / 365.25)
    low, high = (survival.GROUPS[2][name] for name in (0, 1))
    assert same_color(low, base.OURS) and not same_color(high, base.PUBLISHED)  # which means: as published


def test_empty_tables_say_so_and_missing_columns_are_named():
    assert words(FIGURES["empty"]()) == ["No survival to show: nobody was followed."]
    assert words(FIGURES["nobody"]()) == ["No risk groups: nobody was followed."]
    with pytest.raises(ValueError, match="survival forest: the table has no column low"):
        survival.survival_forest(forest().drop(columns="low"))
    curves, time, group = followed(2)
    with pytest.raises(ValueError, match="risk curves: the table has no column survival"):
        survival.risk_curves({"a": (curves.drop(columns="survival"), time, group)}, 730)
    assert "currentColor" in Shown(FIGURES["groups"](), "A caption", "What it shows")._repr_html_()
