"""Figures of representation alignment draw what their tables say, and their texts are legible and apart."""

import warnings
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster import hierarchy
from test_plots_curation import assert_legible, drawn, words

from tumorbench_utils import plots as book
from tumorbench_utils.plots import alignment

RNG = np.random.default_rng(0)
MODELS = ["FMCIB", "CT-FM", "CT-CLIP", "PASTA", "VISTA3D", "VoCo", "SuPreM", "Merlin", "MedImageInsight",
          "Models Genesis", "Astra (third-party copy)", "Random encoder (untrained ResNet-18)",
          "Radiomics (handcrafted)", "Tumour volume"]  # fmt: skip
LONG = "Random encoder (untrained ResNet-18), second recipe of its authors, with a name that does not end"


def square(titles, most=10.0, seed=0):
    values = np.random.default_rng(seed).uniform(0, most, (len(titles), len(titles)))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 0)
    return pd.DataFrame(values, titles, titles)


def curved(titles, last=50, n=400):
    k = np.arange(1, last + 1)
    return pd.concat([
        pd.DataFrame({"first": one, "second": two, "k": k, "share": (at + 1) / 100 + k / n, "chance": k / (n - 1)})
        for at, (one, two) in enumerate(combinations(titles, 2))
    ])  # fmt: skip


def paired(titles, given=True, published=True):
    names = [f"{one} – {two}" for one, two in combinations(titles, 2)]
    shared = RNG.uniform(1, 4, len(names))
    table = pd.DataFrame({"title": names, "k": 10, "shared": shared, "low": shared - 0.2, "high": shared + 0.1,
                          "chance": 0.24, "chance_low": 0.19, "chance_high": 0.29})  # fmt: skip
    if given:
        levels = {"": 0.4, "_low": 0.3, "_high": 0.55}
        table = table.assign(**{f"shared_given_volume{end}": value for end, value in levels.items()})
    return table.assign(published=np.where(np.arange(len(names)) % 2, np.nan, shared + 0.3)) if published else table


def confounded(titles):
    value = RNG.uniform(0.5, 3, len(titles))
    return pd.DataFrame({"title": titles, "volume": value, "volume_low": value - 0.2, "volume_high": value + 0.3,
                         "volume_chance": 0.24, "volume_chance_low": 0.2, "volume_chance_high": 0.3})  # fmt: skip


TEN, WORDS = MODELS[:10], "neighbours of 10 that are among the 10 nearest in volume"
FIGURES = {
    "maps": lambda: alignment.overlap_maps({"As published": square(TEN[:5]), "This run": square(TEN[:5], seed=1)}, 10,
                                           published=["As published"], words="of 10"),
    "maps, fourteen": lambda: alignment.overlap_maps({"This run": square(MODELS)}, 10, words="of 10"),
    "maps, negative": lambda: alignment.overlap_maps({"This run": square(TEN[:5], 1) - 0.3}, 1, words="CKA", digits=2),
    "maps, unknown": lambda: alignment.overlap_maps({"This run": square(TEN[:2]) * np.nan}, 10, words="of 10"),
    "maps, one": lambda: alignment.overlap_maps({"This run": square([LONG, "b"])}, 10, words="of 10"),
    "maps, none": lambda: alignment.overlap_maps({}, 10),
    "curves": lambda: alignment.overlap_curves(curved(TEN), 10),
    "curves, one": lambda: alignment.overlap_curves(curved([LONG, "b"], 5), 5),
    "curves, none": lambda: alignment.overlap_curves(curved(TEN)[:0], 10),
    "pairs": lambda: alignment.pairs_forest(paired(MODELS[8:14])),
    "pairs, one": lambda: alignment.pairs_forest(paired([LONG, "b"], given=False, published=False)),
    "pairs, none": lambda: alignment.pairs_forest(pd.DataFrame()),
    "confounds": lambda: alignment.confound_forest(confounded(MODELS), "volume", "Neighbours of like size?", WORDS),
    "confounds, one": lambda: alignment.confound_forest(confounded([LONG]), "volume", "Like size?", WORDS),
    "confounds, none": lambda: alignment.confound_forest(confounded(TEN).assign(volume=np.nan), "volume", "Size?", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_without_warnings_with_legible_texts_apart_and_within(name, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = FIGURES[name]()
        page = book.Shown(figure, "A caption", "What it shows", "phantom, untrained")._repr_html_()
        texts = drawn(figure, monkeypatch)
    svg = next(iter(ElementTree.fromstring(page.replace("xlink:href", "href"))))
    assert svg.get("aria-label") == "PHANTOM, UNTRAINED: What it shows" and book.INK not in page
    assert len(page) < 400_000
    assert_legible(figure, texts)


@pytest.mark.parametrize("name", [name for name in FIGURES if name.endswith(", one")])
def test_figures_have_titles_units_and_no_background(name):
    axes = FIGURES[name]().axes
    assert any(axis.get_title(loc="left") for axis in axes) and axes[-1].get_xlabel()
    assert all(axis.patch.get_facecolor()[3] == 0 for axis in axes)


@pytest.mark.parametrize("name", [name for name in FIGURES if name.endswith("none")])
def test_of_nothing_a_sentence_is_shown(name):
    (sentence,) = words(FIGURES[name]())
    assert sentence.endswith(".") and "No" in sentence


def cells(axis):
    """Numbers of a map by (row, column), and the opacity of the cells."""
    numbers = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axis.texts}
    opacity = {(round(part.get_y() + 0.5), round(part.get_x() + 0.5)): part for part in axis.patches}
    return numbers, opacity


def test_a_map_has_every_number_in_its_place_and_models_in_the_order_of_the_tree():
    table = square(TEN)
    figure = alignment.overlap_maps({"This run": table}, 10)
    order, tree = alignment.clustered(table, 10)
    tree_axis, axis = figure.axes
    assert sorted(order) == sorted(TEN) and order != TEN
    labels = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    assert labels == [f"{at} {title}" for at, title in enumerate(order, 1)]
    assert [label.get_text() for label in axis.get_xticklabels()] == [str(at) for at in range(1, 11)]
    numbers, parts = cells(axis)
    sorted_ = table.loc[order, order].to_numpy()
    assert numbers == {(r, c): f"{sorted_[r, c]:.1f}" for r in range(10) for c in range(10) if r != c}
    high, low = np.unravel_index(sorted_.argmax(), (10, 10)), np.argwhere(sorted_ == sorted_[sorted_ > 0].min())[0]
    assert parts[tuple(high)].get_alpha() == pytest.approx(alignment.DEEPEST)
    assert parts[tuple(low)].get_alpha() < alignment.DEEPEST / 2
    assert same_color(parts[(0, 0)].get_facecolor()[:3], to_rgb(book.MUTED))
    assert len(tree_axis.lines) == 9
    expected = hierarchy.linkage([10 - table.iloc[r, c] for r in range(10) for c in range(r + 1, 10)], "average")
    assert_allclose(tree[:, 2], expected[:, 2] / 10)


def test_like_models_stand_side_by_side():
    table = pd.DataFrame(0.5, list("abcd"), list("abcd"))
    for one, two in (("a", "c"), ("b", "d")):
        table.loc[one, two] = table.loc[two, one] = 8
    order, _ = alignment.clustered(table, 10)
    assert {"".join(sorted(order[:2])), "".join(sorted(order[2:]))} == {"ac", "bd"}
    assert alignment.clustered(table.iloc[:2, :2], 10) == (["a", "b"], None)


def test_published_and_own_maps_have_one_order_and_scale_and_the_published_its_colour():
    ours, theirs = square(TEN[:4], 4), square(TEN[:4], 8, seed=3)
    figure = alignment.overlap_maps({"As published": theirs, "This run": ours}, 10, published=["As published"])
    _, above, below = figure.axes
    assert above.get_title(loc="left") == "As published" and below.get_title(loc="left") == "This run"
    assert [each.get_text() for each in above.get_yticklabels()] == [
        each.get_text() for each in below.get_yticklabels()
    ]
    order = alignment.clustered(ours, 10)[0]
    deepest = max(ours.to_numpy().max(), theirs.to_numpy().max())
    for axis, table, colour in ((above, theirs, book.PUBLISHED), (below, ours, book.OURS)):
        part = cells(axis)[1][(0, 1)]
        assert same_color(part.get_facecolor()[:3], to_rgb(colour))
        assert part.get_alpha() == pytest.approx(alignment.DEEPEST * table.loc[order[0], order[1]] / deepest)
        assert cells(axis)[0][(0, 1)] == f"{table.loc[order[0], order[1]]:.2f}"


def test_curves_name_the_pairs_of_most_and_least_overlap_and_draw_chance():
    table = curved(MODELS[:4])
    figure = alignment.overlap_curves(table, 10)
    (axis,) = figure.axes
    legend = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert legend == ["CT-CLIP – PASTA", "FMCIB – CT-FM", "mean of all pairs", "chance", "k = 10"]
    lines = {line.get_label(): line for line in axis.lines}
    last = table.query("first == 'CT-CLIP' and second == 'PASTA'")
    assert_array_equal(lines["CT-CLIP – PASTA"].get_ydata(), last["share"])
    assert_allclose(lines["mean of all pairs"].get_ydata(), table.groupby("k")["share"].mean())
    assert_array_equal(lines["chance"].get_ydata(), last["chance"])
    grey = [line for line in axis.lines if same_color(line.get_color(), book.MUTED)]
    assert len(grey) == 4


def test_the_forest_draws_values_intervals_levels_and_published_ones_hollow():
    table = paired(MODELS[:3])
    (axis,) = alignment.pairs_forest(table).axes
    ends = [np.array([path.vertices[:, 0] for path in lines.get_paths()]) for lines in axis.collections]
    for found, names in zip(ends, (("chance_low", "chance_high"), ("shared_given_volume_low",
                            "shared_given_volume_high"), ("low", "high")), strict=True):  # fmt: skip
        assert_allclose(found, table[list(names)])
    dots = {line.get_label(): line for line in axis.lines}
    assert_array_equal(dots["shared, 95 % interval"].get_xdata(), table["shared"])
    assert_array_equal(dots["as published"].get_xdata(), table["published"])
    assert dots["as published"].get_markerfacecolor() == "none"
    assert same_color(dots["as published"].get_color(), book.PUBLISHED)
    assert "of 10" in axis.get_xlabel()


def test_what_a_figure_misses_is_named():
    with pytest.raises(ValueError, match="pairs_forest: the table has no column low"):
        alignment.pairs_forest(paired(TEN[:3]).drop(columns="low"))
    with pytest.raises(ValueError, match="overlap_curves: the table has no column share"):
        alignment.overlap_curves(curved(TEN[:3]).drop(columns="share"), 10)
    with pytest.raises(ValueError, match="volume_low"):
        alignment.confound_forest(confounded(TEN).drop(columns="volume_low"), "volume", "a", "b")
