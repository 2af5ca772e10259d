"""The figure of ensembles draws what its table says, and its texts are legible and apart."""

import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from test_plots_curation import assert_legible, drawn, words

from tumorbench_utils import plots as book
from tumorbench_utils.ensembles import ENSEMBLES, ORACLE, REFERENCE
from tumorbench_utils.plots.ensembles import KINDS, combined

MODELS = ["FMCIB", "CT-FM", "CT-CLIP", "PASTA", "VISTA3D", "VoCo", "SuPreM", "Merlin", "MedImageInsight",
          "Models Genesis", "Random encoder (untrained ResNet-18)", "Radiomics (handcrafted)"]  # fmt: skip


def table_of(models):
    rng = np.random.default_rng(0)
    kinds = {REFERENCE: "reference", ORACLE: "oracle"}
    rows = [(title, "single") for title in models]
    rows += [(title, kinds.get(name, "ensemble")) for name, title in ENSEMBLES.items()]
    table = pd.DataFrame(rows, columns=["title", "kind"])
    auc, difference = rng.uniform(0.5, 0.8, len(table)), rng.uniform(-0.1, 0.1, len(table))
    table = table.assign(auc=auc, low=auc - 0.07, high=auc + 0.05, difference=difference)
    table = table.assign(difference_low=difference - 0.04, difference_high=difference + 0.03)
    table["p_holm"] = np.resize([0.0004, 0.0312, 0.4, 1.0], len(table))
    table.loc[table["kind"].isin(["reference", "oracle"]), "p_holm"] = np.nan
    table.loc[table["kind"] == "reference", ["difference", "difference_low", "difference_high"]] = np.nan
    return table


@pytest.mark.parametrize("count", [2, 12])
def test_texts_are_legible_apart_and_within(count, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = combined(table_of(MODELS[:count]))
        page = book.Shown(figure, "A caption", "What it shows", "phantom, untrained")._repr_html_()
        texts = drawn(figure, monkeypatch)
    svg = next(iter(ElementTree.fromstring(page.replace("xlink:href", "href"))))
    assert svg.get("aria-label") == "PHANTOM, UNTRAINED: What it shows" and book.INK not in page
    assert_legible(figure, texts)


def marks(axis, kind):
    colour, shape, _, _ = KINDS[kind]
    (line,) = [each for each in axis.lines if same_color(each.get_color(), colour) and each.get_marker() == shape]
    return line


def ends(axis, kind):
    (lines,) = [each for each in axis.collections if same_color(each.get_color(), KINDS[kind][0])]
    return [(*path.vertices[:, 0], path.vertices[0, 1]) for path in lines.get_paths()]


def test_every_kind_is_drawn_in_its_rows_with_its_intervals():
    table = table_of(MODELS[:3])
    figure = combined(table)
    names = (("auc", "low", "high"), ("difference", "difference_low", "difference_high"))
    for axis, columns in zip(figure.axes, names, strict=True):
        titles = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_yticklabels()]
        assert titles == list(table["title"])
        places = figure.axes[0].get_yticks()
        assert (np.diff(places) > 0).all() and axis.get_ylim()[0] > axis.get_ylim()[1]  # from the top down
        for kind, some in table.groupby("kind"):
            line, known = marks(axis, kind), some[columns[0]].notna()
            assert np.array_equal(line.get_xdata(), some[columns[0]], equal_nan=True)
            assert list(line.get_ydata()) == list(places[some.index])
            expected = [(row[columns[1]], row[columns[2]], places[number]) for number, row in some[known].iterrows()]
            assert ends(axis, kind) == expected
    assert len(ends(figure.axes[1], "reference")) == 0
    dotted = [[line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"] for axis in figure.axes]
    assert dotted == [[0.5], [0.0]]


def test_only_what_chose_by_the_test_samples_is_hollow():
    axis = combined(table_of(MODELS[:2])).axes[0]
    hollow = {kind for kind in KINDS if marks(axis, kind).get_markerfacecolor() == "none"}
    assert hollow == {"oracle"} and not same_color(KINDS["oracle"][0], book.PUBLISHED)


def test_p_stands_beside_its_row_and_is_not_rounded_to_nought():
    figure = combined(table_of(MODELS[:4]))
    texts = [text for text in figure.axes[1].texts if text.get_text() != "p"]
    assert [text.get_text() for text in texts][:4] == ["< 0.001", "0.031", "0.40", "1.00"]
    assert [text.xy[1] for text in texts[:4]] == list(figure.axes[0].get_yticks()[:4])
    assert len(texts) == 4 + len(ENSEMBLES) - 2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [words for *_, words in KINDS.values()]


def test_nothing_and_bad_tables():
    (sentence,) = words(combined(pd.DataFrame()))
    assert sentence == "No ensembles to compare."
    with pytest.raises(ValueError, match="combined: the table has no column p_holm"):
        combined(table_of(MODELS[:2]).drop(columns="p_holm"))
    with pytest.raises(ValueError, match="unknown kind best"):
        combined(table_of(MODELS[:2]).assign(kind="best"))
